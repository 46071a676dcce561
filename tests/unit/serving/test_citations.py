"""Citation marks in a streamed answer."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.chat.citations import CitationMarks


def filtered(text: str, available: int, size: int = 1) -> tuple[str, list[int]]:
    marks = CitationMarks(available)
    pieces = [text[at : at + size] for at in range(0, len(text), size)]
    return "".join(marks.feed(piece) for piece in pieces) + marks.end(), marks.cited


@pytest.mark.parametrize(
    ("text", "clean", "cited"),
    [
        ("答案 [1]。", "答案 [1]。", [1]),
        ("答案[2][1]。", "答案[2][1]。", [2, 1]),
        ("答案 [1, 2]。", "答案 [1][2]。", [1, 2]),
        ("答案【1、3】。", "答案[1][3]。", [1, 3]),
        ("答案 [^2]。", "答案 [2]。", [2]),
        ("答案 [9]。", "答案。", []),
        ("答案 [1, 9]。", "答案 [1]。", [1]),
        ("数组 `a[0]` 和 [1]", "数组 `a[0]` 和 [1]", [1]),
        ("```\nx[7] = y[8]\n```\n见 [3]", "```\nx[7] = y[8]\n```\n见 [3]", [3]),
        ("`没有关上\n[9] 见 [1]", "`没有关上\n 见 [1]", [1]),
        ("[链接](https://x.example) [x] [", "[链接](https://x.example) [x] [", []),
        ("[12", "[12", []),
    ],
)
@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_marks_are_kept_where_the_evidence_exists_whatever_the_pieces(
    text: str, clean: str, cited: list[int], size: int
) -> None:
    assert filtered(text, 3, size) == (clean, cited)


@given(st.text("[]【】1239,、 `\nab答", max_size=60), st.integers(1, 7))
def test_the_pieces_make_no_difference(text: str, size: int) -> None:
    assert filtered(text, 3, size) == filtered(text, 3, 1000)
