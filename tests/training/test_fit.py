"""What works with `keras.Model.fit` works with an adversarial model."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops

from keras_free_adv import FreeAdversarialModel, PGDAdversarialModel, replay
from tests.conftest import (
    from_logits,
    outputs_of,
    small_images,
    small_network,
    tell,
)

pytestmark = pytest.mark.filterwarnings("ignore:This run ends after")

WRAPS = {
    "free": lambda net, **kwargs: FreeAdversarialModel(net, 0.1, replays=2, **kwargs),
    "pgd": lambda net, **kwargs: PGDAdversarialModel(net, 0.1, steps=2, **kwargs),
}


@pytest.fixture(params=WRAPS)
def wrap(request):
    return WRAPS[request.param]


@keras.saving.register_keras_serializable("tests")
class Subclassed(keras.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.flatten = layers.Flatten()
        self.dense = layers.Dense(3)

    def call(self, inputs):  # no `training` argument
        return self.dense(self.flatten(inputs))


def settings(model):
    """The configuration, but for the numbers that identify shared objects."""
    return {k: v for k, v in model.get_config().items() if k not in ("model", "dtype")}


def with_everything_inside():
    return keras.Sequential(
        [
            keras.Input((6, 6, 1)),
            layers.RandomFlip(),
            layers.Rescaling(2.0, -1.0),
            layers.Conv2D(4, 3, kernel_regularizer="l2", activity_regularizer="l2"),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.Dropout(0.2),
            layers.Flatten(),
            layers.Dense(3),
        ]
    )


NETWORKS = {
    "sequential": small_network,
    "unbuilt sequential": lambda: keras.Sequential([layers.Flatten(), layers.Dense(3)]),
    "subclassed": Subclassed,
    "everything inside": with_everything_inside,
}


@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.parametrize(
    "how",
    [
        {},
        {"run_eagerly": True},
        {"jit_compile": True},
        {"steps_per_execution": 2},
    ],
)
def test_networks_train_and_learn(wrap, kind, how):
    images, labels = small_images(32)
    images[:, :3, :3, 0] = labels[:, None, None] / 2  # something to learn
    model = wrap(NETWORKS[kind]())
    model.compile(
        keras.optimizers.Adam(0.01), from_logits(), metrics=["accuracy"], **how
    )
    history = model.fit(images, labels, batch_size=8, epochs=6, verbose=0)
    assert set(history.history) == {"loss", "accuracy", "passes"}
    assert history.history["loss"][-1] < history.history["loss"][0]


def test_one_hot_labels_and_probabilities(wrap):
    images, labels = small_images(32)
    model = wrap(small_network(softmax=True))
    model.compile("sgd", "categorical_crossentropy", metrics=["accuracy"])
    history = model.fit(
        images, keras.utils.to_categorical(labels), batch_size=8, epochs=2, verbose=0
    )
    assert np.isfinite(history.history["loss"]).all()


def test_evaluate_and_predict_are_the_inner_models(wrap):
    images, labels = small_images(32)
    network = small_network()
    model = wrap(network)
    for each in (network, model):
        each.compile("sgd", from_logits(), metrics=["accuracy"])
    assert model.evaluate(images, labels, verbose=0) == network.evaluate(
        images, labels, verbose=0
    )
    np.testing.assert_array_equal(
        model.predict(images, verbose=0), network.predict(images, verbose=0)
    )
    assert model.inputs[0] is network.inputs[0]
    assert model.get_layer(index=1) is network.layers[1]
    assert model.output_shape == (None, 3)
    assert model.model is network


def test_summary_is_the_inner_models(wrap, capsys):
    wrap(small_network(name="the_inner_one")).summary()
    assert "the_inner_one" in capsys.readouterr().out


def test_validation_split_class_weight_and_sample_weight(wrap):
    images, labels = small_images(40)
    weights = np.where(labels == 1, 3.0, 1.0).astype("float32")

    def trained(**kwargs):
        keras.utils.set_random_seed(3)
        model = wrap(small_network())
        model.compile("sgd", from_logits())
        history = model.fit(
            images,
            labels,
            batch_size=8,
            epochs=2,
            validation_split=0.2,
            verbose=0,
            **kwargs,
        )
        assert len(history.history["val_loss"]) == 2
        assert history.history["passes"][-1] == pytest.approx(
            2 / model.replays
        )  # 32 images train: 4 minibatches
        return model.get_weights()

    by_class = trained(class_weight={0: 1.0, 1: 3.0, 2: 1.0})
    by_sample = trained(sample_weight=weights)
    unweighted = trained()
    for one, other in zip(by_class, by_sample, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)
    assert any(
        np.abs(a - b).max() > 1e-5 for a, b in zip(by_class, unweighted, strict=True)
    )


def test_class_weight_on_a_dataset_of_one_hot_labels(wrap):
    images, labels = small_images(32)
    data = tf.data.Dataset.from_tensor_slices(
        (images, keras.utils.to_categorical(labels))
    ).batch(8)
    model = wrap(small_network(softmax=True))
    model.compile("sgd", "categorical_crossentropy")
    history = model.fit(data, epochs=2, class_weight={1: 0.0, 2: 0.0}, verbose=0)
    # Only class 0 counts: the bias of class 0 grows, the others shrink.
    bias = model.get_weights()[-1]
    assert bias[0] > 0 > bias[1:].max()
    assert np.isfinite(history.history["loss"]).all()


def test_several_outputs_with_a_dict_of_losses(wrap):
    inputs = keras.Input((6, 6, 1))
    flat = layers.Flatten()(inputs)
    network = keras.Model(
        inputs,
        {
            "kind": layers.Dense(3, name="kind")(flat),
            "size": layers.Dense(1, name="size")(flat),
        },
    )
    model = wrap(network)
    model.compile(
        "sgd",
        {"kind": from_logits(), "size": "mse"},
        metrics={"kind": ["accuracy"]},
    )
    images, labels = small_images(16)
    targets = {"kind": labels, "size": np.ones((16, 1), "float32")}
    history = model.fit(images, targets, batch_size=8, epochs=2, verbose=0)
    assert {"loss", "kind_loss", "size_loss"} <= set(history.history)


@pytest.mark.parametrize("structure", [dict, list])
def test_an_output_without_sample_weights_counts_in_full(wrap, structure):
    """None is a weight of one, as in plain `fit`."""
    images, labels = small_images(16)
    weights = np.linspace(0.0, 2.0, 16, dtype="float32")

    def trained(*of_outputs, once=False):
        keras.utils.set_random_seed(0)
        inputs = keras.Input((6, 6, 1))
        flat = layers.Flatten()(inputs)
        outputs = [layers.Dense(3, name="a")(flat), layers.Dense(3, name="b")(flat)]
        if structure is dict:
            outputs = dict(zip("ab", outputs, strict=True))
        model = wrap(keras.Model(inputs, outputs))
        losses = keras.tree.map_structure(lambda _: from_logits(), outputs)
        model.compile("sgd", losses)
        y = keras.tree.map_structure(lambda _: labels, outputs)
        w = dict(zip("ab", of_outputs, strict=True))
        w = w if structure is dict else list(of_outputs)
        if once:
            model.train_on_batch(images, y, sample_weight=w)
        else:
            model.fit(images, y, sample_weight=w, epochs=2, verbose=0, shuffle=False)
        return np.concatenate([v.ravel() for v in model.model.get_weights()])

    ones = np.ones(16, "float32")
    for once in (False, True):
        none = trained(weights, None, once=once)
        np.testing.assert_array_equal(none, trained(weights, ones, once=once))
        assert np.abs(none - trained(ones, ones, once=once)).max() > 1e-4


@pytest.mark.parametrize("given", [{"a": None}, [None, None]])
def test_sample_weights_of_other_outputs_are_refused(wrap, given):
    images, labels = small_images(16)
    model = wrap(small_network())
    model.compile("sgd", from_logits())
    with pytest.raises(ValueError, match="as `y` has: a dict of \\['a', 'b'\\]"):
        model.fit(images, {"a": labels, "b": labels}, sample_weight=given)


# Keras says the same of a list in plain `fit`.
@pytest.mark.filterwarnings("ignore:(?s).*structure of `inputs`")
def test_lists_of_labels_and_a_list_of_one_input(wrap):
    """As `keras.Model.fit` takes them; labels of one shape are not stacked."""
    inputs = keras.Input((6, 6, 1))
    flat = layers.Flatten()(inputs)
    network = keras.Model(inputs, [layers.Dense(3)(flat), layers.Dense(3)(flat)])
    model = wrap(network)
    model.compile("sgd", [from_logits(), from_logits()])
    images, labels = small_images(16)
    first = model.fit(images, [labels, labels], batch_size=8, epochs=2, verbose=0)
    assert np.isfinite(first.history["loss"]).all()
    single = wrap(small_network())
    single.compile("sgd", from_logits())
    second = single.fit([images], labels, batch_size=8, epochs=2, verbose=0)
    assert np.isfinite(second.history["loss"]).all()


def test_labels_that_the_loss_ignores(wrap):
    images, labels = small_images(16)
    labels[:4] = -1
    model = wrap(small_network())
    loss = keras.losses.SparseCategoricalCrossentropy(True, ignore_class=-1)
    model.compile("sgd", loss)
    history = model.fit(images, labels, batch_size=8, epochs=2, verbose=0)
    assert np.isfinite(history.history["loss"]).all()


@pytest.mark.parametrize("eager", [False, True])
def test_without_an_input_gradient_no_weight_moves(eager):
    inputs = keras.Input((6, 6, 1))
    whole = ops.cast(ops.cast(inputs, "int32"), "float32")
    network = keras.Model(inputs, layers.Dense(3)(layers.Flatten()(whole)))
    model = FreeAdversarialModel(network, 0.1, replays=1)
    model.compile("sgd", from_logits(), run_eagerly=eager)
    before = network.get_weights()
    with pytest.raises(ValueError, match="differentiably"):
        model.fit(*small_images(8), verbose=0)
    for one, other in zip(before, network.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_dict_of_inputs_perturbs_the_named_one(wrap):
    image, extra = keras.Input((6, 6, 1), name="image"), keras.Input((2,), name="extra")
    joined = layers.Concatenate()([layers.Flatten()(image), extra])
    network = keras.Model({"image": image, "extra": extra}, layers.Dense(3)(joined))
    model = wrap(network, perturbed_input="image")
    model.compile("sgd", from_logits())
    images, labels = small_images(16)
    # Far outside the pixel range: it must not be clipped or checked.
    data = {"image": images, "extra": np.full((16, 2), 50.0, "float32")}
    model.fit(data, labels, batch_size=8, epochs=2, verbose=0)
    if isinstance(model, FreeAdversarialModel):
        assert model.delta.shape == (1, 8, 6, 6, 1)


def test_frozen_layers_stay(wrap):
    network = small_network()
    network.layers[0].trainable = False
    before = network.layers[0].get_weights()
    model = wrap(network)
    model.compile("sgd", from_logits())
    images, labels = small_images(16)
    model.fit(images, labels, batch_size=8, epochs=2, verbose=0)
    for one, other in zip(before, network.layers[0].get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_frozen_model_trains_nothing_and_says_so_as_keras_does(wrap):
    network = small_network()
    network.trainable = False
    before = network.get_weights()
    model = wrap(network)
    model.compile("sgd", from_logits())
    images, labels = small_images(16)
    with pytest.warns(UserWarning, match="any trainable weights"):
        model.fit(images, labels, batch_size=8, epochs=2, verbose=0)
    for one, other in zip(before, network.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    if isinstance(model, FreeAdversarialModel):
        assert np.abs(model.delta).max() == np.float32(0.1)


def test_a_keras_application(wrap):
    network = keras.applications.MobileNetV2(
        input_shape=(32, 32, 3), alpha=0.35, weights=None, classes=3
    )
    model = wrap(network)
    model.compile("sgd", "sparse_categorical_crossentropy")
    images, labels = small_images(8, (32, 32, 3))
    history = model.fit(images, labels, batch_size=4, epochs=1, verbose=0)
    assert np.isfinite(history.history["loss"]).all()


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision_follows_the_inner_model(wrap, policy):
    keras.config.set_dtype_policy(policy)
    network = small_network()
    keras.config.set_dtype_policy("float32")
    model = wrap(network)
    assert model.dtype_policy.name == policy
    model.compile("sgd", from_logits())
    is_scaled = isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    assert is_scaled == (policy == "mixed_float16")
    images, labels = small_images(16)
    model.fit(images, labels, batch_size=8, epochs=2, verbose=0)
    assert np.isfinite(network.get_weights()[0]).all()
    if isinstance(model, FreeAdversarialModel):
        assert model.delta.dtype == "float32"


def test_an_overflow_under_float16_leaves_delta_and_weights_finite():
    keras.config.set_dtype_policy("mixed_float16")
    network = small_network()
    model = FreeAdversarialModel(network, 0.1, replays=2)
    optimizer = keras.optimizers.LossScaleOptimizer(
        keras.optimizers.SGD(0.1), initial_scale=2.0**40
    )
    model.compile(optimizer, from_logits())
    images, labels = small_images(32)
    images[:, :3, :3, 0] = labels[:, None, None] / 2
    before = network.get_weights()
    model.train_on_batch(images, labels)
    # The first gradients overflow: nothing moves.
    for one, other in zip(before, network.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(model.delta, 0.0)
    history = model.fit(images, labels, batch_size=32, epochs=60, verbose=0)
    assert float(optimizer.dynamic_scale) < 2.0**40
    assert np.isfinite(model.delta).all()
    assert np.isfinite(network.get_weights()[0]).all()
    assert np.abs(model.delta).max() > 0
    assert history.history["loss"][-1] < history.history["loss"][0]


def test_uint8_images(wrap):
    images, labels = small_images(16)
    model = FreeAdversarialModel(
        small_network(), 8, replays=2, value_range=(0, 255), dtype="float32"
    )
    model.compile("sgd", from_logits())
    pixels = (images * 255).astype("uint8")
    model.fit(pixels, labels, batch_size=8, epochs=2, verbose=0)
    assert np.abs(model.delta).max() == 8.0
    assert model.predict(pixels, verbose=0).shape == (16, 3)


def test_callbacks_schedules_and_early_stopping(wrap, tmp_path):
    images, labels = small_images(32)
    model = wrap(small_network())
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay([8], [0.1, 0.0])
    model.compile(keras.optimizers.SGD(schedule), from_logits())
    saved = tmp_path / "best.keras"
    history = model.fit(
        images,
        labels,
        batch_size=8,
        epochs=9,
        validation_data=(images, labels),
        callbacks=[
            keras.callbacks.ModelCheckpoint(saved, monitor="val_loss"),
            # The rate is 0 after 8 updates, two epochs: no more progress.
            keras.callbacks.EarlyStopping(patience=2, monitor="val_loss"),
        ],
        verbose=0,
    )
    assert len(history.epoch) < 9
    assert int(model.optimizer.iterations) == 4 * len(history.epoch)
    assert settings(keras.models.load_model(saved)) == settings(model)


def test_save_and_load_keep_everything(wrap, tmp_path):
    images, labels = small_images(16)
    model = wrap(small_network())
    model.compile("adam", from_logits())
    model.fit(images, labels, batch_size=8, epochs=2, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert settings(loaded) == settings(model)
    np.testing.assert_array_equal(
        loaded.predict(images, verbose=0), model.predict(images, verbose=0)
    )
    assert int(loaded.optimizer.iterations) == int(model.optimizer.iterations)
    if isinstance(model, FreeAdversarialModel):
        np.testing.assert_array_equal(loaded.delta, model.delta)
    model.model.save(tmp_path / "inner.keras")
    inner = keras.models.load_model(tmp_path / "inner.keras")
    np.testing.assert_array_equal(
        inner.predict(images, verbose=0), model.predict(images, verbose=0)
    )


@pytest.mark.tensorflow_only  # a SavedModel
def test_export_holds_the_inner_model_alone(tmp_path):
    images, labels = small_images(16)
    model = FreeAdversarialModel(small_network(), 0.1, replays=2)
    model.compile("adam", from_logits())
    model.fit(images, labels, batch_size=8, epochs=2, verbose=0)
    model.export(tmp_path / "served", verbose=False)
    served = tf.saved_model.load(str(tmp_path / "served"))
    np.testing.assert_allclose(
        served.serve(images), model.predict(images, verbose=0), atol=1e-6
    )
    assert len(served.variables) == len(model.model.variables)


def test_replaying_in_the_pipeline_equals_replaying_in_fit():
    images, labels = small_images(40)
    data = tf.data.Dataset.from_tensor_slices((images, labels)).batch(8)

    def trained(model, data):
        model.compile(keras.optimizers.SGD(0.05), from_logits())
        model.fit(data, epochs=4, steps_per_epoch=5, verbose=0)
        return model

    keras.utils.set_random_seed(1)
    inside = trained(FreeAdversarialModel(small_network(), 0.1, replays=2), data)
    keras.utils.set_random_seed(1)
    outside = trained(
        FreeAdversarialModel(small_network(), 0.1, replays=1), data.apply(replay(2))
    )
    np.testing.assert_allclose(inside.delta, outside.delta, atol=1e-6)
    for one, other in zip(inside.get_weights(), outside.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_activity_regularization_does_not_leak_from_the_crafting_loop():
    network = keras.Sequential(
        [
            keras.Input((6, 6, 1)),
            layers.Flatten(),
            layers.Dense(3, activity_regularizer=keras.regularizers.L2(0.1)),
        ]
    )
    model = PGDAdversarialModel(network, 1e-6, steps=3)
    model.compile(keras.optimizers.SGD(0.0), from_logits())
    images, labels = small_images(8)
    loss = model.train_on_batch(images, labels)
    plain = outputs_of(network, images)
    cross_entropy = float(from_logits()(labels, plain))
    expected = cross_entropy + 0.1 * np.sum(plain**2) / 8
    assert float(loss) == pytest.approx(expected, rel=1e-4)


def test_a_minibatch_larger_than_the_first_is_named():
    images, labels = small_images(24)

    def growing():
        for _ in range(2):
            yield images[:8], labels[:8]
        yield images[8:], labels[8:]

    data = tf.data.Dataset.from_generator(
        growing,
        output_signature=(
            tf.TensorSpec((None, 6, 6, 1), tf.float32),
            tf.TensorSpec((None,), tf.int64),
        ),
    )
    model = FreeAdversarialModel(small_network(), 0.1, replays=1)
    model.compile("sgd", from_logits())
    with pytest.raises(
        tf.errors.InvalidArgumentError, match="more than the 8 examples"
    ):
        model.fit(data, steps_per_epoch=3, verbose=0)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_perturbed_images_reach_the_network_in_full_precision(policy):
    """On bfloat16's grid a perturbation of 8/255 has a few distinct values."""
    keras.config.set_dtype_policy(policy)
    seen = []

    class Remembers(keras.layers.Layer):
        def call(self, inputs):
            seen.append(inputs.dtype)
            return inputs

    network = keras.Sequential(
        [
            keras.Input((6, 6, 1)),
            Remembers(dtype="float32"),
            keras.layers.Flatten(),
            keras.layers.Dense(3),
        ]
    )
    model = FreeAdversarialModel(network, 8 / 255, replays=1)
    images, labels = small_images(16)
    images = images + np.float32(1e-4)
    np.testing.assert_array_equal(
        outputs_of(model, images), outputs_of(network, images)
    )
    model.compile("sgd", from_logits(), run_eagerly=True)
    received = []
    call = network.call
    network.call = lambda inputs, **kwargs: (
        tell(received.append, inputs) or call(inputs, **kwargs)
    )
    model.train_on_batch(images, labels)
    np.testing.assert_array_equal(received[-1], np.clip(images, 0, 1))
