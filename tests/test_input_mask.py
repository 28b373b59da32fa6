"""What a model masks of its input is never perturbed: in training, in attacks."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from keras_free_adv import (
    APGDAttack,
    FABAttack,
    FreeAdversarialModel,
    PGDAdversarialModel,
    PGDAttack,
    SquareAttack,
    TRADESModel,
    backends,
    evaluate_robustness,
)
from keras_free_adv.input_mask import visible_pixels
from tests.conftest import from_logits, tell

STEPS, FEATURES = 5, 2


def sequences(count=6, longest=STEPS):
    """Sequences of 1 to `longest` steps, padded with zeros to STEPS, and labels."""
    generator = np.random.default_rng(0)
    x = generator.uniform(0.2, 0.8, (count, STEPS, FEATURES)).astype("float32")
    for i in range(count):
        x[i, 1 + i % longest :] = 0.0
    x[0, 0, 0] = 0.0  # one feature alone hides no step
    return x, generator.integers(0, 2, count)


def padding(x):
    return np.broadcast_to((x == 0).all(-1, keepdims=True), x.shape)


def head():
    """A mean of the steps that count; far faster to compile than an LSTM."""
    return [layers.GlobalAveragePooling1D(), layers.Dense(2)]


def network(*before, shape=(STEPS, FEATURES)):
    mask = [] if before else [layers.Masking()]
    return keras.Sequential([keras.Input(shape), *before, *mask, *head()])


def functional(call, shape=(STEPS, FEATURES)):
    inputs = keras.Input(shape)
    return keras.Model(inputs, call(inputs))


def on_two_paths():
    inputs = keras.Input((STEPS, FEATURES))
    masked = layers.GlobalAveragePooling1D()(layers.Masking()(inputs))
    bare = layers.Flatten()(inputs)
    return keras.Model(inputs, layers.Dense(2)(layers.Concatenate()([masked, bare])))


def run(inputs):
    for layer in head():
        inputs = layer(inputs)
    return inputs


class Subclassed(keras.Model):
    """Without a graph: what it masks only shows when it is called."""

    def __init__(self):
        super().__init__()
        self.mask, self.last = layers.Masking(), head()

    def call(self, inputs):
        outputs = self.mask(inputs)
        for layer in self.last:
            outputs = layer(outputs)
        return outputs


MASKING = {
    "first": lambda: network(layers.Masking()),
    "in a Sequential": lambda: network(
        keras.Sequential([layers.Masking(), layers.SimpleRNN(3, return_sequences=True)])
    ),
    "in a Sequential in a Sequential": lambda: network(
        keras.Sequential([keras.Sequential([layers.Masking()])])
    ),
    "after scaling": lambda: network(layers.Rescaling(2.0), layers.Masking()),
    "after a nested scaling": lambda: network(
        keras.Sequential([layers.Rescaling(2.0), layers.Identity()]), layers.Masking()
    ),
    "after a division": lambda: functional(lambda x: run(layers.Masking()(x / 255.0))),
    "after a reshaping": lambda: network(
        layers.Reshape((STEPS, FEATURES)),
        layers.Masking(),
        shape=(STEPS * FEATURES,),
    ),
    "on one of two paths": on_two_paths,
    "in a subclassed model": Subclassed,
    "in a subclassed model, wrapped": lambda: FreeAdversarialModel(Subclassed(), 0.1),
    "in a subclassed part": lambda: functional(lambda x: Subclassed()(x)),
    "in a wrapped model": lambda: FreeAdversarialModel(network(), 0.1),
}


@pytest.mark.parametrize("kind", MASKING)
def test_the_mask_is_found(kind):
    x, _ = sequences()
    model = MASKING[kind]()
    images = x.reshape(len(x), -1) if "reshaping" in kind else x
    model(images)  # builds a subclassed one

    def look(images):
        return visible_pixels(model, images)

    compiled = backends.compiled(look, lambda: model)
    for visible in (look(ops.convert_to_tensor(images)), compiled(images)):
        found = ops.convert_to_numpy(visible).reshape(x.shape)
        np.testing.assert_array_equal(found, ~padding(x))


@pytest.mark.parametrize(
    "before",
    [
        [layers.Identity()],
        [layers.Conv1D(2, 3, padding="same", use_bias=False), layers.Masking()],
        [layers.Bidirectional(layers.SimpleRNN(2, return_sequences=True))],
    ],
    ids=["no mask", "of features, not of the input", "a layer that passes masks on"],
)
def test_no_mask_of_the_input_hides_nothing(before):
    assert visible_pixels(network(*before), sequences()[0]) is None


def test_another_mask_value():
    x, _ = sequences()
    model = network(layers.Masking(mask_value=1.0))
    visible = np.asarray(visible_pixels(model, np.where(padding(x), 1.0, x)))
    np.testing.assert_array_equal(visible, ~padding(x))


TRAINING = {
    "free": lambda model, **k: FreeAdversarialModel(model, 0.1, replays=2, **k),
    "pgd": lambda model, **k: PGDAdversarialModel(model, 0.1, steps=2, **k),
    "trades": lambda model, **k: TRADESModel(model, 0.1, steps=2, **k),
}


class Seen(layers.Identity):
    """Keeps what passes through it, run eagerly."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def call(self, inputs):
        if not keras.utils.is_keras_tensor(inputs):
            tell(self.seen.append, inputs)
        return inputs


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("method", TRAINING)
def test_training_never_perturbs_padding(method, norm):
    x, y = sequences()
    seen = Seen()
    model = TRAINING[method](network(seen, layers.Masking()), norm=norm)
    # With these weights, the one pixel of zero is not moved below the range.
    generator = np.random.default_rng(0)
    model.set_weights([generator.normal(size=w.shape) for w in model.weights])
    model.compile("sgd", from_logits(), run_eagerly=True)
    # What Keras builds the model with does not count: on PyTorch that has values.
    begins = keras.callbacks.LambdaCallback(on_train_begin=lambda _: seen.seen.clear())
    data = {"batch_size": len(x), "shuffle": False}
    model.fit(x, y, epochs=2, callbacks=[begins], verbose=0, **data)
    passes = np.stack(seen.seen)
    assert not passes[:, padding(x)].any()
    moved = np.abs(passes - x).max(0)
    assert (moved[~padding(x)] > 0).all()
    if method == "free":
        assert not model.delta[0][padding(x)].any()
        assert model.delta[0][~padding(x)].all()


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("method", ["free", "pgd"])
def test_training_on_padded_sequences_is_training_on_short_ones(method, norm):
    """Padding is as if it was not there: the same weights, update by update."""
    short = 3
    x, y = sequences(longest=short)
    trained = []
    for steps in (STEPS, short):
        keras.utils.set_random_seed(1)
        settings = {} if method == "free" else {"random_start": False}
        inner = network(shape=(steps, FEATURES))
        model = TRAINING[method](inner, norm=norm, **settings)
        model.compile(keras.optimizers.SGD(0.5), from_logits())
        model.fit(x[:, :steps], y, batch_size=4, epochs=4, shuffle=False, verbose=0)
        trained.append(model.get_weights())
    for padded, alone in zip(*trained, strict=True):
        np.testing.assert_allclose(padded, alone, rtol=1e-5, atol=1e-6)


