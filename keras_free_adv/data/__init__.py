"""Where minibatches come from, and how they are replayed."""

from keras_free_adv.data.replay import replay

__all__ = ["replay"]
