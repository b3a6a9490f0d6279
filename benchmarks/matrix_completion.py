"""Deep matrix completion, single-threaded: wide, compressed, and compressed by autograd.

    python benchmarks/matrix_completion.py             # times, memory, compression: 2 minutes
    python benchmarks/matrix_completion.py --to-the-end     # and test errors: half an hour
    python benchmarks/matrix_completion.py --seeds 5   # five smaller matrices to the end: an hour

Networks of depth 3 with an initial scale of 0.001 complete a 1000 x 1000 matrix of rank 5, of which
20 % is known. The wide network is implemented efficiently: it reuses partial products, its gradient
is written by hand, and it steps in place, so that it spends nine tenths of its time in six products
of 1000 x 1000 matrices. Every method runs in a separate process on one thread. The peak memory of
a compressed network is that of its start, which needs the wide weights once; ``narrow`` shows what
the descent itself needs.
"""

import argparse
import json
import os
import subprocess
import sys

os.environ["OMP_NUM_THREADS"] = "1"

import resource
import time
from collections.abc import Callable

import numpy as np
import torch
from machine import machine, mean_and_interval, medians_ms

from rhm.adapters.completion import complete_matrix
from rhm.adapters.descent import DenseResidual, SparseResidual
from rhm.adapters.linear_network import active_subspace
from rhm.adapters.subspace import principal_angles
from rhm.adapters.weights import first_gradient, orthogonal_weights
from rhm.lab.matrix_completion import low_rank_problem

SIZE, RANK, KNOWN = 1000, 5, 0.2
SMALLER = 500
"""Size of the matrices that are completed with several seeds."""
LAYER, LAYER_RANK = 2048, 8
STEPS = {"full": 40, "compressed": 1000, "narrow": 1000, "autograd": 100}
"""Number of steps that are timed, by method."""


def autograd(target: torch.Tensor, mask: torch.Tensor, steps: int) -> float:
    """Train the compressed network by autograd and return the seconds per step."""
    known = mask.to(target.dtype)
    start = complete_matrix(target, mask, rank=RANK, max_steps=1, record_every=1)
    factors = [factor.clone().requires_grad_() for factor in start.factors]
    rates = [0.01, *[1.0] * (len(factors) - 2), 0.01]
    begun = time.perf_counter()
    for _ in range(steps):
        product = factors[0]
        for factor in factors[1:]:
            product = factor @ product
        loss = 0.5 * (known * (product - target)).square().mean()
        gradients = torch.autograd.grad(loss, factors)
        with torch.no_grad():
            for factor, gradient, rate in zip(factors, gradients, rates, strict=True):
                factor -= rate * start.step_size * gradient
    return (time.perf_counter() - begun) / steps


def measure(method: str, dtype: torch.dtype) -> dict[str, float]:
    """Return the start-up time, time per step, and peak memory beyond the data of a method."""
    target, mask = low_rank_problem(SIZE, RANK, KNOWN, dtype=dtype)
    torch.randn(SIZE, SIZE, dtype=dtype) @ target[:, :1]  # libraries loaded, threads started
    before = _peak_mib()
    if method == "autograd":
        return {
            "ms": 1000.0 * autograd(target, mask, STEPS[method]),
            "start_s": float("nan"),
            "peak_mib": _peak_mib() - before,
        }
    steps = STEPS[method]
    result = complete_matrix(
        target, mask, rank=RANK, method=method, max_steps=steps, record_every=steps
    )
    return {
        "ms": 1000.0 * result.seconds_per_step,
        "start_s": result.seconds[0],
        "peak_mib": _peak_mib() - before,
    }


def finish(method: str, dtype: torch.dtype, *, size: int = SIZE, seed: int = 0) -> dict[str, float]:
    """Train until the training loss is below 1e-9 and then 1e-12; return both results.

    A method that does not get there within 30 000 steps returns where it was after these.
    The seed draws the matrix, the known entries and the initial weights.
    """
    target, mask = low_rank_problem(size, RANK, KNOWN, seed=seed, dtype=dtype)
    result = complete_matrix(
        target,
        mask,
        rank=RANK,
        method=method,
        max_steps=30_000,
        record_every=20,
        stop_train_loss=1e-12,
        seed=seed,
    )
    below = [n for n, loss in enumerate(result.train_loss) if loss < 1e-9]
    first = below[0] if below else -1
    return {
        "reached": float(bool(below)),
        "steps": result.steps[first],
        "seconds": result.seconds[first],
        "train_loss": result.train_loss[first],
        "test_loss": result.test_loss[first],
        "last_train_loss": result.train_loss[-1],
        "last_test_loss": result.test_loss[-1],
        "first_test_loss": result.test_loss[0],
    }


def compression(dtype: torch.dtype) -> None:
    """Print the times for compressing a layer, and the angle between the subspaces."""
    target, mask = low_rank_problem(LAYER, LAYER_RANK, KNOWN, dtype=dtype)
    generator = torch.Generator().manual_seed(1)
    weights = orthogonal_weights([LAYER] * 4, 1e-3, generator=generator, dtype=dtype)
    gradient = first_gradient(weights, torch.where(mask, -target, torch.zeros_like(target)))
    found: dict[bool, torch.Tensor] = {}

    def compress(exact: bool) -> Callable[[], None]:
        def run() -> None:
            found[exact] = active_subspace(weights[0], gradient, LAYER_RANK, exact=exact)

        return run

    times = medians_ms({"full SVD": compress(True), "randomised": compress(False)}, runs=3)
    angle = float(principal_angles(found[True].double(), found[False].double())[0])
    print(
        f"active subspace of a {LAYER} x {LAYER} layer, rank {LAYER_RANK}, {dtype}: "
        f"full SVD {times['full SVD']:.0f} ms, randomised {times['randomised']:.0f} ms "
        f"({times['full SVD'] / times['randomised']:.0f} times faster), "
        f"largest principal angle {angle:.1e}"
    )


