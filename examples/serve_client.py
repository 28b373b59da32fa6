"""Asks a TensorFlow Serving server which classes it sees in images.

    python examples/serve_client.py --model=digits photo.png other.jpg
    python examples/serve_client.py --model=digits --protocol=rest --server=host a.png
    python examples/serve_client.py --model=digits --probe --keras_model=runs/free4

With --probe it checks that the server serves the model that was trained, as robust as
it was: clean images are sent as floats, as 8-bit pixels and as files; adversarial ones
are made on the Keras model, and by an attack that sees only the server's scores. The
accuracies are printed beside Keras' own. Exit status 1 says that they differ.
"""

import sys
from pathlib import Path

import numpy as np
import probing
import runs
from absl import app, flags
from tf_serving import Server, ServingError

from keras_free_adv import datasets
from keras_free_adv.training.adversarial_model import AdversarialModel

FLAGS = flags.FLAGS

flags.DEFINE_string("model", None, "What the server calls the model.", required=True)
flags.DEFINE_integer("model_version", None, "Its version; the latest if unset.", 1)
flags.DEFINE_string("server", "localhost", "Host, or host:port.")
flags.DEFINE_enum("protocol", "grpc", ["grpc", "rest"], "How to ask.")
flags.DEFINE_float("timeout", 10.0, "Seconds that a request may take.", 0.001)
flags.DEFINE_integer("top", 3, "Classes to print for each image.", 1, 5)
flags.DEFINE_bool("probe", False, "Whether to check the server.")
flags.DEFINE_string("keras_model", None, "For --probe: a run, or a .keras file.")
flags.DEFINE_string("dataset", None, "As of datasets.load; the run's if unset.")
flags.DEFINE_string("split", None, "Split to send; the run's, or test.")
flags.DEFINE_integer("examples", 200, "Images to send.", 1)
flags.DEFINE_string("epsilon", None, "On the [0, 1] scale: 8/255; the run's if unset.")
flags.DEFINE_enum("norm", None, ["linf", "l2"], "Norm of the ball; the run's if unset.")
flags.DEFINE_list("value_range", None, "Of the model's pixels; its own, or 0,1.")
flags.DEFINE_integer("queries", 300, "Of the Square attack, for each image.", 1)
flags.DEFINE_integer("seed", 0, "Seed of the attacks.")
flags.DEFINE_string("data_dir", None, "Where TFDS keeps its data.")

SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n")


def image_file(path: str) -> bytes:
    """The bytes of a JPEG or PNG file."""
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise app.UsageError(f"{path} cannot be read: {error.strerror}.") from error
    if not data.startswith(SIGNATURES):
        raise app.UsageError(f"{path} is no JPEG or PNG file.")
    return data


def classify(server: Server, paths: list[str]) -> None:
    """Prints the likeliest classes of each file."""
    data = np.array([image_file(path) for path in paths], object)
    answers = server.ask("serve_bytes", image_bytes=data)
    width = max(map(len, paths))
    for path, names, shares in zip(
        paths, answers["class_names"], answers["top_probabilities"], strict=True
    ):
        told = ", ".join(
            f"{name.decode()} {share:.1%}"
            for name, share in zip(names[: FLAGS.top], shares, strict=False)
        )
        print(f"{path:{width}}  {told}")


def check(server: Server) -> list[str]:
    """Probes the server, prints the table, and returns what is wrong."""
    path, recipe = Path(FLAGS.keras_model), None
    if path.is_dir():
        path, recipe = path / runs.MODEL, runs.recipe_of(path)
    if not path.exists():
        raise app.UsageError(f"--keras_model: there is no {path}.")
    model = runs.loaded(path)
    low, high = pixel_range(model)
    epsilon = runs.number("epsilon", runs.setting("epsilon", recipe and recipe.epsilon))
    data = datasets.load(
        runs.setting("dataset", recipe and recipe.dataset),
        split=runs.setting("split", recipe.test_split if recipe else "test"),
        batch_size=FLAGS.examples,
        data_dir=FLAGS.data_dir,
    )
    images, labels = (np.asarray(part) for part in next(iter(data)))
    rows, doubts = probing.probe(
        server,
        model,
        np.round(images * 255).astype("uint8"),
        labels,
        epsilon=epsilon * (high - low),
        norm=runs.setting("norm", recipe.norm if recipe else "linf"),
        value_range=(low, high),
        queries=FLAGS.queries,
        seed=FLAGS.seed,
    )
    width = max(len(row.images) for row in rows)
    print(f"{'images':{width}}   Keras  server  probabilities apart")
    for row in rows:
        accuracies = f"{row.keras:6.1%}  {row.server:6.1%}"
        print(f"{row.images:{width}}  {accuracies}  {row.apart:.1e}")
    print(
        f"{len(labels)} images; accuracies. epsilon={epsilon:.4g} on the [0, 1] scale."
    )
    return doubts


def pixel_range(model: object) -> tuple[float, float]:
    """The range of the model's pixels."""
    if FLAGS.value_range is not None:
        try:
            low, high = map(float, FLAGS.value_range)
        except ValueError as error:
            raise app.UsageError(
                "--value_range must be two numbers, such as 0,255. Received: "
                f"{','.join(FLAGS.value_range)}."
            ) from error
        return low, high
    return tuple(model.value_range) if isinstance(model, AdversarialModel) else (0, 1)


def main(argv: list[str]) -> None:
    """Asks, and prints the answers."""
    runs.quiet()
    paths = argv[1:]
    if FLAGS.probe and FLAGS.keras_model is None:
        raise app.UsageError("--probe needs --keras_model, to compare with.")
    if not paths and not FLAGS.probe:
        raise app.UsageError("Give image files, or --probe. See --help.")
    server = Server(
        FLAGS.server,
        FLAGS.model,
        version=FLAGS.model_version,
        protocol=FLAGS.protocol,
        timeout=FLAGS.timeout,
    )
    try:
        if paths:
            classify(server, paths)
        doubts = check(server) if FLAGS.probe else []
    except (ServingError, ValueError) as error:
        sys.exit(f"serve_client.py: {error}")
    if doubts:
        sys.exit("\n".join(["", "WARNING: not the model that was trained.", *doubts]))
    if FLAGS.probe:
        print("The server answers as the Keras model does.")


if __name__ == "__main__":
    app.run(main)
