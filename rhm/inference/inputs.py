"""The scenes that a user names: files, patterns, folders, catalogs and STAC items."""

import hashlib
import os
from collections.abc import Iterable, Mapping
from glob import glob, has_magic
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from rhm.data.catalog import Catalog
from rhm.data.layouts.folder import images_in
from rhm.documents import read_json
from rhm.errors import CatalogError, ConfigError, one_line
from rhm.inference.tiling.storage import fingerprint_of

_WRITTEN = ("_probability", "_mask")
_PREFERRED_ASSETS = ("visual", "image", "data", "analytic")


def find_scenes(named: Iterable[str], *, asset: str | None = None) -> list[str]:
    """Return the scenes that a user names, without repetition, in the order in which they appear.

    A name can stand for a file or anything else that GDAL opens (``/vsizip/...``,
    ``https://...``); a pattern such as ``tiles/*.tif``; a folder, of which the images are taken
    except those that a prediction wrote; a catalog (``.parquet``); or a STAC item or a collection
    of items (``.json``).

    Args:
        named: names of scenes.
        asset: name of the asset to take from STAC items; by default, the one that is the image.

    Raises:
        CatalogError: a file does not exist, a pattern or folder has no images, or an item has no
            such asset.
        ConfigError: two scenes would write the same files.
    """
    scenes: dict[str, str] = {}
    for word in named:
        for scene in _named_by(word, asset):
            other = scenes.setdefault(stem_of(scene), scene)
            if other != scene:
                raise ConfigError(
                    f"{other} and {scene} would write the same files: predict them into "
                    "different folders"
                )
    return list(scenes.values())


def stem_of(scene: str) -> str:
    """Return the name of a scene, without folder, suffix and the query string of a web address."""
    path = urlsplit(scene).path if "://" in scene else scene
    return PurePosixPath(path).stem if "://" in scene else Path(path).stem


def origin_of(scene: str | os.PathLike[str]) -> str:
    """Return a hash of the location of a scene, without the query string of a web address.

    Results of scenes of the same name in different folders are told apart by it.
    """
    name = os.fspath(scene).removeprefix("file://")
    if "://" in name:
        place = name.partition("?")[0]
    else:
        place = name if name.startswith("/vsi") else os.path.abspath(name)
    return hashlib.sha256(os.fsencode(place)).hexdigest()[:16]


def _named_by(word: str, asset: str | None) -> list[str]:
    if "://" in word or word.startswith("/vsi"):
        return [word]
    path = Path(word)
    suffix = path.suffix.lower()
    if os.path.isdir(path):
        return [str(image) for image in images_in(path) if not _is_result(image)]
    if not os.path.exists(path) and has_magic(word):
        matching = sorted(file for file in glob(word, recursive=True) if Path(file).is_file())
        if not matching:
            raise CatalogError(f"no file matches {word}")
        return matching
    if suffix == ".parquet":
        return [str(tile.image) for tile in Catalog.load(path).tiles]
    if suffix in (".json", ".geojson"):
        return _stac_images(path, asset)
    return [str(image) for image in images_in(path)]


def _is_result(image: Path) -> bool:
    return image.stem.endswith(_WRITTEN) and bool(fingerprint_of(image))


def _stac_images(path: Path, asset: str | None) -> list[str]:
    """Return the images of a STAC item, or of a collection of items."""
    try:
        document = read_json(path)
    except (OSError, ValueError) as error:
        raise CatalogError(f"{path} is not JSON: {one_line(error)}") from error
    items = document.get("features", [document]) if isinstance(document, dict) else []
    if not isinstance(items, list) or not items:
        raise CatalogError(f"{path} lists no STAC items")
    return [_stac_image(item, path, asset) for item in items]


def _stac_image(item: Any, path: Path, asset: str | None) -> str:
    assets = item.get("assets") if isinstance(item, dict) else None
    if not isinstance(assets, dict) or not assets:
        raise CatalogError(f"{path} is not a STAC item: it has no assets")
    chosen = _chosen(assets, asset)
    if chosen is None:
        raise CatalogError(
            f"{path}: choose the image of item {str(item.get('id'))!r} with --asset: "
            f"{', '.join(map(str, assets))}"
        )
    href = chosen.get("href") if isinstance(chosen, dict) else None
    if not isinstance(href, str) or not href:
        raise CatalogError(f"{path}: an asset of item {str(item.get('id'))!r} has no address")
    # The address of an asset may be relative to the file that lists it.
    return href if "://" in href else str(path.parent / href)


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
