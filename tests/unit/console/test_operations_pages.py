"""The operators' pages: in two languages, with doctor's own words, and with links that lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import console.doctor.diagnosis  # noqa: F401  every check registers its kinds
from console.doctor.kinds import KINDS, Language, findings_markdown
from tests.support.runbook_page import OPERATIONS, PAGES, cited, commands, without_fences
from zhiyun.repository import REPOSITORY

FINDINGS: dict[Language, Path] = {"en": OPERATIONS / "findings.md", "zh": OPERATIONS / "findings.zh-CN.md"}
DOCUMENTS = sorted([*REPOSITORY.glob("README*.md"), *(REPOSITORY / "docs").rglob("*.md")])
LINK = re.compile(r"\]\(([^)\s]+)\)")


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_pages_of_findings_are_current(language: Language) -> None:
    page = FINDINGS[language]
    told = f"run `.venv/bin/zhiyun doctor --kinds --language {language} > {page.relative_to(REPOSITORY)}`"
    assert page.read_text() == findings_markdown(language), told


def test_both_languages_of_the_runbook_have_the_same_commands_in_the_same_order() -> None:
    english, chinese = (
        [(one.text, one.statuses, one.on) for one in commands(PAGES[language].read_text())] for language in ("en", "zh")
    )
    assert english
    assert english == chinese


def test_both_languages_of_the_runbook_have_the_same_findings() -> None:
    english, chinese = ([code for code, _ in cited(PAGES[language].read_text())] for language in ("en", "zh"))
    assert sorted(english) == sorted(chinese)


@pytest.mark.parametrize("language", ["en", "zh"])
def test_every_finding_that_the_runbook_cites_exists(language: Language) -> None:
    codes = {code for code, _ in cited(PAGES[language].read_text())}
    assert len(codes) > 30
    assert codes - set(KINDS) == set()


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_runbook_has_doctors_own_words(language: Language) -> None:
    rows = [(code, line) for code, line in cited(PAGES[language].read_text()) if line.count("|") > 3]
    assert len(rows) > 30
    for code, row in rows:
        words = row.replace("\\|", " ").split("|")[2].strip().removesuffix(f"`{code}`").strip()
        template = KINDS[code].says[language == "zh"]
        pattern = "".join(
            ".+" if part.startswith("{") else re.escape(part) for part in re.split(r"(\{\w+\})", template)
        )
        assert re.fullmatch(pattern, words), f"{code} says: {template}"


@pytest.mark.parametrize("language", ["en", "zh"])
def test_every_error_and_warning_of_doctor_is_on_a_page(language: Language) -> None:
    text = PAGES[language].read_text() + FINDINGS[language].read_text()
    for code, kind in KINDS.items():
        if kind.severity in ("error", "warning"):
            assert f"`{code}`" in text, code


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_every_link_within_the_documents_leads_somewhere(document: Path) -> None:
    prose = re.sub(r"`[^`\n]*`", "", re.sub(r"(?m)^ {4}.*$", "", without_fences(document.read_text())))
    for link in LINK.findall(prose):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (document.parent / path).resolve() if path else document
        assert target.exists(), f"{document}: {link}"
        assert not anchor or anchor in anchors(target.read_text()), f"{document}: {link}"


def anchors(page: str) -> set[str]:
    """The names of the page's headings as forges make them."""
    found: set[str] = set()
    for heading in re.findall(r"(?m)^#+ (.+)$", without_fences(page)):
        name = re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")
        number = 0
        while (f"{name}-{number}" if number else name) in found:
            number += 1
        found.add(f"{name}-{number}" if number else name)
    return found
