import csv
import os
from pathlib import Path

import pytest

from rhm.data.catalog import Catalog
from rhm.data.layouts.folder import LAYOUT, find_in_folder, images_in
from rhm.errors import CatalogError


def _files(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def _table(folder: Path, text: str) -> Path:
    path = folder / "tiles.csv"
    path.write_text(text, encoding="latin-1")
    return path


@pytest.mark.parametrize("masks", ["masks", "labels", "gt"])
def test_one_domain_of_images_and_masks(tmp_path: Path, masks: str) -> None:
    town = tmp_path / "town"
    _files(town, "images/b.TIF", "images/a.png", f"{masks}/a.png", f"{masks}/b.tif")
    _files(town, "images/._a.png", f"{masks}/._a.png", "images/a.png.aux.xml", "images/notes.txt")
    first, second = find_in_folder(town, gsd_m=0.3, black_is_nodata=True)
    assert (first.image, first.label) == (town / "images/a.png", town / masks / "a.png")
    assert (second.image, second.label) == (town / "images/b.TIF", town / masks / "b.tif")
    assert (first.domain, first.group, first.split) == ("town", "a", "")
    assert (first.gsd_m, first.black_is_nodata) == (0.3, True)


def test_a_domain_per_city(tmp_path: Path) -> None:
    _files(tmp_path, "north/images/a.tif", "north/masks/a.png", "north/masks/unused.png")
    _files(tmp_path, "south/images/a.tif", "south/footprints/a.gpkg", "notes/readme.txt")
    _files(tmp_path, "west/images/a.tif")
    found = [(source.domain, source.label) for source in find_in_folder(tmp_path)]
    assert found == [
        ("north", tmp_path / "north/masks/a.png"),
        ("south", tmp_path / "south/footprints/a.gpkg"),
        ("west", None),
    ]
    assert {source.domain for source in find_in_folder(tmp_path, domain="all")} == {"all"}


@pytest.mark.parametrize("vectors", ["footprints", "labels", "vectors"])
def test_one_vector_file_for_all_images(tmp_path: Path, vectors: str) -> None:
    _files(tmp_path, "images/a.tif", "images/b.tif", f"{vectors}/all.geojson")
    assert [source.label for source in find_in_folder(tmp_path)] == [
        tmp_path / vectors / "all.geojson"
    ] * 2


@pytest.mark.parametrize("label", ["masks/a.png", "footprints/a.gpkg"])
def test_an_image_whose_label_is_missing_is_named(tmp_path: Path, label: str) -> None:
    # A label named after one image says nothing of the other.
    _files(tmp_path, "images/a.tif", "images/b.tif", label)
    with pytest.raises(CatalogError, match="has no label of the same name") as error:
        find_in_folder(tmp_path)
    assert str(tmp_path / "images" / "b.tif") in str(error.value)


def _notes(folder: Path) -> list[str]:
    notes: list[str] = []
    find_in_folder(folder, tell=notes.append)
    return notes


@pytest.mark.parametrize(
    "names",
    [
        ("masks/a.tif", "masks/a.png"),
        ("masks/a.tif", "labels/a.tif"),
        ("footprints/a.gpkg", "vectors/a.geojson"),
        ("footprints/all.gpkg", "vectors/all.geojson"),
    ],
)
def test_several_labels_of_one_image_are_refused(tmp_path: Path, names: tuple[str, ...]) -> None:
    _files(tmp_path, "images/a.tif", *names)
    with pytest.raises(CatalogError, match=r"images/a\.tif has several labels") as error:
        find_in_folder(tmp_path)
    assert all(str(tmp_path / name) in str(error.value) for name in names)


@pytest.mark.parametrize(
    ("mask", "footprints"),
    [("masks/a.tif", "footprints/a.gpkg"), ("labels/a.tif", "labels/a.geojson")],
)
def test_of_a_mask_and_footprints_the_mask_is_used(
    tmp_path: Path, mask: str, footprints: str
) -> None:
    # As many downloads have them.
    _files(tmp_path, "images/a.tif", mask, footprints)
    (source,) = find_in_folder(tmp_path)
    assert source.label == tmp_path / mask
    (note,) = _notes(tmp_path)
    assert note == f"{tmp_path / footprints} is left out, because there is a mask of the same image"


@pytest.mark.parametrize("folder", ["images", "."])
def test_images_of_one_name_in_a_folder_are_refused(tmp_path: Path, folder: str) -> None:
    _files(tmp_path, f"{folder}/a.tif", f"{folder}/a.png")
    with pytest.raises(CatalogError, match=r"a\.png and .*a\.tif have the same name"):
        find_in_folder(tmp_path)


def test_labels_without_an_image_are_told(tmp_path: Path) -> None:
    _files(tmp_path, "north/images/a.tif", "north/masks/a.png", "north/masks/b.png")
    _files(tmp_path, "south/labels/c.tif", "west/images/a.tif", "west/footprints/town.gpkg")
    (note,) = _notes(tmp_path)
    assert note.startswith(f"{tmp_path}/north/masks/b.png (and 1 more) has no image of the same")
    # One file for all images is used, whatever its name.
    assert _notes(tmp_path / "west") == []


def test_labels_beside_images_that_are_alone_are_told(tmp_path: Path) -> None:
    _files(tmp_path, "a.tif", "masks/a.png")
    (note,) = _notes(tmp_path)
    assert note.startswith(f"{tmp_path}/masks/a.png has no image of the same name in a folder 'im")


def test_footprints_beside_the_folder_of_images_are_told(tmp_path: Path) -> None:
    _files(tmp_path, "north/images/a.tif", "north/buildings.geojson", "south/images/a.tif")
    (note,) = _notes(tmp_path)
    assert note.startswith(f"{tmp_path}/north/buildings.geojson is left out: footprints are read")


def test_images_of_one_name_are_one_group_in_all_domains(tmp_path: Path) -> None:
    _files(tmp_path, "north/images/a.tif", "south/images/a.tif", "south/images/b.tif")
    assert [each.group for each in find_in_folder(tmp_path)] == ["a", "a", "b"]


@pytest.mark.parametrize("names", [(), ("images/readme.txt",), ("x/y/images/a.tif",)])
def test_a_folder_without_images_is_refused(tmp_path: Path, names: tuple[str, ...]) -> None:
    _files(tmp_path, *names)
    with pytest.raises(CatalogError, match="no images under"):
        find_in_folder(tmp_path)
    with pytest.raises(CatalogError, match="no folder at"):
        find_in_folder(tmp_path / "none")


def test_groups_come_from_the_pattern(tmp_path: Path) -> None:
    _files(tmp_path, "images/t1_0_0.tif", "images/t1_0_1.tif", "images/t2_0_0.tif")
    sources = find_in_folder(tmp_path, group_pattern=r"^(t\d+)_")
    assert [source.group for source in sources] == ["t1", "t1", "t2"]


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("t(", "not a regular expression"),
        (r"^t\d", "has no group in parentheses"),
        (r"^u(\d)", "does not match the name of"),
        (r"^t1|(u)", "does not match the name of"),
    ],
)
def test_a_pattern_that_gives_no_group_is_refused(
    tmp_path: Path, pattern: str, message: str
) -> None:
    _files(tmp_path, "images/t1.tif")
    with pytest.raises(CatalogError, match=message) as error:
        find_in_folder(tmp_path, group_pattern=pattern)
    assert "\n" not in str(error.value)


