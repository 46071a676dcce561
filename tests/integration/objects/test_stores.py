"""What every object store promises, in a folder and in S3: an object is there whole or not at all, whatever happens."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

import pytest

from objects.folder import FolderObjects
from objects.places import Place, open_store
from objects.s3 import S3Objects
from objects.store import ObjectMissing, ObjectStore, ObjectStoreError
from tests.support.faults.s3_faults import Faults, faulty
from zhiyun.repository import REPOSITORY
from zhiyun.settings import S3Settings

MEBIBYTE = 1 << 20
NOW = timedelta(0)
# Opens the store that its arguments name (place, endpoint) and does `{action}` with it.
PROGRAM = """
import sys
from pathlib import Path
from objects.places import Place, open_store
from zhiyun.settings import S3Settings
settings = S3Settings(endpoint_url=sys.argv[2], access_key_id="zhiyun", secret_access_key="a-secret")
store = open_store(Place("primary", sys.argv[1]), settings, "BACKUP_STORES")
def memory():
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) // 1024
"""


class Broken(Exception):
    """What a source of bytes raises."""


@pytest.fixture(params=["folder", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    kind: Literal["folder", "s3"] = request.param
    if kind == "folder":
        return Place("primary", f"file://{tmp_path / 'store'}")
    return Place("primary", f"s3://{request.getfixturevalue('s3_bucket')}/some/prefix")


@pytest.fixture
def store(place: Place, request: pytest.FixtureRequest) -> ObjectStore:
    settings = request.getfixturevalue("s3_settings") if place.url.startswith("s3://") else S3Settings()
    return open_store(place, settings, "BACKUP_STORES")


def content(store: ObjectStore, key: str) -> bytes:
    return b"".join(store.read(key))


def keys(store: ObjectStore, prefix: str = "") -> list[str]:
    return [found.key for found in store.list(prefix)]


def noise(mebibytes: int) -> Iterator[bytes]:
    for number in range(mebibytes):
        yield hashlib.sha256(str(number).encode()).digest() * (MEBIBYTE // 32)


def breaking_off(after: int) -> Iterator[bytes]:
    yield from noise(after)
    raise Broken("the source broke off")


def one_sentence(error: ObjectStoreError, *words: str) -> None:
    text = str(error)
    assert "\n" not in text
    assert text.endswith(".")
    assert "a-secret" not in text
    for word in words:
        assert word in text


@pytest.mark.parametrize("chunks", [[], [b""], [b"a"], [b"a", b"", b"bc"]])
def test_an_object_reads_as_it_was_written(store: ObjectStore, chunks: list[bytes]) -> None:
    assert store.put("points/one/manifest.json", iter(chunks)) == len(b"".join(chunks))
    assert content(store, "points/one/manifest.json") == b"".join(chunks)


def test_a_large_object_comes_and_goes_in_pieces(store: ObjectStore) -> None:
    assert store.put("large", noise(40)) == 40 * MEBIBYTE
    expected, read, longest = hashlib.sha256(), hashlib.sha256(), 0
    for chunk in noise(40):
        expected.update(chunk)
    for piece in store.read("large"):
        read.update(piece)
        longest = max(longest, len(piece))
    assert read.digest() == expected.digest()
    assert longest <= 4 * MEBIBYTE
    assert [found.size for found in store.list()] == [40 * MEBIBYTE]


@pytest.mark.parametrize("size", [0, 3, 20])
def test_a_source_that_breaks_off_leaves_what_was_there(store: ObjectStore, size: int) -> None:
    store.put("a/old", [b"old"])
    for key in ("a/old", "b/new"):
        with pytest.raises(Broken, match="broke off"):
            store.put(key, breaking_off(size))
    assert content(store, "a/old") == b"old"
    assert keys(store) == ["a/old"]
    assert store.sweep(NOW) == 0, "nothing was left behind"


def test_an_error_of_the_system_that_the_source_raises_is_not_the_stores(store: ObjectStore) -> None:
    def source() -> Iterator[bytes]:
        yield b"some"
        raise OSError(28, "no space left where the dump comes from")

    with pytest.raises(OSError, match="where the dump comes from"):
        store.put("dump", source())


def test_a_writer_that_is_killed_leaves_nothing_that_is_listed_and_is_swept(
    store: ObjectStore, place: Place, request: pytest.FixtureRequest
) -> None:
    store.put("points/x/dump", [b"old"])
    action = """
