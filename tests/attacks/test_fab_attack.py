import keras
import numpy as np
import pytest
from keras import layers, ops

from keras_free_adv import FABAttack, backends, random_numbers
from tests.attacks.test_apgd_attack import (
    bent_network,
    logits_and_slopes,
    target_of,
)
from tests.attacks.test_hyperplane import lengths, shortest
from tests.attacks.test_pgd_attack import inside, linear_model
from tests.conftest import CountPasses, compiled, outputs_of, small_images

FORMS = [9, None]  # targeted, untargeted


def three_classes(pixels=8):
    generator = np.random.default_rng(2)
    weights = generator.normal(size=(pixels, 3)).astype("float32")
    return linear_model(weights), weights


def exact_distances(weights, images, norm):
    """To the nearest decision boundary of a linear model inside [0, 1].

    |z_s - z_y| / ||w_s - w_y|| in the dual norm where no pixel meets its edge.
    """
    logits = images.astype("float64") @ weights
    labels = logits.argmax(1)
    found = []
    for image, z, label in zip(images, logits, labels, strict=True):
        steps = [
            shortest(
                image,
                weights[:, s] - weights[:, label],
                z[s] - z[label],
                norm,
                (0.0, 1.0),
            )
            for s in range(weights.shape[1])
            if s != label
        ]
        sizes = [lengths([d], norm)[0] for d in steps if d is not None]
        found.append(min(sizes, default=np.inf))
    return labels, np.array(found)


def test_the_exact_distance_of_this_test_is_the_closed_form():
    _, weights = three_classes()
    images = small_images(6, (8,))[0] * 0.1 + 0.45
    logits = images @ weights
    for norm, dual in (("l2", 2), ("linf", 1)):
        labels, found = exact_distances(weights, images, norm)
        for row, label in enumerate(labels):
            gaps = [
                (logits[row, label] - logits[row, s])
                / np.linalg.norm(weights[:, s] - weights[:, label], dual)
                for s in range(3)
                if s != label
            ]
            assert found[row] == pytest.approx(min(gaps), rel=1e-4)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize(("targets", "edge"), [(9, False), (9, True), (None, False)])
def test_on_a_linear_model_the_nearest_boundary_is_found(norm, targets, edge):
    """On the edges of the range too, which the untargeted choice of a class ignores."""
    network, weights = three_classes()
    images = small_images(40, (8,))[0]
    images = np.round(images) if edge else images * 0.2 + 0.4
    labels, distances = exact_distances(weights, images, norm)
    reachable = np.isfinite(distances)
    assert reachable.sum() > 20
    epsilon = {"linf": 1.0, "l2": 9.0}[norm]  # the whole range
    attack = FABAttack(epsilon, steps=12, norm=norm, targets=targets, seed=0)
    found = np.asarray(attack(images, labels, model=network))
    sizes = lengths(found - images.astype("float64"), norm)
    fooled = outputs_of(network, found).argmax(1) != labels
    np.testing.assert_array_equal(fooled, reachable)
    ratio = sizes[reachable] / distances[reachable]
    assert ratio.min() >= 1 - 1e-4
    assert ratio.max() <= 1.02
    np.testing.assert_array_equal(found[~reachable], images[~reachable])


@pytest.mark.parametrize("targets", FORMS)
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_what_is_further_than_epsilon_comes_back_as_it_was(norm, targets):
    network, weights = three_classes()
    images = small_images(60, (8,))[0]
    labels, distances = exact_distances(weights, images, norm)
    epsilon = float(np.median(distances))
    sure = np.abs(distances / epsilon - 1) > 0.03
    images, labels, distances = images[sure], labels[sure], distances[sure]
    attack = FABAttack(epsilon, steps=12, norm=norm, targets=targets, seed=0)
    found = np.asarray(attack(images, labels, model=network))
    near = distances < epsilon
    assert 10 < near.sum() < len(near) - 10
    assert inside(found, images, epsilon, norm)
    np.testing.assert_array_equal(outputs_of(network, found).argmax(1) != labels, near)
    np.testing.assert_array_equal(found[~near], images[~near])


def test_an_image_that_fools_the_model_as_it_is_comes_back_as_it_was():
    network, weights = three_classes()
    images = small_images(10, (8,))[0]
    labels = ((images @ weights).argmax(1) + 1) % 3
    for targets in FORMS:
        found = FABAttack(0.5, steps=3, targets=targets)(images, labels, model=network)
        np.testing.assert_array_equal(found, images)


# The update of Croce and Hein (2020), one example at a time, in NumPy.

ETA, ALPHA_MAX, BETA = 1.05, 0.1, 0.9


def projection(point, weight, value, norm):
    step = shortest(point, weight, value, norm, (0.0, 1.0))
    if step is not None:
        return step
    toward = -np.sign(weight) * np.sign(value)
    return np.where(toward > 0, 1 - point, np.where(toward < 0, -point, 0))


def fab_run(at, image, label, aim, *, steps, norm):
    """Iterates x^(1)..x^(N), and the nearest misclassified distance after each."""
    image = image.astype("float64")
    dual = 1 if norm == "linf" else 2
    x, nearest, iterates, distances = image, np.inf, [], []
    for _ in range(steps):
        logits, slopes = at(x)
        ahead, slopes = logits - logits[label], slopes - slopes[label]
        s = aim
        if aim is None:
            others = [c for c in range(len(logits)) if c != label]
            s = min(
                others, key=lambda c: abs(ahead[c]) / np.linalg.norm(slopes[c], dual)
            )
        here = projection(x, slopes[s], ahead[s], norm)
        there = projection(image, slopes[s], ahead[s] + slopes[s] @ (image - x), norm)
        far, near = (lengths([d], norm)[0] for d in (here, there))
        alpha = min(far / (far + near), ALPHA_MAX)
        x = (1 - alpha) * (x + ETA * here) + alpha * (image + ETA * there)
        x = np.clip(x, 0, 1)
        if at(x)[0].argmax() != label:
            nearest = min(nearest, lengths([x - image], norm)[0])
            x = (1 - BETA) * image + BETA * x
        iterates.append(x)
        distances.append(nearest)
    return np.stack(iterates), np.array(distances)


