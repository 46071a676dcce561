"""What the operating system says about this process and its machine, as far as it says it."""

import os
import platform
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

Object = dict[str, Any]


def described(data: Path) -> Object:
    """The `system` part of Qdrant's telemetry; sizes in KiB, of the disk under `data`."""
    system: Object = {
        "distribution": platform.system().lower(),
        "distribution_version": platform.release(),
        "is_docker": Path("/.dockerenv").exists(),
        "cores": os.cpu_count(),
        "disk_size": shutil.disk_usage(data).total // 1024,
        "cpu_flags": "",
    }
    with suppress(OSError, ValueError, AttributeError):
        system["ram_size"] = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 1024
    with suppress(OSError):
        release = platform.freedesktop_os_release()
        system |= {"distribution": release["ID"], "distribution_version": release.get("VERSION_ID")}
    return system


def resident_bytes() -> int | None:
    """The memory that this process occupies, or None where the system does not say (Linux does)."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError, AttributeError):
        return None


def process_figures() -> dict[str, int]:
    """Qdrant's `process_...` metrics; empty where there is no /proc."""
    try:
        status = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
        with Path("/proc/self/maps").open("rb") as maps:
            mapped = sum(1 for _ in maps)
        return {
            "process_threads": int(status[17]),
            "process_open_mmaps": mapped,
            "process_open_fds": sum(1 for _ in Path("/proc/self/fd").iterdir()),
            "process_minor_page_faults_total": int(status[7]),
            "process_major_page_faults_total": int(status[9]),
        }
    except (OSError, ValueError, IndexError):
        return {}
