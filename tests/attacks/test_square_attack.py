import keras
import numpy as np
import pytest
from keras import layers, ops

from keras_free_adv import (
    AutoAttack,
    SquareAttack,
    backends,
    evaluate_robustness,
    random_numbers,
)
from keras_free_adv.attacks.outcome import Outcome
from tests.attacks.test_apgd_attack import bent_network, target_of
from tests.attacks.test_pgd_attack import inside
from tests.conftest import compiled, outputs_of, small_images, small_network


def rounding_network():
    """Looks at whole multiples of 1/16 only: its gradient is zero or none."""
    inputs = keras.Input((6, 6, 1))
    rounded = layers.Lambda(
        lambda x: ops.cast(ops.cast(16 * x, "int32"), "float32") / 16
    )
    x = rounded(inputs)
    network = keras.Model(inputs, layers.Dense(3)(layers.Flatten()(x)))
    generator = np.random.default_rng(0)
    network.set_weights([generator.normal(size=(36, 3)), np.zeros(3)])
    return network


def separable(network, count=100):
    """Images, and the labels that the network gives them."""
    images, _ = small_images(count)
    return images, outputs_of(network, images).argmax(1)


def walk(attack, model, images, labels, classes):
    """Points asked about, their margins, and the best point after each query."""
    target = target_of(attack, model, labels, classes)
    keys = random_numbers.keys_of_examples(
        attack.seed_in_use, np.arange(len(images)), 0
    )
    clean, count = ops.convert_to_tensor(images), len(images)
    state = attack.start(target, clean, keys, ops.zeros((count,), "int32"))
    take_step = compiled(
        lambda state, step: attack.step(target, clean, state, step), model
    )
    asked, best = [], []
    for step in range(attack.steps_of_a_run):
        state, seen = take_step(state, ops.full((count,), step, "int32"))
        asked.append(Outcome(*(np.asarray(of_each) for of_each in seen)))
        best.append(np.asarray(state.best))
    return asked, np.stack(best)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize(
    ("queries", "rescaled", "ends"),
    [
        # After 10, 50, 200, ... of 10,000 queries the share of pixels is halved.
        (10_000, True, [10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000, 9999]),
        (5_000, True, [5, 25, 100, 250, 500, 1000, 2000, 3000, 4000, 4999]),
        # The first 5,000 of 10,000 queries, as in AutoAttack.
        (5_000, False, [10, 50, 200, 500, 1000, 2000, 4000, 4999]),
    ],
)
def test_the_schedule_of_sides_by_hand(queries, rescaled, ends, norm):
    """Sides round(sqrt(0.8 / 2^k * 32 * 32)); in L2 odd, and 3 or more."""
    attack = SquareAttack(0.1, queries=queries, norm=norm, rescale_schedule=rescaled)
    sides = attack._sides((None, 32, 32, 3))
    expected = {
        "linf": [29, 20, 14, 10, 7, 5, 4, 3, 2, 1],
        "l2": [29, 21, 15, 11, 7, 5, 5, 3, 3, 3],
    }[norm]
    assert len(sides) == queries
    begin = 0
    for end, side in zip(ends, expected, strict=False):
        np.testing.assert_array_equal(sides[begin : end + 1], side)
        begin = end + 1


def test_a_square_is_not_larger_than_the_image():
    for norm in ("linf", "l2"):
        sides = SquareAttack(0.1, queries=50, norm=norm)._sides((None, 3, 20, 1))
        assert sides.max() == 3
        assert sides.min() >= 1


def test_linf_queries_change_a_square_at_the_edge_of_the_ball():
    model = small_network((8, 8, 2))
    images, _ = small_images(10, (8, 8, 2))
    images = 0.2 + 0.6 * images
    images[0] = np.round(images[0])  # here the pixel range cuts the ball
    labels = outputs_of(model, images).argmax(1)
    attack = SquareAttack(0.1, queries=30, seed=0)
    asked, best = walk(attack, model, images, labels, 3)
    sides = attack._sides(images.shape)
    edge = np.stack([np.clip(images - 0.1, 0, 1), np.clip(images + 0.1, 0, 1)])
    changes = 0
    for query in range(30):
        points = asked[query].images
        np.testing.assert_allclose(np.abs(edge - points).min(0), 0, atol=1e-6)
        if not query:
            continue
        for point, before in zip(points, best[query - 1], strict=True):
            changed = (np.abs(point - before) > 1e-6).any(-1)
            if changed.any():
                rows, columns = (np.flatnonzero(changed.any(axis)) for axis in (1, 0))
                assert np.ptp(rows) < sides[query]
                assert np.ptp(columns) < sides[query]
                changes += 1
    assert changes > 150  # half of the signs and more change something


@keras.saving.register_keras_serializable("tests")
class ChannelsFirst(layers.Layer):
    """Takes channels first, as a convolution on a GPU does, and puts them last."""

    data_format = "channels_first"

    def call(self, images):
        return keras.ops.transpose(images, (0, 2, 3, 1))


