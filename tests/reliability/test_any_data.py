"""Attacks, evaluation and `fit` take any data: a clear error, or a sound result.

Functions run eagerly here: what is drawn has another shape each time, and a graph for
each would take a second.
"""

import functools
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from keras_free_adv import (
    APGDAttack,
    AutoAttack,
    FABAttack,
    FreeAdversarialModel,
    PGDAdversarialModel,
    PGDAttack,
    SquareAttack,
    TRADESModel,
    evaluate_robustness,
    geometry,
)
from tests.reliability.any_input import ANYTHING, clear, examples

DTYPES = ["float16", "float32", "float64", "uint8", "int32", "bool"]
# Flat pixels, a single pixel, gray and colour images, and a short film.
MASKED = 0.0
SHAPES = [(4,), (1, 1, 1), (3, 2, 1), (4, 4, 3), (2, 3, 3, 1)]


@pytest.fixture(autouse=True)
def eagerly():
    tf.config.run_functions_eagerly(True)
    with warnings.catch_warnings():
        # Of few examples, of classes too few for a loss, of eager functions.
        warnings.simplefilter("ignore")
        yield
    tf.config.run_functions_eagerly(False)


@functools.cache
def network(shape, classes, softmax=False, masked=False):
    keras.utils.set_random_seed(len(shape) + classes)
    layers = [keras.Input(shape), keras.layers.Flatten(), keras.layers.Dense(classes)]
    if masked:
        layers.insert(1, keras.layers.Masking(mask_value=MASKED))
    if softmax:
        layers.append(keras.layers.Softmax())
    return keras.Sequential(layers)


def layouts(array):
    """The same numbers, as NumPy may keep them."""
    wide = np.repeat(array, 2, axis=0)
    return {
        "plain": array,
        "every second": wide[::2],
        "Fortran": np.asfortranarray(array),
        "reversed": np.ascontiguousarray(array[::-1])[::-1],
        "read-only": np.frombuffer(array.tobytes(), array.dtype).reshape(array.shape),
        "list": array.tolist(),
        "tensor": tf.constant(array),
    }


@st.composite
def problems(draw):
    """Images, labels, a range, and what is wrong with them."""
    shape = draw(st.sampled_from(SHAPES))
    classes = draw(st.integers(1, 5))
    count = draw(st.integers(0, 4))
    low, high = draw(st.sampled_from([(0.0, 1.0), (-1.0, 1.0), (0.0, 255.0)]))
    dtype = draw(st.sampled_from(DTYPES))
    pixels = draw(hnp.arrays("float64", (count, *shape), elements=st.floats(0, 1)))
    images = low + (high - low) * pixels
    wrong = draw(
        st.sampled_from(
            [*[None] * 6, np.nan, np.inf, -np.inf, 1e30, "scale", "labels", "classes"]
        )
    )
    if isinstance(wrong, float) and images.size and "float" in dtype:
        images.flat[draw(st.integers(0, images.size - 1))] = wrong
    with np.errstate(all="ignore"):
        images = images.astype(dtype)
    if wrong == "scale":
        images = images.astype("float64") * 300.0 + 5.0
    labels = draw(hnp.arrays("int64", count, elements=st.integers(0, classes - 1)))
    if wrong == "labels":
        labels = np.zeros(count + 1, "int64")
    elif wrong == "classes":
        labels = labels + classes
    elif classes > 1 and draw(st.booleans()):
        labels = np.eye(classes)[labels]
    labels = labels.astype(draw(st.sampled_from(["int64", "uint8", "float32"])))
    return images, labels, classes, (low, high), draw(st.booleans())


def hidden(images, masked):
    """Which pixels the mask of a masked network hides."""
    images = np.asarray(images, "float64")
    all_equal = (images == MASKED).all(-1, keepdims=True)
    return np.broadcast_to(all_equal & masked, images.shape)


def refused(call):
    """Whether a call raises a clear error; another error fails the test."""
    try:
        return False, call()
    except Exception as error:
        if not clear(error):
            raise
        return True, None


def small(array, name="plain"):
    return layouts(array)[name] if array.size else array


