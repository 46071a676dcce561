"""This machine: what is installed, disks, memory, processor, and what may be read and written."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
import time
from collections.abc import Generator, Iterator
from pathlib import Path

import psutil
from packaging.requirements import Requirement

from console.doctor.kinds import Finding, Kind
from console.doctor.site import Site, attempt
from knowledge.documents.sources import parse_sources
from orchestration.capacity import disk, memory
from zhiyun.repository import REPOSITORY
from zhiyun.settings import BackupSettings, CapacitySettings, KnowledgeSettings, load

_LOOK_SECONDS = 1.0
_BUSY_PERCENT = 95.0
_STOLEN_PERCENT = 20.0
_HELD_SHARE = 0.5
_WAIT_PERCENT = 40.0
_NEEDED_GIB = 1.0
_SPARE_GIB = 0.5

WELL = Kind(
    "machine.well", "ok",
    ("zhiyun {version}, Python {python}, {system}; {cores} cores {busy} % busy, {free} of memory free",
     "zhiyun {version}，Python {python}，{system}；{cores} 核，占用 {busy} %，空闲内存 {free}"),
)  # fmt: skip
DISK_WELL = Kind(
    "machine.disk_well", "ok",
    ("{where}: {percent} % of {total} used, {free} free", "{where}：{total} 已用 {percent} %，剩余 {free}"),
)  # fmt: skip
PYTHON = Kind(
    "machine.python", "error",
    ("Python {python} runs this, and 3.11 or 3.12 is needed.", "当前为 Python {python}，需要 3.11 或 3.12。"),
    ("`make clean; make setup PYTHON=python3.11`", "`make clean; make setup PYTHON=python3.11`"),
)  # fmt: skip
PACKAGES = Kind(
    "machine.packages", "warning",
    ("Installed packages are not those of requirements.lock: {packages}.", "已安装的包与 requirements.lock 不一致：{packages}。"),
    ("`make setup`", "`make setup`"),
)  # fmt: skip
DISK = Kind(
    "machine.disk", "warning",
    ("{where}: {percent} % of {total} used, {free} free. {effect}", "{where}：{total} 已用 {percent} %，剩余 {free}。{effect_zh}"),
    ("Make room there: `zhiyun backup prune`, old logs, `df -h`; or move the folder to a larger disk.",
     "腾出空间：`zhiyun backup prune`、清理旧日志、`df -h`；或把目录移到更大的磁盘。"),
)  # fmt: skip
DISK_UNSEEN = Kind(
    "machine.disk_unseen", "note",
    ("{told}", "有目录无法测量：{told}"),
    ("Name the folders in CAPACITY_VOLUMES.", "在 CAPACITY_VOLUMES 中写明目录。"),
)  # fmt: skip
MEMORY = Kind(
    "machine.memory", "warning",
    ("{service} uses {used} of {limit} of memory, {percent} % ({source}).", "{service} 已用内存 {used}/{limit}，{percent} %（{source}）。"),
    ("Restart what has grown, or give it more: the limits are CAPACITY_MEMORY_*_GB (or its container's).",
     "重启占用增长的服务，或提高上限：CAPACITY_MEMORY_*_GB（或其容器的限制）。"),
)  # fmt: skip
NO_MEMORY = Kind(
    "machine.memory_short", "error",
    ("Only {free} of memory is free, and about {needed} are needed: services are killed, or do not start. Most have: {most}.",
     "空闲内存只剩 {free}，约需 {needed}：会被系统终止或无法启动。占用最多的：{most}。"),
    ("Stop what is not needed, or give this machine more memory.", "停止不需要的程序，或增加内存。"),
)  # fmt: skip
KILLED = Kind(
    "machine.killed_for_memory", "note",
    ("The kernel has killed {count} processes because memory ran out, since this machine (or container) was started.",
     "自本机（或容器）启动以来，内核因内存不足终止过 {count} 个进程。"),
    ("`dmesg -T | grep -i 'killed process'` says which and when; give them more memory, or lower what they may use.",
     "`dmesg -T | grep -i 'killed process'` 可查是哪些、何时；增加内存，或降低其用量。"),
)  # fmt: skip
THROTTLED = Kind(
    "machine.processor_throttled", "warning",
    ("This container was held back in {share} % of its time slices of the last second: it may use no more of the processors.",
     "最近一秒内，本容器在 {share} % 的时间片中被限制使用处理器。"),
    ("Raise its limit (`docker update --cpus N CONTAINER`), or lower SERVING_WORKERS.",
     "提高其限制（`docker update --cpus N 容器`），或调低 SERVING_WORKERS。"),
)  # fmt: skip
BUSY = Kind(
    "machine.processor", "warning",
    ("All {cores} processor cores are busy ({busy} %), and work waits for them. Most take: {most}.",
     "{cores} 个处理器核心全部繁忙（{busy} %），任务在排队。占用最多的：{most}。"),
    ("Stop or move what is not needed: `top -o %CPU`; else more cores, or SERVING_WORKERS on another machine.",
     "停止或迁走不需要的程序：`top -o %CPU`；否则增加核心，或把对话服务放到另一台机器。"),
)  # fmt: skip
STOLEN = Kind(
    "machine.processor_stolen", "warning",
    ("The host gives {stolen} % of this machine's processor time to others.", "宿主机把本机 {stolen} % 的处理器时间分给了别人。"),
    ("Ask whoever runs the host; `vmstat 5` shows it as `st`.", "联系宿主机管理方；`vmstat 5` 的 `st` 列可见。"),
)  # fmt: skip
DISK_BUSY = Kind(
    "machine.disk_busy", "warning",
    ("The processors wait {wait} % of their time for a disk.", "处理器有 {wait} % 的时间在等待磁盘。"),
    ("`iostat -x 5` says which disk; backups and maintenance are in the Dagster UI.", "`iostat -x 5` 可查是哪块盘；备份和维护见 Dagster 界面。"),
)  # fmt: skip
NOT_WRITABLE = Kind(
    "machine.not_writable", "error",
    ("{setting}: {folder} cannot be written to by user {user}: {reason}.", "{setting}：用户 {user} 无法写入 {folder}：{reason}。"),
    ("See whose it is and how its disk is mounted: `ls -ld {folder}; findmnt -T {folder}`; run zhiyun as its owner, or set "
     "{setting} to another folder.",
     "查看属主与挂载方式：`ls -ld {folder}; findmnt -T {folder}`；以属主身份运行 zhiyun，或把 {setting} 设为其他目录。"),
)  # fmt: skip
NOT_READABLE = Kind(
    "machine.not_readable", "error",
    ("{setting}: {folder} cannot be read by user {user}: {reason}.", "{setting}：用户 {user} 无法读取 {folder}：{reason}。"),
    ("Make it readable: `chmod -R u+rX {folder}`; or correct {setting}.", "使其可读：`chmod -R u+rX {folder}`；或改正 {setting}。"),
)  # fmt: skip
NOT_THERE = Kind(
    "machine.folder_missing", "error",
    ("{setting}: {folder} does not exist.", "{setting}：{folder} 不存在。"),
    ("Correct {setting}, or mount the disk that it is on: `findmnt`; a relative folder is below the working directory.",
     "改正 {setting}，或挂载其所在磁盘：`findmnt`；相对路径以工作目录为准。"),
)  # fmt: skip
EXPOSED = Kind(
    "machine.secret_exposed", "warning",
    ("{setting}: {file} can be read by every user of this machine.", "{setting}：本机所有用户都能读取 {file}。"),
    ("`chmod 600 {file}`", "`chmod 600 {file}`"),
)  # fmt: skip

_EFFECTS = {
    "warning": ("", ""),
    "serious": ("It will be full soon.", "即将写满。"),
    "critical": (
        "Ingestion and backups do not start; PostgreSQL stops when it is full.",
        "入库与备份不再启动；写满后 PostgreSQL 将停止。",
    ),
}


def check(site: Site) -> Iterator[Finding]:
    """Everything that can be seen from here, whatever runs."""
    busy = yield from _processor()
    yield from _versions()
    yield from _disks()
    yield from _memory(site)
    yield from _permissions(site)
    yield WELL(
        version=_version("zhiyun") or "?", python=platform.python_version(), system=f"{platform.system()} {platform.release()}",
        cores=os.cpu_count() or 1, busy=f"{busy:.0f}", free=disk.size(_free()),
    )  # fmt: skip


def _processor() -> Generator[Finding, None, float]:
    """What the processors do for a second; gives how busy they are, in percent. The figures of others, not doctor's."""
    processes = {process.pid: process for process in psutil.process_iter() if process.pid != os.getpid()}
    for process in processes.values():
        attempt(process.cpu_percent, psutil.Error)
    mine, throttled = time.process_time(), _periods()
    began, before = time.monotonic(), psutil.cpu_times()
    time.sleep(_LOOK_SECONDS)
    times, cores = psutil.cpu_times(), os.cpu_count() or 1
    whole = (time.monotonic() - began) * cores
    own = time.process_time() - mine
    spent = {name: getattr(times, name, 0.0) - getattr(before, name, 0.0) for name in times._fields}
    idle = spent.get("idle", 0.0) + spent.get("iowait", 0.0)
    busy = max(0.0, min(100.0, 100 * (1 - (idle + own) / whole)))
    # One full second is a backup, or chance; work that waits for the processors is in the load of the last minute.
    if busy >= _BUSY_PERCENT and os.getloadavg()[0] > cores:
        shares = {pid: attempt(process.cpu_percent, psutil.Error) or 0.0 for pid, process in processes.items()}
        first = sorted(shares, key=lambda pid: -shares[pid])[:3]
        most = ", ".join(f"{_name(processes[pid])} ({pid}) {shares[pid]:.0f} %" for pid in first if shares[pid] >= 1)
        yield BUSY(cores=cores, busy=f"{busy:.0f}", most=most or "?")
    periods, held = (after - then for after, then in zip(_periods(), throttled, strict=True))
    if periods and held / periods >= _HELD_SHARE:
        yield THROTTLED(share=f"{100 * held / periods:.0f}")
    stolen = 100 * spent.get("steal", 0.0) / whole
    if stolen >= _STOLEN_PERCENT:
        yield STOLEN(stolen=f"{stolen:.0f}")
    waiting = 100 * spent.get("iowait", 0.0) / whole
    if waiting >= _WAIT_PERCENT:
        yield DISK_BUSY(wait=f"{waiting:.0f}")
    return busy


