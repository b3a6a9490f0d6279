"""Deep matrix completion compared: wide, compressed and narrow networks, of two depths.

The experiment of Yaras et al., arXiv 2306.01154, section 5: the compressed network ends where the
wide one does, in a fraction of the time, and does not mind a rank that is set too high.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from rhm.adapters.completion import Completion, complete_matrix
from rhm.errors import ConfigError

_SPECTRUM = 15.0
_MULTIPLES = (1, 2, 4)
_FROZEN = 0.0


@dataclass(frozen=True)
class CompletionRun:
    """One way to complete the matrix, and what came of it.

    Attributes:
        depth: number of weights.
        rank: that was asked for.
        outer_lr_ratio: rate of the outer factors relative to the others' in a compressed network.
        completion: the result; it knows the method.
    """

    depth: int
    rank: int
    outer_lr_ratio: float
    completion: Completion

    @property
    def name(self) -> str:
        """The method, and whether its outer factors are frozen."""
        frozen = self.completion.method == "compressed" and self.outer_lr_ratio == _FROZEN
        return self.completion.method + (", outer factors frozen" if frozen else "")


@dataclass(frozen=True)
class CompletionComparison:
    """All runs on one matrix.

    Attributes:
        size: of the square matrix.
        rank: of the matrix.
        known: share of its entries that is known.
        runs: in the order in which they ran.
    """

    size: int
    rank: int
    known: float
    runs: tuple[CompletionRun, ...]

    def select(
        self, *, name: str | None = None, depth: int | None = None, rank: int | None = None
    ) -> tuple[CompletionRun, ...]:
        """Return the runs of that name, depth and rank; None is any."""
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
    """Draw a matrix with ``rank`` singular values of about 15, and which entries are known.

    Returns:
        Target (size, size) and mask (size, size) bool.

    Raises:
        ConfigError: the rank is not from 1 to the size, or the share not in (0, 1].
    """
    if not 1 <= rank <= size or not 0.0 < known <= 1.0:
        raise ConfigError(
            f"rank {rank} must be from 1 to the size {size}, and the share {known} in (0, 1]"
        )
    generator = torch.Generator().manual_seed(seed)
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
    """Complete one matrix in every way.

    At the matrix's rank: full width, compressed, compressed with frozen outer factors, and narrow,
    of depth 3; full width of depth 2. Compressed of depths 2 and 3, and narrow of depth 2, which
    is the usual factorisation, also at twice and four times the rank.

    Args:
        size: of the square matrix.
        rank: of the matrix; eight times it is at most the size.
        known: share of its entries that is known.
        max_steps: of each run.
        seed: of matrix, mask and initial weights.
        on_run: called with a line on what begins.

    Raises:
        ConfigError: a setting is impossible.
    """
    if 2 * max(_MULTIPLES) * rank > size:
        raise ConfigError(
            f"a matrix of size {size} is too small to ask for {max(_MULTIPLES)} times the rank "
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
