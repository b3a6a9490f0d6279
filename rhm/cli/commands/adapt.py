"""``rhm adapt`` and ``rhm merge``."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rhm.cli.options import (
    BatchSize,
    CatalogFile,
    Domains,
    Json,
    ModelPath,
    ResumeRun,
    TargetBank,
)
from rhm.cli.output import emit, shows_progress
from rhm.cli.output_files import Overwrite, check_output
from rhm.cli.training_output import continues, finished_run
from rhm.models.named_models import model_file

if TYPE_CHECKING:
    import pandas

    from rhm.training.config import RunConfig
    from rhm.training.run import Run

_STEPS = 300
_VALIDATIONS = 6


def adapt(
    model: ModelPath,
    catalog: CatalogFile,
    domains: Domains = None,
    method: Annotated[
        str | None,
        typer.Option(
            help="Method. With labels: deep-lora (default), lora, head, bitfit, batch-norm or "
            "full. With --unlabelled: threshold (default), adabn, entropy, mean-teacher or "
            "shot.",
        ),
    ] = None,
    unlabelled: Annotated[
        bool,
        typer.Option(
            "--unlabelled",
            help="Adapt to the images of --domain alone, or of the only domain of the catalog: no "
            "label is read, and no source image is needed.",
        ),
    ] = False,
    train: Annotated[
        str | None,
        typer.Option(
            help="What --unlabelled trains: deep-lora, batch-norm (default for entropy) or full."
        ),
    ] = None,
    rank: Annotated[
        int | None,
        typer.Option(min=1, help="Rank of low-rank updates (deep-lora, lora). Default: 8."),
    ] = None,
    targets: Annotated[
        list[str] | None,
        typer.Option(
            "--target",
            help="Layers that get low-rank updates: all, encoder, attention, pointwise, or a glob "
            "of layer names. Globs can be repeated.",
        ),
    ] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Number of optimiser steps. Default: 300.")
    ] = None,
    batch_size: BatchSize = 8,
    chip: Annotated[
        int,
        typer.Option(min=32, help="Side of a chip in pixels, a multiple of 32 up to 4096."),
    ] = 256,
    learning_rate: Annotated[
        float | None,
        typer.Option(
            help="Learning rate, above 0 and below 10. The default depends on the method."
        ),
    ] = None,
    bank: TargetBank = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="Setting such as adapter.outer_lr_ratio=0. Can be repeated."),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Name of the run. Default: model, domain and method.")
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for runs.")] = Path("runs"),
    seed: Annotated[int, typer.Option(min=0, help="Seed of the run.")] = 0,
    resume: ResumeRun = False,
    json: Json = False,
) -> None:
    """Adapt a model to another place, with a few labelled images of it or with none.

    Only a small part of the model is trained and written to a small file beside the adapted
    model; the rest stays unchanged. If the catalog has validation images of the domain, the
    checkpoint of the best validation is kept.

    Example: `rhm adapt runs/inria-rhm catalog.parquet --domain kampala --unlabelled`
    """
    from rhm.evaluation.footprint_precision import calibrate_scores
    from rhm.training.adaptation import AdapterConfig
    from rhm.training.config import parse_config, put_settings
    from rhm.training.fitting import fit

    tree: dict[str, Any] = {
        "output": str(output),
        "seed": seed,
        "data": {"catalog": str(catalog), "chip_px": chip},
        "trainer": {"steps": steps or _STEPS, "batch_size": batch_size},
    }
    if unlabelled:
        tree |= _without_labels(model, domains or _only_domain(catalog), method, train)
    else:
        if train is not None:
            raise typer.BadParameter("--train applies to --unlabelled: choose a --method instead")
        tree |= _with_labels(model, method)
        tree["data"]["sources"] = domains or []
    tree["adapter"]["rank"] = rank or AdapterConfig.rank
    if name is not None:
        tree["name"] = name
    if learning_rate is not None:
        tree["optimizer"] = {"learning_rate": learning_rate}
    if targets:
        tree["adapter"]["targets"] = targets[0] if len(targets) == 1 else targets
    if bank is not None:
        tree["augment"] = _with_bank(tree, bank)
    put_settings(tree, settings or ())
    augment = tree.get("augment")
    if isinstance(augment, dict) and augment.get("bank"):
        # The recipe of training is not measured with few labelled chips.
        tree["augment"] = {"colour": "rhm"} | augment
    _complete(tree, model)
    config = parse_config(tree, origin="rhm adapt")
    if config.adapter.base != str(model):
        raise typer.BadParameter("adapter.base cannot be set: it is the model of the command line")
    given = {
        "--steps": steps,
        "--learning-rate": learning_rate,
        "--rank": rank,
        "--target": targets,
    }
    _refuse_unused([word for word, value in given.items() if value is not None], config)
    run = fit(
        config,
        resume=continues(config, resume=resume),
        progress=shows_progress(quiet=json),
        calibrate=calibrate_scores,
    )
    if not run.config.trainer.is_main_process:
        return  # the process that launched this one prints the result
    _report(run, as_json=json)


def merge(
    model: ModelPath,
    adapter: Annotated[Path, typer.Argument(help="Adapter file that was trained for this model.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Model file to write.")],
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Merge an adapter into its model. The result is one file, like any other model.

    Example: `rhm merge runs/inria-rhm kampala.safetensors -o kampala-model.safetensors`
    """
    needed = (model_file(model), adapter, adapter / "adapter.safetensors")
    check_output(output, (".safetensors",), needed=needed, overwrite=overwrite)
    from rhm.models.model_file import load_model, save_model

    save_model(load_model(model, adapter=adapter), output)
    emit({"model": str(output)}, [_said("model", output)], as_json=json)


