"""A layout's options are the annotated keywords of its finder."""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import pytest

from rhm.data.catalog import Source
from rhm.data.layouts.layout import DatasetLayout, LayoutOption, silent
from rhm.data.layouts.registry import LAYOUTS
from rhm.errors import CatalogError


def find(
    folder: str | os.PathLike[str],
    *,
    year: Annotated[int | None, LayoutOption("Year.", kind=int, minimum=1900)] = None,
    least_area: Annotated[str, LayoutOption("Least area.")] = "all",
    plain: int = 0,
    tell: Callable[[str], None] = silent,
) -> list[Source]:
    tell("c.tif is left out")
    name = f"{year} {least_area} {plain}"
    return [
        Source(Path(folder, "a.tif"), None, "town", name),
        Source(Path(folder, "b.tif"), None, "town", name, black_is_nodata=True),
    ]


LAYOUT = DatasetLayout("a town", find)


def test_annotated_keywords_are_options() -> None:
    assert LAYOUT.options == {
        "year": LayoutOption("Year.", kind=int, flag="--year", minimum=1900),
        "least_area": LayoutOption("Least area.", flag="--least-area"),
    }


def test_options_reach_the_finder(tmp_path: Path) -> None:
    assert {each.group for each in LAYOUT.sources(tmp_path)} == {"None all 0"}
    found = LAYOUT.sources(tmp_path, year=2026, least_area="large")
    assert {each.group for each in found} == {"2026 large 0"}


def test_what_the_finder_leaves_out_is_told(tmp_path: Path) -> None:
    notes: list[str] = []
    LAYOUT.sources(tmp_path, tell=notes.append)
    assert notes == ["c.tif is left out"]


def test_black_is_nodata_where_the_layout_or_the_user_says_so(tmp_path: Path) -> None:
    said = [each.black_is_nodata for each in LAYOUT.sources(tmp_path)]
    assert said == [False, True]
    assert all(each.black_is_nodata for each in LAYOUT.sources(tmp_path, black_is_nodata=True))


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_layout_says_on_one_line_what_it_is(name: str) -> None:
    summary = LAYOUTS[name].summary
    assert summary
    assert "\n" not in summary
    assert all(option.help.endswith(".") for option in LAYOUTS[name].options.values())


def test_a_folder_that_cannot_be_read_is_one_line() -> None:
    def closed(folder: str, *, tell: Callable[[str], None] = silent) -> list[Source]:
        raise PermissionError(errno.EACCES, "Permission denied", folder)

    with pytest.raises(CatalogError, match=r"^towns cannot be read: Permission denied$"):
        DatasetLayout("Towns.", closed).sources("towns")

    def odd(folder: str, *, tell: Callable[[str], None] = silent) -> list[Source]:
        raise OSError("no such share")

    with pytest.raises(CatalogError, match=r"^a folder cannot be read: no such share$"):
        DatasetLayout("Towns.", odd).sources("towns")
