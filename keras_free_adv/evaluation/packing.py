"""Packing: attacking only the examples still standing, in full batches."""

import time
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops, tree

from keras_free_adv.attacks.attack import Attack
from keras_free_adv.attacks.half_precision import FLOAT32
from keras_free_adv.distribution.replicas import Replicas
from keras_free_adv.evaluation.finished_stages import Stage
from keras_free_adv.evaluation.verdicts import Verdicts
from keras_free_adv.predictions import Predictions

# A compiled loop hands back the batch when this share of its runs has ended, so that
# others take their places. More often costs more copying, less often more idle rows.
REFILL_SHARE = 1 / 8


class Survivors:
    """Takes examples through the runs of one attack.

    An example stays in the batch, run after run, until it is fooled (in all of several
    labels) or has withstood them all; then a waiting one takes its place. So the batch
    is full as long as examples wait, and few steps are spent in vain: it is refilled
    when an eighth of its runs have ended.

    Args:
        attack: the attack.
        model: the model under attack.
        view: what the model predicts.
        replicas: the devices the model lives on.
        batch_size: examples in a full batch.
        finished: called after some steps, with how many examples have withstood the
            attack meanwhile, and how many have fallen.
        before: the stage before the attack.
        logits: called with images and labels, for the model's logits `[B, C]`.
        search_dtype: what the model's inner layers compute in while the attack
            searches.

    Attributes:
        standing: what the model gets right after the attack: `[N]`, or of several
            labels `[N, L]`, bool.
        classes: the classes that it predicts then, `[N]`; None of several labels.
        images: the first images after the attack.
        begun: how many examples it has begun with.
        fell: of those, how many have fallen.
        seconds: wall-clock seconds spent in the attack.
        backward: examples that went backward through the model, counted once a pass.
    """

    def __init__(
        self,
        attack: Attack,
        model: keras.Model,
        view: Predictions,
        replicas: Replicas,
        batch_size: int,
        finished: Callable[[int, int], None],
        before: Stage,
        logits: Callable[[Any, Any], Any],
        search_dtype: str = FLOAT32,
    ) -> None:
        self._attack = attack
        self._model = model
        self._view = view
        self._replicas = replicas
        self._batch_size = batch_size
        self._finished = finished
        self._logits = logits
        self._search_dtype = search_dtype
        self._verdicts = Verdicts(search_dtype)
        self._runs = attack.runs(view.alternatives + 1)
        self.standing = before.standing.copy()
        self.classes = None if before.classes is None else before.classes.copy()
        self.images = None if before.images is None else before.images.copy()
        self._waiting: list[tuple[np.ndarray, ...]] = []
        # Of the batch: ids and numbers of runs here, the rest on the device.
        self._ids = np.zeros((0,), "int32")
        self._run = np.zeros((0,), "int32")
        self._rows: tuple[Any, Any, Any, Any] | None = None
        self.seconds = 0.0
        self.begun = self.fell = 0
        self._forward = 0
        self.backward = 0

    @property
    def forward(self) -> int:
        """Examples that went forward through the model, counted once a pass."""
        return self._forward + self._verdicts.passes

    @property
    def refuted(self) -> int:
        """Claims of a search in half precision that the model refuted."""
        return self._verdicts.refuted

    def add(self, ids: np.ndarray, images: np.ndarray, labels: np.ndarray) -> None:
        """Adds examples, and goes on while they fill a batch."""
        if len(ids):
            self._waiting.append((ids.astype("int32"), images, labels))
        while len(self._ids) + self._number_waiting >= self._batch_size:
            self._advance()

    def finish(self) -> np.ndarray:
        """Finishes every run; returns what the model still gets right."""
        while len(self._ids) + self._number_waiting:
            self._advance()
        return self.standing

    @property
    def _number_waiting(self) -> int:
        return sum(len(part[0]) for part in self._waiting)

    def _advance(self) -> None:
        """Fills the batch, makes steps, and takes out what has ended."""
        begin = time.perf_counter()
        self._fill()
        self._step()
        withstood, fooled = self._take_out()
        self.seconds += time.perf_counter() - begin
        self.fell += fooled
        self._finished(withstood, fooled)

    def _fill(self) -> None:
        room = self._batch_size - len(self._ids)
        if not room or not self._waiting:
            return
        parts = [np.concatenate(part) for part in zip(*self._waiting, strict=True)]
        ids, images, labels = (part[:room] for part in parts)
        rest = tuple(part[room:] for part in parts)
        self._waiting = [rest] if len(rest[0]) else []
        rows = map(ops.convert_to_tensor, (images, labels))
        self.begun += len(ids)
        self._begin(ids, np.zeros_like(ids), *rows)

    def _begin(
        self, ids: np.ndarray, runs: np.ndarray, images: Any, labels: Any
    ) -> None:
        """Adds rows at the beginning of their runs to the batch."""
        compiled = self._compiled(images, labels)
        active = compiled.begin(images, labels, ids, runs)
        self._forward += len(ids) * self._attack.passes_of_a_start()
        hurdle = self._verdicts.first_hurdle(compiled, images, labels, ids)
        rows = (images, labels, hurdle, active)
        self._rows = (
            rows
            if self._rows is None
            else tree.map_structure(
                lambda *parts: ops.concatenate(parts), self._rows, rows
            )
        )
        self._ids = np.concatenate([self._ids, ids])
        self._run = np.concatenate([self._run, runs])

    def _step(self) -> None:
        images, labels, hurdle, active = self._rows  # type: ignore[misc]
        stop_after = max(1, int(len(self._ids) * REFILL_SHARE))
        compiled = self._compiled(images, labels)
        active, steps = self._replicas.run(
            compiled.advance, (images, labels, hurdle, active), stop_after
        )
        forward, backward = self._attack.passes_of_a_step(self._view.classes)
        self._forward += steps * forward
        self.backward += steps * backward
        self._rows = (images, labels, hurdle, active)

    def _take_out(self) -> tuple[int, int]:
        """Returns how many have withstood all runs, and how many were fooled."""
        images, labels, hurdle, active = self._rows  # type: ignore[misc]
        ended = ops.convert_to_numpy(active.step) >= self._attack.steps_of_a_run
        wrong, hurdle, active = self._verdicts.on(
            self._compiled(images, labels), labels, hurdle, active, ended
        )
        self.standing[self._ids] &= ~wrong
        fooled = ~any_standing(self.standing[self._ids])
        again = ended & ~fooled & (self._run + 1 < self._runs)
        withstood = ended & ~fooled & ~again
        self._predict(np.flatnonzero(fooled), labels, active.best.images)
        self._keep(np.flatnonzero(ended | fooled), active.best.images)
        ids, runs = self._ids[again], self._run[again] + 1
        restarted = [
            ops.take(rows, np.flatnonzero(again), axis=0) for rows in (images, labels)
        ]
        kept = np.flatnonzero(~(ended | fooled))
        self._ids, self._run = self._ids[kept], self._run[kept]
        self._rows = tree.map_structure(
            lambda rows: ops.take(rows, kept, axis=0),
            (images, labels, hurdle, active),
        )
        if len(ids):
            self._begin(ids, runs, *restarted)
        return int(withstood.sum()), int(fooled.sum())

    def _predict(self, rows: np.ndarray, labels: Any, images: Any) -> None:
        """Notes which classes are predicted of adversarial images that fool the model.

        Another batch, or a random model, may round otherwise: it is never the label's.
        """
        if self.classes is None or not len(rows):
            return
        images, labels = (ops.take(part, rows, axis=0) for part in (images, labels))
        logits = ops.convert_to_numpy(self._logits(images, labels)).copy()
        true = ops.convert_to_numpy(self._view.encoded(labels))
        logits[np.arange(len(rows)), true] = -np.inf
        self.classes[self._ids[rows]] = logits.argmax(-1)

    def _keep(self, rows: np.ndarray, images: Any) -> None:
        """Keeps the images of the examples that are shown."""
        if self.images is None:
            return
        rows = rows[self._ids[rows] < len(self.images)]
        if len(rows):
            found = ops.convert_to_numpy(ops.take(images, rows, axis=0))
            self.images[self._ids[rows]] = found

    def _compiled(self, images: Any, labels: Any) -> Any:
        # A call of the layer refuses a model without gradients; here the attack goes on
        # with zeros, and the report warns.
        return self._attack.compiled(
            self._model,
            self._view,
            images,
            labels,
            without_gradient="zero",
            search_dtype=self._search_dtype,
        )


def any_standing(standing: np.ndarray) -> np.ndarray:
    """Whether something is left to attack in each example, `[B]`, bool."""
    return np.asarray(standing.reshape(len(standing), -1).any(-1))


def all_standing(standing: np.ndarray) -> np.ndarray:
    """Whether the model gets each example right, `[B]`, bool: all its labels."""
    return np.asarray(standing.reshape(len(standing), -1).all(-1))
