"""Free training with a start of its own for each minibatch, and replays that agree."""

from typing import Any

import keras
import tensorflow as tf
from keras import ops

from keras_free_adv import FreeAdversarialModel
from keras_free_adv.geometry import clip_pixels


class ConsistentFree(FreeAdversarialModel):
    """The first replay may start anew, weigh less, and teach the later ones.

    `restart` draws delta of the first replay uniformly, `first` is the weight of its
    loss, and `consistency` that of the divergence of later outputs from its own.
    """

    restart = True
    first = 1.0
    consistency = 0.0
    batch = 128
    number_of_classes = 10

    def compile(self, *args: Any, **kwargs: Any) -> None:
        super().compile(*args, **kwargs)
        self._taught = tf.Variable(
            tf.zeros((self.batch, self.number_of_classes)), trainable=False
        )

    def update(self, data: Any) -> dict[str, Any]:
        x = data[0]
        images, ball, step_size = self._images_of(x), self._ball(), self._step_size()
        iteration = tf.cast(self.optimizer.iterations.value, tf.int32)
        begins = iteration % self.replays == 0
        delta, _ = self._delta_of(images)
        if self.restart:
            start = tf.random.stateless_uniform(
                tf.shape(delta), [iteration, 11], -self.epsilon, self.epsilon
            )
            delta = tf.where(begins, start, delta)
        taught = self._taught.value()
        others = tf.where(begins, 0.0, self.consistency)
        weight = tf.where(begins, self.first, 1.0)

        def loss_at(delta: Any) -> tuple[Any, Any]:
            perturbed = clip_pixels(images + delta, self.value_range)
            y_pred = self._outputs_at(x, perturbed, training=True)
            agreement = keras.losses.kl_divergence(taught, ops.softmax(y_pred))
            loss = weight * self._loss(data, y_pred) + others * ops.mean(agreement)
            return loss, y_pred

        loss, y_pred, g_theta, g_delta = self._gradients(loss_at, delta)
        self._update_weights(g_theta)
        self._taught.assign(tf.where(begins, ops.softmax(y_pred), taught))
        self._perturbation.write(
            ball.ascend(delta, g_delta, step_size), ops.shape(images)[0]
        )
        return self._logs(data, y_pred, loss)
