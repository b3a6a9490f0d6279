from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rhm.bank import HistogramBank
from rhm.data.catalog import Source
from rhm.data.radiometry import (
    Scaling,
    bank_of,
    harmonize,
    histogram_of,
    measure_scalings,
    shift_for,
)
from rhm.data.raster import Raster
from rhm.errors import BankError, ConfigError, RasterError
from rhm.histogram import Histogram
from rhm.lookup import PixelMap
from tests.data.imagery import noise, write_raster

BYTES = Scaling("uint8", (0.0,), (255.0,))


@st.composite
def wide_scalings(draw: st.DrawFn) -> Scaling:
    low = draw(st.integers(0, 2000))
    return Scaling("uint16", (float(low),), (float(low + draw(st.integers(1, 4000))),))


def test_8_bit_imagery_is_taken_as_it_is() -> None:
    scaling = Scaling.measure(Histogram.of(noise(9, 9).clip(50, 60)))
    assert scaling == Scaling("uint8", (0.0,) * 3, (255.0,) * 3)


def test_16_bit_imagery_loses_half_a_percent_at_either_end() -> None:
    ramp = np.arange(1000, dtype=np.uint16).repeat(10).reshape(100, 100)
    scaling = Scaling.measure(Histogram.of(np.dstack([ramp, 2 * ramp])))
    assert scaling == Scaling("uint16", (4.0, 8.0), (994.0, 1988.0))


@pytest.mark.parametrize("pixels", [np.full((4, 4), 77, np.uint16), np.zeros((0, 4), np.uint16)])
def test_a_range_of_one_value_is_widened(pixels: Any) -> None:
    scaling = Scaling.measure(Histogram.of(pixels))
    assert scaling.high[0] == scaling.low[0] + 1.0
    assert np.isfinite(scaling.table().tables).all()


@given(wide_scalings(), st.floats(0.1, 0.9), st.floats(0.1, 0.9))
def test_the_table_is_the_normalised_share_of_the_range(
    scaling: Scaling, mean: float, std: float
) -> None:
    values = np.arange(65536)
    shares = np.clip((values - scaling.low[0]) / (scaling.high[0] - scaling.low[0]), 0, 1)
    table = scaling.table([mean], [std])
    assert table.output_dtype == np.float32
    np.testing.assert_allclose(table.tables[0], (shares - mean) / std, rtol=1e-5, atol=1e-6)


@given(wide_scalings(), wide_scalings())
def test_scalings_carry_black_to_black_and_white_to_white(one: Scaling, other: Scaling) -> None:
    table = one.into(other).tables[0].astype(int)
    assert table[int(one.low[0])] == other.low[0]
    assert table[int(one.high[0])] == other.high[0]
    assert (np.diff(table) >= 0).all()
    to_bytes = one.bytes_table()
    assert to_bytes.output_dtype == np.uint8
    assert (to_bytes.tables[0][int(one.low[0])], to_bytes.tables[0][int(one.high[0])]) == (0, 255)


@given(wide_scalings())
def test_bytes_survive_the_way_to_a_wider_range_and_back(scaling: Scaling) -> None:
    there, back = BYTES.into(scaling), scaling.bytes_table()
    steps = (scaling.high[0] - scaling.low[0]) / 255
    if steps >= 1:
        np.testing.assert_array_equal(there.then(back).tables[0], np.arange(256))


def test_a_scaling_into_itself_changes_nothing_in_its_range() -> None:
    for scaling in (BYTES, Scaling("uint16", (0.0,), (65535.0,))):
        identity = PixelMap.identity(scaling.dtype, 1)
        np.testing.assert_array_equal(scaling.into(scaling).tables, identity.tables)


def test_a_scaling_survives_json() -> None:
    scaling = Scaling("uint16", (1.0, 2.5), (100.0, 2047.0))
    assert Scaling.from_dict(scaling.to_dict()) == scaling


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("layout", [{}, {"tiled": True, "blockxsize": 256, "blockysize": 256}])
def test_every_pixel_of_a_raster_is_counted_once(
    tmp_path: Path, dtype: str, layout: dict[str, Any]
) -> None:
    # Larger than a block of counting in both directions, and not a multiple of one.
    pixels = noise(1100, 1057, 2, dtype=dtype)
    pixels[:, 500:600] = 0
    path = write_raster(tmp_path / "image.tif", pixels, nodata=0, **layout)
    with Raster(path) as raster:
        counted = histogram_of(raster)
    expected = Histogram.of(pixels, nodata=0)
    assert counted.dtype == dtype
    np.testing.assert_array_equal(counted.counts, expected.counts)


def test_a_large_raster_is_counted_until_there_are_pixels_enough(tmp_path: Path) -> None:
    pixels = noise(4200, 1100, 1)
    pixels[:3200] = 0
    path = write_raster(tmp_path / "image.tif", pixels, nodata=0, compress="deflate", zlevel=1)
    with Raster(path) as raster:
        some = histogram_of(raster, max_pixels=10_000)
        everything = histogram_of(raster)
    # Whole blocks are counted: enough pixels, though the upper blocks have none, and not all.
    assert 10_000 <= some.pixels < everything.pixels == 1000 * 1100
    assert some.distance(everything)[0] < 2.0


