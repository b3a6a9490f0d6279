"""Images and labels in folders of your own.

    DIR/images/a.tif + DIR/masks/a.png              one domain, named after DIR
    DIR/CITY/images/a.tif + DIR/CITY/masks/a.png    one domain per city
    DIR/CITY/images/a.tif + DIR/CITY/footprints/a.gpkg, or one vector file for all images

or in a table (CSV) with the columns ``image``, ``label`` (or ``mask``) and, as far as they are
known, ``domain``, ``group``, ``split`` and ``gsd_m``.

Images of the same name in several domains are one group, because they may be the same ground as
several sensors see it.
"""

import os
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Annotated

from rhm.data.catalog import Source
from rhm.data.indexing import counted_names
from rhm.data.labels import VECTOR_SUFFIXES, parse_building_values
from rhm.data.layouts.image_table import read_image_table
from rhm.data.layouts.layout import (
    DatasetLayout,
    LayoutOption,
    can_be_listed,
    listing,
    silent,
)
from rhm.data.vectors.vector_layer import OTHER_VECTOR_SUFFIXES
from rhm.errors import CatalogError
from rhm.required_files import require_folder, require_images

IMAGE_SUFFIXES = frozenset({".tif", ".tiff", ".png", ".jpg", ".jpeg", ".jp2", ".vrt"})
_OTHERS = """
    .asc .bil .bip .bmp .bsq .ecw .gif .grd .h5 .hdf .img .j2k .jpx .nc .nitf .ntf .sid .webp
"""
OTHER_IMAGE_SUFFIXES = frozenset(_OTHERS.split())
"""Suffixes of other rasters: an image or a mask with one of them is refused by name."""

_MASK_FOLDERS = ("masks", "labels", "gt")
_VECTOR_FOLDERS = ("footprints", "labels", "vectors")


def find_in_folder(
    folder: str | os.PathLike[str],
    *,
    table: Annotated[
        str | os.PathLike[str] | None,
        LayoutOption("CSV that lists images and labels.", kind=Path),
    ] = None,
    domain: Annotated[str | None, LayoutOption("Name of the one domain.")] = None,
    group_pattern: Annotated[
        str | None,
        LayoutOption(
            "Regular expression of the group in a name, in parentheses. By default, images of the "
            "same name are one group, whatever their domains."
        ),
    ] = None,
    gsd_m: Annotated[
        float | None,
        LayoutOption(
            "Metres per pixel where files do not say.", kind=float, flag="--gsd", minimum=0.001
        ),
    ] = None,
    building_values: Annotated[
        Sequence[str],
        LayoutOption(
            "Value of buildings in the masks, or colour such as 0,0,255; may be repeated.",
            kind=list[str],
            flag="--building-value",
        ),
    ] = (),
    boundary_values: Annotated[
        Sequence[str],
        LayoutOption(
            "Value of the boundary of buildings in the masks, as in those of ramp and fAIr; may be "
            "repeated.",
            kind=list[str],
            flag="--boundary-value",
        ),
    ] = (),
    contact_values: Annotated[
        Sequence[str],
        LayoutOption(
            "Value of background between near buildings in the masks; may be repeated.",
            kind=list[str],
            flag="--contact-value",
        ),
    ] = (),
    instances: Annotated[
        bool,
        LayoutOption("Each value of a mask is a building of its own.", kind=bool),
    ] = False,
    black_is_nodata: bool = False,
    tell: Callable[[str], None] = silent,
) -> list[Source]:
    """Find images and labels in a folder, or read them from a table.

    Args:
        folder: folder of the images; paths in the table are relative to it.
        table: CSV file that lists the images; without it, the folders are searched.
        domain: name of a single domain for all images; by default, the domain comes from the
            table or from the name of the folder.
        group_pattern: regular expression that is searched for in the name of each image; what its
            first group matches is the image's group. By default, the group comes from the table,
            or is the name of the image without its suffix, so that images of the same name share
            a group, and a split, even in different domains.
        gsd_m: ground sampling distance in metres, used if neither table nor file specifies it.
        building_values: values of buildings in masks of several classes, or of inverted masks:
            numbers, or colours such as ``0,0,255``. By default, all but zero and those of contact
            are building.
        boundary_values: values that mark the boundary of buildings, which is building.
        contact_values: values that mark background between near buildings.
        instances: whether each value of a mask is a building of its own.
        black_is_nodata: whether pixels that are zero in all bands are nodata.
        tell: called with a sentence on each kind of thing that is left out.

    Returns:
        One source per image, sorted by path.

    Raises:
        CatalogError: nothing is found, two images of a folder or two labels of an image have the
            same name, the table is malformed (see ``read_image_table``), or the pattern does not
            match a name.
    """
    root = Path(folder)
    require_folder(root)
    found = (
        read_image_table(root, Path(table), tell=tell) if table else _of_folders(root, tell=tell)
    )
    if not found:
        raise CatalogError(
            f"no images under {root}: expected images alone, or images/ beside masks/ or "
            "footprints/, in this folder or in its subfolders"
        )
    grouping = _pattern(group_pattern)
    values = {
        "building_values": " ".join(building_values),
        "boundary_values": " ".join(boundary_values),
        "contact_values": " ".join(contact_values),
    }
    for text in values.values():
        parse_building_values(text)
    return [
        Source(
            image=source.image,
            label=source.label,
            domain=domain or source.domain,
            group=source.group if grouping is None else _group(grouping, source.image),
            split=source.split,
            gsd_m=source.gsd_m if source.gsd_m is not None else gsd_m,
            black_is_nodata=black_is_nodata,
            instances=instances,
            **values,
        )
        for source in sorted(found, key=lambda source: source.image)
    ]


