"""Folders of layers are checked before they are replaced."""

from pathlib import Path

import pytest

from rhm.errors import OutputError
from rhm.mapping.layer_files import INDEX, check_folder, check_layer


def test_a_folder_of_other_files_is_not_replaced(tmp_path: Path) -> None:
    check_folder(tmp_path / "new", overwrite=False)
    check_folder(tmp_path, overwrite=False)
    (tmp_path / INDEX).write_text("{}")
    check_folder(tmp_path, overwrite=False)
    (tmp_path / "12-1-1.parquet").write_bytes(b"PAR1 of somebody")
    with pytest.raises(OutputError, match="not written by a prediction"):
        check_folder(tmp_path, overwrite=False)
    check_folder(tmp_path, overwrite=True)
    with pytest.raises(OutputError, match="it is a file"):
        check_folder(tmp_path / INDEX, overwrite=True)


@pytest.mark.parametrize("name", ["notes.txt", "scene.tif", "town.parquet", "folder"])
@pytest.mark.parametrize("overwrite", [False, True])
def test_whatever_is_no_tile_stays(tmp_path: Path, name: str, overwrite: bool) -> None:
    if name == "folder":
        (tmp_path / name).mkdir()
    else:
        (tmp_path / name).write_text("mine")
    with pytest.raises(OutputError, match=f"{name} was not written by a merge and would be lost"):
        check_folder(tmp_path, overwrite=overwrite)


@pytest.mark.parametrize("place", [".", "town", "town/../town/deeper"])
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_with_what_is_read_is_not_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, overwrite: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    source = Path("town/deeper/a_buildings.gpkg")  # which a prediction has yet to write
    with pytest.raises(OutputError, match="layers to merge are in it"):
        check_folder(Path(place), [source], overwrite=overwrite)


def test_the_working_folder_and_those_around_it_are_not_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "town").mkdir()
    monkeypatch.chdir(tmp_path / "town")
    for place in (".", "..", "/"):
        with pytest.raises(OutputError, match="it is the working folder"):
            check_folder(Path(place), overwrite=True)
    check_folder(Path("../other"), overwrite=True)


@pytest.mark.parametrize("name", ["town.gpkg", "town.geojson", "town.fgb", "town.parquet"])
def test_an_empty_file_holds_nothing_that_could_be_lost(tmp_path: Path, name: str) -> None:
    target = tmp_path / name
    target.touch()
    check_layer(target, sources=[], scenes=["a"], overwrite=False)
    folder = tmp_path / "tiles"
    folder.mkdir()
    (folder / "12-1-1.parquet").touch()
    check_layer(folder, sources=[], scenes=["a"], overwrite=False)
    assert target.stat().st_size == 0
