"""Spectra of learned low-rank updates, and when their directions settled.

Yaras et al. (ICML 2024) ask two questions about Deep LoRA: do the learned updates have low rank,
and how early do their singular subspaces settle? Both are answered from the factors alone,
without ever forming an update.
"""

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from rhm.adapters.attach import updates
from rhm.adapters.subspace import principal_angles
from rhm.errors import ModelFileError, one_line
from rhm.files import atomic_path
from rhm.notebook_display import Curves, NotebookDisplay
from rhm.tensor_files import open_tensors

ENERGY = 0.95
"""Share of the sum of squared singular values that defines the effective rank."""

_GAP = 1e-3
"""How much larger than the others leading singular values must be to compare directions."""

_LARGEST = 1e9
"""Largest number or step in a file of updates; training diverges far below."""

_PARTS = ("left", "right", "weight_norm")
_STEP = "step"


@dataclass(frozen=True)
class LayerFactors:
    """The update of one layer at one step of training.

    Attributes:
        left: left factor (rows, r).
        right: right factor (r, columns); the product of the two is the update.
        weight_norm: Frobenius norm of the frozen weight.
    """

    left: Tensor
    right: Tensor
    weight_norm: float


@dataclass(frozen=True)
class UpdateSnapshot(NotebookDisplay):
    """All updates of a network at one step of training.

    Attributes:
        step: number of optimiser steps taken.
        layers: the factors of each layer, by name.
    """

    step: int
    layers: Mapping[str, LayerFactors]

    def _facts(self) -> dict[str, object]:
        found = spectra(self)
        ranks = sorted(each.effective_rank for each in found)
        largest = max(found, key=lambda each: each.relative_norm, default=None)
        return {
            "step": f"{self.step:,}",
            "layers": len(found),
            "effective rank": f"{ranks[len(ranks) // 2]} (median), {ranks[-1]} (largest)"
            if ranks
            else "no updates",
            **(
                {"largest change": f"{largest.layer}, {largest.relative_norm:.1%} of the weight"}
                if largest
                else {}
            ),
        }

    def _picture(self) -> Curves:
        """Return the singular values of each update, relative to its first."""
        lines = {
            each.layer: (
                range(1, len(each.singular_values) + 1),
                [value / each.singular_values[0] for value in each.singular_values],
            )
            for each in spectra(self)
            if each.stable_rank
        }
        if not lines:
            raise ValueError("all updates are zero")
        return Curves("direction", "singular value / largest", lines)


@dataclass(frozen=True)
class UpdateSpectrum:
    """Spectrum of the update of one layer.

    Attributes:
        layer: name of the layer.
        rows: rows of the weight as a matrix.
        columns: columns of the weight as a matrix.
        singular_values: singular values of the update, descending, as many as its factors allow.
        relative_norm: Frobenius norm of the update divided by that of the frozen weight.
        effective_rank: smallest number of directions with the share ``ENERGY`` of the update; 0 if
            the update is zero.
        stable_rank: squared Frobenius norm divided by the squared spectral norm; 0 if the update is
            zero.
    """

    layer: str
    rows: int
    columns: int
    singular_values: tuple[float, ...]
    relative_norm: float
    effective_rank: int
    stable_rank: float


def take_snapshot(model: nn.Module, step: int) -> UpdateSnapshot:
    """Return a copy of the factors of all updates on the CPU; empty without an adapter."""
    layers = {}
    for name, update in updates(model):
        left, right = (each.detach().float().cpu().clone() for each in update.factors())
        weight = model.get_parameter(f"{name}.parametrizations.weight.original")
        layers[name] = LayerFactors(left, right, float(torch.linalg.norm(weight.detach())))
    return UpdateSnapshot(step, layers)


def save_snapshot(snapshot: UpdateSnapshot, path: str | os.PathLike[str]) -> None:
    """Write a snapshot to one safetensors file, either completely or not at all.

    Raises:
        OutputError: the file cannot be written.
    """
    tensors: dict[str, Tensor] = {}
    for name, layer in snapshot.layers.items():
        parts = (layer.left, layer.right, torch.tensor(layer.weight_norm))
        tensors |= {
            f"{name}/{part}": each.contiguous() for part, each in zip(_PARTS, parts, strict=True)
        }
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, metadata={_STEP: str(snapshot.step)})


