"""The artifact answers as the model does, and holds nothing of its training."""

import json
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_free_adv import (
    ExportDisagreesError,
    FreeAdversarialModel,
    PGDAdversarialModel,
    PGDAttack,
    evaluate_robustness,
    export_for_serving,
    recipes,
    zoo,
)
from tests.conftest import said_by
from tests.serving.artifacts import (
    CLASSES,
    NAMES,
    SHAPE,
    as_pillow_decodes,
    colour_images,
    colour_network,
    compiled_program,
    encoded,
    probabilities,
    published,
    run_in_c,
    signatures,
    trained_model,
)

COUNT = 500


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    return trained_model(epochs=8)


@pytest.fixture(scope="module")
def artifact(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("artifact")
    return published(model, folder, class_names=NAMES)


@pytest.fixture(scope="module")
def images():
    return colour_images(COUNT, seed=1)[0]


def check_answers(found, expected, atol):
    """Probabilities, and the classes that follow from them."""
    np.testing.assert_allclose(found["probabilities"], expected, atol=atol)
    ids = np.asarray(found["class_ids"])
    assert ids.dtype == np.int64
    np.testing.assert_array_equal(
        ids, np.argsort(-np.asarray(found["probabilities"]), kind="stable")[:, :5]
    )
    np.testing.assert_array_equal(
        found["top_probabilities"],
        np.take_along_axis(np.asarray(found["probabilities"]), ids, axis=1),
    )
    names = np.char.decode(np.asarray(found["class_names"]).astype("S"))
    np.testing.assert_array_equal(names, np.array(NAMES)[ids])


def test_float_and_8_bit_images_are_answered_as_by_keras(model, artifact, images):
    floats = (images / 255).astype("float32")
    expected = probabilities(model.model, floats)
    assert expected.max(-1).mean() > 0.2  # a model that has learned something
    served = signatures(artifact)
    check_answers(served["serving_default"](images=tf.constant(floats)), expected, 1e-5)
    check_answers(served["serve_uint8"](images=tf.constant(images)), expected, 1e-5)


def test_files_are_answered_as_by_keras(model, artifact, images):
    served = signatures(artifact)["serve_bytes"]
    floats = (images / 255).astype("float32")
    whole = [encoded(image, "PNG") for image in images]
    found = served(image_bytes=tf.constant(whole))
    check_answers(found, probabilities(model.model, floats), 1e-5)
    lossy = [encoded(image, "JPEG", quality=90) for image in images]
    decoded = np.stack([as_pillow_decodes(one) for one in lossy])
    found = served(image_bytes=tf.constant(lossy))
    expected = probabilities(model.model, (decoded / 255).astype("float32"))
    check_answers(found, expected, 1e-3)


def resized(image, size):
    """Bilinear, without antialiasing, pixels' centres at halves: NumPy's own."""
    image = image.astype("float64")
    for axis, count in enumerate(size):
        places = (np.arange(count) + 0.5) * image.shape[axis] / count - 0.5
        places = np.clip(places, 0, image.shape[axis] - 1)
        below = np.floor(places).astype(int)
        above = np.minimum(below + 1, image.shape[axis] - 1)
        weight = (places - below).reshape([-1 if a == axis else 1 for a in range(3)])
        image = (1 - weight) * image.take(below, axis) + weight * image.take(
            above, axis
        )
    return image


def test_files_of_other_sizes_are_cropped_and_resized(model, artifact, tmp_path):
    random = np.random.default_rng(2)
    sizes = [(16, 16), (24, 40), (40, 24), (5, 9), (8, 30)]
    pictures = [random.integers(0, 256, (*s, 3), dtype="uint8") for s in sizes]
    files = [encoded(picture, "PNG") for picture in pictures]

    def expected(side_of):
        squares = []
        for picture in pictures:
            height, width = picture.shape[:2]
            side = side_of(min(height, width))
            top, left = (height - side) // 2, (width - side) // 2
            square = picture[top : top + side, left : left + side]
            squares.append(resized(square, (8, 8)) / 255)
        return probabilities(model.model, np.stack(squares).astype("float32"))

    found = signatures(artifact)["serve_bytes"](image_bytes=tf.constant(files))
    check_answers(found, expected(lambda side: side), 1e-5)
    # A model that was trained on images of varying size: with their margin.
    other = published(model, tmp_path, class_names=NAMES, image_size=8)
    found = signatures(other)["serve_bytes"](image_bytes=tf.constant(files))
    check_answers(found, expected(lambda side: round(side * 224 / 256)), 1e-5)


def test_the_window_of_a_larger_jpeg_is_its_middle(model, artifact):
    """Smooth pictures: at a window's edge, decoders upsample colours differently."""
    random = np.random.default_rng(4)
    files, expected = [], []
    for height, width in [(64, 64), (48, 120), (200, 90)]:
        coarse = random.uniform(0, 255, (4, 4, 3))
        picture = resized(coarse, (height, width)).round().astype("uint8")
        files.append(encoded(picture, "JPEG", quality=95, subsampling=0))
        side = min(height, width)
        top, left = (height - side) // 2, (width - side) // 2
        decoded = as_pillow_decodes(files[-1])
        square = decoded[top : top + side, left : left + side]
        expected.append(resized(square, (8, 8)) / 255)
    found = signatures(artifact)["serve_bytes"](image_bytes=tf.constant(files))
    wanted = probabilities(model.model, np.stack(expected).astype("float32"))
    check_answers(found, wanted, 1e-3)


def test_gray_models_take_colour_files_and_the_other_way_round(tmp_path):
    gray = colour_network(shape=(8, 8, 1))
    served = signatures(published(gray, tmp_path / "gray"))["serve_bytes"]
    colour, _ = colour_images(3)
    files = [encoded(one, "JPEG") for one in colour]
    found = served(image_bytes=tf.constant(files))["probabilities"]
    decoded = np.stack([as_pillow_decodes(one, "L") for one in files])[..., None]
    expected = probabilities(gray, (decoded / 255).astype("float32"))
    np.testing.assert_allclose(found, expected, atol=5e-3)
    network = colour_network()
    served = signatures(published(network, tmp_path / "colour"))["serve_bytes"]
    found = served(
        image_bytes=tf.constant([encoded(one[..., :1], "PNG") for one in colour])
    )
    repeated = np.repeat(colour[..., :1], 3, axis=-1)
    expected = probabilities(network, (repeated / 255).astype("float32"))
    np.testing.assert_allclose(found["probabilities"], expected, atol=1e-5)


def test_c_programs_get_the_same_answers(model, artifact, images, tmp_path):
    """TensorFlow's C API, no Python: the runtime in TensorFlow Serving."""
    program = compiled_program(tmp_path)
    floats = (images / 255).astype("float32")
    expected = probabilities(model.model, floats)
    ended, found = run_in_c(
        program,
        artifact,
        "serving_default",
        floats,
        ("probabilities", "class_names", "class_ids"),
    )
    assert ended.returncode == 0, ended.stderr
    answers = found["probabilities"].astype("float32")
    np.testing.assert_allclose(answers, expected, atol=1e-5)
    best = answers.argmax(-1)
    np.testing.assert_array_equal(found["class_ids"][:, 0].astype(int), best)
    np.testing.assert_array_equal(found["class_names"][:, 0], np.array(NAMES)[best])
    for signature, value in (
        ("serve_uint8", images),
        ("serve_bytes", np.array([encoded(i, "PNG") for i in images], object)),
    ):
        ended, found = run_in_c(program, artifact, signature, value)
        assert ended.returncode == 0, ended.stderr
        answers = found["probabilities"].astype("float32")
        np.testing.assert_allclose(answers, expected, atol=1e-5)


def test_robust_accuracy_is_equal(model, artifact):
    images, labels = colour_images(COUNT, seed=3)
    floats = (images / 255).astype("float32")
    attack = PGDAttack(0.03, steps=5, seed=0)
    served = signatures(artifact)["serving_default"]
    for attacked in (floats, attack(floats, labels, model=model)):
        ours = model.predict(attacked, verbose=0).argmax(-1)
        theirs = served(images=tf.constant(attacked))["class_ids"][:, 0]
        np.testing.assert_array_equal(ours, theirs)


def test_saved_model_cli_runs_it(model, artifact, images, tmp_path):
    np.save(tmp_path / "images.npy", images[:20])
    command = Path(sys.executable).with_name("saved_model_cli")
    if not command.exists():
        pytest.skip(f"needs TensorFlow's saved_model_cli in {command.parent}")
    subprocess.run(
        [command, "run", "--dir", artifact, "--tag_set", "serve"]
        + ["--signature_def", "serve_uint8", "--outdir", tmp_path / "out"]
        + ["--inputs", f"images={tmp_path / 'images.npy'}"],
        check=True,
        capture_output=True,
    )
    expected = probabilities(model.model, (images[:20] / 255).astype("float32"))
    found = np.load(tmp_path / "out" / "probabilities.npy")
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_it_loads_without_this_library(model, artifact, images):
    program = """
import sys
import numpy as np, tensorflow as tf
served = tf.saved_model.load(sys.argv[1]).signatures["serve_uint8"]
images = np.load(sys.argv[2])
print(served(images=tf.constant(images))["probabilities"].numpy().tolist())
assert "keras_free_adv" not in sys.modules
"""
    path = artifact.parent / "images.npy"
    np.save(path, images[:5])
    found = json.loads(said_by(program, artifact, path, forks=False))
    path.unlink()
    expected = probabilities(model.model, (images[:5] / 255).astype("float32"))
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_nothing_of_training_is_in_it(model, artifact):
    saved = tf.train.list_variables(str(artifact / "variables" / "variables"))
    shapes = [tuple(shape) for name, shape in saved if not name.startswith("_CHECK")]
    assert sorted(shapes) == sorted(tuple(v.shape) for v in model.model.variables)
    assert not any("delta" in name or "optimizer" in name for name, _ in saved)
    assert not list(artifact.rglob("*.keras"))


@pytest.mark.filterwarnings("ignore:Only .* examples were evaluated")
def test_it_tells_of_itself(model, tmp_path):
    data = colour_images(64, seed=4)
    report = evaluate_robustness(
        model,
        ((data[0] / 255).astype("float32"), data[1]),
        [PGDAttack(0.03, steps=2, seed=0)],
        verbose=0,
    )
    recipe = recipes.get("cifar10_small_free8")
    path = published(model, tmp_path, class_names=NAMES, recipe=recipe, report=report)
    assets = path / "assets"
    assert (assets / "class_names.txt").read_text().splitlines() == NAMES
    assert recipes.from_dict(json.loads((assets / "recipe.json").read_text())) == recipe
    text = (assets / "robustness_report.json").read_text()
    assert type(report).from_json(text).worst_case == report.worst_case
    told = json.loads((assets / "description.json").read_text())
    assert told["training"]["epsilon"] == 0.03
    assert told["training"]["method"] == "FreeAdversarialModel"
    # Of plain Keras the recipe knows it.
    plain_path = published(model.model, tmp_path / "plain", recipe=recipe)
    plain = json.loads((plain_path / "assets/description.json").read_text())
    assert plain["training"] == {
        "method": "free",
        "epsilon": pytest.approx(8 / 255),
        "norm": "linf",
        "replays": 8,
    }
    assert told["value_range"] == [0.0, 1.0]
    assert told["input_shape"] == list(SHAPE)
    # They are assets of the SavedModel: who copies it by TensorFlow keeps them.
    loaded = tf.saved_model.load(str(path))
    copied = [Path(a.asset_path.numpy().decode()).name for a in loaded.assets]
    assert sorted(copied) == sorted(p.name for p in assets.iterdir())


@pytest.mark.filterwarnings("ignore:Only .* examples were evaluated")
def test_a_report_of_another_model_is_refused(model, tmp_path):
    images, labels = colour_images(8)
    report = evaluate_robustness(
        colour_network(),
        ((images / 255).astype("float32"), labels),
        [PGDAttack(0.1, steps=1, seed=0)],
        verbose=0,
    )
    with pytest.raises(ValueError, match="`report` must be of the model that is exp"):
        export_for_serving(model, tmp_path, report=report)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.filterwarnings("ignore:Only .* examples were evaluated")
def test_a_report_of_another_pixel_range_is_refused(tmp_path):
    """Plain Keras does not know its range; the attacks that it withstood do."""
    images, labels = colour_images(8)
    network = colour_network()
    attack = PGDAttack(8, steps=1, value_range=(0, 255), seed=0)
    report = evaluate_robustness(
        network, (images.astype("float32"), labels), [attack], verbose=0
    )
    with pytest.raises(ValueError, match=r"pixels in \[0.0, 255.0\], and an export"):
        export_for_serving(network, tmp_path, report=report)
    path = published(network, tmp_path, report=report, value_range=(0, 255))
    told = json.loads((path / "assets/description.json").read_text())
    assert told["value_range"] == [0.0, 255.0]


class WithPreprocessor(keras.Model):
    """As a task of KerasHub."""

    def __init__(self):
        super().__init__()
        self.network = colour_network()
        self.preprocessor = lambda images: images * 2

    def call(self, images):
        return self.network(images)


def with_integers():
    images = keras.Input(SHAPE, dtype="uint8")
    floats = keras.layers.Rescaling(1 / 255)(images)
    return keras.Model(images, colour_network()(floats))


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (WithPreprocessor, "must not have a preprocessor attached"),
        (with_integers, "must take floats.*an input of uint8"),
    ],
)
def test_a_model_whose_predict_does_more_is_refused(made, message, tmp_path):
    model = made()
    model(colour_images(1)[0])
    with pytest.raises(ValueError, match=message):
        export_for_serving(model, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_logits_are_not_served_as_probabilities(tmp_path):
    with pytest.raises(ValueError, match="Pass from_logits=True"):
        export_for_serving(colour_network(), tmp_path, from_logits=False)
    assert list(tmp_path.iterdir()) == []


class OtherPredict(keras.Sequential):
    """Whose `predict` is not what calling it gives."""

    def predict_step(self, data):
        return 1.5 * super().predict_step(data)


def test_an_export_is_compared_with_predict(tmp_path):
    model = OtherPredict([keras.Input(SHAPE), *colour_network().layers])
    with pytest.raises(ExportDisagreesError, match="'serving_default'.*than the model"):
        export_for_serving(model, tmp_path)
    assert list(tmp_path.iterdir()) == []


class WithTable(keras.layers.Layer):
    def __init__(self):
        super().__init__()
        self.offset = tf.Variable(1.0)

    def call(self, inputs):
        return inputs + self.offset


def test_variables_that_keras_does_not_know_are_named(tmp_path):
    network = keras.Sequential([colour_network(), WithTable()])
    with pytest.raises(ValueError, match=r"a tf.Variable.*Use `self.add_weight`"):
        export_for_serving(network, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_bucket_is_no_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="must be a folder of this machine"):
        export_for_serving(colour_network(), "gs://bucket/model")
    assert list(tmp_path.iterdir()) == []


def test_many_class_names_are_counted_and_not_listed(tmp_path):
    names = [f"class number {i}" for i in range(999)]
    with pytest.raises(ValueError, match="999 of them") as error:
        export_for_serving(colour_network(), tmp_path, class_names=names)
    assert len(str(error.value)) < 400


def test_the_requests_that_warm_up_are_answered(artifact):
    """They are what a client would send, by the server's own messages."""
    from tensorflow_serving.apis import prediction_log_pb2

    file = artifact / "assets.extra" / "tf_serving_warmup_requests"
    served, seen = signatures(artifact), set()
    for record in tf.data.TFRecordDataset(str(file)):
        log = prediction_log_pb2.PredictionLog.FromString(record.numpy())
        request = log.predict_log.request
        assert request.model_spec.name == "robust"
        signature = served[request.model_spec.signature_name]
        _, expected = signature.structured_input_signature
        assert set(request.inputs) == set(expected)
        inputs = {n: tf.make_ndarray(p) for n, p in request.inputs.items()}
        for name, value in inputs.items():
            assert tf.TensorSpec.from_tensor(tf.constant(value)).is_subtype_of(
                tf.TensorSpec(expected[name].shape, expected[name].dtype)
            )
        answers = signature(**{n: tf.constant(v) for n, v in inputs.items()})
        assert answers["probabilities"].shape == (1, CLASSES)
        seen.add(request.model_spec.signature_name)
    assert seen == {"serving_default", "serve_uint8", "serve_bytes"}


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_models_of_mixed_precision(policy, tmp_path):
    keras.config.set_dtype_policy(policy)
    model = trained_model()
    keras.config.set_dtype_policy("float32")
    images, _ = colour_images(64, seed=5)
    floats = (images / 255).astype("float32")
    served = signatures(published(model, tmp_path))
    found = served["serving_default"](images=tf.constant(floats))["probabilities"]
    assert found.dtype == tf.float32
    tolerance = 2e-3 if policy == "mixed_float16" else 2e-2
    np.testing.assert_allclose(found, probabilities(model, floats), atol=tolerance)


def test_models_of_another_pixel_range(tmp_path):
    model = trained_model(value_range=(-1.0, 1.0))
    images, _ = colour_images(64, seed=6)
    served = signatures(published(model, tmp_path))
    floats = (images / 127.5 - 1).astype("float32")
    expected = probabilities(model, floats)
    for signature, value in (
        ("serving_default", floats),
        ("serve_uint8", images),
    ):
        found = served[signature](images=tf.constant(value))["probabilities"]
        np.testing.assert_allclose(found, expected, atol=1e-5)
    files = tf.constant([encoded(image, "PNG") for image in images])
    found = served["serve_bytes"](image_bytes=files)["probabilities"]
    np.testing.assert_allclose(found, expected, atol=1e-5)
    told = json.loads(next(tmp_path.rglob("description.json")).read_text())
    assert told["value_range"] == [-1.0, 1.0]


def test_a_loaded_model(tmp_path):
    """Right after `load_model`, of the wrapper and of the network in it."""
    model = trained_model(wrap=PGDAdversarialModel, steps=1)
    images, _ = colour_images(16, seed=7)
    floats = (images / 255).astype("float32")
    expected = probabilities(model, floats)
    model.save(tmp_path / "wrapper.keras")
    model.model.save(tmp_path / "network.keras")
    for name in ("wrapper", "network"):
        loaded = keras.models.load_model(tmp_path / f"{name}.keras")
        served = signatures(published(loaded, tmp_path / name))["serving_default"]
        found = served(images=tf.constant(floats))["probabilities"]
        np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("units", [1, 4])
def test_networks_that_return_probabilities(units, tmp_path):
    activation = "sigmoid" if units == 1 else "softmax"
    network = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Flatten(),
            keras.layers.Dense(units, activation=activation),
        ]
    )
    images = np.random.default_rng(0).uniform(size=(9, 8, 8, 1)).astype("float32")
    expected = network.predict(images, verbose=0)
    if units == 1:
        expected = np.concatenate([1 - expected, expected], axis=1)
    served = signatures(published(network, tmp_path))["serving_default"]
    found = served(images=tf.constant(images))
    np.testing.assert_allclose(found["probabilities"], expected, atol=1e-6)
    assert found["class_ids"].shape[1] == expected.shape[1]


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.network = colour_network()

    def call(self, inputs):
        return self.network(inputs)


