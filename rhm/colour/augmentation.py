"""Training augmentations: histogram matching, and what it is compared with.

The one file that imports albumentations. Whatever treats bands one by one is drawn as a lookup
table and composed with the network's normalisation, so that colour touches each pixel once.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

# albumentations asks the network for a newer version when it is imported, unless told not to.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

import albumentations as A
import numpy as np
from numpy.typing import NDArray

from rhm.colour.alternatives import jitter, mean_std
from rhm.colour.augment_config import FROM_BANK, AugmentConfig
from rhm.colour.histogram import Histogram, valid_pixels
from rhm.colour.histogram_bank import HistogramBank
from rhm.colour.lookup import PixelMap
from rhm.errors import BankError, ConfigError

VALID = "valid"
"""Name of the target that says which pixels hold data, (H, W), zero where they do not."""

_REFERENCES = "references"


class RandomizedHistogramMatching(A.ImageOnlyTransform):
    """Give each image the histogram of one image drawn at random from the target domain.

    Yaras, Kassaw, Huang, Bradbury, Malof, IEEE JSTARS 17, 2024: one fresh draw per sample and
    step; labels are untouched, because a pixel-wise map moves nothing.

    The draw is among the bank's images of the training image's dtype. Nodata pixels neither
    count nor change: those of value ``nodata``, floats that are no finite numbers, and, when
    the transform is called with a target named ``valid`` (H, W), those where it is zero.

    Args:
        bank: the target domain; also the mapping that ``HistogramBank.to_dict`` returns.
        p: probability of matching an image at all.
        blend: range in [0, 1] from which each image's blend is drawn: 1 is the full match,
            0 the image as it was, between them the mean of both weighted so.
        nodata: pixels all of whose bands equal this are nodata.
        per_band: match each band to its own (the paper's way); otherwise one map for all
            bands, from the values of all together.

    Targets:
        image

    Image types:
        uint8, uint16, int16, float32
    """

    def __init__(
        self,
        bank: HistogramBank | Mapping[str, Any],
        p: float = 0.5,
        blend: tuple[float, float] = (1.0, 1.0),
        nodata: float | None = None,
        per_band: bool = True,
    ) -> None:
        super().__init__(p=p)
        low, high = blend
        if not 0.0 <= low <= high <= 1.0:
            raise ConfigError(f"blend must be a rising pair in [0, 1], got {blend}")
        self.bank = bank if isinstance(bank, HistogramBank) else HistogramBank.from_dict(bank)
        self.blend = (float(low), float(high))
        self.nodata = nodata
        self.per_band = per_band

    def draw(self, source: Histogram, rng: np.random.Generator) -> PixelMap:
        """Return the map of one image to a random target.

        Args:
            source: histogram of the image, or of the scene that it was cut from.
            rng: the source of the draw.

        Raises:
            BankError: the bank holds no image of this dtype and bands.
        """
        target = self.bank.sample(dtype=source.dtype, rng=rng)
        weight = rng.uniform(*self.blend)
        _check_bands(source, target)
        if not self.per_band:
            source, target = source.pool_bands(), target.pool_bands()
        return PixelMap.matching(source, target).blend(weight)

    def get_params_dependent_on_data(
        self, params: dict[str, Any], data: dict[str, Any]
    ) -> dict[str, Any]:
        """Draw a target and build this image's table.

        Raises:
            BankError: the bank holds no image of this image's dtype and bands.
            TypeError: the image is of a type that has no levels.
        """
        image = data["image"]
        valid = valid_pixels(image, self.nodata, data.get(VALID))
        source = Histogram.of(image, valid=valid)
        return {"table": self.draw(source, self.random_generator), VALID: valid}

    def apply(self, img: NDArray[Any], table: PixelMap, **params: Any) -> NDArray[Any]:
        """Map the image through its table, leaving nodata as it is."""
        return table.apply(img, valid=params[VALID])

    def get_transform_init_args(self) -> dict[str, Any]:
        """Return the arguments as JSON-ready values, the bank included."""
        return {
            "bank": self.bank.to_dict(),
            "blend": list(self.blend),
            "nodata": self.nodata,
            "per_band": self.per_band,
        }

    def __repr__(self) -> str:
        # The inherited one spells out the arguments, and with them the whole bank.
        return (
            f"RandomizedHistogramMatching(bank of {len(self.bank)}, p={self.p}, "
            f"blend={self.blend}, nodata={self.nodata}, per_band={self.per_band})"
        )


def _check_bands(source: Histogram, target: Histogram) -> None:
    if source.bands != target.bands:
        raise BankError(
            f"a bank of {target.bands} x {target.dtype} cannot recolour images of "
            f"{source.bands} x {source.dtype}: build it from imagery of the same kind"
        )


_GAMMA = (0.5, 2.0)


class ChipAugmentation:
    """Flips and quarter turns, then colour and normalisation in one look-up.

    Args:
        config: what to do.
        dtype: of the chips.
        low: black of each band, in value units.
        high: white of each band.
        bank: of the target domain, for those of ``FROM_BANK``.

    Raises:
        ConfigError: the colour augmentation cannot treat such imagery, or lacks its bank.
    """

    def __init__(
        self,
        config: AugmentConfig,
        *,
        dtype: np.dtype[Any],
        low: Sequence[float],
        high: Sequence[float],
        bank: HistogramBank | None = None,
    ) -> None:
        self._config = config
        self._low, self._high = tuple(low), tuple(high)
        self._recolour = _recolouring(config, bank, self._low, self._high)
        turns = [A.HorizontalFlip(p=0.5), A.RandomRotate90(p=1.0)]
        self._turns = A.Compose(turns, additional_targets={VALID: "mask"})
        mixing = _mixing_bands(config)
        if mixing is not None and len(self._low) != 3:
            raise ConfigError(
                f"augment.colour '{config.colour}' treats 3 bands, not {len(self._low)}: "
                "choose rhm, mean-std, jitter or none"
            )
        self._mixing = None if mixing is None else _Mixing(mixing, dtype, low, high)

    def __call__(
        self,
        image: NDArray[Any],
        mask: NDArray[np.uint8],
        valid: NDArray[np.uint8],
        *,
        normalize: PixelMap,
        rng: np.random.Generator,
        scene: Histogram | None = None,
        reference: NDArray[np.uint8] | None = None,
    ) -> tuple[NDArray[np.float32], NDArray[np.uint8], NDArray[np.uint8]]:
        """Return image, mask and validity of a chip, varied at random.

        Args:
            image: (H, W, bands) as stored.
            mask: (H, W).
            valid: (H, W), zero where there is no data; there, colour is only normalised.
            normalize: from stored values to the network's input.
            rng: decides everything.
            scene: histogram of the image that the chip was cut from, for statistics of it.
            reference: (H', W', 3) image of the target domain, for ``fda``.

        Returns:
            The network's input (H, W, bands) float32, mask and validity.
        """
        self._turns.set_random_seed(int(rng.integers(1 << 31)))
        seen = self._turns(image=image, mask=mask, **{VALID: valid})
        image, known = seen["image"], seen[VALID]
        if self._mixing is not None:
            mixed = self._mixing(image, reference, rng=rng)
            image = np.where(known[..., None] > 0, mixed, image)
        table = self._draw(image, known, scene, rng)
        if table is None:
            return normalize.apply(image), seen["mask"], known
        varied = table.then(normalize).apply(image, valid=known, elsewhere=normalize)
        return varied, seen["mask"], known

    def _draw(
        self,
        image: NDArray[Any],
        valid: NDArray[np.uint8],
        scene: Histogram | None,
        rng: np.random.Generator,
    ) -> PixelMap | None:
        """Return the table of this chip's colours before normalisation, or None for none."""
        varies = self._config.jitters or self._config.colour == "gamma"
        if not (self._recolour or varies) or rng.random() >= self._config.p:
            return None
        table = PixelMap.identity(image.dtype, image.shape[-1])
        if self._recolour is not None:
            whole = scene if self._config.statistics == "scene" else None
            table = self._recolour(whole or Histogram.of(image, valid=valid), rng)
        return table.then(self._jitter(image.dtype, rng)) if varies else table

    def _jitter(self, dtype: np.dtype[Any], rng: np.random.Generator) -> PixelMap:
        config = self._config
        gamma = _GAMMA if config.colour == "gamma" else config.gamma
        return jitter(
            dtype,
            self._low,
            self._high,
            # Half and double are as far from 1 as one another.
            gamma=np.exp(rng.uniform(*np.log(gamma))),
            gain=rng.uniform(*config.gain),
            offset=rng.uniform(*config.offset),
        )


def _recolouring(
    config: AugmentConfig, bank: HistogramBank | None, low: Sequence[float], high: Sequence[float]
) -> Callable[[Histogram, np.random.Generator], PixelMap] | None:
    """Return what draws the map of an image to one of the bank, or None where none is asked."""
    if config.colour not in FROM_BANK:
        return None
    if bank is None:
        raise ConfigError(
            f"augment.colour is {config.colour}, which needs a bank: give --bank FILE"
        )
    if config.colour == "rhm":
        return RandomizedHistogramMatching(bank, blend=config.blend, per_band=config.per_band).draw
    return partial(_draw_mean_std, bank, low, high)


def _draw_mean_std(
    bank: HistogramBank,
    low: Sequence[float],
    high: Sequence[float],
    source: Histogram,
    rng: np.random.Generator,
) -> PixelMap:
    target = bank.sample(dtype=source.dtype, rng=rng)
    _check_bands(source, target)
    return mean_std(source, target, low, high)


class _Mixing:
    """An augmentation of albumentations that mixes three bands, which it wants as bytes."""

    def __init__(
        self,
        transform: A.Compose,
        dtype: np.dtype[Any],
        low: Sequence[float],
        high: Sequence[float],
    ) -> None:
        self._transform = transform
        self._bytes: tuple[PixelMap, PixelMap] | None = None
        if dtype != np.uint8:
            black, white = (0.0,) * 3, (255.0,) * 3
            self._bytes = (
                PixelMap.stretch(low, high, dtype, to_low=black, to_high=white, to_dtype=np.uint8),
                PixelMap.stretch(black, white, np.uint8, to_low=low, to_high=high, to_dtype=dtype),
            )

    def __call__(
        self,
        image: NDArray[Any],
        reference: NDArray[np.uint8] | None,
        *,
        rng: np.random.Generator,
    ) -> NDArray[Any]:
        self._transform.set_random_seed(int(rng.integers(1 << 31)))
        borrowed = {} if reference is None else {_REFERENCES: [reference]}
        if self._bytes is None:
            return np.asarray(self._transform(image=image, **borrowed)["image"])
        to_bytes, from_bytes = self._bytes
        return from_bytes.apply(self._transform(image=to_bytes.apply(image), **borrowed)["image"])


def _mixing_bands(config: AugmentConfig) -> A.Compose | None:
    """Return the augmentations that are no tables, because they mix bands or places."""
    mixing: dict[str, A.BasicTransform] = {
        "color-jitter": A.ColorJitter(
            brightness=(0.7, 1.3),
            contrast=(0.7, 1.3),
            saturation=(0.7, 1.3),
            hue=(-0.1, 0.1),
            p=config.p,
        ),
        "hsv": A.HueSaturationValue(
            hue_shift_limit=20, sat_shift_limit=60, val_shift_limit=60, p=config.p
        ),
        "fda": A.FDA(beta_limit=(0.0, 0.1), metadata_key=_REFERENCES, p=config.p),
    }
    return A.Compose([mixing[config.colour]]) if config.colour in mixing else None
