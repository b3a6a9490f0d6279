"""Laws of scalings: of what they measure, and of carrying values from one type into another."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rhm.colour.histogram import Histogram
from rhm.colour.histogram_bank import HistogramBank
from rhm.colour.levels import to_levels, values_of
from rhm.colour.lookup import PixelMap
from rhm.data.radiometry import (
    Scaling,
    harmonize,
    measure_scalings,
)
from rhm.errors import BankError
from tests.data.imagery import noise
from tests.data.scalings import BYTES, imagery, signed_scalings, wide_scalings


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
