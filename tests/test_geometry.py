import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from keras import ops

from keras_free_adv import backends, geometry, random_numbers
from keras_free_adv.geometry import Ball
from tests.conftest import skip_without

BATCHES = hnp.arrays(
    np.float32,
    st.tuples(*[st.integers(1, 4)] * 3),
    elements=st.floats(-1e3, 1e3, width=32, allow_subnormal=False),
)


KEY = random_numbers.key(0)


def tensor(array):
    return ops.convert_to_tensor(np.float32(array))


def length(delta, norm):
    flat = np.asarray(delta, "float64").reshape(len(delta), -1)
    return np.abs(flat).max(1) if norm == "linf" else np.sqrt((flat**2).sum(1))


@pytest.mark.parametrize("norm", ["linf", "l2"])
@settings(max_examples=50, deadline=None)
@given(delta=BATCHES, epsilon=st.floats(1e-3, 1e3))
def test_projection_lands_in_the_ball_and_keeps_what_is_inside(norm, delta, epsilon):
    projected = np.asarray(geometry.get_norm(norm).project(tensor(delta), epsilon))
    assert (length(projected, norm) <= epsilon * (1 + 1e-5)).all()
    inside = length(delta, norm) <= epsilon * (1 - 1e-5)
    np.testing.assert_array_equal(projected[inside], delta[inside])


def test_projection_on_the_edge_and_of_zero():
    for norm in ("linf", "l2"):
        edge = np.array([[0.5, 0.0]], "float32")
        project = geometry.get_norm(norm).project
        np.testing.assert_array_equal(project(tensor(edge), 0.5), edge)
        np.testing.assert_array_equal(project(tensor(0 * edge), 0.5), 0 * edge)


def test_l2_projection_by_hand():
    delta = np.array([[3.0, 4.0], [0.3, 0.4]], "float32")
    projected = geometry.get_norm("l2").project(tensor(delta), 1.0)
    np.testing.assert_allclose(projected, [[0.6, 0.8], [0.3, 0.4]], rtol=1e-6)


def test_directions_by_hand():
    gradient = tensor([[3.0, -4.0], [0.0, 0.0]])
    linf, l2 = (geometry.get_norm(n).direction(gradient) for n in ("linf", "l2"))
    np.testing.assert_array_equal(linf, [[1, -1], [0, 0]])
    np.testing.assert_allclose(l2, [[0.6, -0.8], [0, 0]], rtol=1e-6)


@pytest.mark.parametrize("scale", [1e-38, 1e-20, 1e20, 1e37])
def test_l2_direction_of_tiny_and_huge_gradients(scale):
    gradient = tensor(np.array([[3.0, -4.0]], "float32") * np.float32(scale))
    np.testing.assert_allclose(
        geometry.get_norm("l2").direction(gradient), [[0.6, -0.8]], rtol=1e-5
    )


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_delta_moves_only_where_its_gradient_is_finite(bad):
    delta = np.array([[0.1, 0.2], [0.3, 0.4]], "float32")
    gradient = tensor([[bad, 1.0], [1.0, 1.0]])
    linf = Ball(1.0, "linf", (0, 1)).ascend(tensor(delta), gradient, step_size=0.1)
    np.testing.assert_allclose(linf, [[0.1, 0.3], [0.4, 0.5]], rtol=1e-6)
    l2 = Ball(1.0, "l2", (0, 1)).ascend(tensor(delta), gradient, step_size=0.1)
    l2 = np.asarray(l2)
    np.testing.assert_array_equal(l2[0], delta[0])  # the example as a whole stays
    np.testing.assert_allclose(l2[1], delta[1] + 0.1 / np.sqrt(2), rtol=1e-6)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_random_starts_fill_the_ball_evenly(norm):
    keys = random_numbers.keys_of_examples(3, np.arange(4000), 0)
    like = np.zeros((4000, 2, 1), "float32")
    start = np.asarray(Ball(0.5, norm, (-1, 1)).random_start(keys, tensor(like)))
    lengths = length(start, norm)
    assert lengths.max() <= 0.5
    # In two dimensions a share r^2 of the ball lies within r times its radius.
    assert np.mean(lengths < 0.25) == pytest.approx(0.25, abs=0.03)
    np.testing.assert_allclose(start.mean(0), 0, atol=0.02)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_random_starts_are_clipped_noise_around_the_images(norm):
    images, epsilon = np.random.default_rng(0).uniform(0, 1, (50, 4)), 0.5
    images = images.astype("float32")
    for keys in (random_numbers.keys_of_examples(3, np.arange(50), 0), KEY):
        noise = np.asarray(geometry.get_norm(norm).noise(keys, images, epsilon))
        assert length(noise, norm).max() <= epsilon
        start = np.asarray(
            Ball(epsilon, norm, (0, 1)).random_start(keys, tensor(images))
        )
        np.testing.assert_allclose(start, np.clip(images + noise, 0, 1), atol=1e-7)
        assert (start != images + noise).any()


