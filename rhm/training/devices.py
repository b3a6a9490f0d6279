"""What devices demand: batches for normalisation, and results that can be repeated."""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from timm.layers.norm_act import convert_sync_batchnorm
from torch import nn

from rhm.errors import ConfigError
from rhm.models.build import SegmentationModel
from rhm.models.spec import ModelSpec


@contextmanager
def synchronized_batch_norm(model: nn.Module) -> Iterator[None]:
    """Replace batch normalisation by a form that computes statistics over all devices.

    After the block, the modules are those of before, with the parameters and statistics of the
    end. PyTorch's own conversion, which Lightning uses, drops the activations that timm's
    ``BatchNormAct2d`` applies after normalising.

    Args:
        model: network, changed in place.
    """
    before = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm)
    }
    convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        for name, original in before.items():
            trained = model.get_submodule(name)
            original.load_state_dict(trained.state_dict())
            original.to(next(iter(trained.state_dict().values())).device)
            original.train(trained.training)
            parent, _, child = name.rpartition(".")
            setattr(model.get_submodule(parent), child, original)


@contextmanager
def deterministic() -> Iterator[None]:
    """Let CUDA compute deterministically, as far as PyTorch has deterministic operations.

    A resumed run then ends with the weights of an uninterrupted one. The gradients of a few
    operations, such as bilinear upsampling, have no deterministic form and differ in their last
    digits. On the CPU, nothing changes.
    """
    # Read when CUDA begins; without it, products of matrices are not repeatable.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    before = torch.are_deterministic_algorithms_enabled()
    only_warned = torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(torch.cuda.is_available() or before, warn_only=True)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*deterministic")
            yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=only_warned)


def check_number_of_gpus(accelerator: str, devices: int) -> None:
    """Check that there are as many GPUs as a run asks for, unless it takes the CPU.

    Args:
        accelerator: one of ``trainer_config.ACCELERATORS``.
        devices: number of devices of this machine.

    Raises:
        ConfigError: there are fewer.
    """
    found = torch.cuda.device_count()
    takes_gpus = accelerator == "gpu" or (accelerator == "auto" and found > 0)
    if takes_gpus and found < devices:
        lower = f"trainer.devices={found} or " if found else ""
        raise ConfigError(
            f"trainer.devices is {devices}, and the number of available GPUs is {found}: use "
            f"{lower}trainer.accelerator=cpu"
        )


def check_one_chip(spec: ModelSpec, chip_px: int, *, frozen: str) -> None:
    """Check that a network can be trained on one chip at a time.

    Args:
        spec: description of the network.
        chip_px: side of a chip in pixels.
        frozen: setting that freezes batch normalisation, for the message.

    Raises:
        ConfigError: batch normalisation gets a single value per channel.
    """
    with torch.device("meta"):
        network = SegmentationModel(spec).train()
        try:
            network(torch.zeros(1, spec.bands, chip_px, chip_px))
        except ValueError as error:
            raise ConfigError(
                f"{spec.architecture} cannot be trained on one chip of {chip_px} px at a time, "
                "because batch normalisation needs several values: raise trainer.batch_size, or "
                f"set {frozen}"
            ) from error
