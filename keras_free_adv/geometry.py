"""The geometry of a perturbation ball: random start, ascent, projection.

It exists once: training and every attack use it. B is the batch; a perturbation
`delta` and its gradient have the shape of the images, `[B, ...]`, and the images'
pixel scale. "linf" bounds every pixel, "l2" the Euclidean norm of each example.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from keras import ops

from keras_free_adv import backends, random_numbers, validation


class Norm(Protocol):
    """What a norm has to say."""

    def direction(self, gradient: Any) -> Any:
        """The steepest ascent direction, of norm one, `[B, ...]`."""

    def project(self, delta: Any, epsilon: Any) -> Any:
        """The nearest point of the ball of radius `epsilon`, `[B, ...]`."""

    def noise(self, keys: Any, like: Any, epsilon: Any) -> Any:
        """A uniform draw from the ball, of the shape and dtype of `like`."""

    def length(self, delta: Any) -> Any:
        """The norm of each example's delta, `[B, 1, ...]`."""

    def dual_length(self, weights: Any) -> Any:
        """The dual norm of each example, `[B, 1, ...]`.

        A linear function of these weights changes by as much over a step of norm one.
        """

    def speeds(self, weights: Any) -> Any:
        """How fast each pixel moves on the shortest way to a hyperplane, `[B, ...]`.

        `weights` are the normal of the hyperplane.
        """


class LInf:
    """The ball max |delta| <= epsilon."""

    def direction(self, gradient: Any) -> Any:
        """sign(g); zero where g is zero or not finite."""
        # A select takes three times as long on a CPU; no comparison is true of NaN.
        up = (gradient > 0) & (gradient < math.inf)
        down = (gradient < 0) & (gradient > -math.inf)
        return ops.cast(up, gradient.dtype) - ops.cast(down, gradient.dtype)

    def project(self, delta: Any, epsilon: Any) -> Any:
        """Clips every pixel to [-epsilon, epsilon]."""
        return ops.clip(delta, -epsilon, epsilon)

    def noise(self, keys: Any, like: Any, epsilon: Any) -> Any:
        """Uniform in [-epsilon, epsilon), pixel by pixel."""
        drawn = random_numbers.uniform(keys, ops.shape(like), like.dtype)
        return epsilon * (2.0 * drawn - 1.0)

    def length(self, delta: Any) -> Any:
        """Max |delta|."""
        return ops.max(ops.abs(delta), axis=_pixel_axes(delta), keepdims=True)

    def dual_length(self, weights: Any) -> Any:
        """Sum |w|."""
        return ops.sum(ops.abs(weights), axis=_pixel_axes(weights), keepdims=True)

    def speeds(self, weights: Any) -> Any:
        """Every pixel that matters moves alike."""
        return ops.cast(ops.not_equal(weights, 0.0), weights.dtype)


class L2:
    """The ball ||delta||_2 <= epsilon, example by example."""

    def direction(self, gradient: Any) -> Any:
        """G / ||g||; zero for an example whose g is zero or not finite."""
        finite = ops.all(
            ops.isfinite(gradient), axis=_pixel_axes(gradient), keepdims=True
        )
        gradient = ops.where(finite, gradient, 0.0)
        # Dividing by the largest entry first keeps the squares from underflowing.
        largest = ops.max(ops.abs(gradient), axis=_pixel_axes(gradient), keepdims=True)
        scaled = gradient / ops.where(largest > 0, largest, 1.0)
        return scaled / ops.maximum(_length(scaled), 1.0)

    def project(self, delta: Any, epsilon: Any) -> Any:
        """Shortens an example's delta to length epsilon if it is longer."""
        length = _length(delta)
        return delta * ops.where(length > epsilon, epsilon / length, 1.0)

    def noise(self, keys: Any, like: Any, epsilon: Any) -> Any:
        """Uniform in the ball: a Gaussian direction, radius epsilon u^(1/d)."""
        shape = ops.shape(like)
        toward = self.direction(random_numbers.normal(keys, shape, like.dtype))
        one_an_example = (shape[0],) + (1,) * (len(shape) - 1)
        length_keys = random_numbers.fold(keys, -1)
        share = random_numbers.uniform(length_keys, one_an_example, like.dtype)
        # Sizes that a graph leaves open are tensors.
        pixels = ops.cast(math.prod(shape[1:]), like.dtype)
        return epsilon * toward * share ** (1.0 / pixels)

    def length(self, delta: Any) -> Any:
        """||delta||_2."""
        return _length(delta)

    def dual_length(self, weights: Any) -> Any:
        """||w||_2."""
        return _length(weights)

    def speeds(self, weights: Any) -> Any:
        """A pixel moves as much as it matters."""
        return ops.abs(weights)


NORMS: dict[str, Norm] = {"linf": LInf(), "l2": L2()}


def get_norm(name: str) -> Norm:
    """Returns the geometry of "linf" or "l2"."""
    return NORMS[validation.one_of("norm", name, NORMS)]


