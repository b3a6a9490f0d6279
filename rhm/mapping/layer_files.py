"""Files of layers that were made from many scenes: one file, or one for each place in a folder."""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pyproj
from numpy.typing import NDArray

from rhm.data.vectors.side_files import read_column
from rhm.errors import OutputError, printable
from rhm.files import check_folder_writable, check_writable, write_text
from rhm.inference.layers.stamps import Stamp
from rhm.inference.layers.vector_files import (
    FORMATS,
    KEEP_IT,
    check_closed,
    check_replaceable,
    count_footprints,
    write_table,
)
from rhm.mapping.place_tiles import PlaceTile

LAYER_ORIGIN = hashlib.sha256(b"layer of many scenes").hexdigest()[:16]
"""Origin in the stamps of layers that belong to no single scene."""

_SCENE = "scene"

INDEX = "tiles.json"
"""File that lists the tiles of a folder with the number of their buildings."""

_TILE_NAME = re.compile(r"\d+-\d+-\d+\.parquet")

_CHOOSE = "choose another folder, or a file with a suffix such as .gpkg"

Rows = Callable[[NDArray[np.intp]], Iterator[pa.RecordBatch]]
"""Function from numbers of buildings to their rows."""


def check_layer(
    target: Path, *, sources: Iterable[Path], scenes: Collection[str], overwrite: bool
) -> None:
    """Check that a layer of scenes can be written, and that this loses no work of the user.

    Args:
        target: file, or folder for files by place.
        sources: files of the footprints that are merged.
        scenes: names of their scenes.
        overwrite: whether to replace a layer that was edited, was not written by a merge, or has
            buildings of other scenes.

    Raises:
        OutputError: it cannot be written, or something would be lost.
    """
    if not target.suffix:
        check_folder(target, sources, overwrite=overwrite)
    else:
        check_file(target, sources, overwrite=overwrite)
    if overwrite or not os.path.exists(target):
        return
    lost = sorted(_scenes_of(target) - set(scenes))
    if lost:
        others = f" and {len(lost) - 1} more scenes" if len(lost) > 1 else ""
        raise OutputError(
            f"{target} also has the buildings of {printable(lost[0])}{others}, which would be "
            "lost: merge all of them with `rhm merge-footprints`, choose another name, or replace "
            "it with --overwrite"
        )


def check_file(
    target: Path,
    sources: Iterable[Path],
    *,
    to: str = "merge",
    suffixes: Collection[str] = FORMATS,
    overwrite: bool,
) -> None:
    """Check that a layer can be written to a file, and that this loses no work of the user.

    Args:
        target: file to write.
        sources: files that are read, or written besides.
        to: what is done with them, for messages.
        suffixes: suffixes that the file can have.
        overwrite: whether to replace a layer that was edited, or was not written by rhm.

    Raises:
        OutputError: it cannot be written, or something would be lost.
    """
    if target.suffix.lower() not in suffixes:
        folder = ", or none for a folder of GeoParquet files by place" if to == "merge" else ""
        allowed = f"one of {', '.join(suffixes)}" if len(suffixes) > 1 else "".join(suffixes)
        raise OutputError(f"cannot write {target}: the suffix must be {allowed}{folder}")
    check_writable(target)
    check_closed(target)
    if any(_are_same(target, each) for each in sources):
        raise OutputError(f"cannot write {target}: it is one of the layers to {to}")
    if not overwrite:
        check_replaceable(target, LAYER_ORIGIN)


def _are_same(one: Path, other: Path) -> bool:
    if os.path.exists(one) and os.path.exists(other):
        return os.path.samefile(one, other)
    return os.path.realpath(one) == os.path.realpath(other)


def _scenes_of(target: Path) -> set[str]:
    """Return the names of the scenes whose buildings a layer has; none in an empty file."""
    files = sorted(target.glob("*.parquet")) if target.is_dir() else [target]
    found: set[str] = set()
    for path in files:
        if not path.stat().st_size:
            continue
        if path.suffix.lower() == ".parquet":
            names = set(pyarrow.parquet.read_schema(path).names)
            rows = pyarrow.parquet.read_table(path, columns=[_SCENE]) if _SCENE in names else None
            scenes = None if rows is None else rows.column(0).unique().to_pylist()
        else:
            scenes = read_column(path, _SCENE)
        # An empty GeoJSON file has no columns.
        if scenes is None and count_footprints(path):
            raise OutputError(f"{path} was not written by a merge: {KEEP_IT}")
        found |= {str(scene) for scene in scenes or () if scene is not None}
    return found


