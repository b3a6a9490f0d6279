"""STAC documents: items, collections of items, and catalogs whose links are followed.

A document is of unknown origin. The links of a local file are followed to local files only, and a
document that a link led to may name local images only; addresses are taken from the file that the
user named. If the user named an address, links are followed to documents of the same server, and
images may be at any address.
"""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit

from rhm.documents import MOST_BYTES, parse_json, read_json
from rhm.errors import CatalogError, one_line, printable
from rhm.inference.scene_lists.scene_dates import day_of
from rhm.inference.scene_lists.scene_names import NamedScene, place_of, stem_of
from rhm.remote_files import PROTOCOLS, is_address, protocol_of, read_bytes

DEEPEST = 16
"""Most catalogs inside each other."""

MOST_DOCUMENTS = 1_000_000
"""Most documents that the links of one may lead to."""

_PREFERRED_ASSETS = ("visual", "image", "data", "analytic")
_LISTS = ("Catalog", "Collection")
_FOLLOWED = ("child", "item", "items", "next")
_PAGES = ("next",)


def stac_scenes(document: str | os.PathLike[str], asset: str | None) -> list[NamedScene]:
    """Return the scenes of a STAC item, a collection of items, or a catalog, in its order.

    Args:
        document: file or address of the document.
        asset: name of the asset that is the scene; by default, the one that is the image.

    Raises:
        CatalogError: a document cannot be read, lists nothing, or leads where it must not.
    """
    named = os.fspath(document)
    scenes = [
        _scene(item, place, asset, anywhere=place == named)
        for place, found in _documents(named)
        for item in _items(found, place)
    ]
    if not scenes:
        raise CatalogError(f"{_shown(named)} lists no STAC items")
    return scenes


def _documents(named: str) -> Iterator[tuple[str, Any]]:
    """Yield the documents that list items, and their places, in the order of the links."""
    seen = {_identity(named)}
    waiting = [(named, 0)]
    while waiting:
        place, depth = waiting.pop()
        document, place = _read(place, elsewhere=place == named)
        followed = _FOLLOWED if _is_list(document) else _PAGES
        if followed is _PAGES:
            yield place, document
        elif depth == DEEPEST:
            raise CatalogError(
                f"{_shown(place)} is inside {DEEPEST} other STAC catalogs: name it directly"
            )
        found = []
        for linked in _linked(document, place, followed):
            if _identity(linked) not in seen:
                seen.add(_identity(linked))
                # Pages follow one another, and are not inside each other.
                found.append((linked, depth + (followed is _FOLLOWED)))
        if len(seen) > MOST_DOCUMENTS:
            raise CatalogError(
                f"{_shown(named)} leads to more than {MOST_DOCUMENTS} STAC documents"
            )
        waiting += reversed(found)


def _identity(place: str) -> str:
    return place if is_address(place) else os.path.realpath(place)


def _read(place: str, *, elsewhere: bool) -> tuple[Any, str]:
    """Return a document and the place where it was found.

    Args:
        place: file or address.
        elsewhere: whether the server may send us to another address.
    """
    try:
        if is_address(place):
            read, found_at = read_bytes(place, most_bytes=MOST_BYTES, elsewhere=elsewhere)
            return parse_json(read.decode("utf-8-sig"), constant=lambda _: None), found_at
        if not os.path.isfile(place):
            raise CatalogError(f"no such file: {printable(place)}")
        return read_json(place), place
    except OSError as error:
        reason = error.strerror or one_line(error)
        raise CatalogError(f"{_shown(place)} cannot be read: {reason}") from error
    except ValueError as error:
        raise CatalogError(f"{_shown(place)} is not JSON: {one_line(error)}") from error


def _shown(place: str) -> str:
    """Return a place for messages, without the query of an address, which may hold a secret."""
    return printable(place_of(place) if is_address(place) else place)


def _is_list(document: Any) -> bool:
    return isinstance(document, dict) and document.get("type") in _LISTS