def test_a_table_says_what_it_knows(tmp_path: Path) -> None:
    _files(tmp_path, "x/a.tif", "y/a.png", "x/b.tif", "x/c.tif")
    table = _table(
        tmp_path,
        "image,mask,domain,group,split,gsd_m\n"
        "x/b.tif,,north,g1,test,unknown\n"
        "x/a.tif,y/a.png,south,g2,val,0.5\n"
        f"{tmp_path}/x/c.tif\n",
    )
    a, b, c = find_in_folder(tmp_path, table=table)
    assert (a.label, a.domain, a.group, a.split, a.gsd_m) == (
        tmp_path / "y/a.png", "south", "g2", "val", 0.5,
    )  # fmt: skip
    assert (b.label, b.domain, b.group, b.split, b.gsd_m) == (None, "north", "g1", "test", None)
    assert (c.label, c.domain, c.group, c.split, c.gsd_m) == (None, tmp_path.name, "c", "", None)
    a, b, _ = find_in_folder(tmp_path, table=table, domain="x", gsd_m=2.0, group_pattern="(.)")
    assert (a.domain, a.group, a.gsd_m, b.gsd_m) == ("x", "a", 0.5, 2.0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no column 'image'"),
        ("\xff\xfe", "cannot be read as a table"),
        ('image\n"a.tif\n', "cannot be read as a table"),
        ("image,label\na.tif,b,c\n", "more cells than columns in the row of a.tif"),
        ("picture\na.tif\n", "has no column 'image': its columns are"),
        ("image\nnone.tif\n", "which does not exist"),
        ("image,label\na.tif,none.png\n", "which does not exist"),
        ("image,split\na.tif,dev\n", "has unknown split 'dev': choose train, val, test"),
        ("image\n", "lists no images"),
    ],
)
def test_a_table_that_does_not_fit_is_refused_in_one_line(
    tmp_path: Path, text: str, message: str
) -> None:
    _files(tmp_path, "a.tif")
    with pytest.raises(CatalogError, match=message) as error:
        find_in_folder(tmp_path, table=_table(tmp_path, text))
    assert "\n" not in str(error.value)


