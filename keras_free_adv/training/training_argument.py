"""Models whose `call` has no argument `training`: Keras trains them in inference mode.

So it does with `def call(self, x)` in a subclass of `keras.Model`: its Dropout drops
nothing, and its BatchNormalization neither uses nor updates the minibatch's
statistics. Keras does not say so.
"""

import inspect

import keras

from keras_free_adv import keras_internals
from keras_free_adv.user_warnings import warn_user

_ACT_IN_TRAINING = (
    keras.layers.AlphaDropout,
    keras.layers.BatchNormalization,
    keras.layers.Dropout,
    keras.layers.GaussianDropout,
    keras.layers.GaussianNoise,
)


def takes_training(model: keras.Model) -> bool:
    """Whether `model.call` has the argument `training`."""
    return "training" in inspect.signature(model.call).parameters


def warn_of_layers_in_inference_mode(model: keras.Model) -> None:
    """Warns of layers that would act in training, if `model.call` let them."""
    if takes_training(model):
        return
    idle = sorted(
        layer.name
        for layer in keras_internals.layers_inside(model, recursive=True)
        if isinstance(layer, _ACT_IN_TRAINING)
    )
    if idle:
        others = f" and {len(idle) - 1} more" if len(idle) > 1 else ""
        warn_user(
            f"{type(model).__name__}.call has no argument `training`, and so Keras "
            f"trains the model in inference mode, without the effect of {idle[0]!r}"
            f"{others} on training. Write `def call(self, inputs, training=None)`, and "
            "pass `training` on to the layers."
        )
