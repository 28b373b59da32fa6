"""FAB: the fast adaptive boundary attack, which looks for the nearest boundary."""

import dataclasses
from typing import Any, NamedTuple

import keras
from keras import ops

from keras_free_adv import geometry, validation
from keras_free_adv.attacks.attack import Attack
from keras_free_adv.attacks.hyperplane import project_on_hyperplane
from keras_free_adv.attacks.outcome import Outcome, any_label, choose
from keras_free_adv.attacks.target import Target
from keras_free_adv.predictions import AUTO

# The constants of Croce and Hein (2020), section 4.
OVERSHOOT = 1.05  # eta
LARGEST_BIAS = 0.1  # alpha_max
BACKWARD = 0.9  # beta


class _State(NamedTuple):
    """Where the search is, the class it aims at, and the nearest success so far.

    `ahead` says how far that class was ahead at the last point looked at, and
    `is_known` whether the iterate is that point.
    """

    iterate: Any
    target_class: Any
    nearest: Any
    distance: Any
    ahead: Any
    is_known: Any


@keras.saving.register_keras_serializable("keras_free_adv")
class FABAttack(Attack):
    """The fast adaptive boundary attack of Croce and Hein (2020), as a Keras layer.

    It does not climb a loss inside the ball, but looks for the misclassified point
    nearest to the image, wherever that is: each step goes to the linearized decision
    boundary, with a pull back to the image, and after a success a tenth of the way
    back. An example counts as fooled if the point found lies in the ball; otherwise
    the image itself is returned.

    Reference: Croce and Hein, "Minimally distorted adversarial examples with a fast
    adaptive boundary attack", ICML 2020, Algorithm 1 (without its final search, which
    shortens what is found already).

    Args:
        epsilon: radius of the ball, on the pixel scale (8 / 255 for images in [0, 1]).
        steps: number of steps.
        restarts: independent restarts; the first begins at the image, others at a
            random point of the ball of half the radius.
        norm: "linf" or "l2", of each example.
        targets: one run for each of so many likeliest other classes, with one
            backward pass a step. None for the untargeted form: one run, in which each
            step goes to the nearest boundary of all, with as many backward passes as
            there are classes.
        value_range: lowest and highest pixel value; None for the model's own, see
            `keras_free_adv.pixel_scale`.
        from_logits: whether the model returns logits; see `PGDAttack`.
        predicts: what the model predicts; see `PGDAttack`.
        seed: random starts follow from (seed, position of the example, run).
        name: name in reports; "fab_t", or "fab" untargeted, by default.

    Call arguments and errors are those of `PGDAttack`.

    Example:
    >>> network = keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Flatten(),
    ...                             keras.layers.Dense(3)])
    >>> attack = FABAttack(epsilon=0.1, steps=10)
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
        targets: int | None = 9,
        value_range: tuple[float, float] | None = None,
        from_logits: bool | str = "auto",
        predicts: str = AUTO,
        seed: int | None = None,
        name: str | None = None,
    ) -> None:
        stem = "fab" if targets is None else "fab_t"
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
        if targets is not None:
            targets = validation.positive_integer(
                "targets", targets, "Pass targets=None for the untargeted attack."
            )
        self.targets = targets

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "steps": self.steps,
            "targets": self.targets,
        }

    @property
    def steps_of_a_run(self) -> int:
        """`steps`."""
        return self.steps

    def runs(self, classes: int) -> int:
        """Restarts, times target classes."""
        return self.restarts * self._targets_among(classes)

    def passes_of_a_step(self, classes: int) -> tuple[int, int]:
        """One forward pass for the boundary, one for the new point."""
        return 2, classes if self.targets is None else 1

    def passes_of_a_start(self) -> int:
        """One, to rank the target classes."""
        return int(self.targets is not None)

    def start(self, target: Target, images: Any, keys: Any, runs: Any) -> _State:
        """The image, or in a later restart a random point near it."""
        targets = self._targets_among(target.view.alternatives + 1)
        near = dataclasses.replace(target.ball, epsilon=self.epsilon / 2.0)
        moved = target.keep_masked(near.random_start(keys, images))
        return _State(
            iterate=choose(ops.greater_equal(runs, targets), moved, images),
            target_class=(
                target.each(0, "int32")
                if self.targets is None
                else target.likeliest_other(images, runs, self.targets)
            ),
            nearest=images,
            distance=target.each(float("inf")),
            ahead=target.each(0.0),
            is_known=target.each(0, "bool"),
        )

    def step(
        self, target: Target, images: Any, state: _State, step: Any
    ) -> tuple[_State, Outcome]:
        """To the linearized boundary, biased towards the image; then a look."""
        del step
        if self.targets is None:  # half precision might name another class
            target = target.in_full_precision(images)
        ahead, weights = self._boundary(target, state)
        if target.of_the_model is not None:
            # By half precision's the iterate would stop short of the boundary.
            ahead = target.corrected(
                ops.logical_not(state.is_known),
                self._ahead_at,
                (images, state.iterate, state.target_class),
                state.ahead,
            )
        moved = self._move(target, images, state.iterate, weights, ahead)

        judge = target.in_full_precision(images)
        logits = judge.logits(moved)
        errs = judge.errs(logits)
        distance = ops.reshape(target.ball.length(moved - images), (-1,))
        fooled = any_label(errs)
        nearer = ops.logical_and(fooled, distance < state.distance)
        state = state._replace(
            iterate=choose(fooled, images + BACKWARD * (moved - images), moved),
            nearest=choose(nearer, moved, state.nearest),
            distance=ops.where(nearer, distance, state.distance),
            ahead=judge.losses.targeted_margin(
                target.labels, logits, state.target_class
            ),
            is_known=ops.logical_not(fooled),
        )
        inside = distance <= self.epsilon
        nearest = choose(state.distance <= self.epsilon, state.nearest, images)
        return state, Outcome(
            choose(ops.logical_and(inside, fooled), moved, nearest),
            choose(inside, errs, ops.zeros_like(errs)),
            -state.distance,
        )

    def loss_of(self, target: Target, outputs: Any, logits: Any) -> Any:
        """The negative distance: an image that fools the model as it is has zero."""
        del outputs
        return ops.where(any_label(target.errs(logits)), 0.0, -float("inf"))

    def _boundary(self, target: Target, state: _State) -> tuple[Any, Any]:
        """How far the other class is ahead, `[B]`, and its gradient, `[B, ...]`."""
        if self.targets is None:
            return self._nearest_boundary(target, state.iterate)

        def ahead_at(iterate: Any) -> tuple[Any]:
            logits = target.logits(iterate)
            climb = target.losses.targeted_margin
            return (climb(target.labels, logits, state.target_class),)

        (ahead,), weights = target.gradient(ahead_at, state.iterate)
        return ahead, weights

    def _ahead_at(self, target: Target, images: Any, points: Any, to: Any) -> Any:
        """How far the target class is ahead at points `[B, ...]`."""
        del images
        return target.losses.targeted_margin(target.labels, target.logits(points), to)

    def _nearest_boundary(self, target: Target, iterate: Any) -> tuple[Any, Any]:
        """That of the class which the linear model reaches first.

        argmin over s != y of |z_s - z_y| / ||w_s - w_y||, in the dual norm.
        """
        dual_length = geometry.get_norm(self.norm).dual_length

        def visit(number: Any, lead: Any, weights: Any, nearest: Any) -> Any:
            steepness = ops.reshape(dual_length(weights), (-1,))
            distance = ops.abs(lead) / ops.maximum(steepness, 1e-12)
            nearer = ops.logical_and(
                distance < nearest[0], target.is_alternative(number)
            )
            return tuple(
                choose(nearer, new, old)
                for new, old in zip((distance, lead, weights), nearest, strict=True)
            )

        far = target.each(float("inf"))
        nothing = (far, ops.zeros_like(far), ops.zeros_like(iterate))
        _, lead, weights = target.for_each_class(iterate, visit, nothing)
        return lead, weights

    def _move(
        self, target: Target, images: Any, iterate: Any, weights: Any, ahead: Any
    ) -> Any:
        """Both projections on the boundary, averaged in favour of the iterate's.

        x' = (1 - alpha) (x + eta d(x)) + alpha (x_0 + eta d(x_0))
        """
        axes = tuple(range(1, len(images.shape)))
        # f at the image, of the boundary linearized at the iterate.
        ahead_of_image = ahead + ops.sum(weights * (images - iterate), axis=axes)
        settings: dict[str, Any] = {
            "norm": self.norm,
            "value_range": target.ball.value_range,
        }
        here = project_on_hyperplane(iterate, weights, ahead, **settings)
        there = project_on_hyperplane(images, weights, ahead_of_image, **settings)
        far, near = target.ball.length(here), target.ball.length(there)
        bias = ops.minimum(far / ops.maximum(far + near, 1e-12), LARGEST_BIAS)
        moved = (1.0 - bias) * (iterate + OVERSHOOT * here) + bias * (
            images + OVERSHOOT * there
        )
        return ops.clip(moved, *target.ball.value_range)

    def _targets_among(self, classes: int) -> int:
        return 1 if self.targets is None else min(self.targets, classes - 1)
