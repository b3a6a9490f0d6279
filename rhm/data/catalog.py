"""The catalog: a table with one row per image and everything that later steps need to know of it.

A catalog is built once, when all images are opened and checked. It is stored as GeoParquet, which
opens in QGIS. No later step asks which dataset an image came from.
"""

import hashlib
import math
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pandas

from rhm.data.indexing import (
    OpenedSource,
    check_each_once,
    check_groups,
    check_shares,
    mapping_in,
    note_on_ground,
    notes_on,
    open_source,
)
from rhm.data.labels import VECTOR_SUFFIXES
from rhm.data.sources import FLAGS, SPLITS, VALUES, Source, Tile, flag_of
from rhm.data.stored_paths import folder_of, relative
from rhm.data.vectors.geoparquet import has_columns, read_geoparquet
from rhm.errors import CatalogError, OutputError, one_line
from rhm.files import atomic_path
from rhm.notebook_display import Images, NotebookDisplay
from rhm.required_files import require_catalog

__all__ = ["SPLITS", "Catalog", "Source", "Tile"]

_MOST_IMAGES = 1 << 22

_TEXTS = ("image", "label", "domain", "group", "split", "dtype", "crs", *VALUES)

_LATER = {"pixel_aspect": 1.0, "instances": False, **dict.fromkeys(VALUES, "")}
"""Columns that catalogs of earlier versions lack, with the values that these then have."""

_COLUMNS = tuple(field.name for field in fields(Tile) if field.name not in _LATER)

_MOST_LISTED = 12
_MOST_SHOWN = 4
_THUMBNAIL_PX = 128


