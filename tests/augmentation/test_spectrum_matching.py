"""Spectrum matching; oracle: the FDA paper's program with the target's image."""

import albumentations as A
import numpy as np
import pytest
from numpy.typing import NDArray

from rhm.augmentation.colours import COLOUR, ColourConfig, Imagery
from rhm.augmentation.spectrum_matching import SpectrumMatching
from rhm.colour.histogram_bank import HistogramBank
from rhm.colour.spectra.spectrum import Spectrum
from rhm.errors import BankError
from tests.augmentation.chips import chip, hole
from tests.colour.spectra.test_amplitude_swap import fda
from tests.colour.spectra.textures import Image, texture

SIDE = 96
EVERYWHERE = np.ones((SIDE, SIDE), np.uint8)


def stored(image: Image, dtype: str) -> Image:
    factor = {"uint8": 1.0, "uint16": 9.0, "int16": 9.0, "float32": 0.01}[dtype]
    values = image * factor
    return (values if dtype == "float32" else np.rint(values)).astype(dtype)


def bank_of(*images: Image) -> HistogramBank:
    return HistogramBank.from_images(images, spectrum_px=SIDE)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
@pytest.mark.parametrize("bands", [1, 3, 5])
def test_a_bank_gives_what_the_images_would_give(dtype: str, bands: int) -> None:
    image = stored(texture((SIDE, SIDE), bands=bands, seed=1), dtype)
    targets = [
        stored(texture((SIDE, SIDE), bands=bands, seed=s, level=120.0), dtype) for s in (2, 3)
    ]
    bank = bank_of(*targets)
    for seed in range(6):
        augment = SpectrumMatching(bank, (0.0, 0.1))
        found = augment(image, EVERYWHERE, rng=np.random.default_rng(seed))
        rng = np.random.default_rng(seed)
        target = targets[int(rng.random() * 2)]
        expected = fda(image, target, rng.uniform(0.0, 0.1))
        if dtype != "float32":
            expected = np.rint(np.clip(expected, *_ends(dtype)))
        assert found.dtype == image.dtype
        off = np.abs(found.astype(np.float64) - expected)
        # The amplitudes are kept in single precision: now and then a half is rounded otherwise.
        assert off.max() <= (1e-4 if dtype == "float32" else 1.0)
        assert (off > 1e-4).mean() < 0.01


def _ends(dtype: str) -> tuple[int, int]:
    return int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)


def test_it_is_close_to_the_transform_of_albumentations() -> None:
    """That one swaps a square without its last row and column, which is not symmetric."""
    image = stored(texture((SIDE, SIDE), seed=4), "uint8")
    target = stored(texture((SIDE, SIDE), seed=5, level=150.0), "uint8")
    found = SpectrumMatching(bank_of(target), (0.08, 0.08))(
        image, EVERYWHERE, rng=np.random.default_rng(0)
    )
    transform = A.Compose([A.FDA(beta_limit=(0.08, 0.08), metadata_key="seen", p=1.0)])
    theirs = transform(image=image, seen=[target])["image"]
    distance = np.abs(found.astype(float) - theirs).mean()
    assert distance < 0.2 * np.abs(image.astype(float) - theirs).mean()


def test_nodata_has_no_influence(valid: NDArray[np.uint8]) -> None:
    image, bank = chip("uint8"), HistogramBank.from_images([chip("uint8", seed=3)], spectrum_px=16)
    other = image.copy()
    other[valid == 0] = 255
    augment = SpectrumMatching(bank, (0.1, 0.1))
    first, second = (augment(each, valid, rng=np.random.default_rng(0)) for each in (image, other))
    np.testing.assert_array_equal(first[valid > 0], second[valid > 0])
    nothing = np.zeros_like(valid)
    np.testing.assert_array_equal(augment(image, nothing, rng=np.random.default_rng(0)), image)


@pytest.fixture
def valid() -> NDArray[np.uint8]:
    return hole()