def residuals(dtype: torch.dtype) -> None:
    """Print the times of the residual's two products, blocked and sparse, by known share."""
    for known in (0.01, 0.02, 0.05, 0.1, 0.2):
        target, mask = low_rank_problem(SIZE, RANK, known, dtype=dtype)
        left, right = target[:, : 2 * RANK].contiguous(), target[: 2 * RANK].contiguous()
        dense, sparse = DenseResidual(target, mask), SparseResidual(target, mask)
        times = medians_ms(
            {
                "dense": lambda d=dense, a=left, b=right: d.products(a, b),
                "sparse": lambda s=sparse, a=left, b=right: s.products(a, b),
            }
        )
        print(
            f"residual, {known:4.0%} known, {dtype}: blocked {times['dense']:5.2f} ms, "
            f"sparse {times['sparse']:5.2f} ms"
        )


def over_seeds(seeds: int) -> None:
    """Print, for smaller matrices, how methods end and how they compare with the full network."""
    ends: dict[str, list[dict[str, float]]] = {
        name: [] for name in ("full", "compressed", "narrow")
    }
    for seed in range(seeds):
        for name, found in ends.items():
            found.append(finish(name, torch.float32, size=SMALLER, seed=seed))
            print(f"seed {seed}, {name}: {found[-1]}", flush=True)
    print("\n".join(ends_table(ends)))


def ends_table(ends: dict[str, list[dict[str, float]]]) -> list[str]:
    """Return a table of how methods ended; losses are geometric means over seeds.

    Where some do not get there, their number of steps is not known, and there is no interval.
    """
    lines = [
        f"{SMALLER} x {SMALLER}, rank {RANK}, {KNOWN:.0%} known, float32\n",
        "| method | below 1e-9 | steps to it, at most 30 000 | training loss at the end | "
        "test loss | test over training loss |",
        "|---" * 6 + "|",
    ]
    for name, found in ends.items():
        column = {key: np.array([end[key] for end in found]) for key in found[0]}
        train, test = column["last_train_loss"], column["last_test_loss"]
        there = column["reached"] > 0
        steps = f"{column['steps'][there].mean():.0f} where it does" if there.any() else ""
        lines.append(
            f"| {name} | {column['reached'].sum():.0f} of {len(found)} | "
            f"{plain(column['steps'], 0) if there.all() else steps} | {geometric(train)} | "
            f"{geometric(test)} | "
            f"{plain(test / train, 1)} |"
        )
    return lines


def plain(values: np.ndarray, digits: int) -> str:
    """Return the mean of positive values and its 95 % interval, for a table."""
    return mean_and_interval(values, digits).replace("+", "")


def geometric(losses: np.ndarray) -> str:
    """Return the geometric mean of losses, for a table."""
    return f"{np.exp(np.log(losses).mean()):.1e}"


def child(task: str, method: str, dtype: str) -> dict[str, float]:
    """Run a task in a separate process, so that its memory can be measured."""
    finished = subprocess.run(
        [sys.executable, __file__, "--child", task, method, dtype],
        capture_output=True,
        text=True,
        check=True,
    )
    measured: dict[str, float] = json.loads(finished.stdout.splitlines()[-1])
    return measured


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--to-the-end", action="store_true", help="also train until convergence")
    parser.add_argument("--seeds", type=int, help="only complete so many smaller matrices")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    if asked.child:
        task, method, dtype = asked.child
        work = {"measure": measure, "finish": finish}[task]
        print(json.dumps(work(method, getattr(torch, dtype))))
        return
    print(machine("torch", "numpy"))
    if asked.seeds:
        over_seeds(asked.seeds)
        return
    times()
    if asked.to_the_end:
        for name in ("compressed", "full"):
            values = child("finish", name, "float32")
            print(
                f"float32 {name:<11} {values['steps']:6.0f} steps, {values['seconds']:7.1f} s: "
                f"train loss {values['train_loss']:.1e}, test loss {values['test_loss']:.1e}; "
                f"at the end {values['last_train_loss']:.1e}, {values['last_test_loss']:.1e} "
                f"(at the start {values['first_test_loss']:.1e})",
                flush=True,
            )


def times() -> None:
    """Print the times and memory of all methods."""
    for dtype in ("float32", "float64"):
        measured = {name: child("measure", name, dtype) for name in STEPS}
        for name, values in measured.items():
            print(
                f"{dtype} {name:<11} {values['ms']:8.2f} ms per step, "
                f"{measured['full']['ms'] / values['ms']:6.1f} times faster, "
                f"start {values['start_s']:5.2f} s, "
                f"peak {values['peak_mib']:5.0f} MiB above its data"
            )
    for kind in (torch.float32, torch.float64):
        compression(kind)
        residuals(kind)


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024.0


if __name__ == "__main__":
    main()
