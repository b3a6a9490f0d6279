"""The ``rhm`` command: combines all commands, and turns errors into exit codes.

0: success. 2: invalid input (one line on standard error). 130: interrupted; 143 by SIGTERM, 129 by
SIGHUP. 141: nobody reads the output any more. 1: a defect, which shows its traceback and asks for a
report.
"""

import errno
import io
import logging
import sys
import traceback
import warnings
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Annotated, Any

import typer
from typer.main import get_command

import rhm
from rhm.cli import INTERRUPTED
from rhm.cli.commands import (
    adapt,
    analyze,
    bank,
    compare,
    configs,
    data,
    demo,
    doctor,
    evaluate,
    export,
    lab,
    merge_footprints,
    models,
    predict,
    report,
    train,
    view,
)
from rhm.cli.flags import ChoosingCommand
from rhm.cli.output import be_quiet, complain
from rhm.cli.process import ended_by_signals, flush_or_discard, open_closed_streams
from rhm.cli.quiet_libraries import without_noise
from rhm.errors import RhmError, one_line, printable
from rhm.files import NO_ROOM

UNREAD = 141
_BY_SIGNAL = 128

_OF_PATHS = (errno.EACCES, errno.ENAMETOOLONG)
"""Errors that say of a path what its user should know, wherever they come from."""

_GENERAL = ("--quiet", "-q", "--verbose", "-v")
"""Options of every command, which may stand anywhere."""

_LONGEST = 500
"""Characters of an error message."""

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
app.command("merge-footprints", cls=ChoosingCommand)(merge_footprints.merge_footprints)
app.command("compare", cls=ChoosingCommand)(compare.compare)
app.command("evaluate", cls=ChoosingCommand)(evaluate.evaluate)
app.command("report")(report.report)
app.command("analyze")(analyze.analyze)
app.command("adapt")(adapt.adapt)
app.add_typer(models.app, name="models")
app.command("configs")(configs.configs)
app.command("merge")(adapt.merge)
app.command("export")(export.export)
app.command("view")(view.view)
app.command("demo")(demo.demo)
app.command("doctor")(doctor.doctor)
app.add_typer(lab.app, name="lab")

# The common base class of typer's usage errors, whichever version of click typer uses.
_UsageError: type[Any] = typer.BadParameter.__mro__[1]


class LogLine(logging.Formatter):
    """Formats a log message for a terminal, which must not obey the names of files in it."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the message with its traceback, if it has one."""
        return printable(super().format(record), keep="\n\t")


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
    """Handle the options of every command."""
    be_quiet(quiet)
    if verbose:
        handler = logging.StreamHandler()
        handler.setFormatter(LogLine("%(relativeCreated)6d ms  %(name)s: %(message)s"))
        logging.basicConfig(handlers=[handler])
        # Only our own log messages: the details of other packages would drown them.
        logging.getLogger("rhm").setLevel(logging.DEBUG)
    elif logging.lastResort is not None:  # which prints warnings
        logging.lastResort.setFormatter(LogLine())


def main() -> None:
    """Run the command line and exit with its code."""
    open_closed_streams()
    # The browser that `rhm view` opens keeps standard error beyond the end of the command.
    quiet = nullcontext() if sys.argv[1:2] == ["view"] else without_noise()
    if not sys.warnoptions:
        # They tell developers what libraries think of calls, and users nothing that they can do.
        warnings.simplefilter("ignore")
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A name may have characters that the terminal or the pipe has not, on Windows above all.
        sys.stdout.reconfigure(errors="replace")
    come: list[int] = []
    try:
        with ended_by_signals() as come, quiet:
            code = run()
    except SystemExit as error:
        # Typer and rich end a command so that prints into a pipe that nobody reads.
        if not isinstance(error.__context__, BrokenPipeError):
            raise
        code = UNREAD
    except KeyboardInterrupt:  # once more, on the way out
        code = INTERRUPTED
    except Exception:  # noqa: BLE001 (whatever it is, it is told and ends with code 1)
        code = 1
        # What fails on the way out may be the terminal, which is gone.
        if not come:
            traceback.print_exc()
            told = f"this is a defect of rhm {rhm.__version__}: please report the lines above"
            complain(f"rhm: {told}")
    flush_or_discard()
    sys.exit(_BY_SIGNAL + come[0] if come and code else code)


def run(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit code.

    Args:
        arguments: the words after ``rhm``; by default those of this process.
    """
    words = _general_first(sys.argv[1:] if arguments is None else arguments)
    try:
        # Calling the app itself would replace the hook for exceptions.
        code = get_command(app)(words, standalone_mode=False)
    except RhmError as error:
        logging.getLogger("rhm").debug("the error was raised here:", exc_info=True)
        # A library may have more to say; the beginning says what is wrong, and where.
        complain(f"rhm: {one_line(error, _LONGEST)}")
        return 2
    except OSError as error:
        if not (message := _wrong_file(error)):
            raise
        complain(f"rhm: {message}")
        return 2
    except _UsageError as error:
        # A group without a command has already shown its help, and has no message.
        if message := _wrong_usage(error):
            complain(f"rhm: {message} (see --help)")
        return 2
    except (typer.Abort, KeyboardInterrupt) as error:
        # Typer takes the end of any file for that of a user's answers.
        if isinstance(error.__cause__, EOFError):
            raise error.__cause__ from None
        code = INTERRUPTED
        logging.getLogger("rhm").debug("it was interrupted here:", exc_info=True)
    if code == INTERRUPTED:  # Typer may have caught the interrupt, and says nothing of it.
        complain(f"rhm: interrupted{_how_to_continue(words)}")
    return code if isinstance(code, int) else 0


def _wrong_file(error: OSError) -> str:
    """Return what is wrong with a file of the user; empty if the error is a defect."""
    # Of files that are written as they grow, such as logs; all others appear when complete.
    if error.errno in NO_ROOM:
        return f"cannot write {error.filename or 'a file'}: {error.strerror}"
    if error.errno in _OF_PATHS and error.filename is not None:
        return one_line(OSError(f"{error.filename}: {error.strerror}"), _LONGEST)
    return ""


def _wrong_usage(error: Any) -> str:
    """Return what is wrong with the words of a command."""
    missing = getattr(error, "param", None)
    if missing is not None and missing.nargs == -1 and not error.message:
        own = [each for each in error.ctx.command.params if each.param_type_name == "argument"]
        # Words go to the last argument first, and it is the last that was left out.
        if own[-1] is not missing:
            expected = [f"{each.name}..." if each.nargs == -1 else each.name for each in own]
            return f"Missing argument '{own[-1].name}': expected {' '.join(expected)}"
    return str(error.format_message())


def _general_first(words: Sequence[str]) -> list[str]:
    """Return the words with the options of every command before the command, where they belong."""
    end = words.index("--") if "--" in words else len(words)
    general = [word for word in words[:end] if word in _GENERAL]
    return [*general, *(word for word in words[:end] if word not in _GENERAL), *words[end:]]


def _how_to_continue(words: Sequence[str]) -> str:
    """Return the end of a message about an interrupted command."""
    commands = getattr(typer.main.get_command(app), "commands", {})
    command = next((commands[word] for word in words if word in commands), None)
    resumable = command is not None and any(each.name == "resume" for each in command.params)
    return ": repeat the command with --resume to continue" if resumable else ""


if __name__ == "__main__":
    main()