def _periods() -> tuple[int, int]:
    """(all, held back) time slices of this control group so far; zeros where it has no limit."""
    try:
        words = Path("/sys/fs/cgroup/cpu.stat").read_text().split()
        return int(words[words.index("nr_periods") + 1]), int(words[words.index("nr_throttled") + 1])
    except (OSError, ValueError, IndexError):
        return 0, 0


def _versions() -> Iterator[Finding]:
    if not (3, 11) <= sys.version_info[:2] < (3, 13):
        yield PYTHON(python=platform.python_version())
    lock = REPOSITORY / "requirements.lock"
    wanted = dict(
        line.split(";")[0].strip().split("==") for line in lock.read_text().splitlines() if "==" in line
    ) if lock.exists() else {}  # fmt: skip
    differing: list[str] = []
    for name, locked in wanted.items():
        found = _version(name)
        if found and found.split("+")[0] != locked and not (name == "torch" and _own_torch(found)):
            differing.append(f"{name} {found} (locked: {locked})")
    if differing:
        more = f" and {len(differing) - 5} more" if len(differing) > 5 else ""
        yield PACKAGES(packages=", ".join(differing[:5]) + more)


def _own_torch(version: str) -> bool:
    """Whether PyTorch of this version is a build of the operator's choice, which `make setup` leaves there as well."""
    ranges = [Requirement(one) for one in importlib.metadata.requires("zhiyun") or []]
    return not version.endswith("+cpu") and any(one.name == "torch" and version in one.specifier for one in ranges)


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _disks() -> Iterator[Finding]:
    settings = load(CapacitySettings)
    measured = attempt(lambda: disk.measure(disk.volumes(settings)), PermissionError)
    if measured is None:
        return
    for filesystem in measured.filesystems:
        level = disk.level(filesystem.percent, settings)
        told = {
            "where": ", ".join(f"{volume.name} ({volume.path})" for volume in filesystem.volumes),
            "percent": f"{filesystem.percent:.1f}", "free": disk.size(filesystem.free),
            "total": f"{filesystem.inodes:,} inodes" if filesystem.by_inodes else disk.size(filesystem.total),
        }  # fmt: skip
        if level == "ok":
            yield DISK_WELL(**told)
            continue
        effect, effect_zh = _EFFECTS[level]
        severity = "error" if level == "critical" else "warning"
        yield DISK(severity, **told, effect=effect, effect_zh=effect_zh)
    for problem in measured.problems:
        yield DISK_UNSEEN(told=problem)