def images_in(path: str | os.PathLike[str]) -> list[Path]:
    """Return the image at a path, or all images of the folder at a path, sorted.

    Raises:
        CatalogError: the path does not exist, or the folder cannot be read, contains no images, or
            one in a format that is not read.
    """
    named = Path(path)
    if os.path.isdir(named):
        with listing():
            found = _images(named)
        if not found:
            raise CatalogError(f"no images in {named}")
        return found
    require_images(path)
    return [named]


def _of_folders(root: Path, *, tell: Callable[[str], None]) -> list[Source]:
    cities = [root] if (root / "images").is_dir() else _subfolders(root, tell)
    if not any((city / "images").is_dir() for city in cities):
        # Images alone are one place without labels.
        images = [image for image in _images(root) if image.parent == root]
        _check_names(images)
        _tell_unused(_Labels(root, []).unused, tell)
        _tell_left_out(root, images, tell)
        return [Source(image, None, _name_of(root), image.stem) for image in images]
    sources, unused, passed_over = [], list[Path](), list[Path]()
    for city in cities:
        folder = city / "images"
        images = _images(folder) if folder.is_dir() else []
        _check_names(images)
        if folder.is_dir():
            _check_read(city)
        label_of = _Labels(city, images)
        unused += label_of.unused
        passed_over += label_of.passed_over
        sources += [Source(image, label_of(image), _name_of(city), image.stem) for image in images]
    _tell_unused(unused, tell)
    _tell_left_out(root, [source.image for source in sources], tell)
    if passed_over:
        tell(
            f"{counted_names(list(map(str, passed_over)))} is left out, because there is a mask of "
            "the same image"
        )
    return sources


def _check_names(images: Iterable[Path]) -> None:
    """Refuse images of one name in a folder, which are the same picture or share a label.

    Raises:
        CatalogError: two have the same name without their suffixes.
    """
    named: dict[str, Path] = {}
    for image in images:
        other = named.setdefault(image.stem, image)
        if other != image:
            raise CatalogError(
                f"{other} and {image} have the same name: keep one, rename one, or list the "
                "images in a table (--table)"
            )


def _tell_unused(labels: Sequence[Path], tell: Callable[[str], None]) -> None:
    if labels:
        tell(
            f"{counted_names(list(map(str, labels)))} has no image of the same name in a folder "
            "'images' beside its own, and is left out; footprints of all images together are read "
            "where there is no mask"
        )


def _subfolders(root: Path, tell: Callable[[str], None] = silent) -> list[Path]:
    folders = sorted(path for path in root.iterdir() if path.is_dir())
    # A disk of its own has a folder "lost+found", which only its administrator may read.
    closed = [str(folder) for folder in folders if not can_be_listed(folder)]
    if closed:
        tell(f"{counted_names(closed)} cannot be read by this user, and is left out")
    return [folder for folder in folders if str(folder) not in closed]


def _tell_left_out(root: Path, found: Sequence[Path], tell: Callable[[str], None]) -> None:
    """Tell which images and footprints in a folder are where none are looked for."""
    labels = {*_MASK_FOLDERS, *_VECTOR_FOLDERS}
    # Hidden folders hold what other programs keep for themselves, such as thumbnails.
    cities = [
        folder
        for folder in _subfolders(root)
        if folder.name not in labels and not folder.name.startswith(".")
    ]
    places = (root, *(place for city in cities for place in (city, city / "images")))
    open_places = [place for place in places if place.is_dir()]
    known = set(map(str, found))
    images = [str(each) for place in open_places for each in _files(place, IMAGE_SUFFIXES)]
    if left := [image for image in images if image not in known]:
        tell(
            f"{counted_names(left)} is left out: images are read from folders 'images', or from a "
            "folder of nothing else"
        )
    if lost := [str(each) for place in open_places for each in _files(place, VECTOR_SUFFIXES)]:
        tell(
            f"{counted_names(lost)} is left out: footprints are read from a folder 'footprints' "
            "beside 'images'"
        )


