"""The promises of `docs/passages.md`, each on the smallest document that shows it, and together on generated ones."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from knowledge.documents.document import Document, parse
from knowledge.passages.splitter import Passage, cut
from knowledge.text.markup import searchable
from tests.support.passage_promises import SENTENCE_END, check, torn


def markdown(text: str) -> Document:
    return Document(text, "手册", "text/markdown", "", "utf-8", "")


def plain(text: str) -> Document:
    return Document(text, "手册", "text/plain", "", "utf-8", "")


def passages(text: str, target: int = 480, maximum: int = 2400) -> list[Passage]:
    document = markdown(text)
    found = cut(document, target, maximum)
    check(document, found, target, maximum)
    return found


# --- headings -------------------------------------------------------------------------------------------------------


def test_a_passage_has_the_path_of_headings_above_it() -> None:
    found = passages("# 手册\n\n概述。\n\n## 退款\n\n七天内。\n\n#### 例外\n\n定制品除外。\n\n## 发票\n\n可以开。\n")
    assert [passage.heading for passage in found] == [
        ("手册",),
        ("手册", "退款"),
        ("手册", "退款", "例外"),
        ("手册", "发票"),
    ]
    assert [passage.text for passage in found] == ["概述。", "七天内。", "定制品除外。", "可以开。"]


def test_underlined_headings_count_and_an_underlined_paragraph_does_not() -> None:
    found = passages("手册\n====\n\n退款\n----\n\n七天内。\n\n这一段有两行，\n后面误加了横线。\n---\n\n然后继续。\n")
    assert {passage.heading for passage in found} == {("手册", "退款")}
    assert "这一段有两行" in found[0].text


def test_a_heading_without_a_body_is_found_in_the_path_of_the_next_or_is_a_passage() -> None:
    found = passages("# 手册\n\n## 甲\n\n### 乙\n\n正文。\n\n## 丙\n\n## 丁\n")
    assert [(passage.heading, passage.text) for passage in found] == [
        (("手册", "甲", "乙"), "正文。"),
        (("手册",), "## 丙\n\n## 丁"),
    ]


def test_the_path_has_no_markup() -> None:
    (passage,) = passages("## 使用 [`tiup`](/tiup.md) **升级** <span id='x'></span> {#upgrade}\n\n正文。\n")
    assert passage.heading == ("使用 tiup 升级",)


def test_a_heading_in_a_list_a_quote_or_code_begins_no_section() -> None:
    found = passages("# 手册\n\n```bash\n# 注释\nls\n```\n\n- # 项\n\n> ## 引用\n")
    assert {passage.heading for passage in found} == {("手册",)}


def test_front_matter_is_in_no_passage() -> None:
    found = passages("---\ntitle: 手册\nsummary: 略\n---\n\n正文。\n")
    assert [passage.text for passage in found] == ["正文。"]


# --- what stays whole -----------------------------------------------------------------------------------------------


def test_sentences_are_not_torn() -> None:
    text = "".join(f"他说：「第{number}条可以退吗？」客服回答（当天）：可以，不收手续费。" for number in range(60))
    for passage in passages(text):
        assert len(passage.text) <= 480
        assert SENTENCE_END.search(passage.text)


def test_english_sentences_end_at_a_dot_before_a_space_but_not_after_an_abbreviation() -> None:
    text = "Set it to 1.5, e.g. in zhiyun.toml, and restart. " * 40
    for passage in passages(text, target=120):
        assert passage.text.startswith("Set")
        assert passage.text.endswith("restart.")


def test_a_link_is_not_cut_from_its_target() -> None:
    text = "参见[怎么退款？](/refunds.md)了解详情。" * 30
    assert all(passage.text.count("](") == passage.text.count("[") for passage in passages(text, target=100))


def test_an_endless_sentence_is_cut_at_commas_then_spaces_then_by_length() -> None:
    assert all(passage.text.endswith("，") for passage in passages("甲乙丙丁戊，" * 300)[:-1])
    assert all(passage.text.endswith("word") for passage in passages("word " * 600))
    assert [len(passage.text) for passage in passages("字" * 1300)] == [480, 480, 340]


def test_a_cut_by_length_never_parts_a_composed_character() -> None:
    family = "👨‍👩‍👧‍👦"
    for passage in passages(family * 400, target=100):
        assert not passage.text.startswith("\u200d")
        assert not passage.text.endswith("\u200d")


@pytest.mark.parametrize("fence", ["```", "~~~~"])
def test_code_is_whole_up_to_the_maximum(fence: str) -> None:
    code = f"{fence}python\n" + "print('智云')\n\n" * 100 + fence
    found = passages(f"# 手册\n\n{'前文。' * 100}\n\n{code}\n\n后文。\n")
    assert any(code in passage.text for passage in found)


def test_longer_code_is_cut_between_lines_and_carries_its_fence() -> None:
    found = passages("```sql\n" + "SELECT 订单 FROM orders;\n" * 300 + "```\n")
    assert len(found) > 2
    assert all(line in ("SELECT 订单 FROM orders;", "```sql", "```") for p in found for line in p.text.split("\n"))
    assert [passage.carried for passage in found] == ["", *["```sql"] * (len(found) - 1)]
    lengths = [len(passage.text) for passage in found]
    assert max(lengths) <= 2400
    assert max(lengths) - min(lengths) < 100


def test_a_cut_of_code_keeps_the_indentation() -> None:
    found = passages("```python\nif x:\n" + "    call(x)\n" * 400 + "```\n")
    assert all(passage.text.startswith("    call") for passage in found[1:])


def test_a_table_is_whole_up_to_the_maximum_and_a_longer_one_carries_its_header() -> None:
    header = "| 错误码 | 意思 |\n|---|---|\n"
    whole = passages(header + "| 1001 | 余额不足 |\n" * 100)
    assert len(whole) == 1
    found = passages(header + "".join(f"| {code} | 余额不足 |\n" for code in range(1000, 1600)))
    assert len(found) > 1
    for passage in found[1:]:
        assert passage.text.startswith("| 1")
        assert passage.carried == header.strip()
        assert "错误码 意思" in passage.indexed("手册")
        assert "错误码" not in passage.text


def test_a_table_of_html_with_blank_lines_is_one_block() -> None:
    table = "<table>\n\n<tr><td>甲</td></tr>\n\n" + "<tr><td>" + "乙" * 300 + "</td></tr>\n\n" * 2 + "</table>"
    found = passages(f"{'前文。' * 80}\n\n{table}\n\n{'后文。' * 80}\n")
    assert any(table in passage.text for passage in found)


def test_a_list_item_is_not_torn_and_steps_stay_together_where_they_fit() -> None:
    steps = "1. 打开设置。\n2. 选择账单，然后：\n\n    ```bash\n    zhiyun pay\n    ```\n\n3. 确认。"
    found = passages(f"{'前文很长。' * 90}\n\n{steps}\n\n{'后文很长。' * 90}\n")
    assert any(steps in passage.text for passage in found)
    items = [f"- 第{number}项：" + "说明。" * 60 for number in range(8)]
    found = passages("\n".join(items) + "\n")
    assert all(any(item in passage.text for passage in found) for item in items)


def test_a_lead_in_stays_with_what_it_leads_to() -> None:
    table = "| 项目 | 上限 |\n|---|---|\n" + "| 附件 | 20 MB |\n" * 30
    found = passages(f"{'前文。' * 155}\n\n上限如下：\n\n{table}\n后文。\n")
    assert any("上限如下：\n\n| 项目" in passage.text for passage in found)


def test_tags_shortcodes_and_comments_do_not_become_passages() -> None:
    text = (
        '<SimpleTab>\n<div label="甲">\n\n正文一。\n\n</div>\n\n{{< copyable "sql" >}}\n\n```sql\nSHOW TABLES;\n```\n\n'
        '<!-- 草稿 -->\n\n<CustomContent platform="tidb">\n\n正文二。\n\n</CustomContent>\n</SimpleTab>\n'
    )
    (passage,) = passages(text)
    indexed = passage.indexed("")
    assert all(part in indexed for part in ("正文一。", "SHOW TABLES;", "正文二。"))
    assert not any(part in indexed for part in ("SimpleTab", "copyable", "草稿", "CustomContent", "label"))
    assert passages("# 手册\n\n***\n\n<br/>\n\n| |\n|-|\n| |\n")[0].text.startswith("# 手册")
    assert passages("***\n\n<!-- 只有注释 -->\n") == []


# --- plain text -----------------------------------------------------------------------------------------------------


def test_plain_text_is_not_read_as_markdown() -> None:
    document = plain("# 这是注释\n* 星号\n\n| a | b |\n|---|---|\n\n正文。")
    found = cut(document)
    check(document, found, 480, 2400)
    assert [passage.heading for passage in found] == [()]


def test_plain_text_has_the_headings_of_chinese_manuals() -> None:
    document = plain(
        "运维手册\n\n=======\n第一部分：日常\n=======\n\n一、备份\n\n1. 数据库\n\n每天备份。\n\n2. 恢复\n\n先停服务。\n\n二、监控\n\n看指标。\n"
    )
    found = cut(document)
    check(document, found, 480, 2400)
    assert [(passage.heading, passage.text) for passage in found] == [
        (("运维手册", "第一部分：日常", "一、备份", "1. 数据库"), "每天备份。"),
        (("运维手册", "第一部分：日常", "一、备份", "2. 恢复"), "先停服务。"),
        (("运维手册", "第一部分：日常", "二、监控"), "看指标。"),
    ]


def test_numbered_sentences_of_plain_text_are_no_headings() -> None:
    found = cut(plain("1. 打开页面，点导出。\n2. 等待完成。\n\n说明。\n"))
    assert [passage.heading for passage in found] == [()]


# --- what is indexed ------------------------------------------------------------------------------------------------


def test_what_is_indexed_has_the_title_and_the_path_once() -> None:
    (passage,) = passages("# 退款 说明\n\n## 时间\n\n七天内。\n")
    assert passage.indexed("退款说明") == "退款说明\n时间\n七天内。"
    assert passage.indexed("帮助") == "帮助\n退款 说明 > 时间\n七天内。"
    assert passage.indexed("") == "退款 说明 > 时间\n七天内。"


@pytest.mark.parametrize(
    ("text", "indexed"),
    [
        ("见[文档](https://a.b/c_(d)?x=1)。", "见文档。"),
        ("[`a.b`](/x.md) 与 [甲][1]", "`a.b` 与 甲"),
        ("![流程图](img/a.png)", "流程图"),
        ("[![徽标](a.png)](https://a.b)", "徽标"),
        ("甲<!-- 注 -->乙", "甲 乙"),
        ("甲<br/>乙 <b>丙</b>", "甲 乙 丙"),
        ("| 甲 | 乙 |\n|:--|--:|\n| 1 | 2 |", "甲 乙\n1 2"),
        ("> **注意：**\n>\n> 小心", "注意：\n\n小心"),
        ("使用 `a | b` 与 `<T>`", "使用 `a | b` 与 `<T>`"),
        ("连接 <host> 的 my__name__x", "连接 <host> 的 my__name__x"),
        ("```html\n<div>[a](b)</div> | # x\n```", "```html\n<div>[a](b)</div> | # x\n```"),
        ("订单 \\_10086\\_ 404", "订单 _10086_ 404"),
    ],
)
def test_noise_is_not_indexed_and_code_is(text: str, indexed: str) -> None:
    assert searchable(text) == indexed


# --- any document ---------------------------------------------------------------------------------------------------

_WORDS = st.sampled_from(
    [
        "智云",
        "客服。",
        "退款？」",
        "（好）",
        "a.b",
        "OK. ",
        "订单 10086，",
        "`x`",
        "**粗**",
        "[链](u)",
        "<b>",
        "|",
        "-",
        "…",
        "\u200d",
        "é",
        "𠮷",
    ]
)
_LINE = st.lists(_WORDS, max_size=30).map("".join)
_START = st.sampled_from(
    ["", "", "", "# ", "## ", "#### ", "- ", "1. ", "  - ", "    ", "> ", "> - ", "| ", "```", "~~~", "---", "===", "<div>",
     "</div>", "<!--", "-->", "<table>", "</table>", "|-|-|", "\t", "{{< x >}}"]
)  # fmt: skip
_END = st.sampled_from(["\n", "\n\n", "\n\n", "\r\n", "\r\n\r\n", "\r", "：\n\n"])
_TEXT = st.lists(st.tuples(_START, _LINE, _END).map("".join), max_size=40).map("".join)
_MEDIA = st.sampled_from(["text/markdown", "text/plain"])


@settings(max_examples=100, deadline=None)
@given(_TEXT, _MEDIA, st.integers(20, 600), st.integers(20, 1200))
def test_every_promise_holds_on_any_document(text: str, media_type: str, target: int, maximum: int) -> None:
    document = Document(text, "手册", media_type, "", "utf-8", "")
    found = cut(document, target, maximum)
    check(document, found, target, maximum)
    assert all(passage.indexed("手册") for passage in found)


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=400), _MEDIA)
def test_no_text_breaks_it(text: str, media_type: str) -> None:
    document = Document(text, "", media_type, "", "utf-8", "")
    check(document, cut(document, 50, 100), 50, 100)


@settings(max_examples=60, deadline=None)
@given(_TEXT)
def test_code_and_tables_are_never_torn_below_the_maximum(text: str) -> None:
    document = markdown(text)
    found = cut(document, 60, 400)
    counts = torn(document, [(passage.start, passage.end) for passage in found], 60, 400)
    assert counts.code[1] == counts.tables[1] == 0


@pytest.mark.parametrize(
    "text",
    [
        "智云客服" * 250_000,
        "智云客服很好。" * 100_000,
        "a" + " " * 500_000 + "b",
        ">" * 10_000 + " a\n",
        "- " * 10_000 + "a\n",
        "".join(" " * (2 * depth) + "- a\n" for depth in range(800)),
        "```\n" + "代码\n" * 50_000,
        "|" + "a|" * 1000 + "\n|" + "-|" * 1000 + "\n" + ("|" + "b|" * 1000 + "\n") * 5,
        "# a\n" * 20_000,
        "<table>\n\na\n\n" * 3_000,
        "<!-- a " * 50_000,
        "[" * 100_000 + "a",
        "**" * 100_000 + "a",
        "。」" * 100_000 + "a",
        "-|" * 50_000 + "\na",
        "a\r" * 20_000,
    ],
    ids=lambda text: f"{text[:8]!r}x{len(text)}",
)
def test_hostile_documents_take_linear_time(text: str) -> None:
    """Measured 0.02 to 1.5 s each; what is quadratic would take minutes, which the processor time limit catches."""
    started = time.process_time()
    document = markdown(text)
    found = cut(document)
    check(document, found, 480, 2400)
    assert all(len(passage.indexed("")) < 10_000 for passage in found)
    assert time.process_time() - started < 60


def test_cutting_is_repeatable_and_one_edit_changes_few_passages() -> None:
    lines = [f"## 问题 {number}\n\n答案 {number}：{'说明。' * 50}\n" for number in range(50)]
    before = {passage.indexed("手册") for passage in cut(markdown("\n".join(lines)))}
    assert before == {passage.indexed("手册") for passage in cut(markdown("\n".join(lines)))}
    lines[20] = "## 问题 20\n\n新的答案。\n"
    after = {passage.indexed("手册") for passage in cut(markdown("\n".join(lines)))}
    assert len(after - before) == 1


def test_a_page_is_cut_like_its_markdown() -> None:
    document = parse("<h1>退款</h1><h2>时间</h2><p>七天内。</p><pre>a\nb</pre>".encode(), "a.html")
    found = cut(document)
    check(document, found, 480, 2400)
    assert found[0].heading == ("退款", "时间")


@pytest.mark.parametrize(("target", "maximum"), [(0, 10), (10, 0)])
def test_lengths_below_one_are_refused(target: int, maximum: int) -> None:
    with pytest.raises(ValueError, match="must be positive"):
        cut(markdown("甲"), target, maximum)
