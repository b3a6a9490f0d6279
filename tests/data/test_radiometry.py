"""Laws of scalings and of counting rasters; oracle: the histogram of the pixels at once."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from rhm.colour.histogram import Histogram
from rhm.colour.histogram_bank import HistogramBank
from rhm.colour.levels import to_levels, values_of
from rhm.colour.lookup import PixelMap
from rhm.data.catalog import Source
from rhm.data.radiometry import (
    Scaling,
    bank_of,
    harmonize,
    histogram_of,
    measure_scalings,
    shift_for,
)
from rhm.data.rasters.raster import Raster
from rhm.errors import BankError, ConfigError, RasterError
from tests.data.imagery import noise, write_raster

BYTES = Scaling("uint8", (0.0,), (255.0,))


@st.composite
def wide_scalings(draw: st.DrawFn) -> Scaling:
    low = draw(st.integers(0, 2000))
    return Scaling("uint16", (float(low),), (float(low + draw(st.integers(1, 4000))),))


@st.composite
def signed_scalings(draw: st.DrawFn) -> Scaling:
    """Ranges of int16 and float32 that begin and end at values of the type."""
    dtype = draw(st.sampled_from(["int16", "float32"]))
    values = np.unique(values_of(dtype))
    low, high = sorted(draw(st.sets(st.integers(0, len(values) - 1), min_size=2, max_size=2)))
    return Scaling(dtype, (float(values[low]),), (float(values[high]),))


def imagery(dtype: str, height: int = 60, width: int = 70, bands: int = 2) -> NDArray[Any]:
    """Pixels of any type, half of them below 0 where the type has such."""
    rng = np.random.default_rng(0)
    drawn = rng.normal(0 if dtype in ("int16", "float32") else 120, 40, (height, width, bands))
    return np.asarray(drawn.clip(-255, 255).astype(dtype))


def test_8_bit_imagery_is_taken_as_it_is() -> None:
    scaling = Scaling.measure(Histogram.of(noise(9, 9).clip(50, 60)))
    assert scaling == Scaling("uint8", (0.0,) * 3, (255.0,) * 3)


def test_16_bit_imagery_loses_half_a_percent_at_either_end() -> None:
    ramp = np.arange(1000, dtype=np.uint16).repeat(10).reshape(100, 100)
    scaling = Scaling.measure(Histogram.of(np.dstack([ramp, 2 * ramp])))
    assert scaling == Scaling("uint16", (4.0, 8.0), (994.0, 1988.0))


@pytest.mark.parametrize("dtype", ["uint16", "int16", "float32"])
@pytest.mark.parametrize("side", [0, 4])
@pytest.mark.parametrize("value", [0, 77, 32767])
def test_a_range_of_one_value_is_widened(dtype: str, side: int, value: int) -> None:
    scaling = Scaling.measure(Histogram.of(np.full((side, 4, 1), value, dtype=dtype)))
    assert scaling.high[0] == scaling.low[0] + 1.0
    assert np.isfinite(scaling.table().tables).all()


def test_a_narrow_range_of_floats_stays_narrow() -> None:
    ramp = np.linspace(0.125, 0.25, 2001, dtype=np.float32)[None]
    scaling = Scaling.measure(Histogram.of(ramp))
    np.testing.assert_allclose((*scaling.low, *scaling.high), (0.1256, 0.2494), atol=2e-4)


@pytest.mark.parametrize("dtype", ["int16", "float32"])
def test_signed_and_float_imagery_loses_half_a_percent_at_either_end(dtype: str) -> None:
    pixels = imagery(dtype, 300, 300)
    scaling = Scaling.measure(Histogram.of(pixels))
    assert scaling.dtype == dtype
    for band, (low, high) in enumerate(zip(scaling.low, scaling.high, strict=True)):
        values = values_of(dtype)[to_levels(pixels[..., band])]
        assert (values < low).mean() < 0.005 <= (values <= low).mean()
        assert (values > high).mean() <= 0.005 < (values >= high).mean()


@given(signed_scalings())
def test_tables_of_signed_and_float_imagery_are_shares_of_the_range(scaling: Scaling) -> None:
    values = values_of(scaling.dtype).astype(np.float64)
    table = scaling.table()
    assert table.input_dtype == np.dtype(scaling.dtype)
    expected = (values - scaling.low[0]) / (scaling.high[0] - scaling.low[0])
    np.testing.assert_allclose(table.tables[0], expected.clip(0, 1), rtol=1e-6)
    to_bytes = scaling.bytes_table()
    assert to_bytes.input_dtype == np.dtype(scaling.dtype)
    assert to_bytes.output_dtype == np.dtype(np.uint8)
    assert (np.diff(to_bytes.tables[0].astype(int)) >= 0).all()
    ends = np.array([[scaling.low, scaling.high]], dtype=scaling.dtype)
    assert to_bytes.apply(ends).ravel().tolist() == [0, 255]


@given(signed_scalings(), st.one_of(signed_scalings(), wide_scalings()))
def test_any_type_is_carried_into_any(one: Scaling, other: Scaling) -> None:
    carried = one.into(other)
    assert carried.input_dtype == np.dtype(one.dtype)
    assert carried.output_dtype == np.dtype(other.dtype)
    mapped = carried.tables[0].astype(np.float64)
    assert (np.diff(mapped) >= 0).all()
    ends = carried.apply(np.array([[one.low, one.high]], dtype=one.dtype)).ravel()
    np.testing.assert_allclose(ends, [*other.low, *other.high], rtol=1e-6)
    assert mapped.min() >= other.low[0]
    # The range's end is rounded twice: to float32, and by the sum.
    assert mapped.max() <= other.high[0] + 1e-6 * abs(np.array([*other.low, *other.high])).max()


def test_other_types_have_no_scaling() -> None:
    with pytest.raises(
        ValueError, match=r"a scaling of float64 is not possible, only of uint8, .*float32"
    ):
        Scaling("float64", (0.0,), (1.0,))


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


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
@pytest.mark.parametrize("layout", [{}, {"tiled": True, "blockxsize": 256, "blockysize": 256}])
def test_every_pixel_of_a_raster_is_counted_once(
    tmp_path: Path, dtype: str, layout: dict[str, Any]
) -> None:
    # Larger than a block of counting in both directions, and not a multiple of one.
    pixels = imagery(dtype, 1100, 1057)
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


def test_other_types_are_not_counted(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "image.tif", np.ones((5, 5), np.float64))
    with Raster(path) as raster, pytest.raises(RasterError, match="is float64"):
        histogram_of(raster)


def test_floats_that_are_no_numbers_are_not_counted(tmp_path: Path) -> None:
    pixels = imagery("float32", bands=3)
    pixels[:20, :, 1] = np.nan
    pixels[20, 0] = np.inf
    path = write_raster(tmp_path / "image.tif", pixels)
    for decimated in (False, True):
        with Raster(path) as raster:
            counted = histogram_of(raster, decimated=decimated)
        assert counted.pixels == 40 * 70 - 1
        np.testing.assert_array_equal(counted.counts, Histogram.of(pixels).counts)


@pytest.mark.parametrize("decimated", [False, True])
def test_floats_beyond_the_bins_are_refused(tmp_path: Path, decimated: bool) -> None:
    pixels = imagery("float32", bands=3)
    pixels[7, 9, 1] = -70_000.0
    path = write_raster(tmp_path / "image.tif", pixels)
    with Raster(path) as raster, pytest.raises(RasterError, match="beyond 65504"):
        histogram_of(raster, decimated=decimated)
    path = write_raster(tmp_path / "nodata.tif", np.full_like(pixels, -99_999.0), nodata=-99_999.0)
    with Raster(path) as raster:
        assert histogram_of(raster, decimated=decimated).pixels == 0


@pytest.mark.parametrize("overviews", [(), (2, 4, 8)])
def test_few_pixels_of_a_decimated_raster_stand_for_all(
    tmp_path: Path, overviews: tuple[int, ...]
) -> None:
    rows, cols = np.mgrid[:1500, :1100]
    pixels = np.stack([rows // 8 + 10, cols // 8 + 20], axis=-1).astype(np.uint16)
    pixels[:, :256] = 0
    path = write_raster(tmp_path / "image.tif", pixels, nodata=0, overviews=overviews)
    with Raster(path) as raster:
        everything = histogram_of(raster)
        some = histogram_of(raster, max_pixels=40_000, decimated=True)
        all_the_same = histogram_of(raster, max_pixels=1500 * 1100, decimated=True)
    assert 20_000 < some.pixels < 40_000
    assert some.distance(everything).max() < 1.5
    np.testing.assert_array_equal(all_the_same.counts, everything.counts)


def test_scalings_are_measured_over_all_pixels_of_a_dtype() -> None:
    low, high = (Histogram.of(np.full((4, 4), value, np.uint16)) for value in (100, 900))
    scalings = measure_scalings([low, Histogram.of(noise(3, 3, 1)), high])
    assert scalings == {"uint8": BYTES, "uint16": Scaling("uint16", (100.0,), (900.0,))}
    with pytest.raises(BankError, match="at least one image"):
        measure_scalings([])
    for other in ("uint8", "uint16"):
        with pytest.raises(BankError, match="different numbers of bands"):
            measure_scalings([low, Histogram.of(noise(3, 3, 2, dtype=other))])


def test_a_measured_range_is_of_all_levels_not_of_quantiles() -> None:
    ramp = Histogram.of(np.arange(65536, dtype=np.uint16)[None])
    scalings = measure_scalings([ramp, ramp])
    assert scalings == {"uint16": Scaling.measure(ramp)}


@given(wide_scalings())
def test_a_mixed_bank_is_brought_to_either_dtype(scaling: Scaling) -> None:
    rng = np.random.default_rng(0)
    inside = rng.integers(int(scaling.low[0]), int(scaling.high[0]) + 1, (20, 20))
    wide = Histogram.of(inside.astype(np.uint16))
    narrow = Histogram.of(noise(20, 20, 1))
    bank = HistogramBank((wide, narrow), ("wide", "narrow"), weights=np.array([0.25, 1.0]))
    scalings = {"uint16": scaling, "uint8": BYTES}
    for dtype, kept in (("uint16", 0), ("uint8", 1)):
        brought = harmonize(bank, dtype, scalings)
        assert brought.names == bank.names
        assert brought.weights.tolist() == [0.25, 1.0]
        assert [each.name for each in brought.dtypes] == [dtype]
        assert brought.entries[kept] is bank.entries[kept]
        own, other = (Scaling.measure(narrow) if dtype == "uint8" else scaling), 1 - kept
        pushed = brought.histograms[other]
        present = pushed.values[pushed.counts[0] > 0]
        assert pushed.pixels == 400
        assert own.low[0] <= present.min()
        assert present.max() <= own.high[0]
    # The distribution of shares stays, up to the rounding of one type's steps.
    back = scaling.bytes_table().push(harmonize(bank, "uint16", scalings).histograms[1])
    step = max(1.0, 255 / (scaling.high[0] - scaling.low[0]))
    assert back.distance(narrow)[0] <= step


def test_floats_and_bytes_are_brought_to_each_other() -> None:
    floats, narrow = Histogram.of(imagery("float32")), Histogram.of(noise(50, 50, 2))
    bank = HistogramBank([floats, narrow])
    scalings = measure_scalings(bank.histograms)
    for dtype in ("float32", "uint8"):
        brought = harmonize(bank, dtype, scalings)
        assert [each.name for each in brought.dtypes] == [dtype]
        (shares,) = {each.pixels for each in brought.histograms} - {bank.histograms[0].pixels}
        assert shares == 2500
        low, high = (np.array(ends) for ends in (scalings[dtype].low, scalings[dtype].high))
        pushed = brought.histograms[0 if dtype == "uint8" else 1]
        # What was at black or white is there again; half precision rounds by 1/2048.
        for share, ends in ((0.001, low), (0.999, high)):
            near = 2e-3 * np.abs([low, high]).max()
            np.testing.assert_allclose(pushed.quantile(share), ends, atol=max(near, 1.0))


def pixelwise(histogram: Histogram, family: str, name: str, *, seed: int) -> PixelMap:
    """The shift of a family that treats bands one by one."""
    shift = shift_for(histogram, family, name, seed=seed)
    assert isinstance(shift, PixelMap)
    return shift


def test_a_shift_follows_from_seed_and_name() -> None:
    histogram = Histogram.of(noise(9, 9, dtype="uint16"))
    first, again, other, later = (
        pixelwise(histogram, "gamma", name, seed=seed).tables
        for name, seed in (("a", 0), ("a", 0), ("b", 0), ("a", 1))
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    assert (first != later).any()
    # It stays in the range that the image uses.
    assert first.max() <= max(Scaling.measure(histogram).high)
    with pytest.raises(ConfigError, match="unknown shift 'sepia'"):
        shift_for(histogram, "sepia", "a", seed=0)
    below = Histogram.of(np.full((3, 3), -5, dtype=np.int16))
    with pytest.raises(ConfigError, match="cannot shift the values of a: none is above 0"):
        shift_for(below, "gamma", "a", seed=0)


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
    map_a = pixelwise(Histogram.of(images["a"]), "monotone", "a", seed=3)
    np.testing.assert_array_equal(
        shifted.histograms[0].counts, Histogram.of(map_a.apply(images["a"])).counts
    )
    with pytest.raises(BankError, match="at least one image with valid pixels"):
        bank_of(sources[1:2])


def test_a_shift_that_mixes_bands_is_none_of_histograms(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "image.tif", noise(9, 9))
    with pytest.raises(ConfigError, match="'hsv' mixes bands"):
        bank_of([Source(path, None, "town", "image")], shift="hsv")


def sources_in(folder: Path, count: int) -> list[Source]:
    """Small images of several sizes and types."""
    dtypes = ("uint8", "uint16", "int16", "float32")
    return [
        Source(
            write_raster(
                folder / f"{number}.tif", imagery(dtypes[number % 4], 30 + 7 * number, 60)
            ),
            None,
            f"town{number % 3}",
            str(number),
        )
        for number in range(count)
    ]


@pytest.mark.parametrize("decimated", [False, True])
@pytest.mark.parametrize("shift", [None, "gamma"])
def test_the_bank_is_the_same_for_any_number_of_workers(
    tmp_path: Path, decimated: bool, shift: str | None
) -> None:
    sources = sources_in(tmp_path, 9)
    for workers in (1, 2, 5, None):
        bank = bank_of(sources, workers=workers, decimated=decimated, shift=shift)
        bank.save(tmp_path / f"{workers}.bank")
    assert bank.names == tuple(f"town{number % 3}/{number}" for number in range(9))
    assert len({path.read_bytes() for path in tmp_path.glob("*.bank")}) == 1


def test_a_decimated_bank_counts_four_million_pixels(tmp_path: Path) -> None:
    pixels = np.tile(np.arange(256, dtype=np.uint8), (2200, 9))[:, :2200]
    path = write_raster(tmp_path / "image.tif", pixels, compress="deflate", overviews=(2, 4))
    sources = [Source(path, None, "town", "image")]
    few, all_of_them = (bank_of(sources, decimated=each).histograms[0] for each in (True, False))
    assert all_of_them.pixels == 2200 * 2200
    assert 4.0e6 < few.pixels <= 1 << 22
    assert few.distance(all_of_them)[0] < 0.5


@pytest.mark.parametrize("workers", [1, 3])
def test_images_are_asked_for_as_they_are_counted(tmp_path: Path, workers: int) -> None:
    sources = sources_in(tmp_path, 20)
    asked, counted, ahead = 0, 0, []

    def asking() -> Iterator[Source]:
        nonlocal asked
        for source in sources:
            asked += 1
            ahead.append(asked - counted)
            yield source

    def count() -> None:
        nonlocal counted
        counted += 1

    assert len(bank_of(asking(), workers=workers, on_progress=count)) == counted == 20
    assert max(ahead) <= 2 * workers


@pytest.mark.parametrize("workers", [1, 4])
def test_the_first_error_ends_it(tmp_path: Path, workers: int) -> None:
    sources = sources_in(tmp_path, 40)
    # The earlier of two failures takes longer to be found.
    for number, content in ((2, sources[39].image.read_bytes()[:-2000]), (3, b"")):
        sources[number].image.write_bytes(content)
    asked: list[str] = []

    def asking() -> Iterator[Source]:
        for source in sources:
            asked.append(source.name)
            yield source

    with pytest.raises(RasterError, match=r"/2\.tif"):
        bank_of(asking(), workers=workers)
    assert len(asked) <= 3 + 2 * workers


@pytest.mark.shared
def test_the_range_of_11_bit_imagery_is_found(shared_data: Path) -> None:
    images = sorted((shared_data / "spacenet2_vegas" / "images").glob("RGB-PanSharpen*.tif"))
    bank = bank_of([Source(path, None, "vegas", path.stem) for path in images])
    (scaling,) = measure_scalings(bank.histograms).values()
    assert scaling.dtype == "uint16"
    assert max(scaling.high) < 2048
    assert min(scaling.low) > 0
