"""Sources: what a scan sees, what it does not mistake for a deletion, and reading a file at one moment."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from knowledge.documents.sources import (
    IntakeError,
    Scan,
    Source,
    SourceFile,
    SourceUnavailable,
    UnreadableFile,
    parse_sources,
    read_bytes,
    scan,
    signature,
)
from zhiyun.settings import SettingsError


def write(folder: Path, *names: str, text: str = "正文") -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def paths(found: Scan) -> list[str]:
    return [file.path for file in found.files]


def the_file(folder: Path, name: str) -> SourceFile:
    return next(file for file in scan(Source("s", folder)).files if file.path == name)


def attempt(file: SourceFile, max_mb: float) -> tuple[bytes, str]:
    """The content, or the reason why there is none."""
    try:
        return read_bytes(file, max_mb), ""
    except UnreadableFile as error:
        return b"", error.reason


# --- the setting ----------------------------------------------------------------------------------------------------


def test_a_source_is_named_after_its_folder_or_as_the_setting_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/somebody")
    assert parse_sources("docs, 帮助=a/docs ,~/faq,/srv/x/") == [
        Source("docs", tmp_path / "docs"),
        Source("帮助", tmp_path / "a/docs"),
        Source("faq", Path("/home/somebody/faq")),
        Source("x", Path("/srv/x")),
    ]


@pytest.mark.parametrize("value", ["a/docs,b/docs", "x=a,x=b", "", "a,,b", "=a", "x=", "a/b=c", "/"])
def test_a_wrong_setting_is_refused_and_named(value: str) -> None:
    with pytest.raises(SettingsError, match=r"^KNOWLEDGE_SOURCES=") as error:
        parse_sources(value)
    assert "\n" not in str(error.value)


# --- what a scan sees -----------------------------------------------------------------------------------------------


def test_documents_of_all_formats_are_found_in_one_order(tmp_path: Path) -> None:
    write(tmp_path, "b.md", "a/z.TXT", "a.Markdown", "c.mdx", "d.html", "e.HTM", "x.pdf", "README", "a/b/c.md")
    found = scan(Source("s", tmp_path))
    assert paths(found) == ["a.Markdown", "a/b/c.md", "a/z.TXT", "b.md", "c.mdx", "d.html", "e.HTM"]
    assert found.problems == []
    assert found.files[1].uri == "s/a/b/c.md"
    assert found.files[1].size == len("正文".encode())
    assert found.files[1].absolute.read_text() == "正文"


def test_hidden_files_and_special_files_are_skipped(tmp_path: Path) -> None:
    write(tmp_path, "a.md", ".b.md", ".git/c.md")
    os.mkfifo(tmp_path / "pipe.md")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket.md"))
        found = scan(Source("s", tmp_path))
    assert paths(found) == ["a.md"]
    assert found.problems == []


def test_what_is_no_document_is_named_and_folders_of_tools_are_not(tmp_path: Path) -> None:
    write(tmp_path, "a.md", ".b.md", "LICENSE", "x/y.pdf", ".github/c.md", ".git/d.md", "node_modules/e.md")
    found = scan(Source("s", tmp_path))
    assert paths(found) == [".github/c.md", "a.md"]
    assert found.passed_over == (".b.md", "LICENSE", "x/y.pdf")


def test_links_are_followed_once_and_loops_end(tmp_path: Path) -> None:
    inside, outside = tmp_path / "in", tmp_path / "out"
    write(inside, "a.md", "sub/b.md")
    write(outside, "c.md")
    (inside / "link.md").symlink_to(outside / "c.md")
    (inside / "loop").symlink_to(inside)
    (inside / "sub" / "up").symlink_to("..")
    (inside / "far").symlink_to(outside)
    (inside / "far2").symlink_to(outside)
    (outside / "back").symlink_to(inside)
    (outside / "self").symlink_to(outside)
    (inside / "ring").symlink_to("ring")
    found = scan(Source("s", inside))
    assert paths(found) == ["a.md", "far/c.md", "link.md", "sub/b.md"]
    assert len(found.problems) == 1
    assert found.problems[0].startswith("s/ring cannot be read")


def test_what_could_not_be_looked_at_is_not_gone(tmp_path: Path) -> None:
    write(tmp_path, "a.md")
    (tmp_path / "mounted").symlink_to(tmp_path / "missing")
    found = scan(Source("s", tmp_path))
    assert found.problems == ["s/mounted cannot be read (its link leads nowhere); its documents were left as they are"]
    assert not found.knows("mounted/a.md")
    assert not found.knows("mounted")
    assert found.knows("mounted2/a.md")
    assert found.knows("gone.md")


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that other users reach too: pytest's own are private."""
    folder = Path(tempfile.mkdtemp(prefix="sources"))
    folder.chmod(0o755)
    yield folder
    for path in folder.rglob("*"):
        if path.is_dir():
            path.chmod(0o755)
    shutil.rmtree(folder)