def test_a_missing_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match=r"none\.csv cannot be read as a table"):
        find_in_folder(tmp_path, table=tmp_path / "none.csv")


def test_images_of_a_path(tmp_path: Path) -> None:
    _files(tmp_path, "b.tif", "a.png", "._a.png", "readme.txt", "empty/readme.txt")
    assert images_in(tmp_path) == [tmp_path / "a.png", tmp_path / "b.tif"]
    assert images_in(tmp_path / "b.tif") == [tmp_path / "b.tif"]
    assert images_in("/vsizip/a.zip/b.tif") == [Path("/vsizip/a.zip/b.tif")]
    with pytest.raises(CatalogError, match="no images in"):
        images_in(tmp_path / "empty")
    with pytest.raises(CatalogError, match="no such file or folder"):
        images_in(tmp_path / "none.tif")


@pytest.mark.shared
def test_the_table_of_the_real_imagery(shared_data: Path) -> None:
    catalog = Catalog.build(find_in_folder(shared_data, table=shared_data / "manifest.csv"))
    assert len(catalog) == 270
    assert len(catalog.domains) == 8
    with (shared_data / "manifest.csv").open() as file:
        listed = {shared_data / row["image"]: row for row in csv.DictReader(file)}
    for tile in catalog.tiles:
        # The table's shares are of all pixels; Kampala's images alone declare some as nodata.
        if tile.domain != "oam_kampala":
            stated = float(listed[tile.image]["building_fraction"])
            assert tile.building_fraction == pytest.approx(stated, abs=1e-3)
    split = catalog.assign_splits({"val": 0.2, "test": 0.2}, seed=0).frame
    assert (split.groupby(["domain", "group"])["split"].nunique() == 1).all()


