"""The training and validation chips of a run, as a Lightning data module."""

from functools import reduce
from typing import Any, TypeVar

import lightning
import numpy as np
import torch
from torch.utils.data import Dataset

from rhm.augmentation.chip_augmentation import ChipAugmentation
from rhm.augmentation.geometry import ChipGeometry
from rhm.colour.histogram import Histogram
from rhm.data.chip_loader import ChipLoader, SeededSampler
from rhm.data.chips import (
    Chip,
    GridChips,
    Preparation,
    References,
    TargetSample,
    TrainingChips,
    UnlabelledChip,
)
from rhm.data.radiometry import harmonize
from rhm.data.unlabelled_chips import PairedChips, UnlabelledChips, UnlabelledGrid
from rhm.errors import ConfigError
from rhm.models.spec import ModelSpec
from rhm.training.class_targets import ClassTargets
from rhm.training.config import RunConfig
from rhm.training.imagery import Material
from rhm.training.unlabelled.target_config import METHODS

_Sample = TypeVar("_Sample")


class ChipDataModule(lightning.LightningDataModule):
    """Random training chips, and validation chips that cover every validation image once.

    The same seed gives the same samples for any number of workers, and the same global batches
    for any number of processes.

    Args:
        config: configuration of the run.
        material: images and histogram bank.
        spec: description of the model that the chips are for.

    Raises:
        ConfigError: the augmentation does not support the imagery.
    """

    def __init__(self, config: RunConfig, material: Material, spec: ModelSpec) -> None:
        super().__init__()
        self.config = config
        self.material = material
        self.spec = spec
        self._at_once = config.trainer.chips_at_once
        self.preparation = Preparation(spec.input_table, config.data.gsd_m, material.scenes)
        self.targets = ClassTargets.of(spec.classes, config.data)
        self.augmentations = {
            dtype: self._augmentation(dtype)
            for dtype in {tile.dtype for tile in (*material.train, *material.unlabelled)}
        }

    def train_dataloader(self) -> ChipLoader[Chip] | ChipLoader[TargetSample]:
        """Return a loader of this process's share of the training chips."""
        data, settings = self.config.data, self.config.trainer
        sampler = SeededSampler(
            settings.epoch_steps * settings.batch_size,
            rank=self.trainer.global_rank if self.trainer else 0,
            world_size=settings.devices * settings.num_nodes,
        )
        return ChipLoader(
            self._samples(),
            batch_size=self._at_once,
            sampler=sampler,
            num_workers=data.workers,
            persistent_workers=data.workers > 0,
            pin_memory=torch.cuda.is_available(),
        )

    def first_batches(self, count: int) -> list[Chip]:
        """Return the first global batches of training chips, for any number of processes."""
        return self._first(self._training_chips(), count)

    def first_target_batches(self, count: int) -> list[TargetSample]:
        """Return the first batches of unlabelled chips, beside the labelled ones if there are."""
        return self._first(self._pairs(), count)

    def target_dataloader(self) -> ChipLoader[UnlabelledChip]:
        """Return a loader of unlabelled chips that cover every image of the target once."""
        data = self.config.data
        chips = UnlabelledGrid(
            self.material.unlabelled,
            size=data.chip_px,
            preparation=self.preparation,
            most=self.config.target.chips,
        )
        return ChipLoader(chips, batch_size=self._at_once, num_workers=min(data.workers, 1))

    def _first(self, chips: Dataset[_Sample], count: int) -> list[_Sample]:
        size = self.config.trainer.batch_size
        return list(ChipLoader(chips, batch_size=size, sampler=SeededSampler(count * size)))

    def _samples(self) -> Dataset[Any]:
        return self._training_chips() if self.config.target.method == "none" else self._pairs()

    def _pairs(self) -> PairedChips:
        labelled = self._training_chips() if self.material.train else None
        return PairedChips(labelled, self._unlabelled_chips())

    def val_dataloader(self) -> Any:
        """Return the loader of the labelled validation chips, or a list of it and the target's."""
        if self.config.trainer.select != "expected-iou":
            return self.labelled_dataloader()
        labelled = [self.labelled_dataloader()] if self.material.val else []
        return [*labelled, self.target_dataloader()]

    def labelled_dataloader(self) -> ChipLoader[Chip]:
        """Return a loader of the validation chips, empty if there are no validation images."""
        data = self.config.data
        chips = GridChips(
            self.material.val,
            size=data.chip_px,
            preparation=self.preparation,
            targets=self.targets,
        )
        return ChipLoader(chips, batch_size=self._at_once, num_workers=min(data.workers, 1))

    def _training_chips(self) -> TrainingChips:
        data = self.config.data
        return TrainingChips(
            self.material.train,
            size=data.chip_px,
            preparation=self.preparation,
            augmentations=self.augmentations,
            balance=data.balance,
            balance_domains=data.balance_domains,
            targets=self.targets,
            seed=self.config.seed,
            references=self._references(),
            geometry=ChipGeometry(self.config.augment.geometry),
        )

    def _unlabelled_chips(self) -> UnlabelledChips:
        strong = METHODS[self.config.target.method].strong
        return UnlabelledChips(
            self.material.unlabelled,
            size=self.config.data.chip_px,
            preparation=self.preparation,
            geometry=ChipGeometry(self.config.augment.unmixed_geometry),
            seed=self.config.seed,
            recolour={
                dtype: augmentation.recolour for dtype, augmentation in self.augmentations.items()
            }
            if strong
            else None,
            references=self._references() if strong else None,
        )

    def _augmentation(self, dtype: str) -> ChipAugmentation:
        config, scaling = self.config.augment, self.spec.scalings[dtype]
        bank = self.material.bank
        if bank is not None:
            bank = harmonize(bank, dtype, self.spec.scalings)
        if bank is not None and config.sampling != "uniform":
            pooled = [h for (_, kind), h in self.material.histograms.items() if kind == dtype]
            if not pooled and config.sampling == "distance":
                raise ConfigError(
                    f"augment.sampling {config.sampling} compares the bank with labelled {dtype} "
                    "imagery, and there is none: choose uniform"
                )
            reference = reduce(Histogram.merge, pooled) if pooled else None
            bank = bank.weighted(config.sampling, reference)
        return ChipAugmentation(
            config,
            dtype=np.dtype(dtype),
            low=scaling.low,
            high=scaling.high,
            bank=bank,
            gsd_m=self.spec.gsd_m,
        )

    def _references(self) -> References | None:
        if not self.material.references:
            return None
        data = self.config.data
        dtypes = {tile.dtype for tile in self.material.references}
        return References(
            self.material.references,
            size=data.chip_px,
            gsd_m=data.gsd_m,
            to_bytes={dtype: self.material.range_of(dtype).bytes_table() for dtype in dtypes},
        )
