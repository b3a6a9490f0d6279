"""GeoJSON and its relatives, checked before GDAL opens them.

A member ``crs`` may be an address, from which GDAL fetches the coordinate reference system. GDAL
takes one that it cannot read for WGS 84, and executes a document that holds a command line.
"""

import json
import mmap
import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

import pyproj
import pyproj.exceptions

from rhm.errors import VectorError, printable

_HEAD = 4096
_BLOCK = 1 << 22
_OVERLAP = 64  # more than the longest match
_SHORT, _LONGEST = 1 << 10, 1 << 16  # bytes in which a member must be complete

_COMMAND = b"gdal_streamed_alg"

# These are searched for in lower case. A pattern that begins with letters is found much faster.
_PLAIN = re.compile(rb"""crs(?<!\\["']crs)(?:(?<="crs)(?="|\\u0000)|(?<='crs)(?='|\\u0000))""")
_ESCAPED = re.compile(
    rb"""(?<!\\)(["'])(?:c|\\u00[46]3)(?:r|\\u00[57]2)(?:s|\\u00[57]3)(?=\1|\\u0000)"""
)
_ESCAPES = tuple(b"\\u00" + digits for digits in (b"43", b"63", b"52", b"72", b"53", b"73"))

_BOM, _PADDING = b"\xef\xbb\xbf", b" \t\r\n\v\f\x1e"
_BEGINNINGS = (b"{", b"loadGeoJSON(", b"jsonp(")

_MEMBERS = {"name": "name", "ogc": "urn", "epsg": "code"}
"""Members of the properties of a CRS that identify it, by the type of the CRS."""

_EPSG = re.compile(r"(?:EPSG|urn:ogc:def:crs,crs:EPSG|.*/epsg\.xml)[:#]+(\d{1,9})", re.IGNORECASE)
_LONGITUDES_FIRST = ("crs84", "crs:84", "ogc:crs84")

_NAME_IT = "name the CRS of its coordinates there, such as urn:ogc:def:crs:EPSG::32633"
_GAP = re.compile(r"[\s\x1e\xef\xbb\xbf]*")
_WGS84 = pyproj.CRS("EPSG:4326")


def is_json(head: bytes) -> bool:
    """Return whether the first bytes of a file are those of a JSON object, or of several."""
    return head.removeprefix(_BOM).lstrip(_PADDING).startswith(b"{")


def check_json(path: Path) -> None:
    """Check that GDAL can open a file, if it is JSON, without following what it says.

    Raises:
        VectorError: the file holds a command line, or a CRS that is an address, unknown, missing
            or different from another one in the file.
        OSError: the file cannot be read.
    """
    _declared(path, version_of(path))


def check_crs_taken(path: Path, crs: Any) -> None:
    """Check that GDAL did not take a file of JSON in another CRS for one in WGS 84.

    It does so if only features have a CRS, and if it does not know the name of the CRS.

    Args:
        path: any file.
        crs: CRS of the file according to GDAL, or None.

    Raises:
        VectorError: it did.
        OSError: the file cannot be read.
    """
    declared = _declared(path, version_of(path))
    if declared is None or crs is None or _is_wgs84(declared):
        return
    if _is_wgs84(pyproj.CRS.from_user_input(crs)):
        raise VectorError(
            f"{path} would be read in WGS 84, but says that its CRS is "
            f"'{printable(declared.name)}': convert it to a GeoPackage in the CRS of its "
            "coordinates (ogr2ogr -a_srs CRS labels.gpkg FILE)"
        )


def version_of(path: Path) -> tuple[int, ...]:
    """Return numbers that differ when a file has changed."""
    facts = path.stat()
    return facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns


# The labels of many images may be in one file, which is checked for every image.
@lru_cache(maxsize=64)
def _declared(path: Path, version: Any) -> pyproj.CRS | None:
    """Return the CRS that a file of JSON declares; None if it has none, or is of another format.

    Args:
        path: any file.
        version: the result of ``version_of``.
    """
    with path.open("rb") as file, path.open("rb") as values:
        text = file.read(_HEAD).removeprefix(_BOM).lstrip(_PADDING)
        if text and not text.startswith(_BEGINNINGS):
            return None
        file.seek(0)
        try:
            return _only_crs(file, values)
        except ValueError as error:
            raise VectorError(f"{path} is not read: {error}") from None


def _only_crs(file: BinaryIO, values: BinaryIO) -> pyproj.CRS | None:
    """Return the one CRS in a document; ``values`` is the same file, opened once more."""
    found: pyproj.CRS | None = None
    names: set[str] = set()
    asked = False
    for place in _places(file):
        value = _value_at(values, place)
        if isinstance(value, dict) and _type_of(value):
            name = _name_of(value)
            if name in names:
                continue
            crs = _resolved(name)
            if found is not None and not found.equals(crs, ignore_axis_order=True):
                raise ValueError(
                    f"it has several CRSs, '{printable(found.name)}' and '{printable(crs.name)}': "
                    "write the features of one CRS to a file of their own"
                )
            names.add(name)
            found = found or crs
        elif value is not False and not asked:
            asked = True
            if _is_document_without_crs(values):
                raise ValueError(f"its member 'crs' is null, or no CRS; {_NAME_IT}")
    return found


