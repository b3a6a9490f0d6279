"""The law of parsimony beyond its theorem: where it holds, and how far it carries.

    python benchmarks/parsimony.py law           # which part of an update is outside 2r directions
    python benchmarks/parsimony.py completion    # matrices with few known entries, and with noise

``law``: a network of three layers of width 30 learns a linear map of rank 3. The theorem is for
whitened data, plain gradient descent and linear layers; each is changed here. What a layer has
learned is its difference from a multiple of its initial weights. By the theorem, that has rank 2r
at most; the table says which share of its energy lies outside its 2r largest directions.

``completion``: a matrix of rank 4 is completed by compressed networks of depth 2 and 3 that are
given one, two and four times its rank, without and with noise in the known entries.

Every cell is the mean of five seeds, with the lowest and the highest.
"""

import argparse
import itertools
import os
from collections.abc import Callable, Iterable, Sequence

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from machine import machine
from scipy.optimize import minimize_scalar
from torch import Tensor, nn

from rhm.adapters.completion import complete_matrix
from rhm.adapters.weights import orthogonal_weights
from rhm.lab.matrix_completion import low_rank_problem
from rhm.lab.parsimony import low_rank_target

SEEDS = range(5)
WIDTH, RANK, DEPTH = 30, 3, 3
SAMPLES = 300
LAW_STEPS, COMPLETION_STEPS = 5000, 20_000
"""Most steps of a network."""

ROUNDING = 1e-20
LEARNED = 1e-3
"""Share of the initial loss at which a network counts as trained."""

SIZE, SIZE_RANK = 400, 4
KNOWN = (0.05, 0.1, 0.15)
NOISE = (0.0, 0.1)
MULTIPLES = (1, 2, 4)

OPTIMISERS: dict[str, Callable[[Iterable[Tensor]], torch.optim.Optimizer]] = {
    "gradient descent": lambda weights: torch.optim.SGD(weights, 0.02),
    "momentum 0.9": lambda weights: torch.optim.SGD(weights, 0.002, momentum=0.9),
    "Adam": lambda weights: torch.optim.Adam(weights, 0.002),
}
ACTIVATIONS: dict[str, nn.Module] = {
    "linear": nn.Identity(),
    "tanh": nn.Tanh(),
    "GELU": nn.GELU(),
    "ReLU": nn.ReLU(),
}


