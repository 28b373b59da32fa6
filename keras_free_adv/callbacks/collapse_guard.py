"""Detects catastrophic overfitting while `fit` runs."""

import warnings
from typing import Any

import keras
import numpy as np

from keras_free_adv import renamed_arguments, validation
from keras_free_adv.attacks.attack import Attack
from keras_free_adv.attacks.pgd_attack import PGDAttack
from keras_free_adv.callbacks.evaluation_callback import EvaluationCallback
from keras_free_adv.data.labelled_batches import LabelledBatches
from keras_free_adv.distribution import workers
from keras_free_adv.evaluation.checked_attacks import check_seeds, checked_attacks
from keras_free_adv.evaluation.evaluate_robustness import evaluate_robustness
from keras_free_adv.predictions import predictions_of
from keras_free_adv.training.adversarial_model import AdversarialModel
from keras_free_adv.training.chance_warner import TRAINING_ACCURACY
from keras_free_adv.user_warnings import each_kind_once, warn_user

LOGGED_AS = "val_guard_accuracy"

# Accuracies are quotients of counts: 0.9 - 0.7 is a little more than 0.2 in floats.
_ROUNDING = 1e-9


@keras.saving.register_keras_serializable("keras_free_adv")
@renamed_arguments.refuses_old_names(renamed_arguments.GUARD)
class CollapseGuard(EvaluationCallback):
    """Detects when adversarial training collapses, and stops it.

    Free and fast training can overfit to the perturbation they train on: accuracy on
    it keeps rising, while accuracy under a real attack falls to almost zero within an
    epoch or two. The training logs do not show it. At the end of each epoch the guard
    attacks held-out examples, and logs the robust accuracy as `val_guard_accuracy`,
    which callbacks that come after it in the list can monitor (with `mode="max"`).
    When it is below the best so far by more than `drop`, `patience` times in a row,
    the guard warns, stops training, and restores the weights of the best epoch when
    training ends. Training that does not collapse is not changed.

    Only weights are restored, as by Keras' EarlyStopping: the optimizer, delta and
    the position in the data are kept, and callbacks see the collapsed epoch as it was.
    Each `fit` starts anew, unless `BackupAndRestore` continues one.

    Reference: Wong et al., "Fast is better than free: Revisiting adversarial
    training", ICLR 2020 (catastrophic overfitting).

    Args:
        data: (images, labels), or a dataset of such minibatches, that the model is
            not trained on. A few hundred examples are enough to see a collapse.
        attack: the attack to check with. None is 10 steps of PGD with the epsilon,
            norm and `value_range` of the adversarial model that is trained; for a
            plain Keras model it must be given.
        drop: the fall of robust accuracy that counts as a collapse, as a share of the
            examples: 0.2 is 20 percentage points. Below a best robust accuracy of
            `drop` no collapse can be detected.
        patience: how many checks in a row must find one.
        restore_best_weights: whether to put the weights of the best epoch back after a
            collapse. A copy of them is kept in memory.

    Attributes:
        best: the best robust accuracy so far, or None before the first check.
        best_epoch: its epoch, counted from 0, or None.
        collapsed_epoch: the epoch at whose end the collapse was noticed, counted from
            0, or None.

    Raises:
        TypeError, ValueError: a wrong argument; or, when training begins, no attack
            for a model that is not adversarially trained, or wrong `data`.

    Example:
    >>> network = keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Flatten(),
    ...                             keras.layers.Dense(3, activation="softmax")])
    >>> model = FreeAdversarialModel(network, epsilon=0.1, replays=2)
    >>> model.compile("sgd", "sparse_categorical_crossentropy")
    >>> images = np.random.rand(256, 4, 4, 1)
    >>> labels = np.random.randint(0, 3, 256)
    >>> guard = CollapseGuard((images[:128], labels[:128]))
    >>> history = model.fit(images[128:], labels[128:], epochs=2, callbacks=[guard],
    ...                     verbose=0)
    >>> sorted(history.history)
    ['loss', 'passes', 'val_guard_accuracy']
    """

    def __init__(
        self,
        data: Any,
        *,
        attack: Attack | None = None,
        drop: float = 0.2,
        patience: int = 1,
        restore_best_weights: bool = True,
    ) -> None:
        super().__init__()
        self.data = data
        self.attack = None if attack is None else _checked_attack(attack)
        self.drop = validation.share(
            "drop", drop, "For 20 percentage points pass drop=0.2."
        )
        self.patience = validation.positive_integer("patience", patience)
        self.restore_best_weights = validation.boolean(
            "restore_best_weights", restore_best_weights
        )
        self._attack_in_use: Attack | None = self.attack
        self._begin()

    def _begin(self) -> None:
        # `best`, `best_epoch`, `best_weights` and `wait` have the names of Keras'
        # EarlyStopping, and BackupAndRestore saves them by these names.
        self.best: float | None = None
        self.best_epoch: int | None = None
        self.best_weights: list[np.ndarray] | None = None
        self.wait = 0
        self.collapsed_epoch: int | None = None
        # The kinds of warnings that this `fit` has given.
        self._warned: set[str] = set()

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Starts anew, and raises errors that would else end the first epoch."""
        self._begin()
        self._attack_in_use = attack = self._attack_for(self.model)
        if workers.many_workers(workers.strategy_of(self.model)):
            check_seeds([attack], "Many workers need")
        batches = LabelledBatches(
            self.data,
            batch_size=None,
            max_examples=None,
            value_range=attack.value_range_for(self.model),
        )
        self._check_first_batch(batches, attack)
        self._warn_of_early_monitors([LOGGED_AS])

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Adds the robust accuracy to `logs`, and stops training after a collapse."""
        accuracy = self._robust_accuracy()
        if logs is not None:
            logs[LOGGED_AS] = accuracy
        if self.best is None or accuracy > self.best:
            self._record_best(accuracy, epoch)
        elif self.best - accuracy <= self.drop + _ROUNDING:
            self.wait = 0
        else:
            self.wait += 1
            if self.wait >= self.patience:
                self.collapsed_epoch = epoch
                self.model.stop_training = True
                warn_user(self._message(epoch, accuracy, logs or {}))

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Restores the weights of the best epoch, after a collapse."""
        if self.collapsed_epoch is not None and self.best_weights is not None:
            self.model.set_weights(self.best_weights)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments; Keras can serialize `data` if it is arrays."""
        return {
            "data": self.data,
            "attack": self.attack,
            "drop": self.drop,
            "patience": self.patience,
            "restore_best_weights": self.restore_best_weights,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        """Makes the callback from `get_config()`, of the first release too."""
        return super().from_config(
            renamed_arguments.with_new_names(config, renamed_arguments.GUARD)
        )

    def _attack_for(self, model: keras.Model) -> Attack:
        """The attack to check `model` with: the user's, or one with its epsilon."""
        if self.attack is not None:
            return self.attack
        if not isinstance(model, AdversarialModel):
            raise ValueError(
                "Argument `attack` of CollapseGuard must be given for a model that is "
                "not adversarially trained, which has no epsilon to attack with. "
                f"Received: attack=None, and the {type(model).__name__} "
                f"{model.name!r}. Pass attack=PGDAttack(epsilon=..., steps=10)."
            )
        derived = PGDAttack(
            model.epsilon,
            steps=10,
            norm=model.norm,
            seed=0,
            name="guard_pgd10",
        )
        previous = self._attack_in_use
        # The previous one is compiled already: a second `fit` uses it again.
        if previous is not None and previous.get_config() == derived.get_config():
            return previous
        return derived

    def _check_first_batch(self, batches: LabelledBatches, attack: Attack) -> None:
        """Raises if the first images, or their labels, cannot be evaluated."""
        first = next(iter(batches), None)  # reading checks pixels and lengths
        if first is None:
            raise ValueError("Argument `data` holds no example. Pass at least one.")
        images, labels = first
        attack.check_images(images.shape, self.model)
        if self.model.built:
            # How the logits are obtained is decided after training has begun.
            view = predictions_of(
                self.model, images, labels, from_logits=True, predicts=attack.predicts
            )
            view.check_labels(labels)

    def _robust_accuracy(self) -> float:
        attack = self._attack_in_use
        if attack is None:
            raise RuntimeError(
                "CollapseGuard must see the beginning of training. Pass it to `fit`, "
                "or call `on_train_begin` first."
            )
        with warnings.catch_warnings(), each_kind_once(self._warned):
            # A monitor that runs after each epoch may use few examples.
            warnings.filterwarnings("ignore", "Only .* evaluated", UserWarning)
            report = evaluate_robustness(self.model, self.data, attack, verbose=0)
        return report.accuracy[attack.name]

    def _record_best(self, accuracy: float, epoch: int) -> None:
        self.best, self.best_epoch, self.wait = accuracy, epoch, 0
        if self.restore_best_weights:
            self.best_weights = self.model.get_weights()

    def _message(self, epoch: int, accuracy: float, logs: dict[str, Any]) -> str:
        """What happened, and what to do; epochs are counted from 1, as `fit` does."""
        best_epoch = 0 if self.best_epoch is None else self.best_epoch + 1
        known = [name for name in TRAINING_ACCURACY if name in logs]
        training = (
            f", while training {known[0]} is {logs[known[0]]:.2%}" if known else ""
        )
        end = (
            f"restores the weights of epoch {best_epoch}"
            if self.restore_best_weights
            else "leaves the weights as they are"
        )
        return (
            f"Robust accuracy has collapsed: {accuracy:.2%} after epoch {epoch + 1}, "
            f"from {self.best:.2%} after epoch {best_epoch}{training}. Most likely the "
            "model now resists only the perturbations that it is trained on "
            f"(catastrophic overfitting). CollapseGuard stops training and {end}. "
            "Train with a smaller epsilon or step_size, a random start, or more PGD "
            "steps (PGDAdversarialModel); or for fewer epochs, with "
            f'EarlyStopping(monitor="{LOGGED_AS}", mode="max"). More replays are no '
            "remedy."
        )


def _checked_attack(attack: Any) -> Attack:
    if not isinstance(attack, Attack):
        raise TypeError(
            "Argument `attack` must be one attack, such as PGDAttack(epsilon=8 / 255, "
            f"steps=10), or None. Received: attack={attack!r} (of type "
            f"{type(attack).__name__})."
        )
    if attack.targeted:
        raise ValueError(
            "Argument `attack` must be untargeted: robust accuracy counts every "
            f"misclassification. Received: {attack.name!r} with targeted=True. Pass "
            "targeted=False."
        )
    return checked_attacks(attack)[0]
