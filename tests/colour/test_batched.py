"""Laws of batched matching; oracles: the tables of one image at a time, scikit-image."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from skimage.exposure import match_histograms as skimage_match

from rhm.colour.batched import BatchedHistogramMatching
from rhm.colour.histogram_bank import HistogramBank
from rhm.colour.lookup import PixelMap
from rhm.errors import BankError, ConfigError
from tests.colour.batches import TENSORS, array_of, bank_of, batch_of, one_by_one, tensor_of
from tests.imagery import KINDS, Image, drawn


@pytest.mark.parametrize(("dtype", "kind"), TENSORS)
@pytest.mark.parametrize("bands", [1, 3, 8])
def test_a_batch_is_its_images_matched_one_by_one(
    dtype: type, kind: torch.dtype, bands: int
) -> None:
    bank, images = bank_of(dtype, bands=bands), batch_of(dtype, bands=bands)
    module = BatchedHistogramMatching(bank, p=1.0)
    for shift in range(len(bank)):
        targets = [(shift + 3 * sample) % len(bank) for sample in range(len(images))]
        matched = module.match(tensor_of(images, kind), torch.tensor(targets))
        assert matched.dtype == kind
        expected = one_by_one(images, [bank.histograms[target] for target in targets])
        np.testing.assert_array_equal(array_of(matched), np.stack(list(expected)), strict=True)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_match_is_scikit_images(dtype: type) -> None:
    rng = np.random.default_rng(5)
    for case in range(40):
        kinds, sizes = rng.choice(KINDS, 2), rng.integers(1, 46, (2, 2))
        reference = drawn(kinds[0], dtype, (*sizes[0], 3), rng=rng)
        images = drawn(kinds[1], dtype, (2, 3, *sizes[1]), rng=rng)
        module = BatchedHistogramMatching(HistogramBank.from_images([reference]), p=1.0)
        matched = array_of(module(torch.from_numpy(images)))
        for image, result in zip(np.moveaxis(images, 1, -1), matched, strict=True):
            oracle = skimage_match(image, reference, channel_axis=-1)
            np.testing.assert_array_equal(result, oracle, err_msg=f"case {case}", strict=True)


@given(st.data())
@settings(max_examples=60)
def test_rounding_falls_as_in_numpy(data: st.DataObject) -> None:
    """Few pixels and few levels: cumulative shares meet each other and whole levels often."""
    dtype = data.draw(st.sampled_from([np.uint8, np.uint16]))
    highest = data.draw(st.sampled_from([3, 60, 255 if dtype is np.uint8 else 2047]))
    side, other = data.draw(st.tuples(st.integers(1, 9), st.integers(1, 9)))
    values = st.integers(0, highest)
    reference: Image = data.draw(arrays(dtype, (side, other, 2), elements=values))
    image: Image = data.draw(arrays(dtype, (2, other, side), elements=values))
    images = np.stack([image, np.moveaxis(reference, (0, 1, 2), (2, 1, 0))])
    bank = HistogramBank.from_images([reference])
    module = BatchedHistogramMatching(bank, p=1.0, levels=2048)
    matched = array_of(module(torch.from_numpy(images)))
    expected = one_by_one(images, bank.histograms * 2)
    np.testing.assert_array_equal(matched, np.stack(list(expected)), strict=True)
    np.testing.assert_array_equal(np.moveaxis(matched[1], -1, 0), images[1])


@pytest.mark.parametrize(("dtype", "kind"), TENSORS)
@pytest.mark.parametrize("nodata", [0, 7.0])
def test_nodata_neither_counts_nor_changes(dtype: type, kind: torch.dtype, nodata: float) -> None:
    bank, images = bank_of(dtype), batch_of(dtype)
    rng = np.random.default_rng(1)
    images[:, :, :9, 5:20] = nodata
    images[:, 0, 0, 0], images[:, 1:, 0, 0] = 200, nodata
    images[2] = nodata
    given_valid = rng.random((len(images), *images.shape[2:])) < 0.8
    given_valid[3] = False
    targets = [4, 1, 2, 3, 9]
    matched = BatchedHistogramMatching(bank, nodata=nodata).match(
        tensor_of(images, kind), torch.tensor(targets), torch.from_numpy(given_valid)
    )
    valid = given_valid & (images != nodata).any(axis=1)
    assert not valid[2:4].any()
    expected = one_by_one(images, [bank.histograms[target] for target in targets], valid)
    np.testing.assert_array_equal(array_of(matched), np.stack(list(expected)), strict=True)
    kept = array_of(matched)[~valid]
    np.testing.assert_array_equal(kept, np.moveaxis(images, 1, -1)[~valid])


def test_no_pixel_equals_a_nodata_value_beyond_the_type() -> None:
    images, targets = tensor_of(batch_of(np.uint8), torch.uint8), torch.arange(5)
    matched = BatchedHistogramMatching(bank_of(np.uint8)).match(images, targets)
    for nodata in (-9999.0, 256.0, 0.5, float("nan")):
        module = BatchedHistogramMatching(bank_of(np.uint8), nodata=nodata)
        assert torch.equal(module.match(images, targets), matched)


@pytest.mark.parametrize(("dtype", "kind"), TENSORS)
def test_normalisation_is_part_of_the_table(dtype: type, kind: torch.dtype) -> None:
    bank, images = bank_of(dtype), batch_of(dtype)
    images[:, :, :4] = 0
    normalize = PixelMap.normalize(
        (3, 0, 9), (200, 255, 199), dtype, mean=(0.4, 0.5, 0.3), std=(0.2, 0.3, 0.1)
    )
    targets = [3, 0, 8, 2, 6]
    histograms = [bank.histograms[target] for target in targets]
    for nodata, valid in ((None, None), (0, (images != 0).any(axis=1))):
        module = BatchedHistogramMatching(bank, nodata=nodata, normalize=normalize)
        matched = module.match(tensor_of(images, kind), torch.tensor(targets))
        expected = np.stack(list(one_by_one(images, histograms, valid, after=normalize)))
        assert matched.dtype == torch.float32
        np.testing.assert_array_equal(array_of(matched), expected, strict=True)


def test_fewer_levels_change_nothing_but_the_cost() -> None:
    bank = HistogramBank.from_images(
        [drawn("11 bit", np.uint16, (30, 30, 3), rng=np.random.default_rng(0))]
    )
    images = drawn("11 bit", np.uint16, (4, 3, 20, 20), rng=np.random.default_rng(1))
    every, few = (BatchedHistogramMatching(bank, p=1.0, levels=n) for n in (65536, 2048))
    assert torch.equal(every(torch.from_numpy(images)), few(torch.from_numpy(images)))


@pytest.mark.parametrize("kind", [torch.uint16, torch.int32])
@pytest.mark.parametrize("nodata", [None, 65535])
def test_values_beyond_the_levels_are_taken_for_the_highest(
    kind: torch.dtype, nodata: int | None
) -> None:
    images = np.random.default_rng(1).integers(0, 4000, (5, 3, 20, 20)).astype(np.uint16)
    images[:, :, :3] = 65535
    valid = torch.from_numpy((images != nodata).any(axis=1)) if nodata else None
    targets = torch.arange(5)
    matched = BatchedHistogramMatching(bank_of(np.uint16), nodata=nodata, levels=2048).match(
        tensor_of(images, kind), targets
    )
    clipped = tensor_of(np.minimum(images, 2047), kind)
    expected = BatchedHistogramMatching(bank_of(np.uint16)).match(clipped, targets, valid)
    if nodata:
        expected[:, :, :3] = 65535
    np.testing.assert_array_equal(array_of(matched), array_of(expected))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_blends_are_weighted_means(dtype: type) -> None:
    module, images = BatchedHistogramMatching(bank_of(dtype)), batch_of(dtype)
    targets, weights = torch.tensor([4, 1, 0, 3, 9]), np.array([0.0, 0.25, 0.5, 0.817, 1.0])
    full = module.match(torch.from_numpy(images), targets).numpy().astype(np.float64)
    blended = module.match(torch.from_numpy(images), targets, blends=torch.from_numpy(weights))
    shares = weights[:, None, None, None]
    expected: Image = np.rint(shares * full + (1.0 - shares) * images).astype(dtype)
    np.testing.assert_array_equal(blended.numpy(), expected, strict=True)


@pytest.mark.parametrize(("copies", "nodata"), [(1, None), (7, None), (32, 0)])
def test_separate_counters_change_nothing(
    copies: int, nodata: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, targets = tensor_of(batch_of(np.uint8), torch.uint8), torch.tensor([3, 0, 8, 2, 6])
    images[:, :, 5:9] = 0
    module = BatchedHistogramMatching(bank_of(np.uint8), nodata=nodata)
    before = module.match(images, targets)
    monkeypatch.setattr("rhm.colour.batched._copies_on", lambda device, levels: copies)
    assert torch.equal(module.match(images, targets), before)


@pytest.mark.parametrize("kind", [torch.uint8, torch.uint16])
def test_any_layout_and_any_size(kind: torch.dtype) -> None:
    dtype = np.uint8 if kind == torch.uint8 else np.uint16
    module, targets = BatchedHistogramMatching(bank_of(dtype)), torch.tensor([3, 0, 8, 2, 6])
    images = tensor_of(batch_of(dtype), kind)
    expected = module.match(images, targets)
    interleaved = tensor_of(np.moveaxis(batch_of(dtype), 1, -1), kind).permute(0, 3, 1, 2)
    assert torch.equal(module.match(interleaved, targets), expected)
    assert torch.equal(module.match(images.transpose(2, 3), targets), expected.transpose(2, 3))
    assert module(images[:0]).shape == (0, 3, 23, 31)
    assert module(images[..., :0]).shape == (5, 3, 23, 0)
    assert module(images[:1, :, :1, :1]).shape == (1, 3, 1, 1)


def test_int32_beyond_uint16_is_taken_for_the_nearest() -> None:
    module, targets = BatchedHistogramMatching(bank_of(np.uint16)), torch.arange(5)
    images = tensor_of(batch_of(np.uint16), torch.int32)
    images[:, 0, :3], images[:, 1, :3] = -70000, 1 << 20
    clipped = images.clamp(0, 65535)
    assert torch.equal(module.match(images, targets), module.match(clipped, targets))


def test_images_unlike_the_bank_are_refused() -> None:
    module = BatchedHistogramMatching(bank_of(np.uint8))
    with pytest.raises(
        BankError, match="the bank has 3 bands of uint8, the images have 3 of uint16"
    ):
        module(torch.zeros((2, 3, 4, 4), dtype=torch.int32))
    with pytest.raises(BankError, match="the images have 4 of uint8"):
        module(torch.zeros((2, 4, 4, 4), dtype=torch.uint8))
    for dtype in (torch.float32, torch.int16):
        with pytest.raises(TypeError, match=f"expected uint8, uint16 or int32 images, got {dtype}"):
            module(torch.zeros((2, 3, 4, 4), dtype=dtype))
    with pytest.raises(ValueError, match="expected images"):
        module(torch.zeros((3, 4, 4), dtype=torch.uint8))
    images = torch.zeros((2, 3, 4, 4), dtype=torch.uint8)
    for shape in ((2, 1, 4, 4), (4, 4), (2, 4, 5)):
        with pytest.raises(ValueError, match=r"valid must have shape \(2, 4, 4\)"):
            module(images, torch.ones(shape, dtype=torch.bool))
    for targets in (torch.zeros(3, dtype=torch.int64), torch.zeros((2, 1), dtype=torch.int64)):
        with pytest.raises(ValueError, match="one target for each of 2 images"):
            module.match(images, targets)


def test_impossible_arguments_are_refused() -> None:
    bank = bank_of(np.uint8)
    for p in (-0.1, 1.1, float("nan")):
        with pytest.raises(ConfigError, match="probability"):
            BatchedHistogramMatching(bank, p)
    for blend in ((-0.1, 1.0), (0.9, 0.1), (0.0, 1.5), (float("nan"), 1.0)):
        with pytest.raises(ConfigError, match="rising pair"):
            BatchedHistogramMatching(bank, blend=blend)
    for levels in (0, 65537):
        with pytest.raises(ConfigError, match="levels"):
            BatchedHistogramMatching(bank, levels=levels)
    normalize = PixelMap.normalize((0,) * 4, (255,) * 4, np.uint8)
    with pytest.raises(ValueError, match="bands"):
        BatchedHistogramMatching(bank, normalize=normalize)
    deep = BatchedHistogramMatching(bank, normalize=PixelMap.identity(np.uint16, 3))
    with pytest.raises(ValueError, match="normalize takes uint16, but the images are uint8"):
        deep(torch.zeros((2, 3, 4, 4), dtype=torch.uint8))
    signed = HistogramBank.from_images([np.zeros((4, 4, 3), dtype=np.int16)])
    with pytest.raises(BankError, match="neither uint8 nor uint16"):
        BatchedHistogramMatching(signed)
