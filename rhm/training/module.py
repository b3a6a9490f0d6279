"""The training and validation steps, as a Lightning module."""

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
from rhm.data.chips import Chip, TargetSample, UnlabelledChip
from rhm.data.labels import IGNORE
from rhm.errors import ConfigError
from rhm.models.build import SegmentationModel
from rhm.models.building_classes import building_logits, building_truth
from rhm.models.expected_iou import ExpectedIoU
from rhm.training.unlabelled.target_config import TargetConfig

SCHEDULES = ("one-cycle", "cosine", "constant")
"""Learning rate schedules, by the names that configurations use."""

_MOST_OVERFLOWS = 20
"""Steps in a row whose loss may overflow in float16: the scaler halves its scale after each."""


_POSITIONS = (
    *("relative_position_bias_table", "rel_pos.mlp", "cpb_mlp", "logit_scale"),
    *("pos_embed", "cls_token", "reg_token"),
)
"""Parts of the names of parameters that backbones of timm exempt from weight decay. A backbone that
returns features does not say it itself."""


@dataclass(frozen=True)
class OptimizerConfig:
    """Settings of AdamW and of the learning rate schedule.

    Attributes:
        learning_rate: highest learning rate of the schedule.
        weight_decay: weight decay; biases, the parameters of normalisation layers, and the
            embeddings of positions and the tokens of transformers have none.
        schedule: one of ``SCHEDULES``, updated after every optimiser step. ``one-cycle`` also
            lowers the first moment's decay from 0.95 to 0.85 while the rate rises, as in PyTorch.
        clip_norm: norm to which gradients are clipped; 0 turns clipping off.
        eps: number that AdamW adds to the root of the second moment; parameters whose gradients are
            much smaller learn more slowly.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    learning_rate: float = 1e-3
    weight_decay: float = 1e-2
    schedule: str = "one-cycle"
    clip_norm: float = 1.0
    eps: float = 1e-8

    def __post_init__(self) -> None:
        if self.schedule not in SCHEDULES:
            raise ValueError(f"unknown schedule: choose {', '.join(SCHEDULES)}")
        if not 0 < self.learning_rate < 10:
            raise ValueError("learning_rate must be between 0 and 10")
        if not (0 <= self.weight_decay < 10 and 0 <= self.clip_norm < math.inf):
            raise ValueError("weight_decay must be in [0, 10), clip_norm finite and at least 0")
        if not 0 < self.eps < 1:
            raise ValueError("eps must be above 0 and below 1")


class ValidationIoU(BinaryJaccardIndex):
    """The IoU of building; not a number if no pixel is known to be one, which says nothing."""

    def compute(self) -> Tensor:
        """Return the IoU over all pixels."""
        iou: Tensor = super().compute()
        return torch.where(self.confmat[1].sum() > 0, iou, torch.nan)


class SegmentationModule(lightning.LightningModule):
    """Trains a model; logs ``train_loss`` and, on validation chips, ``val_loss`` and ``val_iou``.

    The loss is computed on the global batch, from the logits of all processes. It cannot be
    averaged over processes, because neither a Dice score nor a mean over known pixels is the mean
    of its parts.

    Args:
        model: model to train, changed in place.
        loss: function of logits and targets, see ``rhm.training.losses``.
        optimizer: settings of the optimiser and its schedule.
        freeze_batch_norm: whether batch normalisation keeps its statistics and parameters.
        seed: seed of the network's own random numbers, such as those of dropout.
        target: settings of what is learned from unlabelled chips; by default, there are none.
    """

    def __init__(
        self,
        model: SegmentationModel,
        loss: nn.Module,
        optimizer: OptimizerConfig,
        *,
        freeze_batch_norm: bool = False,
        seed: int = 0,
        target: TargetConfig = TargetConfig(),  # noqa: B008 - it is frozen
    ) -> None:
        super().__init__()
        self.model = model
        self.loss = loss
        self.target = target
        self.method = target.build(model, loss)
        self.settings = optimizer
        self.freeze_batch_norm = freeze_batch_norm
        self.seed = seed
        self._overflows = 0
        self._steps = 0
        self._counted = ExpectedIoU(0.5)
        self.val_iou = ValidationIoU(ignore_index=IGNORE)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits of normalised images."""
        logits: Tensor = self.model(images.contiguous(memory_format=torch.channels_last))
        return logits

    def on_train_epoch_start(self) -> None:
        """Freeze batch normalisation again, because Lightning starts epochs in training mode."""
        self._steps = self.global_step
        if attachment_of(self.model) is not None:
            hold_batch_norm(self.model)
        elif self.freeze_batch_norm:
            freeze_batch_norm(self.model)

    def on_train_batch_start(self, batch: Chip | TargetSample, batch_index: int) -> None:
        """Seed dropout for each batch, so that a resumed run draws the same random numbers."""
        place = [self.seed, self.current_epoch, batch_index, self.global_rank]
        torch.manual_seed(int(np.random.SeedSequence(place).generate_state(1)[0]))

    def training_step(self, batch: Chip | TargetSample, batch_index: int) -> Tensor:
        """Return the loss on the global batch, with that of the unlabelled chips."""
        losses = self._losses(batch)
        loss = torch.stack([weight * value for weight, value in losses.values()]).sum()
        if torch.isfinite(loss):
            self._overflows = 0
        else:
            self._count_overflow(loss)
            return loss
        for name, (_, value) in losses.items():
            self.log(name, value.detach(), prog_bar=True, on_step=True, on_epoch=False)
        return loss

    def _losses(self, batch: Chip | TargetSample) -> dict[str, tuple[float, Tensor]]:
        """Return the losses of labelled and unlabelled chips by name, each with its weight."""
        if self.method is None or "target" not in batch:
            logits, target = self._gathered(self(batch["image"]), batch["mask"])
            return {"train_loss": (1.0, self.loss(logits.float(), target))}
        step = self.method.step(self.model, batch)
        steps = int(self.trainer.estimated_stepping_batches)
        losses = {"target_loss": (self.target.weight_at(self.global_step, steps), step.loss)}
        if step.logits is not None:
            losses["train_loss"] = (1.0, self.loss(step.logits, batch["mask"]))
        return losses

    def on_train_batch_end(
        self, outputs: Any, batch: Chip | TargetSample, batch_index: int
    ) -> None:
        """Let the method learn what is not learned by the gradient of its loss."""
        if self.method is not None:
            stepped = self.global_step > self._steps
            self.method.after_batch(self.model, stepped=stepped)
            self._steps = self.global_step

    def _count_overflow(self, loss: Tensor) -> None:
        # In float16 the gradient scaler skips a step that overflows, and lowers its scale.
        self._overflows += 1
        most = _MOST_OVERFLOWS if self.trainer.precision == "16-mixed" else 0
        if self._overflows > most:
            raise ConfigError(
                f"training diverged at step {self.global_step} (the loss is {loss.item()}): "
                "lower optimizer.learning_rate, or use trainer.precision=32-true"
            )

    def on_validation_epoch_start(self) -> None:
        """Begin to count the probabilities of unlabelled chips."""
        self._counted = ExpectedIoU(0.5)

    def validation_step(
        self, batch: Chip | UnlabelledChip, batch_index: int, dataloader_idx: int = 0
    ) -> None:
        """Log the scores of one batch of validation chips, or count one of unlabelled chips."""
        logits = self(batch["image"])
        if "mask" not in batch:
            probability = building_logits(logits.float()).sigmoid().cpu().numpy()
            self._counted.add(probability, batch["valid"].cpu().numpy())
            return
        loss = self.loss(logits.float(), batch["mask"])
        self.val_iou(building_logits(logits).sigmoid(), building_truth(batch["mask"]))
        options: dict[str, Any] = {
            "on_step": False,
            "on_epoch": True,
            "prog_bar": True,
            "add_dataloader_idx": False,
        }
        self.log("val_loss", loss, batch_size=len(logits), sync_dist=True, **options)
        self.log("val_iou", self.val_iou, **options)

    def on_validation_epoch_end(self) -> None:
        """Log the highest IoU that the model expects on the unlabelled chips, if there were any."""
        threshold = self._counted.best_threshold()
        if self._counted.pixels.any():
            expected = ExpectedIoU(0.5 if threshold is None else threshold)
            expected.pixels = self._counted.pixels
            self.log("target_expected_iou", expected.value or 0.0, prog_bar=True)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Return AdamW with its parameter groups, and a schedule over all steps of the run."""
        rate, decay = self.settings.learning_rate, self.settings.weight_decay
        if attachment_of(self.model) is not None:
            groups = adapter_groups(self.model, rate, weight_decay=decay)
        else:
            groups = parameter_groups(self.model, decay)
        optimizer = torch.optim.AdamW(groups, lr=rate, eps=self.settings.eps)
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
        all_logits: Tensor = self.all_gather(logits, sync_grads=True)  # type: ignore[assignment]
        all_targets: Tensor = self.all_gather(target)  # type: ignore[assignment]
        return all_logits.reshape(-1, *shape), all_targets.reshape(-1, *shape)


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Return the trainable parameters in two groups: those with weight decay, and the others.

    Vectors have none, nor the embeddings of positions and the tokens of transformers.
    """
    decayed: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            plain = parameter.ndim <= 1 or any(part in name for part in _POSITIONS)
            (others if plain else decayed).append(parameter)
    return [
        {"params": decayed, "weight_decay": weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]


def freeze_batch_norm(model: nn.Module) -> None:
    """Make batch normalisation use its running statistics, and do not train its parameters."""
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
        # A quarter of four steps rises in no step at all, and PyTorch divides by that.
        rise = 0.25 if steps != 3 else 0.5
        return torch.optim.lr_scheduler.OneCycleLR(
            optimizer, rates, total_steps=steps + 1, pct_start=rise
        )
    if settings.schedule == "cosine":
        return torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: 0.5 * (1.0 + math.cos(math.pi * min(step / steps, 1.0)))
        )
    return torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0)