def _memory(site: Site) -> Iterator[Finding]:
    settings = load(CapacitySettings)
    for one in memory.measure(settings):
        if one.service != "machine" and one.limit and one.percent >= settings.memory_percent:
            yield MEMORY(
                service=one.service, used=disk.size(one.used), limit=disk.size(one.limit),
                percent=f"{one.percent:.0f}", source=one.source,
            )  # fmt: skip
    whole = memory.machine()
    # What runs has what it needs; what is still to be started needs it free.
    starts = site.embedded and not site.running
    needed = int(_NEEDED_GIB * 1024**3) if starts else min(whole.limit // 20, int(_SPARE_GIB * 1024**3))
    if _free() < needed:
        yield NO_MEMORY(
            "error" if starts else "warning", free=disk.size(_free()), needed=disk.size(needed), most=_largest()
        )
    killed = _killed()
    if killed:
        yield KILLED(count=killed)


def _free() -> int:
    whole = memory.machine()
    return max(0, min(whole.limit - whole.used, psutil.virtual_memory().available))


def _largest() -> str:
    found = sorted(memory.running(), key=lambda process: -process.resident)[:3]
    return ", ".join(f"{process.name} ({process.pid}) {disk.size(process.resident)}" for process in found)


def _killed() -> int:
    """Processes that the kernel has killed for memory: in this control group, else since the machine's start."""
    for file in (Path("/sys/fs/cgroup/memory.events"), Path("/proc/vmstat")):
        try:
            words = file.read_text().split()
            return int(words[words.index("oom_kill") + 1])
        except (OSError, ValueError, IndexError):
            continue
    return 0


def _permissions(site: Site) -> Iterator[Finding]:
    if site.owner:
        return  # told by the area of the processes
    if site.embedded:
        yield from _writable("ZHIYUN_HOME", site.place.home)
        if site.place.home not in site.place.logs.parents:
            yield from _writable("LOG_DIR", site.place.logs)
        yield from _private("ZHIYUN_HOME", site.place.home / "passwords.json")
    sources = attempt(lambda: parse_sources(load(KnowledgeSettings).sources))
    for source in sources or ():
        yield from _readable("KNOWLEDGE_SOURCES", source.folder)
    backup = load(BackupSettings)
    if backup.key_file:
        file = Path(backup.key_file).expanduser()
        yield from _readable("BACKUP_KEY_FILE", file)
        yield from _private("BACKUP_KEY_FILE", file)


def _writable(setting: str, folder: Path) -> Iterator[Finding]:
    """A file is really written; of a folder that is not there yet, its parent is looked at."""
    existing = folder
    try:
        while not existing.exists() and existing != existing.parent:
            existing = existing.parent
        if existing == folder:
            trial = folder / f".doctor-{os.getpid()}"
            try:
                trial.write_bytes(b"\0" * 4096)
            finally:
                trial.unlink(missing_ok=True)
            return
        reason = (
            ""
            if existing.is_dir() and os.access(existing, os.W_OK)
            else f"{existing} is not a folder that it may write to"
        )
    except OSError as error:
        reason = error.strerror or str(error)
    if reason:
        yield NOT_WRITABLE(setting=setting, folder=folder, user=_user(), reason=reason)


def _readable(setting: str, path: Path) -> Iterator[Finding]:
    try:
        if path.is_dir():
            with os.scandir(path) as entries:
                next(entries, None)
        else:
            with path.open("rb") as stream:
                stream.read(1)
    except FileNotFoundError:
        yield NOT_THERE(setting=setting, folder=path)
    except OSError as error:
        yield NOT_READABLE(setting=setting, folder=path, user=_user(), reason=error.strerror or error)


def _private(setting: str, file: Path) -> Iterator[Finding]:
    mode = attempt(lambda: file.stat().st_mode, OSError)
    if mode is not None and mode & 0o004:
        yield EXPOSED(setting=setting, file=file)


def _user() -> str:
    return str(attempt(lambda: psutil.Process().username(), psutil.Error, KeyError) or os.getuid())


def _name(process: psutil.Process) -> str:
    """The program, of Python what it runs. No arguments: they may be secret."""
    words = attempt(process.cmdline, psutil.Error) or [str(attempt(process.name, psutil.Error) or "?")]
    program = Path(words[0].split()[0] if words[0].split() else "?").name
    if not program.startswith("python") or len(words) < 2:
        return program
    if words[1] == "-m" and len(words) > 2:
        return f"{program} -m {words[2]}"
    return program if words[1].startswith("-") else f"{program} {Path(words[1]).name}"
