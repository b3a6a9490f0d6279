"""Files at addresses, read by fsspec; nothing is fetched but what the user names.

Credentials are those of each protocol's own library: ``~/.netrc`` and ``HTTPS_PROXY`` for web
addresses, and the environment variables or profiles of s3fs, gcsfs and adlfs for stores of objects.
Imagery is not read here but by GDAL.
"""

import os
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import unquote, urlsplit

from rhm.errors import one_line, printable

PROTOCOLS: Mapping[str, str] = {
    "http": "",
    "https": "",
    "s3": "s3fs",
    "gs": "gcsfs",
    "az": "adlfs",
    "abfs": "adlfs",
}
"""Protocols that are read, and the package that reads each, if it is not there already."""

_BLOCK = 1 << 20


def is_address(name: str | os.PathLike[str]) -> bool:
    """Return whether a name is an address, such as ``https://...``, and not a path."""
    return "://" in os.fspath(name)


def check_address(address: str) -> None:
    """Check that files at an address can be read.

    Raises:
        OSError: the protocol is unknown, or its package is not installed.
    """
    protocol = urlsplit(address).scheme.lower()
    if protocol not in PROTOCOLS:
        known = ", ".join(f"{name}://" for name in PROTOCOLS)
        raise OSError(f"{printable(protocol)}:// is not read: choose {known}")
    from importlib.util import find_spec

    package = PROTOCOLS[protocol]
    if package and not find_spec(package):
        raise OSError(f"{protocol}:// needs {package}: pip install {package}")


@contextmanager
def fetched(address: str, *, most_bytes: int) -> Iterator[Path]:
    """Fetch a file, and yield its temporary copy, which has the file name of the address.

    Args:
        address: address of the file.
        most_bytes: largest file to fetch.

    Raises:
        OSError: the file cannot be read, or is larger; the message has one line.
    """
    with TemporaryDirectory(prefix="rhm-fetched-") as folder:
        path = Path(folder) / _name_of(address)
        with path.open("xb") as file:
            for block in _blocks(address, most_bytes):
                file.write(block)
        yield path


def read_bytes(address: str, *, most_bytes: int) -> bytes:
    """Return the content of a file at an address; see ``fetched``."""
    return b"".join(_blocks(address, most_bytes))


def first_bytes(address: str, count: int) -> bytes:
    """Return the first bytes of a file at an address.

    Raises:
        OSError: the file cannot be read; the message has one line.
    """
    blocks = _blocks(address, _BLOCK << 20)
    try:
        return next(blocks, b"")[:count]
    finally:
        blocks.close()


def _blocks(address: str, most_bytes: int) -> Generator[bytes, None, None]:
    check_address(address)
    left = most_bytes
    try:
        with _opened(address) as file:
            while block := file.read(_BLOCK):
                left -= len(block)
                if left < 0:
                    break
                yield block
    # Each protocol's library has its own exceptions, which fsspec passes on.
    except Exception as error:
        raise OSError(_reason(error)) from error
    if left < 0:
        raise OSError(f"it is larger than {most_bytes >> 20} MB")


def _opened(address: str) -> Any:
    import fsspec

    options: dict[str, Any] = {}
    if urlsplit(address).scheme.lower().startswith("http"):
        # Also proxies, and passwords from ~/.netrc. Blocks of size 0: the file as a stream.
        options = {"client_kwargs": {"trust_env": True}, "block_size": 0}
    return fsspec.open(address, "rb", **options)


def _reason(error: BaseException) -> str:
    # For fsspec, a file is missing whatever the reason, which is the cause.
    while error.__cause__ is not None:
        error = error.__cause__
    if isinstance(error, FileNotFoundError):
        return "no such file there"
    status = getattr(error, "status", None)
    if isinstance(status, int):
        return (
            f"the server answers {status} {printable(str(getattr(error, 'message', '')))}".strip()
        )
    return one_line(error)


def _name_of(address: str) -> str:
    name = PurePosixPath(unquote(urlsplit(address).path)).name
    return (
        "".join(c if c.isalnum() or c in "._-" else "_" for c in name)[-100:].lstrip(".") or "file"
    )