def check_folder(folder: Path, sources: Iterable[Path] = (), *, overwrite: bool) -> None:
    """Check that a folder of tiles can be written, and that this loses no work of the user.

    Args:
        folder: folder, which is replaced as a whole.
        sources: files that are read, which need not exist yet.
        overwrite: whether to replace tiles that were edited, or that a merge did not write.

    Raises:
        OutputError: it is a file or the working folder, it holds anything but tiles, or tiles that
            a merge did not write or that were edited.
    """
    if os.path.exists(folder) and not os.path.isdir(folder):
        raise OutputError(f"cannot write {folder}: it is a file; add a suffix such as .gpkg")
    place = Path(os.path.realpath(folder))
    if any(place in source.resolve().parents for source in sources):
        raise OutputError(f"cannot write {folder}: layers to merge are in it; {_CHOOSE}")
    if Path.cwd().is_relative_to(place):
        raise OutputError(f"cannot write {folder}: it is the working folder; {_CHOOSE}")
    check_folder_writable(place.parent)
    if not place.is_dir():
        return
    _check_only_tiles(folder)
    if not overwrite:
        for path in sorted(folder.glob("*.parquet")):
            check_replaceable(path, LAYER_ORIGIN)


def _check_only_tiles(folder: Path) -> None:
    """Check that a folder holds nothing else, which would be lost with it.

    Raises:
        OutputError: it does.
    """
    for path in sorted(folder.iterdir()):
        is_tile = path.name == INDEX or _TILE_NAME.fullmatch(path.name)
        if path.is_dir() or not is_tile:
            raise OutputError(f"{path} was not written by a merge and would be lost; {_CHOOSE}")


def write_tiles(
    rows: Rows,
    schema: pa.Schema,
    crs: pyproj.CRS,
    folder: Path,
    tiles: NDArray[np.int64],
    order: NDArray[np.intp],
    stamp: Stamp,
    *,
    overwrite: bool = False,
) -> int:
    """Write a layer as one GeoParquet file for each tile of the map, and an index of them.

    The folder takes the place of that of an earlier layer when all files are complete.

    Args:
        rows: function that returns the rows of buildings.
        schema: columns of the rows.
        crs: CRS of the polygons.
        folder: folder for the files.
        tiles: (N, 2) column and row of the tile of each building, in the order of the layer.
        order: (N,) numbers of the buildings, tile after tile.
        stamp: stamp of the files.
        overwrite: as for ``check_folder``, which is asked once more when all files are complete.

    Returns:
        Number of buildings.

    Raises:
        OutputError: a file cannot be written, or the folder must not be replaced.
    """
    place = folder.resolve()
    begun, ended = (place.with_name(f".{place.name}.rhm-{what}") for what in ("tiles", "ended"))
    shutil.rmtree(begun, ignore_errors=True)
    edges = np.flatnonzero(np.any(np.diff(tiles, axis=0, prepend=-1) != 0, axis=1))
    counts: dict[str, int] = {}
    for first, last in pairwise([*edges, len(tiles)]):
        name = PlaceTile(*map(int, tiles[first])).name
        own = replace(stamp, fingerprint=_hash(f"{stamp.fingerprint} {name}"))
        path = begun / f"{name}.parquet"
        counts[name] = write_table(rows(order[first:last]), schema, crs, path, stamp=own)
    write_text(begun / INDEX, json.dumps({"crs": crs.to_string(), "tiles": counts}, indent=1))
    try:
        if place.is_dir():
            # Merging may have taken long enough for somebody to work there.
            check_folder(folder, overwrite=overwrite)
            shutil.rmtree(ended, ignore_errors=True)
            place.rename(ended)
        try:
            begun.rename(place)
        except OSError:
            if ended.is_dir():
                ended.rename(place)
            raise
    except OSError as error:
        raise OutputError(f"cannot write {folder}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(begun, ignore_errors=True)
    shutil.rmtree(ended, ignore_errors=True)
    return sum(counts.values())


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
