import importlib.util
import textwrap

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_free_adv import zoo
from tests.conftest import by_hand, said_by


def test_preact_resnet18_has_the_published_number_of_weights():
    model = zoo.preact_resnet18()
    trainable = sum(int(np.prod(w.shape)) for w in model.trainable_weights)
    # PreActResNet-18 (11,171,146) with the final batch norm of Wong et al.: 2 x 512.
    assert trainable == 11_171_146 + 1_024
    assert model.output_shape == (None, 10)


def test_compact_resnet_computes_where_pixels_are_few():
    model = zoo.compact_resnet(width=4, activation="silu")
    added = [
        layer.output.shape
        for layer in model.layers
        if isinstance(layer, keras.layers.Add)
    ]
    sizes = [(16, 4), (16, 4), (8, 8), (8, 8), (4, 16), (4, 16)]
    assert added == [(None, size, size, channels) for size, channels in sizes]
    layers = [layer for layer in model.layers if layer.name.startswith("activation")]
    assert {layer.activation for layer in layers} == {keras.activations.silu}
    # A kernel for each of two convolutions a block, for each change of shape, and two.
    kernels = [w for w in model.weights if len(w.shape) > 1]
    assert len(kernels) == 2 * 6 + 2 + 2
    with pytest.raises(ValueError, match="`activation` must be the name of"):
        zoo.compact_resnet(activation="relO")


def preact_resnet18_as_written(pixels, weights, projections):
    """He et al. (2016), for CIFAR, in plain TensorFlow; pixels in [0, 1]."""
    weights, projections = iter(weights), iter(projections)

    def activated(x):
        gamma, beta, mean, variance = (next(weights) for _ in range(4))
        return tf.nn.relu(
            tf.nn.batch_normalization(x, mean, variance, beta, gamma, 1e-5)
        )

    def convolution(x, kernel, stride):
        around = kernel.shape[0] // 2  # as in PyTorch, the same on both sides
        x = tf.pad(x, [[0, 0], [around, around], [around, around], [0, 0]])
        return tf.nn.conv2d(x, kernel, stride, "VALID")

    x = convolution(4 * pixels - 2, next(weights), 1)
    for stage in range(4):
        for block in range(2):
            stride = 2 if stage > 0 and block == 0 else 1
            a = activated(x)
            shortcut = convolution(a, next(projections), 2) if stride == 2 else x
            y = convolution(a, next(weights), stride)
            x = convolution(activated(y), next(weights), 1) + shortcut
    x = tf.reduce_mean(activated(x), [1, 2])
    return x @ next(weights) + next(weights)


def test_preact_resnet18_computes_what_was_published():
    model = zoo.preact_resnet18(width=4)
    generator = np.random.default_rng(0)
    for variable in model.weights:  # batch norm too is to be something else than 0, 1
        if len(variable.shape) == 1:
            variable.assign(generator.uniform(0.5, 1.5, variable.shape))
    values = [w.value for layer in model.layers for w in layer.weights]
    projections = [v for v in values if v.shape[:2] == (1, 1)]
    others = [v for v in values if v.shape[:2] != (1, 1)]
    assert len(projections) == 3
    pixels = generator.uniform(size=(4, 32, 32, 3)).astype("float32")
    expected = preact_resnet18_as_written(pixels, others, projections)
    np.testing.assert_allclose(model(pixels), expected, rtol=1e-4, atol=1e-4)


def test_a_fused_copy_keeps_what_regularizes_a_variable():
    plain = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    plain.layers[0].kernel.regularizer = keras.regularizers.L2(0.5)
    copy = zoo.fused(plain)
    expected = 0.5 * np.sum(np.square(plain.layers[0].kernel.numpy()))
    assert [float(loss) for loss in copy.losses] == [pytest.approx(expected)]


def test_pixels_are_centered_inside():
    for low, high in ((0, 1), (0, 255)):
        model = zoo.small_cnn(classes=3, input_shape=(8, 8, 1), value_range=(low, high))
        centered = keras.Model(model.input, model.get_layer("centered").output)
        ends = np.array([low, high, (low + high) / 2], "float32")
        seen = centered(np.broadcast_to(ends[:, None, None, None], (3, 8, 8, 1)))
        np.testing.assert_allclose(seen[:, 0, 0, 0], [-2, 2, 0], atol=1e-6)


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_logits_are_float32_under_every_policy(policy):
    keras.config.set_dtype_policy(policy)
    model = zoo.preact_resnet18(width=4)
    assert model(np.zeros((2, 32, 32, 3), "float32")).dtype == "float32"


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16", "mixed_float16"])
@pytest.mark.parametrize("options", [{}, {"scale": False}, {"center": False}])
def test_fused_batch_norm_equals_keras(policy, options):
    options = {"momentum": 0.9, "epsilon": 1e-5, "dtype": policy, **options}
    ours = zoo.FusedBatchNormalization(**options)
    theirs = keras.layers.BatchNormalization(**options)
    generator = np.random.default_rng(0)
    images = generator.normal(1, 2, (4, 5, 5, 3)).astype("float32")
    for layer in (ours, theirs):
        layer.build(images.shape)
        layer.set_weights([np.full(3, 0.5 + i) for i in range(len(layer.weights))])
    tolerance = 1e-5 if policy == "float32" else 5e-2
    for training in (True, False):
        np.testing.assert_allclose(
            np.asarray(ours(images, training=training), "float32"),
            np.asarray(theirs(images, training=training), "float32"),
            atol=tolerance,
        )
        for one, other in zip(ours.get_weights(), theirs.get_weights(), strict=True):
            np.testing.assert_allclose(one, other, atol=tolerance)


