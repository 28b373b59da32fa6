import dataclasses
import warnings

import keras
import numpy as np
import pytest
from keras import layers, ops

from keras_free_adv import APGDAttack, backends, evaluate_robustness, random_numbers
from keras_free_adv.attacks.target import Target
from keras_free_adv.backends.final_operation import ModelOutputs
from keras_free_adv.geometry import Ball
from keras_free_adv.predictions import Predictions
from tests.attacks.test_pgd_attack import linear_model
from tests.conftest import CountPasses, compiled, outputs_of, small_images

LOSSES = ("cross_entropy", "dlr", "targeted_dlr")


def bent_network(classes=5, pixels=12, bend=1.5):
    """Small and smooth, with a loss that does not simply rise along its gradient."""
    network = keras.Sequential(
        [
            keras.Input((pixels,)),
            layers.Dense(16, activation="tanh"),
            layers.Dense(classes),
        ]
    )
    generator = np.random.default_rng(1)
    network.set_weights(
        [
            (bend * generator.normal(size=weight.shape)).astype("float32")
            for weight in network.get_weights()
        ]
    )
    return network


def target_of(attack, model, labels, classes):
    """What an attack is handed, of a model that returns logits."""
    return Target(
        outputs=lambda images: ModelOutputs(model(images, training=False), None, None),
        view=Predictions("logits", classes),
        labels=ops.convert_to_tensor(labels, "int32"),
        given_labels=labels,
        loss_scale=1.0,
        ball=Ball(attack.epsilon, attack.norm, (0.0, 1.0)),
        data_format="channels_last",
        without_gradient="refuse",
    )


def start_of(norm, images, epsilon, seed, run=0):
    keys = random_numbers.keys_of_examples(seed, np.arange(len(images)), run)
    ball, images = Ball(epsilon, norm, (0.0, 1.0)), ops.convert_to_tensor(images)
    return np.asarray(ball.random_start(keys, images))


def walk(attack, model, images, labels, classes, run=0):
    """Points looked at, and step sizes after each look, `[looks, B, ...]`."""
    target = target_of(attack, model, labels, classes)
    ids = np.arange(len(images))
    keys = random_numbers.keys_of_examples(attack.seed_in_use, ids, run)
    images = ops.convert_to_tensor(images)
    state = attack.start(target, images, keys, ops.full((len(ids),), run, "int32"))
    take_step = compiled(
        lambda state, step: attack.step(target, images, state, step), model
    )
    points, sizes = [], []
    for step in range(attack.steps_of_a_run):
        state, seen = take_step(state, ops.full((len(ids),), step, "int32"))
        points.append(np.asarray(seen.images))
        sizes.append(np.asarray(state.step_size))
    return np.stack(points), np.stack(sizes)


# Algorithm 1 of Croce and Hein (2020), one example at a time, in NumPy.


