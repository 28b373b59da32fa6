"""Puts a trained run among the models of `zoo.pretrained`, with its card.

    keras-free-adv train --recipe=digits_free8 --test_examples=0 \
        --output=runs/digits_free
    keras-free-adv evaluate runs/digits_free --attacks=pgd20x10,autoattack \
        --examples=360
    python examples/make_pretrained.py --run=runs/digits_free \
        --about="A small network, robust on scikit-learn's digits"

The name is that of the folder. The accuracies of all reports in it go on the card; of
several with the same attack the one of most examples. `--show` prints a card that is
there, and changes nothing.
"""

import dataclasses
import json
from pathlib import Path
from typing import Any

from absl import app, flags

from keras_free_adv import (
    RobustnessReport,
    datasets,
    files,
    pixel_scale,
    recipes,
    zoo,
)
from keras_free_adv.command_line import run_folder
from keras_free_adv.recipes import Recipe
from keras_free_adv.zoo.cards import MODELS, Card

FLAGS = flags.FLAGS

flags.DEFINE_string("run", None, "Folder of the run.")
flags.DEFINE_string("about", None, "What the model is, in a sentence.")
flags.DEFINE_string("show", None, "Print the card of this model, and stop.")

LARGEST = 3_000_000  # bytes; larger ones do not travel in the wheel


def accuracies(folder: Path) -> tuple[dict[str, Any], dict[str, Any], list[str]]:
    """Accuracies and attacks of all reports of a run, and the commands for them."""
    accuracy: dict[str, Any] = {}
    attacks: dict[str, Any] = {}
    commands = []
    for path in sorted(folder.glob("report-*.json")):
        report = RobustnessReport.from_json(path.read_text())
        for name, share in report.accuracy.items():
            if name not in accuracy or accuracy[name][3] < report.examples:
                interval = report.intervals[name]
                accuracy[name] = (share, *interval, report.examples)
                if name in report.threat_models:
                    attacks[name] = report.threat_models[name]
        commands.append(
            f"keras-free-adv evaluate {folder} --attacks="
            f"{','.join(name for name in report.threat_models)} "
            f"--examples={report.examples}"
        )
    if not accuracy:
        raise app.UsageError(
            f"--run: {folder} holds no report. Run `keras-free-adv evaluate` first."
        )
    return accuracy, attacks, commands


def card(folder: Path, recipe: Recipe, model: Any) -> Card:
    """The card of a run; its checksum is filled in when the file is written."""
    settings = json.loads((folder / run_folder.SETTINGS).read_text())
    seed = settings["settings"]["seed"]
    accuracy, attacks, commands = accuracies(folder)
    test = datasets.load(recipe.dataset, split=recipe.test_split, batch_size=1)
    before = recipes.get(recipe.name).to_dict()
    changes = "".join(
        f" --set={name}={json.dumps(value)}"
        for name, value in recipe.to_dict().items()
        if before[name] != value
    )
    train = (
        f"keras-free-adv train --recipe={recipe.name}{changes} --seed={seed} "
        f"--test_examples=0 --output={folder}"
    )
    return Card(
        name=folder.name,
        about=FLAGS.about,
        recipe=recipe.to_dict(),
        data=f"{recipe.dataset}, {recipe.train_split}",
        seed=seed,
        epsilon=None if recipe.method == "natural" else recipe.epsilon,
        norm=recipe.norm,
        value_range=pixel_scale.resolve(None, model),
        class_names=tuple(test.class_names),
        parameters=model.count_params(),
        evaluated_on=f"{recipe.dataset}, {recipe.test_split}, the first images",
        accuracy=accuracy,
        attacks=attacks,
        commands=(train, *commands),
        versions=settings["environment"],
        checksum="",
    )


def main(argv: list[str]) -> None:
    """Writes the model and its card, and prints the card."""
    if len(argv) > 1:
        raise app.UsageError(f"Unknown arguments: {argv[1:]}. See --help.")
    if FLAGS.show:
        try:
            print(zoo.card(FLAGS.show))
        except ValueError as error:
            raise app.UsageError(str(error)) from error
        return
    if not FLAGS.run or not FLAGS.about:
        raise app.UsageError("--run=FOLDER and --about=SENTENCE are needed, or --show.")
    folder = Path(FLAGS.run)
    recipe = run_folder.recipe_of(folder)
    model = run_folder.loaded(folder / run_folder.MODEL)
    made = card(folder, recipe, model)
    MODELS.mkdir(exist_ok=True)
    path = MODELS / f"{made.name}.keras"
    with files.atomic_write(path) as beside:
        model.save(beside)
        if beside.stat().st_size > LARGEST:
            raise app.UsageError(
                f"--run: the model has {beside.stat().st_size:,} bytes, more than the "
                f"{LARGEST:,} that travel in the wheel."
            )
    made = dataclasses.replace(made, checksum=files.checksum(path))
    files.write_text(path.with_suffix(".json"), made.to_json())
    print(made)


if __name__ == "__main__":
    app.run(main)
