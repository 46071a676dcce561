"""Documents: which bytes are text and in which encoding, titles, HTML; and that nothing else gets in or crashes."""

from __future__ import annotations

import gzip
import hashlib
import random
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from knowledge.documents.document import UnreadableDocument, parse
from knowledge.documents.sources import IntakeError

CHINESE = "# 退款说明\n\n七天内可以全额退款，超过七天按比例退款。订单号 10086。\n"
TRADITIONAL = "退款說明：七天內可以全額退款，超過七天按比例退款。請聯絡客服人員處理您的訂單問題。"


def refusal(raw: bytes, path: str = "a.md") -> str:
    with pytest.raises(UnreadableDocument) as error:
        parse(raw, path)
    assert isinstance(error.value, IntakeError)
    assert error.value.reason.startswith(path)
    assert "\n" not in error.value.reason
    return error.value.reason


def outcome(raw: bytes, path: str) -> tuple[str, str]:
    """The text, or the reason why there is none."""
    try:
        return parse(raw, path).text, ""
    except UnreadableDocument as error:
        return "", error.reason


# --- encodings ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "utf-32", "gbk", "gb18030"])
@pytest.mark.parametrize("name", ["a.md", "a.txt"])
def test_text_is_read_in_the_encodings_of_chinese_files(encoding: str, name: str) -> None:
    raw = CHINESE.encode(encoding)
    if encoding == "utf-16-be":
        raw = b"\xfe\xff" + raw
    document = parse(raw, name)
    assert document.text == CHINESE
    assert document.sha256 == hashlib.sha256(raw).hexdigest()
    assert (document.note == "") == encoding.startswith("utf-8")
    if encoding.startswith("gb"):
        assert (document.encoding, document.note) == ("gb18030", "read as GB18030, not UTF-8")


def test_traditional_characters_in_gb18030_are_text() -> None:
    assert parse(TRADITIONAL.encode("gb18030"), "a.md").text == TRADITIONAL


def test_line_ends_are_kept_so_that_offsets_are_those_of_the_file() -> None:
    text = "甲\r\n\r\n乙\r丙\n"
    assert parse(text.encode(), "a.md").text == text
    assert parse(text.encode(), "a.txt").text == text


@pytest.mark.parametrize(
    ("raw", "what"),
    [
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "PNG"),
        (b"\x7fELF\x02\x01" + bytes(100), "program"),
        (b"%PDF-1.7\n1 0 obj", "PDF"),
        (gzip.compress(CHINESE.encode() * 9), "gzip"),
        (b"PK\x03\x04rest", "ZIP"),
        (b"text\0text", "NUL"),
        (CHINESE.encode("utf-16-le"), "NUL"),
        ("\ufefftext\0".encode("utf-16-le"), "NUL"),
        (b"\xff\xfea\xd8", "utf-16"),
        (TRADITIONAL.encode("big5"), "plausible GB18030"),
        ("Ein schöner Tag für Änderungen".encode("latin-1"), "not text"),
        (b"\x1b\x01\x02\x03\x04\x05\x06\x07" * 40, "control"),
        (CHINESE.encode()[:-9] + b"\xff" + CHINESE.encode(), "damaged: it is UTF-8 except for byte"),
        (b"\xed\xa0\x80 lone surrogate", "not text"),
    ],
)
def test_what_is_not_text_is_refused_with_what_it_is(raw: bytes, what: str) -> None:
    assert what in refusal(raw)


@pytest.mark.parametrize("size", [50, 1000, 100_000])
def test_random_bytes_are_refused(size: int) -> None:
    for seed in range(20):
        raw = random.Random(seed).randbytes(size)
        refusal(raw)
        refusal(raw.replace(b"\0", b"\1"))


@pytest.mark.parametrize("raw", [b"", b" \r\n\t ", "\ufeff\n".encode(), "\u3000\u3000\n".encode()])
def test_an_empty_document_is_refused(raw: bytes) -> None:
    assert refusal(raw) in ("a.md is empty", "a.md has no text")


# --- titles ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("---\ntitle: 退款说明\nsummary: x\n---\n# 别的\n", "退款说明"),
        ("---\r\ntitle: '它''s'\r\n---\r\n正文", "它's"),
        ('---\ntitle: "说 \\"明\\""  \n---\n正文', '说 "明"'),
        ("---\nsummary: x\ntitle: >-\n  退款\n  说明\nlast: y\n---\n正文", "退款 说明"),
        ("---\ntitle: 退款 # 注\n...\n正文", "退款"),
        ("---\nsummary: x\n---\n\n# 使用 `tiup`\n", "使用 tiup"),
        ("前文\n\n退款\n===\n", "退款"),
        ("## 小节\n\n```\n# 注释\n```\n\n# 大标题\n", "大标题"),
        ("---\n\n正文\n\n---\n", "退款-faq"),
        ("---\ntitle: 没有结束\n正文", "退款-faq"),
        ("正文", "退款-faq"),
    ],
)
def test_the_title_is_that_of_the_front_matter_or_the_first_heading_or_the_file(text: str, title: str) -> None:
    assert parse(text.encode(), "doc/退款-faq.md").title == title


def test_a_comment_in_plain_text_is_no_title_and_a_first_line_alone_is() -> None:
    assert parse("# 注释\n正文".encode(), "a/配置.txt").title == "配置"
    assert parse("数据导出\n\n一、能导出什么\n".encode(), "a/export.txt").title == "数据导出"


