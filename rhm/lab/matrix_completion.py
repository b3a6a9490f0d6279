"""Comparison of wide, compressed and narrow networks of two depths for matrix completion.

This is the experiment of Yaras et al., arXiv 2306.01154, section 5: the compressed network reaches
the result of the wide network in a fraction of the time, and is insensitive to a rank that is too
high.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from rhm.adapters.completion import Completion, complete_matrix
from rhm.errors import ConfigError
from rhm.lab.seeds import part_seed

_SPECTRUM = 15.0
_MULTIPLES = (1, 2, 4)
_FROZEN = 0.0


@dataclass(frozen=True)
class CompletionRun:
    """One method of completing the matrix, and its result.

    Attributes:
        depth: number of weights.
        rank: the given rank.
        outer_lr_ratio: rate of the outer factors of a compressed network relative to the others.
        completion: the result, which includes the method.
    """

    depth: int
    rank: int
    outer_lr_ratio: float
    completion: Completion

    @property
    def name(self) -> str:
        """Name of the method, with a note if its outer factors are frozen."""
        frozen = self.completion.method == "compressed" and self.outer_lr_ratio == _FROZEN
        return self.completion.method + (", outer factors frozen" if frozen else "")


@dataclass(frozen=True)
class CompletionComparison:
    """All runs on one matrix.

    Attributes:
        size: number of rows and columns of the matrix.
        rank: rank of the matrix.
        known: share of its entries that is known.
        runs: the runs, in their order.
    """

    size: int
    rank: int
    known: float
    runs: tuple[CompletionRun, ...]

    def select(
        self, *, name: str | None = None, depth: int | None = None, rank: int | None = None
    ) -> tuple[CompletionRun, ...]:
        """Return the runs of a name, depth and rank; None matches any."""
        return tuple(
            run
            for run in self.runs
            if name in (None, run.name) and depth in (None, run.depth) and rank in (None, run.rank)
        )


def low_rank_problem(
    size: int,
    rank: int,
    known: float,
    *,
    seed: int = 0,
    dtype: torch.dtype = torch.float64,
) -> tuple[Tensor, Tensor]:
    """Draw a matrix with ``rank`` singular values of about 15, and a mask of known entries.

    Returns:
        Target (size, size) and mask (size, size) bool.

    Raises:
        ConfigError: the rank is not from 1 to the size, or the share not in (0, 1].
    """
    if not 1 <= rank <= size or not 0.0 < known <= 1.0:
        raise ConfigError(
            f"rank {rank} must be from 1 to the size {size}, and the share {known} in (0, 1]"
        )
    generator = torch.Generator().manual_seed(part_seed(seed, "matrix"))
    left, right = torch.randn(2, size, rank, generator=generator, dtype=torch.float64)
    target = _SPECTRUM * left @ right.T / size
    return target.to(dtype), torch.rand(size, size, generator=generator) < known


def run_matrix_completion(
    *,
    size: int = 150,
    rank: int = 5,
    known: float = 0.2,
    max_steps: int = 25_000,
    seed: int = 0,
    on_run: Callable[[str], None] | None = None,
) -> CompletionComparison:
    """Complete one matrix with every method.

    With the rank of the matrix, the runs are: full width, compressed, compressed with frozen outer
    factors, and narrow at depth 3, and full width at depth 2. Compressed at depths 2 and 3, and
    narrow at depth 2, which is the usual factorisation, are also run with twice and four times the
    rank.

    Args:
        size: number of rows and columns of the matrix.
        rank: rank of the matrix; eight times the rank is at most the size.
        known: share of its entries that is known.
        max_steps: maximum number of steps of each run.
        seed: seed of the matrix, the mask and the initial weights.
        on_run: function that is called with a message when a run starts.

    Raises:
        ConfigError: a setting is out of range.
    """
    if 2 * max(_MULTIPLES) * rank > size:
        raise ConfigError(
            f"a matrix of size {size} is too small for {max(_MULTIPLES)} times the rank "
            f"{rank}: choose a size of at least {2 * max(_MULTIPLES) * rank}"
        )
    target, mask = low_rank_problem(size, rank, known, seed=seed)
    runs = []
    for method, depth, asked, ratio in _plan(rank):
        if on_run is not None:
            on_run(f"{method}, depth {depth}, rank {asked}")
        completion = complete_matrix(
            target,
            mask,
            rank=asked,
            depth=depth,
            method=method,
            outer_lr_ratio=ratio,
            max_steps=max_steps,
            seed=seed,
        )
        runs.append(CompletionRun(depth, asked, ratio, completion))
    return CompletionComparison(size, rank, known, tuple(runs))


def _plan(rank: int) -> list[tuple[str, int, int, float]]:
    """Return method, depth, rank and rate of the outer factors of each run."""
    usual = 0.01
    plan = [
        ("full", 3, rank, usual),
        ("full", 2, rank, usual),
        ("compressed", 3, rank, _FROZEN),
        ("narrow", 3, rank, usual),
    ]
    for multiple in _MULTIPLES:
        asked = multiple * rank
        plan += [
            ("compressed", 3, asked, usual),
            ("compressed", 2, asked, usual),
            ("narrow", 2, asked, usual),
        ]
    return plan
