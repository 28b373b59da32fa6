"""What a user sees: of the libraries below, as little as possible."""

import contextlib
import os
import sys
import warnings
from collections.abc import Iterator


def be_quiet() -> None:
    """Leaves of TensorFlow's messages only errors, and of warnings what they say."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    warnings.showwarning = _show_warning  # type: ignore[assignment]
    with _said_meanwhile("Starting Keras ..."), without_library_output():
        import keras  # noqa: F401  # its backend writes before it can be told not to


@contextlib.contextmanager
def _said_meanwhile(text: str) -> Iterator[None]:
    """Shows in a terminal what takes some seconds, and removes it after them."""
    shown = sys.stderr.isatty()
    if shown:
        print(text, end="", file=sys.stderr, flush=True)
    try:
        yield
    finally:
        if shown:
            print("\r" + " " * len(text), end="\r", file=sys.stderr, flush=True)


@contextlib.contextmanager
def without_library_output() -> Iterator[None]:
    """Within, nothing is written to the standard error, past Python or by it."""
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        sys.stderr.flush()
        os.dup2(kept, 2)
        os.close(kept)


def verbose(typed: str) -> str | int:
    """As Keras takes it; a progress bar is for a terminal, not for a file."""
    if typed == "auto":
        return "auto" if sys.stdout.isatty() else 0
    return int(typed)


@contextlib.contextmanager
def without_warnings() -> Iterator[None]:
    """Within, what is warned of is not printed: it is said elsewhere."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        yield


def _show_warning(
    message: Warning | str, category: type[Warning], *where: object
) -> None:
    if issubclass(category, UserWarning):
        print(f"Warning: {message}", file=sys.stderr)
