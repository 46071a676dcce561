"""Which parts of a passage are quoted for a question."""

from __future__ import annotations

import dataclasses

from hypothesis import given
from hypothesis import strategies as st

from knowledge.models.lexical import tokenize
from knowledge.retrieval.retriever import Evidence
from serving.chat import extractive

LONG = """## 退款

这一页说明退款的各种情况，请先阅读下面的说明。如果您的套餐不在表里，请联系我们的销售人员，他们会在一个工作日内答复。

| 付款方式 | 到账时间 |
|---|---|
| 账户余额 | 立即 |
| 微信支付 | 1–3 个工作日 |
| 国内信用卡 | 5–10 个工作日 |

申请的步骤如下：

1. 登录控制台。
2. 打开费用页。

3. 提交申请。

### 计算公式

```text
退款额 = 实付金额 − 已用月数 × 月付价
```

- 已用月数不满一个月按一个月算。
- 手续费用来抵通道成本。

退款以后工作区马上变成免费版，超出免费版额度的表单停止收集，已经产生的订单不会删除，可以随时导出。
套餐赠送的短信立即清零，单独买的短信包保留。九十天内同一主体再次购买，不再享受七天无理由。对结果有异议，可以写信复核。
"""


def excerpt(question: str, text: str = LONG) -> str:
    return extractive.excerpt(text, set(tokenize(question)))


def evidence(text: str, score: float = 0.8, name: str = "1") -> Evidence:
    return Evidence(
        passage_id=name, document_id="d", uri="docs/a.md", source="docs", path="a.md", title="退款", heading=(),
        text=text, start=0, end=len(text), score=score,
    )  # fmt: skip


def test_a_row_comes_with_its_table_s_header_and_without_the_other_rows() -> None:
    quoted = excerpt("国内信用卡多久")
    assert "| 付款方式 | 到账时间 |\n|---|---|\n| 国内信用卡 | 5–10 个工作日 |" in quoted
    assert "微信支付" not in quoted


def test_code_stays_whole_and_is_found_by_its_heading() -> None:
    assert "```text\n退款额 = 实付金额 − 已用月数 × 月付价\n```" in excerpt("计算公式")


def test_what_ends_in_a_colon_brings_what_it_announces() -> None:
    quoted = excerpt("申请的步骤")
    assert "申请的步骤如下：" in quoted
    assert "1. 登录控制台。\n2. 打开费用页。\n\n3. 提交申请。" in quoted


def test_a_short_passage_is_quoted_whole() -> None:
    assert excerpt("短信", "短信包用过以后不退。首次购买可以退。") == "短信包用过以后不退。首次购买可以退。"


def test_a_long_passage_that_shares_no_word_is_quoted_from_its_beginning() -> None:
    quoted = excerpt("zzz")
    assert quoted.startswith("这一页说明")
    assert len(quoted) < 400


def test_rows_whose_header_was_cut_off_are_quoted_as_items() -> None:
    assert extractive.split("| a | b |\n| c \\| d | e |")[1].text == "- c | d — e"


def test_quotes_are_of_evidence_that_is_nearly_as_sure_and_not_twice_the_same() -> None:
    text = "短信包用过以后不退。"
    found = [evidence(text), evidence(text, 0.7, "2"), evidence("短信包三十天内可以退。", 0.2, "3")]
    assert [quote.evidence.passage_id for quote in extractive.quotes("短信包能退吗", found)] == ["1"]
    surer = dataclasses.replace(found[2], score=0.75)
    assert [quote.evidence.passage_id for quote in extractive.quotes("短信包能退吗", [found[0], surer])] == ["1", "3"]


def test_a_short_table_gives_the_row_that_was_asked_for_or_all_of_them() -> None:
    table = "| 错误码 | 说明 |\n|---|---|\n| QH-1 | 没有权限 |\n| QH-2 | 余额不足 |"
    assert excerpt("QH-2 是什么", table) == "| 错误码 | 说明 |\n|---|---|\n| QH-2 | 余额不足 |"
    assert excerpt("有哪些", table) == table


def test_columns_set_with_blanks_stay_as_they_are() -> None:
    columns = "格式      一次最多\n  XLSX      100,000 行"
    assert excerpt("格式", columns) == f"```\n{columns}\n```"


def test_evidence_always_gives_a_quote() -> None:
    assert extractive.quotes("zzz", [evidence("| a |\n|---|")])
    assert extractive.quotes("zzz", []) == []


@given(st.text("#|-`~*1.、 \n\ta退款：。$", max_size=200))
def test_no_text_breaks_it_and_no_line_of_words_is_lost(text: str) -> None:
    parts = extractive.split(text)
    kept = "".join(part.header + part.text for part in parts)
    assert {character for character in text if character in "a退款"} <= set(kept)
    extractive.excerpt(text, set(tokenize("退款")))
