"""Evaluates robust accuracy during `fit`, and logs it."""

import os
from collections.abc import Sequence
from typing import Any

import keras

from keras_free_adv import renamed_arguments, validation
from keras_free_adv.attacks.attack import Attack
from keras_free_adv.attacks.half_precision import (
    FLOAT32,
    SEARCH_DTYPES,
    inner_layers,
)
from keras_free_adv.callbacks.evaluation_callback import EvaluationCallback
from keras_free_adv.callbacks.evaluation_size import affordable_examples
from keras_free_adv.distribution import workers
from keras_free_adv.evaluation.checked_attacks import (
    check_seeds,
    checked_attacks,
    one_value_range,
)
from keras_free_adv.evaluation.evaluate_robustness import evaluate_robustness
from keras_free_adv.user_warnings import each_kind_once


@keras.saving.register_keras_serializable("keras_free_adv")
@renamed_arguments.refuses_old_names(renamed_arguments.EVALUATION)
class RobustnessEvaluation(EvaluationCallback):
    """Logs `val_<attack name>_accuracy` at the end of an epoch.

    The entries are in `fit`'s logs and history, so that callbacks which come after
    this one in the list can monitor them. It works on any Keras classifier,
    adversarially trained or not. Each warning of a report is given once in a `fit`,
    not again at each epoch.

    Args:
        data: (images, labels), or a dataset of such minibatches.
        attacks: an attack, or a list of attacks of different names.
        evaluation_freq: evaluate after every so many epochs; in between, the last
            values of this `fit` are logged again, so that the history has an entry
            for each epoch once there is a first.
        prefix: prefix of the names in the logs.
        log_dir: folder for TensorBoard's files; None writes none. Each evaluation
            writes natural and robust accuracy, a picture of adversarial examples for
            each attack and, for a Free model, statistics of delta. Needs the extra
            `tensorboard`.
        images: how many examples a picture shows, the first of `data`.
        class_names: what pictures are labelled with; None for `data.class_names`, or
            numbers.
        max_examples: evaluate the first so many examples only; None for so many that,
            counted in passes through the network, it costs at most a fifth of an
            epoch, which is printed when `fit` begins. (Of a plain Keras model the
            passes of an epoch are not known: None is for all.)
        search_dtype: what attacks search in; see `evaluate_robustness`.

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
        evaluation_freq: int = 1,
        prefix: str = "val_",
        log_dir: str | os.PathLike | None = None,
        images: int = 8,
        class_names: Sequence[str] | None = None,
        max_examples: int | None = None,
        search_dtype: str = FLOAT32,
    ) -> None:
        super().__init__()
        self.data = data
        self.attacks = checked_attacks(attacks)
        self.evaluation_freq = validation.positive_integer(
            "evaluation_freq", evaluation_freq
        )
        self.prefix = validation.text("prefix", prefix)
        self.log_dir = log_dir
        self.images = validation.positive_integer("images", images)
        self.class_names = class_names
        if class_names is None:
            self.class_names = getattr(data, "class_names", None)
        if max_examples is not None:
            max_examples = validation.positive_integer("max_examples", max_examples)
        self.max_examples = max_examples
        self.search_dtype = validation.one_of(
            "search_dtype", search_dtype, SEARCH_DTYPES
        )
        self._examples = max_examples  # of this `fit`
        self._summaries = None
        if log_dir is not None:
            from keras_free_adv.callbacks.summaries import Summaries

            self._summaries = Summaries(
                log_dir, data, self.attacks, images, self.class_names
            )
        # Of the last evaluation in this `fit`; BackupAndRestore saves it by this name.
        self.last_accuracy: dict[str, float] = {}
        # The kinds of warnings that this `fit` has given.
        self._warned: set[str] = set()

    @property
    def names(self) -> list[str]:
        """The names of the entries in the logs."""
        return [f"{self.prefix}{attack.name}_accuracy" for attack in self.attacks]

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Starts anew; warns of callbacks that monitor an entry before it is added."""
        self.last_accuracy = {}
        self._warned = set()
        self._choose_examples()
        if workers.many_workers(workers.strategy_of(self.model)):
            check_seeds(self.attacks, "Many workers need")
        one_value_range(self.attacks, self.model)
        if self.search_dtype != FLOAT32 and self.model.built:
            inner_layers(self.model)  # raises now, not after an epoch
        self._warn_of_early_monitors(self.names)
        if self._summaries:
            self._summaries.begin(self.model)

    def _choose_examples(self) -> None:
        """Settles how many examples are evaluated, and says it where `fit` speaks."""
        self._examples = self.max_examples
        if self._examples is not None:
            return
        found = affordable_examples(self.model, self.attacks, self.params.get("steps"))
        there = _examples_in(self.data)
        if found is None or (there is not None and there <= found):
            return
        self._examples = found
        first = workers.worker_number(workers.strategy_of(self.model)) == 0
        if self.params.get("verbose") and first:
            print(
                f"RobustnessEvaluation: the first {found:,} examples, or all if there "
                "are fewer: they cost at most a fifth of an epoch. `max_examples` says "
                "another number."
            )

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Evaluates, and adds the entries to `logs`."""
        if (epoch + 1) % self.evaluation_freq == 0:
            with each_kind_once(self._warned):
                report = evaluate_robustness(
                    self.model,
                    self.data,
                    self.attacks,
                    max_examples=self._examples,
                    verbose=0,
                    search_dtype=self.search_dtype,
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
            "evaluation_freq": self.evaluation_freq,
            "prefix": self.prefix,
            "log_dir": None if self.log_dir is None else os.fspath(self.log_dir),
            "images": self.images,
            "class_names": self.class_names,
            "max_examples": self.max_examples,
            "search_dtype": self.search_dtype,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        """Makes the callback from `get_config()`, of the first release too."""
        return super().from_config(
            renamed_arguments.with_new_names(config, renamed_arguments.EVALUATION)
        )


def _examples_in(data: Any) -> int | None:
    """How many there are; None for a dataset, which would have to be read."""
    return len(data[1]) if isinstance(data, (tuple, list)) else None