@contextmanager
def without_rights() -> Iterator[None]:
    """As a user whom file permissions stop; root is not stopped by any."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_folder_without_permission_is_a_problem_and_not_the_end(open_folder: Path) -> None:
    write(open_folder, "a.md", "shut/b.md", "z/c.md")
    (open_folder / "shut").chmod(0)
    with without_rights():
        found = scan(Source("s", open_folder))
    assert paths(found) == ["a.md", "z/c.md"]
    assert found.problems == ["s/shut cannot be read (permission denied); its documents were left as they are"]
    assert not found.knows("shut/b.md")
    assert found.knows("z/c.md")


def test_a_file_and_a_source_without_permission_are_refused_with_a_sentence(open_folder: Path) -> None:
    write(open_folder, "a.md", "shut/b.md")
    (open_folder / "a.md").chmod(0)
    (open_folder / "shut").chmod(0)
    file = the_file(open_folder, "a.md")
    with without_rights():
        with pytest.raises(UnreadableFile, match=r"^s/a.md cannot be read: permission denied$"):
            read_bytes(file, 1)
        with pytest.raises(SourceUnavailable) as error:
            scan(Source("t", open_folder / "shut"))
    assert error.value.reason == (
        f"source 't' (KNOWLEDGE_SOURCES) cannot be read: {open_folder}/shut: permission denied; "
        "nothing of this source was changed"
    )


def test_names_that_are_not_utf8_become_storable_and_stay_distinct(tmp_path: Path) -> None:
    folder = os.fsencode(tmp_path)
    for name in (b"a\xff.md", b"a%FF.md", b"100%.md", b"n\nl.md", "智云.md".encode()):
        Path(os.fsdecode(folder + b"/" + name)).write_text("x")
    found = scan(Source("s", tmp_path))
    assert sorted(paths(found)) == sorted(["a%FF.md", "a%25FF.md", "100%.md", "n%0Al.md", "智云.md"])
    for file in found.files:
        file.uri.encode()
        assert read_bytes(file, 1) == b"x"


@pytest.mark.parametrize("what", ["missing", "file", "empty"])
def test_a_source_without_documents_is_unavailable_and_says_that_nothing_changed(tmp_path: Path, what: str) -> None:
    write(tmp_path, "file", "empty/readme.pdf")
    with pytest.raises(SourceUnavailable) as error:
        scan(Source("s", tmp_path / what))
    assert isinstance(error.value, IntakeError)
    assert "'s'" in error.value.reason
    assert str(tmp_path / what) in error.value.reason
    assert error.value.reason.endswith("nothing of this source was changed")


# --- the signature --------------------------------------------------------------------------------------------------


def test_the_signature_changes_with_every_name_size_and_time_and_else_not(tmp_path: Path) -> None:
    write(tmp_path, "a.md", "b.md")
    sources = [Source("s", tmp_path), Source("t", tmp_path / "later")]
    seen = {signature(sources)}
    assert seen == {signature(sources)}
    write(tmp_path, "a.md", text="正文二")
    seen.add(signature(sources))
    os.utime(tmp_path / "b.md", ns=(1, 1))
    seen.add(signature(sources))
    (tmp_path / "b.md").rename(tmp_path / "c.md")
    seen.add(signature(sources))
    (tmp_path / "later").mkdir()
    seen.add(signature(sources))
    write(tmp_path / "later", "d.md")
    seen.add(signature(sources))
    seen.add(signature(sources[:1]))
    assert len(seen) == 7
    write(tmp_path, ".hidden.md", "not-a-document.pdf")
    assert signature(sources) in seen


# --- reading --------------------------------------------------------------------------------------------------------


def test_a_large_file_is_refused_unread_naming_the_setting(tmp_path: Path) -> None:
    write(tmp_path, "a.md")
    with (tmp_path / "a.md").open("wb") as file:
        file.truncate(3_000_000_000)  # sparse: reading it would take seconds and 3 GB
    with pytest.raises(UnreadableFile) as error:
        read_bytes(the_file(tmp_path, "a.md"), 20)
    assert error.value.reason == "s/a.md was not read: it has 3000.0 MB, more than KNOWLEDGE_MAX_FILE_MB=20 allows"


def test_a_file_of_just_the_limit_is_read(tmp_path: Path) -> None:
    write(tmp_path, "a.md", text="x" * 1_000_000)
    assert len(read_bytes(the_file(tmp_path, "a.md"), 1)) == 1_000_000


def test_a_file_that_went_or_became_a_pipe_is_one_sentence(tmp_path: Path) -> None:
    write(tmp_path, "a.md", "b.md")
    first, second = scan(Source("s", tmp_path)).files
    first.absolute.unlink()
    second.absolute.unlink()
    os.mkfifo(second.absolute)
    with pytest.raises(UnreadableFile, match=r"^s/a.md cannot be read: it was removed after the scan$"):
        read_bytes(first, 1)
    with pytest.raises(UnreadableFile, match=r"^s/b.md cannot be read: it is not a regular file$"):
        read_bytes(second, 1)


def test_a_file_that_is_being_written_is_never_read_as_a_mixture(tmp_path: Path) -> None:
    """A writer replaces the content in place all the time; what is read is one state of the file, or FileChanged."""
    path = tmp_path / "a.md"
    states = [bytes([letter]) * (500_000 + letter) for letter in b"abcd"]
    path.write_bytes(states[0])
    file = the_file(tmp_path, "a.md")
    stop = threading.Event()

    def rewrite() -> None:
        turn = 0
        while not stop.is_set():
            turn += 1
            content = states[turn % 4]
            with path.open("r+b") as handle:
                handle.truncate(0)
                for part in range(0, len(content), 60_000):
                    handle.write(content[part : part + 60_000])
                    handle.flush()
            time.sleep(0.02)

    writer = threading.Thread(target=rewrite)
    writer.start()
    outcomes: set[str] = set()
    try:
        for _ in range(25):
            content, reason = attempt(file, 1)
            assert len(set(content)) <= 1
            outcomes.add(reason)
    finally:
        stop.set()
        writer.join()
    assert outcomes <= {"", "s/a.md changed while it was read; it is taken in by the next run"}


def test_a_file_that_grows_without_end_is_changed_and_not_read_beyond_the_limit(tmp_path: Path) -> None:
    path = tmp_path / "a.md"
    path.write_bytes(b"x" * 900_000)
    file = the_file(tmp_path, "a.md")
    stop = threading.Event()

    def grow() -> None:
        with path.open("ab", buffering=0) as handle:
            while not stop.is_set() and handle.tell() < 50_000_000:
                handle.write(b"x" * 4096)

    writer = threading.Thread(target=grow)
    writer.start()
    try:
        reason = ""
        while not reason:
            content, reason = attempt(file, 2)
            assert len(content) <= 2_000_000
    finally:
        stop.set()
        writer.join()
    assert "changed while it was read" in reason or "KNOWLEDGE_MAX_FILE_MB=2" in reason
