"""The door: standard streams, signals, and how everything that goes wrong ends in one line and an exit code."""

from __future__ import annotations

import io
import logging
import os
import signal
import sys
import traceback
from pathlib import Path

import click

from . import UserError, log, printable
from .command_line import cli
from .words import error_line

TRACEBACK = "PROBE_OR_TUNE_TRACEBACK"  # set it to see where an unforeseen error arose


class Spoken(logging.Formatter):
    """Notes may name classes and files: a terminal shows such names and does not obey them."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


class Terminated(KeyboardInterrupt):
    """SIGTERM or SIGHUP came: what Ctrl-C saves is saved then, too."""

    def __init__(self, number: int, frame: object = None):
        super().__init__(number)
        self.number = number


def terminate(number: int, frame: object) -> None:
    """A signal's handler. Raises Terminated."""
    raise Terminated(number)


def open_streams() -> None:
    """Standard streams are UTF-8 whatever the locale says, and are there where the caller closed them.

    What one cannot show (half a surrogate pair, a byte of a file's name) it shows as a number.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="strict" if mode == "r" else "backslashreplace")


def speak_utf8() -> None:
    """Start again in Python's UTF-8 mode where the locale has another encoding: arguments and names are read by it."""
    if os.name == "posix" and not sys.flags.utf8_mode and sys.getfilesystemencoding() != "utf-8":
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])


def find_home() -> None:
    """A user without a home folder (a container's number) has it here: libraries want one at import."""
    if os.path.expanduser("~") == "~":
        os.environ["HOME"] = os.getcwd()


def main(arguments: list[str] | None = None) -> int:
    """Run the command line.

    Returns the exit code: 0 done, 1 user error, 2 wrong usage, 128 + n after signal n (130: Ctrl-C).
    """
    open_streams()
    find_home()
    notes = logging.StreamHandler(sys.stderr)
    notes.setFormatter(Spoken("%(message)s"))
    log.handlers, log.propagate = [notes], False
    log.setLevel(logging.INFO)
    try:
        cli(args=arguments, prog_name="probe-or-tune", standalone_mode=False)
        sys.stdout.flush()  # here, where an error of it is answered
        return 0
    except UserError as error:
        click.echo(f"error: {printable(error)}", err=True)
        return 1
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (KeyboardInterrupt, click.Abort) as error:  # the second is what click makes of the first
        click.echo("interrupted; what was committed stays, the same command goes on from there", err=True)
        signals = [e.number for e in (error, error.__cause__, error.__context__) if isinstance(e, Terminated)]
        return 128 + (signals or [signal.SIGINT])[0]
    except (BrokenPipeError, SystemExit):  # the second is what click makes of the first
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nobody reads on: nothing to say at exit either
        return 0
    except OSError as error:  # standard output on a full disk, say
        click.echo(f"error: {error.filename or 'standard output'}: {error_line(error)}", err=True)
        return 1
    except BaseException as error:  # nobody foresaw it: a bug, in one line like everything else; a panic of Rust's, too
        if os.environ.get(TRACEBACK):
            raise
        last = traceback.extract_tb(error.__traceback__)[-1]
        kind, where = type(error).__name__, f"{Path(last.filename).name}:{last.lineno}"
        click.echo(
            f"error: {kind} at {where}: {printable(error_line(error))}; this is a bug: please report it with what "
            f"{TRACEBACK}=1 prints",
            err=True,
        )
        return 1


def door() -> None:
    """Run the command line and leave; interrupted, without waiting for threads that are in the middle of a batch."""
    speak_utf8()
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)  # SIGHUP is not everywhere, and `nohup` has it ignored
        if number is not None and signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, terminate)
    code = main()
    if code > 128:
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)
