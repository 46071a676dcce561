import { render } from "./markdown.js";

const TEXTS = {
  zh: {
    skip: "跳到输入框", welcome: "您好，想了解什么？", lead: "我根据资料库回答，每个回答都注明出处，点开就能看到原文。",
    newChat: "新对话", question: "您的问题", placeholder: "输入您的问题…", send: "发送", stop: "停止", close: "关闭",
    keys: "Enter 发送，Shift + Enter 换行。", hint: "回答只来自资料库，重要事项请核对原文。",
    sources: "出处", source: "出处 {n}：{title}", thinking: "正在查找资料…", answered: "回答完毕。", you: "您", service: "客服",
    copy: "复制", copied: "已复制", retry: "重试", stopped: "已停止。",
    offline: "网络断开了，连上以后再试。", unreachable: "暂时连不上服务，请检查网络后重试。",
    failed: "回答时出了问题，请再试一次。", busy: "服务正忙，请稍等片刻再试。", preparing: "资料库正在准备中，请稍后再试。",
    gone: "上次的对话已不存在，已为您开始新对话。", tooLong: "问题太长，最多 {n} 个字。",
    broken: "连接中断，回答可能不完整。", empty: "请先输入问题。", release: "资料版本 {n}", loading: "正在打开原文…",
    passageGone: "这段原文已经不在资料库里了。", passageFailed: "原文暂时打不开，请稍后再试。",
    passageOnly: "暂时只能看到被引用的这一段。", place: "位置", document: "文件", characters: "第 {a}–{b} 个字符",
    history: "对话记录暂时存不上，不影响回答。",
    samples: ["信用卡退款多久到账？", "错误码 QH-40302 是什么意思？", "怎么申请退款？", "数据可以导出成哪些格式？"],
  },
  en: {
    skip: "Skip to the question", welcome: "Hello, how can I help?",
    lead: "I answer from the documentation and say where it is written. Open a source to read it in place.",
    newChat: "New chat", question: "Your question", placeholder: "Ask a question…", send: "Send", stop: "Stop", close: "Close",
    keys: "Enter sends, Shift + Enter makes a new line.", hint: "Answers come from the documentation only; check what matters.",
    sources: "Sources", source: "Source {n}: {title}", thinking: "Searching the documentation…", answered: "The answer is complete.",
    you: "You", service: "Assistant", copy: "Copy", copied: "Copied", retry: "Try again", stopped: "Stopped.",
    offline: "You are offline. Try again when the connection is back.", unreachable: "The service cannot be reached. Check your connection and try again.",
    failed: "Something went wrong while answering. Please try again.", busy: "The service is busy. Please try again in a moment.",
    preparing: "The documentation is being prepared. Please try again in a moment.",
    gone: "That conversation no longer exists, so a new one has begun.", tooLong: "The question is too long: at most {n} characters.",
    broken: "The connection broke off; the answer may be incomplete.", empty: "Please write a question first.",
    release: "Release {n}", loading: "Opening the source…", passageGone: "This passage is no longer in the documentation.",
    passageFailed: "The source cannot be opened now. Please try again later.", passageOnly: "Only the cited passage can be shown at the moment.",
    place: "Place", document: "Document", characters: "characters {a}–{b}",
    history: "The conversation cannot be saved at the moment; answers work.",
    samples: ["How long does a card refund take?", "What does error QH-40302 mean?", "Which cards work?", "Can I pause my subscription?"],
  },
};

const $ = (id) => document.getElementById(id);
const root = document.documentElement;
const limit = Number(root.dataset.max) || 2000;
const state = { language: preferred(), conversation: null, running: null, opened: null, messages: [] };

function preferred() {
  const kept = remembered("language");
  if (kept in TEXTS) return kept;
  return (navigator.languages?.[0] ?? navigator.language ?? "zh").toLowerCase().startsWith("zh") ? "zh" : "en";
}
function remembered(key) { try { return localStorage.getItem(`zhiyun.${key}`); } catch { return null; } }
function remember(key, value) { try { localStorage.setItem(`zhiyun.${key}`, value); } catch { /* private mode */ } }

