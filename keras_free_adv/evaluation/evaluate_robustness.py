"""The accuracy of a classifier, natural and under attack."""

import time
import warnings
from collections.abc import Iterable, Sequence
from typing import Any

import keras
import numpy as np

from keras_free_adv import validation
from keras_free_adv.attacks.attack import Attack, check_classes
from keras_free_adv.evaluation.labelled_batches import (
    DEFAULT_BATCH_SIZE,
    LabelledBatches,
)
from keras_free_adv.evaluation.robustness_report import RobustnessReport
from keras_free_adv.evaluation.survivors import Survivors
from keras_free_adv.logits import LogitView

NATURAL = "natural"


def evaluate_robustness(
    model: keras.Model,
    data: Any,
    attacks: Attack | Sequence[Attack],
    *,
    batch_size: int | None = None,
    max_examples: int | None = None,
    verbose: Any = "auto",
) -> RobustnessReport:
    """Measures natural accuracy, and accuracy under each attack.

    An example counts as robust to an attack only if it is classified correctly
    without one, and every restart fails: stricter than the paper's protocol, which
    picks the restart of largest loss. A restart attacks only the examples still
    standing, packed into full batches. Random starts follow from (seed, number of the
    example, restart), so the result does not depend on the batch size, up to float
    rounding.

    Args:
        model: the classifier, `[B, ...]` to `[B, C]` (adversarially trained or not).
        data: (images, labels); or a tf.data.Dataset or PyDataset of minibatches of
            them, which is streamed. Images lie in the attacks' `value_range`.
        attacks: an attack, or a list of attacks of different names.
        batch_size: examples in a minibatch; None for a dataset's own, or 128.
        max_examples: evaluate the first so many examples only.
        verbose: 0 for silence, 1 for a progress bar; "auto" is 1.

    Returns:
        A `RobustnessReport`.

    Raises:
        TypeError, ValueError: a wrong argument, named in the message.

    Example:
    >>> network = keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Flatten(),
    ...                             keras.layers.Dense(3)])
    >>> images = np.random.rand(20, 4, 4, 1).astype("float32")
    >>> labels = np.random.randint(0, 3, 20)
    >>> report = evaluate_robustness(
    ...     network, (images, labels), [PGDAttack(epsilon=0.1, steps=5, seed=0)],
    ...     verbose=0)
    >>> list(report.accuracy)
    ['natural', 'pgd5']
    """
    attacks = checked_attacks(attacks)
    if not isinstance(model, keras.Model):
        raise TypeError(
            f"Argument `model` must be a keras.Model. Received: {type(model).__name__}."
        )
    validation.one_of("verbose", verbose, ("auto", 0, 1, 2))
    batches = LabelledBatches(
        data,
        batch_size=batch_size,
        max_examples=max_examples,
        value_range=attacks[0].value_range,
    )
    progress = _Progress(batches.examples, len(attacks), verbose)
    natural = _Natural(model, attacks[0])
    runs: dict[str, Survivors] = {}
    views: dict[str, Any] = {}
    for images, labels in batches:
        if not runs:
            size = batch_size or max(len(images), DEFAULT_BATCH_SIZE)
            for attack in attacks:
                view = views[attack.name] = attack.view_of(model, images)
                runs[attack.name] = Survivors(attack, model, view, size, progress.add)
        ids, right = natural.correct(images, labels, views[attacks[0].name])
        for run in runs.values():
            progress.add(int((~right).sum()))
            run.add(ids[right], images[right], labels[right])
    if not runs:
        raise ValueError("Argument `data` holds no example. Pass at least one.")
    robust = {NATURAL: np.concatenate(natural.right)}
    for name, run in runs.items():
        robust[name] = np.zeros(natural.seen, bool)
        robust[name][run.finish()] = True
    progress.close()
    for doubt in (doubts := _doubts(robust, attacks)):
        warnings.warn(doubt, stacklevel=2)
    return RobustnessReport(
        accuracy={name: float(stands.mean()) for name, stands in robust.items()},
        robust=robust,
        worst_case=float(np.logical_and.reduce(list(robust.values())).mean()),
        seconds={
            NATURAL: natural.seconds,
            **{name: run.seconds for name, run in runs.items()},
        },
        threat_models={
            attack.name: _threat_model(attack, views[attack.name]) for attack in attacks
        },
        warnings=doubts,
    )


