"""Laws of lookup tables; oracles: images mapped one by one, formulas in float64."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from rhm.colour.histogram import OPENCV_CHANNELS, Histogram
from rhm.colour.lookup import PixelMap
from tests.imagery import Image


@st.composite
def images(draw: st.DrawFn, dtype: type, *, bands: int = 2) -> Image:
    """Small images (H, W, bands), of many values or few."""
    high = draw(st.sampled_from([2, 60, 255 if dtype is np.uint8 else 2047]))
    shape = (draw(st.integers(1, 9)), draw(st.integers(1, 9)), bands)
    return draw(arrays(dtype, shape, elements=st.integers(0, high)))


@st.composite
def pairs(draw: st.DrawFn) -> tuple[Image, Image]:
    """Two images of one type."""
    dtype = draw(st.sampled_from([np.uint8, np.uint16]))
    return draw(images(dtype)), draw(images(dtype))


@given(pairs())
def test_matching_never_swaps_dark_and_bright(pair: tuple[Image, Image]) -> None:
    tables = PixelMap.matching(*map(Histogram.of, pair)).tables.astype(np.int64)
    assert (np.diff(tables, axis=1) >= 0).all()


@given(pairs())
def test_the_result_is_distributed_like_the_target(pair: tuple[Image, Image]) -> None:
    """The result's share up to value x is the target's, to within one source level's share.

    Between its present values the target's cumulative share is the straight line that matching
    inverts. A result is truncated, so that "at most x" means "below x + 1 before truncation":
    the share up to x falls short of the line's height at x + 1 by no more than the share of the
    source's commonest level, and never exceeds it.
    """
    image, reference = pair
    source, target = Histogram.of(image), Histogram.of(reference)
    result = PixelMap.matching(source, target).push(source)
    for band in range(source.bands):
        present, heights = target.steps[band]
        values = np.arange(int(present[0]), int(present[-1]) + 1)
        line = np.interp(values + 1, present, heights)
        counts = np.pad(result.counts[band], (result.first, int(present[-1]) + 1))
        reached = np.cumsum(counts)[values] / result.pixels
        commonest = source.counts[band].max() / source.pixels
        assert (reached <= line + 1e-9).all()
        assert (reached >= line - commonest - 1e-9).all()
        assert not counts[: present[0]].any()
        assert reached[-1] == 1.0


@given(pairs(), st.data())
def test_a_composition_is_its_maps_in_turn(pair: tuple[Image, Image], data: st.DataObject) -> None:
    image = pair[0]
    match = PixelMap.matching(*map(Histogram.of, pair))
    gamma = PixelMap.gamma([0.4, 2.2], image.dtype, 2)
    shift = PixelMap.gain_offset(data.draw(st.floats(-2, 2)), 17.3, image.dtype, 2)
    normalize = PixelMap.normalize(
        (3.0, 0.0), (200.0, 255.0), image.dtype, mean=(0.4, 0.5), std=(0.2, 0.3)
    )
    composed = match.then(gamma).then(shift)
    in_turn = shift.apply(gamma.apply(match.apply(image)))
    np.testing.assert_array_equal(composed.apply(image), in_turn, strict=True)
    to_network = composed.then(normalize).apply(image)
    np.testing.assert_array_equal(to_network, normalize.apply(in_turn), strict=True)
    assert to_network.dtype == np.float32


@given(pairs())
def test_push_is_the_histogram_of_the_mapped_image(pair: tuple[Image, Image]) -> None:
    image, reference = pair
    source = Histogram.of(image)
    match = PixelMap.matching(source, Histogram.of(reference))
    to_bytes = PixelMap(match.tables.astype(np.uint8))
    for table in (match, PixelMap.gamma([0.3, 3.0], image.dtype, 2), to_bytes):
        pushed, counted = table.push(source), Histogram.of(table.apply(image))
        assert pushed.dtype == counted.dtype
        np.testing.assert_array_equal(pushed.counts, counted.counts)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("bands", [1, 4, 8, OPENCV_CHANNELS, OPENCV_CHANNELS + 1, 240])
def test_any_number_of_bands(dtype: type, bands: int) -> None:
    rng = np.random.default_rng(bands)
    image: Image = rng.integers(0, 256, (6, 7, bands)).astype(dtype)
    table = PixelMap.gain_offset(rng.uniform(0.2, 2.0, bands), 3.0, dtype, bands)
    by_numpy = np.stack([table.tables[b][image[..., b]] for b in range(bands)], axis=-1)
    np.testing.assert_array_equal(table.apply(image), by_numpy, strict=True)


@pytest.mark.parametrize("shape", [(31, 17), (31, 17, 1), (31, 17, 3), (1, 1, 3), (1, 40, 5)])
@pytest.mark.parametrize("result", [np.uint8, np.uint16, np.float32])
def test_without_opencv_5_numpy_gives_the_same(
    shape: tuple[int, ...], result: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(3)
    bands = 1 if len(shape) == 2 else shape[-1]
    table = PixelMap(rng.integers(0, 250, (bands, 65536)).astype(result))
    image = rng.integers(0, 65536, shape).astype(np.uint16)
    by_opencv = table.apply(image)
    monkeypatch.setattr("rhm.colour.lookup._OPENCV_LOOKS_UP_UINT16", False)
    np.testing.assert_array_equal(table.apply(image), by_opencv, strict=True)


@pytest.mark.parametrize("result", ["int64", "uint32", "uint64", "float16", "int32", "float64"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_the_result_is_of_the_tables_type(dtype: type, result: str) -> None:
    levels = int(np.iinfo(dtype).max) + 1
    table = PixelMap(np.linspace(0, 60000, levels).astype(result)[None])
    image: Image = np.arange(64, dtype=dtype).reshape(8, 8)
    np.testing.assert_array_equal(table.apply(image), table.tables[0][image], strict=True)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_views_map_like_their_copies(dtype: type) -> None:
    image: Image = np.random.default_rng(0).integers(0, 200, (30, 40, 4)).astype(dtype)
    image.flags.writeable = False
    before = image.copy()
    for view in (image[::2, 3:-1], image.transpose(1, 0, 2), image[..., ::2], image[::-1, :, 1]):
        bands = 1 if view.ndim == 2 else view.shape[-1]
        table = PixelMap.gain_offset(1.5, 3.0, dtype, bands)
        copied = table.apply(np.ascontiguousarray(view))
        np.testing.assert_array_equal(table.apply(view), copied, strict=True)
    np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("shape", [(0, 5, 2), (5, 0, 2)])
def test_an_empty_image_stays_empty(dtype: type, shape: tuple[int, ...]) -> None:
    table = PixelMap.normalize((0.0, 0.0), (255.0, 255.0), dtype)
    mapped = table.apply(np.zeros(shape, dtype=dtype))
    assert mapped.shape == shape
    assert mapped.dtype == np.float32


@given(images(np.uint8), st.data())
def test_invalid_pixels_keep_their_values(image: Image, data: st.DataObject) -> None:
    valid = data.draw(arrays(np.bool_, image.shape[:2]))
    table = PixelMap.gain_offset(-1.0, 255.0, np.uint8, 2)
    expected = np.where(valid[..., None], 255 - image, image)
    for given_valid in (valid, valid.astype(np.uint8) * 255):
        np.testing.assert_array_equal(table.apply(image, valid=given_valid), expected)


@given(images(np.uint16))
def test_identity_changes_nothing_and_is_neutral(image: Image) -> None:
    identity = PixelMap.identity(np.uint16, 2)
    np.testing.assert_array_equal(identity.apply(image), image, strict=True)
    other = PixelMap.gamma(2.0, np.uint16, 2)
    for composed in (identity.then(other), other.then(identity)):
        np.testing.assert_array_equal(composed.tables, other.tables)


def test_gamma_is_its_formula() -> None:
    values = np.arange(65536, dtype=np.float64)
    table = PixelMap.gamma([0.5, 3.0], np.uint16, 2, high=2047).tables
    for band, exponent in enumerate((0.5, 3.0)):
        expected = np.rint(2047 * np.minimum(values / 2047, 1.0) ** exponent)
        np.testing.assert_array_equal(table[band], expected)


def test_gain_and_offset_are_clipped_to_the_imagerys_range() -> None:
    table = PixelMap.gain_offset([2.0, 1.0], [-100.0, 0.0], np.uint16, 2, high=2047).tables
    assert table[0, [0, 50, 51, 1073, 1074, 65535]].tolist() == [0, 0, 2, 2046, 2047, 2047]
    assert table[1, [0, 2047, 2048]].tolist() == [0, 2047, 2047]
    assert PixelMap.gain_offset(3.0, 0.0, np.uint8, 1).tables[0, 255] == 255


def test_a_piecewise_map_goes_through_its_knots() -> None:
    table = PixelMap.through([[0.0, 0.5, 0.6], [0.2, 0.2, 1.0]], np.uint8, high=100.0).tables
    assert table[:, [0, 25, 50, 100, 255]].tolist() == [[0, 25, 50, 60, 60], [20, 20, 20, 100, 100]]


def test_normalisation_is_its_formula() -> None:
    table = PixelMap.normalize((10.0, 0.0), (210.0, 255.0), np.uint8, mean=(0.5,), std=(0.25,))
    values = np.arange(256, dtype=np.float64)
    for band, (low, high) in enumerate(((10.0, 210.0), (0.0, 255.0))):
        shares = np.clip((values - low) / (high - low), 0.0, 1.0)
        np.testing.assert_allclose(table.tables[band], (shares - 0.5) / 0.25, rtol=1e-6, atol=1e-7)
    with pytest.raises(ValueError, match="high must be above low"):
        PixelMap.normalize((5.0,), (5.0,), np.uint8)


@pytest.mark.parametrize("high", [65536.0, 1e9])
def test_white_above_the_type_is_the_types_largest_value(high: float) -> None:
    values = np.arange(65536)
    for table in (
        PixelMap.gamma(1.0, np.uint16, 1, high=high),
        PixelMap.gain_offset(1.0, 0.0, np.uint16, 1, high=high),
        PixelMap.through([[0.0, 1.0]], np.uint16, high=high),
    ):
        np.testing.assert_array_equal(table.tables[0], values)
    for table in (
        PixelMap.gamma(1 / 3, np.uint16, 1, high=high),
        PixelMap.gain_offset(2.0, 0.0, np.uint16, 1, high=high),
        PixelMap.through([[0.5, 1.0]], np.uint16, high=high),
    ):
        assert table.tables[0, -1] == table.tables.max() == 65535
    with pytest.raises(ValueError, match="white must be above 0"):
        PixelMap.gamma(1.0, np.uint16, 1, high=0)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.float32])
def test_a_blend_lies_between_the_image_and_its_match(dtype: type) -> None:
    rng = np.random.default_rng(1)
    image: Image = rng.integers(0, 90, (30, 30, 2)).astype(dtype)
    reference: Image = rng.integers(0, 250, (30, 30, 2)).astype(dtype)
    match = PixelMap.matching(Histogram.of(image), Histogram.of(reference))
    assert match.blend(1.0) is match
    np.testing.assert_array_equal(match.blend(0.0).apply(image), image, strict=True)
    mean = 0.25 * match.apply(image).astype(np.float64) + 0.75 * image
    tolerance = 0.51 if np.dtype(dtype).kind in "iu" else 1e-4
    np.testing.assert_allclose(match.blend(0.25).apply(image), mean, atol=tolerance)


def test_a_map_keeps_its_own_tables() -> None:
    tables = np.arange(256, dtype=np.uint8)[None]
    table = PixelMap(tables)
    tables[:] = 0
    assert table.apply(np.full((1, 1), 9, dtype=np.uint8)).item() == 9


def test_what_does_not_fit_is_refused() -> None:
    colour = PixelMap.identity(np.uint8, 3)
    for image in (
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 2), np.uint8),
        np.zeros((4, 4, 3), np.uint16),
        np.zeros((2, 4, 4, 3), np.uint8),
        np.zeros(3, np.uint8),
    ):
        with pytest.raises(ValueError, match="does not take"):
            colour.apply(image)
    with pytest.raises(ValueError, match="valid must have the shape"):
        colour.apply(np.zeros((4, 5, 3), np.uint8), valid=np.ones((4, 4), np.bool_))
    to_float = PixelMap.normalize((0.0,) * 3, (255.0,) * 3, np.uint8)
    with pytest.raises(ValueError, match="another dtype"):
        to_float.apply(np.zeros((4, 4, 3), np.uint8), valid=np.zeros((4, 4), np.bool_))
    with pytest.raises(ValueError, match="cannot be followed"):
        to_float.then(colour)
    with pytest.raises(ValueError, match="cannot be followed"):
        colour.then(PixelMap.identity(np.uint8, 1))
    with pytest.raises(ValueError, match="expected tables"):
        PixelMap(np.zeros((1, 255), np.uint8))
    with pytest.raises(ValueError, match="does not take 1 x uint8"):
        colour.push(Histogram.of(np.zeros((2, 2), np.uint8)))
    with pytest.raises(TypeError, match="got float64"):
        PixelMap(np.zeros((3, 256))).push(Histogram.of(np.zeros((2, 2, 3), np.uint8)))
    with pytest.raises(ValueError, match="a table for int16 must have 65536 levels, got 256"):
        PixelMap(np.zeros((1, 256)), np.dtype(np.int16))
    with pytest.raises(ValueError, match=r"weight must be in \[0, 1\], got 1\.5"):
        colour.blend(1.5)
    with pytest.raises(ValueError, match="from uint8 to float32"):
        to_float.blend(0.5)


def test_a_stretch_is_its_formula() -> None:
    table = PixelMap.stretch(
        (100.0, 0.0), (1100.0, 500.0), np.uint16, to_low=(0.0,) * 2, to_high=(255.0,) * 2,
        to_dtype=np.uint8,
    )  # fmt: skip
    assert table.output_dtype == np.uint8
    assert table.tables[0, [0, 100, 600, 1100, 65535]].tolist() == [0, 0, 128, 255, 255]
    assert table.tables[1, [0, 250, 500]].tolist() == [0, 128, 255]
    back = PixelMap.stretch(
        (0.0,), (255.0,), np.uint8, to_low=(-300.0,), to_high=(2000.0,), to_dtype=np.int16
    )
    assert back.tables[0, [0, 255]].tolist() == [-300, 2000]
    assert (np.diff(back.tables) > 0).all()
