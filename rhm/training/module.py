"""One optimisation step: what Lightning drives."""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import lightning
import numpy as np
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torchmetrics.classification import BinaryJaccardIndex

from rhm.adapters import attachment_of, hold_batch_norm
from rhm.adapters import parameter_groups as adapter_groups
from rhm.data.chips import Chip
from rhm.data.labels import IGNORE
from rhm.errors import ConfigError
from rhm.models.build import SegmentationModel

SCHEDULES = ("one-cycle", "cosine", "constant")
"""Learning-rate schedules by the name a configuration gives."""


@dataclass(frozen=True)
class OptimizerConfig:
    """AdamW and its schedule.

    Attributes:
        learning_rate: the largest of the schedule.
        weight_decay: of the weights that multiply; biases and norms are not decayed.
        schedule: one of ``SCHEDULES``, stepped every optimiser step.
        clip_norm: largest norm of the gradient; 0 does not clip.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    learning_rate: float = 1e-3
    weight_decay: float = 1e-2
    schedule: str = "one-cycle"
    clip_norm: float = 1.0

    def __post_init__(self) -> None:
        if self.schedule not in SCHEDULES:
            raise ValueError(f"unknown schedule: choose {', '.join(SCHEDULES)}")
        if not 0 < self.learning_rate < 10:
            raise ValueError("learning_rate is a number between 0 and 10")
        if not (0 <= self.weight_decay < 10 and 0 <= self.clip_norm < math.inf):
            raise ValueError("weight_decay and clip_norm are finite and at least 0")


class SegmentationModule(lightning.LightningModule):
    """Trains a model; logs ``train_loss`` and, on validation chips, ``val_loss`` and ``val_iou``.

    The loss is that of the global batch: processes exchange logits first, because neither a
    Dice score nor a mean over known pixels is the mean of its parts.

    Args:
        model: to be trained in place.
        loss: of logits and targets, see ``rhm.training.losses``.
        optimizer: its settings.
        freeze_batch_norm: whether batch norms keep their statistics and parameters.
        seed: of what the network draws at random, as dropout does.
    """

    def __init__(
        self,
        model: SegmentationModel,
        loss: nn.Module,
        optimizer: OptimizerConfig,
        *,
        freeze_batch_norm: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.model = model
        self.loss = loss
        self.settings = optimizer
        self.freeze_batch_norm = freeze_batch_norm
        self.seed = seed
        self.val_iou = BinaryJaccardIndex(ignore_index=IGNORE)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits of normalised images."""
        logits: Tensor = self.model(images.contiguous(memory_format=torch.channels_last))
        return logits

    def on_train_epoch_start(self) -> None:
        """Freeze batch norms again: every epoch begins with all modules in training mode."""
        if attachment_of(self.model) is not None:
            hold_batch_norm(self.model)
        elif self.freeze_batch_norm:
            freeze_batch_norm(self.model)

    def on_train_batch_start(self, batch: Chip, batch_index: int) -> None:
        """Seed dropout by the batch, so that a resumed run draws what it would have drawn."""
        place = [self.seed, self.current_epoch, batch_index, self.global_rank]
        torch.manual_seed(int(np.random.SeedSequence(place).generate_state(1)[0]))

    def training_step(self, batch: Chip, batch_index: int) -> Tensor:
        """Return the loss of the global batch."""
        logits, target = self._gathered(self(batch["image"]), batch["mask"])
        loss: Tensor = self.loss(logits.float(), target)
        if not torch.isfinite(loss):
            raise ConfigError(
                f"training diverged at step {self.global_step} (the loss is {loss.item()}): "
                "lower optimizer.learning_rate, or use trainer.precision=32-true"
            )
        self.log("train_loss", loss.detach(), prog_bar=True, on_step=True, on_epoch=False)
        return loss

    def validation_step(self, batch: Chip, batch_index: int) -> None:
        """Score one batch of validation chips."""
        logits = self(batch["image"])
        loss = self.loss(logits.float(), batch["mask"])
        self.val_iou(logits.sigmoid(), batch["mask"])
        options: dict[str, Any] = {"on_step": False, "on_epoch": True, "prog_bar": True}
        self.log("val_loss", loss, batch_size=len(logits), sync_dist=True, **options)
        self.log("val_iou", self.val_iou, **options)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Return AdamW over groups of parameters, and the schedule over all steps of the run."""
        rate, decay = self.settings.learning_rate, self.settings.weight_decay
        if attachment_of(self.model) is not None:
            groups = adapter_groups(self.model, rate, weight_decay=decay)
        else:
            groups = parameter_groups(self.model, decay)
        optimizer = torch.optim.AdamW(groups, lr=rate)
        steps = int(self.trainer.estimated_stepping_batches)
        scheduler = _schedule(optimizer, self.settings, steps)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }

    def _gathered(self, logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        if self.trainer.world_size == 1:
            return logits, target
        shape = logits.shape[1:]
        everyone: Tensor = self.all_gather(logits, sync_grads=True)  # type: ignore[assignment]
        truth: Tensor = self.all_gather(target)  # type: ignore[assignment]
        return everyone.reshape(-1, *shape), truth.reshape(-1, *shape)


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Return the trainable parameters in two groups: weights to decay, and the rest."""
    trainable = [each for each in model.parameters() if each.requires_grad]
    return [
        {"params": [each for each in trainable if each.ndim > 1], "weight_decay": weight_decay},
        {"params": [each for each in trainable if each.ndim <= 1], "weight_decay": 0.0},
    ]


def freeze_batch_norm(model: nn.Module) -> None:
    """Let batch norms use their running statistics, and train none of their parameters."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()
            for parameter in module.parameters(recurse=False):
                parameter.requires_grad_(False)


def _schedule(
    optimizer: torch.optim.Optimizer, settings: OptimizerConfig, steps: int
) -> torch.optim.lr_scheduler.LRScheduler:
    if settings.schedule == "one-cycle":
        rates = [group["lr"] for group in optimizer.param_groups]
        return torch.optim.lr_scheduler.OneCycleLR(
            optimizer, rates, total_steps=steps + 1, pct_start=0.25
        )
    if settings.schedule == "cosine":
        return torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: 0.5 * (1.0 + math.cos(math.pi * min(step / steps, 1.0)))
        )
    return torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0)
