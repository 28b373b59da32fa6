"""Values that are typed."""

import json
import re
from collections.abc import Sequence
from typing import Any

from keras_free_adv.command_line.command import CommandError


def value_of(text: str) -> Any:
    """A number (8/255 is one too), a list or dict as JSON, true, null, or a word."""
    quotient = re.fullmatch(r"([-+.\de]+)/([-+.\de]+)", text)
    try:
        if quotient:
            return float(quotient[1]) / float(quotient[2])
        return json.loads(text)
    except (ValueError, ZeroDivisionError):
        return text


def positive_number(flag: str, text: str) -> float:
    """A number above zero, typed as 0.03 or 8/255.

    Raises:
        CommandError: it is none.
    """
    found = value_of(text)
    if isinstance(found, bool) or not isinstance(found, (int, float)) or not found > 0:
        raise CommandError(
            f"--{flag} must be a number above 0, such as 8/255. Received: {text}.", flag
        )
    return float(found)


def pixel_range(flag: str, words: Sequence[str] | None) -> tuple[float, float] | None:
    """Lowest and highest pixel value, typed as 0,255; None if nothing is typed.

    Raises:
        CommandError: they are no two rising numbers.
    """
    if words is None:
        return None
    try:
        low, high = map(float, words)
        if low < high:
            return low, high
    except ValueError:
        pass
    raise CommandError(
        f"--{flag} must be two rising numbers, such as 0,255. Received: "
        f"{','.join(words)}.",
        flag,
    )
