"""Random preprocessing layers of a model in training: the stem, and warnings."""

from typing import Any

from keras_free_adv import keras_internals
from keras_free_adv.training.random_stem import (
    RandomStem,
    find_random_stem,
    random_layers_outside,
)
from keras_free_adv.user_warnings import warn_user

_REMEDY = (
    "Augment in the data instead, before minibatches are replayed: "
    "dataset.map(lambda x, y: (augmentation(x, training=True), y))."
)


class RandomLayers:
    """Finds the random stem of a model, and warns of what it cannot do for the user.

    Args:
        model: the user's model.
        perturbed: name of the perturbed input, or None for the only one.
    """

    def __init__(self, model: Any, perturbed: str | None) -> None:
        self._model = model
        self._perturbed = perturbed
        self._searched: list[Any] = []
        self._stem: RandomStem | None = None
        self._warned: set[str] = set()

    def stem_in_fit(self, *, replayed_by_user: bool) -> RandomStem | None:
        """The stem that `fit` applies to the data, or None.

        Warns of random layers that are elsewhere.

        Args:
            replayed_by_user: whether the user's dataset may hold replays, which the
                model takes for minibatches.
        """
        layers = list(keras_internals.layers_inside(self._model, recursive=True))
        if layers != self._searched:
            self._stem = find_random_stem(self._model, self._perturbed)
            self._searched = layers
        elsewhere = random_layers_outside(self._model, self._stem)
        if elsewhere:
            self._warn(
                f"The layers {elsewhere} of the model draw anew in each forward pass, "
                "and a perturbation then belongs to other pixels than those the "
                "network sees: robustness suffers. Only random layers at the input of "
                "a Sequential or functional model, with at most Rescaling and "
                f"Normalization between them, are applied before it. {_REMEDY}"
            )
        if self._stem is not None and replayed_by_user:
            self._warn(
                f"With replays=1 the random layers {self._stem_names()} at the input "
                "of the model draw anew for each minibatch of the dataset. If it is "
                "replayed by replay(m), delta then belongs to other pixels: leave the "
                f"replaying to `fit`, with replays=m. Or: {_REMEDY}"
            )
        return self._stem

    def warn_on_batch(self) -> None:
        """Warns that `train_on_batch` cannot apply random layers once for all replays.

        It does not know which calls are replays of one minibatch.
        """
        names = random_layers_outside(self._model, None)
        if names:
            self._warn(
                "`train_on_batch` has no position in the data, so that the layers "
                f"{names} of the model draw anew in each forward pass, and a "
                "perturbation belongs to other pixels than those the network sees. "
                f"Call `fit`. Or: {_REMEDY}"
            )

    def _stem_names(self) -> list[str]:
        outside = random_layers_outside(self._model, self._stem)
        every = random_layers_outside(self._model, None)
        return [name for name in every if name not in outside]

    def _warn(self, message: str) -> None:
        """Warns once: `fit` may be called for each epoch, a batch for each update."""
        if message not in self._warned:
            self._warned.add(message)
            warn_user(message)
