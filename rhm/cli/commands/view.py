"""``rhm view``."""

from pathlib import Path
from typing import Annotated

import typer

from rhm.cli.options import NamedScenes, SceneAsset, required
from rhm.cli.output import say
from rhm.required_files import require_predictions


def view(
    folder: Annotated[
        Path,
        typer.Argument(
            help="Folder with the results of `rhm predict -o`.",
            callback=required(require_predictions),
        ),
    ],
    scenes: NamedScenes = None,
    asset: SceneAsset = None,
    compare: Annotated[
        Path | None,
        typer.Option(
            "--with",
            help="Folder of another prediction of the same scenes, to compare side by side.",
            callback=required(require_predictions),
        ),
    ] = None,
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port of the server. 0: any free port.")
    ] = 0,
    browser: Annotated[bool, typer.Option(help="Open the page in the browser.")] = True,
) -> None:
    """Show predictions on a map in the browser: scene, probabilities, footprints with scores.

    The page is served to this machine only and needs no network. Press Ctrl-C to stop the server.
    Footprints can be marked as right or wrong; `rhm data marked` makes labels of the marks.

    Example: `rhm view predicted --scene my_city/scene.tif`
    """
    import webbrowser

    from rhm.viewer.predictions import find_predictions
    from rhm.viewer.server import ViewerServer

    named = scenes or []
    predictions, notes = find_predictions(folder, named, asset=asset)
    others, more = ([], []) if compare is None else find_predictions(compare, named, asset=asset)
    for note in (*notes, *more):
        say(note)
    with ViewerServer(predictions, port, others) as server:
        if compare is not None and not any(each["other"] is not None for each in server.facts()):
            say(f"no scene of {folder} is in {compare} in the same size: nothing is compared")
        typer.echo(server.url)
        say("open this address if no page opens by itself; press Ctrl-C to stop")
        with server.door() as address:
            if browser:
                webbrowser.open(address)
            try:
                server.serve_forever()
            except KeyboardInterrupt:
                say("")
