"""The scenes that a user names: files, patterns, folders, catalogs and STAC documents."""

import hashlib
import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from glob import glob, has_magic
from pathlib import Path, PurePosixPath

from rhm.data.catalog import Catalog
from rhm.data.layouts.folder import images_in
from rhm.errors import CatalogError, printable
from rhm.inference.scene_lists.scene_names import (
    NamedScene,
    place_of,
    with_distinct_names,
)
from rhm.inference.scene_lists.scene_names import stem_of as stem_of
from rhm.inference.scene_lists.stac import stac_scenes
from rhm.inference.tiling.storage import fingerprint_of
from rhm.remote_files import first_bytes, is_address, protocol_of, without_secrets

_DOCUMENTS = (".json", ".geojson")
_RASTERS = (".tif", ".tiff", ".jp2", ".png", ".jpg", ".jpeg", ".vrt", ".img", ".ntf", ".zip")
_WRITTEN = ("_probability", "_mask")


def find_scenes(named: Iterable[str], *, asset: str | None = None) -> list[str]:
    """Return the paths of the scenes that a user names; see :func:`find_named_scenes`."""
    return [scene.path for scene in find_named_scenes(named, asset=asset)]


def find_named_scenes(named: Iterable[str], *, asset: str | None = None) -> list[NamedScene]:
    """Return the scenes that a user names, without repetition, in the order in which they appear.

    A name can stand for a file or anything else that GDAL opens (``/vsizip/...``,
    ``https://...``); a pattern such as ``tiles/*.tif``, or a folder, of whose images those are left
    out that a prediction wrote; a catalog (``.parquet``); or a STAC item, a collection
    of items, or a STAC catalog (``.json``), whose links are followed.

    What a catalog says of nodata and resolution holds for its scenes. Scenes are named by their
    files. Scenes whose files have the same name are named by their STAC
    items, or by their folders, too.

    Args:
        named: names of scenes.
        asset: name of the asset to take from STAC items; by default, the one that is the image.

    Raises:
        CatalogError: a file does not exist, or its name has a line break; a pattern or folder has
            no images; a STAC document is malformed; or an asset is chosen where there is no such
            document.
    """
    scenes: dict[str, NamedScene] = {}
    chosen = asset is None
    for word in named:
        is_stac = _is_stac(word)
        chosen |= is_stac
        for scene in stac_scenes(word, asset) if is_stac else _scenes(word):
            if "".join(scene.name.splitlines()) != scene.name:
                # GDAL drops it from the names of some results.
                told = printable(scene.path)
                raise CatalogError(f"{told} has a line break in its name: rename it")
            place = place_of(scene)
            scenes[place] = scene if place not in scenes else _both(scenes[place], scene)
    if not chosen:
        raise CatalogError(
            f"the asset '{asset}' can only be chosen from STAC documents, and none is named: leave "
            "it out"
        )
    return with_distinct_names(list(scenes.values()))


def origin_of(scene: str | os.PathLike[str]) -> str:
    """Return a hash of the location of a scene, without the query string of a web address.

    Results of scenes of the same name in different folders are told apart by it.
    """
    return hashlib.sha256(os.fsencode(place_of(scene))).hexdigest()[:16]


def _is_stac(word: str) -> bool:
    """Return whether a name is that of a STAC document: a JSON file, or an address of one.

    The addresses of services end in the name of an item and not in a suffix. What is there is told
    by its first bytes.
    """
    if is_address(word):
        suffix = PurePosixPath(without_secrets(word)).suffix.lower()
        if suffix in _DOCUMENTS or suffix in _RASTERS or not protocol_of(word).startswith("http"):
            return suffix in _DOCUMENTS
        with suppress(OSError):
            return first_bytes(word, 64).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{")
        return False
    return Path(word).suffix.lower() in _DOCUMENTS and os.path.isfile(word)


def _both(first: NamedScene, second: NamedScene) -> NamedScene:
    """Return a scene that is named twice, with what both lists say of it."""
    return replace(
        first,
        date=first.date or second.date,
        item=first.item or second.item,
        black_is_nodata=first.black_is_nodata or second.black_is_nodata,
        gsd_m=first.gsd_m or second.gsd_m,
    )


def _scenes(word: str) -> list[NamedScene]:
    named = os.path.exists(word) or not (has_magic(word) or is_address(word))
    if Path(word).suffix.lower() == ".parquet" and named and not os.path.isdir(word):
        return [
            replace(
                NamedScene.of(str(tile.image)),
                black_is_nodata=tile.black_is_nodata,
                gsd_m=tile.gsd_m,
            )
            for tile in Catalog.load(word).tiles
        ]
    return [NamedScene.of(path) for path in _paths(word)]


def _paths(word: str) -> list[str]:
    if "://" in word or word.startswith("/vsi"):
        return [word]
    path = Path(word)
    if os.path.isdir(path):
        return [str(image) for image in images_in(path) if not _is_result(image)]
    if not os.path.exists(path) and has_magic(word):
        matching = sorted(file for file in glob(word, recursive=True) if Path(file).is_file())
        if not matching:
            raise CatalogError(f"no file matches {word}")
        scenes = [file for file in matching if not _is_result(Path(file))]
        if not scenes:
            raise CatalogError(f"all that matches {word} was written by a prediction")
        return scenes
    return [str(image) for image in images_in(path)]


def _is_result(image: Path) -> bool:
    return image.stem.endswith(_WRITTEN) and bool(fingerprint_of(image))
