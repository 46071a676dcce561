"""The guard: what would fill a disk does not start, so that the chat keeps the room that is left."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from orchestration.capacity.disk import Filesystem, Volume, measure, size, volumes
from zhiyun.settings import CapacitySettings


class NoRoom(RuntimeError):
    """A disk is too full to start with this. One sentence that names the disk and what can be done."""


def room_to_work(settings: CapacitySettings, needs: int = 0, *, beside: Iterable[Path] = ()) -> None:
    """Nothing, where work that writes `needs` bytes may start. Raises NoRoom where a disk is past critical or would be.

    Watched are the folders of CAPACITY_VOLUMES (see `disk.volumes`); `beside` names more, such as the store that a
    backup goes to. The bytes are counted against each disk, since nobody knows how they will be shared. A folder that
    is not there yet counts as its parent; one that cannot be measured keeps nobody from working. Changes nothing.
    """
    more = [Volume(str(path), _existing(path)) for path in beside]
    for filesystem in measure([*volumes(settings), *more]).filesystems:
        if filesystem.percent > settings.critical_percent:
            raise NoRoom(_sentence(filesystem, f"is {filesystem.percent:.1f} % full", settings))
        after = filesystem.percent_after(needs)
        if after > settings.critical_percent:
            how = f"has {size(filesystem.free)} free and would be {after:.1f} % full after {size(needs)} more"
            raise NoRoom(_sentence(filesystem, how, settings))


def _sentence(filesystem: Filesystem, how: str, settings: CapacitySettings) -> str:
    where = ", ".join(
        str(volume.path) if volume.name == str(volume.path) else f"{volume.name} ({volume.path})"
        for volume in filesystem.volumes
    )
    what = " of its inodes" if filesystem.by_inodes else ""
    return (
        f"The disk of {where} {how}{what}, past CAPACITY_CRITICAL_PERCENT={settings.critical_percent:g}; nothing was "
        "started and nothing was changed. Make room there (zhiyun's asset `storage_sizes` shows what is large), then start again."
    )


def _existing(path: Path) -> Path:
    path = path.expanduser().absolute()
    while not path.exists() and path != path.parent:
        path = path.parent
    return path
