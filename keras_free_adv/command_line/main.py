"""Runs what was typed; an error is a sentence and status 1."""

import sys
from collections.abc import Sequence
from typing import NoReturn

from keras_free_adv.command_line import console
from keras_free_adv.command_line.command import (
    PROGRAM,
    Command,
    CommandError,
    usage_of,
)
from keras_free_adv.command_line.commands import COMMANDS
from keras_free_adv.version import __version__

FAILED, INTERRUPTED = 1, 130


def main(words: Sequence[str] | None = None) -> None:
    """Runs a command.

    Args:
        words: what was typed after the program's name; None for `sys.argv`.

    Raises:
        SystemExit: 1 after an error, 130 after Ctrl-C.
    """
    words = list(sys.argv[1:] if words is None else words)
    if not words or words[0] in ("-h", "-help", "--help", "help"):
        print(overview())
        return
    if words[0] in ("--version", "version"):
        print(f"{PROGRAM} {__version__}")
        return
    name, *rest = words
    if name not in COMMANDS:
        _fail(f"There is no command {name!r}. The commands are {', '.join(COMMANDS)}.")
    _run(COMMANDS[name], rest)


def overview() -> str:
    """The commands, a line each."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {c.summary}" for name, c in COMMANDS.items()]
    return "\n".join(
        [
            f"{PROGRAM} {__version__}: how robust is an image classifier?",
            "",
            *lines,
            "",
            f"{PROGRAM} COMMAND --help tells more of one.",
        ]
    )


def _run(command: Command, words: list[str]) -> None:
    debug = "--debug" in words
    values = command.flag_values()
    try:
        values, arguments = command.parsed(words)
        if values.help:
            print(command.help())
            return
        console.be_quiet()
        command.run(values, arguments)
    except KeyboardInterrupt:
        print(f"\nStopped. {command.interrupted}".rstrip(), file=sys.stderr)
        sys.exit(INTERRUPTED)
    except CommandError as error:
        usage = usage_of(values, error.flag) + "\n" if error.flag else ""
        _fail(str(error), f"{usage}More: {PROGRAM} {command.name} --help")
    except (ImportError, OSError, TypeError, ValueError) as error:
        if debug:
            raise
        _fail(str(error))
    except Exception as error:  # of Keras or its backend, or of this package
        if debug:
            raise
        said = (str(error).strip() or "no message").splitlines()[0]
        _fail(
            f"{type(error).__name__}: {said}",
            "The same command with --debug shows where it comes from.",
        )


def _fail(message: str, hint: str = "") -> NoReturn:
    print(f"Error: {message}", file=sys.stderr)
    if hint:
        print(hint, file=sys.stderr)
    sys.exit(FAILED)
