"""Free training with the replays of some minibatches interleaved: a b a b, not a a b b.

Consecutive updates then see other images, and delta waits for its next turn.
"""

from typing import Any

import tensorflow as tf

from keras_free_adv import FreeAdversarialModel
from keras_free_adv.geometry import clip_pixels


class InterleavedFree(FreeAdversarialModel):
    """delta of each of `group` minibatches; the data is replayed by `interleaved`."""

    group = 4
    batch = 128

    def compile(self, *args: Any, **kwargs: Any) -> None:
        super().compile(*args, **kwargs)
        self._deltas = tf.Variable(
            tf.zeros((self.group, self.batch, 32, 32, 3)), trainable=False
        )

    def update(self, data: Any) -> dict[str, Any]:
        x = data[0]
        images, ball, step_size = self._images_of(x), self._ball(), self._step_size()
        slot = tf.cast(self.optimizer.iterations.value % self.group, tf.int32)
        delta = self._deltas[slot]

        def loss_at(delta: Any) -> tuple[Any, Any]:
            perturbed = clip_pixels(images + delta, self.value_range)
            y_pred = self._outputs_at(x, perturbed, training=True)
            return self._loss(data, y_pred), y_pred

        loss, y_pred, g_theta, g_delta = self._gradients(loss_at, delta)
        self._update_weights(g_theta)
        delta = ball.ascend(delta, g_delta, step_size)
        self._deltas.scatter_update(tf.IndexedSlices(delta[None], slot[None]))
        return self._logs(data, y_pred, loss)


def interleaved(data: tf.data.Dataset, group: int, replays: int) -> tf.data.Dataset:
    """Groups of minibatches, each group `replays` times."""

    def replayed(*minibatches: Any) -> tf.data.Dataset:
        return tf.data.Dataset.from_tensor_slices(minibatches).repeat(replays)

    return data.repeat().batch(group, drop_remainder=True).flat_map(replayed)
