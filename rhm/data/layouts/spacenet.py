"""The SpaceNet building datasets SN1, SN2 and SN7, with their official file names.

SN1 ``3band/3band_AOI_1_RIO_img1.tif`` with ``vectordata/geojson/Geo_AOI_1_RIO_img1.geojson``,
or ``3band_013022223130_Public_img1.tif`` with ``013022223130_Public_img1_Geo.geojson``;
SN2 ``RGB-PanSharpen/RGB-PanSharpen_AOI_2_Vegas_img802.tif`` with
``geojson/buildings/buildings_AOI_2_Vegas_img802.geojson``, or
``PS-RGB/SN2_buildings_train_AOI_2_Vegas_PS-RGB_img802.tif`` with
``geojson_buildings/SN2_buildings_train_AOI_2_Vegas_geojson_buildings_img802.geojson``;
SN7 ``L15-…/images_masked/global_monthly_2018_01_mosaic_L15-….tif`` with
``labels/global_monthly_2018_01_mosaic_L15-…_Buildings.geojson``.

Images and labels are paired by the area and the number in their names. A GeoJSON file without
features means that its tile has no buildings.
"""

import os
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Annotated

from rhm.data.catalog import Source
from rhm.data.indexing import counted_names
from rhm.data.layouts.layout import DatasetLayout, LayoutOption, silent
from rhm.errors import CatalogError

PRODUCTS = ("RGB-PanSharpen", "PS-RGB", "3band", "global_monthly")
"""Products with three bands, as they are spelled in the names of images."""

_CHIP = re.compile(r"(?P<area>AOI_\d+_[A-Za-z]+|\d{12})(?:_[\w-]+)?_img(?P<number>\d+)")
_MONTH = re.compile(
    r"global_monthly_(?P<month>\d{4}_\d{2})_mosaic_(?P<area>L15-[\w-]+?_\d+_\d+_\d+)"
)
_AREAS = {"013022223130": "AOI_1_RIO", "013022223132": "AOI_1_RIO", "013022223133": "AOI_1_RIO"}

_Key = tuple[str, str]

_Products = Annotated[
    Sequence[str],
    LayoutOption(
        "Product of the images wanted, such as MUL-PanSharpen; may be repeated.",
        kind=list[str],
        flag="--product",
    ),
]


def find_spacenet(
    folder: str | os.PathLike[str],
    *,
    products: _Products = PRODUCTS,
    tell: Callable[[str], None] = silent,
) -> list[Source]:
    """Find images and labels anywhere below ``folder``.

    Args:
        folder: folder of one or several downloads.
        products: products of the images to find, for example ``["MUL-PanSharpen"]``.
        tell: called with a sentence on images and labels that are left out.

    Returns:
        One source per image, sorted. SN1 and SN2: the domain is the area (``AOI_2_Vegas``) and
        the group is the chip. SN7: the domain is ``SN7`` and the group is the area, because all
        months show the same ground. Images without a GeoJSON file are unlabelled.

    Raises:
        CatalogError: no image has an official name, or two images or two labels belong to the
            same tile.
    """
    files = _files_below(Path(folder), tell)
    images = _images(files, products, tell)
    if not images:
        raise CatalogError(
            f"no SpaceNet images under {folder}: expected names such as "
            "RGB-PanSharpen_AOI_2_Vegas_img802.tif (for other names use `rhm data index folder`)"
        )
    labels = _labels(files)
    sources = []
    for key, image in sorted(images.items()):
        area, number = key
        group = area if _is_month(key) else number
        sources.append(Source(image, labels.get(key), _domain(key), group))
    unused = [str(label) for key, label in labels.items() if key not in images]
    if unused:
        tell(f"{counted_names(unused)} belongs to none of the images, and is left out")
    return sources


def domain_of(image: Path) -> str | None:
    """Return the domain of an image with an official file name, as in catalogs; otherwise None."""
    key = _key(image.stem)
    return None if key is None else _domain(key)


def _is_month(key: _Key) -> bool:
    return key[1].startswith("month ")


def _domain(key: _Key) -> str:
    return "SN7" if _is_month(key) else key[0]


def _key(stem: str) -> _Key | None:
    month = _MONTH.search(stem)
    if month:
        return month["area"], f"month {month['month']}"
    chip = _CHIP.search(stem)
    if chip:
        return _AREAS.get(chip["area"], chip["area"]), f"{chip['area']}_img{chip['number']}"
    return None


def _files_below(root: Path, tell: Callable[[str], None]) -> list[Path]:
    """Return the files in a folder and its subfolders, sorted; links to folders are followed."""
    found, visited, closed = [], set[str](), list[OSError]()
    waiting = [str(root)]
    # Links come last, so that a folder that is there itself is not called by the name of a link.
    while waiting:
        for folder, subfolders, names in os.walk(waiting.pop(0), onerror=closed.append):
            # A link may lead back to a folder above it.
            if (real := os.path.realpath(folder)) in visited:
                subfolders.clear()
                continue
            visited.add(real)
            subfolders.sort()
            below = (os.path.join(folder, name) for name in subfolders)
            waiting += [path for path in below if os.path.islink(path)]
            found += [Path(folder, name) for name in names]
    unread = [str(error.filename) for error in closed]
    if str(root) in unread:
        raise closed[unread.index(str(root))]
    if unread:
        tell(f"{counted_names(unread)} cannot be read by this user, and is left out")
    return sorted(found)


def _images(
    files: Sequence[Path], products: Sequence[str], tell: Callable[[str], None]
) -> dict[_Key, Path]:
    wanted = [
        path
        for path in files
        if path.suffix.lower() in (".tif", ".tiff")
        and not path.name.startswith(".")
        and any(f"_{product}_" in f"_{path.stem}" for product in products)
        and not path.stem.endswith("_UDM")
    ]
    nameless = [str(path) for path in wanted if _key(path.stem) is None]
    if nameless:
        tell(f"{counted_names(nameless)} is not named like an image of SpaceNet, and is left out")
    # SN7 contains each month twice; the masked image declares clouds as nodata.
    masked = [path for path in wanted if path.parent.name == "images_masked"]
    others = [path for path in wanted if path.parent.name != "images_masked"]
    return _by_key(others) | _by_key(masked)


def _labels(files: Sequence[Path]) -> dict[_Key, Path]:
    return _by_key(
        path
        for path in files
        if path.suffix.lower() == ".geojson"
        # Not labels: SN7's masks of unusable data, its labels matched over time, and roads.
        and not path.stem.endswith("_UDM")
        and not path.parent.name.startswith("labels_match")
        and "roads" not in path.stem
    )


def _by_key(paths: Iterable[Path]) -> dict[_Key, Path]:
    found: dict[_Key, Path] = {}
    for path in sorted(paths):
        key = _key(path.stem)
        if key is None or path.name.startswith("."):
            continue
        if key in found:
            raise CatalogError(f"{found[key]} and {path} both belong to the same tile: keep one")
        found[key] = path
    return found


LAYOUT = DatasetLayout("SpaceNet 1, 2 and 7, by their official file names", find_spacenet)
