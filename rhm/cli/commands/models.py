"""``rhm models``: the models that commands take by name, and folders to share models in."""

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rhm.cli.options import Json, ModelPath
from rhm.cli.output import emit, say, table

if TYPE_CHECKING:
    from rhm.models.named_models import NamedModel

_SHORT = 12  # digits of a hash that tell models apart
_LONGEST = 40  # characters of the name of an encoder

app = typer.Typer()


@app.callback(invoke_without_command=True)
def models(context: typer.Context, json: Json = False) -> None:
    """List the models that commands take by name. Only `add` fetches, and only what you name.

    Example: `rhm models`
    """
    if context.invoked_subcommand is not None:
        if json:  # given before the word of the command, which takes it, too
            context.default_map = {context.invoked_subcommand: {"json": True}}
        return
    from rhm.errors import printable
    from rhm.models.named_models import named_models, own_folder

    found = [_facts(each) for each in named_models()]
    header = ["name", "m per pixel", "bands", "encoder", "MB", "sha256", "from"]
    rows = [
        [
            each["name"],
            each.get("gsd_m"),
            each.get("bands"),
            printable(each.get("encoder", "cannot be read"))[:_LONGEST],
            None if each["bytes"] is None else round(each["bytes"] / 1e6, 1),
            (each["sha256"] or "")[:_SHORT],
            each["from"],
        ]
        for each in found
    ]
    emit({"models": found, "folder": str(own_folder())}, table(header, rows), as_json=json)


@app.command()
def add(
    source: Annotated[
        str,
        typer.Argument(help="Model file, folder of a run or of a model, or address of a file."),
    ],
    name: Annotated[
        str | None, typer.Option(help="Name of the model. Default: that of its run or file.")
    ] = None,
    sha256: Annotated[
        str | None, typer.Option(help="SHA-256 that the model file must have.")
    ] = None,
    json: Json = False,
) -> None:
    """Check a model and copy it to your named models.

    Example: `rhm models add runs/inria-rhm --name inria`
    """
    from rhm.models.model_library import add_model

    added = add_model(source, name, sha256=sha256)
    line = f"{added.name}: {added.file} (use it as `rhm predict {added.name}`)"
    emit(_facts(added), [line], as_json=json)


@app.command()
def remove(
    name: Annotated[str, typer.Argument(help="Name of a model that you have added.")],
    json: Json = False,
) -> None:
    """Remove one of your named models.

    Example: `rhm models remove inria`
    """
    from rhm.models.model_library import remove_model

    remove_model(name)
    emit({"removed": name}, [f"removed {name}"], as_json=json)


@app.command()
def card(name: Annotated[str, typer.Argument(help="Name of a model.")], json: Json = False) -> None:
    """Print the model card of a named model: its data, licences, scores and limits.

    Example: `rhm models card starter`
    """
    from rhm.errors import ModelFileError
    from rhm.models.hub_card import card_of
    from rhm.models.named_models import named_models

    found = next((each for each in named_models() if each.name == name), None)
    if found is None:
        raise ModelFileError(f"no model is named {name}: `rhm models` lists all")
    text = card_of(found.file).rstrip()
    if not text:
        raise ModelFileError(f"{name} has no model card")
    emit({"name": name, "card": text}, text.splitlines(), as_json=json)


@app.command()
def export(
    model: ModelPath,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write.")],
    licence: Annotated[
        str | None,
        typer.Option(
            help="Licence of the model, such as CC-BY-4.0. Default: that of its training data."
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Write a model as one folder to share: model card with a header for hubs, weights, ONNX.

    Example: `rhm models export runs/inria-rhm -o inria-rhm --licence CC-BY-4.0`
    """
    from rhm.errors import OutputError
    from rhm.files import staged_paths
    from rhm.inference.runtime.onnx_export import export_onnx
    from rhm.models.hub_card import card_of, hub_card
    from rhm.models.model_file import load_model
    from rhm.models.model_library import default_name
    from rhm.models.named_models import HASH, MODEL, model_file, sha256_of

    if os.path.lexists(output) and not (os.path.isdir(output) and not os.listdir(output)):
        raise OutputError(f"{output} exists: choose a new folder")
    file, loaded = model_file(model), load_model(model)
    name = default_name(model) or "model"
    licence = licence or loaded.spec.licence
    if not licence:
        say("no licence is known: name one with --licence")
    card_text = card_of(file)
    names = (MODEL, "model.onnx", HASH, "config.json", "README.md")
    # The card last: hubs take a folder that has one for complete.
    with staged_paths([output / each for each in names]) as (weights, graph, digest, spec, readme):
        exported = export_onnx(loaded, graph)
        shutil.copyfile(file, weights)
        digest.write_text(f"{sha256_of(weights)}  {MODEL}\n", encoding="utf-8")
        spec.write_text(loaded.spec.to_json() + "\n", encoding="utf-8")
        card_of_hub = hub_card(loaded.spec, card_text, name=name, licence=licence)
        readme.write_text(card_of_hub, encoding="utf-8")
    for note in exported.notes:
        say(note)
    files = sorted(path.name for path in output.iterdir())
    emit(
        {"folder": str(output), "files": files, "licence": licence},
        [f"{output}: {', '.join(files)}"],
        as_json=json,
    )


def _facts(model: "NamedModel") -> dict[str, Any]:
    """Return what is known of a named model, as JSON values."""
    from rhm.errors import ModelFileError
    from rhm.models.named_models import sha256_of
    from rhm.models.spec import load_spec

    facts: dict[str, Any] = {
        "name": model.name,
        "file": str(model.file),
        "card": None if model.card is None else str(model.card),
        "bytes": None,
        "sha256": None,
        "from": "rhm" if model.shipped else "you",
    }
    try:
        facts |= {"bytes": model.file.stat().st_size, "sha256": sha256_of(model.file)}
        spec = load_spec(model.file)
    except OSError as error:
        return facts | {"error": f"{model.file} cannot be read: {error.strerror or error}"}
    except ModelFileError as error:
        return facts | {"error": str(error)}
    return facts | {
        "architecture": spec.architecture,
        "encoder": spec.encoder,
        "bands": spec.bands,
        "gsd_m": spec.gsd_m,
        "threshold": spec.threshold,
        "sources": list(spec.sources),
        "licence": spec.licence,
    }