def _places(file: BinaryIO) -> Iterator[int]:
    """Yield where names that GDAL takes for ``crs`` end in a file, before their closing quote.

    Raises:
        ValueError: the file holds a command line.
    """
    start, last, tail = 0, -1, b""
    while block := file.read(_BLOCK):
        text = tail + block.lower()
        if _COMMAND in text:
            raise ValueError(
                "it holds a command that GDAL would execute: give the file that the command writes"
            )
        escaped = b"\\u00" in text and any(letter in text for letter in _ESCAPES)
        for match in (_ESCAPED if escaped else _PLAIN).finditer(text):
            if start + match.end() > last:
                last = start + match.end()
                yield last
        tail = text[-_OVERLAP:]
        start += len(text) - len(tail)


def _value_at(file: BinaryIO, place: int) -> Any:
    """Return the value of a member whose name ends at a place.

    Returns:
        A dict with names in lower case, None for any other value, and False if it is no member.

    Raises:
        ValueError: the member cannot be read, or has a comment.
    """
    for most in (_SHORT, _LONGEST):
        file.seek(place)
        # json-c goes on after white space of any kind, and ends names at the first null character.
        after = file.read(most)
        if after.startswith(b"\\"):
            raise ValueError("it has a member 'crs' with a null character: write it again")
        rest = after[1:].lstrip()
        if rest and not rest.startswith((b":", b"/")):
            return False
        rest = rest[1:].lstrip() if rest.startswith(b":") else rest
        if rest.startswith(b"/"):
            raise ValueError("it has a comment in its CRS, which is no JSON: remove it")
        if rest and not rest.startswith(b"{"):
            return None
        text = rest.decode("utf-8", "replace")
        try:
            return json.JSONDecoder(object_pairs_hook=_members).raw_decode(text)[0]
        except (ValueError, RecursionError):
            continue
    raise ValueError(f"its member 'crs' is damaged or too long; {_NAME_IT}")


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return the members of an object by their names in lower case, which GDAL does not tell apart.

    Raises:
        ValueError: a name occurs twice, or has a null character.
    """
    members = {name.lower(): value for name, value in pairs}
    if len(members) < len(pairs) or any("\0" in name for name in members):
        raise ValueError("names are not unique")
    return members


def _type_of(crs: dict[str, Any]) -> str:
    kind = crs.get("type")
    return kind.lower() if isinstance(kind, str) else ""


def _name_of(crs: dict[str, Any]) -> str:
    """Return the name of a CRS, which need not exist."""
    kind, properties = _type_of(crs), crs.get("properties")
    member = _MEMBERS.get(kind)
    if member is None:
        raise ValueError(
            f"it has a CRS of the type '{printable(kind)[:20]}', which is not read; {_NAME_IT}"
        )
    value = properties.get(member) if isinstance(properties, dict) else None
    if kind == "epsg":
        value = f"EPSG:{value}" if re.fullmatch(r"\d{1,9}", str(value)) else None
    if not isinstance(value, str) or "\0" in value:
        raise ValueError(f"its CRS has no {member}; {_NAME_IT}")
    return value


@lru_cache(maxsize=256)
def _resolved(name: str) -> pyproj.CRS:
    for candidate in _candidates(name.strip()):
        try:
            return pyproj.CRS.from_user_input(candidate)
        except (pyproj.exceptions.ProjError, ValueError):
            continue
    raise ValueError(f"its CRS '{printable(name)[:60]}' is unknown; {_NAME_IT}")


def _candidates(name: str) -> Iterator[str]:
    """Yield what PROJ may know a CRS by that GDAL knows by a name."""
    if name.lower() in _LONGITUDES_FIRST:
        yield "OGC:CRS84"
    yield name
    if code := _EPSG.fullmatch(name.replace("urn:ogc:def:crs:EPSG", "EPSG")):
        yield f"EPSG:{code[1]}"
        # Codes of ESRI are often called so.
        yield f"ESRI:{code[1]}"


@lru_cache(maxsize=256)
def _is_wgs84(crs: pyproj.CRS) -> bool:
    return crs.is_geographic and bool(crs.to_2d().equals(_WGS84, ignore_axis_order=True))


_BARE, _TYPED, _OTHER = object(), object(), object()


def _is_document_without_crs(file: BinaryIO) -> bool:
    """Return whether a document, or one of several, has a member ``crs`` that is no CRS.

    Attributes of features may have this name. Of each object, no more is kept than its kind.
    """
    decoder = json.JSONDecoder(object_pairs_hook=_kind_of, strict=False)
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        text = str(data, "latin-1")  # one byte for each character; only names in ASCII matter
    place = _end_of_gap(text, 0)
    try:
        while place < len(text):
            value, place = decoder.raw_decode(text, place)
            if value is _BARE:
                return True
            place = _end_of_gap(text, place)
    except (ValueError, RecursionError):
        return False  # GDAL will say what is wrong
    return False


def _kind_of(pairs: list[tuple[str, Any]]) -> object:
    members = {name.lower(): value for name, value in pairs}
    if members.get("crs", _TYPED) is not _TYPED:
        return _BARE
    return _TYPED if isinstance(members.get("type"), str) else _OTHER


def _end_of_gap(text: str, place: int) -> int:
    gap = _GAP.match(text, place)
    return place if gap is None else gap.end()
