"""The ``rhm`` command: combines all commands, and turns errors into exit codes.

0: success. 2: invalid input (one line on standard error). 130: interrupted. Anything else is a
defect and shows its traceback.
"""

import logging
import sys
from typing import Annotated, Any

import typer

import rhm
from rhm.cli.commands import (
    adapt,
    analyze,
    bank,
    data,
    demo,
    doctor,
    evaluate,
    export,
    lab,
    predict,
    report,
    train,
    view,
)
from rhm.cli.flags import ChoosingCommand
from rhm.cli.output import be_quiet, complain
from rhm.errors import RhmError, printable

INTERRUPTED = 130

app = typer.Typer(
    name="rhm",
    help="Building footprints from overhead imagery, by models that keep working on other imagery.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
app.add_typer(data.app, name="data")
app.add_typer(bank.app, name="bank")
app.command("train")(train.train)
app.command("predict", cls=ChoosingCommand)(predict.predict)
app.command("evaluate", cls=ChoosingCommand)(evaluate.evaluate)
app.command("report")(report.report)
app.command("analyze")(analyze.analyze)
app.command("adapt")(adapt.adapt)
app.command("merge")(adapt.merge)
app.command("export")(export.export)
app.command("view")(view.view)
app.command("demo")(demo.demo)
app.command("doctor")(doctor.doctor)
app.add_typer(lab.app, name="lab")

# The common base class of typer's usage errors, whichever version of click typer uses.
_UsageError: type[Any] = typer.BadParameter.__mro__[1]


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"rhm {rhm.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Print only results and errors, no notes or bars.")
    ] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Log every step, and the traceback of errors.")
    ] = False,
) -> None:
    """Handle the options that come before any command."""
    be_quiet(quiet)
    if verbose:
        # Only our own log messages: the details of other packages would drown them.
        logging.basicConfig(format="%(relativeCreated)6d ms  %(name)s: %(message)s")
        logging.getLogger("rhm").setLevel(logging.DEBUG)


def main() -> None:
    """Run the command line and exit with its code."""
    sys.exit(run())


def run(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit code.

    Args:
        arguments: the words after ``rhm``; by default those of this process.
    """
    try:
        code = app(arguments, standalone_mode=False)
    except RhmError as error:
        logging.getLogger("rhm").debug("the error was raised here:", exc_info=True)
        complain(f"rhm: {printable(' '.join(str(error).split()))}")
        return 2
    except _UsageError as error:
        # A group without a command has already shown its help, and has no message.
        if message := error.format_message():
            complain(f"rhm: {message} (see --help)")
        return 2
    except (typer.Abort, KeyboardInterrupt):
        code = INTERRUPTED
    if code == INTERRUPTED:  # Typer may have caught the interrupt, and says nothing of it.
        complain("rhm: interrupted")
    return code if isinstance(code, int) else 0


if __name__ == "__main__":
    main()
