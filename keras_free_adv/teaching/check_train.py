"""Checks a student's loops of Free training."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np

from keras_free_adv.teaching.arrays import as_array
from keras_free_adv.teaching.trained_example import (
    BATCH,
    EPSILON,
    MINIBATCHES,
    STEP_SIZE,
    delta_of,
    free_model,
    require_gradient_tape,
    sgd,
    trained_example,
)
from keras_free_adv.teaching.verdict import Verdict, name_of, verdict_on

_EPOCHS, _REPLAYS = 4, 2
_PASSES = _EPOCHS // _REPLAYS
# Rounding may change the sign of a gradient near zero, and the effect grows with the
# updates; a mistake changes much more.
_SHARE_ALIKE = 0.95


def check_train(train: Callable[..., Any]) -> Verdict:
    """Checks the loops around the update of Free training.

        train(network, optimizer, minibatches, epochs, replays, epsilon, step_size)
            -> the last delta

    It makes epochs / replays passes through the minibatches, each replayed `replays`
    times in a row, with one delta that begins at zero and is never reset. The final
    weights and the final delta are compared with those of `FreeAdversarialModel.fit`.

    Args:
        train: the student's function; `minibatches` is a list of (images, labels), of
            one size.

    Returns:
        A verdict.

    Raises:
        RuntimeError: Keras runs on another backend than TensorFlow.

    Example:
    >>> def train(network, optimizer, minibatches, epochs, replays, epsilon, step_size):
    ...     return None
    >>> print(check_train(train))
    train: not yet
      - It makes no update: call `train_step` for each replay of each minibatch.
    """
    require_gradient_tape("check_train")
    return verdict_on(name_of(train, "train"), lambda: _findings(train))


def _findings(train: Callable[..., Any]) -> Iterator[str]:
    tried = trained_example()
    optimizer = sgd(tried.network)
    minibatches = [
        tuple(map(keras.ops.convert_to_tensor, tried.minibatch(number)))
        for number in range(MINIBATCHES)
    ]
    returned = train(
        tried.network,
        optimizer,
        minibatches,
        _EPOCHS,
        _REPLAYS,
        EPSILON,
        STEP_SIZE,
    )
    found = list(_check_update_count(int(optimizer.iterations)))
    if found:
        yield from found
        return
    expected = _fitted()
    weights = _flat(tried.network.get_weights())
    delta = as_array(returned, expected.delta, "the last delta")
    result = FinalState(weights, delta)
    if result.is_like(expected):
        return
    for schedule, text in _MISTAKES:
        wrong = _trained_by(schedule)
        # The returned delta need not be the one used in training.
        if result.is_like(wrong) or wrong._replace(delta=delta).is_like(result):
            yield text
            return
    share_of_weights = np.mean(np.abs(weights - expected.weights) > expected.tolerance)
    share_of_delta = np.mean(np.abs(delta - expected.delta) > STEP_SIZE / 10)
    yield (
        "It makes the right number of updates, but the result differs from "
        f"FreeAdversarialModel.fit's in {share_of_weights:.0%} of the weights, and "
        f"{share_of_delta:.0%} of delta. Does check_train_step pass, and does each "
        "update get the delta that the last one returned?"
    )


def _check_update_count(updates: int) -> Iterator[str]:
    right = _EPOCHS * MINIBATCHES
    if updates == right:
        return
    if not updates:
        yield "It makes no update: call `train_step` for each replay of each minibatch."
    elif updates == right * _REPLAYS:
        yield (
            f"It makes {updates} updates, and epochs={_EPOCHS} of natural training are "
            f"{right}: divide the epochs by `replays`. That is what makes it free."
        )
    elif updates == right // _REPLAYS:
        yield (
            f"It makes {updates} updates, and epochs={_EPOCHS} of natural training are "
            f"{right}: use each minibatch `replays` times."
        )
    else:
        yield (
            f"It makes {updates} updates; epochs={_EPOCHS} of {MINIBATCHES} minibatches"
            f" are {right}, whatever `replays` is."
        )


class FinalState(NamedTuple):
    """The state after a training.

    Attributes:
        weights: all weights, flat.
        delta: `[B, ...]`.
    """

    weights: np.ndarray
    delta: np.ndarray

    @property
    def tolerance(self) -> float:
        """How much rounding may change a weight."""
        moved = np.abs(self.weights - _flat(trained_example().network.get_weights()))
        return 0.01 * float(moved.max())

    def is_like(self, other: "FinalState") -> bool:
        """Whether both result from the same updates."""
        near = np.abs(self.weights - other.weights) <= other.tolerance
        same = np.abs(self.delta - other.delta) <= STEP_SIZE / 10
        return bool(min(near.mean(), same.mean()) >= _SHARE_ALIKE)


def _fitted() -> FinalState:
    example = trained_example()
    model = free_model(example.network, _REPLAYS)
    model.fit(
        example.images,
        example.labels,
        batch_size=BATCH,
        epochs=_EPOCHS,
        shuffle=False,
        verbose=0,
    )
    return FinalState(_flat(example.network.get_weights()), delta_of(model))


# The minibatch of each update, and a key of the delta it uses. Each delta begins at 0.
_Schedule = Sequence[tuple[int, Any]]


def _trained_by(schedule: _Schedule) -> FinalState:
    """The final state of the library after updates in this order."""
    example = trained_example()
    models: dict[Any, Any] = {}
    for number, key in schedule:
        if key not in models:
            models[key] = free_model(example.network)
        models[key].train_on_batch(*example.minibatch(number))
    return FinalState(
        _flat(example.network.get_weights()), delta_of(models[schedule[-1][1]])
    )


def _in_order(key: Callable[[int, int, int], Any]) -> _Schedule:
    """The correct order, with other deltas."""
    return [
        (number, key(passed, number, replay))
        for passed in range(_PASSES)
        for number in range(MINIBATCHES)
        for replay in range(_REPLAYS)
    ]


_NOT_REPLAYED = [(n, 0) for _ in range(_PASSES * _REPLAYS) for n in range(MINIBATCHES)]
_ALL_AT_ONCE = [
    (n, 0) for n in range(MINIBATCHES) for _ in range(_PASSES) for _ in range(_REPLAYS)
]
_RESET = "delta is set to zero again {}: it is kept for the whole run{}."
_MISTAKES: list[tuple[_Schedule, str]] = [
    (
        _in_order(lambda *at: at),
        _RESET.format(
            "at every replay", ", so that it climbs while a minibatch is replayed"
        ),
    ),
    (
        _in_order(lambda passed, number, _: (passed, number)),
        _RESET.format(
            "for every minibatch",
            "; a good perturbation of the last images is a good start for the next",
        ),
    ),
    (
        _in_order(lambda passed, *_: passed),
        _RESET.format("in every pass through the data", ""),
    ),
    (
        _in_order(lambda _passed, number, _replay: number),
        "Each minibatch has a delta of its own: there is one, which goes on from "
        "minibatch to minibatch.",
    ),
    (
        _NOT_REPLAYED,
        "A minibatch is not replayed in a row: its replays come one after the other, "
        "before the next minibatch, so that delta is updated from the gradient of the "
        "same images.",
    ),
    (
        _ALL_AT_ONCE,
        "All replays of a minibatch come at once, before the next is ever seen: pass "
        "through the data epochs / replays times, with `replays` replays each.",
    ),
]


def _flat(weights: list[np.ndarray]) -> np.ndarray:
    return np.concatenate([each.ravel() for each in weights])
