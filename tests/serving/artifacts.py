"""What the tests of served models share: an artifact, requests to it, the C program."""

import io
import itertools
import shutil
import subprocess
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_free_adv import FreeAdversarialModel, export_for_serving
from tests.conftest import from_logits

SHAPE = (8, 8, 3)
CLASSES = 7
NAMES = [f"kind {number}" for number in range(CLASSES)]
PROGRAM = Path(__file__).with_name("run_saved_model.c")


def colour_network(classes=CLASSES, shape=SHAPE, **kwargs):
    """With what a graph could get wrong: batch norm, dropout, and confident logits."""
    return keras.Sequential(
        [
            keras.Input(shape),
            keras.layers.Conv2D(8, 3, padding="same", activation="relu"),
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(0.5),
            keras.layers.Flatten(),
            keras.layers.Dense(classes),
        ],
        **kwargs,
    )


def colour_images(count, seed=0, shape=SHAPE):
    """8-bit images, and what class their mean colour gives them."""
    random = np.random.default_rng(seed)
    tones = random.uniform(0, 255, (count, 1, 1, shape[-1]))
    images = np.clip(tones + random.normal(0, 30, (count, *shape)), 0, 255)
    return images.astype("uint8"), (tones[:, 0, 0, 0] * CLASSES // 256).astype(int)


def trained_model(
    value_range=(0.0, 1.0), epochs=1, wrap=FreeAdversarialModel, **settings
):
    width = value_range[1] - value_range[0]
    settings = settings or {"replays": epochs}
    model = wrap(colour_network(), 0.03 * width, value_range=value_range, **settings)
    model.compile("adam", from_logits(), metrics=["accuracy"])
    images, labels = colour_images(256)
    floats = (value_range[0] + width * (images / 255)).astype("float32")
    model.fit(floats, labels, epochs=epochs, batch_size=32, verbose=0)
    return model


def published(model, folder, **kwargs):
    path = export_for_serving(model, folder / "robust", **kwargs)
    return Path(path)


def signatures(path):
    loaded = tf.saved_model.load(str(path))
    found = loaded.signatures
    found.keep = loaded  # else its variables go
    return found


def encoded(image, kind, **kwargs):
    """A file of an image, as Pillow writes it."""
    buffer = io.BytesIO()
    Image.fromarray(image.squeeze()).save(buffer, kind, **kwargs)
    return buffer.getvalue()


def as_pillow_decodes(file, mode="RGB"):
    return np.asarray(Image.open(io.BytesIO(file)).convert(mode))


def probabilities(network, images):
    """As Keras predicts them."""
    logits = network.predict(images, verbose=0, batch_size=100).astype("float64")
    raised = np.exp(logits - logits.max(-1, keepdims=True))
    return raised / raised.sum(-1, keepdims=True)


def compiled_program(folder):
    """The C program, made with the headers and libraries in TensorFlow's wheel."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("needs a C compiler, `cc`, on the PATH")
    home = Path(tf.__file__).parent
    libraries = sorted(home.glob("libtensorflow_*.so*"))
    if len(libraries) < 2:
        pytest.skip(f"needs TensorFlow's libraries for C programs in {home}")
    subprocess.run(
        [compiler, "-O1", "-Wall", "-Werror", PROGRAM, "-o", folder / "run"]
        + [f"-I{home / 'include'}", f"-Wl,-rpath,{home}", *libraries],
        check=True,
    )
    return folder / "run"


def graph_names(path, signature):
    """The names of a signature's one input and of its outputs, in the graph."""
    from tensorflow.core.protobuf import saved_model_pb2

    saved = saved_model_pb2.SavedModel()
    saved.ParseFromString((path / "saved_model.pb").read_bytes())
    found = saved.meta_graphs[0].signature_def[signature]
    (single,) = found.inputs.values()
    return single.name, {name: info.name for name, info in found.outputs.items()}


def as_words(path, signature, value, outputs=("probabilities",)):
    """A request as the C program takes it; the value goes to a file beside `path`."""
    single, names = graph_names(path, signature)
    value = np.asarray(value)
    kind = {"f": "float", "u": "uint8", "O": "string"}[value.dtype.kind]
    file = path.parent / f"request-{next(_numbers)}"
    if kind == "string":
        parts = [b"%d\n%b" % (len(one), one) for one in value.ravel()]
        file.write_bytes(b"".join(parts))
    else:
        file.write_bytes(value.tobytes())
    shape = "x".join(map(str, value.shape))
    return [single, kind, shape, file, ",".join(names[name] for name in outputs)]


_numbers = itertools.count()


def run_words(program, path, rounds, *requests):
    return subprocess.run(
        [program, path, str(rounds), *itertools.chain(*requests)],
        capture_output=True,
        text=True,
        env={"TF_CPP_MIN_LOG_LEVEL": "3"},
        check=False,
    )


def run_in_c(program, path, signature, value, outputs=("probabilities",)):
    """Runs a signature with no Python; returns the ended process, and its outputs."""
    ended = run_words(program, path, 1, as_words(path, signature, value, outputs))
    lines = ended.stdout.splitlines()
    found = {}
    for name in outputs if lines else ():
        shape = tuple(map(int, lines[0].split()[1].split("x")))
        size = int(np.prod(shape))
        found[name] = np.array(lines[1 : size + 1]).reshape(shape)
        lines = lines[size + 1 :]
    return ended, found