function t(key, values = {}) {
  return TEXTS[state.language][key].replace(/\{(\w+)\}/g, (_, name) => values[name] ?? "");
}
function make(name, className, ...children) {
  const node = document.createElement(name);
  if (className) node.className = className;
  node.append(...children);
  return node;
}
function button(className, label, act) {
  const node = make("button", className, label);
  node.type = "button";
  node.addEventListener("click", act);
  return node;
}

function starters() {
  const set = (root.dataset.starters ?? "").split("|").map((one) => one.trim()).filter(Boolean);
  return set.length ? set : root.dataset.sample === "true" ? TEXTS[state.language].samples : [];
}

// ---- language

function speak() {
  root.lang = state.language === "zh" ? "zh-CN" : "en";
  for (const node of document.querySelectorAll("[data-text]")) node.textContent = t(node.dataset.text);
  $("question").placeholder = t("placeholder");
  const other = state.language === "zh" ? "en" : "zh";
  $("language").textContent = other === "en" ? "English" : "中文";
  $("language").lang = other === "en" ? "en" : "zh-CN";
  for (const [id, key] of [["send", "send"], ["stop", "stop"], ["close", "close"], ["new", "newChat"]]) $(id).title = t(key);
  $("samples").replaceChildren(
    ...starters().map((text) => make("li", "", button("sample", text, () => ask(text)))),
  );
  for (const message of state.messages) message.relabel();
}
$("language").addEventListener("click", () => {
  state.language = state.language === "zh" ? "en" : "zh";
  remember("language", state.language);
  speak();
});

// ---- messages

function question(text) {
  const who = make("span", "unseen");
  const item = make("li", "mine", who, make("p", "bubble", text));
  $("messages").append(item);
  const message = { relabel: () => { who.textContent = `${t("you")}: `; } };
  message.relabel();
  state.messages.push(message);
}

function answer(asked) {
  const who = make("span", "unseen");
  const body = make("div", "body");
  const waiting = make("p", "waiting");
  const foot = make("div", "foot");
  const item = make("li", "theirs", who, waiting, body, foot);
  item.setAttribute("aria-busy", "true");
  $("messages").append(item);
  const message = { text: "", citations: [], notice: null, problem: null, done: false };
  let drawn = 0;

  const mark = (number) => {
    const citation = message.citations.find((one) => one.index === number);
    if (!citation) return message.done ? null : make("sup", "pending", String(number));
    const node = button("mark", String(number), () => open(citation, node));
    node.setAttribute("aria-label", t("source", { n: number, title: citation.title }));
    node.title = place(citation);
    return make("sup", "", node);
  };
  const draw = () => {
    drawn = 0;
    waiting.hidden = Boolean(message.text) || message.done;
    body.replaceChildren(...render(message.text, mark));
  };
  message.redraw = () => { if (!drawn) drawn = requestAnimationFrame(() => following(draw)); };
  message.finish = () => {
    message.done = true;
    cancelAnimationFrame(drawn);
    item.removeAttribute("aria-busy");
    following(() => { draw(); footer(); });
  };
  const footer = () => {
    foot.replaceChildren();
    if (message.citations.length) {
      const chips = message.citations.map((citation) => {
        const chip = button("chip", "", () => open(citation, chip));
        chip.append(make("span", "number", String(citation.index)), make("span", "", place(citation)));
        chip.setAttribute("aria-label", t("source", { n: citation.index, title: place(citation) }));
        return make("li", "", chip);
      });
      foot.append(make("p", "label", t("sources")), make("ul", "chips", ...chips));
    }
    const row = make("p", "notice");
    if (message.problem) row.append(make("span", "problem", message.problem));
    else if (message.notice) row.append(message.notice);
    if (message.problem && asked) row.append(button("link", t("retry"), () => { item.remove(); send(asked); }));
    else if (message.text) {
      const copy = button("link", t("copy"), async () => {
        await navigator.clipboard?.writeText(message.text);
        copy.textContent = t("copied");
      });
      if (navigator.clipboard) row.append(copy);
    }
    if (row.childNodes.length) foot.append(row);
  };
  message.relabel = () => {
    who.textContent = `${t("service")}: `;
    waiting.replaceChildren(make("span", "dots", make("i"), make("i"), make("i")), t("thinking"));
    if (message.done) { draw(); footer(); }
  };
  message.relabel();
  state.messages.push(message);
  return message;
}

