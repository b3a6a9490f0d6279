"""Building a network from its description, and loading pretrained weights into its encoder."""

from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import timm
import torch
from torch import Tensor, nn

from rhm.colour.baselines import STANDARDIZE
from rhm.errors import ModelFileError, one_line
from rhm.models.architectures import ARCHITECTURES
from rhm.models.building_classes import SEPARATIONS
from rhm.models.encoders.backbones import (
    is_encoder,
    is_plain,
    settings_of,
    similar_encoders,
    strides,
)
from rhm.models.encoders.bundled_weights import BUNDLED_ENCODER
from rhm.models.encoders.encoder_weights import LoadedWeights, load_weights
from rhm.models.heads import HEADS, TEMPERATURE, set_head
from rhm.models.spec import ModelSpec

# What torch, timm and segmentation_models_pytorch raise for networks that cannot be.
_IMPOSSIBLE = (AssertionError, AttributeError, KeyError, RuntimeError, TypeError, ValueError)


@dataclass(frozen=True)
class ModelConfig:
    """The network of a run.

    Attributes:
        architecture: one of ``ARCHITECTURES``.
        encoder: name of the backbone in timm.
        weights: weights of the backbone before training: ``bundled`` (ImageNet, installed with
            rhm, for ``tf_efficientnet_lite0``), ``none``, the path of a file (.safetensors, or
            what ``torch.save`` wrote) or of a folder of the Hugging Face cache, or the name of
            pretrained weights in timm, which are downloaded.
        threshold: probability from which a pixel counts as building; null chooses the threshold
            with the best IoU on the validation chips, which requires many of them, or that of the
            base of an adaptation if there are none.
        batch_norm: ``train``, or ``frozen`` to use the running statistics and not update them,
            for very small batches.
        standardize: one of ``alternatives.STANDARDIZE``: the appearance that every scene is given,
            in training and in prediction.
        separation: one of ``rhm.models.building_classes.SEPARATIONS``: ``none``, or the further
            classes by which the network learns to separate buildings: ``boundary``, or
            ``contact`` for boundary and contact.
        head: one of ``rhm.models.heads.HEADS``: ``linear``, or ``cosine``, which normalises
            features and weights and classifies by the angle between them.
        temperature: setting of the cosine head: the largest possible logit.
        learn_temperature: setting of the cosine head: whether the temperature is trained.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    architecture: str = "unet"
    encoder: str = BUNDLED_ENCODER
    weights: str = "bundled"
    threshold: float | None = 0.5
    batch_norm: str = "train"
    standardize: str = "none"
    separation: str = "none"
    head: str = "linear"
    temperature: float = TEMPERATURE
    learn_temperature: bool = False

    def __post_init__(self) -> None:
        if self.architecture not in ARCHITECTURES:
            raise ValueError(f"unknown architecture: choose {', '.join(ARCHITECTURES)}")
        self._check_encoder()
        if self.threshold is not None and not 0.0 < self.threshold < 1.0:
            raise ValueError("threshold must be a probability between 0 and 1, or null")
        if self.standardize not in STANDARDIZE:
            raise ValueError(f"unknown standardize: choose {', '.join(STANDARDIZE)}")
        if self.batch_norm not in ("train", "frozen"):
            raise ValueError("unknown batch_norm: choose train, frozen")
        if self.separation not in SEPARATIONS:
            raise ValueError(f"unknown separation: choose {', '.join(SEPARATIONS)}")
        if self.head not in HEADS:
            raise ValueError(f"unknown head: choose {', '.join(HEADS)}")
        if not 0.0 < self.temperature <= 1e3:
            raise ValueError("temperature must be above 0 and at most 1000")
        if self.head == "linear" and (self.temperature != TEMPERATURE or self.learn_temperature):
            raise ValueError(
                "temperature and learn_temperature are settings of the cosine head: set model.head "
                "to cosine"
            )

    def _check_encoder(self) -> None:
        if not is_encoder(self.encoder):
            near = ", ".join(similar_encoders(self.encoder))
            known = f"similar: {near}" if near else "timm.list_models() in Python lists all"
            raise ValueError(f"timm knows no encoder '{self.encoder}'; {known}")
        plain, _, tag = self.encoder.partition(".")
        if tag and self.encoder not in timm.list_pretrained(f"{plain}.*"):
            known = ", ".join(timm.list_pretrained(f"{plain}.*"))
            raise ValueError(f"timm knows no weights '{tag}' of {plain}: choose {known}")
        # On the default encoder, every architecture is known to work.
        if self.encoder != BUNDLED_ENCODER:
            reason = reason_against(self.architecture, self.encoder)
            if reason is not None:
                raise ValueError(reason)


class SegmentationModel(nn.Module):
    """A network together with its description.

    Args:
        spec: description of the model and of its training.
        temperature: initial temperature of a cosine head; loading weights replaces it.
        learn_temperature: whether the temperature is trained.

    Attributes:
        spec: description of the model.
        network: module from ``segmentation_models_pytorch``.

    Raises:
        ModelFileError: the architecture cannot be built with this encoder.
    """

    def __init__(
        self,
        spec: ModelSpec,
        *,
        temperature: float = TEMPERATURE,
        learn_temperature: bool = False,
    ) -> None:
        super().__init__()
        self.spec = spec
        try:
            self.network = _network(spec)
            set_head(self.network, spec.head, temperature=temperature, learned=learn_temperature)
        except _IMPOSSIBLE as error:
            raise ModelFileError(
                f"a {spec.architecture} cannot be built on the encoder {spec.encoder}: "
                f"{_reason(error, spec.encoder)}"
            ) from error

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (N, classes, H, W) of normalised images (N, bands, H, W) float32.

        H and W must be multiples of 32.
        """
        logits: Tensor = self.network(images)
        return logits

    @property
    def encoder(self) -> nn.Module:
        """The backbone."""
        encoder: nn.Module = self.network.get_submodule("encoder")
        return encoder


