"""A stamp is found in every format, and no byte around it changes unseen."""

from collections.abc import Callable
from pathlib import Path

import geopandas
import numpy as np
import pytest
import shapely

from rhm.errors import OutputError
from rhm.inference.layers.stamps import Stamp, is_as_left, seal, stamp_of
from rhm.inference.layers.vector_files import (
    FORMATS,
    Footprints,
    check_replaceable,
    stamp_of_footprints,
    write_footprints,
)

STAMP = Stamp("f" * 64, "0123456789abcdef")


def written(path: Path, stamp: Stamp | None = STAMP) -> Path:
    polygons = np.array([shapely.box(5e5, 5e6, 5e5 + 9, 5e6 + 9)])
    batch = Footprints(polygons, np.array([0.9]), shapely.area(polygons))
    write_footprints([batch], "EPSG:32633", path, stamp=stamp)
    return path


@pytest.mark.parametrize("suffix", FORMATS)
def test_every_format_tells_its_origin(tmp_path: Path, suffix: str) -> None:
    path = written(tmp_path / f"x{suffix}")
    found = stamp_of_footprints(path)
    assert found is not None
    assert (found.fingerprint, found.origin) == (STAMP.fingerprint, STAMP.origin)
    check_replaceable(path, STAMP.origin)
    with pytest.raises(OutputError, match=r"another scene of this name: .* --overwrite"):
        check_replaceable(path, "0" * 16)
    assert path.read_bytes() == written(tmp_path / f"y{suffix}").read_bytes()
    read: Callable[..., geopandas.GeoDataFrame] = FORMATS[suffix].read
    assert read(path)["score"].tolist() == [0.9]


@pytest.mark.parametrize("suffix", FORMATS)
def test_files_without_a_stamp_are_not_replaced(tmp_path: Path, suffix: str) -> None:
    path = written(tmp_path / f"x{suffix}", None)
    assert stamp_of_footprints(path) is None
    with pytest.raises(OutputError, match=r"was not written by a prediction: .* --overwrite"):
        check_replaceable(path, STAMP.origin)
    check_replaceable(tmp_path / f"absent{suffix}", STAMP.origin)
    path.write_bytes(b"")
    check_replaceable(path, STAMP.origin)


@pytest.mark.parametrize("suffix", [".fgb", ".geojson", ".parquet"])
def test_every_change_of_a_file_is_seen(tmp_path: Path, suffix: str) -> None:
    path = written(tmp_path / f"x{suffix}")
    whole = path.read_bytes()
    for place in range(0, len(whole), max(1, len(whole) // 40)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(OutputError, match="--overwrite"):
            check_replaceable(path, STAMP.origin)
    path.write_bytes(whole + b" ")
    with pytest.raises(OutputError, match="was edited after its prediction"):
        check_replaceable(path, STAMP.origin)


def test_a_stamp_is_sealed_wherever_it_stands(tmp_path: Path) -> None:
    path = tmp_path / "x"
    for before, after in ((b"", b""), (b"a", b""), (b"", b"b"), (b"a" * 999, b"b" * 999)):
        path.write_bytes(before + STAMP.text.encode() + after)
        assert not is_as_left(path)
        seal(path)
        assert is_as_left(path)
        assert path.stat().st_size == len(before) + len(STAMP.text) + len(after)
    path.write_bytes(b"no stamp")
    seal(path)
    assert path.read_bytes() == b"no stamp"
    assert stamp_of(path) is None
