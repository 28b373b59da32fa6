"""A command: what can be typed, and which function does it."""

import importlib
import re
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from absl import app, flags

PROGRAM = "keras-free-adv"
_ADDED = re.compile(r"^<[^>]*>: |;\s*repeat this option to specify a list of values")
_NO_NUMBER = re.compile(
    r"flag --(?P<flag>\w+)=(?P<value>.*): (?P<kind>invalid literal|could not convert)"
)
WIDTH = 80


class CommandError(app.UsageError):
    """What a user typed, or has, cannot be used; the message is a sentence or two.

    For a program of `absl.app`, as in examples/, it is a usage error.

    Args:
        message: what was expected, what came, and the remedy.
        flag: the flag that it is about, whose usage is printed.
    """

    def __init__(self, message: str, flag: str | None = None) -> None:
        super().__init__(message)
        self.flag = flag


@dataclass(frozen=True)
class Command:
    """A command of the program.

    Attributes:
        name: what is typed; `run` of the module of that name does the work.
        summary: what it does, in a line.
        arguments: names of the arguments, those in brackets may be left out.
        about: what it does, in paragraphs.
        examples: lines to type.
        define: defines its flags.
        interrupted: what to do after Ctrl-C.
    """

    name: str
    summary: str
    arguments: tuple[str, ...]
    about: str
    examples: tuple[str, ...]
    define: Callable[[flags.FlagValues], None] = lambda values: None
    interrupted: str = ""

    def flag_values(self) -> flags.FlagValues:
        """Its flags, at their defaults."""
        values = flags.FlagValues()
        self.define(values)
        flags.DEFINE_bool(
            "debug",
            False,
            "Show where in the code an error comes from.",
            flag_values=values,
        )
        flags.DEFINE_bool("help", False, "Show this.", values, short_name="h")
        values.set_gnu_getopt(True)
        return values

    def parsed(self, words: Sequence[str]) -> tuple[flags.FlagValues, list[str]]:
        """Flags and arguments from what was typed.

        Raises:
            CommandError: an unknown flag, a wrong value, or arguments that are missing
                or too many.
        """
        values = self.flag_values()
        try:
            _, *arguments = values([self.name, *words])
        except flags.Error as error:
            flag = _flag_of(error, values)
            raise CommandError(_sentence(error), flag) from error
        least = sum(not name.startswith("[") for name in self.arguments)
        if values.help or least <= len(arguments) <= len(self.arguments):
            return values, arguments
        expected = " ".join(self.arguments) or "no argument"
        raise CommandError(
            f"{PROGRAM} {self.name} takes {expected}. Received: "
            f"{' '.join(arguments) or 'none'}."
        )

    def run(self, values: flags.FlagValues, arguments: list[str]) -> None:
        """Does the work."""
        module = importlib.import_module(f"keras_free_adv.command_line.{self.name}")
        names = [name.strip("[]").lower() for name in self.arguments]
        module.run(values, **dict(zip(names, arguments, strict=False)))

    def help(self) -> str:
        """What `--help` shows."""
        usage = " ".join([PROGRAM, self.name, *self.arguments, "[--flag=value ...]"])
        paragraphs = [textwrap.fill(text, WIDTH) for text in self.about.split("\n\n")]
        shown = ["\n".join(f"  {line}" for line in self.examples)]
        values = self.flag_values()
        own = [name for name in values if name not in ("h", "help", "debug")]
        listed = "\n".join(usage_of(values, name) for name in [*own, "debug"])
        return "\n\n".join([usage, *paragraphs, *shown, listed])


def usage_of(values: flags.FlagValues, name: str) -> str:
    """What a flag is for, with its default."""
    flag = values[name]
    value = "" if flag.boolean else "=" + _kind(flag)
    # What absl adds to it is said by the kind of value.
    text = _ADDED.sub("", flag.help)
    if flag.default not in (None, False, []):
        text = f"{text} (default {flag.default_as_str})"
    room = " " * 6
    text = textwrap.fill(text, WIDTH, initial_indent=room, subsequent_indent=room)
    return f"  --{name}{value}\n{text}"


def _kind(flag: flags.Flag) -> str:
    choices = getattr(flag.parser, "enum_values", None)
    if choices:
        return "|".join(choices)
    kind = flag.parser.syntactic_help
    return "N" if "integer" in kind else "NUMBER" if "number" in kind else "TEXT"


def _sentence(error: flags.Error) -> str:
    text = str(error)
    wrong = _NO_NUMBER.search(text)
    if wrong:
        kind = "a whole number" if wrong["kind"] == "invalid literal" else "a number"
        return f"--{wrong['flag']} must be {kind}. Received: {wrong['value']}."
    return text if text.endswith((".", "?")) else f"{text}."


def _flag_of(error: flags.Error, values: flags.FlagValues) -> str | None:
    """The flag that an error of absl is about, if it exists."""
    if isinstance(error, flags.UnrecognizedFlagError):
        return None
    text = str(error)
    named = [name for name in values if f"--{name}" in text]
    return max(named, key=len, default=None)
