"""A finished model as the start of another: few labelled images of another place, few parameters.

The section ``adapter`` of a configuration names the model and the method; the rest of the run is
a run as any other.
"""

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import ClassVar

import pandas
import torch
from torch import Tensor, nn

from rhm.adapters import Attachment, DeepLoRA, LoRA, attach, attachment_of
from rhm.adapters.attach import BATCH_NORM
from rhm.adapters.lowrank import Adapter
from rhm.data.chips import Chip
from rhm.errors import ConfigError
from rhm.models.build import SegmentationModel

_HEAD = ("*segmentation_head",)

METHODS: dict[str, tuple[str, ...]] = {
    "deep-lora": _HEAD,
    "lora": _HEAD,
    "head": _HEAD,
    "bitfit": ("*.bias", *_HEAD),
    "full": ("*",),
}
"""Ways to adapt a model, each with the globs of what it trains in full."""

LEARNING_RATES = {"deep-lora": 1e-2, "lora": 1e-3, "head": 1e-1, "bitfit": 1e-2, "full": 1e-3}
"""By method, the learning rate that ``rhm adapt`` begins with."""


@dataclass(frozen=True)
class AdapterConfig:
    """What of a finished model is trained further.

    Attributes:
        base: the model, a file or the folder of a run; null trains a new one.
        method: one of ``METHODS``: updates of low rank (``deep-lora``, ``lora``) beside the
            head, the head alone, head and biases (``bitfit``), or everything.
        rank: of the updates.
        alpha: of LoRA: the scale of its updates times the rank.
        depth: of Deep LoRA: the number of inner factors.
        init_scale: of Deep LoRA: what its inner factors begin with.
        outer_lr_ratio: of Deep LoRA: the learning rate of its outer factors by that of the
            inner ones; 0 freezes them.
        targets: layers with updates: a preset (``all``, ``encoder``, ``attention``,
            ``pointwise``), a glob of names, or several globs.
        trained: globs of what is trained in full; null takes those of the method. The scale
            and offset of batch norms are among it where a glob names them. A cosine head keeps
            its temperature.
        batch_norm: ``frozen`` statistics, ``statistics`` that follow the new imagery, or
            ``affine``: scale and offset are trained, too, whatever is named.
        gradient_batches: of Deep LoRA: batches whose mean gradient gives its outer factors; 0
            draws them at random.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    base: str | None = None
    method: str = "deep-lora"
    rank: int = 8
    alpha: float | None = None
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
        if self.alpha is not None and self.method != "lora":
            raise ValueError("alpha is of the method lora")
        if self.gradient_batches < 0:
            raise ValueError("gradient_batches is at least 0")
        try:
            self.update()
        except ConfigError as error:
            raise ValueError(str(error)) from error

    def update(self) -> Adapter | None:
        """Return the kind of update, or None where the method has none."""
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
) -> Attachment:
    """Attach to a model what its adaptation trains, and freeze the rest.

    Args:
        model: the base.
        config: the method.
        loss: of logits and targets, whose gradient Deep LoRA begins with.
        batches: gives so many batches of training chips.
        seed: of random factors.

    Raises:
        ConfigError: no layer is a target, the rank is above that of a layer that is named, a
            gradient is not finite, or nothing matches a glob.
    """
    update = config.update()
    losses = []
    if isinstance(update, DeepLoRA):
        losses = [_LossOfBatch(loss, chip) for chip in batches(config.gradient_batches)]
    return attach(
        model,
        update,
        config.targets,
        losses or None,
        batch_norm=config.batch_norm,
        trained=METHODS[config.method] if config.trained is None else config.trained,
        seed=seed,
    )


def trained_table(model: nn.Module) -> pandas.DataFrame:
    """Return what an adaptation trains: ``name``, ``kind``, ``shape``, ``rank``, ``parameters``.

    A row per layer with an update, and one per parameter that is trained in full; its rank is
    missing.
    """
    attachment = attachment_of(model)
    layers = [] if attachment is None else attachment.layers
    rows = [asdict(layer) for layer in layers]
    rows += [
        {"name": name, "kind": "in full", "shape": tuple(each.shape), "parameters": each.numel()}
        for name, each in model.named_parameters()
        if each.requires_grad and ".parametrizations." not in name
    ]
    table = pandas.DataFrame(rows, columns=["name", "kind", "shape", "rank", "parameters"])
    table["shape"] = ["x".join(map(str, shape)) for shape in table["shape"]]
    return table.astype({"rank": "Int64"})


@dataclass(frozen=True)
class _LossOfBatch:
    """The loss of one batch, as a function of the network."""

    loss: nn.Module
    chip: Chip

    def __call__(self, model: nn.Module) -> Tensor:
        image = self.chip["image"].contiguous(memory_format=torch.channels_last)
        value: Tensor = self.loss(model(image).float(), self.chip["mask"])
        return value