def test_a_chip_keeps_the_waves_that_a_bank_of_finer_imagery_does_not_know() -> None:
    """Oracle: windows of 96 pixels of 0.25 m are a quarter of a chip of 96 pixels of 1 m."""
    image, target = (texture((SIDE, SIDE), bands=1, seed=seed) for seed in (6, 7))
    found = Spectrum.of_image(stored(target, "float32"), side=SIDE)
    assert found is not None
    (entry,) = bank_of(stored(target, "float32")).entries
    bank = HistogramBank([entry], spectra=[Spectrum(SIDE, found.amplitudes, 0.25)])
    before = stored(image, "float32")
    after = SpectrumMatching(bank, (0.1, 0.1), 1.0)(
        before, EVERYWHERE, rng=np.random.default_rng(0)
    )
    kept, changed = (np.fft.fft2(each[..., 0].astype(np.float64)) for each in (before, after))
    same = np.isclose(kept, changed, rtol=1e-4, atol=1e-3)
    waves = np.abs(np.fft.fftfreq(SIDE, 1 / SIDE).round())
    longest = np.maximum(waves[:, None], waves)
    np.testing.assert_array_equal(same, (longest < 4) & (longest > 0) | (longest > 9))


def test_a_bank_without_spectra_or_of_other_imagery_is_told() -> None:
    image, known = chip("uint8"), hole()
    plain = HistogramBank.from_images([image])
    rng = np.random.default_rng(0)
    with pytest.raises(BankError, match="`rhm bank build`, without --no-spectrum"):
        SpectrumMatching(plain, (0.0, 0.1))(image, known, rng=rng)
    other = HistogramBank.from_images([chip("uint8", 4)], spectrum_px=16)
    with pytest.raises(BankError, match="bank has 4 bands of uint8, the images have 3 of uint8"):
        SpectrumMatching(other, (0.0, 0.1))(image, known, rng=rng)


def test_images_without_a_spectrum_are_not_drawn() -> None:
    image, known = chip("uint8"), hole()
    whole = HistogramBank.from_images([chip("uint8", seed=3)], spectrum_px=16)
    some = whole.merge(HistogramBank.from_images([chip("uint8", seed=4)]))
    config = ColourConfig("spectrum", bank="a bank", beta=(0.1, 0.1))
    build = COLOUR["spectrum"].mixer
    assert build is not None
    mixers = [
        build(config, Imagery(image.dtype, [0.0] * 3, [255.0] * 3, bank)) for bank in (whole, some)
    ]
    for seed in range(8):
        first, second = (each(image, known, rng=np.random.default_rng(seed)) for each in mixers)
        np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("sampling", ["domain", "uniform"])
def test_domains_are_weighted_by_their_spectra(
    monkeypatch: pytest.MonkeyPatch, sampling: str
) -> None:
    """Law: a domain is drawn as often as another, however many of its images have a spectrum."""
    entries = HistogramBank.from_images([chip("uint8", seed=seed) for seed in range(11)]).entries
    (spectrum,) = HistogramBank.from_images([chip("uint8")], spectrum_px=16).spectra
    names = [*(f"a/{number}" for number in range(10)), "b/0"]
    spectra = [spectrum, *[None] * 9, spectrum]
    bank = HistogramBank(entries, names, spectra=spectra)
    weighted = bank.weighted("domain") if sampling == "domain" else bank
    seen: list[HistogramBank] = []
    monkeypatch.setattr(
        "rhm.augmentation.colours.SpectrumMatching", lambda bank, *_: seen.append(bank)
    )
    build = COLOUR["spectrum"].mixer
    assert build is not None
    build(
        ColourConfig("spectrum", bank="a bank", sampling=sampling),
        Imagery(np.dtype(np.uint8), [0.0] * 3, [255.0] * 3, weighted),
    )
    assert seen[0].names == ("a/0", "b/0")
    np.testing.assert_allclose(seen[0].weights, [1.0, 1.0])
