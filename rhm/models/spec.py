"""What a model is and what it was trained on: everything needed to use it correctly."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from rhm.colour.alternatives import STANDARDIZE, standardized
from rhm.colour.histogram import Histogram
from rhm.colour.lookup import PixelMap
from rhm.data.radiometry import Scaling, histogram_of
from rhm.data.rasters.raster import Raster
from rhm.errors import ModelFileError

FORMAT = 4
"""Version of the description; a reader refuses versions above its own."""


@dataclass(frozen=True)
class ModelSpec:
    """The description that travels inside a model file.

    Attributes:
        architecture: one of ``rhm.models.architectures.ARCHITECTURES``.
        encoder: timm's name of the backbone.
        bands: bands that an image must have.
        mean: subtracted from shares of the range, one or one per band.
        std: divided by after that, one or one per band.
        scalings: the range, black to white, by dtype, as measured when training began.
        classes: what each output channel means.
        head: one of ``rhm.models.heads.HEADS``.
        gsd_m: metres per pixel that the model was trained at, or None where unknown.
        threshold: probability above which a pixel is building, chosen on validation data.
        expected_iou: that the model's own probabilities promise on validation data, or None
            where there was none: see ``rhm.models.expectation``.
        standardize: one of ``rhm.colour.alternatives.STANDARDIZE``, applied to every scene first.
        method: name of the colour augmentation.
        sources: domains trained on.
        source_histograms: by domain, the share of each of 256 levels from black to white, per
            band.
        training_images: number of images trained on.
        split_hash: of the catalog's splits.
        seed: of the run.
        licence: of the imagery and labels trained on, in words; empty where nobody said.
        rhm_version: of the program that trained it.
    """

    architecture: str
    encoder: str
    bands: int
    mean: tuple[float, ...] = (0.5,)
    std: tuple[float, ...] = (0.5,)
    scalings: Mapping[str, Scaling] = field(default_factory=dict)
    classes: tuple[str, ...] = ("building",)
    head: str = "linear"
    gsd_m: float | None = None
    threshold: float = 0.5
    expected_iou: float | None = None
    standardize: str = "none"
    method: str = "none"
    sources: tuple[str, ...] = ()
    source_histograms: Mapping[str, list[list[float]]] = field(default_factory=dict)
    training_images: int = 0
    split_hash: str = ""
    seed: int = 0
    licence: str = ""
    rhm_version: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.bands, int) or self.bands < 1:
            raise ValueError("bands is a number from 1")
        for name in ("mean", "std"):
            values = getattr(self, name)
            if len(values) not in (1, self.bands) or not all(map(_is_finite, values)):
                raise ValueError(f"{name} is one number, or one per band")
        if self.standardize not in STANDARDIZE:
            raise ValueError(f"standardize is one of {', '.join(STANDARDIZE)}")
        if min(self.std) <= 0:
            raise ValueError("std is above 0")
        self._check_imagery()

    def _check_imagery(self) -> None:
        for dtype, scaling in self.scalings.items():
            if dtype != scaling.dtype or len(scaling.low) != self.bands:
                raise ValueError(f"the scaling of {dtype} is not one of {self.bands} bands")
        if not _is_finite(self.threshold) or not 0 <= self.threshold <= 1:
            raise ValueError("threshold is a probability")
        expected = self.expected_iou
        if expected is not None and not (_is_finite(expected) and 0 <= expected <= 1):
            raise ValueError("expected_iou is a share, or null")
        if self.gsd_m is not None and not (_is_finite(self.gsd_m) and self.gsd_m > 0):
            raise ValueError("gsd_m is a positive number, or null")
        for shares in self.source_histograms.values():
            if np.asarray(shares, dtype=np.float64).shape != (self.bands, 256):
                raise ValueError("source_histograms have 256 levels per band")
        names = (self.architecture, self.encoder, self.method, self.split_hash, self.licence)
        for text in (*names, self.rhm_version, *self.classes, *self.sources):
            if not isinstance(text, str):
                raise ValueError(f"{text!r} is not a name")

    def to_json(self) -> str:
        """Return the description as JSON text."""
        return json.dumps({"format": FORMAT, **asdict(self)}, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> "ModelSpec":
        """Read what ``to_json`` wrote.

        Raises:
            ModelFileError: the text is not a description of a version known here.
        """
        try:
            values = json.loads(text)
            version = int(values.pop("format"))
            if version > FORMAT:
                raise ValueError(f"written by a later version (format {version})")
            scalings = values.pop("scalings")
            for name in ("mean", "std", "classes", "sources"):
                values[name] = tuple(values[name])
            return cls(
                **values,
                scalings={dtype: Scaling.from_dict(each) for dtype, each in scalings.items()},
            )
        except (
            ArithmeticError,
            AttributeError,
            LookupError,
            RecursionError,
            TypeError,
            ValueError,
        ) as error:
            raise ModelFileError(f"not a model description: {error}") from error

    @property
    def needs_histogram(self) -> bool:
        """Whether an image's histogram decides its input: the model standardises scenes."""
        return STANDARDIZE[self.standardize] is not None

    def known_scaling(self, dtype: str) -> Scaling | None:
        """Return the range of imagery of a dtype, or None where each image's must be measured.

        What the model stores is applied as it is; other 8-bit imagery fills its type.
        """
        whole = Scaling.of_bytes(self.bands) if dtype == "uint8" else None
        return self.scalings.get(dtype, whole)

    def scaling_of(self, raster: Raster) -> Scaling:
        """Return the range, black to white, in which the model sees a raster.

        Where the model knows none of its dtype, the raster's own is measured: all that can be
        done, and worth saying.

        Raises:
            ModelFileError: the raster has another number of bands than the model takes.
            RasterError: the raster cannot be read.
        """
        self.check_bands(len(raster.info.bands), raster.info.path)
        known = self.known_scaling(raster.info.dtype)
        return known or Scaling.measure(histogram_of(raster))

    def input_table(self, imagery: str | Scaling, scene: Histogram | None = None) -> PixelMap:
        """Return the map from an image's stored values to the network's normalised input.

        Args:
            imagery: the image's range, black to white; or its dtype, where the model knows the
                range of that.
            scene: the image's histogram, where ``needs_histogram``.

        Raises:
            ValueError: the histogram is missing, or the model knows no range of the dtype.
        """
        scaling = self.known_scaling(imagery) if isinstance(imagery, str) else imagery
        if scaling is None:
            raise ValueError(f"the model stores no range of {imagery} imagery")
        table = _normalization(scaling, self.mean, self.std)
        if not self.needs_histogram:
            return table
        if scene is None:
            raise ValueError(f"standardisation '{self.standardize}' needs the scene's histogram")
        return standardized(self.standardize, scene, scaling.low, scaling.high).then(table)

    def table_of(self, raster: Raster) -> PixelMap:
        """Return the ``input_table`` of a raster, which is measured as far as that is needed.

        Raises:
            ModelFileError: the raster has another number of bands than the model takes.
            RasterError: the raster cannot be read.
        """
        scaling = self.scaling_of(raster)
        return self.input_table(scaling, histogram_of(raster) if self.needs_histogram else None)

    def check_bands(self, bands: int, image: str) -> None:
        """Check that an image has as many bands as the model wants.

        Raises:
            ModelFileError: it has another number.
        """
        if bands != self.bands:
            raise ModelFileError(
                f"{image} has {bands} bands, the model takes {self.bands}: choose them with --bands"
            )

    def source_distance(self, histogram: NDArray[np.float64]) -> tuple[str, NDArray[np.float64]]:
        """Return the nearest training domain and the 1-Wasserstein distance to it per band.

        Args:
            histogram: (bands, 256) shares of an image's levels from black to white.

        Returns:
            The domain's name, and (bands,) float64 in shares of the range.

        Raises:
            ModelFileError: the model does not know its training domains' histograms.
        """
        if not self.source_histograms:
            raise ModelFileError("the model does not record what its training imagery looked like")
        distances = {
            name: np.abs(np.cumsum(np.asarray(shares) - histogram, axis=1)).sum(axis=1) / 255.0
            for name, shares in self.source_histograms.items()
        }
        nearest = min(distances, key=lambda name: float(distances[name].mean()))
        return nearest, distances[nearest]


@lru_cache(maxsize=8)
def _normalization(scaling: Scaling, mean: tuple[float, ...], std: tuple[float, ...]) -> PixelMap:
    # Training asks for the same few once a chip.
    return scaling.table(mean, std)


def _is_finite(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
