"""STAC documents: items, collections of items, and catalogs whose links are followed.

A document is of unknown origin. Its links are followed to local files only, and a document that a
link led to may name local images only; addresses are taken from the file that the user named.
"""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from rhm.documents import read_json
from rhm.errors import CatalogError, one_line, printable
from rhm.inference.scene_lists.scene_dates import day_of
from rhm.inference.scene_lists.scene_names import NamedScene, stem_of

DEEPEST = 16
"""Most catalogs inside each other."""

MOST_DOCUMENTS = 1_000_000
"""Most documents that the links of one may lead to."""

_PREFERRED_ASSETS = ("visual", "image", "data", "analytic")
_LISTS = ("Catalog", "Collection")
_FOLLOWED = ("child", "item")


def stac_scenes(path: Path, asset: str | None) -> list[NamedScene]:
    """Return the scenes of a STAC item, a collection of items, or a catalog, in its order.

    Args:
        path: file of the document.
        asset: name of the asset that is the scene; by default, the one that is the image.

    Raises:
        CatalogError: a document cannot be read, lists nothing, or leads where it must not.
    """
    scenes = [
        _scene(item, file, asset, remote=file is path)
        for file, document in _documents(path)
        for item in _items(document, file)
    ]
    if not scenes:
        raise CatalogError(f"{path} lists no STAC items")
    return scenes


def _documents(path: Path) -> Iterator[tuple[Path, Any]]:
    """Yield the documents that list items, and their files, in the order of the links."""
    seen = {os.path.realpath(path)}
    waiting = [(path, 0)]
    while waiting:
        file, depth = waiting.pop()
        document = _read(file)
        if not _is_list(document):
            yield file, document
            continue
        if depth == DEEPEST:
            raise CatalogError(f"{file} is inside {DEEPEST} other STAC catalogs: name it directly")
        found = []
        for linked in _linked(document, file):
            place = os.path.realpath(linked)
            if place not in seen:
                seen.add(place)
                found.append((linked, depth + 1))
        if len(seen) > MOST_DOCUMENTS:
            raise CatalogError(f"{path} leads to more than {MOST_DOCUMENTS} STAC documents")
        waiting += reversed(found)


def _read(file: Path) -> Any:
    try:
        if not file.is_file():
            raise CatalogError(f"no such file: {printable(str(file))}")
        return read_json(file)
    except (OSError, ValueError) as error:
        raise CatalogError(f"{printable(str(file))} is not JSON: {one_line(error)}") from error


def _is_list(document: Any) -> bool:
    return isinstance(document, dict) and document.get("type") in _LISTS


def _linked(document: Mapping[str, Any], file: Path) -> Iterator[Path]:
    links = document.get("links")
    for link in links if isinstance(links, list) else []:
        if isinstance(link, dict) and link.get("rel") in _FOLLOWED:
            yield Path(_local(link.get("href"), file))


def _items(document: Any, file: Path) -> list[Any]:
    items = document.get("features", [document]) if isinstance(document, dict) else []
    if not isinstance(items, list) or not items:
        raise CatalogError(f"{file} lists no STAC items")
    return items


def _scene(item: Any, file: Path, asset: str | None, *, remote: bool) -> NamedScene:
    assets = item.get("assets") if isinstance(item, dict) else None
    if not isinstance(assets, dict) or not assets:
        raise CatalogError(f"{file} is not a STAC item: it has no assets")
    name = str(item.get("id"))
    chosen = _chosen(assets, asset)
    if chosen is None:
        raise CatalogError(
            f"{file}: choose the image of item {name!r} with --asset: {', '.join(map(str, assets))}"
        )
    href = chosen.get("href") if isinstance(chosen, dict) else None
    if not isinstance(href, str) or not href:
        raise CatalogError(f"{file}: an asset of item {name!r} has no address")
    path = href if remote and "://" in href else _local(href, file)
    about = item.get("properties")
    about = about if isinstance(about, dict) else {}
    date = day_of(about.get("datetime")) or day_of(about.get("start_datetime"))
    return NamedScene(path, stem_of(path), date, name if isinstance(item.get("id"), str) else None)


def _local(href: Any, file: Path) -> str:
    """Return the local path that a document names, which may be relative to its own.

    Raises:
        CatalogError: it is none.
    """
    if not isinstance(href, str) or not href or "\0" in href:
        raise CatalogError(f"{file} has a link without an address")
    href = href.removeprefix("file://")
    if "://" in href or href.startswith("/vsi"):
        raise CatalogError(
            f"{file} leads to {printable(href)[:200]}, and only local files are followed: name "
            "that address yourself, or download it"
        )
    path = file.parent / href
    # Addresses in JSON are quoted as in URLs, but many writers forget it.
    return str(path if os.path.exists(path) else file.parent / unquote(href))


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
