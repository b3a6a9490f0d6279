"""Facts about this process from the operating system; None where it has none (on Windows)."""

import sys

if sys.platform != "win32":
    import resource


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


def most_open_files() -> int | None:
    """Return the maximum number of open files of this process; None also if it is unlimited."""
    if sys.platform != "win32":
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        return None if limit == resource.RLIM_INFINITY else limit
    return None
