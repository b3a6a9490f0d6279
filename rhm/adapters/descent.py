"""Hand-written gradient descent on a product of matrices whose result is partly known.

The loss is ``1/2 mean (mask * (F_m ... F_1 - target))^2`` over all entries. Its gradient with
respect to a factor needs only two products of the residual: with the last factor, and with the
product of the others. For thin factors, these cost one pass over the residual, and everything else
costs almost nothing. The residual is computed in blocks of rows that stay in the cache until they
are used or, if few entries are known, only at the known entries.
``benchmarks/matrix_completion.py`` measures which form is faster.
"""

import warnings
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

SPARSE_BELOW = 0.05
"""Share of known entries below which the residual is computed only at these."""

_BLOCK_BYTES = 2**19
_WIDE = 0.25


class Residual(Protocol):
    """Products of ``R = mask * (left @ right - target)``, (m, n), without storing R as a whole."""

    def products(self, left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``R right^T`` (m, k) and ``left^T R`` (k, n), of left (m, k), right (k, n)."""


class DenseResidual:
    """The residual in blocks of rows.

    Args:
        target: (m, n); only known entries are read.
        mask: (m, n) bool, true where the target is known.
    """

    def __init__(self, target: Tensor, mask: Tensor) -> None:
        self.known = mask.to(target.dtype)
        self.negative = torch.where(mask, -target, torch.zeros_like(target))

    def products(self, left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``R right^T`` (m, k) and ``left^T R`` (k, n)."""
        rows, columns = self.known.shape
        size = _block_rows(left, columns)
        buffer = left.new_empty(min(size, rows), columns)
        onto_rows = torch.empty_like(left)
        onto_columns = torch.zeros_like(right)
        for start in range(0, rows, size):
            block = slice(start, min(start + size, rows))
            some = left[block]
            residual = buffer[: len(some)]
            torch.mm(some, right, out=residual)
            torch.addcmul(self.negative[block], residual, self.known[block], out=residual)
            torch.mm(residual, right.T, out=onto_rows[block])
            onto_columns.addmm_(some.T, residual)
        return onto_rows, onto_columns


class SparseResidual:
    """The residual at the known entries only.

    Args:
        target: (m, n); only known entries are read.
        mask: (m, n) bool, true where the target is known.
    """

    def __init__(self, target: Tensor, mask: Tensor) -> None:
        self.shape = target.shape
        rows, columns = mask.nonzero(as_tuple=True)
        by_column = mask.T.nonzero(as_tuple=True)[0]
        self.order = torch.argsort(columns, stable=True)
        self.transposed = (_offsets(by_column, target.shape[1]), rows[self.order])
        # torch warns once per process that its CSR layout is in beta.
        with warnings.catch_warnings(action="ignore", category=UserWarning):
            self.known = torch.sparse_csr_tensor(
                _offsets(rows, target.shape[0]), columns, target[rows, columns], target.shape
            )

    def products(self, left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``R right^T`` (m, k) and ``left^T R`` (k, n)."""
        residual = torch.sparse.sampled_addmm(self.known, left, right, beta=-1.0)
        offsets, indices = self.transposed
        turned = torch.sparse_csr_tensor(
            offsets, indices, residual.values()[self.order], self.shape[::-1]
        )
        return residual @ right.T, (turned @ left).T


def residual_of(target: Tensor, mask: Tensor) -> Residual:
    """Return the residual in the form that is fastest for the share of known entries.

    Args:
        target: (m, n).
        mask: (m, n) bool.
    """
    known = float(mask.double().mean())
    if known < SPARSE_BELOW and (target.is_cuda or torch.backends.mkl.is_available()):  # type: ignore[no-untyped-call]
        return SparseResidual(target, mask)
    return DenseResidual(target, mask)


def descend(factors: Sequence[Tensor], residual: Residual, steps: Sequence[float]) -> None:
    """Take one step of gradient descent, in place.

    Args:
        factors: ``F_1`` (k, n) to ``F_m`` (m, k), at least two; they are changed.
        residual: residual of which the loss is half the sum of squares.
        steps: step size of each factor; a factor with step 0 does not change.
    """
    partial = [factors[0]]
    for factor in factors[1:-1]:
        partial.append(factor @ partial[-1])
    gradient, back = residual.products(factors[-1], partial[-1])
    if steps[-1]:
        factors[-1].sub_(gradient, alpha=steps[-1])
    for index in range(len(factors) - 2, 0, -1):
        further = factors[index].T @ back
        if steps[index]:
            factors[index].addmm_(back, partial[index - 1].T, alpha=-steps[index])
        back = further
    if steps[0]:
        factors[0].sub_(back, alpha=steps[0])


def losses(factors: Sequence[Tensor], target: Tensor, mask: Tensor) -> tuple[float, float]:
    """Return half the mean over all entries of the squared residual, at known and other entries.

    Args:
        factors: ``F_1`` to ``F_m``.
        target: (m, n); if an unknown entry is NaN, so is the loss at the unknown entries.
        mask: (m, n) bool.

    Returns:
        Training loss at the known entries, and test loss at the others.
    """
    right = factors[0]
    for factor in factors[1:-1]:
        right = factor @ right
    size = _block_rows(factors[-1], target.shape[1])
    zero = target.new_zeros(())
    train, test = 0.0, 0.0
    for start in range(0, target.shape[0], size):
        block = slice(start, start + size)
        squares = (factors[-1][block] @ right).sub_(target[block]).square_()
        train += float(torch.where(mask[block], squares, zero).sum(dtype=torch.float64))
        test += float(torch.where(mask[block], zero, squares).sum(dtype=torch.float64))
    return 0.5 * train / target.numel(), 0.5 * test / target.numel()


def _block_rows(left: Tensor, columns: int) -> int:
    """Return how many rows of the residual fit into the cache, or all if the factors are wide.

    Wide factors do not fit into the cache beside the block, and their products need all rows at
    once.
    """
    if left.is_cuda or left.shape[1] > _WIDE * columns:
        return len(left)
    return max(1, _BLOCK_BYTES // (columns * left.element_size()))


def _offsets(indices: Tensor, size: int) -> Tensor:
    counts = torch.bincount(indices, minlength=size)
    return torch.cat([counts.new_zeros(1), counts.cumsum(0)])