def _report(run: "Run", *, as_json: bool) -> None:
    """Say what was trained, and where it is."""
    import pandas

    from rhm.models.spec import load_spec
    from rhm.training.unlabelled.target_config import ADABN, THRESHOLD

    trained = pandas.read_csv(run.folder / "trained.csv")
    written = {"model": run.model}
    if run.adapter.is_file():
        written["adapter"] = run.adapter
    more, told = finished_run(run)
    values: dict[str, Any] = {
        "run": str(run.folder),
        **{kind: str(path) for kind, path in written.items()},
        "trained": trained.astype(object).where(trained.notna(), None).to_dict("records"),
        **more,
    }
    threshold, method = more["threshold"], run.config.target.method
    if method == THRESHOLD:
        before = load_spec(Path(str(run.config.adapter.base))).threshold
        lines = [f"measured: the threshold, {threshold:.3f} (before: {before:.3f})"]
    elif method == ADABN:
        lines = ["measured: the statistics of batch normalisation"]
    else:
        lines = [_summary(trained), *told]
    lines += [*(_said(kind, path) for kind, path in written.items())]
    emit(values, lines, as_json=as_json)


def _refuse_unused(given: list[str], config: "RunConfig") -> None:
    """Refuse options that the method of an adaptation does not use."""
    from rhm.training.unlabelled.target_config import LABELLED, MEASURED, METHODS

    if given and config.target.method in MEASURED:
        others = [name for name, each in METHODS.items() if each.build and each.needs != LABELLED]
        raise typer.BadParameter(
            f"{config.target.method} trains nothing: leave out {', '.join(given)}, or choose "
            f"--method {', '.join(others)}"
        )
    unused = [word for word in given if word in ("--rank", "--target")]
    if unused and config.adapter.update() is None:
        low_rank = (
            "--train deep-lora" if config.target.source_free else "--method deep-lora or lora"
        )
        raise typer.BadParameter(
            f"{config.adapter.method} has no low-rank updates: leave out {' and '.join(unused)}, "
            f"or choose {low_rank}"
        )


def _with_bank(tree: dict[str, Any], bank: Path) -> dict[str, Any]:
    """Return the section of the augmentation with a bank."""
    if "target" in tree and "augment" not in tree:
        raise typer.BadParameter(
            f"{tree['target']['method']} sees chips in their own colours: leave out --bank"
        )
    return {**tree.get("augment", {}), "bank": str(bank)}


def _with_labels(model: Path, method: str | None) -> dict[str, Any]:
    """Return the sections of an adaptation to labelled images."""
    from rhm.training.adaptation import METHODS

    if method is not None and method not in METHODS:
        raise typer.BadParameter(
            f"unknown method '{method}': choose {', '.join(METHODS)}, or use --unlabelled"
        )
    return {"adapter": {"base": str(model), "method": method or "deep-lora"}}


def _only_domain(catalog: Path) -> list[str] | None:
    """Return the domain of a catalog that has no other, or None."""
    from rhm.data.catalog import Catalog

    domains = Catalog.load(catalog).domains
    return list(domains) if len(domains) == 1 else None