def test_random_numbers_follow_from_seed_example_and_restart_alone():
    def draw(seed, ids, restart):
        keys = random_numbers.keys_of_examples(seed, np.array(ids), restart)
        return np.asarray(random_numbers.uniform(keys, (len(ids), 5), "float32"))

    whole = draw(1, [0, 1, 2, 3], 0)
    np.testing.assert_array_equal(draw(1, [3, 1], 0), whole[[3, 1]])
    for other in (draw(2, [0, 1, 2, 3], 0), draw(1, [0, 1, 2, 3], 1)):
        assert not np.isin(other, whole).any()
    assert len(np.unique(whole)) == whole.size


def test_lengths_and_dual_lengths_by_hand():
    values = np.array([[[3.0], [-4.0]], [[0.0], [0.0]]], "float32")
    linf, l2 = geometry.get_norm("linf"), geometry.get_norm("l2")
    for measured, expected in (
        (linf.length, [4, 0]),
        (l2.length, [5, 0]),
        (linf.dual_length, [7, 0]),  # the dual of max |d| is the sum of |w|
        (l2.dual_length, [5, 0]),
    ):
        np.testing.assert_allclose(
            measured(values), np.reshape(expected, (2, 1, 1)), rtol=1e-6
        )


@pytest.mark.parametrize("norm", ["linf", "l2"])
@settings(max_examples=50, deadline=None)
@given(weights=BATCHES)
def test_a_step_of_length_one_gains_the_dual_length(norm, weights):
    """By Holder's inequality no step gains more; the direction gains just that."""
    ball = geometry.get_norm(norm)
    dual = np.asarray(ball.dual_length(tensor(weights)), "float64").ravel()
    step = np.asarray(ball.direction(tensor(weights)), "float64")
    gained = (weights * step).reshape(len(weights), -1).sum(1)
    np.testing.assert_allclose(gained, dual, rtol=1e-4, atol=1e-20)
    assert (length(step, norm) <= 1 + 1e-5).all()


def test_speeds_by_hand():
    weights = np.array([[2.0, -3.0, 0.0]], "float32")
    np.testing.assert_array_equal(
        geometry.get_norm("linf").speeds(weights), [[1, 1, 0]]
    )
    np.testing.assert_array_equal(geometry.get_norm("l2").speeds(weights), [[2, 3, 0]])


def test_each_example_may_have_a_step_size_of_its_own():
    gradient = tensor([[3.0, 4.0], [3.0, 4.0], [3.0, 4.0]])
    sizes = tensor([[0.1], [0.2], [5.0]])
    moved = Ball(1.0, "l2", (0, 1)).ascend(0 * gradient, gradient, sizes)
    np.testing.assert_allclose(
        moved, [[0.06, 0.08], [0.12, 0.16], [0.6, 0.8]], rtol=1e-6
    )
    moved = Ball(1.0, "linf", (0, 1)).ascend(0 * gradient, gradient, sizes)
    np.testing.assert_allclose(moved, [[0.1] * 2, [0.2] * 2, [1.0] * 2], rtol=1e-6)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 999), epsilon=st.floats(1e-3, 2.0), far=st.floats(0, 3))