const place = (citation) => [...new Set([citation.title, ...citation.heading])].join(" › ");

// Keep to the end of the conversation while it grows, unless the customer has scrolled away from it.
function following(change) {
  const view = $("conversation");
  const atEnd = view.scrollHeight - view.scrollTop - view.clientHeight < 80;
  change();
  if (atEnd) view.scrollTop = view.scrollHeight;
}

// ---- asking

$("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  ask($("question").value);
});
$("question").addEventListener("keydown", (event) => {
  // Enter that confirms a word of an input method is not meant for us.
  if (event.key !== "Enter" || event.shiftKey || event.isComposing || event.keyCode === 229) return;
  event.preventDefault();
  ask($("question").value);
});
$("question").addEventListener("input", grow);
function grow() {
  const field = $("question");
  field.style.height = "auto";
  field.style.height = `${Math.min(field.scrollHeight, 200)}px`;
  const length = [...field.value.trim()].length;
  $("count").hidden = length < limit * 0.8;
  $("count").textContent = `${length} / ${limit}`;
  $("count").classList.toggle("over", length > limit);
}
$("stop").addEventListener("click", () => state.running?.abort("stopped"));
$("new").addEventListener("click", () => {
  state.running?.abort("stopped");
  state.conversation = null;
  state.messages = [];
  $("messages").replaceChildren();
  $("welcome").hidden = false;
  banner("");
  shut();
  $("question").focus();
});

function banner(text) {
  $("banner").hidden = !text;
  $("banner").textContent = text;
}
function say(text) { $("status").textContent = text; }

function ask(raw) {
  const text = raw.trim();
  if (state.running) return;
  if (!text) { say(t("empty")); $("question").focus(); return; }
  if ([...text].length > limit) { banner(t("tooLong", { n: limit })); return; }
  banner("");
  $("question").value = "";
  grow();
  $("welcome").hidden = true;
  question(text);
  send(text);
}

async function send(text) {
  const message = answer(text);
  const abort = new AbortController();
  state.running = abort;
  $("send").hidden = true;
  $("stop").hidden = false;
  $("conversation").scrollTop = $("conversation").scrollHeight;
  say(t("thinking"));
  try {
    await stream(text, message, abort.signal);
  } catch (error) {
    message.problem = abort.signal.aborted ? t("stopped") : error instanceof Told ? error.message : navigator.onLine ? t(message.text ? "broken" : "unreachable") : t("offline");
  }
  message.finish();
  say(message.problem ?? t("answered"));
  if (state.running === abort) {
    state.running = null;
    $("send").hidden = false;
    $("stop").hidden = true;
    $("question").focus({ preventScroll: true });
  }
}

class Told extends Error {}

async function stream(text, message, signal) {
  const body = { message: text, stream: true };
  if (state.conversation) body.conversation_id = state.conversation;
  const response = await fetch("/api/chat", {
    method: "POST",
    headers: { "content-type": "application/json", accept: "text/event-stream" },
    body: JSON.stringify(body),
    signal,
  });
  if (response.status === 404 && state.conversation) {
    state.conversation = null;
    banner(t("gone"));
    return stream(text, message, signal);
  }
  if (!response.ok) throw new Told(await refused(response));
  let ended = false;
  for await (const { event, data } of events(response.body)) {
    if (event === "message_start") state.conversation = data.conversation_id;
    else if (event === "delta") message.text += data.text;
    else if (event === "citation") message.citations.push(data);
    else if (event === "error") throw new Told(t("failed"));
    else if (event === "message_end") {
      ended = true;
      // That an answer is quoted is said in the answer; it is news only when a language model should have written it.
      const news = data.degraded.includes("llm") ? data.notice : "";
      message.notice = [news, data.degraded.includes("history") ? t("history") : ""].filter(Boolean).join(" ");
    }
    message.redraw();
  }
  if (!ended) throw new Told(t("broken"));
}