def load_encoder_weights(model: SegmentationModel, weights: str) -> LoadedWeights | None:
    """Load pretrained weights into the encoder of a model, which is changed in place.

    Args:
        model: model to change.
        weights: source of the weights, as in ``ModelConfig.weights``.

    Returns:
        What was loaded, or None for the weights ``none``.

    Raises:
        ConfigError: the weights cannot be read or downloaded, or belong to another encoder.
    """
    return load_weights(model.encoder, model.spec.encoder, weights, bands=model.spec.bands)


def _reason(error: Exception, encoder: str) -> str:
    """Return why a network cannot be built, in one line."""
    if "downsampling pattern" not in str(error):
        return one_line(error)
    if is_plain(encoder):
        return f"its features all have cells of {strides(encoder)[0]} px: choose dpt"
    cells = ", ".join(map(str, strides(encoder)))
    return f"its features have cells of {cells} px, not of 4, 8, 16 and 32 px"


@lru_cache(maxsize=64)
def reason_against(architecture: str, encoder: str) -> str | None:
    """Return why a network cannot predict scenes, in one line, or None if it can.

    The network is tried on the ``meta`` device, which takes little time and no memory.

    Args:
        architecture: one of ``ARCHITECTURES``.
        encoder: name of the backbone in timm.
    """
    with torch.device("meta"):
        try:
            model = SegmentationModel(ModelSpec(architecture, encoder, 3)).eval()
        except ModelFileError as error:
            return str(error)
        reason = _refusal(model, 64, 96)
        if reason is None:
            return None
        height, width = _own_size(encoder)
        if _refusal(model, height, width) is None:
            return (
                f"the encoder {encoder} accepts images of {height} x {width} px only, and "
                f"prediction needs other sizes too ({reason}): choose another encoder"
            )
    return f"a {architecture} cannot use the features of the encoder {encoder}: {reason}"


def _refusal(model: SegmentationModel, height: int, width: int) -> str | None:
    """Return why a model on the ``meta`` device refuses images of a size; None if it does not."""
    images = torch.zeros(1, model.spec.bands, height, width, device="meta")
    try:
        with torch.no_grad():
            logits = model(images)
    except _IMPOSSIBLE as error:
        return one_line(error, 160)
    if logits.shape[2:] != images.shape[2:]:
        return f"its logits have the size {tuple(logits.shape[2:])}, not {(height, width)}"
    return None


def _own_size(encoder: str) -> tuple[int, int]:
    """Return the size of the images that an encoder was designed for."""
    height, width = settings_of(encoder).input_size[1:]
    return int(height), int(width)


def _network(spec: ModelSpec) -> nn.Module:
    if spec.architecture not in ARCHITECTURES:
        raise ModelFileError(f"unknown architecture '{spec.architecture}'")
    if not is_encoder(spec.encoder):
        raise ModelFileError(
            f"a {spec.architecture} cannot be built on the encoder {spec.encoder}: timm has none "
            "of this name"
        )
    return ARCHITECTURES[spec.architecture](spec)
