"""``rhm view``."""

from pathlib import Path
from typing import Annotated

import typer

from rhm.cli.output import say


def view(
    folder: Annotated[Path, typer.Argument(help="Results of `rhm predict -o`.")],
    scenes: Annotated[
        list[str] | None,
        typer.Option("--scene", help="The scenes: files, patterns, folders...; may be repeated."),
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="By default a free one.")] = 0,
    browser: Annotated[bool, typer.Option(help="Open the page in the browser.")] = True,
) -> None:
    """Look at predictions on a map: scene, probability, footprints with score and area.

    The page is for this machine only and needs no network. Ctrl-C ends it.

    Example: `rhm view predicted --scene my_city/scene.tif`
    """
    import webbrowser

    from rhm.errors import printable
    from rhm.viewer.predictions import find_predictions
    from rhm.viewer.server import ViewerServer

    predictions, notes = find_predictions(folder, scenes or [])
    for note in notes:
        say(printable(note))
    with ViewerServer(predictions, port) as server:
        typer.echo(server.url)
        say("Ctrl-C ends it")
        if browser:
            webbrowser.open(server.url)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            say("")
