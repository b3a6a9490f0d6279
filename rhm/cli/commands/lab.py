"""``rhm lab``: the experiments of the papers, small and quick, with their figures."""

from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rhm.cli.experiment_output import experiment_files, write_numbers
from rhm.cli.options import LARGEST_SEED, Json
from rhm.cli.output import emit, say, table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rhm.lab.layer_statistics import LayerStatistics

_LEARNED = 0.1
"""Share of the initial loss below which a network has learned something."""

app = typer.Typer(help="The experiments of the papers, small and quick.", no_args_is_help=True)


@app.command()
def shift(
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for the figure, numbers and models.")
    ] = Path("lab-shift"),
    steps: Annotated[int, typer.Option(min=2, help="Training steps of each model.")] = 120,
    seed: Annotated[
        int, typer.Option(min=0, max=LARGEST_SEED, help="Seed of the town, training and shifts.")
    ] = 0,
    json: Json = False,
) -> None:
    """Shift the colours of a town and test which augmentation makes models robust to it.

    Trains on a synthetic town and tests under families of random pixel-wise maps. Each family is
    also an augmentation; histogram matching is not told the family, and has a bank of shifted
    images that are not tested on. This is the first experiment of the paper on randomized
    histogram matching.

    Example: `rhm lab shift -o lab-shift`
    """
    from rhm.lab.controlled_shifts import SAMPLE_DOMAIN, run_controlled_shifts, sample_town
    from rhm.lab.figures.shift_figure import draw_controlled_shifts

    figure, numbers = experiment_files(output, "shift")
    say("drawing a town")
    catalog = sample_town(output, seed=seed)
    result = run_controlled_shifts(
        catalog, SAMPLE_DOMAIN, output, steps=steps, seed=seed, on_step=say
    )
    draw_controlled_shifts(result, figure)
    values = {"iou": {name: dict(iou) for name, iou in result.iou.items()}, "seed": seed}
    write_numbers(numbers, values | {"steps": steps})
    families = list(next(iter(result.iou.values())))
    lines = table(
        ["trained with", *("unshifted" if family == "none" else family for family in families)],
        [[name, *(iou[family] for family in families)] for name, iou in result.iou.items()],
    )
    emit(values | {"figure": str(figure)}, [*lines, f"figure: {figure}"], as_json=json)


@app.command()
def sphere(
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for the figure and numbers.")
    ] = Path("lab-sphere"),
    starts: Annotated[
        int, typer.Option(min=1, max=10_000, help="Number of random starts per setting.")
    ] = 20,
    seed: Annotated[int, typer.Option(min=0, max=LARGEST_SEED, help="Seed of the starts.")] = 0,
    json: Json = False,
) -> None:
    """Optimise free features and classifiers on spheres: every start ends at a simplex.

    The unconstrained feature model of Yaras et al. (NeurIPS 2022). For several numbers of
    classes K, widths d and temperatures tau, runs Riemannian gradient descent from random starts
    and computes the Hessian at minimisers and at saddle points, which have a direction of
    descent.

    Example: `rhm lab sphere -o lab-sphere`
    """
    from rhm.lab.figures.sphere_figure import draw_sphere
    from rhm.lab.landscape import run_sphere

    figure, numbers = experiment_files(output, "sphere")
    result = run_sphere(starts=starts, seed=seed)
    draw_sphere(result, figure)
    rows = result.rows()
    write_numbers(numbers, {"settings": rows, "seed": seed, "starts": starts})
    lines = table(
        [
            *("K", "d", "tau", "converged", "iterations", "distance to the simplex"),
            *("saddles", "smallest eigenvalue there", "at minimisers"),
        ],
        [
            [
                *(row["classes"], row["width"], f"{row['temperature']:g}"),
                *(f"{row['converged']} of {row['starts']}", row["iterations"]),
                *(f"{row['etf_distance']:.1e}", row["saddles"]),
                *(f"{row['saddle_eigenvalue']:.1e}", f"{row['minimiser_eigenvalue']:.1e}"),
            ]
            for row in rows
        ],
    )
    values = {"settings": rows, "seed": seed, "figure": str(figure)}
    emit(values, [*lines, f"figure: {figure}"], as_json=json)