def test_an_image_without_data_counts_nothing(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "image.tif", np.zeros((5, 5, 3), np.uint16), nodata=0)
    with Raster(path) as raster:
        assert histogram_of(raster).pixels == 0


def test_only_integers_are_counted(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "image.tif", np.ones((5, 5), np.float32))
    with Raster(path) as raster, pytest.raises(RasterError, match="is float32"):
        histogram_of(raster)


def test_scalings_are_measured_over_all_pixels_of_a_dtype() -> None:
    low, high = (Histogram.of(np.full((4, 4), value, np.uint16)) for value in (100, 900))
    scalings = measure_scalings([low, Histogram.of(noise(3, 3, 1)), high])
    assert scalings == {"uint8": BYTES, "uint16": Scaling("uint16", (100.0,), (900.0,))}
    with pytest.raises(BankError, match="at least one image"):
        measure_scalings([])


@given(wide_scalings())
def test_a_mixed_bank_is_brought_to_either_dtype(scaling: Scaling) -> None:
    rng = np.random.default_rng(0)
    inside = rng.integers(int(scaling.low[0]), int(scaling.high[0]) + 1, (20, 20))
    wide = Histogram.of(inside.astype(np.uint16))
    narrow = Histogram.of(noise(20, 20, 1))
    bank = HistogramBank((wide, narrow), ("wide", "narrow"))
    scalings = {"uint16": scaling, "uint8": BYTES}
    for dtype, kept in (("uint16", 0), ("uint8", 1)):
        brought = harmonize(bank, dtype, scalings)
        assert brought.names == bank.names
        assert [each.name for each in brought.dtypes] == [dtype]
        assert brought.histograms[kept] is bank.histograms[kept]
        own, other = (Scaling.measure(narrow) if dtype == "uint8" else scaling), 1 - kept
        pushed = brought.histograms[other]
        present = np.flatnonzero(pushed.counts[0])
        assert pushed.pixels == 400
        assert own.low[0] <= present.min()
        assert present.max() <= own.high[0]
    # The distribution of shares stays, up to the rounding of one type's steps.
    back = scaling.bytes_table().push(harmonize(bank, "uint16", scalings).histograms[1])
    step = max(1.0, 255 / (scaling.high[0] - scaling.low[0]))
    assert back.distance(narrow)[0] <= step


def test_a_shift_follows_from_seed_and_name() -> None:
    histogram = Histogram.of(noise(9, 9, dtype="uint16"))
    first, again, other, later = (
        shift_for(histogram, "gamma", name, seed=seed).tables
        for name, seed in (("a", 0), ("a", 0), ("b", 0), ("a", 1))
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    assert (first != later).any()
    # It stays in the range that the image uses.
    assert first.max() <= max(Scaling.measure(histogram).high)
    with pytest.raises(ConfigError, match="unknown shift 'sepia'"):
        shift_for(histogram, "sepia", "a", seed=0)


def test_the_bank_of_images_leaves_out_those_without_data(tmp_path: Path) -> None:
    images = {"a": noise(8, 8, 5), "empty": np.zeros((8, 8, 5), np.uint8), "b": noise(9, 7, 5)}
    paths = {name: write_raster(tmp_path / f"{name}.tif", each) for name, each in images.items()}
    sources = [
        Source(path, None, "town", name, black_is_nodata=True) for name, path in paths.items()
    ]
    ticks: list[int] = []
    bank = bank_of(sources, bands=[4, 1], on_progress=lambda: ticks.append(1))
    assert bank.names == ("town/a", "town/b")
    assert len(ticks) == 3
    for histogram, name in zip(bank.histograms, "ab", strict=True):
        expected = Histogram.of(images[name][..., [3, 0]])
        np.testing.assert_array_equal(histogram.counts, expected.counts)
    shifted = bank_of(sources, shift="monotone", seed=3)
    map_a = shift_for(Histogram.of(images["a"]), "monotone", "a", seed=3)
    np.testing.assert_array_equal(
        shifted.histograms[0].counts, Histogram.of(map_a.apply(images["a"])).counts
    )
    with pytest.raises(BankError, match="at least one image with valid pixels"):
        bank_of(sources[1:2])


@pytest.mark.shared
def test_the_range_of_11_bit_imagery_is_found(shared_data: Path) -> None:
    images = sorted((shared_data / "spacenet2_vegas" / "images").glob("RGB-PanSharpen*.tif"))
    bank = bank_of([Source(path, None, "vegas", path.stem) for path in images])
    (scaling,) = measure_scalings(bank.histograms).values()
    assert scaling.dtype == "uint16"
    assert max(scaling.high) < 2048
    assert min(scaling.low) > 0
