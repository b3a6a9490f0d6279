"""Facts from the operating system about this and other processes, where it has them."""

import os
import platform
import sys
from contextlib import suppress
from pathlib import Path

import platformdirs

if sys.platform != "win32":
    import resource

MOST_WORKERS = max(128, os.cpu_count() or 1)
"""Most processes that are started to read files; beyond it, a number is a slip of the hand, and the
machine would run out of memory before it could say so."""


def peak_memory_bytes(*, workers: bool = False) -> int | None:
    """Return the peak memory of this process so far, in bytes.

    Args:
        workers: whether to include finished child processes; the largest process counts.
    """
    if sys.platform != "win32":
        asked = [resource.RUSAGE_SELF, *([resource.RUSAGE_CHILDREN] if workers else [])]
        # The peak is in kilobytes, except on macOS.
        unit = 1 if sys.platform == "darwin" else 1024
        return unit * max(resource.getrusage(who).ru_maxrss for who in asked)
    return None


def processor() -> str:
    """Return the kind and, where the system tells it, the model of the processor."""
    with suppress(OSError):
        for line in (
            Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        ):
            name, _, model = line.partition(":")
            if name.strip() == "model name":
                return f"{platform.machine()} {model.strip()}"
    return f"{platform.machine()} {platform.processor()}"


def memory_bytes() -> int | None:
    """Return the memory of this machine in bytes; None if the system does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


CACHE_VARIABLE = "RHM_CACHE"
"""Environment variable with the folder of what rhm can make again."""


def cache_folder() -> Path:
    """Return the folder for what rhm keeps but can make again, which may not exist yet.

    It is the one that the system gives each user, or the one that ``CACHE_VARIABLE`` names.
    """
    chosen = os.environ.get(CACHE_VARIABLE)
    return Path(chosen) if chosen else Path(platformdirs.user_cache_path("rhm"))


def most_open_files() -> int | None:
    """Return the maximum number of open files of this process; None also if it is unlimited."""
    if sys.platform != "win32":
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        return None if limit == resource.RLIM_INFINITY else limit
    return None


def opened_elsewhere(path: Path) -> bool:
    """Return whether another process of this user on this machine has a file open.

    Only Linux tells; elsewhere, and for the processes of other users, the answer is False.
    """
    try:
        wanted = os.stat(path)
        processes = [name for name in os.listdir("/proc") if name.isdigit()]
    except OSError:
        return False
    own = str(os.getpid())
    return any(_has_open(process, wanted) for process in processes if process != own)


def _has_open(process: str, wanted: os.stat_result) -> bool:
    try:
        folder = f"/proc/{process}/fd"
        for descriptor in os.listdir(folder):
            with suppress(OSError):
                if os.path.samestat(os.stat(f"{folder}/{descriptor}"), wanted):
                    return True
    except OSError:
        pass  # it has ended, or belongs to another user
    return False
