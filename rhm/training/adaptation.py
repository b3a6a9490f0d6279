"""Adaptation of a finished model to another place: few labelled images, few trained parameters.

The section ``adapter`` of a configuration names the model and the method. Everything else is the
same as in a run that trains a new model.
"""

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import ClassVar

import pandas
import torch
from torch import Tensor, nn

from rhm.adapters import Attachment, DeepLoRA, LoRA, attach, attachment_of
from rhm.adapters.attach import BATCH_NORM
from rhm.adapters.gradient import LossOf
from rhm.adapters.lowrank import Adapter
from rhm.adapters.targets import matches
from rhm.data.chips import Chip
from rhm.errors import ConfigError
from rhm.models.build import SegmentationModel

_HEAD = ("*segmentation_head",)

METHODS: dict[str, tuple[str, ...]] = {
    "deep-lora": _HEAD,
    "lora": _HEAD,
    "head": _HEAD,
    "bitfit": ("*.bias", *_HEAD),
    "batch-norm": (),
    "full": ("*",),
}
"""Adaptation methods, with globs of the modules and parameters that each trains in full."""

LEARNING_RATES = {
    "deep-lora": 1e-2,
    "lora": 1e-3,
    "head": 1e-1,
    "bitfit": 1e-2,
    "batch-norm": 1e-3,
    "full": 1e-3,
}
"""Default learning rate of ``rhm adapt`` for each method."""

_MOST_BATCHES = 1000  # of chips that are in memory at the same time


