import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops

from keras_free_adv.attacks import hyperplane

WEIGHT = st.one_of(st.just(0.0), st.floats(0.05, 5.0), st.floats(-5.0, -0.05))
SHARE = st.one_of(st.sampled_from([0.0, 1.0]), st.floats(0.0, 1.0))
RANGE = st.sampled_from([(0.0, 1.0), (-1.0, 1.0), (0.0, 255.0)])


def project_on_hyperplane(*arrays, **settings):
    tensors = [ops.convert_to_tensor(array) for array in arrays]
    return np.asarray(hyperplane.project_on_hyperplane(*tensors, **settings))


@st.composite
def problems(draw):
    """Points of a range (some on its edge), weights (some zero) and values."""
    low, high = draw(RANGE)
    batch, pixels = draw(st.integers(1, 3)), draw(st.integers(1, 6))

    def array(elements):
        row = st.lists(elements, min_size=pixels, max_size=pixels)
        return np.array(draw(st.lists(row, min_size=batch, max_size=batch)))

    points = (low + (high - low) * array(SHARE)).astype("float32")
    weights = array(WEIGHT).astype("float32")
    shares = np.array([draw(st.floats(-1.2, 1.2)) for _ in range(batch)])
    most = (high - low) * np.abs(weights).sum(1)  # f can change by no more
    values = np.where(most > 0, shares * most, shares).astype("float32")
    return points, weights, values, (low, high)


def shortest(point, weight, value, norm, value_range):
    """d in float64, by bisection; None if the plane does not meet the range.

    In L2 the conditions of Karush, Kuhn and Tucker give d = clip(-k w) with one
    multiplier k; in L-infinity a cube of half side k around the point is searched for
    its farthest corner.
    """
    point, weight = np.float64(point), np.float64(weight)
    low, high = value_range

    def step(k):
        wish = -k * weight if norm == "l2" else -k * np.sign(weight)
        return np.clip(point + wish, low, high) - point

    far = 10.0 * (high - low) / np.abs(weight[weight != 0]).min(initial=1.0)
    below, above = (0.0, far) if value > 0 else (-far, 0.0)
    if value + weight @ step(below) < 0 or value + weight @ step(above) > 0:
        return None
    for _ in range(100):
        middle = (below + above) / 2
        if value + weight @ step(middle) > 0:
            below = middle
        else:
            above = middle
    return step(above)


def lengths(delta, norm):
    delta = np.asarray(delta, "float64")
    return np.abs(delta).max(1) if norm == "linf" else np.linalg.norm(delta, axis=1)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@settings(max_examples=100, deadline=None)
@given(problem=problems())
def test_projections_are_the_shortest(norm, problem):
    points, weights, values, value_range = problem
    low, high = value_range
    width = high - low
    found = np.asarray(
        project_on_hyperplane(
            points, weights, values, norm=norm, value_range=value_range
        ),
        "float64",
    )
    assert found.shape == points.shape
    moved = points + found
    assert low - 1e-6 * width <= moved.min()
    assert moved.max() <= high + 1e-6 * width
    for row, (point, weight, value) in enumerate(
        zip(points, weights, values, strict=True)
    ):
        expected = shortest(point, weight, value, norm, value_range)
        if expected is None:  # as near as it gets
            toward = -np.sign(weight) * np.sign(value)
            edge = np.where(toward > 0, high - point, low - point) * np.abs(toward)
            np.testing.assert_allclose(found[row], edge, atol=1e-5 * width)
            continue
        # How much of f float32 leaves, and what that is in pixels.
        rest = 1e-5 * (abs(value) + width * np.abs(weight).sum())
        assert abs(value + weight @ found[row]) <= rest
        if norm == "l2":  # the only shortest one
            np.testing.assert_allclose(
                found[row], expected, atol=2 * rest / np.abs(weight).max(initial=0.05)
            )
        assert lengths(found[[row]], norm) <= lengths([expected], norm) + rest / 0.05


def test_l2_by_hand():
    """-f w / ||w||^2 = (-0.12, -0.16); beyond the edge, the second pixel goes on."""
    arguments = {"norm": "l2", "value_range": (0, 1)}
    weights = np.float32([[3.0, 4.0]])
    free = project_on_hyperplane(
        np.float32([[0.5, 0.5]]), weights, np.float32([1.0]), **arguments
    )
    np.testing.assert_allclose(free, [[-0.12, -0.16]], rtol=1e-5)
    blocked = project_on_hyperplane(
        np.float32([[0.05, 0.5]]), weights, np.float32([1.0]), **arguments
    )
    # 3 * 0.05 of the 1 comes from the first pixel, the rest from the second.
    np.testing.assert_allclose(blocked, [[-0.05, -0.85 / 4]], rtol=1e-5)


def test_linf_by_hand():
    """|f| / sum |w| = 1 / 7 each; pixels of no weight stay."""
    arguments = {"norm": "linf", "value_range": (0, 1)}
    weights = np.float32([[3.0, -4.0, 0.0]])
    free = project_on_hyperplane(
        np.float32([[0.5, 0.5, 0.5]]), weights, np.float32([1.0]), **arguments
    )
    np.testing.assert_allclose(free, [[-1 / 7, 1 / 7, 0]], rtol=1e-5)
    blocked = project_on_hyperplane(
        np.float32([[0.5, 0.9, 0.5]]), weights, np.float32([1.0]), **arguments
    )
    np.testing.assert_allclose(blocked, [[-0.2, 0.1, 0]], rtol=1e-5)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_point_on_the_plane_and_weights_of_zero_stay(norm):
    points = np.float32([[0.5, 0.0], [0.5, 1.0]])
    found = project_on_hyperplane(
        points,
        np.float32([[1.0, 2.0], [0.0, 0.0]]),
        np.float32([0.0, 3.0]),
        norm=norm,
        value_range=(0, 1),
    )
    np.testing.assert_array_equal(found, np.zeros((2, 2)))


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_the_scale_of_the_plane_cancels_out(norm, scale):
    generator = np.random.default_rng(0)
    points = generator.uniform(0, 1, (4, 3, 2)).astype("float32")
    weights = generator.normal(size=(4, 3, 2)).astype("float32")
    values = generator.normal(size=4).astype("float32")
    settings = {"norm": norm, "value_range": (0, 1)}
    expected = project_on_hyperplane(points, weights, values, **settings)
    scale = np.float32(scale)
    found = project_on_hyperplane(points, weights * scale, values * scale, **settings)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert np.abs(expected).max() > 0.01


def test_neighbours_in_the_batch_do_not_matter():
    """One that ends at once, one that needs many steps, one that never arrives."""
    points = np.full((3, 8), 0.5, "float32")
    points[1] = np.linspace(0.95, 0.99, 8)
    weights = np.stack([np.ones(8), 2.0 ** -np.arange(8), np.ones(8)]).astype("float32")
    values = np.float32([1e-3, -0.05, -99.0])
    settings = {"norm": "l2", "value_range": (0, 1)}
    together = project_on_hyperplane(points, weights, values, **settings)
    for row in range(3):
        one = slice(row, row + 1)
        alone = project_on_hyperplane(
            points[one], weights[one], values[one], **settings
        )
        np.testing.assert_allclose(together[one], alone, atol=1e-7)
    np.testing.assert_array_equal(together[2], np.full(8, 0.5))
