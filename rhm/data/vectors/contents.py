"""What the content of a vector file would make GDAL do, checked before GDAL opens the file."""

from functools import lru_cache
from pathlib import Path
from typing import Any

from rhm.data.vectors.databases import check_database
from rhm.data.vectors.json_files import check_json, version_of
from rhm.errors import VectorError

_SQLITE = b"SQLite format 3\0"
_BLOCK = 1 << 22
_OVERLAP = 64  # more than the longest reference

_REFERENCES = (b"<OGRVRTDataSource", b"<OGRWFSDataSource", b"<OGRCSWDataSource")
"""Elements of XML that name other files or servers."""


def check_content(path: Path) -> None:
    """Check that reading a vector file reads nothing else, asks no server, and ends.

    Raises:
        VectorError: GDAL would follow a reference, execute a command, or read a view that may be
            endless; or the CRS of a file of JSON is not usable.
        OSError: the file cannot be read.
    """
    if path.is_dir():
        return
    with path.open("rb") as file:
        head = file.read(len(_SQLITE))
    if head == _SQLITE:
        check_database(path)
    else:
        check_json(path)
        _check_references(path, version_of(path))


# The labels of many images may be in one file, which is checked for every image.
@lru_cache(maxsize=64)
def _check_references(path: Path, version: Any) -> None:
    """Check that a file has none of ``_REFERENCES``; ``version`` changes with the file.

    GDAL follows them wherever they are in a text, whatever else it says, up to a null character.
    """
    tail = b""
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            text, end, _ = (tail + block).partition(b"\0")
            if b"<OGR" in text and any(element in text for element in _REFERENCES):
                raise VectorError(
                    f"{path} is not what its name says: it refers to other files or servers; "
                    "give the file that holds the polygons"
                )
            if end:
                return
            tail = text[-_OVERLAP:]