def twins(first):
    """The same classifier of 12 x 8 images, channels last and channels first."""
    last = keras.Sequential(
        [keras.Input((12, 8, 3)), layers.Flatten(), layers.Dense(3)]
    )
    weights = np.random.default_rng(1).normal(size=(288, 3))
    last.set_weights([weights, np.zeros(3)])
    inputs = keras.Input((3, 12, 8))
    return last, keras.Model(inputs, last(first(inputs)))


def make_square(**settings):
    return SquareAttack(queries=60, seed=0, **settings)


def make_autoattack(epsilon, norm, data_format):
    # Its Square has no more time than a test; what it is told is the whole's.
    part = SquareAttack(epsilon, norm=norm, queries=60)
    return AutoAttack(
        epsilon, norm=norm, data_format=data_format, attacks=[part], seed=0
    )


@pytest.mark.parametrize(
    ("make", "norm", "epsilon", "said"),
    [
        (make_square, "linf", 0.05, "channels_first"),
        (make_square, "l2", 0.6, None),
        (make_autoattack, "linf", 0.05, None),
        (make_autoattack, "l2", 0.6, "channels_first"),
    ],
)
def test_channels_first_are_attacked_as_channels_last(make, norm, epsilon, said):
    first = ChannelsFirst() if said is None else layers.Permute((2, 3, 1))
    last, model = twins(first)
    images, _ = small_images(30, (12, 8, 3))
    labels = outputs_of(last, images).argmax(1)
    moved = np.moveaxis(images, -1, 1)
    expected = make(epsilon=epsilon, norm=norm, data_format=None)(
        images, labels, model=last
    )
    attack = make(epsilon=epsilon, norm=norm, data_format=said)
    found = np.asarray(attack(moved, labels, model=model))
    # Sums over transposed axes round otherwise on PyTorch, and the root of what is left
    # of epsilon^2 makes a rounding of 1e-7 one of 1e-4.
    slack = 1e-3 if backends.NAME == "torch" else 0.0
    found = np.moveaxis(found, 1, -1)
    np.testing.assert_allclose(found, expected, rtol=0, atol=slack)
    assert attack.from_config(attack.get_config()).data_format == said
    with pytest.warns(UserWarning, match="Only 30 examples"):
        report = evaluate_robustness(model, (moved, labels), attack, verbose=0)
    fooled = outputs_of(last, expected).argmax(1) != labels
    np.testing.assert_array_equal(report.robust[attack.name], ~fooled)
    assert 0 < fooled.sum() < 30


def test_an_evaluation_refuses_images_of_the_other_format():
    images, labels = small_images(4, (3, 12, 8))
    _, model = twins(layers.Permute((2, 3, 1)))
    for attack in (SquareAttack(0.1), AutoAttack(0.1)):
        with pytest.raises(ValueError, match="`data_format`.*'channels_first'"):
            evaluate_robustness(model, (images, labels), attack)


def test_l2_queries_keep_the_length():
    """Away from the edges of the range; at them the clip takes some."""
    model = small_network((8, 8, 2))
    images, _ = small_images(10, (8, 8, 2))
    images = 0.4 + 0.2 * images
    images[0] = np.round(images[0])
    labels = outputs_of(model, images).argmax(1)
    attack = SquareAttack(0.35, queries=30, norm="l2", seed=0)
    asked, _ = walk(attack, model, images, labels, 3)
    for seen in asked:
        delta = (seen.images - images).reshape(10, -1)
        lengths = np.linalg.norm(delta, axis=1)
        np.testing.assert_allclose(lengths[1:], 0.35, rtol=1e-4)
        assert lengths[0] <= 0.35 + 1e-6


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_query_is_kept_if_the_margin_grows(norm):
    model = small_network()
    images, labels = separable(model, 10)
    attack = SquareAttack(0.2, queries=25, norm=norm, seed=0)
    asked, best = walk(attack, model, images, labels, 3)
    margins = []
    for seen in asked:
        logits = outputs_of(model, seen.images)
        others = np.where(np.arange(3) == labels[:, None], -np.inf, logits).max(1)
        margins.append(others - logits[np.arange(10), labels])
        np.testing.assert_allclose(seen.loss, margins[-1], atol=1e-6)
        np.testing.assert_array_equal(seen.fooled, logits.argmax(1) != labels)
    for query in range(25):
        leader = np.argmax(margins[: query + 1], axis=0)
        expected = [asked[leader[row]].images[row] for row in range(10)]
        np.testing.assert_array_equal(best[query], expected)
    assert len(np.unique(np.argmax(margins, axis=0))) > 3


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_it_stops_at_the_first_success(norm):
    """The layer returns the first point of the row of queries that fools the model."""
    model = small_network()
    images, labels = separable(model, 30)
    epsilon = {"linf": 0.12, "l2": 0.6}[norm]
    attack = SquareAttack(epsilon, queries=30, norm=norm, seed=0)
    asked, _ = walk(attack, model, images, labels, 3)
    found = np.asarray(attack(images, labels, model=model))
    fooled = np.stack([seen.fooled for seen in asked])
    first = fooled.argmax(0)
    for row in np.flatnonzero(fooled.any(0)):
        np.testing.assert_allclose(found[row], asked[first[row]].images[row], atol=1e-6)
    assert 3 < fooled.any(0).sum() < 30
    assert first.max() > 3


