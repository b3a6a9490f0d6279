"""Files that appear under their names only when they are complete."""

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rhm.errors import OutputError

# Failures that come only from writing, never from reading what is to be written.
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)


@contextmanager
def atomic_path(target: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside ``target`` that takes its name on success.

    The temporary file keeps the target's suffix, because several writers choose their format
    by it. If the block raises, the temporary file is removed and whatever stood under the
    target's name before is untouched.

    Raises:
        OutputError: the folder cannot be created or written to, or the disk is full.
    """
    target = Path(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        # A folder of its own, on the same file system, so that writers may add side files.
        scratch = tempfile.TemporaryDirectory(prefix=f".{target.stem[:40]}.", dir=target.parent)
    except OSError as error:
        raise OutputError(f"cannot write to {target.parent}: {error.strerror or error}") from error
    with scratch as folder:
        temporary = Path(folder) / target.name
        try:
            yield temporary
        except OSError as error:
            if error.errno in _NO_ROOM:
                raise OutputError(f"cannot write {target}: {error.strerror}") from error
            raise
        try:
            os.replace(temporary, target)
        except OSError as error:
            raise OutputError(f"cannot write {target}: {error.strerror or error}") from error


def write_text(target: str | os.PathLike[str], text: str) -> None:
    """Write ``text`` as UTF-8 to ``target``, all of it or nothing.

    Raises:
        OutputError: the folder cannot be created or written to, or the disk is full.
    """
    with atomic_path(target) as temporary:
        temporary.write_text(text, encoding="utf-8")
