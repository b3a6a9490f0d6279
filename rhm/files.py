"""Files that appear under their final names only when they are complete."""

import errno
import os
import platform
import shutil
import stat
import tempfile
import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

import filelock

from rhm.errors import OutputError, RhmError

SIDE_FILES = (".aux.xml", ".ovr", ".msk")
"""Suffixes that GDAL appends to a file's name for its statistics, overviews and mask."""

_BEGUN, _PREFIX, _ENDED = ".rhm-begun.", ".rhm.", ".rhm-ended."
_LOCK = "lock"
_MACHINE = f"{zlib.crc32(platform.node().encode(errors='replace')):08x}"
_DAY_S = 24 * 3600.0
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
"""Errors that only writing can cause, and never the reading of the input."""


def is_temporary(path: Path) -> bool:
    """Return whether a path has the name of a folder for temporary files, which may be removed."""
    return path.name.startswith((_BEGUN, _PREFIX, _ENDED))


@contextmanager
def staged_paths(targets: Sequence[Path], *, within: Path | None = None) -> Iterator[list[Path]]:
    """Yield temporary paths, which are all renamed to the targets on success.

    Temporary files have the suffix of their target, because several writers choose their format by
    it. Otherwise their names are plain, because some writers misread unusual names. If the block
    raises, the temporary files are removed and existing files at the targets are left unchanged.
    The ``SIDE_FILES`` of a replaced file describe pixels that no longer exist, and are removed.

    Args:
        targets: final paths, all in one folder, in the order in which files are renamed to them.
        within: folder for the temporary files, on the same file system; by default that of the
            targets.

    Raises:
        OutputError: the folder cannot be created or written to, or the disk is full.
    """
    with _scratch(targets[0].parent, within) as folder:
        temporary = [folder / f"part{n}{path.suffix}" for n, path in enumerate(targets)]
        try:
            yield temporary
        except Exception as error:
            reason = _no_room(error, folder)
            if reason is None:
                raise
            raise OutputError(f"cannot write {targets[0]}: {reason}") from error
        for target in targets:
            check_kind(target)
        probe = folder / "mode"
        for source, target in zip(temporary, targets, strict=True):
            try:
                probe.touch()
                # Some writers create files that only their owner can read.
                source.chmod((target if target.exists() else probe).stat().st_mode)
                _replace(source, target)
            except OSError as error:
                raise OutputError(f"cannot write {target}: {error.strerror or error}") from error


def _replace(source: Path, target: Path) -> None:
    """Rename a file over another, whose side files go to the folder of the source."""
    sides = [target.with_name(target.name + suffix) for suffix in SIDE_FILES]
    # First: if the process is killed in between, nothing describes the wrong pixels.
    moved = [
        (side, side.rename(source.with_name(f"old{side.name}"))) for side in sides if side.exists()
    ]
    try:
        os.replace(source, target)
    except OSError:
        for side, away in moved:
            away.rename(side)
        raise


