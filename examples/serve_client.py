"""Asks a TensorFlow Serving server which classes it sees in images.

    python examples/serve_client.py --model=digits photo.png other.jpg
    python examples/serve_client.py --model=digits --protocol=rest --server=host a.png
    python examples/serve_client.py --model=digits --probe --keras_model=runs/free4

With --probe it checks that the server serves the model that was trained, as robust as
it was: clean images are sent as floats, as 8-bit pixels and as files; adversarial ones
are made on the Keras model, and by an attack that sees only the server's scores. The
accuracies are printed beside Keras' own. Exit status 1 says that they differ, or that
the server could not be asked. Connections are not encrypted.
"""

import sys
from pathlib import Path

import numpy as np
from absl import app, flags

from keras_free_adv.command_line import probe
from keras_free_adv.command_line.subject import subject
from keras_free_adv.serving.encoded_images import JPEG, PNG
from keras_free_adv.serving.tf_serving import RefusedError, Server, ServingError

FLAGS = flags.FLAGS

flags.DEFINE_string("model", None, "What the server calls the model.", required=True)
flags.DEFINE_integer("model_version", None, "Its version; the latest if unset.", 1)
flags.DEFINE_string("server", "localhost", "Host, or host:port; 8500 or, rest, 8501.")
flags.DEFINE_enum("protocol", "grpc", ["grpc", "rest"], "How to ask.")
flags.DEFINE_float("timeout", 10.0, "Seconds that a request may take.", 0.001)
flags.DEFINE_integer("top", 3, "Classes to print for each image.", 1, 5)
flags.DEFINE_bool("probe", False, "Whether to check the server.")
flags.DEFINE_string("keras_model", None, "For --probe: a run, or a .keras file.")
flags.DEFINE_string("dataset", None, "As of datasets.load; the run's if unset.")
flags.DEFINE_string("split", None, "Split to send; the run's, or test.")
flags.DEFINE_integer("image_size", None, "Of images that vary in size.", 1)
flags.DEFINE_integer("examples", 200, "Images to send.", 1)
flags.DEFINE_string("epsilon", None, "On the [0, 1] scale: 8/255; the run's if unset.")
flags.DEFINE_enum("norm", None, ["linf", "l2"], "Norm of the ball; the run's if unset.")
flags.DEFINE_list("value_range", None, "Of the model's pixels; its own, or 0,1.")
flags.DEFINE_integer("queries", 300, "Of the Square attack, for each image.", 1)
flags.DEFINE_float(
    "tolerance",
    None,
    "How far probabilities may be apart; 0.001 if unset, and 0.05 in half precision.",
    0.0,
)
flags.DEFINE_integer("seed", 0, "Seed of the attacks.")
flags.DEFINE_string("data_dir", None, "Where TFDS keeps its data.")


def image_file(path: str) -> bytes:
    """The bytes of a JPEG or PNG file."""
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise app.UsageError(f"{path} cannot be read: {error.strerror}.") from error
    if not data.startswith((JPEG, PNG)):
        raise app.UsageError(f"{path} is no JPEG or PNG file.")
    return data


def classify(server: Server, paths: list[str]) -> list[str]:
    """Prints the likeliest classes of each file, and returns which were refused.

    A request for each, so that what is wrong with one is told with its name.
    """
    files = [image_file(path) for path in paths]
    width = max(map(len, paths))
    refused = []
    for path, file in zip(paths, files, strict=True):
        try:
            answers = server.ask("serve_bytes", image_bytes=np.array([file], object))
        except RefusedError as error:
            refused.append(f"{path}: {error}")
            continue
        likeliest = zip(
            answers["class_names"][0], answers["top_probabilities"][0], strict=True
        )
        told = [f"{name.decode()} {share:.1%}" for name, share in likeliest]
        print(f"{path:{width}}  {', '.join(told[: FLAGS.top])}")
    return refused


def main(argv: list[str]) -> None:
    """Asks, and prints the answers."""
    paths = argv[1:]
    if FLAGS.probe and FLAGS.keras_model is None:
        raise app.UsageError("--probe needs --keras_model, to compare with.")
    if not paths and not FLAGS.probe:
        raise app.UsageError("Give image files, or --probe. See --help.")
    try:
        server = Server(
            FLAGS.server,
            FLAGS.model,
            version=FLAGS.model_version,
            protocol=FLAGS.protocol,
            timeout=FLAGS.timeout,
        )
    except ValueError as error:
        raise app.UsageError(f"--server: {error}") from error
    try:
        refused = classify(server, paths) if paths else []
        doubts = []
        if FLAGS.probe:
            served = subject(FLAGS.keras_model)
            doubts = probe.check(FLAGS, server, served, FLAGS.dataset)
    except (ServingError, ValueError) as error:
        sys.exit(f"serve_client.py: {error}")
    if FLAGS.probe and not doubts:
        print(probe.AGREES)
    if doubts:
        doubts = ["", probe.DIFFERS, *doubts]
    if refused or doubts:
        sys.exit("\n".join([*refused, *doubts]))


if __name__ == "__main__":
    app.run(main)
