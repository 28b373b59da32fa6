"""Models to take: robust ones, and their natural twins."""

import keras

from keras_free_adv import files, validation
from keras_free_adv.zoo.cards import MODELS, Card


def pretrained_names() -> list[str]:
    """The names of the models that this package holds.

    Example:
    >>> "digits_free" in pretrained_names()
    True
    """
    return sorted(path.stem for path in MODELS.glob("*.keras"))


def card(name: str) -> Card:
    """What is known of a pretrained model.

    Args:
        name: one of `pretrained_names()`.

    Returns:
        Its card; `print` shows it.

    Raises:
        ValueError: an unknown name.

    Example:
    >>> card("digits_free").norm
    'linf'
    """
    name = validation.one_of("name", name, pretrained_names())
    return Card.from_json((MODELS / f"{name}.json").read_text(encoding="utf-8"))


def pretrained(name: str) -> keras.Model:
    """A model that predicts at once: pixels in, logits out.

    It is plain Keras, with float32 weights. `card(name)` says how it was trained, and
    what it withstands.

    Args:
        name: one of `pretrained_names()`.

    Returns:
        The model, not compiled.

    Raises:
        OSError: its file is damaged: the package has to be installed again.
        ValueError: an unknown name.

    Example:
    >>> pretrained("digits_free").output_shape
    (None, 10)
    """
    expected, path = card(name).checksum, MODELS / f"{name}.keras"
    if files.checksum(path) != expected:
        raise OSError(
            f"The file {str(path)!r} is damaged: its checksum is not that on its card. "
            "Install keras_free_adv again."
        )
    return keras.saving.load_model(path, compile=False)
