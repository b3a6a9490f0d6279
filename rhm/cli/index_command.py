"""The command `rhm data index`, whose options are declared by the dataset layouts."""

import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperGroup

if TYPE_CHECKING:
    from rhm.data.layouts.layout import DatasetLayout


def with_command_on_demand(name: str, build: Callable[[], Any]) -> type[TyperGroup]:
    """Return a class of command groups whose first command is built only when it is needed.

    This keeps other commands fast if the options of this one take long to import.

    Args:
        name: name of the command.
        build: function that returns the command.
    """

    class GroupWithOneOnDemand(TyperGroup):
        def list_commands(self, ctx: Any) -> list[str]:
            return [name, *super().list_commands(ctx)]

        def get_command(self, ctx: Any, cmd_name: str) -> Any:
            return build() if cmd_name == name else super().get_command(ctx, cmd_name)

    return GroupWithOneOnDemand


def with_layouts(command: Callable[..., None], layouts: "Mapping[str, DatasetLayout]") -> Any:
    """Return a command that also has the options of the layouts.

    Args:
        command: function with the parameter ``layout``, parameters that all layouts share, and
            ``**options``, which receives the options that the user gave. The layout and its
            options are checked beforehand.
        layouts: the layouts by name.
    """
    flags = {
        name: option.flag for layout in layouts.values() for name, option in layout.options.items()
    }

    def run(layout: str, **given: Any) -> None:
        if layout not in layouts:
            raise typer.BadParameter(f"unknown layout '{layout}': choose {', '.join(layouts)}")
        options = {name: given.pop(name) for name in flags}
        options = {name: value for name, value in options.items() if value not in (None, [], ())}
        for name in options:
            if name not in layouts[layout].options:
                raise typer.BadParameter(f"{flags[name]} applies only to {_having(name, layouts)}")
        command(layout=layout, **given, **options)

    parameters = [
        parameter
        for parameter in inspect.signature(command).parameters.values()
        if parameter.kind is not inspect.Parameter.VAR_KEYWORD
    ]
    run.__signature__ = inspect.Signature([*parameters, *_parameters(layouts)])  # type: ignore[attr-defined]
    lines = [f"- `{name}`: {layout.summary}" for name, layout in layouts.items()]
    app = typer.Typer(rich_markup_mode="markdown", add_completion=False)
    app.command(
        command.__name__, help=inspect.getdoc(command), epilog="\n".join(["Layouts:", "", *lines])
    )(run)
    return typer.main.get_command(app)


def _parameters(layouts: "Mapping[str, DatasetLayout]") -> list[inspect.Parameter]:
    options = {
        name: option for layout in layouts.values() for name, option in layout.options.items()
    }
    return [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            annotation=option.kind | None,
            default=typer.Option(
                None,
                option.flag,
                help=f"{option.help.rstrip('.')} ({_having(name, layouts)}).",
                min=option.minimum,
                show_default=False,
            ),
        )
        for name, option in options.items()
    ]


def _having(name: str, layouts: "Mapping[str, DatasetLayout]") -> str:
    return ", ".join(layout for layout, entry in layouts.items() if name in entry.options)