@pytest.mark.parametrize("suffix", [".img", ".ECW"])
@pytest.mark.parametrize(("folder", "what"), [("images", "an image"), ("masks", "a mask")])
def test_images_and_masks_in_other_formats_are_named_and_not_passed_over(
    tmp_path: Path, folder: str, what: str, suffix: str
) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.tif").touch()
    other = tmp_path / folder / f"b{suffix}"
    other.parent.mkdir(exist_ok=True)
    other.touch()
    with pytest.raises(CatalogError, match=f"{other} is {what} in a format that is not read"):
        find_in_folder(tmp_path)
    if folder == "images":
        with pytest.raises(CatalogError, match=f"{other} is an image in a format"):
            images_in(tmp_path / "images")


@pytest.mark.parametrize("suffix", [".kml", ".geojsonl"])
def test_footprints_of_map_programs_are_labels(tmp_path: Path, suffix: str) -> None:
    _files(tmp_path, "images/a.tif", f"footprints/a{suffix}")
    (found,) = find_in_folder(tmp_path)
    assert found.label == tmp_path / f"footprints/a{suffix}"


@pytest.mark.parametrize("label", ["footprints/a.gml", "labels/a.csv", "vectors/town.ZIP"])
def test_no_label_is_passed_over_because_of_its_format(tmp_path: Path, label: str) -> None:
    _files(tmp_path, "images/a.tif", label)
    with pytest.raises(CatalogError, match=f"{label} is a label in a format that is not read"):
        find_in_folder(tmp_path)


@pytest.mark.parametrize("name", ["a" * 300, "a\0.tif", "a\udcff.tif"])
def test_names_that_no_file_has_are_one_line(tmp_path: Path, name: str) -> None:
    for wrong in (tmp_path / name, name):
        with pytest.raises(CatalogError, match="no such file or folder"):
            images_in(wrong)
        with pytest.raises(CatalogError, match="no folder at"):
            find_in_folder(wrong)
    if "\udcff" not in name:
        table = _table(tmp_path, f"image\n{name}\n")
        with pytest.raises(CatalogError, match="which does not exist"):
            find_in_folder(tmp_path, table=table)


def test_images_alone_are_one_place_without_labels(tmp_path: Path) -> None:
    _files(tmp_path, "b.tif", "a.tif", "notes.txt", "x/c.tif")
    found = find_in_folder(tmp_path)
    assert [(each.image.name, each.label, each.domain) for each in found] == [
        (name, None, tmp_path.name) for name in ("a.tif", "b.tif")
    ]


@pytest.mark.parametrize("images", ["images/a.tif", "north/images/a.tif", "a.tif"])
def test_images_where_none_are_looked_for_are_told(tmp_path: Path, images: str) -> None:
    _files(tmp_path, images, "south/b.tif", "south/c.tif", "south/notes.txt", "masks/x/d.tif")
    _files(tmp_path, ".thumbnails/a.png")
    found: list[str] = []
    assert len(find_in_folder(tmp_path, domain="a", tell=found.append)) == 1
    (note,) = found
    assert note.startswith(f"{tmp_path / 'south/b.tif'} (and 1 more) is left out: images are read")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="everything can be read")
def test_a_folder_that_only_others_may_read_is_left_out(tmp_path: Path) -> None:
    _files(tmp_path, "north/images/a.tif", "lost+found/b.tif")
    (tmp_path / "lost+found").chmod(0)
    (note,) = _notes(tmp_path)
    (tmp_path / "lost+found").chmod(0o700)
    assert note == f"{tmp_path}/lost+found cannot be read by this user, and is left out"
    (tmp_path / "north" / "images").chmod(0)
    with pytest.raises(CatalogError, match="images cannot be read: Permission denied"):
        LAYOUT.sources(tmp_path)


@pytest.mark.shared
def test_places_with_masks_and_footprints_are_indexed_without_a_table(shared_data: Path) -> None:
    notes: list[str] = []
    found = find_in_folder(shared_data / "spacenet2_vegas", tell=notes.append)
    assert found
    assert {source.label.parent.name for source in found if source.label} == {"masks"}
    (note,) = notes
    assert note.endswith("left out, because there is a mask of the same image")
