"""The system: what it says of this process, and None where it does not (on Windows)."""

import sys

if sys.platform != "win32":
    import resource


def peak_memory_bytes(*, workers: bool = False) -> int | None:
    """Return the most memory that this process has held at a time so far, in bytes.

    Args:
        workers: look at finished child processes too, and return that of the largest process.
    """
    if sys.platform != "win32":
        asked = [resource.RUSAGE_SELF, *([resource.RUSAGE_CHILDREN] if workers else [])]
        # The peak is in kilobytes, except on macOS.
        unit = 1 if sys.platform == "darwin" else 1024
        return unit * max(resource.getrusage(who).ru_maxrss for who in asked)
    return None


def most_open_files() -> int | None:
    """Return how many files this process may hold open at a time; None also without a limit."""
    if sys.platform != "win32":
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        return None if limit == resource.RLIM_INFINITY else limit
    return None
