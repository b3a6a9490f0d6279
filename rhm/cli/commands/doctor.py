"""``rhm doctor``: what this installation contains, and what is missing."""

import os
import platform
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import (
    PackageNotFoundError,
    packages_distributions,
    requires,
    version,
)
from importlib.util import find_spec
from types import ModuleType

from rhm.cli.options import Json
from rhm.cli.output import emit
from rhm.errors import one_line
from rhm.inference.runtime.runtimes import RUNTIMES
from rhm.system import memory_bytes, most_open_files

_GB = 1e9
_LITTLE_MEMORY, _LITTLE_DISK = 4 * _GB, 5 * _GB
_FEW_FILES = 256
_ON_A_GPU = "train, adapt, evaluate, analyze and predict"

_EXTRAS = {
    package: (runtime.extra, runtime.without)
    # Two runtimes need onnx, and the first of them is told.
    for runtime in reversed(RUNTIMES.values())
    for package in runtime.packages
} | {
    "distributed": ("dask", "prediction cannot use a Dask cluster"),
    "pystac": ("stac", "results cannot be written as a STAC catalog"),
}
"""Module -> the extra that installs it, and the effect of its absence."""

_MODULES = {"opencv-python-headless": "cv2"}
"""Packages that others can stand in for -> the module that all of them provide."""

_RASTERS = {
    "GTiff": "missing",
    "COG": "missing",
    "VRT": "missing",
    "PNG": "note",
    "JPEG": "note",
    "JP2OpenJPEG": "note",
}
"""GDAL raster formats, and the state reported if one is absent."""

_VECTORS = {"GPKG": "missing", "GeoJSON": "missing"}
"""GDAL vector formats that rhm needs; the other formats of footprints are noted. All of
them must be writable."""


@dataclass(frozen=True)
class Finding:
    """The result of one check.

    Attributes:
        what: what was checked.
        state: ``ok``, ``note`` (rhm works, but less well) or ``missing`` (it does not work).
        found: the result in words.
        advice: how to fix it; empty if there is nothing to fix.
    """

    what: str
    state: str
    found: str
    advice: str = ""


def doctor(json: Json = False) -> int:
    """List what is installed, describe the machine, and explain how to install what is missing.

    The exit code is 2 if something that rhm needs is missing.

    Example: `rhm doctor`
    """
    findings = [
        *_packages(),
        *_looked_at("GDAL", _gdal),
        *_looked_at("PyTorch", _accelerator),
        *_machine(),
    ]
    width = max(len(finding.what) for finding in findings)
    marks = {"ok": "  ", "note": "- ", "missing": "! "}
    lines = []
    for finding in findings:
        lines.append(f"{marks[finding.state]}{finding.what:<{width}}  {finding.found}")
        if finding.advice:
            lines.append(f"  {'':<{width}}  {finding.advice}")
    lacking = [finding.what for finding in findings if finding.state == "missing"]
    missing = f"missing: {', '.join(lacking)}"
    lines.append(missing if lacking else "nothing that rhm needs is missing")
    emit({"findings": [asdict(finding) for finding in findings]}, lines, as_json=json)
    return 2 if lacking else 0


def _looked_at(what: str, look: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    """Yield what is found, or that the libraries by which one looks cannot be loaded."""
    try:
        yield from look()
    except (ImportError, OSError) as error:  # a shared library that is missing is an OSError
        advice = "pip install --upgrade --force-reinstall rhm"
        yield Finding(what, "missing", f"cannot be loaded: {one_line(error)}", advice)


def _packages() -> Iterator[Finding]:
    yield Finding("rhm", "ok", f"{version('rhm')} on Python {platform.python_version()}")
    for requirement in requires("rhm") or ():
        if "extra ==" in requirement:
            continue
        name = re.split(r"[^\w.-]", requirement, maxsplit=1)[0]
        module = _MODULES.get(name)
        found = _version(name) or (_provider(module) if module and find_spec(module) else "")
        if found:
            yield Finding(name, "ok", found)
        else:
            yield Finding(name, "missing", "not installed", "pip install --upgrade rhm")
    for module, (extra, without) in _EXTRAS.items():
        if find_spec(module):
            yield Finding(module, "ok", _version(module) or _provider(module))
        else:
            yield Finding(
                module, "note", f"not installed: {without}", f"pip install 'rhm[{extra}]'"
            )


def _version(package: str) -> str:
    """Return the version of an installed package; empty if there is no package of this name."""
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _provider(module: str) -> str:
    """Return the packages of other names that provide a module, with their versions."""
    names = dict.fromkeys(packages_distributions().get(module, ()))
    return ", ".join(f"{version(name)} ({name})" for name in names) or "version unknown"


def _gdal() -> Iterator[Finding]:
    import pyogrio
    import rasterio

    from rhm.inference.layers.vector_files import FORMATS

    footprints = {kind.driver: "note" for kind in FORMATS.values() if kind.by_gdal}
    with rasterio.Env() as environment:
        rasters = set(environment.drivers())
    vectors = {name for name, can in pyogrio.list_drivers().items() if "w" in can}
    yield Finding("GDAL", "ok", f"{rasterio.__gdal_version__}, for vectors {_dotted(pyogrio)}")
    for wanted, there, wheel in (
        (_RASTERS, rasters, "rasterio"),
        (footprints | _VECTORS, vectors, "pyogrio"),
    ):
        for name, state in wanted.items():
            if name in there:
                yield Finding(f"GDAL {name}", "ok", "available")
            else:
                advice = f"this build of GDAL lacks it; the wheels of {wheel} on PyPI include it"
                yield Finding(f"GDAL {name}", state, "not available", advice)


def _dotted(pyogrio: ModuleType) -> str:
    return ".".join(map(str, pyogrio.__gdal_version__))


def _accelerator() -> Iterator[Finding]:
    import torch

    threads = f"{torch.get_num_threads()} threads of {os.cpu_count()} cores"
    yield Finding("CPU", "ok", f"{platform.machine()}, {threads}")
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            device = torch.cuda.get_device_properties(index)
            memory = f"{device.total_memory / _GB:.0f} GB"
            facts = f"{device.name}, {memory}, CUDA {torch.version.cuda}"
            yield Finding(f"GPU {index}", "ok", f"{facts}; used for {_ON_A_GPU}")
    elif torch.version.cuda is None:
        advice = f"with an NVIDIA GPU and PyTorch for CUDA, it is used for {_ON_A_GPU}"
        yield Finding("GPU", "note", "this build of PyTorch supports none", advice)
    else:
        advice = f"nvidia-smi should list one if there is one; it is used for {_ON_A_GPU}"
        yield Finding("GPU", "note", f"none found (PyTorch for CUDA {torch.version.cuda})", advice)


def _machine() -> Iterator[Finding]:
    memory = memory_bytes()
    if memory is not None:
        little = memory < _LITTLE_MEMORY
        advice = "train and predict with smaller batches and tiles" if little else ""
        yield Finding("memory", "note" if little else "ok", f"{memory / _GB:.0f} GB", advice)
    free = shutil.disk_usage(".").free
    little = free < _LITTLE_DISK
    advice = "`rhm predict --dry-run` estimates what a prediction needs" if little else ""
    yield Finding("disk", "note" if little else "ok", f"{free / _GB:.0f} GB free here", advice)
    files = most_open_files()
    if files is not None:
        few = files < _FEW_FILES
        advice = "`ulimit -n 4096` lets data loaders keep more images open" if few else ""
        yield Finding("open files", "note" if few else "ok", f"up to {files}", advice)
