"""Auto-PGD: projected ascent that chooses its own step size."""

import math
from typing import Any, NamedTuple

import keras
from keras import ops

from keras_free_adv import losses, validation
from keras_free_adv.attacks.attack import Attack
from keras_free_adv.attacks.outcome import Outcome, choose
from keras_free_adv.attacks.target import Target
from keras_free_adv.predictions import AUTO, Predictions

CLASSES_NEEDED = {"dlr": 3, "targeted_dlr": 4}
LOSSES = ("cross_entropy", "dlr", "targeted_dlr")

# The constants of Croce and Hein (2020), section 3.
MOMENTUM = 0.75
SHARE_OF_RISES = 0.75
FIRST_CHECKPOINT = 0.22
CHECKPOINT_SHRINKS_BY = 0.03
SHORTEST_WINDOW = 0.06


class _State(NamedTuple):
    """What APGD keeps of each example, `[B, ...]`.

    x^(k) and x^(k-1), the step size eta, and the best point with its loss f_max and
    gradient; then what the checkpoints ask for.
    """

    iterate: Any
    previous: Any
    target_class: Any
    step_size: Any
    best: Any
    best_gradient: Any
    best_loss: Any
    loss: Any
    rises: Any
    best_loss_at_check: Any
    halved_at_check: Any