class _Natural:
    """Which examples the model gets right without an attack."""

    def __init__(self, model: keras.Model, attack: Attack) -> None:
        self._model = model
        self._attack = attack
        self.right: list[np.ndarray] = []
        self.seen = 0
        self.seconds = 0.0

    def correct(
        self, images: np.ndarray, labels: np.ndarray, view: LogitView
    ) -> tuple[np.ndarray, np.ndarray]:
        """The numbers of the examples, `[B]`, and whether each is right, `[B]`."""
        begin = time.perf_counter()
        check_classes(labels, view.classes)
        clean = self._attack.clean_outcome(self._model, view, images, labels)
        right = ~np.asarray(clean.fooled)
        self.seconds += time.perf_counter() - begin
        ids = np.arange(self.seen, self.seen + len(images))
        self.right.append(right)
        self.seen += len(images)
        return ids, right


def _threat_model(attack: Attack, view: LogitView) -> dict[str, Any]:
    """An attack's settings, with which it can be repeated, as plain values."""
    return {
        **attack.get_config(),
        "seed": attack.seed_in_use,
        "logits": view.source,
    }


def checked_attacks(attacks: Any) -> list[Attack]:
    """Returns `attacks` as a list, or raises if one report cannot hold them."""
    attacks = [attacks] if isinstance(attacks, Attack) else attacks
    if not isinstance(attacks, Iterable) or isinstance(attacks, (str, bytes)):
        raise TypeError(
            "Argument `attacks` must be an attack or a list of attacks, such as "
            f"[PGDAttack(epsilon=8 / 255)]. Received: {attacks!r}."
        )
    attacks = list(attacks)
    for attack in attacks:
        if not isinstance(attack, Attack):
            raise TypeError(
                "Argument `attacks` must hold attacks, such as PGDAttack(epsilon=8 / "
                f"255). Received: {attack!r} (of type {type(attack).__name__})."
            )
        if attack.targeted:
            raise ValueError(
                "Argument `attacks` must hold untargeted attacks: robust accuracy "
                f"counts every misclassification. Received: {attack.name!r} with "
                "targeted=True."
            )
    if not attacks:
        raise ValueError("Argument `attacks` is empty. Pass at least one attack.")
    names = [attack.name for attack in attacks]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated or NATURAL in names:
        raise ValueError(
            "Argument `attacks` must hold attacks of different names, none of them "
            f"'natural'. Received: {names}. Pass name=... to tell them apart."
        )
    if len({attack.value_range for attack in attacks}) > 1:
        raise ValueError(
            "Argument `attacks` must hold attacks of one `value_range`. Received: "
            f"{ {attack.name: attack.value_range for attack in attacks} }."
        )
    return attacks


def _doubts(robust: dict[str, np.ndarray], attacks: list[Attack]) -> list[str]:
    """What a reader should know before believing the numbers."""
    doubts = []
    examples = len(robust[NATURAL])
    if examples < 100:
        doubts.append(
            f"Only {examples} examples were evaluated: accuracies are uncertain by "
            "more than 10 percentage points. Evaluate at least 1,000."
        )
    for attack in attacks:
        low, high = attack.value_range
        covers = attack.norm == "linf" and attack.epsilon >= high - low
        share = float(robust[attack.name].mean())
        if covers and share > 0:
            doubts.append(
                f"{attack.name}: accuracy is {share:.2%} although epsilon covers the "
                "whole pixel range. The attack fails, so its other numbers say "
                "nothing: look for saturated outputs or operations without a gradient."
            )
    return doubts


class _Progress:
    """A Keras progress bar over (example, attack) pairs."""

    def __init__(self, examples: int | None, attacks: int, verbose: Any) -> None:
        self._done = 0
        self._bar = None
        if verbose != 0:
            target = None if examples is None else examples * attacks
            self._bar = keras.utils.Progbar(
                target, verbose=1, unit_name="example", interval=0.2
            )

    def add(self, count: int) -> None:
        self._done += count
        if self._bar is not None and count:
            self._bar.update(self._done, finalize=False)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.target = self._done
            self._bar.update(self._done, finalize=True)
