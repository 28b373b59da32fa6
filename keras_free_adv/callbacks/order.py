"""The order of the callbacks in a list: who adds to the logs, and who reads them."""

from collections.abc import Collection

import keras

from keras_free_adv import keras_internals
from keras_free_adv.user_warnings import warn_user


def warn_of_early_monitors(
    callback: keras.callbacks.Callback, names: Collection[str]
) -> None:
    """Warns of callbacks that monitor an entry and come too early to see it.

    To be called from the hook `on_train_begin` of `callback`.

    Args:
        callback: the one that adds entries to the logs.
        names: the names of these entries.
    """
    adds = type(callback).__name__
    beside = keras_internals.callbacks_of_this_fit()
    before = beside[: beside.index(callback)] if callback in beside else []
    for other in before:
        monitored = getattr(other, "monitor", None)
        if monitored in names:
            warn_user(
                f"{type(other).__name__} monitors {monitored!r}, but stands before "
                f"{adds} in the list of callbacks and will not see it. Put {adds} "
                "first."
            )
