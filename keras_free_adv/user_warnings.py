"""Warnings that point at the user's own line, however deep they are found."""

import contextlib
import importlib.util
import os
import re
import sys
import warnings
from collections.abc import Iterator
from contextvars import ContextVar

# Code between the user's line and a warning: this package, Keras and its backends.
_LIBRARIES = tuple(
    os.path.dirname(os.path.abspath(spec.origin)) + os.sep
    for name in ("keras_free_adv", "keras", "tensorflow", "jax", "torch")
    if (spec := importlib.util.find_spec(name)) is not None and spec.origin
)
_NUMBER = re.compile(r"\d(?:[\d.,]*\d)?(?:e-?\d+)?")

# The kinds that were given, where each is to be given once.
_given: ContextVar[set[str] | None] = ContextVar("given", default=None)


def warn_user(message: str) -> None:
    """Gives a UserWarning at the innermost line that is the user's.

    A fixed `stacklevel` is wrong as soon as Keras calls back, as `fit` does. Within
    `each_kind_once`, one whose kind was given before is left out.

    Args:
        message: what is doubtful, and what to do.
    """
    given = _given.get()
    if given is not None:
        kind = _NUMBER.sub("#", message)
        if kind in given:
            return
        given.add(kind)
    warnings.warn(message, stacklevel=_levels_to_user())


@contextlib.contextmanager
def each_kind_once(given: set[str]) -> Iterator[None]:
    """Within, `warn_user` leaves out what differs from a former one in numbers only.

    Args:
        given: the kinds that were given; those given within are added.
    """
    token = _given.set(given)
    try:
        yield
    finally:
        _given.reset(token)


def _levels_to_user() -> int:
    """The `stacklevel`, for the caller of this function, of the user's line."""
    frame = sys._getframe(1)
    level = 1
    while frame.f_back is not None and _is_of_library(frame.f_code.co_filename):
        frame, level = frame.f_back, level + 1
    return level


def _is_of_library(filename: str) -> bool:
    return filename.startswith(_LIBRARIES) or filename == contextlib.__file__
