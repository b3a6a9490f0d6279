"""Opening the images that an indexer found, and comparing each with its label.

What is wrong is refused at once. What only looks wrong is a note: one for each kind, however many
images it concerns.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any

import numpy as np
import shapely
from geopandas import GeoDataFrame
from numpy.typing import NDArray

from rhm.data.labels import IGNORE, Label
from rhm.data.rasters.georeference import is_square, outline, pixels_on_ground
from rhm.data.rasters.pixels import Pixels
from rhm.data.rasters.raster import Raster
from rhm.data.rasters.windows import partition
from rhm.data.sources import Source, Tile
from rhm.data.vectors.antimeridian import cut_at_meridian
from rhm.data.vectors.vector_layer import count_features
from rhm.errors import CatalogError
from rhm.worker_processes import begin_worker, interrupts_held

MOSTLY_BUILDING = 0.5
"""Share of a domain from which it cannot be that all of it is building."""

_BINARY = "make masks of 0 and 1 of them"
_SAME_GROUND = 0.1
"""Share of the smaller one of two images above which what they share is no mere edge."""

_AT_ONCE = 256
"""Number of outlines that are compared with all others at once."""

_WINDOW_PX = 2048
_SAMPLED = 4  # every fourth row and column shows which values a mask has
_MOST_VALUES = 12

_Value = tuple[float, ...]


@dataclass(frozen=True)
class OpenedSource:
    """An image with what its files say.

    Attributes:
        tile: row of the catalog.
        outline: outline in EPSG:4326.
        mask_values: values of its mask other than zero, one tuple with a number for each band,
            whole ones as int; at most a dozen, and empty without a mask or if the values of
            buildings were given.
        misses: whether its label has footprints, but none on the image.
    """

    tile: Tile
    outline: shapely.Geometry
    mask_values: frozenset[_Value] = frozenset()
    misses: bool = False


def check_each_once(images: Iterable[str], where: object) -> None:
    """Check that no image is listed twice.

    Args:
        images: paths, spelled alike.
        where: what lists them, for the message.

    Raises:
        CatalogError: one is.
    """
    seen: set[str] = set()
    for image in images:
        if image in seen:
            raise CatalogError(f"{where} lists {image} more than once: list each image once")
        seen.add(image)


def check_groups(images: Iterable[tuple[str, str, object]]) -> None:
    """Check that no group has two splits, in the same domain or in several.

    Args:
        images: group, split or an empty text, and path of each image.

    Raises:
        CatalogError: one has.
    """
    first: dict[str, tuple[str, object]] = {}
    for group, split, image in images:
        earlier = first.setdefault(group, (split, image)) if split else (split, image)
        if earlier[0] != split:
            raise CatalogError(
                f"group '{group}' is {earlier[0]} for {earlier[1]} and {split} for {image}: give "
                "it one split, or other groups to images of other ground"
            )


@contextmanager
def mapping_in(workers: int) -> Iterator[Callable[..., Iterable[Any]]]:
    """Yield an order-preserving ``map`` that runs in this process or in several.

    Not in threads, because GDAL's rasteriser would warn at random of lost georeferencing.

    Args:
        workers: number of processes; with 1, this process.

    Raises:
        CatalogError: a process was killed.
    """
    if workers < 2:
        yield map
        return
    # Not all inherit that interrupts are ignored: with one that is idle, the next starts later.
    with ProcessPoolExecutor(
        workers,
        mp_context=get_context("spawn"),
        initializer=begin_worker,
    ) as pool:
        try:
            with interrupts_held():
                for _ in range(workers):
                    pool.submit(int)  # each starts one process, unless one is idle
            yield pool.map
        except BrokenProcessPool as error:
            raise CatalogError(
                "a process that opens images was killed (out of memory?): use fewer --workers"
            ) from error
        except BaseException:
            # What they have begun would be waited for, and may take minutes.
            for process in list(pool._processes.values()):
                process.terminate()
            raise
        finally:
            pool.shutdown(cancel_futures=True)


def open_source(source: Source) -> OpenedSource:
    """Open an image and its label.

    Raises:
        RasterError: the image or mask cannot be read, or they differ in size or place.
        VectorError: footprints cannot be read, or cannot be placed on their image.
        CatalogError: the pixels have an impossible size on the ground.
    """
    fraction, values, misses = None, frozenset[_Value](), False
    with source.open() as raster:
        info = raster.info
        raster.check_dtype()
        if source.label is not None:
            with source.open_label(raster) as label:
                fraction, values = _looked_through(label, raster)
                found = label.footprints
                misses = found is not None and found.empty and count_features(source.label) > 0
    tile = Tile(
        image=source.image,
        label=source.label,
        domain=source.domain,
        group=source.group,
        split=source.split,
        gsd_m=source.gsd_m if info.gsd_m is None else info.gsd_m,
        black_is_nodata=source.black_is_nodata,
        building_values=source.building_values,
        boundary_values=source.boundary_values,
        contact_values=source.contact_values,
        instances=source.instances,
        width=info.width,
        height=info.height,
        bands=len(info.bands),
        dtype=info.dtype,
        crs=info.crs.to_string() if info.crs else "",
        nodata=info.nodata,
        building_fraction=fraction,
        pixel_aspect=info.pixel_aspect,
    )
    tile.check_possible()
    place = cut_at_meridian(outline(info.crs, info.transform, info.height, info.width))
    explained = source.building_values or source.instances
    return OpenedSource(tile, place, frozenset() if explained else values, misses)


def check_shares(opened: Sequence[OpenedSource]) -> None:
    """Check that not most of a domain is building by its masks.

    Masks for which the values of buildings were given are believed.

    Raises:
        CatalogError: it is.
    """
    buildings: Counter[str] = Counter()
    pixels: Counter[str] = Counter()
    example: dict[str, OpenedSource] = {}
    for each in opened:
        tile = each.tile
        if each.mask_values and tile.building_fraction is not None:
            size = tile.width * tile.height
            pixels[tile.domain] += size
            buildings[tile.domain] += round(size * tile.building_fraction)
            example.setdefault(tile.domain, each)
    for domain, count in pixels.items():
        share = buildings[domain] / count
        if share >= MOSTLY_BUILDING:
            first = example[domain]
            raise CatalogError(
                f"{domain}: {share:.0%} of its masks is building, as {first.tile.label} has "
                f"{_told(first.mask_values)} besides 0 "
                + (
                    "(inverted masks, or many classes?): give the values of buildings with `rhm "
                    "data index folder --building-value`"
                    if _are_whole(first.mask_values)
                    else f"(probabilities?): {_BINARY}"
                )
            )


def notes_on(opened: Sequence[OpenedSource]) -> tuple[str, ...]:
    """Return what looks wrong, one sentence for each kind and domain.

    A file of footprints that several images share misses them only if it misses all of them.
    """
    missed = [each.tile for each in opened if each.misses]
    hit = {each.tile.label for each in opened if not each.misses}
    astray = list(dict.fromkeys(str(tile.label) for tile in missed if tile.label not in hit))
    notes = []
    if astray:
        notes.append(
            f"{counted_names(astray)} has footprints, but none on its image: check its coordinate "
            "reference system, and which image it belongs to"
        )
    many: dict[str, list[OpenedSource]] = {}
    for each in opened:
        if len(each.mask_values) > 1:
            many.setdefault(each.tile.domain, []).append(each)
    for domain, of_domain in many.items():
        labels = counted_names([str(each.tile.label) for each in of_domain])
        notes.append(
            f"{domain}: {labels} has {_told(of_domain[0].mask_values)} besides 0, which all count "
            "as building: if they are "
            + (
                "classes, give those of buildings with --building-value"
                if _are_whole(of_domain[0].mask_values)
                else f"probabilities, {_BINARY}"
            )
        )
    return (
        *notes,
        *_across_domains(opened),
        *_without_resolution(opened),
        *_elongated(opened),
    )


def _across_domains(opened: Sequence[OpenedSource]) -> Iterator[str]:
    """Yield a note if groups have images in several domains."""
    domains: dict[str, dict[str, None]] = {}
    for each in opened:
        domains.setdefault(each.tile.group, {})[each.tile.domain] = None
    several = [group for group, names in domains.items() if len(names) > 1]
    if several:
        first, second, *_ = domains[several[0]]
        what = "1 group has" if len(several) == 1 else f"{len(several)} groups have"
        yield (
            f"{what} images in several domains, such as '{several[0]}' in {first} and {second}, "
            "and the same split in all of them: if they show different ground, name other groups "
            "with --group-pattern or in the column group of a table"
        )


def _without_resolution(opened: Sequence[OpenedSource]) -> Iterator[str]:
    """Yield a note on the domains of which no image says its metres per pixel, and on each mix."""
    domains: dict[str, list[bool]] = {}
    for each in opened:
        domains.setdefault(each.tile.domain, []).append(each.tile.gsd_m is None)
    if nowhere := [domain for domain, unknown in domains.items() if all(unknown)]:
        yield (
            f"no image of {counted_names(nowhere)} says its metres per pixel, so a model of them "
            "would take scenes of any resolution as they are: give them with `rhm data index "
            "folder --gsd`, or in the column gsd_m of a table"
        )
    for domain, unknown in domains.items():
        if any(unknown) and not all(unknown):
            yield (
                f"{domain}: {sum(unknown)} of {len(unknown)} images do not say their metres per "
                "pixel, and are not resampled: give them with `rhm data index folder --gsd`, or in "
                "the column gsd_m of a table"
            )


def _elongated(opened: Sequence[OpenedSource]) -> Iterator[str]:
    """Yield a note on each domain that has pixels that are not square on the ground."""
    first: dict[str, Tile] = {}
    for each in opened:
        if each.tile.gsd_m is not None and not is_square(each.tile.pixel_aspect):
            first.setdefault(each.tile.domain, each.tile)
    for domain, tile in first.items():
        size = pixels_on_ground(tile.gsd_m, tile.pixel_aspect)
        yield (
            f"{domain}: the pixels of {tile.image} {size}: set data.gsd_m in training, so that the "
            "model sees them square"
        )


def note_on_ground(listed: GeoDataFrame) -> tuple[str, ...]:
    """Return a note if images of different splits of a catalog show the same ground.

    Args:
        listed: columns ``image`` and ``split``, and outlines, empty where unknown.
    """
    frame = listed[["image", "split"]].assign(outline=listed.geometry.to_numpy())
    frame["outline"] = shapely.make_valid(frame["outline"].to_numpy())
    frame = frame[np.nan_to_num(shapely.area(frame["outline"].to_numpy())) > 0.0]
    # Images of one outline, of which there may be thousands, are compared once for each split.
    keys = [shapely.to_wkb(frame["outline"].to_numpy()), frame["split"].to_numpy()]
    number = frame.groupby(keys, sort=False).ngroup().to_numpy()
    _, first = np.unique(number, return_index=True)
    outlines, split = (frame[name].to_numpy(dtype=object)[first] for name in ("outline", "split"))
    areas, tree = shapely.area(outlines), shapely.STRtree(outlines)
    found, example = np.zeros(len(outlines), bool), None
    for start in range(0, len(outlines), _AT_ONCE):
        open_ones = start + np.flatnonzero(~found[start : start + _AT_ONCE])
        one, other = tree.query(outlines[open_ones], "intersects")
        one = open_ones[one]
        one, other = (each[split[one] != split[other]] for each in (one, other))
        shared = shapely.area(shapely.intersection(outlines[one], outlines[other]))
        alike = shared > _SAME_GROUND * np.minimum(areas[one], areas[other])
        found[one[alike]] = found[other[alike]] = True
        if example is None and alike.any():
            example = int(one[alike][0]), int(other[alike][0])
    if example is None:
        return ()
    images = frame["image"].to_numpy(dtype=object)[first]
    told = " and ".join(f"{images[each]} ({split[each]})" for each in example)
    return (
        f"{int(found[number].sum())} images show ground that an image of another split shows, too, "
        f"such as {told}: name their groups (--group-pattern, or a table), otherwise the test "
        "repeats ground that was trained on",
    )


def counted_names(names: Sequence[str]) -> str:
    """Return the first of one or more names, and how many more there are."""
    return names[0] if len(names) == 1 else f"{names[0]} (and {len(names) - 1} more)"


def _told(values: frozenset[_Value]) -> str:
    words = [",".join(map(_written, value)) for value in sorted(values)]
    listed = " ".join(words[: _MOST_VALUES - 1])
    return (
        f"the value{'s' if len(words) > 1 else ''} {listed}{' ...' * (len(words) >= _MOST_VALUES)}"
    )


def _written(number: float) -> str:
    return str(number) if isinstance(number, int) else f"{number:.4g}"


def _are_whole(values: frozenset[_Value]) -> bool:
    return all(isinstance(number, int) for value in values for number in value)


def _looked_through(label: Label, raster: Raster) -> tuple[float, frozenset[_Value]]:
    """Return the share of the valid pixels that are building, and the values of a mask."""
    buildings = valid_pixels = 0
    values: set[_Value] = set()
    for window in partition(raster.info.height, raster.info.width, _WINDOW_PX):
        valid = raster.read(window).valid
        if label.mask is None:
            truth = label.read(window)
        else:
            stored = label.mask.read(window)
            truth = label.truth_of(stored, window)
            if len(values) < _MOST_VALUES:
                values |= _values(stored)
        buildings += int(np.count_nonzero((truth == 1) & valid))
        valid_pixels += int(np.count_nonzero((truth != IGNORE) & valid))
    return buildings / max(1, valid_pixels), frozenset(sorted(values)[:_MOST_VALUES])


def _values(stored: Pixels) -> set[_Value]:
    """Return the values of a sample of valid pixels, without the one that is zero in all bands."""
    sample: NDArray[np.generic] = stored.values[::_SAMPLED, ::_SAMPLED]
    sample = sample[stored.valid[::_SAMPLED, ::_SAMPLED]]
    found = np.unique(sample)[:, None] if sample.shape[1] == 1 else np.unique(sample, axis=0)
    return {
        tuple(int(number) if number.is_integer() else number for number in map(float, each))
        for each in found[: _MOST_VALUES + 1]
        if each.any()
    }