@pytest.mark.parametrize("targets", FORMS)
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_run_is_that_of_the_paper(norm, targets):
    classes, steps, run = 5, 8, 1
    model = bent_network(classes)
    images, _ = small_images(5, (12,), classes)
    images[0] = np.round(images[0])  # on the edges
    ranked = np.argsort(-outputs_of(model, images), axis=1)
    labels = ranked[:, 0]
    attack = FABAttack(0.3, steps=steps, norm=norm, targets=targets, seed=0)
    target = target_of(attack, model, labels, classes)
    keys = random_numbers.keys_of_examples(0, np.arange(5), run)
    clean = ops.convert_to_tensor(images)
    # Run number 1 of the targeted form aims at the second likeliest other class; of
    # the untargeted one it is a restart, so its first run is looked at.
    runs = ops.full((5,), 0 if targets is None else run, "int32")
    state = attack.start(target, clean, keys, runs)
    np.testing.assert_array_equal(state.iterate, images)
    take_step = compiled(
        lambda state: attack.step(target, clean, state, ops.zeros((5,), "int32")),
        model,
    )
    iterates, distances, seen = [], [], []
    for _ in range(steps):
        state, outcome = take_step(state)
        iterates.append(np.asarray(state.iterate))
        distances.append(np.asarray(state.distance))
        seen.append(outcome)
    at = logits_and_slopes(model)
    for row in range(5):
        aim = None if targets is None else ranked[row, 2]
        expected, nearest = fab_run(
            at, images[row], labels[row], aim, steps=steps, norm=norm
        )
        np.testing.assert_allclose(
            [points[row] for points in iterates], expected, atol=1e-4
        )
        np.testing.assert_allclose(
            [sizes[row] for sizes in distances], nearest, atol=1e-4
        )
    for outcome, sizes in zip(seen, distances, strict=True):
        np.testing.assert_array_equal(outcome.fooled, sizes <= 0.3)
        np.testing.assert_array_equal(outcome.loss, -sizes)
    assert np.isfinite(distances[-1]).sum() >= 3


@pytest.mark.parametrize("targets", FORMS)
def test_restarts_begin_inside_half_the_ball(targets):
    model = bent_network(5)
    images, labels = small_images(4, (12,), 5)
    attack = FABAttack(0.2, restarts=2, targets=targets, seed=0)
    aims = 1 if targets is None else 4
    assert attack.runs(5) == 2 * aims
    target = target_of(attack, model, labels, 5)
    clean = ops.convert_to_tensor(images)
    for run in range(2 * aims):
        keys = random_numbers.keys_of_examples(0, np.arange(4), run)
        state = attack.start(target, clean, keys, ops.full((4,), run, "int32"))
        iterate = np.asarray(state.iterate)
        if run < aims:
            np.testing.assert_array_equal(iterate, images)
        else:
            assert inside(iterate, images, 0.1, "linf")
            assert np.abs(iterate - images).max() > 0.05


@pytest.mark.parametrize(("targets", "backward"), [(9, 1), (2, 1), (None, 3)])
def test_passes_of_a_step(targets, backward):
    counter = CountPasses()
    model = keras.Sequential([keras.Input((4,)), counter, layers.Dense(3)])
    images, labels = small_images(2, (4,))
    attack = FABAttack(0.1, targets=targets, seed=0)
    target = target_of(attack, model, labels, 3)
    keys = random_numbers.keys_of_examples(0, [0, 1], 0)
    clean, zeros = ops.convert_to_tensor(images), ops.zeros((2,), "int32")
    counter.counts["forward"] = 0  # the forward passes that built the model
    state = attack.start(target, clean, keys, zeros)
    assert counter.counts["forward"] == attack.passes_of_a_start()
    counter.counts["forward"] = 0
    attack.step(target, clean, state, zeros)
    # JAX traces the loop over the classes once.
    counted = 1 if backends.NAME == "jax" else backward
    assert dict(counter.counts) == {"forward": 2, "backward": counted}
    assert attack.passes_of_a_step(3) == (2, backward)


@pytest.mark.parametrize("targets", FORMS)
def test_one_unit_counts_as_two_classes(targets):
    """The logit of the first class is a constant, of which there is no gradient."""
    weights = np.float32([[3.0], [-1.0], [0.5]])
    one = linear_model(weights)
    images = np.float32([[0.5, 0.5, 0.5], [0.4, 0.9, 0.5]])
    logits = images @ weights[:, 0]
    labels = (logits > 0).astype(int)
    attack = FABAttack(1.0, steps=8, targets=targets, norm="l2", from_logits=True)
    found = np.asarray(attack(images, labels, model=one))
    expected = -logits / (weights**2).sum() * weights.T[0][:, None]
    np.testing.assert_allclose(found - images, expected.T, rtol=0.02)


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({}, "fab_t"),
        ({"targets": None}, "fab"),
        ({"targets": None, "restarts": 5}, "fab_x5"),
        ({"name": "mine"}, "mine"),
    ],
)
def test_names(settings, name):
    assert FABAttack(8 / 255, **settings).name == name
