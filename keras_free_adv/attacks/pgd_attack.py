"""Projected gradient descent, the standard white-box attack."""

from typing import Any

import keras
from keras import ops

from keras_free_adv import losses, validation
from keras_free_adv.attacks.attack import Attack
from keras_free_adv.attacks.custom_loss import check_shapes_belong, loss_of_each
from keras_free_adv.attacks.outcome import Outcome, choose
from keras_free_adv.attacks.target import Target
from keras_free_adv.predictions import AUTO, Predictions


@keras.saving.register_keras_serializable("keras_free_adv")
class PGDAttack(Attack):
    """The PGD attack of Madry et al. (2018), as a Keras layer.

    From a random point of the ball, each step goes `step_size` along the sign (or the
    L2 direction) of the loss's input gradient, is projected on the ball, and clipped
    to the pixel range. The model runs in inference mode; none of its variables
    change. `attack(images, labels, model=model)` returns adversarial images inside
    the ball and inside `value_range`, never weaker than not attacking.

    Reference: Madry et al., "Towards Deep Learning Models Resistant to Adversarial
    Attacks", ICLR 2018; the protocol of Shafahi et al. (2019), section 4, is
    `keep="last"`, with steps of 2/255 for CIFAR and 1/255 for ImageNet.

    Args:
        epsilon: radius of the ball, on the pixel scale (8 / 255 for images in [0, 1]).
        steps: number of steps.
        step_size: length of a step, on the pixel scale; 2.5 * epsilon / steps by
            default, as Madry et al. suggest, and at most epsilon.
        restarts: independent random starts; an example is fooled if one fools it.
        random_start: whether to start at a random point of the ball. One step of size
            epsilon without it is FGSM.
        norm: "linf" or "l2", of each example.
        loss: "cross_entropy", "cw_margin" (Carlini and Wagner 2017), or a
            `keras.losses.Loss`, whose `call` is given the labels and the model's
            outputs as they are, and returns one number an example.
        keep: "best" keeps, per example, the most damaging iterate over steps and
            restarts (a misclassified one if there is any, else the largest loss);
            "last" the last iterate of each restart, as in the paper.
        targeted: whether `labels` are classes to be reached.
        value_range: lowest and highest pixel value; None for the model's own, see
            `keras_free_adv.pixel_scale`.
        from_logits: whether the model returns logits. "auto" looks through a final
            softmax or sigmoid, and otherwise decides from the outputs and the
            compiled loss.
        predicts: what the model predicts: "class" (one of C classes) or "labels"
            (several at once); "auto" decides from outputs, compiled loss and labels,
            and refuses where they leave doubt.
        seed: random starts follow from (seed, position of the example, restart).
            None draws a seed once.
        name: name in reports; by default what the field says, such as "pgd20",
            "pgd20x10", "cw100" or "fgsm".

    Call arguments:
        images: `[B, ...]`, on the scale of `value_range`. Floats keep their dtype,
            integers come back as float32. The attack computes in float32; the cast
            back of float16 or bfloat16 images rounds, also out of the ball. Pixels a
            little outside the range (1% of it, as resizing leaves them) are clipped
            first.
        labels: class numbers `[B]`, or one-hot rows `[B, C]`. For a model of several
            labels, rows `[B, L]`, 1 where a label is there; an example is fooled as
            soon as one label is wrong.
        model: the classifier, `[B, ...]` to `[B, C]`; one sigmoid unit counts as two
            classes. It is not tracked.

    Raises:
        TypeError, ValueError: an argument is out of its range, `labels` or `model` are
            missing, the images do not lie in `value_range`, or the loss is one number
            for the whole batch, or spreads one label over several outputs.

    Example:
    >>> network = keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Flatten(),
    ...                             keras.layers.Dense(3)])
    >>> attack = PGDAttack(epsilon=0.1, steps=5, seed=0)
    >>> images = np.random.rand(2, 4, 4, 1).astype("float32")
    >>> adversarial = attack(images, np.array([0, 2]), model=network)
    >>> bool(np.abs(adversarial - images).max() <= 0.1 + 1e-6)
    True
    """

    def __init__(
        self,
        epsilon: float,
        *,
        steps: int = 20,
        step_size: float | None = None,
        restarts: int = 1,
        random_start: bool = True,
        norm: str = "linf",
        loss: str | keras.losses.Loss = "cross_entropy",
        keep: str = "best",
        targeted: bool = False,
        value_range: tuple[float, float] | None = None,
        from_logits: bool | str = "auto",
        predicts: str = AUTO,
        seed: int | None = None,
        name: str | None = None,
    ) -> None:
        steps = validation.positive_integer("steps", steps)
        random_start = validation.boolean("random_start", random_start)
        keep = validation.one_of("keep", keep, ("best", "last"))
        loss = _checked_loss(loss)
        super().__init__(
            epsilon,
            restarts=restarts,
            norm=norm,
            targeted=targeted,
            value_range=value_range,
            from_logits=from_logits,
            predicts=predicts,
            seed=seed,
            name=name,
            stem=_stem(loss, steps, random_start),
        )
        self.steps = steps
        self.step_size = (
            min(2.5 * self.epsilon / steps, self.epsilon)
            if step_size is None
            else validation.positive_number("step_size", step_size)
        )
        self.random_start = random_start
        self.loss = loss
        self.keep = keep

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        loss = self.loss
        if isinstance(loss, keras.losses.Loss):
            loss = keras.saving.serialize_keras_object(loss)
        return {
            **super().get_config(),
            "targeted": self.targeted,
            "steps": self.steps,
            "step_size": self.step_size,
            "random_start": self.random_start,
            "loss": loss,
            "keep": self.keep,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "PGDAttack":
        """Makes the attack from `get_config()`."""
        config = dict(config)
        if isinstance(config["loss"], dict):
            config["loss"] = keras.saving.deserialize_keras_object(config["loss"])
        return cls(**config)

    @property
    def steps_of_a_run(self) -> int:
        """`steps`, and one that only looks at the last iterate."""
        return self.steps + 1

    def start(self, target: Target, images: Any, keys: Any, runs: Any) -> Any:
        """A random point of the ball, or the image."""
        del runs
        if not self.random_start:
            return images
        return target.random_start(keys, images)

    def step(
        self, target: Target, images: Any, state: Any, step: Any
    ) -> tuple[Any, Outcome]:
        """Looks at the iterate, and goes one step up its loss."""
        iterate = state

        def loss_at(iterate: Any) -> tuple[Any, Any]:
            outputs = target.outputs(iterate)
            fooled, loss = self.judge(target, outputs.values, target.view(outputs))
            return loss, fooled

        (loss, fooled), gradient = target.gradient(loss_at, iterate)
        if self.keep == "last":
            last = ops.equal(step, self.steps)
            fooled = choose(last, fooled, ops.zeros_like(fooled))
            loss = ops.where(last, loss, -float("inf"))
        moved = target.ball.climb(iterate, images, gradient, self.step_size)
        return moved, Outcome(iterate, fooled, loss)

    def check_labels(self, labels: Any, view: Predictions) -> None:
        """Raises if a loss of the user's does not fit labels of this shape."""
        if isinstance(self.loss, keras.losses.Loss):
            check_shapes_belong(self.loss, labels, view.units)

    def loss_of(self, target: Target, outputs: Any, logits: Any) -> Any:
        """The loss, `[B]`; in a targeted attack, what is largest at the class."""
        if isinstance(self.loss, keras.losses.Loss):
            values = loss_of_each(self.loss, target.given_labels, outputs)
        elif self.loss == "cw_margin" and self.targeted:
            # Its negative would be the same, zero, wherever the class is not reached.
            return ops.minimum(-target.losses.margin(target.labels, logits), 0.0)
        else:
            values = target.losses.LOSSES[self.loss](target.labels, logits)
        return -values if self.targeted else values


def _checked_loss(loss: Any) -> Any:
    if isinstance(loss, keras.losses.Loss):
        return loss
    if isinstance(loss, str) and loss in losses.LOSSES:
        return str(loss)
    raise ValueError(
        f"Argument `loss` must be one of {list(losses.LOSSES)} or a keras.losses.Loss. "
        f"Received: loss={loss!r}."
    )


def _stem(loss: Any, steps: int, random_start: bool) -> str:
    if isinstance(loss, keras.losses.Loss):
        stem = f"pgd_{loss.name}_"
    else:
        stem = "cw" if loss == "cw_margin" else "pgd"
    if steps == 1 and not random_start and stem == "pgd":
        return "fgsm"
    return f"{stem}{steps}"