def _name_of(folder: Path) -> str:
    """Return the name of a folder as it was given, whatever a link of that name leads to."""
    return Path(os.path.abspath(folder)).name


class _Labels:
    """Finds the label of each image of one city.

    Attributes:
        unused: labels that belong to none of the images.
        passed_over: footprints beside a mask of the same image, which is used.
    """

    def __init__(self, city: Path, images: Sequence[Path]) -> None:
        masks = _by_stem(city, _MASK_FOLDERS, IMAGE_SUFFIXES)
        vectors = _by_stem(city, _VECTOR_FOLDERS, VECTOR_SUFFIXES)
        stems = {image.stem for image in images}
        of_all = bool(stems) and not masks and len(vectors) == 1 and not stems & set(vectors)
        self._of_all: list[Path] = next(iter(vectors.values())) if of_all else []
        self._named: dict[str, list[Path]] = {
            # Of a mask and footprints of the same image, the mask is used.
            stem: masks.get(stem) or vectors[stem]
            for stem in {**masks, **vectors}
        }
        self.unused = [
            label
            for stem, labels in self._named.items()
            if stem not in stems and not of_all
            for label in labels
        ]
        self.passed_over = [
            label for stem in masks if stem in stems for label in vectors.get(stem, ())
        ]

    def __call__(self, image: Path) -> Path | None:
        if not self._named:
            return None
        labels = self._named.get(image.stem, self._of_all)
        if not labels:
            raise CatalogError(
                f"{image} has no label of the same name: add one, or move the image to a folder "
                "of unlabelled images"
            )
        if len(labels) > 1:
            raise CatalogError(
                f"{image} has several labels, {' and '.join(map(str, labels))}: keep one, or say "
                "which in a table (--table)"
            )
        return labels[0]


def _check_read(city: Path) -> None:
    """Refuse labels that would be passed over because of their format.

    Raises:
        CatalogError: a folder of labels contains such a file.
    """
    for name in dict.fromkeys((*_MASK_FOLDERS, *_VECTOR_FOLDERS)):
        _check_images(city / name, "a mask")
        unread = OTHER_VECTOR_SUFFIXES - IMAGE_SUFFIXES
        passed_over = _files(city / name, unread) if (city / name).is_dir() else []
        if passed_over:
            raise CatalogError(
                f"{passed_over[0]} is a label in a format that is not read: convert it to "
                f"GeoPackage (ogr2ogr labels.gpkg FILE), or move it elsewhere; footprints are read "
                f"from {', '.join(sorted(VECTOR_SUFFIXES))}"
            )


def _images(folder: Path) -> list[Path]:
    """Return the images of a folder.

    Raises:
        CatalogError: the folder contains an image in a format that is not read.
    """
    _check_images(folder, "an image")
    return _files(folder, IMAGE_SUFFIXES)


def _check_images(folder: Path, what: str) -> None:
    passed_over = _files(folder, OTHER_IMAGE_SUFFIXES) if folder.is_dir() else []
    if passed_over:
        raise CatalogError(
            f"{passed_over[0]} is {what} in a format that is not read: convert it to GeoTIFF "
            "(gdal_translate FILE image.tif), or move it elsewhere"
        )


def _by_stem(city: Path, names: tuple[str, ...], suffixes: frozenset[str]) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    for folder in (city / name for name in names):
        for path in _files(folder, suffixes) if folder.is_dir() else ():
            found.setdefault(path.stem, []).append(path)
    return found


def _files(folder: Path, suffixes: frozenset[str]) -> list[Path]:
    # Hidden files, such as "._a.tif", are left behind by other operating systems.
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in suffixes and not path.name.startswith(".")
    )


def _pattern(text: str | None) -> re.Pattern[str] | None:
    if text is None:
        return None
    try:
        pattern = re.compile(text)
    except re.error as error:
        raise CatalogError(f"'{text}' is not a regular expression: {error}") from error
    if not pattern.groups:
        raise CatalogError(
            f"'{text}' has no group in parentheses: enclose the part that names an image's group"
        )
    return pattern


def _group(pattern: re.Pattern[str], image: Path) -> str:
    match = pattern.search(image.stem)
    if match is None or match[1] is None:
        raise CatalogError(f"'{pattern.pattern}' does not match the name of {image}")
    return match[1]


LAYOUT = DatasetLayout(
    "images beside masks or footprints, in folders of your own or listed in a table (CSV)",
    find_in_folder,
)
