# %% [markdown]
# # 5. Serve it
#
# A robust model is of use where it is asked. We train one, publish it for TensorFlow
# Serving, ask it in the three ways that a client can, and then attack what was
# published: between the pixels of a client and the network there are steps that can
# take robustness away while clean images show nothing.
#
# Runs from top to bottom in a minute on a laptop; no download, and no server: the
# published folder is loaded as a server loads it. Install, in a checkout
# of the repository: `pip install ".[examples,serving,litert]"`.

# %%
import json
import tempfile
import warnings
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from keras_free_adv import (
    FreeAdversarialModel,
    PGDAttack,
    SquareAttack,
    datasets,
    evaluate_robustness,
    export_for_litert,
    export_for_serving,
    zoo,
)
from keras_free_adv.plotting import plot_adversarial_examples

keras.utils.set_random_seed(0)
EPSILON = 0.16
home = Path(tempfile.mkdtemp())
# Right, and said in each report; here it would be said ten times.
warnings.filterwarnings("ignore", "Only .* examples were evaluated")

# %% [markdown]
# ## A robust model
#
# It takes pixels in [0, 1], and whatever is done to them is done inside. So serving
# begins before training: a step outside of the model is a step that somebody has to
# repeat at the server.

# %%
train = datasets.load("digits", split="train", batch_size=64)
test = datasets.load("digits", split="test", batch_size=360)
images, labels = (part.numpy() for part in next(iter(test)))

network = zoo.small_cnn(classes=train.classes, input_shape=(8, 8, 1))
model = FreeAdversarialModel(network, EPSILON, step_size=EPSILON / 4, replays=4)
model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
model.fit(train, epochs=40, verbose=0)

pgd = PGDAttack(EPSILON, steps=20, step_size=EPSILON / 4, seed=0)
report = evaluate_robustness(model, (images, labels), [pgd], verbose=0)
print({name: f"{share:.1%}" for name, share in report.accuracy.items()})

# %% [markdown]
# ## Publish
#
# `export_for_serving` writes the next version into a folder, which is named as the
# server calls the model. The report travels with the model.

# %%
digits = home / "digits"
first = export_for_serving(model, digits, class_names=train.class_names, report=report)
for path in sorted(Path(first).rglob("*")):
    if path.is_file():
        print(f"{path.relative_to(home)!s:50} {path.stat().st_size:8,} bytes")

# %% [markdown]
# `saved_model.pb` and `variables` are the model: no delta, no optimizer, no Python. The
# requests in `assets.extra` are what a server warms itself up with. `description.json`
# says what a client has to know:

# %%
description = json.loads(Path(first, "assets/description.json").read_text())
for name in ("input_shape", "value_range", "image_size", "training"):
    print(f"{name}: {description[name]}")

# %% [markdown]
# ## Ask it
#
# A server loads the folder as `tf.saved_model.load` does. There are three signatures:
# for floats on the scale of training, for 8-bit pixels, and for JPEG and PNG files.

# %%
loaded = tf.saved_model.load(first)
pixels = np.round(images * 255).astype("uint8")
files = [tf.io.encode_png(image).numpy() for image in pixels]

answers = {
    "serving_default": loaded.signatures["serving_default"](images=images[:3]),
    "serve_uint8": loaded.signatures["serve_uint8"](images=pixels[:3]),
    "serve_bytes": loaded.signatures["serve_bytes"](image_bytes=tf.constant(files[:3])),
}
print("labels:", labels[:3])
for signature, answer in answers.items():
    names = [name.decode() for name in answer["class_names"].numpy()[:, 0]]
    shares = [f"{share:.1%}" for share in answer["top_probabilities"].numpy()[:, 0]]
    print(f"{signature:15} {names} {shares}")
print("an answer has:", sorted(answer))

# %% [markdown]
# ## What it refuses
#
# The commonest mistake is a wrong scale. A network answers anything; this one does not:
# the graph itself checks what comes in, and the server goes on.


# %%
def refused(signature, **request):
    try:
        loaded.signatures[signature](**request)
    except tf.errors.InvalidArgumentError as error:
        said = [line for line in error.message.splitlines() if "assertion" in line]
        print(said[0].removeprefix("assertion failed: "), end="\n\n")


