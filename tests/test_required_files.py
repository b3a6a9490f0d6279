"""Files that must exist; laws: what is there passes, what is not is one error of its kind."""

from collections.abc import Callable
from pathlib import Path

import pytest

from rhm.errors import BankError, CatalogError, ConfigError, RasterError
from rhm.required_files import (
    asks_servers,
    is_local,
    require_bank,
    require_catalog,
    require_folder,
    require_images,
    require_predictions,
    require_raster,
    require_run,
    require_scenes,
)

Check = Callable[[Path | str], None]

FILES: list[tuple[Check, type[Exception]]] = [
    (require_raster, RasterError),
    (require_images, CatalogError),
    (require_scenes, CatalogError),
    (require_catalog, CatalogError),
    (require_bank, BankError),
]
FOLDERS: list[tuple[Check, type[Exception]]] = [
    (require_folder, CatalogError),
    (require_run, ConfigError),
    (require_predictions, ConfigError),
]


@pytest.mark.parametrize(("check", "error"), FILES)
def test_a_file_must_exist(check: Check, error: type[Exception], tmp_path: Path) -> None:
    here = tmp_path / "here"
    here.touch()
    check(here)
    check(str(here))
    with pytest.raises(error, match=r"nowhere"):
        check(tmp_path / "nowhere")


@pytest.mark.parametrize(("check", "error"), FOLDERS)
def test_a_folder_must_exist_and_be_one(
    check: Check, error: type[Exception], tmp_path: Path
) -> None:
    check(tmp_path)
    (tmp_path / "file").touch()
    for name in ("nowhere", "file"):
        with pytest.raises(error, match=name):
            check(tmp_path / name)


@pytest.mark.parametrize("check", [require_raster, require_images, require_scenes])
@pytest.mark.parametrize("name", ["https://example.org/a.tif", "/vsizip/a.zip/b.tif"])
def test_what_is_not_local_is_left_to_gdal(check: Check, name: str) -> None:
    assert not is_local(name)
    check(name)


def test_a_pattern_is_not_a_path(tmp_path: Path) -> None:
    require_scenes(tmp_path / "*.tif")
    with pytest.raises(CatalogError):
        require_images(tmp_path / "*.tif")


@pytest.mark.parametrize(
    ("name", "asks"),
    [
        ("scene.tif", False),
        ("/vsizip/a.zip/b.tif", False),
        ("/home/me/vsis3_copy/a.tif", False),
        ("/data/vsigs/a.tif", False),
        ("https://example.org/a.tif", True),
        ("/vsicurl/https://example.org/a.tif", True),
        ("/vsicurl?url=https%3A%2F%2Fexample.org%2Fa.tif", True),
        ("/vsizip//vsis3_streaming/bucket/a.zip/b.tif", True),
    ],
)
def test_names_of_files_on_servers_are_known(name: str, asks: bool) -> None:
    assert asks_servers(name) is asks
