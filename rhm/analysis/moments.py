"""Counts, means and scatter of features by class: one pass, exact, mergeable.

Everything that collapse and separation ask of features is a function of these numbers, so the
features themselves are never kept. Batches, workers, shards and images each have their own
moments, and merging gives the moments of all together (Chan, Golub, LeVeque, 1979).
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rhm.errors import AnalysisError

_VALUES = 1 << 20
"""Features, or their classes' indicators, are taken in so many values at a time: more than the
caches hold would halve the speed, and what is held in float64 has a bound."""


class ClassMoments:
    """Moments of features, by class.

    ``means[k]`` is mu_k; ``spreads[k]`` the sum over samples of class k of ``|h - mu_k|^2``;
    ``scatter`` the sum over all samples of ``(h - mu_y)(h - mu_y)^T``, that is ``N Sigma_W``.

    Of data in shards, or under distributed training, each process updates its own and sends
    ``state_dict()``; merging those, in any order, gives the moments of all:

        shards = [None] * dist.get_world_size()
        dist.all_gather_object(shards, moments.state_dict())
        whole = functools.reduce(ClassMoments.merge, map(ClassMoments.from_state_dict, shards))

    Args:
        num_classes: K, at least 1.
        num_features: D, at least 1.
        covariance: whether to keep ``scatter``; without it memory is O(K D), and traces are all
            that is known of the spread.
        device: where the moments live and batches are reduced; features come from anywhere.

    Attributes:
        counts: (K,) int64 samples of each class.
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
            raise ValueError(f"no moments of {num_classes} classes and {num_features} features")
        size = (num_features, num_features)
        self.counts = torch.zeros(num_classes, dtype=torch.int64, device=device)
        self.means = _zeros(num_classes, num_features, device=device)
        self.spreads = _zeros(num_classes, device=device)
        self.scatter = _zeros(*size, device=device) if covariance else None

    @property
    def num_classes(self) -> int:
        """K."""
        return int(self.means.shape[0])

    @property
    def num_features(self) -> int:
        """D."""
        return int(self.means.shape[1])

    @property
    def samples(self) -> int:
        """N, the samples of all classes."""
        return int(self.counts.sum())

    def update(
        self,
        features: NDArray[Any] | Tensor,
        labels: NDArray[Any] | Tensor,
        *,
        ignore_index: int | None = None,
    ) -> None:
        """Take in a batch.

        Args:
            features: (N, D) of any real type, an array or a tensor on any device.
            labels: (N,) integers from 0 to K - 1.
            ignore_index: samples of this label are left out.

        Raises:
            ValueError: the shapes do not fit, or a label is of no class.
            AnalysisError: a feature is no finite number; nothing is taken in.
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
            raise ValueError(f"labels are not all from 0 to {self.num_classes - 1}")
        # Apart from what is there: a batch that turns out bad must leave no trace.
        step = max(_VALUES // max(self.num_features, self.num_classes), 1)
        # What is no number is told below, in one line instead of numpy's warnings.
        with np.errstate(invalid="ignore", over="ignore"):
            batch = self._reduce(rows[:step], classes[:step])
            for start in range(step, len(rows), step):
                part = slice(start, start + step)
                batch._merge(self._reduce(rows[part], classes[part]))
        if not bool(torch.isfinite(batch.spreads.sum())):
            raise AnalysisError(f"features are not all finite numbers, in {len(rows)} samples")
        self._merge(batch)

    def merge(self, other: "ClassMoments") -> "ClassMoments":
        """Take in the samples of ``other``, exactly; returns this object.

        Raises:
            ValueError: the two differ in classes or features, or one keeps no scatter.
        """
        if self.means.shape != other.means.shape or (self.scatter is None) != (
            other.scatter is None
        ):
            raise ValueError(f"moments of {self._said()} and of {other._said()} do not go together")
        self._merge(other)
        return self

    def state_dict(self) -> dict[str, Tensor]:
        """Return the moments as named tensors, copied."""
        return {name: tensor.clone() for name, tensor in self._tensors().items()}

    @classmethod
    def from_state_dict(
        cls, state: Mapping[str, Tensor], device: torch.device | str = "cpu"
    ) -> "ClassMoments":
        """Return the moments that ``state_dict`` described.

        Raises:
            ValueError: these are not moments.
        """
        means = state.get("means")
        if means is None or means.ndim != 2:
            raise ValueError("no state of class moments: there are no means (K, D)")
        moments = cls(*means.shape, covariance="scatter" in state, device=device)
        for name, mine in moments._tensors().items():
            given = state.get(name)
            if given is None or given.shape != mine.shape:
                raise ValueError(f"no state of class moments: {name} is not {tuple(mine.shape)}")
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
        """Return the moments of a part of a batch, (n, D)."""
        part = ClassMoments(*self.means.shape, covariance=False, device=self.means.device)
        part.counts = torch.bincount(classes, minlength=self.num_classes)
        rows = _bare(features.to(torch.float64, copy=True))
        members = _bare(torch.nn.functional.one_hot(classes, self.num_classes).double())
        means = (members.T @ rows) / _bare(part.counts.clamp(min=1).double())[:, None]
        rows -= members @ means
        squares = _squares(rows)
        part.means, part.spreads = _dressed(means), _dressed(members.T @ squares)
        if self.scatter is not None:
            # numpy sees that both factors are one array and computes half of the product.
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
    """Return the numpy array under a tensor of the CPU, and any other tensor itself.

    The threads of torch and those of numpy's BLAS stand in each other's way when the two take
    turns: on the CPU numpy does all of it.
    """
    return tensor.numpy() if tensor.device.type == "cpu" else tensor


def _squares(rows: Any) -> Any:
    """Return the square length of each row."""
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
        raise ValueError(f"expected real features and whole labels: {rows.dtype}, {classes.dtype}")
    return rows, classes.to(torch.int64)


def _tensor(values: NDArray[Any] | Tensor) -> Tensor:
    if isinstance(values, Tensor):
        return values
    # torch takes neither negative strides nor another byte order, and warns of what is read-only.
    native = values.astype(values.dtype.newbyteorder("="), copy=not values.flags.writeable)
    return torch.from_numpy(np.ascontiguousarray(native))


def _zeros(*size: int, device: torch.device | str) -> Tensor:
    return torch.zeros(size, dtype=torch.float64, device=device)
