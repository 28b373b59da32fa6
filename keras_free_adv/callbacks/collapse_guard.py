"""Catastrophic overfitting, noticed while `fit` runs."""

import warnings
from typing import Any

import keras
import numpy as np

from keras_free_adv import validation
from keras_free_adv.attacks.attack import Attack
from keras_free_adv.attacks.pgd_attack import PGDAttack
from keras_free_adv.callbacks import order
from keras_free_adv.callbacks.shared_data import CallbackWithData
from keras_free_adv.distribution import workers
from keras_free_adv.evaluation.evaluate_robustness import (
    check_seeds,
    checked_attacks,
    evaluate_robustness,
)
from keras_free_adv.evaluation.labelled_batches import LabelledBatches
from keras_free_adv.predictions import predictions_of
from keras_free_adv.training.adversarial_model import AdversarialModel
from keras_free_adv.training.chance_warner import TRAINING_ACCURACY
from keras_free_adv.user_warnings import each_kind_once, warn_user

LOGGED_AS = "val_guard_accuracy"

# Accuracies are quotients of counts: 0.9 - 0.7 is a little more than 0.2 in floats.
_ROUNDING = 1e-9


@keras.saving.register_keras_serializable("keras_free_adv")
class CollapseGuard(CallbackWithData):
    """Notices when adversarial training collapses, and stops it.

    Free and fast training can overfit to the perturbation they train on: accuracy on
    it goes on rising, while accuracy under a real attack falls to nothing within an
    epoch or two. The training logs do not show it. At the end of each epoch the guard
    attacks held-out examples, and logs the robust accuracy as `val_guard_accuracy`,
    for callbacks which come after it in the list to monitor (with `mode="max"`).
    When that is below the best so far by more than `drop`, `patience` times in a row,
    the guard warns, stops training, and puts the weights of the best epoch back when
    training ends. Training that does not collapse is left as it is.

    Only weights are put back, as by Keras' EarlyStopping: the optimizer, delta and
    the place in the data stay, and callbacks see the collapsed epoch as it was. Each
    `fit` begins anew, but for one that `BackupAndRestore` continues.

    Reference: Wong et al., "Fast is better than free: Revisiting adversarial
    training", ICLR 2020 (catastrophic overfitting).

    Args:
        data: (images, labels), or a dataset of such minibatches, that the model is
            not trained on. A few hundred examples are enough to see a collapse.
        attack: the attack to check with. None is 10 steps of PGD with the epsilon,
            norm and `value_range` of the adversarial model that is trained; another
            Keras model needs an attack.
        drop: the fall of robust accuracy that is a collapse, as a share of the
            examples: 0.2 is 20 percentage points. A model whose robust accuracy has
            never been above `drop` has not yet anything to lose.
        patience: how many checks in a row must find it.
        restore_best: whether to put the weights of the best epoch back after a
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
        restore_best: bool = True,
    ) -> None:
        super().__init__()
        self.data = data
        self.attack = None if attack is None else _checked_attack(attack)
        self.drop = validation.share(
            "drop", drop, "For 20 percentage points pass drop=0.2."
        )
        self.patience = validation.positive_integer("patience", patience)
        self.restore_best = validation.boolean("restore_best", restore_best)
        self._attack_in_use: Attack | None = self.attack
        self._begin()

    def _begin(self) -> None:
        # `best`, `best_epoch`, `best_weights` and `wait` are called as in Keras'
        # EarlyStopping: by these names BackupAndRestore keeps them.
        self.best: float | None = None
        self.best_epoch: int | None = None
        self.best_weights: list[np.ndarray] | None = None
        self.wait = 0
        self.collapsed_epoch: int | None = None
        # The kinds of doubt that this `fit` was warned of.
        self._warned: set[str] = set()

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Begins anew, and refuses what would fail only after the first epoch."""
        self._begin()
        self._attack_in_use = attack = self._attack_for(self.model)
        if workers.many_workers(self.model.distribute_strategy):
            check_seeds([attack], "Many workers need")
        batches = LabelledBatches(
            self.data,
            batch_size=None,
            max_examples=None,
            value_range=attack.value_range_for(self.model),
        )
        self._check_first_batch(batches, attack)
        order.warn_of_early_monitors(self, [LOGGED_AS])

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Checks, adds the robust accuracy to `logs`, and stops after a collapse."""
        now = self._robust_accuracy()
        if logs is not None:
            logs[LOGGED_AS] = now
        if self.best is None or now > self.best:
            self._remember(now, epoch)
        elif self.best - now <= self.drop + _ROUNDING:
            self.wait = 0
        else:
            self.wait += 1
            if self.wait >= self.patience:
                self.collapsed_epoch = epoch
                self.model.stop_training = True
                warn_user(self._message(epoch, now, logs or {}))

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Puts the weights of the best epoch back, after a collapse."""
        if self.collapsed_epoch is not None and self.best_weights is not None:
            self.model.set_weights(self.best_weights)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments; Keras can serialize `data` if it is arrays."""
        return {
            "data": self.data,
            "attack": self.attack,
            "drop": self.drop,
            "patience": self.patience,
            "restore_best": self.restore_best,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "CollapseGuard":
        """Makes the callback from `get_config()`, serialized or not."""
        config = {
            name: keras.saving.deserialize_keras_object(value)
            for name, value in config.items()
        }
        return cls(**config)

    def _attack_for(self, model: keras.Model) -> Attack:
        """The attack to check `model` with: the user's, or one derived from it."""
        if self.attack is not None:
            return self.attack
        if not isinstance(model, AdversarialModel):
            raise ValueError(
                "Argument `attack` of CollapseGuard must be given for a model that is "
                "not adversarially trained: it has no epsilon to attack with. "
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
        known = self._attack_in_use
        # What the known one has compiled serves a second `fit`.
        if known is not None and known.get_config() == derived.get_config():
            return known
        return derived

    def _check_first_batch(self, batches: LabelledBatches, attack: Attack) -> None:
        """Raises if the first epoch would end in an error, as far as one can tell."""
        first = next(iter(batches), None)  # reading checks pixels and lengths
        if first is None:
            raise ValueError("Argument `data` holds no example. Pass at least one.")
        images, labels = first
        attack.check_images(images.shape, self.model)
        if self.model.built:
            # Where the logits are, outputs of a trained model say better.
            view = predictions_of(
                self.model, images, labels, from_logits=True, predicts=attack.predicts
            )
            view.check_labels(labels)

    def _robust_accuracy(self) -> float:
        attack = self._attack_in_use
        if attack is None:
            raise RuntimeError(
                "CollapseGuard must see the beginning of training. Pass it to `fit`, "
                "or call its `on_train_begin` first."
            )
        with warnings.catch_warnings(), each_kind_once(self._warned):
            # Right in a report, but not at each epoch of a monitor.
            warnings.filterwarnings("ignore", "Only .* evaluated", UserWarning)
            report = evaluate_robustness(self.model, self.data, attack, verbose=0)
        return report.accuracy[attack.name]

    def _remember(self, accuracy: float, epoch: int) -> None:
        self.best, self.best_epoch, self.wait = accuracy, epoch, 0
        if self.restore_best:
            self.best_weights = self.model.get_weights()

    def _message(self, epoch: int, now: float, logs: dict[str, Any]) -> str:
        """What happened, and what to do; epochs are counted from 1, as `fit` does."""
        best_epoch = 0 if self.best_epoch is None else self.best_epoch + 1
        known = [name for name in TRAINING_ACCURACY if name in logs]
        training = (
            f", while training {known[0]} is {logs[known[0]]:.2%}" if known else ""
        )
        end = (
            f"puts the weights of epoch {best_epoch} back"
            if self.restore_best
            else "leaves the weights as they are"
        )
        return (
            f"Robust accuracy has collapsed: {now:.2%} after epoch {epoch + 1}, from "
            f"{self.best:.2%} after epoch {best_epoch}{training}. Most likely the "
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