def chunks():
    for _ in range(40):
        yield bytes(1 << 20)
    print("writing", flush=True)
    sys.stdin.read()
store.put("points/x/dump", chunks())
"""
    with program(action, place, request) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"writing\n"
        if place.folder:
            assert store.sweep(NOW) == 0, "what a living process writes was swept away"
        assert keys(store) == ["points/x/dump"]
        writer.send_signal(signal.SIGKILL)
        writer.wait()
    assert keys(store) == ["points/x/dump"]
    assert content(store, "points/x/dump") == b"old"
    if place.folder:
        assert store.sweep(timedelta(days=1)) == 0, "it is not a day old"
    assert store.sweep(NOW) == 1
    assert store.sweep(NOW) == 0
    assert content(store, "points/x/dump") == b"old"


def test_writers_at_once_do_not_mix(store: ObjectStore) -> None:
    everybody = threading.Barrier(6)

    def write(number: int) -> None:
        everybody.wait()
        store.put("same", iter([bytes([number]) * 100_000] * 5))
        store.put(f"folder/{number}/own", [b"own"])
        store.delete([f"folder/{number}/own"])

    with ThreadPoolExecutor(6) as pool:
        for result in [pool.submit(write, number) for number in range(6)]:
            result.result()
    assert keys(store) == ["same"]
    assert content(store, "same") in [bytes([number]) * 500_000 for number in range(6)]


def test_a_listing_is_in_the_order_of_the_keys(store: ObjectStore) -> None:
    odd = ["a-b", "a.b/c", "a/b", "a/b.c", "a0", "文件/合同 条款.md", "文件/合同.md", "é", "with space/+%&=?#~"]
    names = odd + [f"many/{number:05d}" for number in range(1040)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: store.put(name, [b"x"]), names))
    assert keys(store) == sorted(names)
    assert keys(store, "a/") == ["a/b", "a/b.c"]
    assert keys(store, "many/0010") == [f"many/0010{number}" for number in range(10)]
    assert keys(store, "many/01") == [f"many/01{number:03d}" for number in range(40)]
    assert keys(store, "none") == []
    assert store.delete(iter(names)) == len(names)
    assert keys(store) == []


def test_what_is_deleted_is_gone_and_what_was_not_there_counts_too(store: ObjectStore) -> None:
    store.put("points/a/one", [b"1"])
    store.put("points/a/two", [b"2"])
    assert store.delete(["points/a/one", "points/b/none"]) == 2
    assert store.delete([]) == 0
    assert keys(store) == ["points/a/two"]
    assert store.stat("points/a/one") is None


def test_looking_at_one_object_tells_what_a_listing_tells(store: ObjectStore) -> None:
    before = datetime.now(UTC) - timedelta(seconds=2)
    store.put("文件/合同.md", [b"12345"])
    seen = store.stat("文件/合同.md")
    assert seen in list(store.list())
    assert seen is not None
    assert (seen.key, seen.size) == ("文件/合同.md", 5)
    assert before <= seen.modified <= datetime.now(UTC) + timedelta(seconds=2)
    assert store.stat("文件/合同") is None
    assert store.stat("文件") is None


def test_an_object_that_is_missing_is_told_apart(store: ObjectStore) -> None:
    store.put("there", [b"1"])
    with pytest.raises(ObjectMissing, match="primary") as raised:
        content(store, "points/none")
    one_sentence(raised.value, "points/none", store.url, "BACKUP_STORES")


def test_an_empty_store_has_nothing(store: ObjectStore) -> None:
    assert keys(store) == []
    assert store.stat("a") is None
    assert store.sweep(NOW) == 0
    assert store.delete(["a"]) == 1


@pytest.mark.parametrize("key", ["", "/a", "a/", "a//b", "../a", "a/../b", "a/./b", "a\0b"])
def test_a_key_that_leads_elsewhere_is_refused(store: ObjectStore, key: str) -> None:
    for use in (lambda: store.put(key, [b"x"]), lambda: content(store, key), lambda: store.stat(key)):
        with pytest.raises(ObjectStoreError, match="no key"):
            use()
    with pytest.raises(ObjectStoreError, match="no key"):
        store.delete([key])


def test_a_write_keeps_little_in_memory(place: Place, request: pytest.FixtureRequest) -> None:
    action = """
