"""A table (CSV) that lists images and labels, with what is known of them."""

import csv
import math
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from rhm.data.catalog import SPLITS, Source
from rhm.data.indexing import check_each_once
from rhm.errors import CatalogError

COLUMNS = ("image", "label", "mask", "domain", "group", "split", "gsd_m")
"""Columns that are read; ``mask`` is another name of ``label``."""

_SURPLUS = "surplus cells"
_MEANT_AS_NUMBER = re.compile(r"\s*[-+~]?\s*[.,]?\d")


def read_image_table(root: Path, table: Path, *, tell: Callable[[str], None]) -> list[Source]:
    """Return the images that a table lists, in its order.

    An image without a domain is of one that is named after the folder, and one without a group is
    of the group of its name, together with the images of the same name in other domains. If the
    table gives these different splits, each of them is a group of its own.

    Args:
        root: folder that paths in the table are relative to.
        table: CSV file with the column ``image`` and others of ``COLUMNS``.
        tell: called with a sentence on columns that are not read.

    Raises:
        CatalogError: the table cannot be read, lacks a column, has one whose name is nearly that of
            a column it lacks, lists no images, an image twice, a missing file, or a value that is
            none.
    """
    rows, columns = _rows(table)
    _check_columns(table, columns, tell)
    if not rows:
        raise CatalogError(f"{table} lists no images")
    surplus = next((row for row in rows if any(row.get(_SURPLUS, ()))), None)
    if surplus is not None:
        raise CatalogError(f"{table} has more cells than columns in the row of {surplus['image']}")
    sources = [_of_row(root, table, row) for row in rows]
    check_each_once((os.path.abspath(source.image) for source in sources), table)
    return [
        replace(source, group=group)
        for source, group in zip(sources, _groups(rows, sources), strict=True)
    ]


def _groups(rows: Sequence[Mapping[str, str]], sources: Sequence[Source]) -> Iterator[str]:
    """Yield the group of each image: that of the table, of its name, or of its path."""
    splits: dict[str, set[str]] = {}
    for source in sources:
        splits.setdefault(source.group, set()).update({source.split} - {""})
    for row, source in zip(rows, sources, strict=True):
        if row.get("group") or len(splits[source.group]) < 2:
            yield source.group
        else:
            yield Path(row["image"]).with_suffix("").as_posix()


def _rows(table: Path) -> tuple[list[dict[str, str]], list[str]]:
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, restkey=_SURPLUS, restval="", strict=True)
            # Spreadsheets leave rows and columns without any text behind.
            rows = [row for row in reader if any(row.values())]
            return rows, [name for name in reader.fieldnames or () if name]
    except (OSError, ValueError, csv.Error) as error:
        reason = " ".join(str(error).split())
        raise CatalogError(f"{table} cannot be read as a table: {reason}") from error


def _check_columns(table: Path, columns: list[str], tell: Callable[[str], None]) -> None:
    if "image" not in columns:
        raise CatalogError(f"{table} has no column 'image': its columns are {columns}")
    twice = next((name for name in columns if columns.count(name) > 1), None)
    if twice is not None:
        raise CatalogError(f"{table} has the column '{twice}' more than once: keep one of them")
    absent = [name for name in COLUMNS if name not in columns]
    if "label" in columns or "mask" in columns:
        absent = [name for name in absent if name not in ("label", "mask")]
    unread = [name for name in columns if name not in COLUMNS]
    for name in unread:
        meant = next((column for column in absent if _is_meant(name, column)), None)
        if meant is not None:
            raise CatalogError(
                f"{table} has a column '{name}': did you mean '{meant}'? Rename it, or leave it out"
            )
    if unread:
        tell(f"{table} has columns that are not read: {', '.join(unread)}")


def _is_meant(name: str, column: str) -> bool:
    """Return whether a name is that of a column, but for its spelling, number or ending."""
    letters, wanted = re.sub(r"[\W_]", "", name).lower(), column.replace("_", "")
    spelled = (wanted, f"{wanted}s", f"{wanted}id", column.partition("_")[0])
    return letters in spelled or sorted(letters) == sorted(wanted)


def _of_row(root: Path, table: Path, row: dict[str, str]) -> Source:
    if not row["image"]:
        filled = [cell for cell in row.values() if cell]
        raise CatalogError(f"{table} has a row without an image: {filled}")
    image = root / row["image"]
    labels = [name for column in ("label", "mask") if (name := row.get(column))]
    if len(set(labels)) > 1:
        raise CatalogError(f"{table} has two labels for {image}, {' and '.join(labels)}: keep one")
    label = root / labels[0] if labels else None
    for path in (image, label):
        if path is not None and not os.path.isfile(path):
            raise CatalogError(f"{table} lists {path}, which does not exist")
    split = row.get("split", "")
    if split not in (*SPLITS, ""):
        raise CatalogError(f"{table} has unknown split '{split}': choose {', '.join(SPLITS)}")
    return Source(
        image=image,
        label=label,
        # The name of the folder as it was given, whatever a link of that name leads to.
        domain=row.get("domain") or Path(os.path.abspath(root)).name,
        group=row.get("group") or image.stem,
        split=split,
        gsd_m=_metres(table, image, row.get("gsd_m", "")),
    )


def _metres(table: Path, image: Path, text: str) -> float | None:
    """Return a positive number, or None for words, such as "unknown (varies by tile)"."""
    if not _MEANT_AS_NUMBER.match(text):
        return None
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0.0 < number < math.inf:
        raise CatalogError(
            f"{table} has the gsd_m '{text}' for {image}: give metres per pixel, such as 0.5, or "
            "leave it empty"
        )
    return number
