"""Statistics of a network's features during training."""

import logging
import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from typing import ClassVar

import lightning
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback
from torch.utils.data import DataLoader

from rhm.analysis.collapse import collapse
from rhm.analysis.feature_grid import draw_cells, labels_on_grid
from rhm.analysis.moments import ClassMoments
from rhm.analysis.separation import separation
from rhm.analysis.taps import Taps, stages
from rhm.data.chips import Chip
from rhm.data.labels import IGNORE
from rhm.errors import AnalysisError
from rhm.models.build import SegmentationModel
from rhm.models.heads import classified, classifier_rows, has_unit_features

_LOG = logging.getLogger(__name__)

_LAST = "decoder"
_CLASSIFIED = "as classified"
"""Name of the moments of the last features of unit length, as a cosine head takes them."""


@dataclass(frozen=True)
class AnalysisConfig:
    """Which features on validation chips are analysed during training, and how often.

    Attributes:
        every: number of validations from one record to the next; 0 records nothing.
        chips: number of validation chips, always the same ones.
        cells: largest number of cells for each class, stage and batch.
        purity: smallest share of a cell that its class must cover.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    every: int = 0
    chips: int = 32
    cells: int = 500
    purity: float = 0.9

    def __post_init__(self) -> None:
        if self.every < 0 or self.chips < 1 or self.cells < 1:
            raise ValueError("every must be at least 0, chips and cells at least 1")
        if not 0.5 < self.purity <= 1.0:
            raise ValueError("purity must be above 0.5 and at most 1")


class FeatureMonitor(Callback):
    """Logs ``compression/STAGE`` and ``discrimination/STAGE``, and ``nc1`` to ``nc3``.

    The classes are background and building, or those of the network. A stage without pure cells of
    all classes is not logged. Neural collapse is that of the last features as the classifier takes
    them: of unit length before a cosine head. Only the main process computes the statistics.

    Args:
        config: which features are analysed, and how often.
        seed: seed of the random choice of cells.
    """

    def __init__(self, config: AnalysisConfig, *, seed: int = 0) -> None:
        super().__init__()
        self._config = config
        self._seed = seed

    def on_validation_epoch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """Analyse the features, if it is the turn of this validation."""
        due = (trainer.current_epoch + 1) % self._config.every == 0
        if not (due and trainer.is_global_zero):
            return
        model = pl_module.get_submodule("model")
        if not isinstance(model, SegmentationModel):
            raise TypeError(f"expected a SegmentationModel, got {type(model).__name__}")
        loaders = trainer.val_dataloaders
        # The labelled chips come first, before those of an unlabelled target.
        loader: DataLoader[Chip] = loaders[0] if isinstance(loaders, list) else loaders  # type: ignore[assignment]
        batches = math.ceil(self._config.chips / (loader.batch_size or 1))
        try:
            values = self.values(model, islice(loader, batches), pl_module.device)
        except AnalysisError as error:
            # A failed analysis must not end the run; a later one may succeed.
            _LOG.warning("features were not recorded: %s", error)
            return
        pl_module.log_dict(values, on_step=False, on_epoch=True, rank_zero_only=True)

    def values(
        self, model: SegmentationModel, batches: Iterable[Chip], device: torch.device
    ) -> dict[str, float]:
        """Return the logged values of a model in ``eval`` mode, from batches of chips."""
        return _values(model, self._gather(model, batches, device))

    def _gather(
        self, model: SegmentationModel, batches: Iterable[Chip], device: torch.device
    ) -> dict[str, ClassMoments]:
        rng = np.random.default_rng(self._seed)
        classes = _number_of_classes(model)
        names = stages(model.network, bands=model.spec.bands)
        moments: dict[str, ClassMoments] = {}
        with torch.inference_mode(), Taps(model.network, names) as taps:
            for batch in batches:
                model(batch["image"].to(device))
                mask = batch["mask"][:, 0].to(device)
                for name, features in taps.features.items():
                    labels = labels_on_grid(
                        mask,
                        (features.shape[2], features.shape[3]),
                        classes,
                        purity=self._config.purity,
                        ignore_index=IGNORE,
                    )
                    cells = draw_cells(
                        features, labels, per_class=self._config.cells, rng=rng, ignore_index=IGNORE
                    )
                    found = {name: cells[0]}
                    if name == _LAST and has_unit_features(model.network):
                        found[_CLASSIFIED] = classified(model.network, cells[0])
                    for key, each in found.items():
                        if key not in moments:
                            moments[key] = ClassMoments(classes, features.shape[1])
                        moments[key].update(each, cells[1])
        return moments


def _number_of_classes(model: SegmentationModel) -> int:
    """Return the number of classes of a mask: a single output tells building from background."""
    return max(2, len(model.spec.classes))


def _values(model: SegmentationModel, moments: dict[str, ClassMoments]) -> dict[str, float]:
    values: dict[str, float] = {}
    for name, stage_moments in moments.items():
        if name == _CLASSIFIED:
            continue
        try:
            separated = separation(stage_moments, weighting="classes")
        except AnalysisError:
            continue  # this stage has no pure cells of one class
        values[f"compression/{name}"] = separated.compression
        values[f"discrimination/{name}"] = separated.discrimination
    rows = classifier_rows(model.network)
    if f"compression/{_LAST}" in values and len(rows) <= _number_of_classes(model):
        metrics = collapse(moments.get(_CLASSIFIED, moments[_LAST]), rows)
        named = {"nc1": metrics.nc1, "nc2": metrics.nc2, "nc3": metrics.nc3}
        named["self_duality"] = metrics.self_duality
        values |= {name: value for name, value in named.items() if value is not None}
    return values
