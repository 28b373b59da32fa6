"""Publishes a trained model for TensorFlow Serving, or for phones.

    python examples/export.py --model=runs/digits_free4 --output=served/digits
    python examples/export.py --model=model.keras --dataset=cifar10 --output=cifar
    python examples/export.py --model=runs/digits_free4 --output=digits.tflite

Each call makes a new version under --output, which a running server finds by itself.
Given the folder of a run, class names and image size are those of its data set, and its
recipe and its newest report go into the artifact. An --output that ends with .tflite is
a file for LiteRT. The range of the pixels is read off the model, if it begins with
Rescaling(1 / 255) or the like; if it shows nothing and they are not in [0, 1], pass
--value_range=0,255 or what they were in training.
"""

from pathlib import Path
from typing import Any

import runs
from absl import app, flags

import keras_free_adv as kfa
from keras_free_adv import datasets
from keras_free_adv.recipes import Recipe

FLAGS = flags.FLAGS

flags.DEFINE_string("model", None, "Folder of a run, or a .keras file.", required=True)
flags.DEFINE_string(
    "output",
    None,
    "Folder of all versions, named as the server calls the model; or a .tflite file.",
    required=True,
)
flags.DEFINE_integer("version", None, "Of the artifact; the next one if unset.", 1)
flags.DEFINE_string(
    "dataset", None, "As of datasets.load, for class names: digits, cifar10, ..."
)
flags.DEFINE_string("split", None, "A split of it; the recipe's, or test.")
flags.DEFINE_string(
    "report", None, "JSON of evaluate.py; the newest of a run if unset."
)
flags.DEFINE_list("value_range", None, "Of the model's pixels; its own, or 0,1.")
flags.DEFINE_integer(
    "image_size", None, "To which files are cropped; the data set's if unset.", 1
)
flags.DEFINE_enum(
    "from_logits", "auto", ["auto", "true", "false"], "Whether outputs are logits."
)
flags.DEFINE_enum(
    "predicts", "auto", ["auto", "class", "labels"], "One class, or several labels."
)
flags.DEFINE_string("data_dir", None, "Where TFDS keeps its data.")


def report_of(folder: Path | None) -> kfa.RobustnessReport | None:
    """The report asked for, or the newest in the folder of a run, or none."""
    found = [Path(FLAGS.report)] if FLAGS.report else []
    if not found and folder is not None:
        found = sorted(folder.glob("report-*.json"), key=lambda p: p.stat().st_mtime)
    if not found:
        return None
    try:
        return kfa.RobustnessReport.from_json(found[-1].read_text())
    except (OSError, ValueError) as error:
        raise app.UsageError(
            f"--report: {found[-1]} cannot be read: {error}"
        ) from error


def data_settings(recipe: Recipe | None) -> dict[str, Any]:
    """Class names and image size, as of the data set."""
    name = FLAGS.dataset or (recipe and recipe.dataset)
    if name is None:
        return {}
    data = datasets.load(
        name,
        split=FLAGS.split or (recipe.test_split if recipe else "test"),
        batch_size=1,
        data_dir=FLAGS.data_dir,
    )
    return {"class_names": data.class_names, "image_size": data.image_size}


def main(argv: list[str]) -> None:
    """Exports, and says what to do next."""
    runs.quiet()
    if len(argv) > 1:
        raise app.UsageError(f"Unknown arguments: {argv[1:]}. See --help.")
    path, recipe = runs.model_and_recipe("model")
    model = runs.loaded(path)
    low, high = runs.pixel_range(model)
    pixels = {
        "value_range": (low, high),
        "from_logits": {"auto": "auto", "true": True, "false": False}[
            FLAGS.from_logits
        ],
        "predicts": FLAGS.predicts,
    }
    told = f"Pixels are in [{low:g}, {high:g}]."
    if FLAGS.output.endswith(".tflite"):
        for_servers = ("version", "dataset", "split", "report")
        given = [f"--{name}" for name in for_servers if FLAGS[name].value is not None]
        if given:
            raise app.UsageError(
                f"{', '.join(given)}: a .tflite file holds nothing of it. Leave it "
                "out, or pass a folder as --output."
            )
        size = FLAGS.image_size
        print(
            "Written:",
            kfa.export_for_litert(model, FLAGS.output, image_size=size, **pixels),
        )
        print(told)
        return
    report = report_of(path.parent if recipe else None)
    of_data = data_settings(recipe)
    if FLAGS.image_size is not None:
        of_data["image_size"] = FLAGS.image_size
    written = kfa.export_for_serving(
        model,
        FLAGS.output,
        version=FLAGS.version,
        recipe=recipe,
        report=report,
        **of_data,
        **pixels,
    )
    print(f"Published: {written}")
    print(told)
    if report is None:
        print("It has no robustness report: measure it with examples/evaluate.py.")
    home = Path(FLAGS.output).resolve()
    print(
        "Serve it with:\n"
        "  docker run --rm -p 8500:8500 -p 8501:8501 \\\n"
        f"    -v {home}:/models/{home.name} -e MODEL_NAME={home.name} "
        "tensorflow/serving"
    )


if __name__ == "__main__":
    app.run(main)