def _without_labels(
    model: Path, domains: list[str] | None, method: str | None, train: str | None
) -> dict[str, Any]:
    """Return the sections of an adaptation to unlabelled images."""
    from rhm.training.unlabelled.target_config import LABELLED, MEASURED, METHODS, THRESHOLD

    method = method or THRESHOLD
    known = [name for name, each in METHODS.items() if name != "none" and each.needs != LABELLED]
    if method not in known:
        raise typer.BadParameter(
            f"unknown method '{method}' without labels: choose {', '.join(known)}"
        )
    if not domains:
        raise typer.BadParameter("the catalog has several: name the --domain to adapt to")
    if method in MEASURED and train is not None:
        raise typer.BadParameter(f"{method} trains nothing: leave out --train")
    kinds = ("deep-lora", "batch-norm", "full")
    if train not in (None, *kinds):
        raise typer.BadParameter(f"unknown --train '{train}': choose {', '.join(kinds)}")
    train = train or ("batch-norm" if method in (*MEASURED, "entropy") else "deep-lora")
    adapter: dict[str, Any] = {"base": str(model), "method": train, "batch_norm": "statistics"}
    if method not in MEASURED and train == "batch-norm":
        adapter["batch_norm"] = "affine"
    elif train == "deep-lora":
        adapter["trained"] = []
    sections = {
        "adapter": adapter,
        "target": {"domains": domains, "method": method, "source_free": True},
    }
    if METHODS[method].strong:
        sections["augment"] = {"colour": "rhm", "bank": "sources"}
    return sections


def _name_of(model: Path) -> str:
    """Return the name of a model's run, of its file if it is not in a run, or its own."""
    from rhm.models.named_models import find_named

    named = find_named(model)
    if named is not None:
        return named.name
    path = model.resolve()
    if path.is_dir():
        return path.name
    return path.parent.name if path.stem == "model" else path.stem


def _complete(tree: dict[str, Any], model: Path) -> None:
    """Complete the settings that depend on others and were not set."""
    from rhm.models.spec import load_spec
    from rhm.training.adaptation import LEARNING_RATES
    from rhm.training.unlabelled.target_config import LEARNING_RATES as SOURCE_FREE_RATES
    from rhm.training.unlabelled.target_config import MEASURED

    adapter, data = tree["adapter"], tree["data"]
    sections = [tree.setdefault(name, {}) for name in ("model", "optimizer", "trainer")]
    if not all(isinstance(section, dict) for section in (adapter, data, *sections)):
        return  # parsing the configuration reports the error
    network, optimizer, trainer = sections
    target = tree.get("target", {})
    target = target if isinstance(target, dict) else {}
    rates = SOURCE_FREE_RATES if target else LEARNING_RATES
    words = [target.get("method"), adapter.get("method")]
    method = "-".join(str(word) for word in words if word)
    if target.get("method") in MEASURED:
        method = str(target["method"])
    # Without labels, the threshold is chosen on the images of the new place.
    known = None if target.get("source_free") else load_spec(model).threshold
    network.setdefault("threshold", known)
    if adapter.get("method") in rates:
        optimizer.setdefault("learning_rate", rates[adapter["method"]])
    if isinstance(trainer.get("steps"), int):
        trainer.setdefault("validate_every", _validate_every(trainer["steps"]))
    sources = target.get("domains") or data.get("sources")
    domains = map(str, sources) if isinstance(sources, list) else ()
    tree.setdefault("name", _run_name(_name_of(model), list(domains), method))


def _run_name(model: str, domains: list[str], method: str) -> str:
    """Return the name of a run that was given none; too many domains are only counted."""
    from rhm.training.config import LONGEST_NAME

    name = ""
    for said in (domains, [f"{len(domains)}-domains"]):
        name = re.sub(r"[^\w.+-]+", "_", "-".join([model, *said, method])).lstrip(".+-")
        if len(name.encode()) <= LONGEST_NAME:
            break
    return name


def _validate_every(steps: int) -> int:
    """Return the steps between about six evenly spaced validations, the last at the end."""
    counts = [count for count in range(1, 2 * _VALIDATIONS + 1) if steps % count == 0]
    return steps // min(counts, key=lambda count: abs(count - _VALIDATIONS))


def _summary(trained: "pandas.DataFrame") -> str:
    updated = trained[trained["rank"].notna()]
    besides = trained[trained["rank"].isna()]
    said = [f"{int(updated['parameters'].sum()):,} parameters in updates of {len(updated)} layers"]
    said += [f"{int(besides['parameters'].sum()):,} parameters in full"]
    return "trained: " + " and ".join(said[1:] if updated.empty else said)


def _said(kind: str, path: Path) -> str:
    return f"{kind}: {path} ({path.stat().st_size / 1e3:,.0f} kB)"
