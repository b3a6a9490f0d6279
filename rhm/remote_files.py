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
from urllib.parse import unquote, urljoin, urlsplit

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
_SILENCE_S = 60.0
_MOVED = (301, 302, 303, 307, 308)


def is_address(name: str | os.PathLike[str]) -> bool:
    """Return whether a name is an address, such as ``https://...``, and not a path."""
    return "://" in os.fspath(name)


def without_secrets(address: str) -> str:
    """Return an address without user, password and query, any of which may be a secret."""
    protocol, mark, rest = address.partition("://")
    rest = rest.partition("?")[0].partition("#")[0]
    host, slash, path = rest.partition("/")
    return f"{protocol}{mark}{host.rpartition('@')[2]}{slash}{path}"


def protocol_of(address: str) -> str:
    """Return the protocol of an address, in lower case."""
    return address.partition("://")[0].lower()


def check_address(address: str) -> None:
    """Check that files at an address can be read.

    Raises:
        OSError: the protocol is unknown, or its package is not installed.
    """
    protocol = protocol_of(address)
    if protocol not in PROTOCOLS:
        known = ", ".join(f"{name}://" for name in PROTOCOLS)
        raise OSError(f"{printable(protocol)}:// is not read: choose {known}")
    try:
        urlsplit(address)
    except ValueError as error:
        raise OSError(f"it is no address: {one_line(error)}") from error
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
            for block in _Stream(address, most_bytes).blocks():
                file.write(block)
        yield path


def read_bytes(address: str, *, most_bytes: int, elsewhere: bool = True) -> tuple[bytes, str]:
    """Return the content of a file at an address, and the address that it was found at.

    Args:
        address: address of the file.
        most_bytes: largest file to read.
        elsewhere: whether the server may send us to another address.

    Raises:
        OSError: the file cannot be read, or is larger; the message has one line.
    """
    stream = _Stream(address, most_bytes, elsewhere=elsewhere)
    return b"".join(stream.blocks()), stream.found_at


def first_bytes(address: str, count: int) -> bytes:
    """Return the first bytes of a file at an address.

    Raises:
        OSError: the file cannot be read; the message has one line.
    """
    blocks = _Stream(address, _BLOCK << 20).blocks()
    try:
        return next(blocks, b"")[:count]
    finally:
        blocks.close()


class _Stream:
    """A file at an address that is read once, from its beginning.

    Attributes:
        found_at: the address at which the file was found, after it was opened.
    """

    def __init__(self, address: str, most_bytes: int, *, elsewhere: bool = True) -> None:
        self._address, self._most, self._elsewhere = address, most_bytes, elsewhere
        self.found_at = address

    def blocks(self) -> Generator[bytes, None, None]:
        check_address(self._address)
        left = self._most
        try:
            with self._opened() as file:
                self._look_where(file)
                while block := file.read(_BLOCK):
                    left -= len(block)
                    if left < 0:
                        break
                    yield block
        # Each protocol's library has its own exceptions, which fsspec passes on.
        except Exception as error:
            raise OSError(_reason(error)) from error
        if left < 0:
            raise OSError(f"it is larger than {self._most >> 20} MB")

    def _opened(self) -> Any:
        import fsspec

        protocol = protocol_of(self._address)
        place = f"{protocol}{self._address[len(protocol) :]}"
        if not protocol.startswith("http"):
            return fsspec.filesystem(protocol).open(place, "rb")
        from aiohttp import ClientTimeout

        # Also proxies, and passwords from ~/.netrc. A large file takes its time, a silent server
        # does not. Blocks of size 0: the file as a stream.
        files = fsspec.filesystem(
            protocol,
            client_kwargs={
                "trust_env": True,
                "timeout": ClientTimeout(total=None, sock_connect=_SILENCE_S, sock_read=_SILENCE_S),
            },
        )
        return files.open(place, "rb", block_size=0, allow_redirects=self._elsewhere)

    def _look_where(self, file: Any) -> None:
        """Remember where a file was found.

        Raises:
            OSError: it is elsewhere, and must not be.
        """
        answer = getattr(file, "r", None)
        if answer is None:
            return
        if answer.status in _MOVED:
            target = without_secrets(urljoin(self._address, answer.headers.get("Location", "")))
            raise OSError(f"the server sends us on to {printable(target)}: name that yourself")
        self.found_at = str(answer.url)


def _reason(error: BaseException) -> str:
    # For fsspec, a file is missing whatever the reason, which is the cause.
    while error.__cause__ is not None:
        error = error.__cause__
    if isinstance(error, TimeoutError):
        return f"the server has been silent for {_SILENCE_S:.0f} s"
    if isinstance(error, FileNotFoundError):
        return "no such file there"
    status = getattr(error, "status", None)
    if isinstance(status, int):
        return (
            f"the server answers {status} {printable(str(getattr(error, 'message', '')))}".strip()
        )
    # Some messages repeat the address, with its secrets.
    words = " ".join(str(error).split()).split(" ") or [type(error).__name__]
    told = " ".join(without_secrets(word) if is_address(word) else word for word in words)
    return one_line(OSError(told or type(error).__name__))


def _name_of(address: str) -> str:
    name = PurePosixPath(unquote(urlsplit(address).path)).name
    return (
        "".join(c if c.isalnum() or c in "._-" else "_" for c in name)[-100:].lstrip(".") or "file"
    )