# --- HTML -----------------------------------------------------------------------------------------------------------

PAGE = """<!DOCTYPE html><html><head><meta charset="{charset}"><title>退款 - 帮助中心</title><style>p{{}}</style></head>
<body><header>站点名</header><nav>导航</nav><main><h1>退款</h1><p>七天内<b>可以</b>退款，<a href="/x">详情</a>。
<ul><li>一<li>二</ul><table><tr><th>项目</th><th>时间</th></tr><tr><td>短信</td><td>不退</td></tr></table>
<pre><code class="language-bash">if x
  then y</code></pre><div hidden>藏一</div><p style="display: none">藏二</p><img src="data:image/png;base64,xx" alt="流程图">
</main><aside>广告</aside><footer>页脚</footer><script>var x = "脚本"</script></body></html>"""


@pytest.mark.parametrize(("charset", "encoding"), [("utf-8", "utf-8"), ("gb2312", "gb18030")])
def test_a_page_is_a_markdown_rendering_of_its_main_content(charset: str, encoding: str) -> None:
    html = PAGE.format(charset=charset)
    document = parse(html.encode(charset), "a.html")
    assert (document.title, document.media_type, document.encoding) == ("退款", "text/html", encoding)
    assert document.text.startswith("# 退款\n")
    for part in ("**可以**", "](/x)", "- 一\n- 二\n", "| 短信 | 不退 |", "```bash\nif x\n  then y\n```", "流程图"):
        assert part in document.text
    for part in ("帮助中心", "导航", "站点", "藏", "广告", "页脚", "脚本", "p{", "base64"):
        assert part not in document.text


@pytest.mark.parametrize("declared", ["gb2312", "utf-8", "nonsense", "utf-16", "hex"])
def test_a_wrong_declaration_does_not_matter_for_utf8(declared: str) -> None:
    document = parse(PAGE.format(charset=declared).encode(), "a.htm")
    assert document.encoding == "utf-8"
    assert "七天内" in document.text


def test_a_page_in_the_encoding_that_it_declares_is_read() -> None:
    document = parse(f"<meta charset=big5><p>{TRADITIONAL}".encode("big5"), "a.html")
    assert (document.text, document.encoding) == (TRADITIONAL, "big5")
    assert document.note == "read as big5, as it declares"


def test_a_page_without_main_loses_its_header_but_not_the_heading_in_it() -> None:
    assert parse(b"<header>site</header><h1>T</h1><p>text</p>", "a.html").text == "# T\n\ntext"
    assert parse(b"<header><h1>T</h1></header><p>text</p>", "a.html").text == "# T\n\ntext"
    assert parse(b"<article><p>one</article><article><p>two</article>", "a.html").text.split() == ["one", "two"]


def test_a_page_of_scripts_only_has_no_text() -> None:
    assert refusal(b"<html><script>x</script><nav>y</nav></html>", "a.html") == "a.html has no text"


def test_characters_that_postgresql_cannot_store_never_come_out() -> None:
    document = parse(b"<title>a&#0;&#xD800;</title><p>x&#0;y&#xDFFF;z&#x110000;", "a.html")
    for text in (document.text, document.title):
        assert "\0" not in text
        text.encode()


@pytest.mark.parametrize(
    "html",
    [
        "<div>" * 10_000 + "正文" + "</div>" * 10_000,
        "<p>正文" * 10_000,
        "<b>正文" * 10_000,
        "<ul>" + "<li>正文" * 10_000,
        "<ul><li>正文" * 200,
        "正文<a " * 100_000,
        "正文<!-- " * 100_000,
        "正文<![CDATA[" * 100_000,
        '正文<a b="' * 100_000,
        "正文</a " * 100_000,
        "<p>正文</p><script>" + "</a>" * 50_000,
        "<b>" * 10_000 + "正文" + "</i>" * 10_000,
        "正文<? " * 100_000,
        "正文&" * 100_000,
        "正文<table><tr>" * 300,
        "<a " + "x=1 " * 50_000 + ">正文</a>",
    ],
    ids=lambda html: f"{html[:12]!r}x{len(html)}",
)
def test_malformed_pages_are_read_in_linear_time(html: str) -> None:
    """Measured below 1 s each; what is quadratic would take minutes, which the processor time limit catches."""
    started = time.process_time()
    assert "正文" in parse(html.encode(), "a.html").text
    assert time.process_time() - started < 60


def test_a_page_of_too_many_tags_is_refused_before_it_takes_the_memory() -> None:
    assert refusal(b"<p>" * 300_001, "a.html") == "a.html has more than 300,000 tags; split the page"


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from(["<div>", "</div>", "<table>", "<td>", "<li>", "<pre>", "<a href=", "'", '"', ">", "<!--",
                                 "-->", "文", "<h2>", "</h2>", "<main>", "&#", "&lt;", "<p hidden>", "</main>", "\n"])))  # fmt: skip
def test_no_page_breaks_it(parts: list[str]) -> None:
    text, reason = outcome("".join(parts).encode(), "a.html")
    assert "cannot be parsed" not in reason
    assert text.strip() or reason


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300), st.sampled_from(["a.md", "a.txt", "a.html"]))
def test_any_bytes_are_a_document_or_one_sentence(raw: bytes, path: str) -> None:
    text, reason = outcome(raw, path)
    assert "\n" not in reason
    assert "\0" not in text
    text.encode()