@app.command()
def parsimony(
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for the figure and numbers.")
    ] = Path("lab-parsimony"),
    width: Annotated[int, typer.Option(min=4, max=1000, help="Width d of every layer.")] = 30,
    rank: Annotated[int, typer.Option(min=1, help="Rank r of the target.")] = 3,
    depth: Annotated[int, typer.Option(min=2, max=1000, help="Number of layers L.")] = 3,
    seed: Annotated[
        int, typer.Option(min=0, max=LARGEST_SEED, help="Seed of the target and weights.")
    ] = 0,
    json: Json = False,
) -> None:
    """Train a deep linear network: all but 2r singular vector pairs of each layer stay unchanged.

    Shows the law of parsimony (Yaras et al., arXiv 2306.01154), and a network of width 2r that
    follows the same path.

    Example: `rhm lab parsimony -o lab-parsimony`
    """
    from rhm.lab.figures.linear_figures import draw_parsimony
    from rhm.lab.parsimony import run_parsimony

    figure, numbers = experiment_files(output, "parsimony")
    result = run_parsimony(width=width, rank=rank, depth=depth, seed=seed)
    draw_parsimony(result, figure)
    layers = [
        {
            "layer": layer + 1,
            "largest_angle": float(max(left.max(), right.max())),
            "middle_spread": float(spread.max()),
            "smallest_value": float(values[-1].min()),
            "largest_value": float(values[-1].max()),
        }
        for layer, (left, right, spread, values) in enumerate(
            zip(
                result.left_angles.T,
                result.right_angles.T,
                result.middle_spread.T,
                result.singular_values.transpose(1, 0, 2),
                strict=True,
            )
        )
    ]
    values = {
        "layers": layers,
        "steps": int(result.steps[-1]),
        "first_loss": float(result.loss[0]),
        "loss": float(result.loss[-1]),
        "compressed_distance": float(result.compressed_distance.max()),
        "seed": seed,
    }
    write_numbers(numbers, values)
    lines = table(
        ["layer", "angle of the middle, rad", "spread of its values", "values at the end"],
        [
            [
                *(str(row["layer"]), f"{row['largest_angle']:.1e}", f"{row['middle_spread']:.1e}"),
                f"{row['smallest_value']:.3f} to {row['largest_value']:.3f}",
            ]
            for row in layers
        ],
    )
    learned = result.loss[-1] < _LEARNED * result.loss[0]
    lines += [
        f"the loss fell from {result.loss[0]:.1e} to {result.loss[-1]:.1e}"
        + ("" if learned else ": the network learned almost nothing, so the result is meaningless"),
        f"the network of width {2 * rank} was never further away than "
        f"{values['compressed_distance']:.1e}",
        f"figure: {figure}",
    ]
    emit(values | {"figure": str(figure)}, lines, as_json=json)


