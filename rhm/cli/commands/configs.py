"""``rhm configs``: the configurations that come with rhm."""

from typing import Annotated

import typer

from rhm.cli.options import Json
from rhm.cli.output import emit
from rhm.documents import read_text
from rhm.errors import ConfigError
from rhm.training.configs.named_configs import config_file, named_configs, purpose_of


def configs(
    name: Annotated[
        str | None, typer.Argument(help="Name of the configuration to print. Default: list all.")
    ] = None,
    complete: Annotated[
        bool, typer.Option("--all", help="Print all settings, with what each of them means.")
    ] = False,
    json: Json = False,
) -> None:
    """List the configurations that `rhm train` takes by name, or print one.

    Example: `rhm configs inria > my.yaml`
    """
    if complete and name is None:
        raise typer.BadParameter("--all prints one configuration: give its name")
    if name is not None:
        text = _complete(name) if complete else _text_of(name)
        emit({"name": name, "text": text}, text.splitlines(), as_json=json)
        return
    found = {each: purpose_of(path) for each, path in named_configs().items()}
    values = [{"name": each, "purpose": purpose} for each, purpose in found.items()]
    width = max(map(len, found))
    lines = [f"{each:{width}}  {purpose}" for each, purpose in found.items()]
    emit({"configs": values}, lines, as_json=json)


def _complete(name: str) -> str:
    """Return the text of a configuration with all settings.

    Raises:
        ConfigError: there is none, or it is invalid.
    """
    from rhm.training.config import read_config
    from rhm.training.configs.complete import complete_yaml

    text = _text_of(name)
    return complete_yaml(read_config(name), text)


def _text_of(name: str) -> str:
    """Return the text of a configuration.

    Raises:
        ConfigError: there is none, or it cannot be read.
    """
    path = config_file(name)
    try:
        return read_text(path)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"{path} cannot be read as a configuration: {reason}") from error