def test_it_needs_no_gradient():
    model = rounding_network()
    images, labels = separable(model)
    attack = SquareAttack(0.2, queries=60, seed=0)
    found = np.asarray(attack(images, labels, model=model))
    fooled = outputs_of(model, found).argmax(1) != labels
    assert fooled.mean() > 0.2
    assert inside(found, images, 0.2, "linf")
    assert attack.passes_of_a_step(3) == (1, 0)
    assert not attack.white_box


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_it_beats_as_many_random_points_of_the_ball(norm):
    model = bent_network(3, 36, bend=1.0)
    model = keras.Sequential([keras.Input((6, 6, 1)), layers.Flatten(), *model.layers])
    images, labels = separable(model)
    epsilon = {"linf": 0.04, "l2": 0.2}[norm]
    generator = np.random.default_rng(0)
    by_chance = np.zeros(len(images), bool)
    for _ in range(100):
        noise = generator.normal(size=images.shape)
        if norm == "linf":
            noise = epsilon * np.sign(noise)
        else:
            flat = np.linalg.norm(noise, axis=(1, 2), keepdims=True)
            noise = epsilon * noise / flat
        points = np.clip(images + noise, 0, 1).astype("float32")
        by_chance |= outputs_of(model, points).argmax(1) != labels
    attack = SquareAttack(epsilon, queries=100, norm=norm, seed=0)
    found = np.asarray(attack(images, labels, model=model))
    fooled = outputs_of(model, found).argmax(1) != labels
    assert fooled.sum() >= by_chance.sum() + 10


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_images_without_a_channel_axis_equal_those_of_one_channel(norm):
    with_channel = small_network()
    without = keras.Sequential(
        [keras.Input((6, 6)), layers.Reshape((6, 6, 1)), *with_channel.layers]
    )
    images, labels = separable(with_channel, 12)
    attack = SquareAttack(0.2, queries=10, norm=norm, seed=0)
    expected = attack(images, labels, model=with_channel)
    found = np.asarray(attack(images[..., 0], labels, model=without))
    np.testing.assert_allclose(found, expected[..., 0], atol=1e-6)
    assert np.abs(found - images[..., 0]).max() > 0.1


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 3, 2), (1, 7, 1)])
def test_tiny_images(norm, shape):
    model = keras.Sequential([keras.Input(shape), layers.Flatten(), layers.Dense(3)])
    images, labels = small_images(6, shape)
    labels = outputs_of(model, images).argmax(1)
    attack = SquareAttack(0.2, queries=8, norm=norm, seed=0)
    found = np.asarray(attack(images, labels, model=model))
    assert inside(found, images, 0.2, norm)
    assert np.isfinite(found).all()
    assert np.abs(found - images).max() > 0.01


def test_images_without_height_and_width_are_refused():
    model = keras.Sequential([keras.Input((5,)), layers.Dense(3)])
    images, labels = small_images(6, (5,))
    with pytest.raises(ValueError, match=r"height, width.*shape \((None|6), 5\)"):
        SquareAttack(0.1, queries=3)(images, labels, model=model)
    labels = outputs_of(model, images).argmax(1)
    with pytest.raises(ValueError, match="height, width"):
        evaluate_robustness(
            model, (images, labels), SquareAttack(0.1, queries=3), verbose=0
        )


def test_more_restarts_never_hurt():
    model = small_network()
    images, labels = separable(model)

    def fooled(restarts):
        attack = SquareAttack(0.1, queries=5, restarts=restarts, seed=0)
        found = np.asarray(attack(images, labels, model=model))
        return outputs_of(model, found).argmax(1) != labels

    one, three = fooled(1), fooled(3)
    assert not (one & ~three).any()
    assert three.sum() > one.sum()


def test_one_look_at_nan_does_not_end_the_search():
    """As from a float16 model that overflows at one point and not at the next."""
    network, looks = small_network(), []

    def nan_once(images, training):
        looks.append(1)
        return network(images) * (np.nan if len(looks) == 1 else 1.0)

    images, labels = separable(network, 1)
    attack = SquareAttack(0.1, queries=3, seed=0)
    target = target_of(attack, nan_once, labels, 3)
    images, zeros = ops.convert_to_tensor(images), ops.zeros((1,), "int32")
    keys = random_numbers.keys_of_examples(0, np.arange(1), 0)
    state = attack.start(target, images, keys, zeros)
    for step in range(3):
        state, _ = attack.step(target, images, state, zeros + step)
    assert np.isfinite(ops.convert_to_numpy(state.margin)).all()


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({}, "square"),
        ({"restarts": 3}, "square_x3"),
        ({"name": "mine", "restarts": 3}, "mine"),
    ],
)
def test_names(settings, name):
    assert SquareAttack(8 / 255, **settings).name == name