@app.command("linear-separation")
def linear_separation(
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for the figure and numbers.")
    ] = Path("lab-linear-separation"),
    depth: Annotated[
        int,
        typer.Option(min=3, max=200, help="Number of layers L of the deep linear networks."),
    ] = 6,
    steps: Annotated[
        int, typer.Option(min=1, help="Number of training steps of the non-linear networks.")
    ] = 1500,
    seeds: Annotated[int, typer.Option(min=1, help="Number of seeds.")] = 5,
    seed: Annotated[
        int, typer.Option(min=0, max=2**31, help="First seed of the data and networks.")
    ] = 0,
    json: Json = False,
) -> None:
    """Measure how layers compress the classes geometrically and separate them linearly.

    Trains deep linear networks on nearly orthogonal data, and networks of which the first layers or
    all layers are non-linear (Wang et al., JMLR 26, 2025).

    Example: `rhm lab linear-separation -o lab-linear-separation`
    """
    from rhm.lab.figures.separation_figure import draw_linear_separation
    from rhm.lab.linear_separation import run_linear_separation

    figure, numbers = experiment_files(output, "linear-separation")
    result = run_linear_separation(depth=depth, network_steps=steps, seeds=seeds, seed=seed)
    draw_linear_separation(result, figure)
    named: dict[str, Sequence[Any]] = {
        f"linear, start {networks[0].init_scale:g}": networks for networks in result.linear
    }
    named[f"linear, start {result.shared[0].init_scale:g}, shared mean"] = result.shared
    for name, trained in (("hybrid", result.hybrid), ("perceptron", result.perceptron)):
        first = trained[0]
        named[f"{name}, {first.nonlinear} of {first.layers} layers non-linear"] = trained
    rows = [_separation(name, networks) for name, networks in named.items()]
    values = {"networks": rows, "seed": seed, "seeds": seeds}
    write_numbers(numbers, values)
    lines = table(
        ["network", "loss", "slope of log C_l", "R2", "slope of D_l", "R2"],
        [
            [
                *(row["network"], f"{max(row['loss']):.1e}"),
                *(_range(row["compression_slope"]), f"{min(row['compression_r_squared']):.4f}"),
                _range(row["discrimination_slope"]),
                f"{min(row['discrimination_r_squared']):.3f}",
            ]
            for row in rows
        ],
    )
    lines.append(f"means of {seeds} seeds with the range; the worst loss and R2")
    untrained = [row["network"] for row in rows if max(row["loss"]) > _LEARNED / 2]
    lines += [f"{name}: hardly trained, so its slopes are meaningless" for name in untrained]
    emit(values | {"figure": str(figure)}, [*lines, f"figure: {figure}"], as_json=json)


def _separation(name: str, networks: "Sequence[Any]") -> dict[str, Any]:
    """Return the numbers of networks of one kind, each with one value for each seed."""
    statistics: list[LayerStatistics] = [network.statistics for network in networks]
    return {
        "network": name,
        "loss": [network.loss for network in networks],
        "compression_slope": [of.compression_fit.slope for of in statistics],
        "compression_r_squared": [of.compression_fit.r_squared for of in statistics],
        "discrimination_slope": [of.discrimination_fit.slope for of in statistics],
        "discrimination_r_squared": [of.discrimination_fit.r_squared for of in statistics],
        "minimum_norm_residual": [
            getattr(network, "minimum_norm_residual", None) for network in networks
        ],
        "compression": [of.compression.tolist() for of in statistics],
        "discrimination": [of.discrimination.tolist() for of in statistics],
        "stable_rank": [of.stable_rank.tolist() for of in statistics],
        "numerical_rank": [of.numerical_rank.tolist() for of in statistics],
    }


def _range(values: list[float]) -> str:
    mean = sum(values) / len(values)
    return f"{mean:.3g} ({min(values):.3g} to {max(values):.3g})"