def test_a_subclassed_model(tmp_path):
    model = Subclassed()
    images, _ = colour_images(4)
    floats = (images / 255).astype("float32")
    with pytest.raises(ValueError, match="`model` must be built: call it"):
        export_for_serving(model, tmp_path / "robust")
    expected = probabilities(model, floats)
    served = signatures(published(model, tmp_path))["serving_default"]
    found = served(images=tf.constant(floats))["probabilities"]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_network_of_any_image_size(tmp_path):
    network = keras.Sequential(
        [
            keras.Input((None, None, 3)),
            keras.layers.Conv2D(4, 3, activation="relu"),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(3),
        ]
    )
    with pytest.raises(ValueError, match="`image_size` is needed"):
        published(network, tmp_path)
    served = signatures(published(network, tmp_path, image_size=16))
    for size in (16, 21):
        images = np.random.default_rng(0).uniform(size=(2, size, size, 3))
        floats = images.astype("float32")
        found = served["serving_default"](images=tf.constant(floats))
        expected = probabilities(network, floats)
        np.testing.assert_allclose(found["probabilities"], expected, atol=1e-5)


def test_a_network_of_the_zoo_and_one_of_keras_applications(tmp_path):
    images = np.random.default_rng(0).uniform(size=(4, 32, 32, 3)).astype("float32")
    resnet = keras.applications.MobileNetV3Small(
        input_shape=(32, 32, 3), weights=None, classes=4, include_preprocessing=False
    )
    wide = zoo.wide_resnet(8, 1, classes=4)
    wide(images, training=True)
    for name, network in (("wide", wide), ("applications", resnet)):
        served = signatures(published(network, tmp_path / name))["serving_default"]
        found = served(images=tf.constant(images))["probabilities"]
        outputs = network.predict(images, verbose=0)
        expected = probabilities(network, images) if name == "wide" else outputs
        np.testing.assert_allclose(found, expected, atol=1e-5)