def test_what_is_kept_inside_is_in_ball_and_range(norm, seed, epsilon, far):
    generator = np.random.default_rng(seed)
    images = generator.uniform(-1, 1, (4, 3, 2)).astype("float32")
    points = (images + far * generator.normal(size=images.shape)).astype("float32")
    ball = Ball(epsilon, norm, (-1, 1))
    kept = np.asarray(ball.keep_inside(tensor(points), tensor(images)))
    assert (length(kept - images.astype("float64"), norm) <= epsilon + 1e-6).all()
    assert np.abs(kept).max() <= 1
    was_inside = length(points - images.astype("float64"), norm) <= epsilon * (1 - 1e-4)
    was_inside &= np.abs(points).max((1, 2)) <= 1
    np.testing.assert_allclose(kept[was_inside], points[was_inside], atol=1e-6)


def test_keep_inside_by_hand():
    """(3, 4) is shortened to (0.6, 0.8); the second pixel then meets the edge."""
    kept = Ball(1.0, "l2", (0, 1)).keep_inside(
        tensor([[3.1, 4.5]]), tensor([[0.1, 0.5]])
    )
    np.testing.assert_allclose(kept, [[0.7, 1.0]], rtol=1e-6)


def test_a_climb_by_hand():
    """The step leaves the ball, and the second pixel the range, in this order."""
    images = tensor([[0.5, 0.875]])
    iterate, gradient = tensor([[0.5, 1.0]]), tensor([[-3.0, 2.0]])
    ball = Ball(0.25, "linf", (0.0, 1.0))
    moved = ball.climb(iterate, images, gradient, step_size=0.1875)
    np.testing.assert_array_equal(moved, [[0.3125, 1.0]])
    moved = ball.climb(iterate, images, gradient, step_size=0.5)
    np.testing.assert_array_equal(moved, [[0.25, 1.0]])
    # In L2: 0.5 of (-3, 4) / 5 from (0.1, 0.2), shortened to 0.25.
    moved = Ball(0.25, "l2", (0.0, 1.0)).climb(
        tensor([[0.6, 0.4]]), tensor([[0.5, 0.2]]), tensor([[-3, 4]]), 0.5
    )
    far = np.array([0.1 - 0.3, 0.2 + 0.4])
    expected = [[0.5, 0.2] + 0.25 * far / np.linalg.norm(far)]
    np.testing.assert_allclose(moved, expected, rtol=1e-5)


def test_a_ball_measures_in_its_norm():
    values = np.array([[[3.0], [-4.0]], [[0.0], [0.0]]], "float32")
    for norm, expected in (("linf", [4, 0]), ("l2", [5, 0])):
        measured = Ball(1.0, norm, (0, 1)).length(values)
        np.testing.assert_allclose(measured, np.reshape(expected, (2, 1, 1)))


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
def test_the_gradient_of_clipped_pixels_by_hand(dtype):
    skip_without(dtype)
    points = ops.convert_to_tensor([-0.25, 0.0, 0.5, 1.0, 1.5, np.nan], dtype)
    weights = ops.convert_to_tensor([1, 2, 3, 4, 5], dtype)

    def weighted(points):
        clipped = geometry.clip_pixels(points, (0.0, 1.0))
        return ops.sum(clipped[:5] * weights), clipped

    (_, clipped), gradient = backends.value_and_gradient(weighted, points)
    assert clipped.dtype == points.dtype
    clipped, gradient = (ops.cast(x, "float32") for x in (clipped, gradient))
    assert np.asarray(clipped)[:5].tolist() == [0.0, 0.0, 0.5, 1.0, 1.0]
    # At the very edge it is still inside.
    assert np.asarray(gradient).tolist() == [0, 2, 3, 4, 0, 0]


def test_l2_random_starts_have_a_direction_that_their_length_does_not_tell():
    """In the plane each axis has half of the squared length, near and far."""
    keys = random_numbers.keys_of_examples(3, np.arange(4000), 0)
    like = np.zeros((4000, 2), "float32")
    start = np.asarray(geometry.get_norm("l2").noise(keys, like, 1.0))
    lengths = length(start, "l2")
    for ring in (lengths < 0.5, lengths >= 0.5):
        shares = (start[ring] / lengths[ring, None]) ** 2
        np.testing.assert_allclose(shares.mean(0), 0.5, atol=0.05)