async function refused(response) {
  let detail = "";
  try { detail = (await response.json()).detail ?? ""; } catch { /* a proxy's page */ }
  if (response.status === 503) return t(Number(response.headers.get("retry-after")) > 10 ? "preparing" : "busy");
  if (response.status === 429 || response.status === 502 || response.status === 504) return t("busy");
  if (response.status >= 500 || !detail) return t("failed");
  return detail;
}

async function* events(stream) {
  const decoder = new TextDecoder();
  const reader = stream.getReader();
  let held = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    held += decoder.decode(value, { stream: true }).replaceAll("\r", "");
    const blocks = held.split("\n\n");
    held = blocks.pop();
    for (const block of blocks) {
      let event = "message";
      const data = [];
      for (const line of block.split("\n")) {
        if (line.startsWith("event:")) event = line.slice(6).trim();
        else if (line.startsWith("data:")) data.push(line.slice(5).trimStart());
      }
      if (data.length) yield { event, data: JSON.parse(data.join("\n")) };
    }
  }
}

// ---- the source of a citation

async function open(citation, from) {
  state.opened = from;
  document.body.classList.add("reading");
  $("source").hidden = false;
  $("source-title").textContent = citation.title;
  $("source-facts").replaceChildren(facts({ ...citation, release: releaseOf(citation) }));
  $("source-body").replaceChildren(make("p", "loading", t("loading")));
  $("source-title").focus({ preventScroll: true });
  const mine = (open.latest = Symbol("source"));
  let shown;
  try {
    const response = await fetch(citation.url, { headers: { accept: "application/json" } });
    if (response.ok) shown = passage(await response.json());
    else shown = excused(t(response.status === 404 ? "passageGone" : "passageFailed"), citation);
  } catch {
    shown = excused(t(navigator.onLine ? "passageFailed" : "offline"), citation);
  }
  if (mine !== open.latest) return;
  $("source-body").replaceChildren(...shown);
  $("source-body").scrollTop = 0;
  const found = $("source-body").querySelector("mark");
  if (found) $("source-body").scrollTop = Math.max(0, found.offsetTop - $("source-body").offsetTop - 48);
}

function facts(view) {
  const list = make("dl", "facts");
  const fact = (key, value) => list.append(make("dt", "", t(key)), make("dd", "", value));
  const path = [...new Set([view.title, ...view.heading])].join(" › ");
  if (view.heading.length) fact("place", path);
  fact("document", make("code", "", view.uri));
  const release = view.release ? `${t("release", { n: view.release })} · ` : "";
  list.append(make("dd", "small", release + t("characters", { a: view.start, b: view.end })));
  return list;
}

// The document's own text, character for character, so that what is highlighted is what was cited.
function passage(view) {
  const text = make("div", "document", cutStart(view.before), make("mark", "", view.text), cutEnd(view.after));
  const parts = [text];
  if (view.origin === "vector store") parts.push(make("p", "loading", t("passageOnly")));
  return parts;
}
const cutStart = (text) => (text.length >= 4000 ? `…${text.slice(text.indexOf("\n") + 1)}` : text);
const cutEnd = (text) => (text.length >= 4000 ? `${text.slice(0, text.lastIndexOf("\n"))}\n…` : text);
const releaseOf = (citation) => new URL(citation.url, location.href).searchParams.get("release");

function excused(reason, citation) {
  const quoted = make("div", "document", make("mark", "", citation.text));
  return [make("p", "problem", reason), quoted];
}

function shut() {
  if ($("source").hidden) return;
  $("source").hidden = true;
  document.body.classList.remove("reading");
  open.latest = null;
  state.opened?.focus?.({ preventScroll: true });
  state.opened = null;
}
$("close").addEventListener("click", shut);
addEventListener("keydown", (event) => { if (event.key === "Escape") shut(); });
addEventListener("offline", () => banner(t("offline")));
addEventListener("online", () => banner(""));

speak();
grow();
if (matchMedia("(hover: hover)").matches) $("question").focus();
