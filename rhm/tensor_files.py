"""Files of tensors (safetensors), whose header is checked before any tensor is read.

The header gives the name, type and shape of every tensor, so a file can be compared with what is
expected of it before memory is allocated for either.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from rhm.errors import one_line

MOST_TENSORS = 1 << 16
"""Most tensors of a file; the largest networks of timm have a few thousand."""

LONGEST_NAME = 1000
"""Most characters of the name of a tensor; those of networks have tens."""

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
"""Types of tensors that are read, by their names in the header."""


@dataclass(frozen=True)
class TensorLayout:
    """The type and shape of a tensor, as the header gives them."""

    dtype: torch.dtype
    shape: tuple[int, ...]

    @classmethod
    def of(cls, tensor: Tensor) -> "TensorLayout":
        """Return the layout of a tensor, which may be on the ``meta`` device."""
        return cls(tensor.dtype, tuple(tensor.shape))

    def __str__(self) -> str:
        return f"{str(self.dtype).removeprefix('torch.')} of shape {self.shape}"


class TensorFile:
    """An open file of tensors.

    Attributes:
        metadata: texts in the header.
        layouts: type and shape of each tensor, by name.
    """

    def __init__(self, archive: Any) -> None:
        self._archive = archive
        self.metadata: Mapping[str, str] = archive.metadata() or {}
        names = list(archive.keys())
        if len(names) > MOST_TENSORS:
            raise ValueError(f"it has {len(names)} tensors, more than {MOST_TENSORS}")
        longest = max(map(len, names), default=0)
        if longest > LONGEST_NAME:
            raise ValueError(f"the name of a tensor has {longest} characters")
        self.layouts = {name: _layout(archive.get_slice(name), name) for name in names}

    def check(self, wanted: Mapping[str, TensorLayout]) -> None:
        """Check, by the header alone, that the file has exactly the tensors that are wanted.

        Floating-point types may differ from each other, because they are converted.

        Raises:
            ValueError: a tensor is missing, is one too many, or has another shape or type.
        """
        missing = [name for name in wanted if name not in self.layouts]
        if missing:
            raise ValueError(f"{len(missing)} of {len(wanted)} are missing, such as {missing[0]}")
        surplus = [name for name in self.layouts if name not in wanted]
        if surplus:
            raise ValueError(f"{len(surplus)} belong to nothing, such as {surplus[0]}")
        for name, layout in wanted.items():
            self.check_one(name, layout, convert=True)

    def check_one(self, name: str, layout: TensorLayout, *, convert: bool = False) -> None:
        """Check the type and shape of one tensor by the header alone.

        Args:
            name: name of the tensor.
            layout: expected type and shape.
            convert: whether floating-point types may differ.

        Raises:
            ValueError: the type or shape is different.
            KeyError: there is no such tensor.
        """
        found = self.layouts[name]
        floats = found.dtype.is_floating_point and layout.dtype.is_floating_point
        if found.shape != layout.shape or not (found.dtype == layout.dtype or (convert and floats)):
            what = "shape" if found.shape != layout.shape else "type"
            raise ValueError(f"{name} has a different {what}: {found}, not {layout}")

    def read(self, name: str) -> Tensor:
        """Read one tensor.

        Raises:
            KeyError: there is no such tensor.
            ValueError: a value is not finite.
        """
        if name not in self.layouts:
            raise KeyError(f"there is no tensor {name}")
        tensor: Tensor = self._archive.get_tensor(name)
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise ValueError(f"{name} is not finite")
        return tensor


@contextmanager
def open_tensors(path: str | os.PathLike[str]) -> Iterator[TensorFile]:
    """Open a safetensors file and read its header.

    Raises:
        OSError: the file cannot be read.
        ValueError: the file is not a safetensors file, or has too many tensors, names that are too
            long, or unknown types.
    """
    try:
        with safe_open(Path(path), framework="pt") as archive:
            yield TensorFile(archive)
    except SafetensorError as error:
        raise ValueError(one_line(error)) from error


def _layout(part: Any, name: str) -> TensorLayout:
    kind = part.get_dtype()
    if kind not in DTYPES:
        raise ValueError(f"{name} has the type {kind}, which is not read")
    return TensorLayout(DTYPES[kind], tuple(part.get_shape()))
