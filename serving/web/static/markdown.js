// A safe subset of Markdown as DOM nodes: headings, paragraphs, lists, tables, code, bold, italics, links to http(s).
// Every character of the text goes through text nodes; HTML in it is shown as it is written.

const element = (name, children = [], attributes = {}) => {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
};

const INLINE = /(`+)([^`]|[^`].*?[^`])\1(?!`)|\*\*(\S(?:.*?\S)?)\*\*|\*([^\s*](?:[^*]*[^\s*])?)\*|\[(\d{1,3})\](?!\()|!?\[([^\]\n]*)\]\(([^()\s]+)\)|<(https?:\/\/[^\s<>]+)>/;

/** Inline text as nodes. `cite(number)` makes the node of a citation mark, or gives null to leave it as text. */
export function inline(text, cite = () => null) {
  const nodes = [];
  while (text) {
    const match = INLINE.exec(text);
    if (!match) break;
    if (match.index) nodes.push(text.slice(0, match.index));
    const [whole, ticks, code, bold, italic, number, label, target, bare] = match;
    if (ticks) nodes.push(element("code", [code.trim()]));
    else if (bold) nodes.push(element("strong", inline(bold, cite)));
    else if (italic) nodes.push(element("em", inline(italic, cite)));
    else if (number) nodes.push(cite(Number(number)) ?? whole);
    else if (whole.startsWith("!")) nodes.push(label || target);
    else nodes.push(link(label || target || bare, target || bare, cite));
    text = text.slice(match.index + whole.length);
  }
  if (text) nodes.push(text);
  return nodes;
}

function link(label, target, cite) {
  if (!/^(https?:\/\/|mailto:)/i.test(target)) return element("span", inline(label, cite));
  return element("a", inline(label, cite), { href: target, rel: "noopener noreferrer nofollow", target: "_blank" });
}

const FENCE = /^\s{0,3}(```+|~~~+)/;
const ITEM = /^(\s*)([-*+•]|\d{1,3}[.)、])\s+(.*)$/;
const ROW = /^\s*\|.*\|\s*$/;
const RULE = /^[\s|:-]*-[\s|:-]*$/;

/** A text as block nodes. */
export function render(text, cite) {
  const lines = text.replace(/\r\n?/g, "\n").split("\n");
  const blocks = [];
  let at = 0;
  while (at < lines.length) {
    const line = lines[at];
    const heading = /^\s{0,3}(#{1,6})\s+(.*?)\s*#*$/.exec(line);
    if (!line.trim()) {
      at += 1;
    } else if (FENCE.test(line)) {
      const mark = FENCE.exec(line)[1];
      const code = [];
      for (at += 1; at < lines.length && !lines[at].trim().startsWith(mark); at += 1) code.push(lines[at]);
      at += 1;
      blocks.push(element("pre", [element("code", [code.join("\n")])], { tabindex: "0" }));
    } else if (heading) {
      blocks.push(element(`h${Math.min(heading[1].length + 2, 6)}`, inline(heading[2], cite)));
      at += 1;
    } else if (ROW.test(line)) {
      const rows = [];
      for (; at < lines.length && ROW.test(lines[at]); at += 1) rows.push(lines[at]);
      blocks.push(table(rows, cite));
    } else if (ITEM.test(line)) {
      at = list(lines, at, blocks, cite);
    } else if (/^\s{0,3}([-*_])(\s*\1){2,}\s*$/.test(line)) {
      blocks.push(element("hr"));
      at += 1;
    } else {
      const quote = /^\s{0,3}>/.test(line);
      const paragraph = [];
      for (; at < lines.length && lines[at].trim() && !(paragraph.length && starts(lines[at])); at += 1)
        paragraph.push(quote ? lines[at].replace(/^\s{0,3}>\s?/, "") : lines[at].trim());
      blocks.push(quote ? element("blockquote", render(paragraph.join("\n"), cite)) : element("p", broken(paragraph, cite)));
    }
  }
  return blocks;
}

const starts = (line) => FENCE.test(line) || ROW.test(line) || ITEM.test(line) || /^\s{0,3}(#{1,6}\s|>)/.test(line);

// Lines of one paragraph: joined without a blank between Chinese characters.
function broken(lines, cite) {
  const text = lines.reduce((all, next) => all + (/[^\x00-\xff]$/.test(all) && /^[^\x00-\xff]/.test(next) ? "" : " ") + next);
  return inline(text, cite);
}

function list(lines, at, blocks, cite) {
  const [, indent, mark] = ITEM.exec(lines[at]);
  const ordered = /\d/.test(mark);
  const items = [];
  const first = ordered ? parseInt(mark, 10) : 1;
  while (at < lines.length) {
    const item = ITEM.exec(lines[at]);
    if (item && item[1].length <= indent.length && /\d/.test(item[2]) === ordered) {
      items.push([item[3]]);
    } else if (lines[at].trim() && items.length && /^\s{2,}/.test(lines[at])) {
      items.at(-1).push(lines[at].slice(Math.min(indent.length + 2, /^\s*/.exec(lines[at])[0].length)));
    } else if (!lines[at].trim() && at + 1 < lines.length && continues(lines[at + 1], indent, ordered)) {
      items.at(-1).push("");
    } else break;
    at += 1;
  }
  const nodes = items.map((text) => {
    const children = render(text.join("\n").trim(), cite);
    const only = children.length && children[0].tagName === "P" ? [...children[0].childNodes, ...children.slice(1)] : children;
    return element("li", only);
  });
  blocks.push(element(ordered ? "ol" : "ul", nodes, ordered && first !== 1 ? { start: String(first) } : {}));
  return at;
}

function continues(line, indent, ordered) {
  const item = ITEM.exec(line);
  if (item && item[1].length <= indent.length) return /\d/.test(item[2]) === ordered;
  return /^\s{2,}\S/.test(line);
}

function table(rows, cite) {
  const cells = (row) =>
    row.trim().replace(/^\||\|$/g, "").split(/(?<!\\)\|/).map((cell) => cell.trim().replaceAll("\\|", "|"));
  const headed = rows.length > 1 && RULE.test(rows[1]);
  const body = headed ? rows.slice(2) : rows;
  const parts = [];
  if (headed)
    parts.push(element("thead", [element("tr", cells(rows[0]).map((cell) => element("th", inline(cell, cite), { scope: "col" })))]));
  parts.push(element("tbody", body.filter((row) => !RULE.test(row)).map((row) => element("tr", cells(row).map((cell) => element("td", inline(cell, cite)))))));
  return element("div", [element("table", parts)], { class: "wide", tabindex: "0" });
}
