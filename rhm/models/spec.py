"""The description of a model and of its training: everything needed to use it correctly."""

import json
import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from rhm.colour.baselines import STANDARDIZE, standardized
from rhm.colour.histogram import Histogram, share_distance
from rhm.colour.lookup import PixelMap
from rhm.data.radiometry import Scaling, histogram_of
from rhm.data.rasters.raster import Raster
from rhm.documents import parse_json
from rhm.errors import ModelFileError, one_line
from rhm.models.building_classes import SEPARATIONS
from rhm.models.named_models import model_file
from rhm.models.score_calibration import ScoreCalibration

KEY = "rhm"
"""Name of the description among the texts in the header."""

FORMAT = 5
"""Format number of the description; readers refuse higher numbers than their own."""

_PLAIN = 4
"""Format of descriptions that earlier versions read: of models with the single class building, and
without a calibration of scores."""

MOST_BANDS = 1024
"""Most bands of imagery; imaging spectrometers have a few hundred."""

MOST_CLASSES = 256
"""Most classes of a model."""

LONGEST_NAME = 1000
"""Most characters of the name of a network, domain or class."""

LARGEST = 1e6
"""Largest stored value of imagery, and of what normalises it."""


@dataclass(frozen=True)
class ModelSpec:
    """The description that is stored in a model file.

    Attributes:
        architecture: one of ``rhm.models.architectures.ARCHITECTURES``.
        encoder: name of the backbone in timm.
        bands: number of bands that an image must have.
        mean: what is subtracted from the input, which is scaled to [0, 1] from black to white; one
            number, or one per band.
        std: what the result is divided by; one number, or one per band.
        scalings: value range from black to white for each dtype, as measured before training.
        classes: name of the class of each output channel, see ``rhm.models.building_classes``.
        head: one of ``rhm.models.heads.HEADS``.
        gsd_m: ground sampling distance of the training chips in metres per pixel, or None if
            unknown.
        threshold: probability from which a pixel counts as building, set in the configuration or
            chosen on the validation chips.
        expected_iou: IoU that the model's probabilities imply for the validation chips, or None
            without validation chips; see ``rhm.models.expected_iou``.
        score_calibration: from the mean probabilities of footprints to precisions, or None if it
            was not measured: the score of a footprint is then its mean probability.
        standardize: one of ``rhm.colour.baselines.STANDARDIZE``, applied to every scene first.
        method: names of the standardisation and augmentations, and of the adaptation, under which
            reports compare the model with others.
        sources: names of the training domains.
        source_histograms: by training domain and band, the share of pixels at each of 256 levels
            from black to white.
        training_images: number of training images.
        split_hash: hash of the catalog's splits.
        source_splits: by training domain, the hash of its splits.
        seed: seed of the run.
        licence: licence of the training imagery and labels, in words; empty if unknown.
        rhm_version: version of rhm that trained the model.
    """

    architecture: str
    encoder: str
    bands: int
    mean: tuple[float, ...] = (0.5,)
    std: tuple[float, ...] = (0.5,)
    scalings: Mapping[str, Scaling] = field(default_factory=dict)
    classes: tuple[str, ...] = SEPARATIONS["none"]
    head: str = "linear"
    gsd_m: float | None = None
    threshold: float = 0.5
    expected_iou: float | None = None
    # Not part of the text by which predictions of earlier versions are recognised.
    score_calibration: ScoreCalibration | None = field(default=None, repr=False)
    standardize: str = "none"
    method: str = "none"
    sources: tuple[str, ...] = ()
    source_histograms: Mapping[str, list[list[float]]] = field(default_factory=dict)
    training_images: int = 0
    split_hash: str = ""
    source_splits: Mapping[str, str] = field(default_factory=dict, repr=False)
    seed: int = 0
    licence: str = ""
    rhm_version: str = ""

    def __post_init__(self) -> None:
        if not _is_whole(self.bands) or not 1 <= self.bands <= MOST_BANDS:
            raise ValueError(f"bands must be an integer between 1 and {MOST_BANDS}")
        for name in ("mean", "std"):
            values = getattr(self, name)
            if len(values) not in (1, self.bands) or not all(map(_is_moderate, values)):
                raise ValueError(f"{name} must be one number, or one per band")
        if min(self.std) < 1 / LARGEST:
            raise ValueError("std must be above 0")
        self._check_names()
        self._check_imagery()
        for name in ("training_images", "seed"):
            value = getattr(self, name)
            if not _is_whole(value) or not 0 <= value < 1 << 63:
                raise ValueError(f"{name} must be an integer of at least 0")

    def _check_names(self) -> None:
        if not 1 <= len(self.classes) <= MOST_CLASSES:
            raise ValueError(f"classes must be between 1 and {MOST_CLASSES} names")
        if self.standardize not in STANDARDIZE:
            raise ValueError(f"standardize must be one of {', '.join(STANDARDIZE)}")
        names = (self.architecture, self.encoder, self.head, self.method, self.split_hash)
        splits = (*self.source_splits, *self.source_splits.values())
        texts = (*names, self.rhm_version, *self.classes, *self.sources, *splits)
        texts = (*texts, *self.source_histograms)
        for text in (*texts, self.licence):
            if not isinstance(text, str):
                raise ValueError(f"{text!r} must be a text")
        if any(len(text) > LONGEST_NAME for text in texts):
            raise ValueError(f"a name has more than {LONGEST_NAME} characters")

    def _check_imagery(self) -> None:
        for dtype, scaling in self.scalings.items():
            if dtype != scaling.dtype or len(scaling.low) != self.bands:
                raise ValueError(
                    f"the scaling of {dtype} must have that dtype and {self.bands} bands"
                )
            if not all(map(_is_moderate, (*scaling.low, *scaling.high))):
                raise ValueError(f"the scaling of {dtype} must be from -{LARGEST:g} to {LARGEST:g}")
        if not _is_finite(self.threshold) or not 0 <= self.threshold <= 1:
            raise ValueError("threshold must be in [0, 1]")
        expected = self.expected_iou
        if expected is not None and not (_is_finite(expected) and 0 <= expected <= 1):
            raise ValueError("expected_iou must be in [0, 1], or null")
        if self.gsd_m is not None and not (_is_finite(self.gsd_m) and 1e-3 <= self.gsd_m <= 1e5):
            raise ValueError("gsd_m must be a positive number of plausible size, or null")
        for shares in self.source_histograms.values():
            levels = np.asarray(shares, dtype=np.float64)
            if levels.shape != (self.bands, 256):
                raise ValueError("source_histograms must have 256 levels per band")
            if not (np.isfinite(levels) & (levels >= 0.0) & (levels <= LARGEST)).all():
                raise ValueError("source_histograms must be shares of pixels")

    def to_json(self) -> str:
        """Return the description as JSON text."""
        values = asdict(self)
        if self.score_calibration is None:
            del values["score_calibration"]
        plain = self.score_calibration is None and self.classes == SEPARATIONS["none"]
        return json.dumps({"format": _PLAIN if plain else FORMAT, **values}, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> "ModelSpec":
        """Read a description from the JSON text of ``to_json``.

        Raises:
            ModelFileError: the text is not a description, or has a higher format number.
        """
        try:
            values = parse_json(text, constant=float)
            version = values.pop("format")
            if not _is_whole(version) or version > FORMAT:
                raise ValueError(f"written by a later version of rhm (format {version})")
            scalings = values.pop("scalings")
            for name in ("mean", "std", "classes", "sources"):
                values[name] = tuple(values[name])
            counted = values.pop("score_calibration", None)
            return cls(
                **values,
                score_calibration=_calibration(counted),
                scalings={dtype: Scaling.from_dict(each) for dtype, each in scalings.items()},
            )
        except (
            ArithmeticError,
            AttributeError,
            LookupError,
            TypeError,
            ValueError,
        ) as error:
            raise ModelFileError(f"not a model description: {one_line(error)}") from error

    @property
    def needs_histogram(self) -> bool:
        """Whether the input of an image depends on its histogram: the model standardises scenes."""
        return STANDARDIZE[self.standardize] is not None

    def known_scaling(self, dtype: str) -> Scaling | None:
        """Return the value range of imagery of a dtype, or None if it must be measured.

        The range that the model stores is used unchanged. Other 8-bit imagery fills its type.
        """
        whole = Scaling.of_bytes(self.bands) if dtype == "uint8" else None
        return self.scalings.get(dtype, whole)

    def scaling_of(self, raster: Raster) -> Scaling:
        """Return the value range, from black to white, in which the model sees a raster.

        If the model knows no range for its dtype, the raster's own range is measured: nothing
        better can be done, but the user should know.

        Raises:
            ModelFileError: the number of bands is not that of the model.
            RasterError: the raster cannot be read.
        """
        self.check_bands(len(raster.info.bands), raster.info.path)
        known = self.known_scaling(raster.info.dtype)
        return known or Scaling.measure(histogram_of(raster))

    def input_table(self, imagery: str | Scaling, scene: Histogram | None = None) -> PixelMap:
        """Return the map from an image's stored values to the network's normalised input.

        Args:
            imagery: value range of the image, from black to white; or its dtype, if the model
                knows a range for it.
            scene: histogram of the image; required if ``needs_histogram``.

        Raises:
            ValueError: the histogram is missing, or the model knows no range for the dtype.
        """
        scaling = self.known_scaling(imagery) if isinstance(imagery, str) else imagery
        if scaling is None:
            raise ValueError(f"the model stores no value range for {imagery} imagery")
        table = _normalization(scaling, self.mean, self.std)
        if not self.needs_histogram:
            return table
        if scene is None:
            raise ValueError(f"standardisation '{self.standardize}' needs the scene's histogram")
        return standardized(self.standardize, scene, scaling.low, scaling.high).then(table)

    def table_of(self, raster: Raster) -> PixelMap:
        """Return the ``input_table`` of a raster, and measure the raster as far as necessary.

        Raises:
            ModelFileError: the number of bands is not that of the model.
            RasterError: the raster cannot be read.
        """
        scaling = self.scaling_of(raster)
        return self.input_table(scaling, histogram_of(raster) if self.needs_histogram else None)

    def check_bands(self, bands: int, image: str) -> None:
        """Check that an image has as many bands as the model takes.

        Args:
            bands: number of bands of the image.
            image: name of the image, for the message.

        Raises:
            ModelFileError: the numbers differ.
        """
        if bands != self.bands:
            raise ModelFileError(
                f"the model takes {self.bands} bands, and {bands} of {image} are read: choose them "
                "with --bands"
            )

    def source_distance(self, histogram: NDArray[np.float64]) -> tuple[str, NDArray[np.float64]]:
        """Return the nearest training domain and its 1-Wasserstein distance in each band.

        Args:
            histogram: (bands, 256) share of an image's pixels at each level from black to white.

        Returns:
            The name of the domain, and the distances, (bands,) float64, as shares of the range.

        Raises:
            ModelFileError: the model does not store the histograms of its training domains.
        """
        if not self.source_histograms:
            raise ModelFileError(
                "the model does not record the histograms of its training imagery: train it again"
            )
        distances = {
            name: share_distance(shares, histogram, with_rest=True)
            for name, shares in self.source_histograms.items()
        }
        nearest = min(distances, key=lambda name: float(distances[name].mean()))
        return nearest, distances[nearest]


@lru_cache(maxsize=8)
def _normalization(scaling: Scaling, mean: tuple[float, ...], std: tuple[float, ...]) -> PixelMap:
    # Training needs the same few tables for every chip.
    return scaling.table(mean, std)


def _calibration(values: Any) -> ScoreCalibration | None:
    if values is None:
        return None
    return ScoreCalibration(**{name: tuple(column) for name, column in values.items()})


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_moderate(value: object) -> bool:
    return _is_finite(value) and -LARGEST <= value <= LARGEST  # type: ignore[operator]


def _is_finite(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def load_spec(path: str | os.PathLike[str]) -> ModelSpec:
    """Read only the description in a model file.

    Args:
        path: model file, folder of a run that contains ``model.safetensors``, or name of a model.

    Raises:
        ModelFileError: the file is missing, damaged, not a model file, or of an unknown version.
    """
    file = model_file(path)
    try:
        with safe_open(file, framework="numpy") as archive:
            texts: Mapping[str, str] = archive.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise not_a_model(file, error) from error
    return spec_in(texts, file)


def spec_in(texts: Mapping[str, str], file: Path) -> ModelSpec:
    """Return the description among the texts in the header of a model file.

    Raises:
        ModelFileError: there is none, it cannot be read, or the model has classes other than those
            of buildings.
    """
    if KEY not in texts:
        raise ModelFileError(f"{file} has tensors but no description: it was not written by rhm")
    try:
        spec = ModelSpec.from_json(texts[KEY])
    except ModelFileError as error:
        raise ModelFileError(f"{file}: {error}") from error
    check_classes(spec, file)
    return spec


def check_classes(spec: ModelSpec, file: Path) -> None:
    """Check that several classes of a model are those of buildings.

    A single output is the probability of what the model was trained on, whatever its name.

    Args:
        spec: description of the model.
        file: file of the model, for the message.

    Raises:
        ModelFileError: they are others.
    """
    if len(spec.classes) > 1 and spec.classes not in SEPARATIONS.values():
        known = " or ".join(", ".join(each) for each in SEPARATIONS.values() if len(each) > 1)
        raise ModelFileError(
            f"{file} has the classes {', '.join(spec.classes)}: several classes must be {known}"
        )


def not_a_model(file: Path, error: Exception) -> ModelFileError:
    """Return the error for a file that cannot be read as a model."""
    return ModelFileError(f"{file} is not a model file: {one_line(error)}")
