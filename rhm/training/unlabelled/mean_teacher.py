"""Mean teacher: an average of past networks labels the target, and the network learns from it."""

import copy
from typing import ClassVar

import torch
from torch import Tensor, nn

from rhm.data.chips import TargetSample
from rhm.models.build import SegmentationModel
from rhm.models.building_classes import building_logits, building_truth
from rhm.training.unlabelled.calibrated_cut import CalibratedCut
from rhm.training.unlabelled.pasting import chosen_pixels
from rhm.training.unlabelled.target_method import (
    OWN,
    RUNNING,
    TargetMethod,
    TargetStep,
    batch_norms,
    own_statistics,
    run,
    run_both,
)


class MeanTeacher(TargetMethod):
    """Self-training with a moving average of the network as teacher.

    The teacher sees each unlabelled chip as it is, the student the same chip in the colours of the
    configured augmentation, with buildings of a labelled chip pasted in. The student learns the
    labels that a calibrated cut makes of the teacher's probabilities; uncertain pixels are left
    out. Tarvainen, Valpola, "Mean teachers are better role models", NeurIPS 2017; Tranheden,
    Olsson, Pinto, Svensson, "DACS: Domain adaptation via cross-domain mixed sampling", WACV 2021.

    Args:
        model: network to train, of which the teacher begins as a copy.
        loss: function of logits and labels, see ``rhm.training.losses``.
        decay: weight of the teacher in its average with the student after each step, in [0, 1).
        certainty: setting of ``CalibratedCut``.
        paste: one of ``rhm.training.unlabelled.pasting.PASTES``.
        margin_px: width of the surroundings that are pasted with a building, in pixels.
        statistics: one of ``target_method.STATISTICS``, for the student.
        teacher_statistics: ``OWN`` normalises the chips that the teacher sees by the statistics of
            their batch; ``RUNNING`` by its running ones, as it always does if batch normalisation
            is frozen or there are no labelled chips.
    """

    strong: ClassVar[bool] = True
    steps: Tensor

    def __init__(
        self,
        model: SegmentationModel,
        loss: nn.Module,
        *,
        decay: float,
        certainty: float,
        paste: str,
        margin_px: int,
        statistics: str = RUNNING,
        teacher_statistics: str = OWN,
    ) -> None:
        super().__init__()
        # Lightning leaves every module in the mode that it finds it in.
        self.teacher = copy.deepcopy(model).requires_grad_(False).eval()
        self.cut = CalibratedCut(certainty)
        self._loss = loss
        self._decay = decay
        self._paste = paste
        self._margin_px = margin_px
        self._statistics = statistics
        self._teacher_statistics = teacher_statistics
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def train(self, mode: bool = True) -> "MeanTeacher":
        """Set the mode of the method; dropout of its teacher is always off."""
        super().train(mode)
        self.teacher.eval()
        return self

    def step(self, model: SegmentationModel, batch: TargetSample) -> TargetStep:
        """Return the logits of the labelled chips and the loss against the teacher's labels."""
        target = batch["target"]
        learning = "image" in batch and any(layer.training for layer in batch_norms(model))
        own = learning and self._teacher_statistics == OWN
        labels = self.cut(self.teach(target["image"], own=own), target["valid"])
        image, labels = self._mixed(batch, labels)
        labelled, unlabelled = run_both(model, batch.get("image"), image, self._statistics)
        return TargetStep(labelled, self._loss(unlabelled, labels))

    @torch.no_grad()
    def teach(self, images: Tensor, *, own: bool) -> Tensor:
        """Return the teacher's probabilities (N, 1, H, W) float32 for images.

        Args:
            images: (N, bands, H, W) normalised images.
            own: whether batch normalisation uses the statistics of this batch.
        """
        with own_statistics(batch_norms(self.teacher) if own else ()):
            return building_logits(run(self.teacher, images)).sigmoid()

    def _mixed(self, batch: TargetSample, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return the student's view of the unlabelled chips, with its labels."""
        target = batch["target"]
        if "image" not in batch or "mask" not in batch:
            return target["strong"], labels
        truth = building_truth(batch["mask"])
        # Labelled chips must see the random numbers that they would see without this method.
        with torch.random.fork_rng(devices=()):
            pasted = chosen_pixels(truth, self._paste, self._margin_px) & target["valid"]
        return (
            torch.where(pasted, batch["image"], target["strong"]),
            torch.where(pasted, truth, labels),
        )

    @torch.no_grad()
    def after_batch(self, model: SegmentationModel, *, stepped: bool) -> None:
        """Move the teacher towards the student, after each optimiser step.

        The weight of the teacher is ``decay``, but in step n no more than ``1 - 1 / n``, so that it
        does not remember the start for long.
        """
        if not stepped:
            return
        self.steps += 1
        decay = min(self._decay, 1.0 - 1.0 / int(self.steps))
        student = model.state_dict()
        for name, value in self.teacher.state_dict().items():
            if value.is_floating_point():
                value.lerp_(student[name].to(value), 1.0 - decay)
            else:
                value.copy_(student[name])