def test_fused_batch_norm_falls_back_where_the_kernel_does_not_apply():
    inputs = np.random.default_rng(0).normal(size=(6, 3)).astype("float32")
    ours, theirs = zoo.FusedBatchNormalization(), keras.layers.BatchNormalization()
    np.testing.assert_allclose(
        ours(inputs, training=True), theirs(inputs, training=True), atol=1e-6
    )


def test_a_model_of_the_zoo_is_saved_and_loaded(tmp_path):
    model = zoo.preact_resnet18(width=4)
    images = np.random.default_rng(0).uniform(size=(2, 32, 32, 3)).astype("float32")
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(loaded(images), model(images), rtol=1e-5, atol=1e-5)


def test_fused_batch_norm_runs_under_xla():
    layer = zoo.FusedBatchNormalization()
    images = np.random.default_rng(0).normal(size=(4, 5, 5, 3)).astype("float32")
    expected = layer(images, training=True)
    compiled = tf.function(lambda x: layer(x, training=True), jit_compile=True)
    np.testing.assert_allclose(compiled(images), expected, atol=1e-5)


def test_fused_copies_share_nothing_with_the_model():
    model = zoo.preact_resnet18(width=4)
    copy = zoo.fused(model)
    copy.trainable_weights[0].assign_add(keras.ops.ones_like(copy.weights[0]))
    assert not np.array_equal(copy.get_weights()[0], model.get_weights()[0])


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_gradients_in_inference_mode_are_those_of_the_formula(policy):
    """y = gamma (x - mean) / sqrt(variance + epsilon) + beta."""
    layer = zoo.FusedBatchNormalization(epsilon=0.01, dtype=policy)
    generator = np.random.default_rng(0)
    x = generator.normal(size=(4, 5, 5, 3)).astype("float32")
    upstream = generator.normal(size=x.shape).astype("float32")
    layer.build(x.shape)
    weights = [generator.uniform(0.5, 2, 3).astype("float32") for _ in range(4)]
    layer.set_weights(weights)
    gamma, _, mean, variance = weights
    with tf.GradientTape() as tape:
        inputs = tf.constant(x)
        tape.watch(inputs)
        outputs = tf.cast(layer(inputs, training=False), tf.float32)
        loss = tf.reduce_sum(outputs * upstream)
    found = tape.gradient(loss, [inputs, layer.gamma.value, layer.beta.value])
    inverse = 1 / np.sqrt(variance + 0.01)
    expected = [
        upstream * gamma * inverse,
        (upstream * (x - mean) * inverse).sum((0, 1, 2)),
        upstream.sum((0, 1, 2)),
    ]
    tolerance = 1e-5 if policy == "float32" else 0.05
    for one, other in zip(found, expected, strict=True):
        size = np.abs(other).max()
        np.testing.assert_allclose(one / size, other / size, atol=tolerance)


OTHERS = sorted({"tensorflow", "jax", "torch"} - {keras.backend.backend()})


@pytest.mark.parametrize("backend", [OTHERS[-1], by_hand(OTHERS[0])])
def test_a_saved_model_computes_the_same_on_another_backend(tmp_path, backend):
    """And is trained there: batch norm is fused on TensorFlow only."""
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f'needs pip install "keras_free_adv[{backend}]"')
    generator = np.random.default_rng(0)
    made = {"preact": zoo.preact_resnet18(width=2), "wide": zoo.wide_resnet(8, 1)}
    images = generator.uniform(size=(4, 32, 32, 3)).astype("float32")
    np.save(tmp_path / "images.npy", images)
    for name, model in made.items():
        for variable in model.weights:  # batch norm is to be something else than 0, 1
            if len(variable.shape) == 1:
                variable.assign(generator.uniform(0.5, 1.5, variable.shape))
        model.save(tmp_path / f"{name}.keras")
    program = """
        import os, sys
        os.environ["KERAS_BACKEND"] = sys.argv[2]
        import keras, numpy as np
        from keras_free_adv import zoo
        images = np.load(sys.argv[1] + "/images.npy")
        for name in ("preact", "wide"):
            model = keras.models.load_model(f"{sys.argv[1]}/{name}.keras")
            outputs = keras.ops.convert_to_numpy(model(images, training=False))
            np.save(f"{sys.argv[1]}/{name}.npy", outputs)
        model = zoo.fused(model)
        model.compile("sgd", keras.losses.CategoricalCrossentropy(True))
        before = model.get_weights()
        model.train_on_batch(images, np.eye(10)[:4])
        assert all((a != b).any() for a, b in zip(before, model.get_weights()))
    """
    said_by(textwrap.dedent(program), tmp_path, backend, forks=False)
    for name, model in made.items():
        found = np.load(tmp_path / f"{name}.npy")
        expected = keras.ops.convert_to_numpy(model(images, training=False))
        size = np.abs(expected).max()
        np.testing.assert_allclose(found / size, expected / size, atol=1e-5)