class Noisy(keras.layers.Layer):
    """Whose outputs are never the same."""

    def call(self, inputs):
        noise = tf.random.uniform(tf.shape(inputs))
        return inputs + 10 * noise


class InPython(keras.layers.Layer):
    def call(self, inputs):
        outputs = tf.numpy_function(lambda x: x, [inputs], tf.float32)
        return tf.ensure_shape(outputs, inputs.shape)

    def compute_output_shape(self, input_shape):
        return input_shape


@pytest.mark.parametrize(
    ("layer", "error", "message"),
    [
        (Noisy, ExportDisagreesError, "answers other probabilities than the model"),
        (InPython, ValueError, "must not call Python functions"),
    ],
)
def test_what_cannot_be_served_is_not_published(layer, error, message, tmp_path):
    network = keras.Sequential([colour_network(), layer()])
    with pytest.raises(error, match=message):
        export_for_serving(network, tmp_path / "robust")
    assert [p for p in (tmp_path / "robust").iterdir()] == []


def test_weights_that_are_not_finite_are_not_published(tmp_path):
    network = colour_network()
    network.layers[-1].bias.assign([np.nan] * CLASSES)
    with pytest.raises(ExportDisagreesError, match="The model itself answers NaN"):
        export_for_serving(network, tmp_path / "robust")
    assert list((tmp_path / "robust").iterdir()) == []