refused("serving_default", images=tf.constant(images[:3] * 255))
refused("serving_default", images=tf.constant(images[:3, :4]))
refused("serve_bytes", image_bytes=tf.constant([b"GIF89a"]))

# %% [markdown]
# ## The next version
#
# Train on, measure, publish: version 2 stands beside version 1. It was written beside
# and renamed, so that a server that polls the folder finds it whole or not at all. A
# report of other weights is refused:

# %%
model.fit(train, epochs=8, verbose=0)
try:
    export_for_serving(model, digits, class_names=train.class_names, report=report)
except ValueError as error:
    print(error)

report = evaluate_robustness(model, (images, labels), [pgd], verbose=0)
second = export_for_serving(model, digits, class_names=train.class_names, report=report)
print({name: f"{share:.1%}" for name, share in report.accuracy.items()})
print("versions:", sorted(path.name for path in digits.iterdir()))

# %% [markdown]
# ## Start a server
#
# Not run here. With Docker:
#
# ```shell
# # In the folder that `print(home)` names.
# docker run --rm -p 8500:8500 -p 8501:8501 \
#     -v "$PWD/digits":/models/digits -e MODEL_NAME=digits tensorflow/serving
# ```
#
# or with the binary (its path has to be absolute):
#
# ```shell
# tensorflow_model_server --port=8500 --rest_api_port=8501 \
#     --model_name=digits --model_base_path="$PWD/digits"
# ```
#
# Ask it about an image file of yours, by REST, or with the client of the examples,
# which speaks gRPC and REST:
#
# ```shell
# IMAGE=$(base64 -w0 digit.png)
# curl http://localhost:8501/v1/models/digits:predict -d '{
#   "signature_name": "serve_bytes", "inputs": {"image_bytes": [{"b64": "'$IMAGE'"}]}}'
# python examples/serve_client.py --model=digits digit.png
# python examples/serve_client.py --model=digits --protocol=rest digit.png
# ```
#
# A server takes version 2 over by itself, and the client's `--model_version=1` asks for
# the other one if the server is told to keep it.
#
# ## Is it as robust as the model was?
#
# `export_for_serving` compares what it wrote with the model that it was given. It
# cannot know what else stands on the way: a preprocessing step that somebody adds for
# production, pixels that are scaled twice, a file that is compressed again. So attack
# what answers. A signature is a TensorFlow function; a few lines make a Keras model of
# a version, and the library attacks that as any other:


# %%
class Served(keras.Model):
    """A published version, as a client sees it."""

    def __init__(self, path):
        super().__init__()
        self.loaded = tf.saved_model.load(path)

    def call(self, images, training=None):
        return self.loaded.signatures["serving_default"](images=images)["probabilities"]


square = SquareAttack(EPSILON, queries=300, seed=0)
few = images[:120], labels[:120]
for name, one in {"Keras": model, "version 2": Served(second)}.items():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # see below
        measured = evaluate_robustness(one, few, [pgd, square], verbose=0)
    shares = {attack: f"{share:.1%}" for attack, share in measured.accuracy.items()}
    print(f"{name:10} {shares}")

# %% [markdown]
# PGD follows the gradient through the artifact. A real server gives none; Square needs
# none, and sees only the scores. Compare the two lines: the artifact is as robust as
# the Keras model. (A served model answers probabilities, of which a gradient can be
# lost in rounding; the report would warn of it. Figures to publish are measured on the
# Keras model, which has logits.)
#
# ## Two mistakes
#
# Now two preprocessing steps that people add in good faith. One scales pixels to [-1,
# 1], "as networks like it", for a network that was trained on [0, 1]. The other rounds
# them to the 17 gray levels that these digits have, "to remove noise".


# %%
def published_with(name, step):
    inputs = keras.Input((8, 8, 1))
    changed = keras.Model(inputs, network(step(inputs)))
    return export_for_serving(changed, home / name, class_names=train.class_names)


paths = {
    "as trained": second,
    "scaled": published_with("scaled", lambda x: 2 * x - 1),
    "rounded": published_with("rounded", lambda x: keras.ops.round(16 * x) / 16),
}
servers = {name: Served(path) for name, path in paths.items()}