def load_snapshot(path: str | os.PathLike[str]) -> UpdateSnapshot:
    """Read a file written by ``save_snapshot``.

    Raises:
        ModelFileError: the file is missing, damaged, or not a snapshot.
    """
    try:
        with open_tensors(path) as archive:
            step = int(archive.metadata[_STEP][:12])
            layers = {}
            for name in sorted({key.rpartition("/")[0] for key in archive.layouts}):
                left, right, norm = (archive.read(f"{name}/{part}") for part in _PARTS)
                layers[name] = _checked(LayerFactors(left.float(), right.float(), float(norm)))
        if not layers or not 0 <= step <= _LARGEST:
            raise ValueError("it contains no updates")
    except (OSError, LookupError, ValueError, RuntimeError) as error:
        raise ModelFileError(f"{path} cannot be read as updates: {one_line(error)}") from error
    return UpdateSnapshot(step, layers)


def spectra(snapshot: UpdateSnapshot) -> list[UpdateSpectrum]:
    """Return the spectrum of every update."""
    found = []
    for name, layer in snapshot.layers.items():
        _, values, _ = _svd(layer)
        energy = values.square()
        total = float(energy.sum())
        shares = energy.cumsum(0) / total if total else energy
        found.append(
            UpdateSpectrum(
                layer=name,
                rows=layer.left.shape[0],
                columns=layer.right.shape[1],
                singular_values=tuple(values.tolist()),
                relative_norm=math.sqrt(total) / layer.weight_norm if layer.weight_norm else 0.0,
                effective_rank=int((shares < ENERGY).sum()) + 1 if total else 0,
                stable_rank=total / float(energy[0]) if total else 0.0,
            )
        )
    return found


def angles_to_final(
    snapshots: Sequence[UpdateSnapshot], final: UpdateSnapshot
) -> dict[str, list[float | None]]:
    """Return the angle between each layer's directions and its final ones, for every snapshot.

    The spaces of the leading left and right singular vectors are compared. Their dimension is the
    effective rank of the final update.

    Returns:
        By layer, the largest principal angle between the two spaces in degrees, for each snapshot.
        None if the update was zero, or if its leading singular values were no larger than the
        others, as in Deep LoRA at the start. Layers whose final update is zero are omitted.

    Raises:
        ModelFileError: the layers of a snapshot have different sizes.
    """
    ranks = {each.layer: each.effective_rank for each in spectra(final)}
    found: dict[str, list[float | None]] = {}
    for name, rank in ranks.items():
        if rank:
            left, _, right = _svd(final.layers[name])
            ends = left[:, :rank], right[:, :rank]
            found[name] = [_angle(each.layers.get(name), ends, rank) for each in snapshots]
    return found


def _angle(layer: LayerFactors | None, ends: tuple[Tensor, Tensor], rank: int) -> float | None:
    if layer is None:
        return None
    if (len(layer.left), layer.right.shape[1]) != tuple(map(len, ends)):
        raise ModelFileError(
            "the recorded updates do not belong to the layers of the finished model"
        )
    left, values, right = _svd(layer)
    rest = values[rank] if rank < len(values) else 0.0
    if not float(values[rank - 1]) > (1.0 + _GAP) * float(rest):
        return None
    spaces = zip((left[:, :rank], right[:, :rank]), ends, strict=True)
    return math.degrees(max(float(principal_angles(*pair).max()) for pair in spaces))


def _svd(layer: LayerFactors) -> tuple[Tensor, Tensor, Tensor]:
    """Return U (rows, r), s (r,) and V (columns, r) of the update, from two thin QRs."""
    left, left_core = torch.linalg.qr(layer.left.double())
    right, right_core = torch.linalg.qr(layer.right.T.double())
    turned, values, back = torch.linalg.svd(left_core @ right_core.T)
    return left @ turned, values, right @ back.T


def _checked(layer: LayerFactors) -> LayerFactors:
    left, right = layer.left, layer.right
    if left.ndim != 2 or right.ndim != 2 or left.shape[1] != right.shape[0] or not left.shape[1]:
        raise ValueError("its factors cannot be multiplied")
    if left.shape[1] > min(left.shape[0], right.shape[1]):
        raise ValueError("the rank of its factors is above that of the layer")
    numbers = torch.cat([left.abs().flatten(), right.abs().flatten()])
    if not (bool((numbers <= _LARGEST).all()) and 0.0 <= layer.weight_norm <= _LARGEST):
        raise ValueError("its factors are not finite")
    return layer