@contextmanager
def atomic_path(target: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path, which is renamed to ``target`` on success; see ``staged_paths``.

    Raises:
        OutputError: the folder cannot be created or written to, or the disk is full.
    """
    with staged_paths([Path(target)]) as (temporary,):
        yield temporary


def check_writable(target: Path) -> None:
    """Check that a file can be written, before work on its content begins; nothing is created.

    Raises:
        OutputError: the target is a folder or a device, its name is impossible, or its folder
            cannot be created or written to.
    """
    check_kind(target)
    check_folder_writable(target.parent)


def check_kind(target: Path) -> None:
    """Check that a target is a file if it exists, whether or not it can be written.

    Raises:
        OutputError: it is a folder, or a pipe or device, which a file would replace, or its name is
            impossible.
    """
    try:
        mode = target.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return  # what is in the way is told by whoever looks at its folder
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise OutputError(f"cannot write {target}: {reason}") from error
    if stat.S_ISDIR(mode):
        raise OutputError(f"cannot write {target}: it is a folder")
    if not stat.S_ISREG(mode):
        raise OutputError(f"cannot write {target}: it is a pipe or device, and no file")


def check_folder_writable(folder: Path) -> None:
    """Check that files can be written to a folder, which need not exist and is not created.

    Raises:
        OutputError: it is no folder, its name is impossible, or it cannot be created or written to.
    """
    try:
        folder.stat()
    except (FileNotFoundError, NotADirectoryError):
        pass  # it would be created in the first folder that exists
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise OutputError(f"cannot write to {folder}: {reason}") from error
    there = next(filter(os.path.lexists, (folder, *folder.parents)), folder)
    if not os.path.isdir(there):
        raise OutputError(f"cannot write to {there}: it is not a folder")
    with _scratch(there, None):
        pass


def write_text(target: str | os.PathLike[str], text: str) -> None:
    """Write ``text`` as UTF-8 to ``target``, either completely or not at all.

    Raises:
        OutputError: the folder cannot be created or written to, or the disk is full.
    """
    with atomic_path(target) as temporary:
        temporary.write_text(text, encoding="utf-8")


@contextmanager
def _scratch(folder: Path, within: Path | None) -> Iterator[Path]:
    """Yield a folder for temporary files, because writers may add side files to their own.

    It is locked for as long as it has its name, so that what killed processes left behind can be
    told from what others are writing.
    """
    outer = within or folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(outer)
        made = Path(tempfile.mkdtemp(prefix=f"{_BEGUN}{_MACHINE}-{os.getpid()}-", dir=outer))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise OutputError(f"cannot write to {folder}: {reason}") from error
    lock = filelock.FileLock(made / _LOCK)
    with suppress(OSError, NotImplementedError):  # a file system without locks
        lock.acquire(timeout=0)
    scratch = _renamed(made, _PREFIX)
    try:
        yield scratch
    finally:
        ended = _renamed(scratch, _ENDED)
        shutil.rmtree(ended, ignore_errors=True)
        lock.release()
        # Windows keeps a file that is open.
        shutil.rmtree(ended, ignore_errors=True)


@cache
def _remove_abandoned(folder: Path) -> None:
    """Remove temporary files that killed processes left in a folder, once per process."""
    for leftover in folder.glob(f"{_PREFIX}*"):
        with suppress(OSError, NotImplementedError, filelock.Timeout):
            if (leftover / _LOCK).is_file():
                with filelock.FileLock(leftover / _LOCK, timeout=0):
                    shutil.rmtree(_renamed(leftover, _ENDED), ignore_errors=True)
    for leftover in [*folder.glob(f"{_BEGUN}*"), *folder.glob(f"{_ENDED}*")]:
        with suppress(OSError):
            if _is_orphan(leftover) or time.time() - leftover.stat().st_mtime > _DAY_S:
                shutil.rmtree(leftover, ignore_errors=True)


def _is_orphan(folder: Path) -> bool:
    """Return whether the process that made a temporary folder has surely ended."""
    machine, _, rest = folder.name.rpartition(".")[2].partition("-")
    process = rest.partition("-")[0]
    # On Windows, this function of the system would end the process.
    if os.name != "posix" or machine != _MACHINE or not process.isdecimal():
        return False
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):
        pass
    return False


def _renamed(folder: Path, prefix: str) -> Path:
    """Give a temporary folder another prefix, where that is possible while a file in it is open."""
    target = folder.with_name(prefix + folder.name.rpartition(".")[2])
    try:
        return folder.rename(target)
    except OSError:
        return folder


def _no_room(error: Exception, folder: Path) -> str | None:
    """Return why a failed writer could not write on, or None if that is not why it failed.

    Few writers report that the disk is full, so one of their files is made to grow a little.
    """
    if isinstance(error, RhmError) and not isinstance(error, OutputError):
        return None
    if isinstance(error, OSError) and error.errno in NO_ROOM:
        return error.strerror
    for reason in map(os.strerror, NO_ROOM):
        if reason in str(error):
            return reason
    for part in [*folder.glob("part*"), folder / "probe"]:
        try:
            with part.open("ab") as file:
                file.write(bytes(1 << 22))
        except OSError as full:
            if full.errno in NO_ROOM:
                return full.strerror
    return None
