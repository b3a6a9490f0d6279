"""GDAL's cache, which all rasters of a process share."""

import threading
from pathlib import Path

import pytest
from rasterio.env import get_gdal_config

from rhm.data.rasters.gdal_options import limited_cache, open_dataset
from rhm.errors import RasterError

MB = 1 << 20


def limit() -> int:
    return int(get_gdal_config("GDAL_CACHEMAX"))


def test_the_cache_is_limited_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GDAL_CACHEMAX", raising=False)
    before = limit()
    with limited_cache(40 * MB):
        assert limit() == 40 * MB
        with limited_cache(50 * MB):
            assert limit() == 50 * MB
        with limited_cache(30 * MB):
            assert limit() == 40 * MB
        with limited_cache(2 * before):
            assert limit() == before
        assert limit() == 40 * MB
    assert limit() == before


def test_it_comes_back_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GDAL_CACHEMAX", raising=False)
    before = limit()
    with pytest.raises(ValueError, match="bad"), limited_cache(40 * MB):
        raise ValueError("bad")
    assert limit() == before


def test_the_environment_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GDAL_CACHEMAX", "200")
    before = limit()
    with limited_cache(40 * MB):
        assert limit() == before


def test_threads_end_in_any_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GDAL_CACHEMAX", raising=False)
    before, entered, leave = limit(), threading.Event(), threading.Event()

    def other() -> None:
        with limited_cache(60 * MB):
            entered.set()
            leave.wait(10)

    thread = threading.Thread(target=other)
    with limited_cache(40 * MB):
        thread.start()
        entered.wait(10)
        assert limit() == 60 * MB
    assert limit() == 60 * MB
    leave.set()
    thread.join()
    assert limit() == before


def test_a_file_that_may_not_be_read_is_told_from_one_that_is_no_raster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "x.tif").write_text("not a raster")
    with pytest.raises(RasterError, match="not a raster that GDAL can open"):
        open_dataset(tmp_path / "x.tif")
    # Root may read whatever its rights are.
    monkeypatch.setattr("os.access", lambda *_: False)
    with pytest.raises(RasterError, match=r"x\.tif cannot be opened: Permission denied"):
        open_dataset(tmp_path / "x.tif")
