"""A table of images; law: nothing that it says is passed over without a word."""

from pathlib import Path

import pytest

from rhm.data.catalog import Source
from rhm.data.layouts.image_table import COLUMNS, read_image_table
from rhm.errors import CatalogError


def _read(folder: Path, text: str) -> tuple[list[Source], list[str]]:
    """The images of a table beside a.tif, b.tif and their masks a.png and b.png, and the notes."""
    for name in ("a.tif", "b.tif", "a.png", "b.png"):
        (folder / name).touch()
    (folder / "tiles.csv").write_text(text)
    notes: list[str] = []
    return read_image_table(folder, folder / "tiles.csv", tell=notes.append), notes


def _refused(folder: Path, text: str) -> str:
    with pytest.raises(CatalogError) as error:
        _read(folder, text)
    told = str(error.value)
    assert str(folder / "tiles.csv") in told
    assert "\n" not in told
    return told


def test_every_column_is_read_in_the_order_of_the_rows(tmp_path: Path) -> None:
    assert set(COLUMNS) == {"image", "label", "mask", "domain", "group", "split", "gsd_m"}
    text = "gsd_m,split,group,domain,mask,image\n0.5,val,g,north,b.png,b.tif\n,,,,,a.tif\n"
    (b, a), notes = _read(tmp_path, text)
    assert b == Source(tmp_path / "b.tif", tmp_path / "b.png", "north", "g", "val", 0.5)
    assert a == Source(tmp_path / "a.tif", None, tmp_path.name, "a")
    assert notes == []


@pytest.mark.parametrize(
    ("column", "meant"),
    [
        ("lable", "label"),
        ("Label", "label"),
        (" label", "label"),
        ("masks", "mask"),
        ("splits", "split"),
        ("group_id", "group"),
        ("gsd", "gsd_m"),
    ],
)
def test_a_column_with_nearly_the_name_of_one_that_is_missing_is_refused(
    tmp_path: Path, column: str, meant: str
) -> None:
    told = _refused(tmp_path, f"image,{column}\na.tif,a.png\n")
    assert f"has a column '{column}': did you mean '{meant}'" in told


def test_images_of_one_name_with_different_splits_are_apart(tmp_path: Path) -> None:
    for folder in ("north", "south"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "1.tif").touch()
    rows = "north/1.tif,north,train{}\nsouth/1.tif,south,{}\n"
    table = "image,domain,split\n"
    assert [each.group for each in _read(tmp_path, table + rows.format("", "test"))[0]] == [
        "north/1",
        "south/1",
    ]
    # Without a contradiction they may show the same ground, as two sensors see it.
    for split in ("train", ""):
        assert {each.group for each in _read(tmp_path, table + rows.format("", split))[0]} == {"1"}
    # Groups that the table gives are kept, and refused when the catalog is built.
    given = "image,domain,split,group\n" + rows.format(",g", "test,g")
    assert {each.group for each in _read(tmp_path, given)[0]} == {"g"}


def test_columns_that_are_not_read_are_told(tmp_path: Path) -> None:
    # "labels" is near a column that is there, and the mask is the label.
    _, notes = _read(tmp_path, "image,mask,labels,city,image_id,\na.tif,a.png,3,x,7,\n")
    assert notes == [f"{tmp_path}/tiles.csv has columns that are not read: labels, city, image_id"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("image\n", "lists no images"),
        ("image,label,label\na.tif,a.png,b.png\n", "has the column 'label' more than once"),
        ("image,label\na.tif,a.png\na.tif,b.png\n", "a.tif more than once"),
        ("image,label\na.tif,a.png\nb.tif,\n./a.tif,a.png\n", "a.tif more than once"),
        ("image,label,mask\na.tif,a.png,b.png\n", "has two labels for"),
        ("image,label\n,a.png\n", "has a row without an image: ['a.png']"),
    ],
)
def test_what_is_ambiguous_or_missing_is_refused(tmp_path: Path, text: str, told: str) -> None:
    assert told in _refused(tmp_path, text)


@pytest.mark.parametrize("text", ['"0,5"', '",5"', "-3", "0", "1e999", "0.5 m", "~0.3"])
def test_a_distance_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    told = _refused(tmp_path, f"image,gsd_m\na.tif,{text}\n")
    assert "has the gsd_m '" in told
    assert "a.tif: give metres per pixel, such as 0.5" in told


@pytest.mark.parametrize("text", ["", "unknown", "n/a", "-", "nan", "unknown (0.5 to 3)"])
def test_words_say_that_a_distance_is_unknown(tmp_path: Path, text: str) -> None:
    (source,), _ = _read(tmp_path, f"image,gsd_m\na.tif,{text}\n")
    assert source.gsd_m is None


def test_what_spreadsheets_leave_behind_is_no_image(tmp_path: Path) -> None:
    (source,), notes = _read(tmp_path, "image,label,,\na.tif,a.png,,\n,,,\n\n")
    assert (source.image, source.label, notes) == (tmp_path / "a.tif", tmp_path / "a.png", [])
