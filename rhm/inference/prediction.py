"""What a prediction has given: the files of a scene, and what is known of them."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from rhm.data.rasters.gdal_options import GDAL_ERRORS, open_dataset
from rhm.errors import OutputError
from rhm.inference.layers.qgis_styles import (
    footprint_style,
    mask_style,
    probability_style,
    write_style,
)
from rhm.inference.tiling.regrid import expectation_of, rows_of
from rhm.inference.tiling.storage import STORAGES, Storage
from rhm.models.expected_iou import ExpectedIoU
from rhm.notebook_display import Images, NotebookDisplay

_SHOWN_PX = 512


@dataclass(frozen=True)
class Prediction(NotebookDisplay):
    """The files of a predicted scene.

    Attributes:
        probability: cloud-optimised GeoTIFF of probabilities, nodata where the scene is nodata;
            of models with classes, further bands hold their other maps.
        mask: cloud-optimised GeoTIFF of 0 and 1, nodata 255.
        buildings: vector file of footprints with ``score`` and ``area_m2``.
        count: number of footprints.
        threshold: minimum probability of a building pixel.
        expectation: expected IoU by the model's own probabilities; None if the results already
            existed.
        warning: warning that the expected IoU is notably lower than on the validation chips, if
            it is.
        notes: facts about this scene that the user should know.
        scores: what the scores of the footprints are: one of ``score_calibration.SCORES``.
    """

    probability: Path
    mask: Path
    buildings: Path
    count: int
    threshold: float = 0.5
    expectation: ExpectedIoU | None = field(default=None, repr=False)
    warning: str | None = None
    notes: tuple[str, ...] = ()
    scores: str = "mean probability"

    def expectation_of_all(self) -> ExpectedIoU:
        """Return the expected IoU, counted from the probability raster if it is not known.

        Raises:
            RasterError: the raster is not there.
            OutputError: the raster cannot be read.
        """
        if self.expectation is not None:
            return self.expectation
        with open_dataset(self.probability) as raster:
            storage, maps = self._storage(raster.dtypes[0]), raster.count
        return expectation_of(rows_of(self.probability), storage, maps, self.threshold)

    @property
    def expected_iou(self) -> float | None:
        """Expected IoU at the threshold of the model; None without expected buildings."""
        return None if self.expectation is None else self.expectation.value

    def _storage(self, dtype: str) -> Storage:
        if dtype not in STORAGES:
            raise OutputError(f"{self.probability} holds {dtype}, not probabilities")
        return STORAGES[dtype]

    def write_styles(self) -> list[Path]:
        """Write a style for QGIS beside each of the files that has none of the user's.

        Returns:
            The paths of the styles.

        Raises:
            OutputError: a style cannot be written.
        """
        styles = {
            self.probability: probability_style(),
            self.mask: mask_style(),
            self.buildings: footprint_style(),
        }
        return list(filter(None, (write_style(file, style) for file, style in styles.items())))

    def _facts(self) -> dict[str, object]:
        expected = self.expected_iou
        return {
            "buildings": f"{self.count:,}",
            "threshold": f"{self.threshold:.3g}",
            "expected IoU": "unknown" if expected is None else f"{expected:.3f}",
            "scores": self.scores,
            "footprints": self.buildings,
            "probability": self.probability,
            "mask": self.mask,
            **({"warning": self.warning} if self.warning else {}),
            **({"notes": "; ".join(self.notes)} if self.notes else {}),
        }

    def _picture(self) -> Images:
        """Return the probabilities, from an overview; nodata is left out."""
        with open_dataset(self.probability) as raster:
            storage = self._storage(raster.dtypes[0])
            step = max(1.0, max(raster.shape) / _SHOWN_PX)
            size = tuple(max(1, round(side / step)) for side in raster.shape)
            try:
                stored = raster.read(1, out_shape=size)
            except GDAL_ERRORS as error:
                raise OutputError(f"{self.probability} cannot be read") from error
        shown = np.ma.masked_array(storage.decode(stored), stored == storage.nodata)
        return Images(shown, scale="probability of building")
