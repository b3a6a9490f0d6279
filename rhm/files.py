"""Files that appear under their final names only when they are complete."""

import errno
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rhm.errors import OutputError

# Errors that only writing can cause, and never the reading of the input.
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)


@contextmanager
def staged_paths(targets: Sequence[Path], *, within: Path | None = None) -> Iterator[list[Path]]:
    """Yield temporary paths, which are all renamed to the targets on success.

    Temporary files have the suffix of their target, because several writers choose their format by
    it. Otherwise their names are plain, because some writers misread unusual names. If the block
    raises, the temporary files are removed and existing files at the targets are left unchanged.

    Args:
        targets: final paths, all in one folder, in the order in which files are renamed to them.
        within: folder for the temporary files, on the same file system; by default that of the
            targets.

    Raises:
        OutputError: the folder cannot be created or written to, or the disk is full.
    """
    folder = targets[0].parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Writers may add side files, so they get a folder of their own (on the same file system).
        scratch = tempfile.TemporaryDirectory(prefix=".rhm.", dir=within or folder)
    except OSError as error:
        raise OutputError(f"cannot write to {folder}: {error.strerror or error}") from error
    with scratch as name:
        temporary = [Path(name) / f"part{n}{path.suffix}" for n, path in enumerate(targets)]
        try:
            yield temporary
        except OSError as error:
            if error.errno in _NO_ROOM:
                raise OutputError(f"cannot write {targets[0]}: {error.strerror}") from error
            raise
        blocked = [target for target in targets if target.is_dir()]
        if blocked:
            raise OutputError(f"cannot write {blocked[0]}: it is a folder")
        probe = Path(name) / "mode"
        probe.touch()
        for source, target in zip(temporary, targets, strict=True):
            try:
                # Some writers create files that only their owner can read.
                source.chmod((target if target.exists() else probe).stat().st_mode)
                os.replace(source, target)
            except OSError as error:
                raise OutputError(f"cannot write {target}: {error.strerror or error}") from error


@contextmanager
def atomic_path(target: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path, which is renamed to ``target`` on success; see ``staged_paths``.

    Raises:
        OutputError: the folder cannot be created or written to, or the disk is full.
    """
    with staged_paths([Path(target)]) as (temporary,):
        yield temporary


def write_text(target: str | os.PathLike[str], text: str) -> None:
    """Write ``text`` as UTF-8 to ``target``, either completely or not at all.

    Raises:
        OutputError: the folder cannot be created or written to, or the disk is full.
    """
    with atomic_path(target) as temporary:
        temporary.write_text(text, encoding="utf-8")