@dataclass(frozen=True, eq=False)
class Catalog(NotebookDisplay):
    """A table of images.

    Attributes:
        frame: one row per image, with a column for each attribute of ``Tile``. The geometry is
            the outline of the image in EPSG:4326, cut at the 180th meridian, and empty if its
            location is unknown.
        notes: what looked wrong when the catalog was built; not stored.
    """

    frame: geopandas.GeoDataFrame
    notes: tuple[str, ...] = ()

    @classmethod
    def build(
        cls,
        sources: Iterable[Source],
        *,
        workers: int = 1,
        notes: Iterable[str] = (),
        on_progress: Callable[[], None] | None = None,
    ) -> "Catalog":
        """Open every source, check its label, and build the table.

        Args:
            sources: images found by an indexer.
            workers: number of processes that open files at the same time.
            notes: what looked wrong to the indexer.
            on_progress: called after each image.

        Raises:
            CatalogError: there are no sources, an image is listed twice, a group has two splits,
                most of a domain is building by its masks, pixels have an impossible size on the
                ground, or a process was killed.
            RasterError: an image or mask cannot be read, or they differ in size or place.
            VectorError: footprints cannot be read, or cannot be placed on their image.
        """
        listed = list(sources)
        if not listed:
            raise CatalogError("no images to catalogue")
        check_each_once((os.path.abspath(each.image) for each in listed), "the dataset")
        check_groups((each.group, each.split, each.image) for each in listed)
        opened: list[OpenedSource] = []
        with mapping_in(workers) as mapping:
            for each in mapping(open_source, listed):
                opened.append(each)
                if on_progress is not None:
                    on_progress()
        check_shares(opened)
        told = (*notes, *notes_on(opened))
        return cls._of([(each.tile, each.outline) for each in opened], told)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "Catalog":
        """Read a catalog, and resolve the paths that are stored relative to it.

        Raises:
            CatalogError: the file is missing, is not a catalog, or lists no images, or one twice.
        """
        path = Path(path)
        require_catalog(path)
        try:
            frame = read_geoparquet(path, _COLUMNS, most_rows=_MOST_IMAGES)
            for column, earlier in _LATER.items():
                frame[column] = frame[column] if column in frame.columns else earlier
            if frame.empty:
                raise CatalogError(f"{path} lists no images")
            for column in _TEXTS:
                # Other programs write empty texts as missing values.
                frame[column] = frame[column].fillna("").astype(str)
            for column in FLAGS:
                frame[column] = [flag_of(stored) for stored in frame[column]]
            folder = folder_of(path, frame["image"].iloc[0])
            for column in ("image", "label"):
                frame[column] = [str(folder / stored) if stored else "" for stored in frame[column]]
            check_each_once(frame["image"], path)
            catalog = cls(frame)
            _ = catalog.tiles
        except (ArithmeticError, AttributeError, OSError, TypeError, ValueError) as error:
            raise CatalogError(f"{path} is not a catalog: {one_line(error)}") from error
        return catalog

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the catalog as GeoParquet, either completely or not at all.

        Paths in or below the folder of the catalog are stored relative to it, so that the folder
        can be moved; all others are stored as absolute paths.

        Raises:
            OutputError: the file cannot be written, or exists and is not a catalog.
            CatalogError: an image is listed twice.
        """
        check_each_once(self.frame["image"], "the catalog")
        if os.path.exists(path) and not is_catalog(path):
            raise OutputError(f"{path} exists and is not a catalog: choose another name")
        folder = Path(os.path.abspath(path)).parent
        frame = self.frame.copy()
        for column in ("image", "label"):
            frame[column] = [relative(stored, folder) for stored in frame[column]]
        with atomic_path(path) as temporary:
            frame.to_parquet(temporary, index=False)

    def __len__(self) -> int:
        return len(self.frame)

    @property
    def domains(self) -> list[str]:
        """Names of the domains, without repetition, in order of first appearance."""
        return list(dict.fromkeys(self.frame["domain"]))

    @property
    def tiles(self) -> list[Tile]:
        """The rows as ``Tile`` values, in order."""
        names = [field.name for field in fields(Tile)]
        return [
            Tile.of_row(dict(zip(names, row, strict=True)))
            for row in self.frame[names].itertuples(index=False, name=None)
        ]

    def select(
        self,
        *,
        domains: Iterable[str] | None = None,
        split: str | None = None,
        labelled: bool | None = None,
    ) -> "Catalog":
        """Return the rows of the given domains and split, with or without labels.

        A criterion that is None selects all rows.

        Raises:
            CatalogError: a domain is not in the catalog.
        """
        keep = np.ones(len(self.frame), dtype=bool)
        if domains is not None:
            wanted = list(domains)
            unknown = [name for name in wanted if name not in self.domains]
            if unknown:
                raise CatalogError(
                    f"no domain '{unknown[0]}' in the catalog: it has {', '.join(self.domains)}"
                )
            keep &= self.frame["domain"].isin(wanted).to_numpy()
        if split is not None:
            keep &= (self.frame["split"] == split).to_numpy()
        if labelled is not None:
            keep &= (self.frame["label"] != "").to_numpy() == labelled
        return Catalog(self.frame[keep].reset_index(drop=True))

    def assign_splits(self, shares: Mapping[str, float], *, seed: int = 0) -> "Catalog":
        """Return the catalog with a split for every row that has none.

        Groups are dealt as a whole, domain by domain, so that each split's share of the images
        of a domain comes close to the requested one; the remaining groups become ``train``. A
        group that occurs in several domains (the same ground seen by two sensors) has the same
        split in all of them.

        Args:
            shares: requested shares, in [0, 1], of ``val`` and ``test``.
            seed: seed of the order in which groups are dealt.

        Raises:
            CatalogError: a share is negative or names no split, the shares exceed 1 in total, or
                a group has two splits.
        """
        fitting = all(share >= 0.0 for share in shares.values()) and sum(shares.values()) <= 1.0
        if not fitting or not set(shares) <= set(SPLITS):
            raise CatalogError(
                f"split shares can be given for {', '.join(SPLITS)}, and must be at least 0 and "
                f"add up to at most 1: got {dict(shares)}"
            )
        frame = self.frame.copy()
        has_split = frame[frame["split"] != ""]
        check_groups(has_split[["group", "split", "image"]].itertuples(index=False, name=None))
        dealt: dict[str, str] = dict(zip(has_split["group"], has_split["split"], strict=True))
        sizes: dict[str, Counter[str]] = {}
        for domain, group in zip(frame["domain"], frame["group"], strict=True):
            sizes.setdefault(domain, Counter())[group] += 1
        for domain, of_domain in sizes.items():
            rng = np.random.default_rng([seed, *domain.encode()])
            dealt |= _deal(of_domain, dict(shares), dealt, rng=rng)
        is_open = frame["split"] == ""
        frame.loc[is_open, "split"] = frame.loc[is_open, "group"].map(dealt)
        return Catalog(frame, tuple(dict.fromkeys([*self.notes, *note_on_ground(frame)])))

    def overview(self) -> list[dict[str, Any]]:
        """Return one row per domain: images, images per split, resolution, and share of buildings.

        ``gsd_m`` is the median in metres per pixel and ``buildings`` is the mean share of building
        pixels; each of them is None if it is unknown for all images.
        """
        rows = []
        for name, part in self.frame.groupby("domain", sort=False):
            splits = part["split"].value_counts()
            gsd_m, buildings = part["gsd_m"].median(), part["building_fraction"].mean()
            rows.append(
                {
                    "domain": str(name),
                    "images": len(part),
                    "labelled": int((part["label"] != "").sum()),
                    **{split: int(splits.get(split, 0)) for split in SPLITS},
                    "gsd_m": None if np.isnan(gsd_m) else float(gsd_m),
                    "buildings": None if np.isnan(buildings) else float(buildings),
                }
            )
        return rows

    def _facts(self) -> dict[str, object]:
        rows = self.overview()
        facts: dict[str, object] = {
            "images": f"{len(self):,}",
            "labelled": f"{sum(row['labelled'] for row in rows):,}",
        }
        for row in rows[:_MOST_LISTED]:
            splits = ", ".join(f"{row[split]} {split}" for split in SPLITS if row[split])
            gsd = "" if row["gsd_m"] is None else f", {row['gsd_m']:.3g} m"
            name = row["domain"] if row["domain"] not in facts else f"domain {row['domain']}"
            facts[name] = f"{row['images']} images{gsd}" + (splits and f": {splits}")
        if len(rows) > _MOST_LISTED:
            facts["…"] = f"{len(rows) - _MOST_LISTED} more domains"
        return facts

    def _picture(self) -> Images:
        """Return the middle image of each of the first domains."""
        if not len(self):
            raise ValueError("there are no images")
        shown, names = [], list(map(str, self.domains[:_MOST_SHOWN]))
        for name in names:
            tiles = self.select(domains=[name]).tiles
            with tiles[len(tiles) // 2].open() as raster:
                shown.append(raster.read_decimated(_THUMBNAIL_PX**2).thumbnail(_THUMBNAIL_PX))
        return Images(np.concatenate(shown, axis=1), names)

    def split_hash(self) -> str:
        """Return a hash of the images and their splits; equal hashes mean equal experiments."""
        rows = self.frame[["domain", "group", "image", "split"]].itertuples(index=False)
        lines = sorted(f"{d}\t{g}\t{Path(i).name}\t{s}" for d, g, i, s in rows)
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]

    def split_hashes(self, domains: Iterable[str]) -> dict[str, str]:
        """Return the hash of the splits of each of some domains."""
        return {name: self.select(domains=[name]).split_hash() for name in domains}

    @classmethod
    def join(cls, catalogs: Mapping[str, "Catalog"]) -> "Catalog":
        """Return a catalog with the rows of several, each image once.

        Args:
            catalogs: catalogs by the names by which messages refer to them.

        Raises:
            CatalogError: an image is in two catalogs with another label, domain, group or split, or
                is read in another way.
        """
        rows: dict[str, tuple[str, tuple[Any, ...]]] = {}
        splits: dict[str, tuple[str, str]] = {}
        frames, notes = [], []
        for name, catalog in catalogs.items():
            new = []
            columns = ["image", "label", "domain", "group", "split", "gsd_m", *FLAGS, *VALUES]
            for row in catalog.frame[columns].itertuples(index=False, name=None):
                values = _what_counts(*row)
                image, group, split = row[0], row[3], row[4]
                before = rows.setdefault(image, (name, values))
                if before[1] != values:
                    raise CatalogError(
                        f"{image} is in {before[0]} and in {name}, with different labels, domains, "
                        "groups, splits, metres per pixel, nodata or values of its mask: leave it "
                        "out of one of them"
                    )
                new.append(before[0] == name)
                earlier = splits.setdefault(group, (name, split))
                if earlier[1] != split and earlier[0] != name:
                    notes.append(
                        f"group '{group}' is {earlier[1]} in {earlier[0]} and {split} in {name}: "
                        "if it is the same ground, a test on it is not independent of the training"
                    )
            frames.append(catalog.frame[new])
        twice = sum(map(len, catalogs.values())) - sum(map(len, frames))
        if twice:
            notes.append(f"images that two catalogs have are kept once: {twice}")
        both = geopandas.GeoDataFrame(pandas.concat(frames, ignore_index=True), crs="EPSG:4326")
        return cls(both, tuple(dict.fromkeys(notes)))

    @classmethod
    def _of(cls, rows: list[tuple[Tile, Any]], notes: tuple[str, ...]) -> "Catalog":
        columns: dict[str, list[Any]] = {
            field.name: [getattr(tile, field.name) for tile, _ in rows] for field in fields(Tile)
        }
        # Names carry meaning, and the files that links lead to may have names without any.
        columns["image"] = [os.path.abspath(path) for path in columns["image"]]
        columns["label"] = [os.path.abspath(path) if path else "" for path in columns["label"]]
        for name in ("image", "label", "domain", "group"):
            for text in columns[name]:
                if "\0" in text or any("\ud800" <= letter <= "\udfff" for letter in text):
                    raise CatalogError(f"the {name} {text!r} is not UTF-8: rename it")
        for name in ("gsd_m", "nodata", "building_fraction"):
            columns[name] = [math.nan if value is None else float(value) for value in columns[name]]
        outlines = [outline for _, outline in rows]
        return cls(geopandas.GeoDataFrame(columns, geometry=outlines, crs="EPSG:4326"), notes)


def is_catalog(path: str | os.PathLike[str]) -> bool:
    """Return whether a file is a catalog, without reading its rows."""
    return has_columns(path, _COLUMNS)


def _what_counts(
    image: str, label: str, domain: str, group: str, split: str, gsd_m: float, *how: Any
) -> tuple[Any, ...]:
    """Return what must be the same in two catalogs that have an image.

    How masks are read does not matter without one, and neither does the order of their values.
    """
    black, instances, *values = how
    # Versions of PROJ differ in the last digits.
    row = (image, label, domain, group, split, f"{gsd_m:.4g}", black)
    if not label or Path(label).suffix.lower() in VECTOR_SUFFIXES:
        return row
    return (*row, instances, *(frozenset(text.split()) for text in values))


def _deal(
    sizes: Mapping[str, int],
    shares: Mapping[str, float],
    dealt: Mapping[str, str],
    *,
    rng: np.random.Generator,
) -> dict[str, str]:
    """Deal the groups of a domain to splits.

    A split takes a group if that brings it closer to its share. Groups that already have a
    split, in this or another domain, keep it and count towards the share.
    """
    total = sum(sizes.values())
    result = {name: dealt[name] for name in sizes if name in dealt}
    waiting = [name for name in rng.permutation(sorted(sizes)) if name not in result]
    for split, share in shares.items():
        taken = sum(sizes[name] for name, where in result.items() if where == split)
        for name in list(waiting):
            if abs(taken + sizes[name] - share * total) < abs(taken - share * total):
                result[name] = split
                taken += sizes[name]
                waiting.remove(name)
    return result | dict.fromkeys(waiting, "train")