def _linked(document: Any, place: str, followed: tuple[str, ...]) -> Iterator[str]:
    # A single item has neighbours, but no pages.
    listed = _is_list(document) or (isinstance(document, dict) and "features" in document)
    links = document.get("links") if listed else None
    for link in links if isinstance(links, list) else []:
        if not isinstance(link, dict) or link.get("rel") not in followed:
            continue
        if not is_address(place):
            # A file that was saved holds one page of an answer, and the user named only this.
            if followed is not _PAGES:
                yield _local(link.get("href"), place)
        elif link.get("method", "GET") != "GET":
            method = printable(str(link["method"]))[:20]
            raise CatalogError(
                f"{_shown(place)} has more pages, which only a {method} request returns: save all "
                "items in one file, and name that"
            )
        else:
            yield _on_the_same_server(link.get("href"), place)


def _items(document: Any, place: str) -> list[Any]:
    items = document.get("features", [document]) if isinstance(document, dict) else []
    if not isinstance(items, list) or not items:
        raise CatalogError(f"{_shown(place)} lists no STAC items")
    return items


def _scene(item: Any, place: str, asset: str | None, *, anywhere: bool) -> NamedScene:
    assets = item.get("assets") if isinstance(item, dict) else None
    if not isinstance(assets, dict) or not assets:
        raise CatalogError(f"{_shown(place)} is not a STAC item: it has no assets")
    name = str(item.get("id"))
    chosen = _chosen(assets, asset)
    if chosen is None:
        raise CatalogError(
            f"{_shown(place)}: choose the image of item {name!r} with --asset: "
            f"{', '.join(map(str, assets))}"
        )
    href = chosen.get("href") if isinstance(chosen, dict) else None
    if not isinstance(href, str) or not href:
        raise CatalogError(f"{_shown(place)}: an asset of item {name!r} has no address")
    if is_address(place):
        path = _remote(href, place)
    else:
        path = href if anywhere and is_address(href) else _local(href, place)
    about = item.get("properties")
    about = about if isinstance(about, dict) else {}
    date = day_of(about.get("datetime")) or day_of(about.get("start_datetime"))
    return NamedScene(path, stem_of(path), date, name if isinstance(item.get("id"), str) else None)


def _remote(href: Any, place: str) -> str:
    """Return the address that a remote document names, which may be relative to its own.

    Raises:
        CatalogError: it is none, or not one that is read.
    """
    if not isinstance(href, str) or not href or "\0" in href:
        raise CatalogError(f"{_shown(place)} has a link without an address")
    try:
        address = urljoin(place, href)
        urlsplit(address)
    except ValueError:
        address = ""
    if protocol_of(address) not in PROTOCOLS:
        raise CatalogError(
            f"{_shown(place)} leads to {printable(href)[:200]}, which is no address that is read"
        )
    return address


def _on_the_same_server(href: Any, place: str) -> str:
    address = _remote(href, place)
    if urlsplit(address)[:2] != urlsplit(place)[:2]:
        raise CatalogError(
            f"{_shown(place)} leads to another server, {_shown(address)[:200]}: name that yourself"
        )
    return address


def _local(href: Any, place: str) -> str:
    """Return the local path that a document names, which may be relative to its own.

    Raises:
        CatalogError: it is none.
    """
    if not isinstance(href, str) or not href or "\0" in href:
        raise CatalogError(f"{place} has a link without an address")
    href = href.removeprefix("file://")
    if is_address(href) or href.startswith("/vsi"):
        raise CatalogError(
            f"{place} leads to {printable(href)[:200]}, and only local files are followed: name "
            "that address yourself, or download it"
        )
    path = Path(place).parent / href
    # Addresses in JSON are quoted as in URLs, but many writers forget it.
    return str(path if os.path.exists(path) else Path(place).parent / unquote(href))


def _chosen(assets: Mapping[str, Any], wanted: str | None) -> Any:
    """Return the asset that is the image, or None if that is not clear."""
    if wanted is not None:
        return assets.get(wanted)
    images = {name: entry for name, entry in assets.items() if _is_image(entry)}
    for name in _PREFERRED_ASSETS:
        if name in images:
            return images[name]
    return next(iter(images.values())) if len(images) == 1 else None


def _is_image(asset: Any) -> bool:
    kind = asset.get("type", "") if isinstance(asset, dict) else ""
    return isinstance(kind, str) and kind.startswith(("image/tiff", "image/jp2", "image/vnd.stac"))
