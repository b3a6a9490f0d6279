"""Matrices of low rank, known in part."""

import functools
from collections.abc import Sequence

import torch
from torch import Tensor


def problem(
    rows: int, columns: int, rank: int, known: float, *, seed: int = 0
) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    left = torch.randn(rows, rank, generator=generator, dtype=torch.float64)
    right = torch.randn(rank, columns, generator=generator, dtype=torch.float64)
    return left @ right, torch.rand(rows, columns, generator=generator) < known


def low_rank(rows: int, columns: int, rank: int, *, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    left = torch.randn(rows, rank, generator=generator, dtype=torch.float64)
    right = torch.randn(rank, columns, generator=generator, dtype=torch.float64)
    matrix: Tensor = left @ right / (rows * columns) ** 0.25
    return matrix


def product(factors: Sequence[Tensor]) -> Tensor:
    return functools.reduce(lambda before, factor: factor @ before, factors)
