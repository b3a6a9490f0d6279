"""Counts, means and scatter of features by class: one pass, exact, mergeable.

Collapse and separation are functions of these numbers, so the features themselves are never stored.
Batches, workers, shards and images have moments of their own, and merging them gives the moments of
all samples together (Chan, Golub, LeVeque, 1979).
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rhm.errors import AnalysisError

_VALUES = 1 << 20
"""Number of values that are processed at a time. More than the caches hold would halve the speed,
and the limit bounds the memory for float64 copies."""


class ClassMoments:
    """Moments of features, by class.

    ``means[k]`` is mu_k. ``spreads[k]`` is the sum of ``|h - mu_k|^2`` over the samples of class k.
    ``scatter`` is the sum of ``(h - mu_y)(h - mu_y)^T`` over all samples, that is ``N Sigma_W``.

    With data in shards or distributed training, every process updates its own moments and sends its
    ``state_dict()``. Merging these in any order gives the moments of all samples:

        shards = [None] * dist.get_world_size()
        dist.all_gather_object(shards, moments.state_dict())
        whole = functools.reduce(ClassMoments.merge, map(ClassMoments.from_state_dict, shards))

    Args:
        num_classes: number of classes K, at least 1.
        num_features: number of features D, at least 1.
        covariance: whether to compute ``scatter``. Without it, memory is O(K D), and only the
            traces of the covariances are known.
        device: device of the moments, on which batches are reduced. Features may be on any device.

    Attributes:
        counts: (K,) int64, number of samples of each class.
        means: (K, D) float64; zeros for a class without samples.
        spreads: (K,) float64.
        scatter: (D, D) float64, or None.
    """

    def __init__(
        self,
        num_classes: int,
        num_features: int,
        *,
        covariance: bool = True,
        device: torch.device | str = "cpu",
    ) -> None:
        if num_classes < 1 or num_features < 1:
            raise ValueError(
                f"there are no moments of {num_classes} classes and {num_features} features"
            )
        size = (num_features, num_features)
        self.counts = torch.zeros(num_classes, dtype=torch.int64, device=device)
        self.means = _zeros(num_classes, num_features, device=device)
        self.spreads = _zeros(num_classes, device=device)
        self.scatter = _zeros(*size, device=device) if covariance else None

    @property
    def num_classes(self) -> int:
        """Number of classes K."""
        return int(self.means.shape[0])

    @property
    def num_features(self) -> int:
        """Number of features D."""
        return int(self.means.shape[1])

    @property
    def samples(self) -> int:
        """Number of samples N of all classes."""
        return int(self.counts.sum())

    def update(
        self,
        features: NDArray[Any] | Tensor,
        labels: NDArray[Any] | Tensor,
        *,
        ignore_index: int | None = None,
    ) -> None:
        """Add a batch.

        Args:
            features: (N, D) of any real type, an array or a tensor on any device.
            labels: (N,) integers from 0 to K - 1.
            ignore_index: samples with this label are skipped.

        Raises:
            ValueError: the shapes do not match, or a label is out of range.
            AnalysisError: a feature is not a finite number; the batch is not added.
        """
        rows, classes = _on(self.means.device, features, labels)
        if rows.ndim != 2 or rows.shape[1] != self.num_features or classes.shape != rows.shape[:1]:
            raise ValueError(
                f"expected features (N, {self.num_features}) and labels (N,), got "
                f"{tuple(rows.shape)} and {tuple(classes.shape)}"
            )
        if ignore_index is not None:
            known = classes != ignore_index
            rows, classes = rows[known], classes[known]
        if not len(rows):
            return
        if int(classes.min()) < 0 or int(classes.max()) >= self.num_classes:
            raise ValueError(f"labels must be from 0 to {self.num_classes - 1}")
        # Reduced separately first, so that an invalid batch leaves the moments unchanged.
        step = max(_VALUES // max(self.num_features, self.num_classes), 1)
        # Values that are not finite are reported below, instead of by numpy's warnings.
        with np.errstate(invalid="ignore", over="ignore"):
            batch = self._reduce(rows[:step], classes[:step])
            for start in range(step, len(rows), step):
                part = slice(start, start + step)
                batch._merge(self._reduce(rows[part], classes[part]))
        if not bool(torch.isfinite(batch.spreads.sum())):
            raise AnalysisError(
                f"features are not all finite numbers (batch of {len(rows)} samples)"
            )
        self._merge(batch)

    def merge(self, other: "ClassMoments") -> "ClassMoments":
        """Add the samples of ``other`` exactly, and return this object.

        Raises:
            ValueError: the two differ in classes or features, or only one of them has a scatter.
        """
        if self.means.shape != other.means.shape or (self.scatter is None) != (
            other.scatter is None
        ):
            raise ValueError(f"moments of {self._said()} and of {other._said()} cannot be merged")
        self._merge(other)
        return self

    def state_dict(self) -> dict[str, Tensor]:
        """Return copies of the moments as named tensors."""
        return {name: tensor.clone() for name, tensor in self._tensors().items()}

    @classmethod
    def from_state_dict(
        cls, state: Mapping[str, Tensor], device: torch.device | str = "cpu"
    ) -> "ClassMoments":
        """Return the moments stored in a ``state_dict``.

        Raises:
            ValueError: the state does not contain moments.
        """
        means = state.get("means")
        if means is None or means.ndim != 2:
            raise ValueError("not a state of class moments: it has no means (K, D)")
        moments = cls(*means.shape, covariance="scatter" in state, device=device)
        for name, mine in moments._tensors().items():
            given = state.get(name)
            if given is None or given.shape != mine.shape:
                raise ValueError(
                    f"not a state of class moments: {name} does not have shape {tuple(mine.shape)}"
                )
            mine.copy_(given)
        return moments

    def __repr__(self) -> str:
        return f"ClassMoments({self._said()}, {self.samples} samples)"

    def _said(self) -> str:
        covariance = "with" if self.scatter is not None else "without"
        return f"{self.num_classes} classes x {self.num_features} features {covariance} covariance"

    def _tensors(self) -> dict[str, Tensor]:
        named = {"counts": self.counts, "means": self.means, "spreads": self.spreads}
        return named if self.scatter is None else named | {"scatter": self.scatter}

    def _reduce(self, features: Tensor, classes: Tensor) -> "ClassMoments":
        """Return the moments of a part (n, D) of a batch."""
        part = ClassMoments(*self.means.shape, covariance=False, device=self.means.device)
        part.counts = torch.bincount(classes, minlength=self.num_classes)
        rows = _bare(features.to(torch.float64, copy=True))
        members = _bare(torch.nn.functional.one_hot(classes, self.num_classes).double())
        means = (members.T @ rows) / _bare(part.counts.clamp(min=1).double())[:, None]
        rows -= members @ means
        squares = _squares(rows)
        part.means, part.spreads = _dressed(means), _dressed(members.T @ squares)
        if self.scatter is not None:
            # numpy notices that the factors are the same array and computes half of the product.
            part.scatter = _dressed(rows.T @ rows)
        return part

    def _merge(self, other: "ClassMoments") -> None:
        device = self.means.device
        added = other.counts.to(device)
        counts = self.counts + added
        share = _bare(added.double() / counts.clamp(min=1))
        weight = _bare(self.counts.double()) * share
        means, spreads = _bare(self.means), _bare(self.spreads)
        gap = _bare(other.means.to(device)) - means
        means += share[:, None] * gap
        spreads += _bare(other.spreads.to(device)) + weight * _squares(gap)
        if self.scatter is not None and other.scatter is not None:
            scatter = _bare(self.scatter)
            scatter += _bare(other.scatter.to(device))
            scatter += (weight[:, None] * gap).T @ gap
        self.counts = counts


def _bare(tensor: Tensor) -> Any:
    """Return the numpy array of a tensor on the CPU, and any other tensor unchanged.

    The threads of torch and of numpy's BLAS obstruct each other if the two libraries alternate, so
    numpy does all computations on the CPU.
    """
    return tensor.numpy() if tensor.device.type == "cpu" else tensor


def _squares(rows: Any) -> Any:
    """Return the squared length of each row."""
    if isinstance(rows, Tensor):
        return torch.linalg.vecdot(rows, rows)
    return np.einsum("nd,nd->n", rows, rows)


def _dressed(array: Any) -> Tensor:
    return array if isinstance(array, Tensor) else torch.from_numpy(np.asarray(array))


def _on(
    device: torch.device, features: NDArray[Any] | Tensor, labels: NDArray[Any] | Tensor
) -> tuple[Tensor, Tensor]:
    rows, classes = (_tensor(each).detach().to(device) for each in (features, labels))
    if rows.is_complex() or classes.is_floating_point() or classes.is_complex():
        raise ValueError(
            f"expected real features and integer labels, got {rows.dtype} and {classes.dtype}"
        )
    return rows, classes.to(torch.int64)


def _tensor(values: NDArray[Any] | Tensor) -> Tensor:
    if isinstance(values, Tensor):
        return values
    # torch accepts neither negative strides nor foreign byte orders, nor read-only arrays.
    native = values.astype(values.dtype.newbyteorder("="), copy=not values.flags.writeable)
    return torch.from_numpy(np.ascontiguousarray(native))


def _zeros(*size: int, device: torch.device | str) -> Tensor:
    return torch.zeros(size, dtype=torch.float64, device=device)