def check_inside(found, images, epsilon, norm, value_range):
    low, high = value_range
    assert np.isfinite(found).all()
    # A half-precision image is rounded to its dtype.
    slack = 1e-5 if found.dtype.itemsize >= 4 else 2e-3
    slack *= high - low
    start = np.clip(np.asarray(images, "float64"), low, high)
    if not len(found):
        return
    delta = (found.astype("float64") - start).reshape(len(found), -1)
    assert found.min(initial=low) >= low - slack
    assert found.max(initial=high) <= high + slack
    lengths = np.linalg.norm(delta, np.inf if norm == "linf" else 2, axis=1)
    root = 1.0 if norm == "linf" else np.sqrt(delta.shape[1])
    assert (lengths <= epsilon + slack * root).all()


ATTACKS = {
    "pgd": lambda *a, **k: PGDAttack(*a, steps=2, restarts=2, **k),
    "fgsm": lambda *a, **k: PGDAttack(*a, steps=1, random_start=False, **k),
    "cw last": lambda *a, **k: PGDAttack(
        *a, steps=2, loss="cw_margin", keep="last", **k
    ),
    "targeted": lambda *a, **k: PGDAttack(*a, steps=2, targeted=True, **k),
    "apgd_ce": lambda *a, **k: APGDAttack(*a, steps=3, **k),
    "apgd_dlr": lambda *a, **k: APGDAttack(*a, steps=3, loss="dlr", **k),
    "apgd_t": lambda *a, **k: APGDAttack(
        *a, steps=2, loss="targeted_dlr", targets=2, **k
    ),
    "fab": lambda *a, **k: FABAttack(*a, steps=2, targets=None, **k),
    "fab_t": lambda *a, **k: FABAttack(*a, steps=2, targets=2, **k),
    "square": lambda *a, **k: SquareAttack(*a, queries=3, **k),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_attacks_on_any_images(name):
    @examples(12)
    @given(
        problem=problems(),
        share=st.sampled_from([1e-6, 0.03, 0.5, 1.0, 30.0]),
        norm=st.sampled_from(["linf", "l2"]),
        layout=st.sampled_from(sorted(layouts(np.zeros((1, 1))))),
        targeted_at=st.integers(0, 99),
        masked=st.booleans(),
    )
    def check(problem, share, norm, layout, targeted_at, masked):
        images, labels, classes, value_range, softmax = problem
        epsilon = share * (value_range[1] - value_range[0])
        model = network(images.shape[1:], classes, softmax, masked)
        if masked and images.dtype.kind == "f":
            images[:1] = MASKED

        def call():
            attack = ATTACKS[name](
                epsilon,
                norm=norm,
                value_range=value_range,
                seed=targeted_at,
                from_logits=not softmax,
            )
            return attack(small(images, layout), labels, model=model)

        failed, found = refused(call)
        if not failed:
            found = np.asarray(found)
            assert found.shape == images.shape
            kept = images.dtype if images.dtype.kind == "f" else np.dtype("float32")
            if layout == "list":
                kept = found.dtype
            assert found.dtype == kept
            check_inside(found, images, epsilon, norm, value_range)
            kept = hidden(images, masked)
            np.testing.assert_array_equal(found[kept], np.asarray(images)[kept])

    check()


@examples(20)
@given(problem=problems(), size=st.integers(1, 5), most=st.integers(1, 5))
def test_evaluation_of_any_data(problem, size, most):
    images, labels, classes, value_range, softmax = problem
    model = network(images.shape[1:], classes, softmax)
    epsilon = 0.1 * (value_range[1] - value_range[0])
    attack = PGDAttack(
        epsilon, steps=1, value_range=value_range, from_logits=not softmax, seed=0
    )
    failed, report = refused(
        lambda: evaluate_robustness(
            model,
            (images, labels),
            attack,
            batch_size=size,
            max_examples=most,
            verbose=0,
        )
    )
    if failed:
        return
    count = min(len(images), most)
    assert report.examples == count
    numbers = labels if labels.ndim == 1 else labels.argmax(1)
    outputs = model(np.clip(images.astype("float32"), *value_range)).numpy()
    if classes > 1:
        right = outputs.argmax(1) == numbers
        assert report.accuracy["natural"] == pytest.approx(right[:count].mean())
    assert report.accuracy["pgd1"] <= report.accuracy["natural"]
    assert report.worst_case == report.accuracy["pgd1"]


ENDS = {
    "logits": lambda z: z,
    "softmax": lambda z: np.exp(z) / np.exp(z).sum(-1, keepdims=True),
    "sigmoid": lambda z: 1 / (1 + np.exp(-z)),
    "relu": lambda z: np.maximum(z, 0),
}


@st.composite
def outputs_and_labels(draw):
    """How a model ends, its outputs, and labels of any kind."""
    end = draw(st.sampled_from(sorted(ENDS)))
    units, count = draw(st.integers(1, 4)), draw(st.integers(1, 5))
    numbers = draw(
        hnp.arrays("int64", count, elements=st.integers(0, max(units, 2) - 1))
    )
    rows = draw(hnp.arrays("float32", (count, units), elements=st.integers(0, 1)))
    labels = {
        "numbers": numbers,
        "column": numbers[:, None],
        "one-hot": np.eye(max(units, 2), dtype="float32")[numbers],
        "mixed up": np.full((count, units), 1 / units, "float32"),
        "several": rows,
        "smoothed": 0.1 + 0.8 * rows,
        "signs": 2 * rows - 1,
    }
    form = draw(st.sampled_from(sorted(labels)))
    return end, units, labels[form]


@functools.cache
def ending(end, units, data_format):
    keras.utils.set_random_seed(units)
    shape = (3, 3, 1) if data_format == "channels_last" else (1, 3, 3)
    layers = [keras.Input(shape), keras.layers.Flatten(), keras.layers.Dense(units)]
    if end != "logits":
        layers.append(keras.layers.Activation(end))
    return keras.Sequential(layers)


@examples(60)
@given(
    problem=outputs_and_labels(),
    predicts=st.sampled_from(["auto", "auto", "class", "labels"]),
    data_format=st.sampled_from(["channels_last", "channels_first"]),
    seed=st.integers(0, 99),
)
def test_evaluation_of_any_outputs_and_labels(problem, predicts, data_format, seed):
    end, units, labels = problem
    model = ending(end, units, data_format)
    random = np.random.default_rng(seed)
    images = random.uniform(0, 1, (len(labels), *model.input_shape[1:]))
    attacks = [
        PGDAttack(0.1, steps=2, predicts=predicts, seed=0),
        SquareAttack(
            0.1, queries=3, predicts=predicts, data_format=data_format, seed=0
        ),
    ]
    failed, report = refused(
        lambda: evaluate_robustness(model, (images, labels), attacks, verbose=0)
    )
    if failed:
        return
    kernel, bias = model.layers[1].get_weights()
    z = images.reshape(len(images), -1).astype("float32") @ kernel + bias
    kind = report.threat_models["pgd2"]["kind"]
    if kind == "labels":
        assert end != "softmax" or units == 1
        # The logit of a unit whose activation is not looked through is its output.
        there = (z > 0).reshape(labels.shape) == (labels > 0.5)
        right = there if there.ndim == 1 else there.all(-1)
        np.testing.assert_allclose(
            report.label_accuracy["natural"], there.reshape(len(there), -1).mean(0)
        )
    else:
        rows = labels.ndim == 2 and labels.shape[1] > 1
        classes = labels.argmax(-1) if rows else np.round(labels.reshape(-1))
        named = (z[:, 0] > 0) if units == 1 else ENDS[end](z).argmax(-1)
        right = named == classes
    assert predicts in ("auto", kind)
    assert report.accuracy["natural"] == pytest.approx(right.mean())
    assert report.worst_case <= report.accuracy["natural"]


TRAINING = {
    "free": lambda *a, **k: FreeAdversarialModel(*a, replays=2, **k),
    "pgd": lambda *a, **k: PGDAdversarialModel(*a, steps=2, **k),
    "trades": lambda *a, **k: TRADESModel(*a, steps=2, **k),
}


@pytest.mark.parametrize("name", TRAINING)
def test_training_on_any_images(name):
    @examples(12)
    @given(
        problem=problems(),
        norm=st.sampled_from(["linf", "l2"]),
        size=st.integers(1, 5),
        layout=st.sampled_from(sorted(layouts(np.zeros((1, 1))))),
        weighted=st.booleans(),
        masked=st.booleans(),
    )
    def check(problem, norm, size, layout, weighted, masked):
        images, labels, classes, value_range, _ = problem
        epsilon = 0.1 * (value_range[1] - value_range[0])
        one_hot = labels.ndim == 2
        inner = network(images.shape[1:], classes, masked=masked)
        inner = keras.models.clone_model(inner)
        model = TRAINING[name](inner, epsilon, norm=norm, value_range=value_range)
        kind = (
            keras.losses.CategoricalCrossentropy
            if one_hot
            else keras.losses.SparseCategoricalCrossentropy
        )
        model.compile(keras.optimizers.SGD(0.01), kind(from_logits=True))
        before = model.get_weights()
        weights = np.ones(len(images)) if weighted else None
        failed, history = refused(
            lambda: model.fit(
                small(images, layout),
                labels,
                batch_size=size,
                epochs=2,
                verbose=0,
                sample_weight=weights,
            )
        )
        for weight, old in zip(model.get_weights(), before, strict=True):
            assert np.isfinite(weight).all()
            if failed:  # before any work
                np.testing.assert_array_equal(weight, old)
        if not failed:
            assert len(history.history["loss"]) == 2
            updates = 2 * -(-len(images) // size)
            assert int(model.optimizer.iterations) == updates
            if name == "free":
                delta = model.delta[0]
                lengths = np.linalg.norm(
                    delta.reshape(len(delta), -1), np.inf if norm == "linf" else 2, 1
                )
                assert (lengths <= epsilon * (1 + 1e-5)).all()

    check()


@examples(60)
@given(x=ANYTHING, y=ANYTHING)
def test_training_on_anything(x, y):
    model = FreeAdversarialModel(
        keras.models.clone_model(network((4,), 3)), 0.1, replays=2
    )
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    failed, _ = refused(lambda: model.fit(x, y, verbose=0))
    assert failed


@examples(60)
@given(images=ANYTHING, labels=ANYTHING)
def test_attacks_on_anything(images, labels):
    attack = PGDAttack(0.1, steps=1, seed=0)
    failed, _ = refused(lambda: attack(images, labels, model=network((4,), 3)))
    assert failed


@examples(60)
@given(data=ANYTHING, attacks=ANYTHING)
def test_evaluation_of_anything(data, attacks):
    model, attack = network((4,), 3), PGDAttack(0.1, steps=1, seed=0)
    whole = np.zeros((2, 4)), np.zeros(2)
    failed, _ = refused(lambda: evaluate_robustness(model, data, attack, verbose=0))
    assert failed
    failed, _ = refused(lambda: evaluate_robustness(model, whole, attacks, verbose=0))
    assert failed
    failed, _ = refused(lambda: evaluate_robustness(data, whole, attack, verbose=0))
    assert failed


@examples(100)
@given(
    delta=hnp.arrays("float32", (2, 3), elements=st.floats(-1, 1, width=32)),
    gradient=hnp.arrays(
        "float32", (2, 3), elements=st.floats(width=32, allow_nan=True)
    ),
    epsilon=st.floats(1e-6, 1e6),
    norm=st.sampled_from(["linf", "l2"]),
)
def test_an_ascent_step_of_any_gradient(delta, gradient, epsilon, norm):
    ball = geometry.Ball(epsilon, norm, (0.0, 1.0))
    found = np.asarray(ball.ascend(delta, gradient, step_size=epsilon))
    assert np.isfinite(found).all()
    lengths = np.linalg.norm(found, np.inf if norm == "linf" else 2, axis=1)
    assert (lengths <= epsilon * (1 + 1e-5)).all()


@examples(8)
@given(problem=problems(), norm=st.sampled_from(["linf", "l2"]))
def test_the_ensemble_on_any_images(problem, norm):
    images, labels, classes, value_range, softmax = problem
    parts = [
        ATTACKS[name](
            0.1,
            norm=norm,
            value_range=value_range,
            seed=0,
            from_logits=not softmax,
        )
        for name in ("apgd_ce", "fab_t", "square")
    ]
    attack = AutoAttack(
        0.1,
        norm=norm,
        attacks=parts,
        value_range=value_range,
        seed=0,
        from_logits=not softmax,
    )
    model = network(images.shape[1:], classes, softmax)
    failed, found = refused(lambda: attack(images, labels, model=model))
    if not failed:
        check_inside(np.asarray(found), images, 0.1, norm, value_range)
