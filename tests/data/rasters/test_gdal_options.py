"""GDAL's cache, which all rasters of a process share."""

import threading

import pytest
from rasterio.env import get_gdal_config

from rhm.data.rasters.gdal_options import limited_cache

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