@app.command("matrix-completion")
def matrix_completion(
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for the figure and numbers.")
    ] = Path("lab-matrix-completion"),
    size: Annotated[int, typer.Option(min=8, max=3000, help="Number of rows and columns.")] = 150,
    rank: Annotated[int, typer.Option(min=1, help="Rank of the matrix.")] = 5,
    known: Annotated[
        float, typer.Option(min=0.01, max=1.0, help="Share of the entries that is known.")
    ] = 0.2,
    steps: Annotated[
        int, typer.Option(min=1, help="Maximum number of training steps of each network.")
    ] = 25_000,
    seed: Annotated[
        int, typer.Option(min=0, max=LARGEST_SEED, help="Seed of the matrix and weights.")
    ] = 0,
    json: Json = False,
) -> None:
    """Complete a low-rank matrix with deep factors, full-width or compressed to width 2r.

    Compressed factors reach the same loss in a fraction of the time. At depth 3, asking for a
    higher rank than the matrix has does no harm (Yaras et al., arXiv 2306.01154).

    Example: `rhm lab matrix-completion -o lab-matrix-completion`
    """
    from rhm.lab.figures.linear_figures import draw_matrix_completion
    from rhm.lab.matrix_completion import run_matrix_completion

    figure, numbers = experiment_files(output, "matrix-completion")
    result = run_matrix_completion(
        size=size, rank=rank, known=known, seed=seed, max_steps=steps, on_run=say
    )
    draw_matrix_completion(result, figure)
    rows = [
        {
            "network": run.name,
            "depth": run.depth,
            "rank": run.rank,
            "steps": run.completion.steps[-1],
            "seconds": run.completion.seconds[-1],
            "converged": run.completion.converged,
            "train_loss": run.completion.train_loss[-1],
            "test_loss": run.completion.test_loss[-1] if known < 1.0 else None,
        }
        for run in result.runs
    ]
    values = {"runs": rows, "size": size, "rank": rank, "known": known, "seed": seed}
    write_numbers(numbers, values)
    lines = table(
        [
            *("network", "depth", "given rank", "steps", "seconds", "converged"),
            *("training loss", "test loss"),
        ],
        [
            [
                *(row["network"], row["depth"], row["rank"], row["steps"], row["seconds"]),
                *("yes" if row["converged"] else "no", f"{row['train_loss']:.1e}"),
                "-" if row["test_loss"] is None else f"{row['test_loss']:.1e}",
            ]
            for row in rows
        ],
    )
    freedom = rank * (2 * size - rank)
    if known * size**2 < freedom:
        lines.append(
            f"{known * size**2:.0f} entries are known of a matrix with {freedom} degrees of "
            "freedom: nothing can complete it"
        )
    emit(values | {"figure": str(figure)}, [*lines, f"figure: {figure}"], as_json=json)


@app.command("deep-lora")
def deep_lora(
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for the figure and numbers.")
    ] = Path("lab-deep-lora"),
    width: Annotated[int, typer.Option(min=8, max=512, help="Width of all layers.")] = 32,
    rank: Annotated[int, typer.Option(min=1, help="Rank of the change to be learned.")] = 3,
    steps: Annotated[int, typer.Option(min=1, help="Training steps of each update.")] = 2000,
    seeds: Annotated[int, typer.Option(min=1, help="Number of seeds.")] = 1,
    seed: Annotated[int, typer.Option(min=0, max=2**31, help="The first seed.")] = 0,
    json: Json = False,
) -> None:
    """Learn a low-rank change of weights with deep updates, wide or compressed, and with LoRA.

    In one linear layer, compressed updates follow the wide one (Yaras et al., ICML 2024). In a
    network with ReLU, the first gradient does not reveal all directions that the wide one takes;
    trained outer factors find them in time.

    Example: `rhm lab deep-lora --seeds 5 -o lab-deep-lora`
    """
    from rhm.lab.deep_updates import KINDS, run_deep_updates
    from rhm.lab.figures.linear_figures import draw_deep_updates, linear_losses, mean_errors

    figure, numbers = experiment_files(output, "deep-lora")
    ranks = (2 * rank, min(4 * rank, width - width % 2))
    result = run_deep_updates(
        width=width, rank=rank, ranks=ranks, steps=steps, seeds=seeds, seed=seed, on_run=say
    )
    draw_deep_updates(result, figure)
    rows = mean_errors(result)
    losses, gaps = linear_losses(result), result.gaps()
    values = {
        "errors": rows,
        "linear_losses": losses,
        "linear_gaps": gaps,
        "width": width,
        "rank": rank,
        "steps": steps,
        "seeds": seeds,
        "seed": seed,
    }
    write_numbers(numbers, values)
    header = ["samples", "given rank", *KINDS]
    cells = [[row["samples"], row["rank"], *(f"{row[kind]:.3f}" for kind in KINDS)] for row in rows]
    about = f"test loss / without update, mean over seeds; the change has rank {rank}"
    ends = ", ".join(f"{kind} {fmean(each):.1e}" for kind, each in losses.items())
    linear = [
        f"one linear layer: training loss / at the start, mean over seeds: {ends}",
        f"at all recorded steps, wide and compressed differ by at most {max(gaps):.1e}",
    ]
    shown = [*linear, about, *table(header, cells), f"figure: {figure}"]
    emit(values | {"figure": str(figure)}, shown, as_json=json)