def test_a_model_that_takes_its_images_in_a_dict(tmp_path):
    images = keras.Input(SHAPE, name="photo")
    network = keras.Model({"photo": images}, colour_network()(images))
    values = (colour_images(4)[0] / 255).astype("float32")
    expected = probabilities(network, {"photo": values})
    for model in (network, FreeAdversarialModel(network, 0.1, perturbed_input="photo")):
        served = signatures(published(model, tmp_path))["serving_default"]
        found = served(images=tf.constant(values))["probabilities"]
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_an_export_within_a_scope_is_refused(tmp_path):
    with (
        tf.distribute.OneDeviceStrategy("CPU:0").scope(),
        pytest.raises(ValueError, match=r"outside of `strategy.scope\(\)`"),
    ):
        export_for_serving(colour_network(), tmp_path)


def test_two_replicas(tmp_path):
    """A model that was trained under MirroredStrategy, of two halves of a processor.

    Long enough for the moving statistics of the two to differ.
    """
    program = """
import sys
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(
    cpu, [tf.config.LogicalDeviceConfiguration()] * 2
)
import keras, numpy as np
from keras_free_adv import FreeAdversarialModel, export_for_serving
from tests.serving.artifacts import colour_network, colour_images, from_logits
with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
    model = FreeAdversarialModel(colour_network(), 0.03)
    model.compile("adam", from_logits())
images, labels = colour_images(64)
floats = (images / 255).astype("float32")
model.fit(floats, labels, verbose=0, batch_size=16, epochs=6)
path = export_for_serving(model, sys.argv[1] + "/robust")
model.model.save(sys.argv[1] + "/network.keras")
"""
    said_by(program, tmp_path)
    images, _ = colour_images(16, seed=8)
    floats = (images / 255).astype("float32")
    served = signatures(tmp_path / "robust" / "1")["serving_default"]
    network = keras.models.load_model(tmp_path / "network.keras")
    found = served(images=tf.constant(floats))["probabilities"]
    np.testing.assert_allclose(found, probabilities(network, floats), atol=1e-5)