@dataclass(frozen=True)
class AdapterConfig:
    """The model to adapt, and which of its parameters are trained.

    Attributes:
        base: model file or folder of a run; null trains a new model.
        method: one of ``METHODS``. ``deep-lora`` and ``lora`` train low-rank updates and the
            head, ``head`` trains the head, ``bitfit`` the biases and the head, ``batch-norm``
            scale and offset of batch normalisation, and ``full`` everything.
        rank: rank of the updates.
        alpha: setting of LoRA: scale of the updates times the rank; null is the rank.
        depth: setting of Deep LoRA: number of inner factors.
        init_scale: setting of Deep LoRA: scale of the inner factors at the start.
        outer_lr_ratio: setting of Deep LoRA: learning rate of the outer factors divided by that
            of the inner factors; 0 freezes the outer factors.
        targets: layers that get an update: a preset (``all``, ``encoder``, ``attention``,
            ``pointwise``), a glob of layer names, or several globs.
        trained: globs of the modules and parameters that are trained in full; null uses the
            globs of the method. A glob can also match the scale and offset of batch
            normalisation. A cosine head keeps its temperature.
        batch_norm: ``frozen`` keeps the statistics of batch normalisation, ``statistics``
            updates them with the new imagery, and ``affine`` also trains scale and offset,
            whether or not a glob matches them.
        gradient_batches: setting of Deep LoRA: number of batches whose mean gradient
            determines the outer factors; 0 draws the outer factors at random.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    base: str | None = None
    method: str = "deep-lora"
    rank: int = 8
    alpha: float | None = LoRA.alpha
    depth: int = 3
    init_scale: float = 1e-3
    outer_lr_ratio: float = 1e-2
    targets: str | tuple[str, ...] = "all"
    trained: tuple[str, ...] | None = None
    batch_norm: str = "frozen"
    gradient_batches: int = 1

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ValueError(f"unknown method: choose {', '.join(METHODS)}")
        if self.batch_norm not in BATCH_NORM:
            raise ValueError(f"unknown batch_norm: choose {', '.join(BATCH_NORM)}")
        if self.method == "batch-norm" and self.batch_norm == "frozen":
            object.__setattr__(self, "batch_norm", "affine")
        if self.alpha not in (None, LoRA.alpha) and self.method != "lora":
            raise ValueError("alpha is a setting of the method lora: leave it out")
        if not 0 <= self.gradient_batches <= _MOST_BATCHES:
            raise ValueError(f"gradient_batches must be from 0 to {_MOST_BATCHES}")
        try:
            self.update()
        except ConfigError as error:
            raise ValueError(str(error)) from error

    def update(self) -> Adapter | None:
        """Return the kind of low-rank update, or None if the method uses none."""
        if self.method == "lora":
            return LoRA(self.rank, self.alpha)
        if self.method == "deep-lora":
            return DeepLoRA(self.rank, self.depth, self.init_scale, self.outer_lr_ratio)
        return None


def adapt_network(
    model: SegmentationModel,
    config: AdapterConfig,
    loss: nn.Module,
    batches: Callable[[int], Iterable[Chip]],
    *,
    seed: int,
    losses_of: Callable[[int], list[LossOf]] | None = None,
    keep_head: bool = False,
) -> Attachment:
    """Attach the low-rank updates of a method to a model, and freeze what it does not train.

    Args:
        model: base model, changed in place.
        config: adaptation method and its settings.
        loss: function of logits and targets; its gradient determines Deep LoRA's outer factors.
        batches: function that returns the given number of batches of training chips.
        seed: seed of factors that are drawn at random.
        losses_of: function that returns the losses of the given number of batches, in place of
            ``loss`` and ``batches``, for training without labels.
        keep_head: whether the segmentation head stays as it is, whatever the method trains.

    Raises:
        ConfigError: no layer matches the targets, the rank is higher than a named layer allows,
            a gradient is not finite, or a glob matches nothing.
    """
    update = config.update()
    losses: list[LossOf] = []
    if isinstance(update, DeepLoRA) and losses_of is not None:
        losses = losses_of(config.gradient_batches)
    elif isinstance(update, DeepLoRA):
        losses = [_BatchLoss(loss, chip) for chip in batches(config.gradient_batches)]
    trained = METHODS[config.method] if config.trained is None else config.trained
    return attach(
        model,
        update,
        config.targets,
        losses or None,
        batch_norm=config.batch_norm,
        trained=_sparing_head(model, trained) if keep_head else trained,
        but=_HEAD if keep_head else (),
        seed=seed,
    )


def _sparing_head(model: nn.Module, globs: Iterable[str]) -> list[str]:
    """Return globs that match the same parameters but for those of the head."""
    found = []
    for glob in globs:
        names = [name for name, _ in model.named_parameters() if matches(name, [glob])]
        others = [name for name in names if not matches(name, _HEAD)]
        found += [glob] if len(others) == len(names) else others
    return found


def trained_table(model: nn.Module) -> pandas.DataFrame:
    """Return a table of what an adaptation trains.

    Returns:
        One row for each layer with an update and one for each parameter that is trained in full,
        with the columns ``name``, ``kind``, ``shape``, ``rank`` (missing for parameters that are
        trained in full) and ``parameters`` (number of trained parameters).
    """
    attachment = attachment_of(model)
    layers = [] if attachment is None else attachment.layers
    rows = [asdict(layer) for layer in layers]
    rows += [
        {
            "name": name,
            "kind": "in full",
            "shape": tuple(tensor.shape),
            "parameters": tensor.numel(),
        }
        for name, tensor in model.named_parameters()
        if tensor.requires_grad and ".parametrizations." not in name
    ]
    table = pandas.DataFrame(rows, columns=["name", "kind", "shape", "rank", "parameters"])
    table["shape"] = ["x".join(map(str, shape)) for shape in table["shape"]]
    return table.astype({"rank": "Int64"})


@dataclass(frozen=True)
class _BatchLoss:
    """The loss on one batch, as a function of the network."""

    loss: nn.Module
    chip: Chip

    def __call__(self, model: nn.Module) -> Tensor:
        image = self.chip["image"].contiguous(memory_format=torch.channels_last)
        value: Tensor = self.loss(model(image).float(), self.chip["mask"])
        return value
