"""Training augmentations: histogram matching, and what it is compared with.

The one file that imports albumentations. Whatever treats bands one by one is drawn as a lookup
table and composed with the network's normalisation, so that colour touches each pixel once.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

# albumentations asks the network for a newer version when it is imported, unless told not to.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

import albumentations as A
import numpy as np
from numpy.typing import NDArray

from rhm.alternatives import bytes_tables, jitter, mean_std
from rhm.bank import SAMPLING, HistogramBank
from rhm.errors import BankError, ConfigError
from rhm.histogram import Histogram, valid_pixels
from rhm.lookup import PixelMap

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


COLOUR = ("none", "rhm", "mean-std", "jitter", "gamma", "color-jitter", "hsv", "fda")
"""Colour augmentations by the name that a configuration gives."""

FROM_BANK = ("rhm", "mean-std")
"""Those that draw their targets from a bank."""

SOURCES_BANK = "sources"
"""In the place of a bank's path: a bank of the training images themselves."""

STATISTICS = ("chip", "scene")
"""Whose histogram is the source of a match: the training chip's, or its whole image's."""

_GAMMA = (0.5, 2.0)


@dataclass(frozen=True)
class AugmentConfig:
    """The colour augmentation of a run; flips and quarter turns are always drawn.

    Attributes:
        colour: one of ``COLOUR``. ``rhm``: randomized histogram matching. ``mean-std``: the
            mean and spread of a random target. ``jitter``: only what the three ranges below
            say. ``gamma``: exponents between 1/2 and 2. ``color-jitter``, ``hsv``: those of
            albumentations. ``fda``: Fourier domain adaptation (Yang, Soatto, CVPR 2020).
        bank: path of the target domain's histogram bank, for ``rhm`` and ``mean-std``; or
            ``sources``, for a bank of the training images themselves.
        targets: domains of the catalog whose images ``fda`` borrows its amplitudes from.
        p: probability of changing a chip's colours.
        blend: range of the blend between no match (0) and full match (1), for ``rhm``.
        per_band: whether ``rhm`` matches each band to its own.
        statistics: one of ``STATISTICS``.
        sampling: one of ``rhm.bank.SAMPLING``: how a bank's images are drawn.
        gamma: range of exponents by which brightness is varied after the match.
        gain: range of factors after that.
        offset: range of summands after that, in shares of the range from black to white.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    colour: str = "none"
    bank: str | None = None
    targets: tuple[str, ...] = ()
    p: float = 0.5
    blend: tuple[float, float] = (1.0, 1.0)
    per_band: bool = True
    statistics: str = "chip"
    sampling: str = "uniform"
    gamma: tuple[float, float] = (1.0, 1.0)
    gain: tuple[float, float] = (1.0, 1.0)
    offset: tuple[float, float] = (0.0, 0.0)

    def __post_init__(self) -> None:
        for name, choices in (
            ("colour", COLOUR),
            ("statistics", STATISTICS),
            ("sampling", SAMPLING),
        ):
            if getattr(self, name) not in choices:
                raise ValueError(
                    f"unknown {name} '{getattr(self, name)}': choose {', '.join(choices)}"
                )
        if self.bank and self.colour not in FROM_BANK:
            raise ValueError(f"a bank is for colour {' or '.join(FROM_BANK)}, not {self.colour}")
        if self.colour in FROM_BANK and not self.bank:
            raise ValueError(f"colour {self.colour} needs a bank: give augment.bank or --bank FILE")
        if self.colour == "fda" and not self.targets:
            raise ValueError("colour fda needs images of the target: give augment.targets")
        if not 0.0 <= self.p <= 1.0:
            raise ValueError("p is a probability in [0, 1]")
        if not 0.0 <= self.blend[0] <= self.blend[1] <= 1.0:
            raise ValueError("blend is a rising pair in [0, 1]")
        self._check_ranges()

    def _check_ranges(self) -> None:
        for name, lowest in (("gamma", 1e-3), ("gain", 0.0), ("offset", -1.0)):
            first, last = getattr(self, name)
            if not lowest <= first <= last < 1e3:
                raise ValueError(f"{name} is a rising pair from {lowest:g}")
        if self.colour == "none" and self.jitters:
            raise ValueError("colour none varies nothing: choose jitter for gamma, gain and offset")
        if self.colour == "jitter" and not self.jitters:
            raise ValueError("colour jitter needs a range: give augment.gamma, gain or offset")
        if self.colour == "gamma" and self.gamma != (1.0, 1.0):
            raise ValueError("colour gamma has its own range: choose jitter for another")

    @property
    def jitters(self) -> bool:
        """Whether any of gamma, gain and offset varies brightness."""
        return (self.gamma, self.gain, self.offset) != ((1.0, 1.0), (1.0, 1.0), (0.0, 0.0))


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
        self._mixing = _mixing_bands(config)
        if self._mixing is not None and len(self._low) != 3:
            raise ConfigError(
                f"augment.colour '{config.colour}' treats 3 bands, not {len(self._low)}: "
                "choose rhm, mean-std, jitter or none"
            )
        # albumentations mixes the bands of bytes.
        self._to_bytes, self._from_bytes = bytes_tables(dtype, low, high)

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
            self._mixing.set_random_seed(int(rng.integers(1 << 31)))
            borrowed = {} if reference is None else {_REFERENCES: [reference]}
            mixed = self._mixing(image=self._to_bytes.apply(image), **borrowed)["image"]
            image = np.where(known[..., None] > 0, self._from_bytes.apply(mixed), image)
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
