"""Verdicts: whether a point fools the model, the model itself says.

A search in half precision only claims it. What is claimed, and the best point of each
run that ends, is shown to the model. Where it refutes a claim the run goes on.

A claim is a margin above a hurdle. It begins below zero, by the largest difference that
was seen between the search's margins and the model's, so that few points are missed to
the search's rounding. Each refutation raises the example's hurdle, so that the model is
not asked at every step.
"""

from typing import Any

import numpy as np
from keras import ops

from keras_free_adv.attacks.compiled_attack import CompiledAttack
from keras_free_adv.attacks.half_precision import FLOAT32
from keras_free_adv.attacks.runs import ActiveRuns

# After a refuted claim an example's hurdle rises by this share of the largest
# difference between the margins of the search and the model's.
RAISED_BY = 1 / 2
# What the difference is at least: a hurdle that does not rise stops every step.
LEAST_DIFFERENCE = 1e-4


class Verdicts:
    """Those on one attack, or one part of one.

    Args:
        search_dtype: what the attack searches in; in float32 its claims are verdicts.

    Attributes:
        refuted: claims that the model refuted.
        passes: examples that went forward for it.
    """

    def __init__(self, search_dtype: str) -> None:
        self._search_dtype = search_dtype
        self._difference = 0.0  # of the margins, the largest that was seen
        self.refuted = 0
        self.passes = 0

    def first_hurdle(
        self, compiled: CompiledAttack, images: Any, labels: Any, ids: np.ndarray
    ) -> Any:
        """What the margins of examples have to exceed, `[B]`; not used in float32."""
        if self._search_dtype == FLOAT32:
            return ops.zeros((len(ids),), "float32")
        if not self._difference:
            self._see(compiled.difference(images, labels, ids))
        return ops.full((len(ids),), -self._difference, dtype="float32")

    def on(
        self,
        compiled: CompiledAttack,
        labels: Any,
        hurdle: Any,
        active: ActiveRuns,
        ended: np.ndarray,
    ) -> tuple[np.ndarray, Any, ActiveRuns]:
        """What the model gets wrong at the best points of a batch.

        Args:
            compiled: the attack.
            labels: `[B, ...]`.
            hurdle: `[B]`.
            active: the runs.
            ended: which of them are at their end, `[B]`.

        Returns:
            Which examples, `[B]`, or of several labels which, `[B, L]`; and the hurdle
            and the runs, with which those go on that were refuted.
        """
        claimed = ops.convert_to_numpy(active.best.fooled)
        if self._search_dtype == FLOAT32:
            return np.asarray(claimed), hurdle, active
        wrong = np.zeros_like(claimed)
        asked = np.flatnonzero(claimed | ended)
        if len(asked):
            points, true = (
                ops.take(rows, asked, axis=0) for rows in (active.best.images, labels)
            )
            errs, difference = compiled.shown(points, true)
            wrong[asked] = ops.convert_to_numpy(errs)
            self._see(difference)
        refuted = claimed & ~wrong
        if refuted.any():
            self.refuted += int(refuted.sum())
            raise_by = np.float32(RAISED_BY * self._difference)
            hurdle = hurdle + ops.convert_to_tensor(refuted * raise_by)
            best = active.best._replace(fooled=ops.convert_to_tensor(wrong))
            active = active._replace(best=best)
        return wrong, hurdle, active

    def _see(self, difference: Any) -> None:
        """Of points `[B]` that went through the search's model and the model."""
        found = ops.convert_to_numpy(difference)
        largest = float(found[np.isfinite(found)].max(initial=LEAST_DIFFERENCE))
        self._difference = max(self._difference, largest)
        self.passes += 2 * len(found)