@dataclass(frozen=True)
class Ball:
    """What an adversarial image may be: near its clean image, and an image.

    Attributes:
        epsilon: radius, on the pixel scale; a number or a scalar tensor.
        norm: "linf" or "l2".
        value_range: lowest and highest pixel value.

    Example:
    >>> ball = Ball(epsilon=0.25, norm="linf", value_range=(0.0, 1.0))
    >>> images = np.float32([[0.5, 0.875]])
    >>> np.asarray(ball.keep_inside(np.float32([[1.0, 1.5]]), images)).tolist()
    [[0.75, 1.0]]
    >>> delta, gradient = np.float32([[0.0, 0.125]]), np.float32([[-3.0, 2.0]])
    >>> np.asarray(ball.ascend(delta, gradient, step_size=0.1875)).tolist()
    [[-0.1875, 0.25]]
    """

    epsilon: Any
    norm: str
    value_range: tuple[float, float]

    def ascend(self, delta: Any, gradient: Any, step_size: Any) -> Any:
        """One ascent step of a perturbation, projected on the ball.

            delta <- project(delta + step_size * direction(g))

        With "linf" this is the update of Shafahi et al. (2019), Algorithm 1. delta
        moves only where its gradient is finite: under float16 an overflow would
        otherwise stay in a persistent delta for the rest of the run.

        Args:
            delta: `[B, ...]`, on the pixel scale.
            gradient: `[B, ...]`, of the loss with respect to delta; any scale.
            step_size: length of the step in the norm, on the pixel scale; a number,
                or one for each example, `[B, 1, ...]`.

        Returns:
            The moved delta, of delta's shape and dtype.
        """
        geometry = get_norm(self.norm)
        step = step_size * geometry.direction(gradient)
        return geometry.project(delta + ops.cast(step, delta.dtype), self.epsilon)

    def climb(self, iterate: Any, images: Any, gradient: Any, step_size: Any) -> Any:
        """One ascent step of an image, inside the ball and the pixel range.

        Madry et al. (2018): a step along the gradient's direction, projection on the
        ball around the clean images, clip to the pixel range.

        Args:
            iterate: where to start, `[B, ...]`.
            images: the clean images, `[B, ...]`.
            gradient: of the loss at the iterate, `[B, ...]`.
            step_size: as of `ascend`.

        Returns:
            The next iterate, `[B, ...]`.
        """
        delta = self.ascend(iterate - images, gradient, step_size)
        return ops.clip(images + delta, *self.value_range)

    def keep_inside(self, points: Any, images: Any) -> Any:
        """Projects points `[B, ...]` on the ball around the images, and clips them."""
        delta = get_norm(self.norm).project(points - images, self.epsilon)
        return ops.clip(images + delta, *self.value_range)

    def random_start(self, keys: Any, images: Any) -> Any:
        """A random point of the ball around each image, clipped, `[B, ...]`.

        Args:
            keys: `[2]`, or `[B, 2]` for a draw of each example's own.
            images: the clean images, `[B, ...]`.
        """
        noise = get_norm(self.norm).noise(keys, images, self.epsilon)
        return ops.clip(images + noise, *self.value_range)

    def length(self, delta: Any) -> Any:
        """The norm of each example's delta, `[B, 1, ...]`."""
        return get_norm(self.norm).length(delta)


def clip_pixels(points: Any, value_range: tuple[float, float]) -> Any:
    """Clips pixels to their range.

    The gradient is that of `keras.ops.clip`, zero for the pixels that were outside, in
    a third of its time on a CPU.

    Args:
        points: `[B, ...]`.
        value_range: lowest and highest pixel value.

    Returns:
        `[B, ...]`, of the dtype of `points`.

    Example:
    >>> np.asarray(clip_pixels(np.float32([-1.0, 0.5, 2.0]), (0, 1))).tolist()
    [0.0, 0.5, 1.0]
    """

    @ops.custom_gradient
    def clipped(points: Any) -> tuple[Any, Any]:
        inside = ops.clip(points, *value_range)

        def gradient(*args: Any, upstream: Any = None) -> Any:
            upstream = args[0] if upstream is None else upstream
            return upstream * ops.cast(ops.equal(points, inside), upstream.dtype)

        return inside, gradient

    return clipped(ops.convert_to_tensor(points))


def _pixel_axes(images: Any) -> tuple[int, ...]:
    return tuple(range(1, len(images.shape)))


def _length(images: Any) -> Any:
    return ops.sqrt(
        ops.sum(ops.square(images), axis=_pixel_axes(images), keepdims=True)
    )


def projected_ascent(
    gradient_at: Callable[[Any], Any],
    images: Any,
    start: Any,
    *,
    steps: int,
    step_size: Any,
    ball: Ball,
) -> Any:
    """Climbs `steps` steps, as K-PGD training and TRADES do; one operation of a graph.

    Args:
        gradient_at: maps an iterate to the gradient of the loss, `[B, ...]`.
        images: the clean images, `[B, ...]`.
        start: the first iterate.
        steps: number of steps.
        step_size: length of a step, on the pixel scale.
        ball: what the iterates may be.

    Returns:
        The last iterate.
    """

    def one_step(iterate: Any, step: Any) -> tuple[Any, Any]:
        return ball.climb(iterate, images, gradient_at(iterate), step_size), step + 1

    last, _ = backends.while_loop(lambda _, step: step < steps, one_step, (start, 0))
    return last
