"""The application object, and the one place where errors become exit codes."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import traceback
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, Never, cast

import typer

from tinynas import __version__
from tinynas.cli.common import report_error, session
from tinynas.cli.streams import reader_gone, ready
from tinynas.errors import InternalError, TinynasError, UserError
from tinynas.files import disk_error, process_number

app = typer.Typer(
    name="tinynas",
    help="Find a network that truly fits your microcontroller, train it, and export the int8 file.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help: the panels would load a Markdown parser, half of the 0.3 s that --help takes
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(value: bool) -> None:
    if value:
        typer.echo(f"tinynas {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    """Find a network that truly fits your microcontroller, train it, and export the int8 file."""


def register() -> None:
    """Load the modules that add their commands to :data:`app`."""
    for commands in ("search", "nets", "data", "board", "adapt", "tools"):
        import_module(f"tinynas.cli.{commands}")


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command line and return the exit code; nothing escapes as a traceback for a user's fault."""
    register()

    args = list(sys.argv[1:] if arguments is None else arguments)
    ready()
    session.arguments, session.json_mode = args, "--json" in args
    session.continue_command, session.json_printed, session.interrupted = None, False, False
    code = 0
    try:
        code = _run(args)
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:  # the reader has gone, which is no fault of anybody's; or a full disk, which has been told
        reader_gone()
    return code


def _run(args: list[str]) -> int:
    try:
        _terminate_like_ctrl_c()
        with _only_the_first_speaks():
            outcome = app(args, standalone_mode=False)
        sys.stdout.flush()  # what the disk or the reader refuses is met here, not when Python exits
        if outcome == 130:  # typer turns Ctrl-C into Exit(130), and gives its code back here
            return _interrupted()
        return outcome if isinstance(outcome, int) else 0
    except TinynasError as error:
        return report_error(error)
    except typer.Exit as done:
        return _interrupted() if done.exit_code == 130 else done.exit_code  # typer turns Ctrl-C into Exit(130)
    except (KeyboardInterrupt, typer.Abort):
        return _interrupted()
    except _CLICK_ERROR as error:
        return report_error(_usage_error(error))
    except BrokenPipeError:
        raise
    except SystemExit:  # click's answer to a broken pipe
        raise BrokenPipeError from None
    except OSError as error:
        return report_error(disk_error(error.filename, error, "used"))
    except MemoryError:
        return report_error(UserError("out of memory", "use a lower resolution, a smaller batch or fewer workers"))
    except Exception as error:
        if session.interrupted:  # something made another error of it: __set_name__ in a module that was being imported
            return _interrupted()
        if os.environ.get("TINYNAS_DEBUG"):
            traceback.print_exc()
        where = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{os.path.basename(where.filename)}:{where.lineno}"  # noqa: PTH119
        hint = "run again with TINYNAS_DEBUG=1 and report what it prints"
        return report_error(InternalError(f"{type(error).__name__} at {place}: {error}", hint))


#: click's base exceptions, whether typer brings its own click (0.29) or uses the installed one.
_USAGE_ERROR, _CLICK_ERROR = cast("tuple[type[Exception], type[Exception]]", typer.BadParameter.__mro__[1:3])


def _usage_error(error: Any) -> UserError:
    message = error.format_message().replace("Value error, ", "")  # pydantic's words, which typer passes on
    if not isinstance(error, _USAGE_ERROR):
        return UserError(message)
    names, context = [], getattr(error, "ctx", None)
    while context is not None and context.parent is not None:
        names.append(context.info_name)
        context = context.parent
    place = " ".join(["tinynas", *reversed(names)])
    return UserError(f"{place}: {message}", f"see: {place} --help")


@contextlib.contextmanager
def _only_the_first_speaks() -> Iterator[None]:
    """Of the processes of ``torchrun`` the others are silent; errors are told outside of this block, by all."""
    if process_number() == 0:
        yield
        return
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere, contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
        yield


def _interrupted() -> int:
    if process_number() != 0:
        return 130
    after = f"; continue with: {session.continue_command}" if session.continue_command else ""
    sys.stderr.write(f"\ninterrupted, nothing finished is lost{after}\n")
    return 130


def _terminate_like_ctrl_c() -> None:
    def stop(_signal: int, _frame: FrameType | None) -> Never:
        session.interrupted = True
        raise KeyboardInterrupt

    with contextlib.suppress(ValueError):  # not the main thread (tests, notebooks): leave signals alone
        signal.signal(signal.SIGTERM, stop)
        signal.signal(signal.SIGINT, stop)
