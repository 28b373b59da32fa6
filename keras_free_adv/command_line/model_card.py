"""A small file beside a `.keras` file: what a plain model does not know of itself.

`my.card.json` beside `my.keras`, such as

    {"epsilon": 0.031, "norm": "linf", "value_range": [0, 1], "class_names": ["cat"]}

`train` and `compare` write it; by hand it may hold some of these only. `epsilon` is a
share of the range of the pixels.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from keras_free_adv import files, geometry, validation
from keras_free_adv.command_line.command import CommandError


class ModelCard(NamedTuple):
    """What is known; None where it is not.

    Attributes:
        epsilon: that the model was trained for, as a share of its pixels' range.
        norm: of that.
        value_range: lowest and highest pixel value.
        class_names: in the order of the outputs.
    """

    epsilon: float | None = None
    norm: str | None = None
    value_range: tuple[float, float] | None = None
    class_names: tuple[str, ...] | None = None


def path_beside(model: Path) -> Path:
    """Where the card of a model file is."""
    return model.with_suffix(".card.json")


def write(model: Path, card: ModelCard) -> None:
    """Writes the card of a model file; what is not known is left out."""
    known = {name: value for name, value in card._asdict().items() if value is not None}
    files.write_text(path_beside(model), json.dumps(known, indent=1) + "\n")


def read(model: Path) -> ModelCard:
    """The card of a model file; an empty one if there is no card.

    Raises:
        CommandError: it is damaged, or says something that cannot be.
    """
    path = path_beside(model)
    if not path.exists():
        return ModelCard()
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(found, dict):
            raise ValueError(f"it holds {type(found).__name__}, not settings")
        unknown = found.keys() - set(ModelCard._fields)
        if unknown:
            raise ValueError(
                f"it says {sorted(unknown)}; expected some of {list(ModelCard._fields)}"
            )
        return ModelCard(**{name: _checked(name, found[name]) for name in found})
    except (OSError, TypeError, ValueError) as error:
        raise CommandError(
            f"{path}, the card of {model.name}, cannot be used: {error}. Mend it, or "
            "move it away."
        ) from error


def _checked(name: str, value: Any) -> Any:
    """A setting of a card, as its type is here."""
    if name == "epsilon":
        return validation.positive_number(name, value)
    if name == "norm":
        geometry.get_norm(value)
        return value
    if name == "value_range":
        return validation.pixel_range(value)
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise TypeError(f"`class_names` must be a list of names, not {value!r}")
    return tuple(map(str, value))
