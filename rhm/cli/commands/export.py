"""``rhm export``."""

from pathlib import Path
from typing import Annotated

import typer

from rhm.cli.options import Json, ModelPath
from rhm.cli.output import emit, say
from rhm.cli.output_files import Overwrite, check_output, is_exported
from rhm.files import check_writable
from rhm.inference.settings.tile_config import Tiling
from rhm.models.named_models import model_file


def export(
    model: ModelPath,
    output: Annotated[Path, typer.Option("--output", "-o", help="ONNX file to write.")],
    onnx: Annotated[
        bool, typer.Option("--onnx", help="Write ONNX: the default and only format.")
    ] = True,
    adapter: Annotated[
        Path | None, typer.Option(help="Adapter of this model, written by `rhm adapt`.")
    ] = None,
    tile: Annotated[
        int, typer.Option(min=32, help="Side of a tile in pixels, a multiple of 32 up to 4096.")
    ] = Tiling.tile,
    overlap: Annotated[
        int,
        typer.Option(min=0, help="Overlap of neighbouring tiles in pixels, at most half a tile."),
    ] = Tiling.overlap,
    dtype: Annotated[
        str | None,
        typer.Option(
            help="Type of the imagery: uint8, uint16 or int16. Default: that of the training."
        ),
    ] = None,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Write a model as one ONNX file, for the QGIS plug-in Deepness and for other programs.

    The file includes the preprocessing and the metadata that the plug-in reads.

    Example: `rhm export runs/inria-rhm -o inria-rhm.onnx`
    """
    needed = (model_file(model), *([adapter] if adapter else []))
    check_output(output, (".onnx",), needed=needed, overwrite=overwrite, ours=is_exported)
    check_writable(output)
    from rhm.inference.runtime.onnx_export import export_onnx
    from rhm.models.model_file import load_model

    written = export_onnx(
        load_model(model, adapter=adapter), output, tile=tile, overlap=overlap, dtype=dtype
    )
    for note in written.notes:
        say(note)
    values = {
        "onnx": str(written.path),
        "dtype": written.dtype,
        "metadata": dict(written.metadata),
        "notes": list(written.notes),
    }
    megabytes = written.path.stat().st_size / 1e6
    line = f"{written.path} ({megabytes:.1f} MB) for {written.dtype} tiles of {tile} pixels"
    emit(values, [line], as_json=json)
