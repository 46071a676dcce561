"""A snapshot's file: what was packed comes out again, or nothing does."""

import random
from pathlib import Path

import pytest

from embedded.qdrant.errors import ApiError
from embedded.qdrant.settings.config import CollectionConfig
from embedded.qdrant.shards.archives import FORMAT, Description, pack, unpack


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """The archive of a folder with a file that packs well and one that does not."""
    shard = tmp_path / "from"
    (shard / "segments").mkdir(parents=True)
    (shard / "empty").mkdir()
    (shard / "segments" / "noise").write_bytes(random.Random(1).randbytes(20_000))
    (shard / "segments" / "holes").write_bytes(bytes(200_000) + b"end")
    pack(Description(FORMAT, "1", "c", CollectionConfig(), {"live_release": 7}), shard, tmp_path / "archive")
    return tmp_path / "archive"


def contents(folder: Path) -> dict[Path, bytes | None]:
    return {path.relative_to(folder): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def test_what_was_packed_comes_out(archive: Path, tmp_path: Path) -> None:
    description = unpack(archive, tmp_path / "to", reserve=0)
    assert description == Description(FORMAT, "1", "c", CollectionConfig(), {"live_release": 7})
    assert contents(tmp_path / "to") == contents(tmp_path / "from")


def test_a_flipped_bit_anywhere_is_noticed_or_changes_nothing(archive: Path, tmp_path: Path) -> None:
    whole, chance, refused = archive.read_bytes(), random.Random(2), 0
    for turn in range(300):
        at = chance.randrange(len(whole))
        archive.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << chance.randrange(8)]) + whole[at + 1 :])
        try:
            unpack(archive, tmp_path / f"to-{turn}", reserve=0)
        except ApiError as error:
            refused += error.status == 400 and "snapshot" in error.message
        else:
            # Zeros may be packed as a copy of these zeros or of those.
            assert contents(tmp_path / f"to-{turn}") == contents(tmp_path / "from"), at
    assert refused > 250


def test_a_file_cut_short_anywhere_is_noticed(archive: Path, tmp_path: Path) -> None:
    whole, chance = archive.read_bytes(), random.Random(3)
    for turn, end in enumerate([0, 1, len(whole) - 1, *(chance.randrange(len(whole)) for _ in range(30))]):
        archive.write_bytes(whole[:end])
        with pytest.raises(ApiError, match="snapshot"):
            unpack(archive, tmp_path / f"to-{turn}", reserve=0)