store.put("small", [b"x"])
before = memory()
store.put("large", (bytes(1 << 20) for _ in range(120)))
print(memory() - before)
"""
    with program(action, place, request) as writer:
        out, _ = writer.communicate()
    assert int(out) < 120, "MiB; four parts of 16 and what sending them takes"


def program(action: str, place: Place, request: pytest.FixtureRequest) -> subprocess.Popen[bytes]:
    """A process of its own with the store open."""
    endpoint = request.getfixturevalue("s3_server") if place.url.startswith("s3://") else ""
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM + action, place.url, endpoint],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )


# In a folder.


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", folder], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"a small file system cannot be mounted here ({mounted.stderr.strip()})")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_full_disk_is_one_sentence_and_leaves_the_old_object(small_disk: Path) -> None:
    store = FolderObjects("offsite", small_disk / "backups", "BACKUP_STORES")
    store.put("dump", [b"old"])
    free = store.free_bytes()
    assert free is not None
    assert MEBIBYTE < free <= 2 * MEBIBYTE
    with pytest.raises(ObjectStoreError, match="is full") as raised:
        store.put("dump", noise(4))
    one_sentence(raised.value, "offsite", store.url, "BACKUP_STORES", "untouched")
    assert content(store, "dump") == b"old"
    assert store.free_bytes() == free
    assert store.sweep(NOW) == 0


def test_a_disk_that_is_read_only_is_one_sentence(small_disk: Path) -> None:
    store = FolderObjects("offsite", small_disk / "backups", "BACKUP_STORES")
    store.put("dump", [b"old"])
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    for change in (lambda: store.put("dump", [b"new"]), lambda: store.delete(["dump"])):
        with pytest.raises(ObjectStoreError, match="read-only") as raised:
            change()
        one_sentence(raised.value, store.url, "BACKUP_STORES")
    assert content(store, "dump") == b"old"


def test_a_folder_without_permission_is_one_sentence(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    (tmp_path / "locked").mkdir(mode=0o500)
    with pytest.raises(ObjectStoreError, match="may not be used by this user") as raised:
        FolderObjects("offsite", tmp_path / "locked", "BACKUP_STORES").put("dump", [b"x"])
    one_sentence(raised.value, "BACKUP_STORES")


def test_a_disk_that_is_not_mounted_is_an_error_and_not_an_empty_store(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for folder in (tmp_path / "mnt" / "backup", tmp_path / "link"):
        store = FolderObjects("offsite", folder, "BACKUP_STORES")
        uses: list[Callable[[], object]] = [
            lambda: store.put("dump", [b"x"]),  # noqa: B023
            lambda: keys(store),  # noqa: B023
            lambda: content(store, "dump"),  # noqa: B023
            lambda: store.stat("dump"),  # noqa: B023
            lambda: store.delete(["dump"]),  # noqa: B023
            lambda: store.sweep(NOW),  # noqa: B023
            store.free_bytes,
        ]
        for use in uses:
            with pytest.raises(ObjectStoreError, match="mounted") as raised:
                use()
            assert not isinstance(raised.value, ObjectMissing)
            one_sentence(raised.value, "offsite", store.url, "BACKUP_STORES")
    assert not (tmp_path / "mnt").exists()


def test_what_is_in_a_folder_is_private_and_empty_folders_go(tmp_path: Path) -> None:
    store = FolderObjects("primary", tmp_path / "store")
    store.put("points/a/one", [b"1"])
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "store").rglob("*")}
    assert modes == {"points": 0o700, "a": 0o700, "one": 0o600}
    store.delete(["points/a/one"])
    assert list((tmp_path / "store").rglob("*")) == []


def test_a_folder_shows_files_only(tmp_path: Path) -> None:
    root = tmp_path / "store"
    (root / "lost+found").mkdir(parents=True)
    (root / "lost+found" / "x").touch()
    (root / "empty").mkdir()
    (root / "loop").symlink_to(root)
    (root / "nowhere").symlink_to(root / "none")
    os.mkfifo(root / "pipe")
    store = FolderObjects("primary", root)
    store.put("file", [b"1"])
    assert keys(store) == ["file"]
    for key in ("empty", "pipe"):
        assert store.stat(key) is None
        with pytest.raises(ObjectMissing):
            content(store, key)


def test_a_key_cannot_be_the_folder_of_another(tmp_path: Path) -> None:
    store = FolderObjects("primary", tmp_path / "store")
    store.put("a/b", [b"1"])
    for key in ("a", "a/b/c", "a/.unfinished-1-x"):
        with pytest.raises(ObjectStoreError) as raised:
            store.put(key, [b"2"])
        one_sentence(raised.value)
    assert keys(store) == ["a/b"]


# In S3, with everything that can go wrong on the way.


@pytest.fixture
def wire(s3_server: str) -> Iterator[Faults]:
    with faulty(s3_server) as wire:
        yield wire


@pytest.fixture
def bucket(wire: Faults, s3_bucket: str, s3_settings: S3Settings) -> S3Objects:
    """A store behind the wire, with an object `old`."""
    store = behind(wire, s3_bucket, s3_settings)
    store.put("old", [b"old"])
    return store


def behind(wire: Faults, bucket: str, settings: S3Settings, timeout: float = 20) -> S3Objects:
    # A busy machine takes seconds to answer: a short timeout is for the test of slowness only.
    changed = settings.model_copy(update={"endpoint_url": wire.url, "attempts": 2, "timeout": timeout})
    return S3Objects("offsite", bucket, "zhiyun", changed, "BACKUP_STORES")


def nothing_new(wire: Faults, bucket: S3Objects) -> None:
    """Only the old object is there, and no unfinished upload."""
    wire.mend()
    assert keys(bucket) == ["old"]
    assert content(bucket, "old") == b"old"
    assert bucket.sweep(NOW) == 0


def test_an_error_that_passes_is_got_over(wire: Faults, bucket: S3Objects) -> None:
    wire.fail(1, 503, "SlowDown")
    bucket.put("new", noise(20))
    wire.fail(1)
    assert keys(bucket) == ["new", "old"]


def test_a_store_that_only_answers_errors_is_one_sentence(wire: Faults, bucket: S3Objects) -> None:
    wire.fail()
    uses: list[Callable[[], object]] = [
        lambda: bucket.put("old", [b"new"]),
        lambda: content(bucket, "old"),
        lambda: keys(bucket),
        lambda: bucket.stat("old"),
        lambda: bucket.delete(["old"]),
        lambda: bucket.sweep(NOW),
    ]
    for use in uses:
        with pytest.raises(ObjectStoreError) as raised:
            use()
        one_sentence(raised.value, "offsite", bucket.url, "500 InternalError", "S3_ATTEMPTS", "S3_ENDPOINT_URL")
    nothing_new(wire, bucket)


@pytest.mark.parametrize("part", ["uploads", "partNumber=2", "POST"])
def test_an_upload_that_fails_on_the_way_is_aborted(wire: Faults, bucket: S3Objects, part: str) -> None:
    """When it begins, at its second part, when it is to be completed."""
    wire.only = lambda method, path: part in path or (part == method and "uploadId" in path)
    wire.fail()
    for key in ("old", "new"):
        with pytest.raises(ObjectStoreError, match="untouched"):
            bucket.put(key, noise(40))
    nothing_new(wire, bucket)


def test_an_answer_that_is_lost_is_no_failure(wire: Faults, bucket: S3Objects) -> None:
    """The upload was completed, and a second try finds no upload."""
    wire.only = lambda method, path: method == "POST" and "uploadId" in path
    wire.lose_answers(1)
    assert bucket.put("new", noise(20)) == 20 * MEBIBYTE
    assert bucket.stat("new") is not None
    assert bucket.sweep(NOW) == 0


def test_a_store_that_is_too_slow_is_one_sentence(
    wire: Faults, bucket: S3Objects, s3_bucket: str, s3_settings: S3Settings
) -> None:
    impatient = behind(wire, s3_bucket, s3_settings, timeout=0.5)
    wire.delay(1.5)
    with pytest.raises(ObjectStoreError, match="S3_TIMEOUT") as raised:
        content(impatient, "old")
    one_sentence(raised.value, "offsite", bucket.url, "0.5 s")


def test_a_body_that_is_cut_is_taken_up_where_it_broke(wire: Faults, bucket: S3Objects) -> None:
    bucket.put("large", noise(6))
    wire.seen.clear()
    wire.cut(after=2 * MEBIBYTE + 1000)
    assert content(bucket, "large") == b"".join(noise(6))
    assert len(wire.seen) == 3


def test_a_body_that_is_always_cut_at_once_is_one_sentence(wire: Faults, bucket: S3Objects) -> None:
    bucket.put("large", noise(2))
    wire.cut(after=100)
    with pytest.raises(ObjectStoreError, match=r"after byte \d+ of 2097152") as raised:
        content(bucket, "large")
    one_sentence(raised.value, "offsite", bucket.url)


def test_an_object_that_is_replaced_while_it_is_read_is_not_mixed(wire: Faults, bucket: S3Objects) -> None:
    bucket.put("large", noise(6))
    wire.cut(after=2 * MEBIBYTE + 1000, times=1)
    reader = bucket.read("large")
    next(reader)
    bucket.put("large", [bytes(6 * MEBIBYTE)])
    with pytest.raises(ObjectStoreError, match="another object"):
        list(reader)


@pytest.mark.parametrize("code", ["InvalidAccessKeyId", "SignatureDoesNotMatch", "AccessDenied"])
def test_credentials_that_are_refused_are_one_sentence(wire: Faults, bucket: S3Objects, code: str) -> None:
    wire.fail(status=403, code=code)
    with pytest.raises(ObjectStoreError, match=code) as raised:
        bucket.put("old", [b"new"])
    one_sentence(raised.value, "offsite", bucket.url, "S3_ACCESS_KEY_ID", "untouched")


def test_a_key_without_its_secret_is_one_sentence(s3_bucket: str, s3_settings: S3Settings) -> None:
    settings = s3_settings.model_copy(update={"secret_access_key": ""})
    with pytest.raises(ObjectStoreError, match="S3_SECRET_ACCESS_KEY") as raised:
        keys(S3Objects("offsite", s3_bucket, "", settings))
    one_sentence(raised.value, "without credentials")


def test_a_bucket_that_does_not_exist_is_one_sentence(s3_settings: S3Settings) -> None:
    store = S3Objects("offsite", "no-such-bucket", "", s3_settings, "BACKUP_STORES")
    for use in (
        lambda: store.put("a", [b"x"]),
        lambda: content(store, "a"),
        lambda: keys(store),
        lambda: store.stat("a"),
    ):
        with pytest.raises(ObjectStoreError, match="no-such-bucket does not exist") as raised:
            use()
        assert not isinstance(raised.value, ObjectMissing)
        one_sentence(raised.value, "offsite", "s3://no-such-bucket", "BACKUP_STORES")


@pytest.mark.parametrize(
    "endpoint", ["http://someone:a-secret@127.0.0.1:1", "http://127.0.0.1:1", "http://127.0.0.1:99999", "http://"]
)
def test_an_address_where_no_store_is_is_one_sentence(s3_settings: S3Settings, endpoint: str) -> None:
    settings = s3_settings.model_copy(update={"endpoint_url": endpoint, "attempts": 1})
    with pytest.raises(ObjectStoreError, match="S3_ENDPOINT_URL") as raised:
        S3Objects("offsite", "bucket", "", settings).put("a", [b"x"])
    one_sentence(raised.value, "offsite", "s3://bucket")


def test_a_store_keeps_below_its_prefix(s3_bucket: str, s3_settings: S3Settings) -> None:
    whole = S3Objects("whole", s3_bucket, "", s3_settings)
    one, two = (S3Objects(name, s3_bucket, name, s3_settings) for name in ("one", "one-more"))
    one.put("a", [b"1"])
    two.put("a", [b"2"])
    assert keys(whole) == ["one-more/a", "one/a"]
    assert keys(one) == ["a"]
    one.delete(["a"])
    assert content(two, "a") == b"2"


def test_a_key_that_s3_cannot_keep_is_one_sentence(s3_bucket: str, s3_settings: S3Settings) -> None:
    for key in ("长" * 400, "\udcff"):
        with pytest.raises(ObjectStoreError, match="cannot keep") as raised:
            S3Objects("offsite", s3_bucket, "", s3_settings).put(key, [b"x"])
        one_sentence(raised.value)
