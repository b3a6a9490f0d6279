"""The command `rhm data index`, whose options are those that dataset layouts declare."""

import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperGroup

if TYPE_CHECKING:
    from rhm.data.layouts.layout import DatasetLayout


def made_when_asked_for(name: str, make: Callable[[], Any]) -> type[TyperGroup]:
    """Return a group of commands of which the first is made only when somebody asks for it.

    For a command that must load much to know its own options, which the help of others can spare.

    Args:
        name: of the command.
        make: returns it.
    """

    class Group(TyperGroup):
        def list_commands(self, ctx: Any) -> list[str]:
            return [name, *super().list_commands(ctx)]

        def get_command(self, ctx: Any, cmd_name: str) -> Any:
            return make() if cmd_name == name else super().get_command(ctx, cmd_name)

    return Group


def with_layouts(command: Callable[..., None], layouts: "Mapping[str, DatasetLayout]") -> Any:
    """Return a command that takes the options of layouts too.

    Args:
        command: has the parameter ``layout``, others that all layouts share, and ``**options``:
            those options of the layout that were given, checked.
        layouts: by name.
    """
    flags = {
        name: option.flag for each in layouts.values() for name, option in each.options.items()
    }

    def run(layout: str, **given: Any) -> None:
        if layout not in layouts:
            raise typer.BadParameter(f"unknown layout '{layout}': choose {', '.join(layouts)}")
        options = {name: given.pop(name) for name in flags}
        options = {name: value for name, value in options.items() if value not in (None, [], ())}
        for name in options:
            if name not in layouts[layout].options:
                raise typer.BadParameter(f"{flags[name]} goes with {_having(name, layouts)}")
        command(layout=layout, **given, **options)

    parameters = [
        parameter
        for parameter in inspect.signature(command).parameters.values()
        if parameter.kind is not inspect.Parameter.VAR_KEYWORD
    ]
    run.__signature__ = inspect.Signature([*parameters, *_parameters(layouts)])  # type: ignore[attr-defined]
    lines = [f"- `{name}`: {each.summary}" for name, each in layouts.items()]
    app = typer.Typer(rich_markup_mode="markdown", add_completion=False)
    app.command(
        command.__name__, help=inspect.getdoc(command), epilog="\n".join(["Layouts:", "", *lines])
    )(run)
    return typer.main.get_command(app)


def _parameters(layouts: "Mapping[str, DatasetLayout]") -> list[inspect.Parameter]:
    options = {name: option for each in layouts.values() for name, option in each.options.items()}
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
    return ", ".join(layout for layout, each in layouts.items() if name in each.options)