ATTACKS = {
    "pgd": lambda **k: PGDAttack(0.1, steps=3, restarts=2, seed=0, **k),
    "apgd": lambda **k: APGDAttack(0.1, steps=4, seed=0, **k),
    "fab": lambda **k: FABAttack(0.1, steps=4, restarts=2, seed=0, **k),
    "fab untargeted": lambda **k: FABAttack(0.1, steps=2, targets=None, seed=0, **k),
    "square": lambda **k: SquareAttack(0.1, queries=150, seed=0, **k),
}


def mean_of_steps(threshold):
    """Class 0 if the mean of the steps that count exceeds a threshold."""
    pooling = [layers.Masking(), layers.GlobalAveragePooling1D(), layers.Dense(2)]
    model = keras.Sequential([keras.Input((10, 1)), *pooling])
    model.set_weights([np.float32([[1.0, 0.0]]), np.float32([-threshold, 0.0])])
    return model


def with_padding():
    """Two steps of 0.5, eight of padding; of class 0."""
    x = np.zeros((4, 10, 1), "float32")
    x[:, :2] = 0.5
    return x, np.zeros(4, "int64")


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("name", ATTACKS)
def test_attacks_leave_padding_as_it_is(name, norm):
    x, y = with_padding()
    found = np.asarray(ATTACKS[name](norm=norm)(x, y, model=mean_of_steps(0.48)))
    np.testing.assert_array_equal(found[:, 2:], 0.0)
    # Within 0.1 the mean of both steps can fall to 0.4, under "l2" to 0.43.
    assert (found[:, :2].mean(1) < 0.48).all()
    length = np.linalg.norm(
        (found - x).reshape(4, -1), np.inf if norm == "linf" else 2, 1
    )
    assert (length <= 0.1 + 1e-6).all()


@pytest.mark.filterwarnings("ignore:.*examples:UserWarning")
def test_an_evaluation_leaves_padding_as_it_is():
    # The mean of two steps is at least 0.4. Of all ten, with padding that is
    # perturbed and so counts, it would be (2 * 0.4 + 8 * 0.1) / 10 = 0.16.
    attacks = [ATTACKS[name]() for name in ("pgd", "fab", "square")]
    report = evaluate_robustness(mean_of_steps(0.3), with_padding(), attacks, verbose=0)
    assert report.accuracy == {"natural": 1.0, **{a.name: 1.0 for a in attacks}}