adversarial = np.asarray(pgd(images, labels, model=model))  # made on the Keras model
sent = {"clean": images, "adversarial": adversarial}
expected = {
    kind: tf.nn.softmax(network.predict(x, verbose=0)).numpy()
    for kind, x in sent.items()
}
print("             clean            adversarial")
print("server       accuracy  apart  accuracy  apart")
for name, server in servers.items():
    line = f"{name:12}"
    for kind, x in sent.items():
        answer = server.predict(x, verbose=0)
        accuracy = np.mean(answer.argmax(-1) == labels)
        line += f" {accuracy:8.1%} {np.abs(answer - expected[kind]).max():6.0e}"
    print(line)

# %% [markdown]
# *Apart* is how far the probabilities are from those of the Keras model, at most.
#
# - **Scaled** answers clean images almost as well as before: accuracy on a test set
#   does not show the mistake, the probabilities do.
# - **Rounded** answers clean images with the same bits, for they have only those
#   levels. Adversarial images are another matter: a change of 0.16 is 2.56 levels,
#   rounding makes 3 of it, which is 0.1875. The step carries images out of the ball
#   that the model was trained for.
#
# So compare probabilities, not accuracies, and on adversarial images too. What are
# these servers really worth? Attack each:

# %%
for name, server in servers.items():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # we look at the doubts below
        measured = evaluate_robustness(server, few, [pgd, square], verbose=0)
    shares = {attack: f"{share:.1%}" for attack, share in measured.accuracy.items()}
    print(f"{name:12} {shares}")
for doubt in measured.warnings:
    if not doubt.startswith("Only"):
        print("- rounded:", doubt)

# %% [markdown]
# Rounding has no gradient, and PGD walks nowhere: taken alone, it would call the worst
# of the three the most robust. The library doubts that number, and Square, which asks
# for scores only, refutes it ([tutorial 3](3_can_you_trust_that_number.ipynb)).
#
# The same images, to the server that is right and to the one that rounds:

# %%
figure = plot_adversarial_examples(
    {name: servers[name] for name in ("as trained", "rounded")},
    images[:6],
    labels[:6],
    SquareAttack(EPSILON, queries=300, seed=0),
)
figure

# %% [markdown]
# ## The probe
#
# `examples/serve_client.py` does all that with a server, over the network: clean images
# as floats, 8-bit pixels and PNG files, adversarial ones made on the Keras model, and a
# Square attack on the server's scores. It ends with status 1 where the answers differ,
# and names the mistake if it knows it:
#
# ```shell
# keras-free-adv train --recipe=digits_free4 --output=runs/digits_free4
# keras-free-adv export runs/digits_free4 served/digits
# python examples/serve_client.py --model=digits --probe --keras_model=runs/digits_free4
# ```
#
# Files are 8-bit: an adversarial image that travels as PNG is rounded on its way, by
# half of 1/255 at most. Compare with the table above:

# %%
as_files = [
    tf.io.encode_png(x).numpy() for x in np.round(adversarial * 255).astype("uint8")
]
answer = tf.saved_model.load(second).signatures["serve_bytes"]
for name, request in {"clean": files, "adversarial": as_files}.items():
    found = answer(image_bytes=tf.constant(request))["class_ids"][:, 0]
    print(f"{name} PNG files: {np.mean(found == labels):.1%}")

# %% [markdown]
# ## Phones
#
# `export_for_litert` writes one file for LiteRT, and compares it with the model before
# it takes its place. It needs the extra `litert`.

# %%
try:
    from ai_edge_litert.interpreter import Interpreter
except ImportError:
    print('Not installed: pip install "keras_free_adv[litert]"')
else:
    path = export_for_litert(model, home / "digits.tflite")
    answer = Interpreter(model_path=path).get_signature_runner()
    for kind, x in sent.items():
        found = answer(images=x)["probabilities"]
        accuracy = np.mean(found.argmax(-1) == labels)
        print(
            f"{kind}: {accuracy:.1%}, {np.abs(found - expected[kind]).max():.0e} apart"
        )

# %% [markdown]
# ## What to take along
#
# - Preprocess inside the model. What is outside can be forgotten, done twice, or done
#   otherwise.
# - Clean accuracy does not tell whether a server is right. Compare probabilities, on
#   clean and on adversarial images.
# - Attack what answers, also without gradients. A step without a gradient looks robust
#   to PGD, and need not be.
# - Publish the report with the model; version by version.
#
# More: [from `fit` to a server](../serving.md).
