"""The Square attack: random search with squares, which sees scores only."""

from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from keras_free_adv import image_axes, random_numbers, validation
from keras_free_adv.attacks.attack import Attack
from keras_free_adv.attacks.outcome import Outcome, choose
from keras_free_adv.attacks.squares import L2Squares, LInfSquares
from keras_free_adv.attacks.target import Target
from keras_free_adv.predictions import AUTO

# Andriushchenko et al. (2020): the share of pixels a square covers is halved after
# so many of 10,000 queries.
HALVED_AT = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
QUERIES_OF_THE_SCHEDULE = 10_000
FIRST_SHARE = 0.8


class _State(NamedTuple):
    """The best point, its margin, and the example's key."""

    best: Any
    margin: Any
    keys: Any


@keras.saving.register_keras_serializable("keras_free_adv")
class SquareAttack(Attack):
    """The Square attack of Andriushchenko et al. (2020), as a Keras layer.

    Random search: each query changes a square of pixels, at a random place, to the
    edge of the ball, and is kept if the margin falls. It sees the model's scores
    only, no gradient, so that it also finds what hidden gradients hide. It stops at
    the first success.

    Reference: Andriushchenko et al., "Square Attack: a query-efficient black-box
    adversarial attack via random search", ECCV 2020, Algorithms 1 to 3, with the
    first share of 0.8 that AutoAttack uses.

    Args:
        epsilon: radius of the ball, on the pixel scale (8 / 255 for images in [0, 1]).
        queries: forward passes an example, at most, in a restart.
        restarts: independent restarts.
        norm: "linf" or "l2", of each example.
        value_range: lowest and highest pixel value; None for the model's own, see
            `keras_free_adv.pixel_scale`.
        from_logits: whether the model returns logits; see `PGDAttack`.
        predicts: what the model predicts; see `PGDAttack`.
        seed: random numbers follow from (seed, position of the example, run, query).
        name: name in reports; "square" by default.
        data_format: "channels_last" or "channels_first", the axes of the images; None
            for the model's own where it shows, else Keras' `image_data_format()`.
        rescale_schedule: whether the schedule of the squares' sizes, published for
            10,000 queries, is rescaled to `queries`, as its authors advise. Within
            AutoAttack it is not.

    Call arguments:
        images: `[B, height, width, channels]`, or `[B, channels, height, width]` if
            `data_format` is "channels_first"; or `[B, height, width]`.
        labels, model: as in `PGDAttack`; the model need not be differentiable.

    Raises:
        TypeError, ValueError: as `PGDAttack`; and if the images have no height and
            width, or their shape says that the channels are on the other axis.

    Example:
    >>> network = keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Flatten(),
    ...                             keras.layers.Dense(3)])
    >>> attack = SquareAttack(epsilon=0.1, queries=50, seed=0)
    >>> images = np.random.rand(2, 4, 4, 1).astype("float32")
    >>> adversarial = attack(images, np.array([0, 2]), model=network)
    >>> bool(np.abs(adversarial - images).max() <= 0.1 + 1e-6)
    True
    """

    stops_when_fooled = True
    white_box = False

    def __init__(
        self,
        epsilon: float,
        *,
        queries: int = 5000,
        restarts: int = 1,
        norm: str = "linf",
        value_range: tuple[float, float] | None = None,
        from_logits: bool | str = "auto",
        predicts: str = AUTO,
        seed: int | None = None,
        name: str | None = None,
        data_format: str | None = None,
        rescale_schedule: bool = True,
    ) -> None:
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
            stem="square",
        )
        self.queries = validation.positive_integer("queries", queries)
        self.data_format = image_axes.checked(data_format)
        self.rescale_schedule = validation.boolean("rescale_schedule", rescale_schedule)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "queries": self.queries,
            "data_format": self.data_format,
            "rescale_schedule": self.rescale_schedule,
        }

    @property
    def steps_of_a_run(self) -> int:
        """One a query."""
        return self.queries

    def passes_of_a_step(self, classes: int) -> tuple[int, int]:
        """A query is a forward pass."""
        del classes
        return 1, 0

    def check_images(self, shape: tuple[int, ...], model: keras.Model) -> None:
        """Raises if images of `shape` `[B, ...]` have no height and width."""
        self._check_shape(shape, image_axes.resolve(self.data_format, model))

    def _check_shape(self, shape: tuple[int, ...], data_format: str) -> None:
        if len(shape) not in (3, 4):
            raise ValueError(
                "Argument `images` must have shape (batch, height, width, channels) or "
                f"(batch, height, width): {self.name} changes squares of pixels. "
                f"Received: shape {tuple(shape)}. Reshape inside the model, or leave "
                "this attack out."
            )
        image_axes.check_images(shape, data_format)

    def start(self, target: Target, images: Any, keys: Any, runs: Any) -> _State:
        """The image; the first query asks for stripes or tiles."""
        del runs
        self._check_shape(images.shape, target.data_format)
        margin = target.each(-float("inf"))
        return _State(images, margin, keys)

    def step(
        self, target: Target, images: Any, state: _State, step: Any
    ) -> tuple[_State, Outcome]:
        """One query, kept if it is better."""
        asked = target.keep_masked(self._ask(target, images, state, step))
        logits = target.logits(asked)
        margin = target.losses.margin(target.labels, logits)
        better = margin > state.margin
        state = state._replace(
            best=choose(better, asked, state.best),
            margin=ops.where(better, margin, state.margin),  # never a NaN
        )
        return state, Outcome(asked, target.errs(logits), margin)

    def loss_of(self, target: Target, outputs: Any, logits: Any) -> Any:
        """The margin."""
        del outputs
        return target.losses.margin(target.labels, logits)

    def _ask(self, target: Target, images: Any, state: _State, step: Any) -> Any:
        """The point to ask the model about, `[B, ...]`."""
        clean, best = (
            image_axes.to_last(x, target.data_format) for x in (images, state.best)
        )
        search = L2Squares if self.norm == "l2" else LInfSquares
        squares = search(clean, self.epsilon, self._sides(clean.shape))
        keys = random_numbers.fold(state.keys, step)
        asked = choose(
            ops.equal(step, 0),
            squares.first(keys),
            squares.proposal(keys, best, step),
        )
        # Before the channels move back: so that rounding does not depend on the axes.
        inside = target.ball.keep_inside(asked, clean)
        return image_axes.from_last(inside, target.data_format, len(images.shape))

    def _sides(self, shape: tuple[int, ...]) -> np.ndarray:
        """The side of the square at each query, of `[B, height, width, ...]`."""
        height, width = shape[1:3]
        pace = QUERIES_OF_THE_SCHEDULE / self.queries if self.rescale_schedule else 1
        query = np.arange(self.queries) * pace
        halvings = np.searchsorted(HALVED_AT, query.astype(int), side="left")
        sides = np.sqrt(FIRST_SHARE / 2.0**halvings * height * width).round()
        least = 3 if self.norm == "l2" else 1
        sides = np.clip(sides, least, None).astype("int32")
        if self.norm == "l2":
            sides += 1 - sides % 2
        return np.minimum(sides, min(height, width))
