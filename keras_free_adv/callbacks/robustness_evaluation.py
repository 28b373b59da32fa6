"""Robust accuracy in the logs of `fit`."""

import os
from collections.abc import Sequence
from typing import Any

import keras

from keras_free_adv import validation
from keras_free_adv.attacks.attack import Attack
from keras_free_adv.callbacks import order
from keras_free_adv.callbacks.shared_data import CallbackWithData
from keras_free_adv.callbacks.summaries import Summaries
from keras_free_adv.distribution import workers
from keras_free_adv.evaluation.evaluate_robustness import (
    check_seeds,
    checked_attacks,
    evaluate_robustness,
    one_value_range,
)
from keras_free_adv.user_warnings import each_kind_once


@keras.saving.register_keras_serializable("keras_free_adv")
class RobustnessEvaluation(CallbackWithData):
    """Logs `val_<attack name>_accuracy` at the end of an epoch.

    The entries are in `fit`'s logs and history, so that callbacks which come after
    this one in the list can monitor them. It works on any Keras classifier,
    adversarially trained or not. What a report warns of is said once in a `fit`, not
    again at each epoch.

    Args:
        data: (images, labels), or a dataset of such minibatches.
        attacks: an attack, or a list of attacks of different names.
        every: evaluate after every so many epochs; in between, the last values of this
            `fit` are logged again, so that the history has an entry for each epoch
            once there is a first.
        prefix: what the names in the logs begin with.
        log_dir: folder of TensorBoard's files; None for none. After each evaluation
            it gets natural and robust accuracy, a picture of adversarial examples for
            each attack, and of a Free model delta's statistics. Needs the extra
            `tensorboard`.
        images: how many examples a picture shows, the first of `data`.

    Raises:
        TypeError, ValueError: a wrong argument, named in the message.
        ImportError: `log_dir` is given, and TensorBoard or matplotlib is missing.

    Example:
    >>> network = keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Flatten(),
    ...                             keras.layers.Dense(3, activation="softmax")])
    >>> network.compile("sgd", "sparse_categorical_crossentropy")
    >>> images = np.random.rand(128, 4, 4, 1)
    >>> labels = np.random.randint(0, 3, 128)
    >>> robust = RobustnessEvaluation((images, labels), PGDAttack(0.1, steps=2, seed=0))
    >>> history = network.fit(images, labels, callbacks=[robust], verbose=0)
    >>> sorted(history.history)
    ['loss', 'val_pgd2_accuracy']
    """

    def __init__(
        self,
        data: Any,
        attacks: Attack | Sequence[Attack],
        *,
        every: int = 1,
        prefix: str = "val_",
        log_dir: str | os.PathLike | None = None,
        images: int = 8,
    ) -> None:
        super().__init__()
        self.data = data
        self.attacks = checked_attacks(attacks)
        self.every = validation.positive_integer("every", every)
        self.prefix = validation.text("prefix", prefix)
        self.log_dir = log_dir
        self.images = validation.positive_integer("images", images)
        self._summaries = (
            None if log_dir is None else Summaries(log_dir, data, self.attacks, images)
        )
        # What the last evaluation of this `fit` found; a backup keeps it.
        self.last_accuracy: dict[str, float] = {}
        # The kinds of doubt that this `fit` was warned of.
        self._warned: set[str] = set()

    @property
    def names(self) -> list[str]:
        """The names of the entries in the logs."""
        return [f"{self.prefix}{attack.name}_accuracy" for attack in self.attacks]

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Begins anew; warns of callbacks that monitor an entry and come too early."""
        self.last_accuracy = {}
        self._warned = set()
        if workers.many_workers(self.model.distribute_strategy):
            check_seeds(self.attacks, "Many workers need")
        one_value_range(self.attacks, self.model)
        order.warn_of_early_monitors(self, self.names)
        if self._summaries:
            self._summaries.begin(self.model)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Evaluates, and adds the entries to `logs`."""
        if (epoch + 1) % self.every == 0:
            with each_kind_once(self._warned):
                report = evaluate_robustness(
                    self.model, self.data, self.attacks, verbose=0
                )
            self.last_accuracy = {
                name: report.accuracy[attack.name]
                for name, attack in zip(self.names, self.attacks, strict=True)
            }
            if self._summaries:
                self._summaries.write(epoch, self.model, report.accuracy)
        if logs is not None:
            logs.update(self.last_accuracy)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Closes TensorBoard's file."""
        if self._summaries:
            self._summaries.end()

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments; Keras can serialize `data` if it is arrays."""
        return {
            "data": self.data,
            "attacks": self.attacks,
            "every": self.every,
            "prefix": self.prefix,
            "log_dir": None if self.log_dir is None else os.fspath(self.log_dir),
            "images": self.images,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "RobustnessEvaluation":
        """Makes the callback from `get_config()`, serialized or not."""
        config = {
            name: keras.saving.deserialize_keras_object(value)
            for name, value in config.items()
        }
        return cls(**config)
