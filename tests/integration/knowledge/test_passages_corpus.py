"""The promises of the passages on a real manual: 1,218 Chinese Markdown files with tables, code and deep headings."""

from __future__ import annotations

import tarfile

import pytest

from knowledge.documents.document import Document, UnreadableDocument, parse
from knowledge.passages.splitter import Passage, cut
from tests.support.passage_promises import check, torn
from zhiyun.repository import REPOSITORY

ARCHIVE = REPOSITORY.parent / "shared" / "corpora" / "tidb-docs-cn-2026-05.tar.gz"
TARGET, MAXIMUM = 480, 2400

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not ARCHIVE.exists(), reason=f"the corpus {ARCHIVE.name} is not on this machine"),
]


@pytest.fixture(scope="module")
def manual() -> list[tuple[Document, list[Passage]]]:
    found: list[tuple[Document, list[Passage]]] = []
    with tarfile.open(ARCHIVE) as archive:
        for member in archive:
            content = archive.extractfile(member) if member.isfile() and member.name.endswith(".md") else None
            if content is None:
                continue
            raw = content.read()
            try:
                document = parse(raw, member.name)
            except UnreadableDocument:
                assert not raw.strip(), member.name
                continue
            found.append((document, cut(document, TARGET, MAXIMUM)))
    return found


def test_every_document_of_a_real_manual_is_read_and_cut(manual: list[tuple[Document, list[Passage]]]) -> None:
    assert len(manual) > 1200
    assert all(document.title and passages for document, passages in manual)


def test_the_promises_hold_on_a_real_manual(manual: list[tuple[Document, list[Passage]]]) -> None:
    for document, passages in manual:
        check(document, passages, TARGET, MAXIMUM)


def test_no_code_and_no_table_of_a_real_manual_is_torn_and_hardly_a_sentence(
    manual: list[tuple[Document, list[Passage]]],
) -> None:
    counts = [torn(document, [(p.start, p.end) for p in passages], TARGET, MAXIMUM) for document, passages in manual]
    assert sum(count.code[0] for count in counts) > 5000
    assert sum(count.tables[0] for count in counts) > 500
    assert sum(count.code[1] for count in counts) == 0
    assert sum(count.tables[1] for count in counts) == 0
    # Sentences of more than 960 characters, which are lists written in one line.
    assert sum(count.boundaries[1] for count in counts) <= 10