def checkpoints(steps):
    """w_j = ceil(p_j N), in whole percents, which NumPy cannot round."""
    percents, width = [0, 22], 22
    while percents[-1] < 100:
        width = max(width - 3, 6)
        percents.append(percents[-1] + width)
    return sorted({-(-p * steps // 100) for p in percents[:-1]})


def logits_and_slopes(model):
    """Maps a point to the logits of a bent network `[C]`, and d logits / d point.

    By the chain rule, in float64.
    """
    first, first_bias, second, second_bias = (
        weight.astype("float64") for weight in model.get_weights()
    )

    def at(point):
        hidden = np.tanh(point.astype("float64") @ first + first_bias)
        slopes = second.T @ ((1 - hidden**2)[:, None] * first.T)
        return hidden @ second + second_bias, slopes

    return at


def loss_and_gradient(model, loss):
    """Maps (point, label, target class) to f and its gradient, in float64."""
    logits_at = logits_and_slopes(model)

    def at(point, label, aim):
        z, slopes = logits_at(point)
        # What is largest, and so on, with the slopes of each.
        order = np.argsort(-z, kind="stable")
        if loss == "cross_entropy":
            shares = np.exp(z - z.max())
            shares /= shares.sum()
            value = -np.log(shares[label])
            return value, (shares - np.eye(len(z))[label]) @ slopes
        first, second, third, fourth = order[:4]
        if loss == "dlr":
            # The largest other logit is the first, or if that is y, the second.
            other, width = (second if first == label else first), z[first] - z[third]
            slope_of_width = slopes[first] - slopes[third]
        else:
            other, width = aim, z[first] - (z[third] + z[fourth]) / 2
            slope_of_width = slopes[first] - (slopes[third] + slopes[fourth]) / 2
        ahead, slope = z[other] - z[label], slopes[other] - slopes[label]
        return ahead / width, (slope * width - ahead * slope_of_width) / width**2

    return at


def algorithm_1(at, image, start, *, steps, epsilon, norm):
    """Points x^(0)..x^(N), and the step size after each of them was looked at.

    Then how often the step size was halved, and the least difference of two losses
    that were compared (or the least gradient, which may be all rounding).

    A checkpoint w_j uses f up to x^(w_j), as in the sums of the paper's conditions,
    and the point it restarts from takes the place of x^(w_j).
    """
    image = image.astype("float64")

    def project(point):
        delta = point - image
        if norm == "linf":
            delta = np.clip(delta, -epsilon, epsilon)
        elif np.linalg.norm(delta) > epsilon:
            delta = delta * epsilon / np.linalg.norm(delta)
        return np.clip(image + delta, 0, 1)

    def direction(gradient):
        if norm == "linf":
            return np.sign(gradient)
        return gradient / (np.linalg.norm(gradient) or 1.0)

    windows = checkpoints(steps)
    eta, x, previous = 2 * epsilon, start.astype("float64"), None
    last_value = np.inf
    points, sizes, halved, gaps = [], [], 0, [np.inf]
    for k in range(steps + 1):
        points.append(x)
        value, gradient = at(x)
        gaps.append(np.abs(gradient).max() + 1e-30)
        if k == 0:
            f_max, x_max, g_max = value, x, gradient
            f_max_at_check, eta_at_check, rises = value, eta, 0
        else:
            gaps += [abs(value - last_value), abs(value - f_max)]
            rises += value > last_value
            if value > f_max:
                f_max, x_max, g_max = value, x, gradient
        if k in windows[1:]:
            wide = k - windows[windows.index(k) - 1]
            one = rises < 0.75 * wide
            two = eta_at_check == eta and f_max_at_check == f_max
            f_max_at_check, eta_at_check, rises = f_max, eta, 0
            if one or two:
                halved += 1
                eta, x, value, gradient = eta / 2, x_max, f_max, g_max
        sizes.append(eta)
        z = project(x + eta * direction(gradient))
        share = 0.75 if k else 1.0
        momentum = 0 if previous is None else (1 - share) * (x - previous)
        # After a restart x^(k-1) is still the point that was looked at before.
        previous, x = x, project(x + share * (z - x) + momentum)
        last_value = value
    # Equal losses are those of equal points.
    return np.stack(points), np.array(sizes), halved, min(g for g in gaps if g > 0)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("loss", LOSSES)
def test_a_run_is_that_of_algorithm_1(loss, norm):
    classes, steps, seed = 5, 30, 1
    epsilon = {"linf": 0.2, "l2": 0.5}[norm]
    if loss == "dlr":  # once y is third the ratio is 1, and flat
        epsilon /= 4
    model = bent_network(classes)
    images, _ = small_images(10, (12,), classes)
    ranked = np.argsort(-outputs_of(model, images), axis=1)
    start = start_of(norm, images, epsilon, seed, run=1)
    attack = APGDAttack(epsilon, steps=steps, norm=norm, loss=loss, seed=seed)
    points, sizes = walk(attack, model, images, ranked[:, 0], classes, run=1)
    at = loss_and_gradient(model, loss)
    compared, halvings = 0, 0
    for row, (label, _, second_other, *_) in enumerate(ranked):
        expected, expected_sizes, halved, gap = algorithm_1(
            lambda x, label=label, aim=second_other: at(x, label, aim),
            images[row],
            start[row],
            steps=steps,
            epsilon=epsilon,
            norm=norm,
        )
        if gap < 2e-6:  # two losses so alike that float32 decides which is larger
            continue
        np.testing.assert_allclose(sizes[:, row], expected_sizes, rtol=1e-6)
        np.testing.assert_allclose(points[:, row], expected, atol=1e-5)
        compared, halvings = compared + 1, halvings + halved
    assert compared >= 3
    assert halvings >= compared


def test_of_a_search_in_half_precision_the_best_loss_is_taken_again():
    """At each checkpoint; the search sees losses that grow too large by themselves."""
    attack = APGDAttack(0.1, steps=20, loss="dlr", seed=3)
    model, classes = bent_network(), 5
    images, labels = small_images(6, (12,), classes)
    exact = target_of(attack, model, labels, classes)

    def flattered(images):
        outputs = exact.outputs(images)
        return outputs._replace(values=outputs.values * [[1.0, 1.3, 0.7, 1.1, 1.0]])

    def of_the_model(images, labels):
        del images
        return target_of(attack, model, labels, classes)

    search = dataclasses.replace(
        exact, outputs=flattered, hurdle=exact.each(0.0), of_the_model=of_the_model
    )
    keys = random_numbers.keys_of_examples(3, np.arange(6), 0)
    images = ops.convert_to_tensor(images)
    state = attack.start(search, images, keys, ops.zeros((6,), "int32"))
    checks = 0
    for step in range(attack.steps_of_a_run):
        before = state
        state, _ = attack.step(search, images, state, ops.full((6,), step, "int32"))
        if step not in checkpoints(20)[1:]:
            assert (np.asarray(state.best_loss) >= np.asarray(before.best_loss)).all()
            continue
        checks += 1
        for best, label, loss in zip(
            np.asarray(state.best), labels, np.asarray(state.best_loss), strict=True
        ):
            exact_loss, _ = loss_and_gradient(model, "dlr")(best, label, None)
            assert loss == pytest.approx(exact_loss, rel=1e-4, abs=1e-5)
    assert checks >= 3


def sizes_on(losses):
    """Step sizes of 100 steps that see these losses, whatever they look at."""
    left = iter(losses)

    def outputs(images):
        ahead = 0.0 * images + next(left)
        return ops.concatenate([ops.zeros_like(images), ahead], -1)

    attack, zeros = APGDAttack(0.5, steps=100, seed=0), ops.zeros((1,), "int32")
    model = lambda images, training: outputs(images)  # noqa: E731
    target = target_of(attack, model, np.array([0]), 2)
    image = ops.convert_to_tensor([[0.5]])
    keys = random_numbers.keys_of_examples(0, np.arange(1), 0)
    state, sizes = attack.start(target, image, keys, zeros), []
    for step in range(len(losses)):
        state, _ = attack.step(target, image, state, ops.convert_to_tensor([step]))
        sizes.append(float(state.step_size[0]))
    return sizes


def window(rises, falls, begin):
    """Losses that rise and then fall by one, of the steps of one window."""
    up = begin + np.arange(1, rises + 1)
    return [*up, *(up[-1] - np.arange(1, falls + 1))]


def test_condition_1_by_hand():
    """Halved after less than three quarters of rises: 16.5 of 22, 14.25 of 19, 12 of
    16. Every window has a new best loss, so that condition 2 is silent.
    """
    losses = [0.0]
    losses += window(17, 5, losses[-1])  # to step 22: best 17
    losses += window(14, 5, 13)  # to 41: 14 < 14.25, best 27
    losses += window(12, 4, 27)  # to 57, from the best: 12 is not less than 12
    losses += window(9, 4, 36)  # to 70: 9 < 9.75
    sizes = sizes_on([0.1 * loss for loss in losses])
    assert len(sizes) == 71
    assert [sizes[k] for k in (0, 22, 41, 57, 69, 70)] == [1, 1, 0.5, 0.5, 0.5, 0.25]


def test_condition_2_by_hand():
    """Halved without a new best loss, though not twice in a row.

    All windows but the first begin with a deep fall, and rise from there to below
    the best: no less than three quarters of the steps, so that condition 1 is silent.
    """
    losses = [0.0]
    losses += window(22, 0, 0)  # to step 22: a new best
    losses += window(19, 0, -50)  # to 41: 18 rises, no new best
    losses += window(16, 0, -60)  # to 57: nor here, but halved at 41
    losses += window(13, 0, -70)  # to 70: not halved at 57
    sizes = sizes_on([0.1 * loss for loss in losses])
    assert [sizes[k] for k in (22, 40, 41, 57, 69, 70)] == [1, 1, 0.5, 0.5, 0.5, 0.25]


def test_checkpoints_of_100_steps_by_hand():
    """On a constant loss every checkpoint halves the step size.

    p = 0.22, then wider by 0.19, 0.16, 0.13, 0.10, 0.07, and 0.06 from there on.
    """
    model = linear_model(np.zeros((4, 3)))
    images, labels = small_images(2, (4,))
    _, sizes = walk(APGDAttack(0.1, seed=0), model, images, labels, 3)
    np.testing.assert_allclose(sizes[0], 0.2)
    halved = 1 + np.flatnonzero(np.diff(sizes[:, 0]))
    np.testing.assert_array_equal(halved, [22, 41, 57, 70, 80, 87, 93, 99])
    np.testing.assert_allclose(sizes[-1], 0.2 / 2**8)


@pytest.mark.parametrize("steps", [1, 5, 30, 77])
def test_checkpoints_of_other_lengths(steps):
    model = linear_model(np.zeros((4, 3)))
    images, labels = small_images(1, (4,))
    points, sizes = walk(APGDAttack(0.1, steps=steps, seed=0), model, images, labels, 3)
    assert len(points) == steps + 1
    halved = 1 + np.flatnonzero(np.diff(sizes[:, 0]))
    np.testing.assert_array_equal(halved, checkpoints(steps)[1:])


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("loss", ["cross_entropy", "dlr"])
def test_the_layer_returns_the_worst_point_of_the_run(loss, norm):
    """A misclassified one if there is any, else that of the largest loss."""
    classes, steps, seed = 5, 12, 4
    epsilon = {"linf": 0.1, "l2": 0.3}[norm]
    model = bent_network(classes, bend=1.0)
    images, _ = small_images(8, (12,), classes)
    labels = outputs_of(model, images).argmax(1)
    labels[0] = (labels[0] + 1) % classes  # wrong without an attack
    attack = APGDAttack(epsilon, steps=steps, norm=norm, loss=loss, seed=seed)
    found = np.asarray(attack(images, labels, model=model))

    def damage(logits, label):
        others = np.delete(logits, label).max()
        value = others - logits[label]
        if loss == "cross_entropy":
            value = np.log(np.exp(logits - logits[label]).sum())
        return logits.argmax() != label, value

    start = start_of(norm, images, epsilon, seed)
    at, fooled = loss_and_gradient(model, loss), 0
    for row, label in enumerate(labels):
        points, *_ = algorithm_1(
            lambda x, label=label: at(x, label, 0),
            images[row],
            start[row],
            steps=steps,
            epsilon=epsilon,
            norm=norm,
        )
        candidates = np.stack([found[row], images[row], *points.astype("float32")])
        here, *seen = [damage(z, label) for z in outputs_of(model, candidates)]
        expected = max(seen)
        assert here[0] == expected[0]
        assert here[1] == pytest.approx(expected[1], abs=1e-4)
        fooled += here[0]
    assert 1 <= fooled < 8


def test_on_a_linear_model_the_far_corner_is_found():
    network = linear_model([[1.0, 0.0], [0.0, 2.0]])
    images = np.float32([[0.5, 0.5], [0.05, 0.95]])
    attack = APGDAttack(0.1, steps=10, seed=0)
    adversarial = attack(images, np.array([0, 0]), model=network)
    np.testing.assert_allclose(adversarial, [[0.4, 0.6], [0.0, 1.0]], atol=1e-6)


@pytest.mark.parametrize(("targets", "classes", "expected"), [(9, 5, 4), (2, 5, 2)])
def test_the_runs_aim_at_the_likeliest_other_classes(targets, classes, expected):
    model = bent_network(classes)
    images, labels = small_images(6, (12,), classes)
    attack = APGDAttack(0.1, loss="targeted_dlr", targets=targets, restarts=2, seed=0)
    assert attack.runs(classes) == 2 * expected
    logits = outputs_of(model, images)
    logits[np.arange(6), labels] = -np.inf
    ranked = np.argsort(-logits, axis=1)
    target = target_of(attack, model, labels, classes)
    images = ops.convert_to_tensor(images)
    for run in range(2 * expected):
        keys = random_numbers.keys_of_examples(0, np.arange(6), run)
        state = attack.start(target, images, keys, ops.full((6,), run, "int32"))
        np.testing.assert_array_equal(state.target_class, ranked[:, run % expected])


@pytest.mark.parametrize("loss", ["cross_entropy", "dlr"])
def test_other_losses_make_a_run_a_restart(loss):
    assert APGDAttack(0.1, loss=loss, restarts=3).runs(5) == 3


@pytest.mark.parametrize(
    ("loss", "weights", "needed"),
    [
        ("dlr", [[1.0, 0.0], [0.0, 2.0]], 3),
        ("targeted_dlr", [[1.0, 0.0], [0.0, 2.0]], 4),
        ("targeted_dlr", [[1.0, 0.0, 9.0], [0.0, 2.0, -9.0]], 4),
    ],
)
def test_with_few_classes_the_margin_is_climbed_and_a_warning_says_so(
    loss, weights, needed
):
    """By hand: along w_1 - w_0 = (-1, 2), the class that is ahead at the corner."""
    network = linear_model(weights)
    attack = APGDAttack(0.1, steps=5, loss=loss, seed=0, name="mine")
    images = np.float32([[0.5, 0.55], [0.05, 0.95]])
    labels = np.array([0, 0])
    expected = (
        f"mine: loss='{loss}' needs {needed} classes.*has {len(weights[0])}.*marg"
    )
    with pytest.warns(UserWarning, match=expected):
        adversarial = attack(images, labels, model=network)
    np.testing.assert_allclose(adversarial, [[0.4, 0.65], [0.0, 1.0]], atol=1e-6)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        report = evaluate_robustness(network, (images, labels), attack, verbose=0)
    assert any("mine: loss" in warning for warning in report.warnings)


@pytest.mark.parametrize(("loss", "classes"), [("dlr", 3), ("targeted_dlr", 4)])
def test_with_just_enough_classes_the_ratio_is_climbed(loss, classes):
    model = bent_network(classes, bend=1.0)
    images, _ = small_images(16, (12,), classes)
    labels = outputs_of(model, images).argmax(1)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        found = APGDAttack(0.3, steps=10, loss=loss, seed=0)(
            images, labels, model=model
        )
    assert (outputs_of(model, found).argmax(1) != labels).sum() > 8


@keras.saving.register_keras_serializable("tests")
class Noise(layers.Layer):
    """Multiplies pixels by random numbers around 1, in inference mode too."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.generator = keras.random.SeedGenerator(0)

    def call(self, inputs):
        noise = keras.random.normal(ops.shape(inputs), seed=self.generator)
        return inputs * (1.0 + noise)


def test_gradient_samples_are_averaged():
    """Of a linear ratio the noise's mean is one: the error falls with the root."""
    weights = np.random.default_rng(0).normal(size=(50, 2)).astype("float32")
    model = keras.Sequential(
        [keras.Input((50,)), Noise(), layers.Dense(2, use_bias=False)]
    )
    model.layers[-1].set_weights([weights])
    images = np.random.default_rng(1).uniform(0, 1, (8, 50))
    images = ops.convert_to_tensor(images, "float32")
    expected = weights[:, 1] - weights[:, 0]  # of the margin for label 0

    def error(samples):
        attack = APGDAttack(
            0.1, loss="dlr", norm="l2", seed=0, gradient_samples=samples
        )
        target = target_of(attack, model, np.zeros(8, int), 2)
        keys = random_numbers.keys_of_examples(0, np.arange(8), 0)
        zeros = ops.zeros((8,), "int32")
        state = attack.start(target, images, keys, zeros)
        # Compiled, as on JAX a model draws anew only where its variables are arguments.
        step = compiled(lambda state: attack.step(target, images, state, zeros), model)
        state, _ = step(state)
        return np.sqrt(np.mean((np.asarray(state.best_gradient) - expected) ** 2))

    of_one = np.sqrt(np.mean(expected**2))
    assert error(1) == pytest.approx(of_one, rel=0.2)
    assert error(16) == pytest.approx(of_one / 4, rel=0.2)


@pytest.mark.parametrize(
    ("leads", "fooled"), [((-3.0, -2.0, 0.5), True), ((3.0, 2.0, -0.5), False)]
)
def test_the_last_draw_says_whether_it_is_fooled(leads, fooled):
    """As in the authors' program; the mean of three would say the opposite."""
    left = iter(leads)

    def draw(images, training):
        ahead = 0.0 * images + next(left)
        return ops.concatenate([ops.zeros_like(images), ahead], -1)

    attack = APGDAttack(0.5, seed=0, gradient_samples=3)
    target = target_of(attack, draw, np.array([0]), 2)
    image, zeros = ops.convert_to_tensor([[0.5]]), ops.zeros((1,), "int32")
    keys = random_numbers.keys_of_examples(0, np.arange(1), 0)
    state = attack.start(target, image, keys, zeros)
    state, seen = attack.step(target, image, state, zeros)
    assert bool(seen.fooled[0]) == fooled
    each = np.log1p(np.exp(leads))  # the cross-entropy of class 0
    np.testing.assert_allclose(seen.loss, each[-1:], rtol=1e-6)
    np.testing.assert_allclose(state.loss, [each.mean()], rtol=1e-6)  # is climbed


def test_a_gradient_sample_is_a_forward_and_a_backward_pass():
    counter = CountPasses()
    model = keras.Sequential([keras.Input((4,)), counter, layers.Dense(3)])
    images, labels = small_images(2, (4,))
    attack = APGDAttack(0.1, steps=2, seed=0, gradient_samples=5)
    counter.counts["forward"] = 0  # the forward passes that built the model
    walk(attack, model, images, labels, 3)
    # Compiled, one step is traced; on PyTorch all three looks are counted.
    passes = 3 * 5 if backends.NAME == "torch" else 5
    assert dict(counter.counts) == {"forward": passes, "backward": passes}
    assert attack.passes_of_a_step(3) == (5, 5)


def test_one_look_at_nan_does_not_end_the_search():
    """As from a float16 model that overflows at one point and not at the next."""
    looks = []

    def nan_once(images, training):
        looks.append(1)
        logits = ops.concatenate([images, -images], -1) * 3.0
        return logits * (np.nan if len(looks) == 1 else 1.0)

    attack = APGDAttack(0.1, steps=3, seed=0)
    images = ops.convert_to_tensor([[0.5]])
    target = target_of(attack, nan_once, np.array([0]), 2)
    keys = random_numbers.keys_of_examples(0, np.arange(1), 0)
    zeros = ops.zeros((1,), "int32")
    state = attack.start(target, images, keys, zeros)
    for step in range(3):
        state, _ = attack.step(target, images, state, ops.convert_to_tensor([step]))
    assert np.isfinite(np.asarray(state.best_loss)).all()


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({}, "apgd_ce"),
        ({"loss": "dlr", "steps": 7}, "apgd_dlr"),
        ({"loss": "targeted_dlr"}, "apgd_t"),
        ({"restarts": 5}, "apgd_ce_x5"),
        ({"name": "mine", "restarts": 5}, "mine"),
    ],
)
def test_names(settings, name):
    assert APGDAttack(8 / 255, **settings).name == name