def main() -> None:
    """Print one of the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("table", choices=["law", "completion"])
    asked = parser.parse_args()
    torch.set_num_threads(1)
    print(machine("torch", "numpy") + "\n")
    print("\n".join(law() if asked.table == "law" else completion()))


def law() -> list[str]:
    """Return the table of updates outside 2r directions, one row per departure."""
    cases = [
        ("the theorem", "gradient descent", 1.0, "linear", 0.3),
        ("smaller start", "gradient descent", 1.0, "linear", 0.1),
        ("momentum", "momentum 0.9", 1.0, "linear", 0.3),
        ("Adam", "Adam", 1.0, "linear", 0.3),
        ("condition 10", "gradient descent", 10.0, "linear", 0.3),
        ("condition 100", "gradient descent", 100.0, "linear", 0.3),
        ("condition 100, smaller start", "gradient descent", 100.0, "linear", 0.1),
        ("tanh", "gradient descent", 1.0, "tanh", 0.3),
        ("GELU", "gradient descent", 1.0, "GELU", 0.3),
        ("ReLU", "gradient descent", 1.0, "ReLU", 0.3),
        ("ReLU, usual start", "gradient descent", 1.0, "ReLU", 2.0**0.5),
        ("ReLU, usual start, Adam", "Adam", 1.0, "ReLU", 2.0**0.5),
    ]
    rows = ["| case | first layer | middle layer | last layer | loss left | steps |"]
    rows.append("|---|---|---|---|---|---|")
    noise = _range([100.0 * _unstructured(seed) for seed in SEEDS])
    rows.append(f"| random numbers, to compare | {noise} % | {noise} % | {noise} % | | |")
    print("\n".join(rows), flush=True)
    for name, optimiser, condition, activation, scale in cases:
        runs = [learn(optimiser, condition, activation, scale, seed) for seed in SEEDS]
        outside, left, steps = zip(*runs, strict=True)
        layers = [_range([100.0 * each[layer] for each in outside]) for layer in range(DEPTH)]
        cells = [*(f"{each} %" for each in layers), f"{np.mean(left):.1e}", f"{np.mean(steps):.0f}"]
        rows.append(f"| {name} | {' | '.join(cells)} |")
        print(rows[-1], flush=True)
    return ["", *rows]


def learn(
    optimiser: str, condition: float, activation: str, scale: float, seed: int
) -> tuple[list[float], float, int]:
    """Train one network; return the outside share of each layer, the loss left, and the steps."""
    target = low_rank_target(WIDTH, RANK, seed=seed)
    generator = torch.Generator().manual_seed(seed + 100)
    widths = [WIDTH] * (DEPTH + 1)
    start = orthogonal_weights(widths, scale, generator=generator, dtype=torch.float64)
    weights = [weight.clone().requires_grad_() for weight in start]
    inputs = samples(condition, seed)
    between = ACTIVATIONS[activation]
    steps = OPTIMISERS[optimiser](weights)
    losses: list[float] = []
    while len(losses) < LAW_STEPS:
        hidden = inputs
        for weight in weights[:-1]:
            hidden = between(hidden @ weight.mT)
        loss = 0.5 * (hidden @ weights[-1].mT - inputs @ target.mT).square().sum() / len(inputs)
        losses.append(loss.item())
        if losses[-1] < LEARNED * losses[0]:
            break
        steps.zero_grad()
        loss.backward()
        steps.step()
    outside = [_outside(now.detach(), before) for now, before in zip(weights, start, strict=True)]
    return outside, losses[-1] / losses[0], len(losses) - 1


def samples(condition: float, seed: int) -> Tensor:
    """Return inputs (n, d) whose second moments have eigenvalues from 1 down to 1 / condition.

    They are exact, so that data of condition 1 are whitened as the theorem has them.
    """
    generator = torch.Generator().manual_seed(seed + 200)
    drawn = torch.randn(SAMPLES, WIDTH, generator=generator, dtype=torch.float64)
    turn = torch.linalg.qr(torch.randn(WIDTH, WIDTH, generator=generator, dtype=torch.float64)).Q
    spectrum = torch.logspace(0.0, -np.log10(condition), WIDTH, dtype=torch.float64).sqrt()
    white = torch.linalg.qr(drawn).Q * SAMPLES**0.5
    found: Tensor = white * spectrum @ turn.mT
    return found


def _outside(now: Tensor, before: Tensor) -> float:
    """Return the share of the energy of an update outside its 2r largest directions.

    The update is the difference from that multiple of the initial weights that leaves the least.
    """

    def energies(multiple: float) -> Tensor:
        found: Tensor = torch.linalg.svdvals(now - multiple * before).square()
        return found

    best = minimize_scalar(
        lambda multiple: float(energies(multiple)[2 * RANK :].sum()), bounds=(-0.5, 1.5)
    )
    energy = energies(best.x)
    return float(energy[2 * RANK :].sum() / energy.sum())


def _unstructured(seed: int) -> float:
    """Return the share of the energy of random numbers outside their 2r largest directions."""
    generator = torch.Generator().manual_seed(seed)
    energy = torch.linalg.svdvals(torch.randn(WIDTH, WIDTH, generator=generator)).square()
    return float(energy[2 * RANK :].sum() / energy.sum())


def completion() -> list[str]:
    """Return the table of errors on unknown entries, as shares of their root mean square."""
    asked = [f"depth {depth}, {m} x rank" for depth in (2, 3) for m in MULTIPLES]
    rows = [f"| known | noise | {' | '.join(asked)} |", "|---|---|" + "---|" * len(asked)]
    for noise, known in itertools.product(NOISE, KNOWN):
        cells = []
        for depth, multiple in itertools.product((2, 3), MULTIPLES):
            errors = [100.0 * complete(known, noise, depth, multiple, seed) for seed in SEEDS]
            cells.append(f"{_range(errors)} %")
        rows.append(f"| {100 * known:.0f} % | {100 * noise:.0f} % | {' | '.join(cells)} |")
        print(rows[-1], flush=True)
    return ["", *rows]


def complete(known: float, noise: float, depth: int, multiple: int, seed: int) -> float:
    """Return the relative error on unknown entries of one completion."""
    target, mask = low_rank_problem(SIZE, SIZE_RANK, known, seed=seed, dtype=torch.float32)
    generator = torch.Generator().manual_seed(seed + 300)
    spread = noise * target.square().mean().sqrt()
    seen = target + spread * torch.randn(target.shape, generator=generator)
    found = complete_matrix(
        seen, mask, rank=multiple * SIZE_RANK, depth=depth, max_steps=COMPLETION_STEPS, seed=seed
    )
    missed = (found.product() - target)[~mask].square().mean()
    return float((missed / target[~mask].square().mean()).sqrt())


def _range(values: Sequence[float]) -> str:
    """Return the mean of values with the lowest and the highest; rounding errors are zero."""
    if max(values) < ROUNDING:
        return "0"
    return f"{np.mean(values):.2g} ({min(values):.2g} to {max(values):.2g})"


if __name__ == "__main__":
    main()
