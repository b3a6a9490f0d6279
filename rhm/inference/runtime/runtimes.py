"""Runtimes: the engines that can execute a network, by name.

``RUNTIMES`` describes the runtimes, and ``AUTO`` gives the order of preference. A runtime that is
added to ``RUNTIMES`` can be chosen on the command line and in Python, and ``rhm doctor`` checks
whether it is installed. ``auto`` tries it if it is also named in ``AUTO``. No runtime is imported
before it is used.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING

from rhm.errors import ConfigError
from rhm.inference.settings.option import check_options, option

if TYPE_CHECKING:
    from rhm.inference.runtime.backends import Backend
    from rhm.inference.runtime.quantization import Quantization
    from rhm.models.build import SegmentationModel


@dataclass(frozen=True)
class Runtime:
    """An engine that executes networks.

    Attributes:
        about: name of the engine in help texts and messages.
        open: function that prepares a model to run on a device, ``cpu``, ``cuda`` or ``cuda:N``.

            It raises ModelFileError if the runtime cannot express the model.
        devices: kinds of devices that the runtime supports.
        packages: packages that the runtime needs and rhm does not install by default.
        extra: extra of rhm that installs these packages.
        without: consequence of not installing them.
        worthwhile_px: minimum number of pixels to predict, per thread, for which ``auto`` chooses
            the runtime; fewer do not make up for the time of opening it.
        quantized: function that prepares a model to run on the CPU with 8-bit integers; None if the
            runtime cannot.
        processor: function that returns whether this processor can execute it, once the packages
            are installed; None if any can.
    """

    about: str
    open: "Callable[[SegmentationModel, str], Backend]"
    devices: tuple[str, ...]
    packages: tuple[str, ...] = ()
    extra: str = ""
    without: str = ""
    worthwhile_px: int = 0
    quantized: "Callable[[SegmentationModel, Quantization], Backend] | None" = None
    processor: Callable[[], bool] | None = None

    @property
    def installed(self) -> bool:
        """Whether the packages of the runtime are found; none is imported."""
        return all(find_spec(package) is not None for package in self.packages)

    @property
    def usable(self) -> bool:
        """Whether the packages of the runtime are found, and this processor can execute it."""
        return self.installed and (self.processor is None or self.processor())

    def require(self) -> None:
        """Check that the packages of the runtime are installed and that the processor suits it.

        Raises:
            ConfigError: a package is not installed, or the processor cannot.
        """
        for package in self.packages:
            try:
                with asking_nobody():
                    import_module(package)
            except ImportError as error:
                raise ConfigError(
                    f"{self.about} needs packages that are not installed ({error}): "
                    f"pip install 'rhm[{self.extra}]'"
                ) from error
        if self.processor is not None and not self.processor():
            raise ConfigError(
                f"{self.about} does not run on this processor: leave the runtime out, or choose "
                f"{AUTO[-1]}"
            )


@contextmanager
def asking_nobody() -> Iterator[None]:
    """Keep packages from reporting over the network that they are imported, as OpenVINO does.

    It is for every import of a runtime's packages: whichever comes first is the one that counts,
    and in another process that is the one of the unpickled runtime.
    """
    absent = [name for name in _REPORTERS if name not in sys.modules]
    try:
        for name in absent:
            # Python takes this for a package that is not installed, which OpenVINO supports.
            sys.modules[name] = None  # type: ignore[assignment]
        yield
    finally:
        for name in absent:
            sys.modules.pop(name, None)


_REPORTERS = ("openvino_telemetry",)
"""Packages that send reports over the network unless the user has forbidden it."""


def _torch(model: "SegmentationModel", place: str) -> "Backend":
    from rhm.inference.runtime.backends import TorchBackend

    return TorchBackend(model, place, mixed=False)


def _torch_float16(model: "SegmentationModel", place: str) -> "Backend":
    from rhm.inference.runtime.backends import TorchBackend

    return TorchBackend(model, place, mixed=True)


def _onnx(model: "SegmentationModel", place: str) -> "Backend":
    from rhm.inference.runtime.backends import OnnxBackend

    return OnnxBackend(model)


def _onnx_int8(model: "SegmentationModel", quantization: "Quantization") -> "Backend":
    from rhm.inference.runtime.backends import OnnxBackend

    return OnnxBackend(model, quantization)


def _openvino(model: "SegmentationModel", place: str) -> "Backend":
    from rhm.inference.runtime.backends import OpenVinoBackend

    return OpenVinoBackend(model)


def _openvino_bfloat16(model: "SegmentationModel", place: str) -> "Backend":
    from rhm.inference.runtime.backends import OpenVinoBackend

    return OpenVinoBackend(model, bfloat16=True)


def _multiplies_bfloat16() -> bool:
    from rhm.inference.runtime.openvino_graph import multiplies_bfloat16

    return multiplies_bfloat16()


def _openvino_int8(model: "SegmentationModel", quantization: "Quantization") -> "Backend":
    from rhm.inference.runtime.backends import OpenVinoBackend

    return OpenVinoBackend(model, quantization)


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
        quantized=_onnx_int8,
    ),
    "openvino": Runtime(
        "OpenVINO",
        _openvino,
        ("cpu",),
        packages=("onnx", "openvino"),
        extra="openvino",
        without="prediction on CPUs is slower",
        worthwhile_px=16 * 512 * 512,
        quantized=_openvino_int8,
    ),
    "openvino-bfloat16": Runtime(
        "OpenVINO in bfloat16",
        _openvino_bfloat16,
        ("cpu",),
        packages=("onnx", "openvino"),
        extra="openvino",
        without="prediction on CPUs is slower",
        processor=_multiplies_bfloat16,
    ),
    "torch-float16": Runtime("PyTorch in mixed precision", _torch_float16, ("cuda",)),
}
"""Runtimes by name. Runtimes that round differently have different names."""

AUTO = ("torch-float16", "openvino", "onnx", "torch")
"""Runtimes that ``auto`` considers, usually the fastest first; the last one supports any model and
device."""


def runtime_names() -> list[str]:
    """Return the names that a user can choose from."""
    return ["auto", *RUNTIMES]


PRECISIONS = ("float", "int8")
"""Precisions by name: floating-point numbers as the runtime uses them, or 8-bit integers."""


_INT8_SUFFIX = "-int8"


def name_in_precision(name: str, precision: str) -> str:
    """Return the name of a runtime that computes in a precision, which results record."""
    return name if precision == PRECISIONS[0] else f"{name}{_INT8_SUFFIX}"


def runtime_of(recorded: str) -> tuple[str, str]:
    """Return the name of a runtime and its precision from what results record."""
    name = recorded.removesuffix(_INT8_SUFFIX)
    return name, PRECISIONS[0] if name == recorded else PRECISIONS[1]


def _told() -> str:
    *first, last = (
        f"{name} ({runtime.about} on {' or '.join(map(str.upper, runtime.devices))})"
        for name, runtime in RUNTIMES.items()
    )
    return f"{', '.join(first)} or {last}"


@dataclass(frozen=True)
class RuntimeConfig:
    """The options of the runtime and its device.

    Raises:
        ConfigError: the runtime or the precision is unknown.
    """

    device: str = option("auto", "Device to run on: auto, cpu, cuda or cuda:N.")
    runtime: str = option(
        "auto",
        f"Runtime that executes the network: {_told()}; auto chooses the fastest suitable one.",
        choices=runtime_names,
    )
    precision: str = option(
        "float",
        "Precision of the network: {choices}. 8-bit integers are faster on CPUs; what they cost is "
        "measured first, and told.",
        choices=lambda: PRECISIONS,
    )

    def __post_init__(self) -> None:
        check_options(self)
