"""Free training with a delta for each training image, kept from pass to pass."""

from typing import Any

import keras
import tensorflow as tf
from keras import ops

from keras_free_adv import FreeAdversarialModel
from keras_free_adv.geometry import clip_pixels


class PerExampleFree(FreeAdversarialModel):
    """delta in the image's own coordinates; crop and flip come after it."""

    examples = 45_000
    augment = "standard"

    def compile(self, *args: Any, **kwargs: Any) -> None:
        super().compile(*args, **kwargs)
        self._deltas = tf.Variable(
            tf.zeros((self.examples, 32, 32, 3), tf.float16), trainable=False
        )

    def update(self, data: Any) -> dict[str, Any]:
        x = data[0]
        images, ball, step_size = self._images_of(x), self._ball(), self._step_size()
        index = ops.cast(ops.reshape(x["index"], (-1,)), "int32")
        delta = tf.cast(tf.gather(self._deltas, index), tf.float32)
        # One crop for all replays of a minibatch: delta is of what the network saw.
        number = self.optimizer.iterations.value // self.replays
        seed = tf.stack([tf.cast(number, tf.int32), 7])

        def loss_at(delta: Any) -> tuple[Any, Any]:
            perturbed = clip_pixels(images + delta, self.value_range)
            if self.augment != "none":
                padding = 4 if self.augment == "standard" else 0
                perturbed = crop_and_flip(perturbed, seed, padding)
            y_pred = self._outputs_at(x, perturbed, training=True)
            return self._loss(data, y_pred), y_pred

        loss, y_pred, g_theta, g_delta = self._gradients(loss_at, delta)
        self._update_weights(g_theta)
        delta = ball.ascend(delta, g_delta, step_size)
        self._deltas.scatter_update(tf.IndexedSlices(tf.cast(delta, tf.float16), index))
        return self._logs(data, y_pred, loss)


def crop_and_flip(images: Any, seed: Any, padding: int) -> Any:
    """As `datasets.load(augment="standard")`, differentiable; cheap."""
    rows = tf.shape(images)[0]
    at = tf.random.stateless_uniform(
        (rows, 2), seed, maxval=2 * padding + 1, dtype=tf.int32
    )
    flip = tf.random.stateless_uniform((rows, 1), seed + 1, maxval=2, dtype=tf.int32)
    wide = tf.pad(images, [[0, 0], [padding] * 2, [padding] * 2, [0, 0]])
    line = tf.range(32)
    wide = tf.gather(wide, at[:, :1] + line, axis=1, batch_dims=1)
    columns = at[:, 1:] + tf.where(flip == 1, 31 - line, line)
    return tf.gather(wide, columns, axis=2, batch_dims=1)


def with_index(network: keras.Model) -> keras.Model:
    """The network, with a second input that it ignores."""
    image = keras.Input((32, 32, 3), name="image")
    index = keras.Input((1,), name="index")
    logits = network(image)
    return keras.Model(
        {"image": image, "index": index},
        keras.layers.Add(dtype="float32")(
            [logits, keras.layers.Rescaling(0.0, dtype="float32")(index)]
        ),
    )


def data(images: Any, labels: Any, batch_size: int, seed: int) -> tf.data.Dataset:
    """Shuffled minibatches of images, in [0, 1], their numbers, and one-hot labels."""
    numbers = tf.range(len(images), dtype=tf.int32)
    images, labels = tf.constant(images), tf.one_hot(labels, 10)

    def minibatch(number: Any) -> Any:
        x = tf.cast(tf.gather(images, number), tf.float32) / 255.0
        index = tf.cast(number[:, None], tf.float32)
        return {"image": x, "index": index}, tf.gather(labels, number)

    return (
        tf.data.Dataset.from_tensor_slices(numbers)
        .shuffle(len(images), seed=seed)
        .batch(batch_size, drop_remainder=True)
        .map(minibatch)
        .prefetch(2)
    )