@keras.saving.register_keras_serializable("keras_free_adv")
class APGDAttack(Attack):
    """The Auto-PGD attack of Croce and Hein (2020), as a Keras layer.

    Projected ascent with momentum. The step size begins at 2 epsilon; at checkpoints
    that come ever closer it is halved, and the search goes on from the best point, if
    the loss rose in less than three quarters of the steps since the last checkpoint,
    or neither the step size nor the best loss has changed. There is nothing to tune.

    Reference: Croce and Hein, "Reliable evaluation of adversarial robustness with an
    ensemble of diverse parameter-free attacks", ICML 2020, Algorithm 1.

    Args:
        epsilon: radius of the ball, on the pixel scale (8 / 255 for images in [0, 1]).
        steps: number of steps.
        restarts: independent random starts (of each target class).
        norm: "linf" or "l2", of each example.
        loss: "cross_entropy"; "dlr", the difference of logits ratio; or
            "targeted_dlr", one run for each of the likeliest other classes. With too
            few classes for a ratio (fewer than 3, and 4 targeted) the margin takes
            its place, and a warning says so.
        targets: number of target classes of "targeted_dlr", or as many as there are.
        value_range: lowest and highest pixel value; None for the model's own, see
            `keras_free_adv.pixel_scale`.
        from_logits: whether the model returns logits; see `PGDAttack`.
        predicts: what the model predicts; see `PGDAttack`.
        seed: random starts follow from (seed, position of the example, run).
        name: name in reports; "apgd_ce", "apgd_dlr" or "apgd_t" by default.
        gradient_samples: forward and backward passes a step, for models that draw
            random numbers (expectation over transformation, Athalye et al. 2018). The
            mean of their losses is climbed, along the mean of their gradients; whether
            an example is fooled the last of them says, as in the authors' program.

    Call arguments and errors are those of `PGDAttack`.

    Example:
    >>> network = keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Flatten(),
    ...                             keras.layers.Dense(5)])
    >>> attack = APGDAttack(epsilon=0.1, steps=10, loss="targeted_dlr", seed=0)
    >>> images = np.random.rand(2, 4, 4, 1).astype("float32")
    >>> adversarial = attack(images, np.array([0, 2]), model=network)
    >>> bool(np.abs(adversarial - images).max() <= 0.1 + 1e-6)
    True
    """

    def __init__(
        self,
        epsilon: float,
        *,
        steps: int = 100,
        restarts: int = 1,
        norm: str = "linf",
        loss: str = "cross_entropy",
        targets: int = 9,
        value_range: tuple[float, float] | None = None,
        from_logits: bool | str = "auto",
        predicts: str = AUTO,
        seed: int | None = None,
        name: str | None = None,
        gradient_samples: int = 1,
    ) -> None:
        loss = validation.one_of("loss", loss, LOSSES)
        stem = dict(zip(LOSSES, ("apgd_ce", "apgd_dlr", "apgd_t"), strict=True))[loss]
        super().__init__(
            epsilon,
            restarts=restarts,
            norm=norm,
            targeted=False,
            value_range=value_range,
            from_logits=from_logits,
            predicts=predicts,
            seed=seed,
            name=name,
            stem=stem,
        )
        self.steps = validation.positive_integer("steps", steps)
        self.loss = loss
        self.targets = validation.positive_integer("targets", targets)
        self.gradient_samples = validation.positive_integer(
            "gradient_samples", gradient_samples
        )

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "steps": self.steps,
            "loss": self.loss,
            "targets": self.targets,
            "gradient_samples": self.gradient_samples,
        }

    @property
    def steps_of_a_run(self) -> int:
        """`steps`, and one that only looks at the last point."""
        return self.steps + 1

    def runs(self, classes: int) -> int:
        """Restarts, times target classes."""
        return self.restarts * self._targets_among(classes)

    def passes_of_a_step(self, classes: int) -> tuple[int, int]:
        """A forward and a backward pass a sample."""
        del classes
        return self.gradient_samples, self.gradient_samples

    def caveats(self, view: Predictions) -> list[str]:
        """Says when the margin stands in for the ratio."""
        if self.loss == "cross_entropy" or self._has_ratio(view):
            return []
        needed, has = CLASSES_NEEDED[self.loss], f"has {view.classes}"
        if view.several_labels:
            has = f"predicts {view.classes} labels at once"
        return [
            f"{self.name}: loss={self.loss!r} needs {needed} classes, and the model "
            f"{has}: the margin is attacked in its place. Nothing need be done; say so "
            "beside the number."
        ]

    def passes_of_a_start(self) -> int:
        """One, to rank the target classes."""
        return int(self.loss == "targeted_dlr")

    def start(self, target: Target, images: Any, keys: Any, runs: Any) -> _State:
        """A random point of the ball, a step size of 2 epsilon."""
        start = target.random_start(keys, images)
        nothing = target.each(-float("inf"))
        zeros = target.each(0, "int32")
        return _State(
            iterate=start,
            previous=start,
            target_class=self._target_class(target, images, runs),
            step_size=ops.full_like(nothing, 2.0 * self.epsilon),
            best=start,
            best_gradient=ops.zeros_like(images),
            best_loss=nothing,
            loss=-nothing,  # the first loss is no rise
            rises=zeros,
            # The first check compares with this, so that only its first condition
            # can hold, as in the authors' program.
            best_loss_at_check=nothing,
            halved_at_check=ops.cast(zeros, "bool"),
        )

    def step(
        self, target: Target, images: Any, state: _State, step: Any
    ) -> tuple[_State, Outcome]:
        """Looks at x^(k), and makes x^(k+1)."""
        (loss, logits), gradient = self._mean_gradient(target, state)
        fooled = target.errs(logits)
        outcome = Outcome(state.iterate, fooled, self.loss_of(target, None, logits))
        better = loss > state.best_loss
        state = state._replace(
            rises=state.rises + ops.cast(loss > state.loss, "int32"),
            loss=loss,
            best=choose(better, state.iterate, state.best),
            best_gradient=choose(better, gradient, state.best_gradient),
            best_loss=ops.where(better, loss, state.best_loss),  # never a NaN
        )
        state, gradient = self._check(target, images, state, gradient, step)
        return self._move(target, images, state, gradient, step), outcome

    def loss_of(self, target: Target, outputs: Any, logits: Any) -> Any:
        """The cross-entropy, or the margin, which is alike for every target class."""
        del outputs
        if self.loss == "cross_entropy":
            return target.losses.cross_entropy(target.labels, logits)
        return target.losses.margin(target.labels, logits)

    def _mean_gradient(
        self, target: Target, state: _State
    ) -> tuple[tuple[Any, Any], Any]:
        """At x^(k): mean loss `[B]`, one draw's logits `[B, C]`, mean gradient.

        An attacker who is judged meets one draw of a random model, not their mean.
        """

        def loss_at(iterate: Any) -> tuple[Any, Any]:
            logits = target.logits(iterate)
            return self._objective(target, logits, state.target_class), logits

        (loss, logits), gradient = target.gradient(loss_at, state.iterate)
        for _ in range(self.gradient_samples - 1):
            (more_loss, logits), more = target.gradient(loss_at, state.iterate)
            loss, gradient = loss + more_loss, gradient + more
        count = float(self.gradient_samples)
        return (loss / count, logits), gradient / count

    def _objective(self, target: Target, logits: Any, target_class: Any) -> Any:
        """What is climbed, `[B]`."""
        labels = target.labels
        if self.loss == "cross_entropy":
            return target.losses.cross_entropy(labels, logits)
        if self.loss == "dlr":
            climb = losses.dlr if self._has_ratio(target.view) else target.losses.margin
            return climb(labels, logits)
        if self._has_ratio(target.view):
            return losses.targeted_dlr(labels, logits, target_class)
        return target.losses.targeted_margin(labels, logits, target_class)

    def _loss_at(
        self, target: Target, images: Any, points: Any, target_class: Any
    ) -> Any:
        """What is climbed, at points `[B, ...]`."""
        del images
        return self._objective(target, target.logits(points), target_class)

    def _has_ratio(self, view: Predictions) -> bool:
        """Whether there are logits enough, of classes, for the ratio of the loss."""
        return not view.several_labels and view.classes >= CLASSES_NEEDED[self.loss]

    def _check(
        self, target: Target, images: Any, state: _State, gradient: Any, step: Any
    ) -> tuple[_State, Any]:
        """At a checkpoint: halve the step size and go back to the best point, or not.

        Conditions 1 and 2 of section 3.2 of the paper.
        """
        window = ops.take(ops.convert_to_tensor(self._windows, "int32"), step)
        here = window > 0
        # The largest of many losses in half precision is too large. (What was corrected
        # before stays: computed again, it may round otherwise, and be no longer stuck.)
        is_new = ops.not_equal(state.best_loss, state.best_loss_at_check)
        state = state._replace(
            best_loss=target.corrected(
                ops.logical_and(here, is_new),
                self._loss_at,
                (images, state.best, state.target_class),
                state.best_loss,
            )
        )
        too_few = ops.cast(state.rises, "float32") < SHARE_OF_RISES * ops.cast(
            window, "float32"
        )
        stuck = ops.logical_and(
            ops.logical_not(state.halved_at_check),
            state.best_loss <= state.best_loss_at_check,
        )
        halve = ops.logical_and(here, ops.logical_or(too_few, stuck))
        gradient = choose(halve, state.best_gradient, gradient)
        return state._replace(
            step_size=ops.where(halve, state.step_size / 2.0, state.step_size),
            iterate=choose(halve, state.best, state.iterate),
            loss=ops.where(halve, state.best_loss, state.loss),
            rises=ops.where(here, 0, state.rises),
            best_loss_at_check=ops.where(
                here, state.best_loss, state.best_loss_at_check
            ),
            halved_at_check=ops.where(here, halve, state.halved_at_check),
        ), gradient

    def _move(
        self, target: Target, images: Any, state: _State, gradient: Any, step: Any
    ) -> _State:
        """A step up, and a share of the last move.

        z       = P(x^(k) + eta direction(g))
        x^(k+1) = P(x^(k) + a (z - x^(k)) + (1 - a) (x^(k) - x^(k-1)))
        """
        one_an_example = (-1,) + (1,) * (len(images.shape) - 1)
        here = state.iterate
        step_size = ops.reshape(state.step_size, one_an_example)
        ahead = target.ball.climb(here, images, gradient, step_size)
        share = ops.cast(ops.where(step > 0, MOMENTUM, 1.0), "float32")
        share = ops.reshape(share, one_an_example)
        moved = here + share * (ahead - here) + (1.0 - share) * (here - state.previous)
        return state._replace(
            iterate=target.ball.keep_inside(moved, images), previous=here
        )

    def _target_class(self, target: Target, images: Any, runs: Any) -> Any:
        """The class each example's run aims at, `[B]`."""
        if self.loss != "targeted_dlr":
            return target.each(0, "int32")
        return target.likeliest_other(images, runs, self.targets)

    def _targets_among(self, classes: int) -> int:
        return min(self.targets, classes - 1) if self.loss == "targeted_dlr" else 1

    @property
    def _windows(self) -> list[int]:
        """For each step: 0, or at a checkpoint the steps since the last one.

        Checkpoints are at ceil(p_j steps), with p_0 = 0, p_1 = 0.22 and
        p_{j+1} = p_j + max(p_j - p_{j-1} - 0.03, 0.06).
        """
        windows = [0] * (self.steps + 1)
        last, share, wide = 0, FIRST_CHECKPOINT, FIRST_CHECKPOINT
        while share < 1.0:
            checkpoint = math.ceil(share * self.steps - 1e-9)
            if checkpoint > last:
                windows[checkpoint] = checkpoint - last
            last = checkpoint
            wide = max(wide - CHECKPOINT_SHRINKS_BY, SHORTEST_WINDOW)
            share += wide
        return windows
