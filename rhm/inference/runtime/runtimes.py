"""Runtimes: what executes a network, by the name that a user chooses it by.

``RUNTIMES`` holds all that is known of a runtime, and ``AUTO`` the order of preference. One that is
added there can be chosen on the command line and in Python, is tried by ``auto`` if it is named
there too, and is looked for by ``rhm doctor``. Nothing that executes is imported before it is used.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

from rhm.errors import ConfigError
from rhm.inference.settings.option import check_options, option

if TYPE_CHECKING:
    from rhm.inference.runtime.backends import Backend
    from rhm.models.build import SegmentationModel


@dataclass(frozen=True)
class Runtime:
    """Something that executes a network.

    Attributes:
        about: what it is, and for whom.
        open: returns a model ready to run on a device, ``cpu``, ``cuda`` or ``cuda:N``.

            Raises ModelFileError where it cannot express the model.
        devices: the kinds of device that it runs on.
        packages: that it needs and rhm does not bring along.
        extra: of rhm that installs them.
        without: what it means that they are not installed.
        worthwhile_px: pixels to predict, for every thread, from which ``auto`` opens it: with
            fewer it does not win back what opening takes.
    """

    about: str
    open: "Callable[[SegmentationModel, str], Backend]"
    devices: tuple[str, ...]
    packages: tuple[str, ...] = ()
    extra: str = ""
    without: str = ""
    worthwhile_px: int = 0

    def require(self) -> None:
        """Check that the packages that it needs are installed.

        Raises:
            ConfigError: they are not.
        """
        for package in self.packages:
            try:
                import_module(package)
            except ImportError as error:
                raise ConfigError(
                    f"{self.about} needs packages that are not installed ({error}): "
                    f"pip install 'rhm[{self.extra}]'"
                ) from error


def _torch(model: "SegmentationModel", place: str) -> "Backend":
    from rhm.inference.runtime.backends import TorchBackend

    return TorchBackend(model, place, mixed=False)


def _torch_float16(model: "SegmentationModel", place: str) -> "Backend":
    from rhm.inference.runtime.backends import TorchBackend

    return TorchBackend(model, place, mixed=True)


def _onnx(model: "SegmentationModel", place: str) -> "Backend":
    from rhm.inference.runtime.backends import OnnxBackend

    return OnnxBackend(model)


RUNTIMES = {
    "torch": Runtime("PyTorch", _torch, ("cpu", "cuda")),
    "onnx": Runtime(
        "ONNX Runtime",
        _onnx,
        ("cpu",),
        packages=("onnx", "onnxruntime"),
        extra="onnx",
        without="prediction on CPUs is slower, and nothing can be exported",
        worthwhile_px=16 * 512 * 512,
    ),
    "torch-float16": Runtime("PyTorch in mixed precision", _torch_float16, ("cuda",)),
}
"""The runtimes. Two that round differently have two names."""

AUTO = ("torch-float16", "onnx", "torch")
"""What ``auto`` tries, the fastest first; the last one takes any model on any device."""


def runtime_names() -> list[str]:
    """Return what a user may ask for."""
    return ["auto", *RUNTIMES]


def _told() -> str:
    *first, last = (
        f"{name} ({runtime.about} on {' or '.join(runtime.devices).upper()})"
        for name, runtime in RUNTIMES.items()
    )
    return f"{', '.join(first)} or {last}"


@dataclass(frozen=True)
class RuntimeConfig:
    """Where a network runs, and by what.

    Raises:
        ConfigError: there is no such runtime.
    """

    device: str = option("auto", "Device to run on: auto, cpu, cuda or cuda:N.")
    runtime: str = option(
        "auto",
        f"What executes the network: {_told()}; auto is the fastest of them that will do.",
        choices=runtime_names,
    )

    def __post_init__(self) -> None:
        check_options(self)
