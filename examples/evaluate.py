"""Attacks a trained model.

    python examples/evaluate.py --model=runs/cifar10_small_free8 --attacks=autoattack
    python examples/evaluate.py --model=model.keras --dataset=cifar10 --epsilon=8/255 \
        --attacks=paper,square --examples=500

Given the folder of a run, data set, epsilon and norm are those of its recipe. The
data set's pixels are brought to the scale that the model's first layers show. The
report is printed and written, as JSON and Markdown, into the folder of the model. An
evaluation that was interrupted goes on when the same command is given again.
"""

from pathlib import Path
from typing import Any

import keras
import runs
from absl import app, flags

import keras_free_adv as kfa
from keras_free_adv import datasets, files, pixel_scale, zoo
from keras_free_adv.recipes import Recipe

FLAGS = flags.FLAGS

flags.DEFINE_string("model", None, "Folder of a run, or a .keras file.", required=True)
flags.DEFINE_list(
    "attacks",
    "paper",
    "With commas between: paper (the columns of the paper's table: PGD-20, PGD-100, "
    "CW-100 and 10 x PGD-20 for CIFAR-10), or any of "
    "fgsm, pgd20, pgd100, cw100, pgd20x10, pgd50x10, apgd_ce, apgd_dlr, apgd_t, "
    "fab_t, square, autoattack, autoattack_plus, autoattack_rand.",
)
flags.DEFINE_integer("examples", 1000, "Test images to attack, the first so many.", 1)
flags.DEFINE_string("epsilon", None, "Radius of the ball on the [0, 1] scale: 8/255.")
flags.DEFINE_enum("norm", None, ["linf", "l2"], "Norm of the ball.")
flags.DEFINE_string("dataset", None, "As of datasets.load: digits, cifar10, ...")
flags.DEFINE_string("split", None, "Split to attack; the recipe's, or test.")
flags.DEFINE_integer("image_size", None, "Of images that vary in size.", 1)
flags.DEFINE_integer("batch_size", 128, "Images attacked at a time.", 1)
flags.DEFINE_integer("seed", 0, "Seed of the attacks.")
flags.DEFINE_string("data_dir", None, "Where TFDS keeps its data.")
flags.DEFINE_string("output", None, "The JSON file; beside the model if unset.")
flags.DEFINE_enum("verbose", "auto", ["auto", "0", "1"], "Whether to show progress.")


def attack(name: str, epsilon: float, norm: str, seed: int) -> list[Any]:
    """The attacks of a name."""
    ball = {"norm": norm, "seed": seed}
    step = {**ball, "step_size": epsilon / 4, "keep": "last"}
    known = {
        "fgsm": lambda: kfa.PGDAttack(
            epsilon, steps=1, step_size=epsilon, random_start=False, **ball
        ),
        "pgd20": lambda: kfa.PGDAttack(epsilon, steps=20, **step),
        "pgd100": lambda: kfa.PGDAttack(epsilon, steps=100, **step),
        "pgd50x10": lambda: kfa.PGDAttack(epsilon, steps=50, restarts=10, **step),
        "cw100": lambda: kfa.PGDAttack(epsilon, steps=100, loss="cw_margin", **step),
        "pgd20x10": lambda: kfa.PGDAttack(epsilon, steps=20, restarts=10, **step),
        "apgd_ce": lambda: kfa.APGDAttack(epsilon, **ball),
        "apgd_dlr": lambda: kfa.APGDAttack(epsilon, loss="dlr", **ball),
        "apgd_t": lambda: kfa.APGDAttack(epsilon, loss="targeted_dlr", **ball),
        "fab_t": lambda: kfa.FABAttack(epsilon, **ball),
        "square": lambda: kfa.SquareAttack(epsilon, **ball),
        "autoattack": lambda: kfa.AutoAttack(epsilon, **ball),
        "autoattack_plus": lambda: kfa.AutoAttack(epsilon, version="plus", **ball),
        "autoattack_rand": lambda: kfa.AutoAttack(epsilon, version="rand", **ball),
    }
    if name not in known:
        raise app.UsageError(
            f"--attacks must be of paper, {', '.join(known)}. Received: {name}."
        )
    return [known[name]()]


def paper_attacks(table: str, epsilon: float, norm: str, seed: int) -> list[Any]:
    """The columns of a table of the paper, at this epsilon, with steps of a quarter."""
    settings = {
        "epsilon": epsilon,
        "step_size": epsilon / 4,
        "norm": norm,
        "value_range": None,
        "seed": seed,
    }
    return [
        kfa.PGDAttack.from_config({**column.get_config(), **settings})
        for column in kfa.paper_attacks(table)
    ]


def chosen_attacks(epsilon: float, norm: str, table: str) -> list[Any]:
    """The attacks asked for, each once."""
    found: dict[str, Any] = {}
    for name in FLAGS.attacks:
        if name == "paper":
            made = paper_attacks(table, epsilon, norm, FLAGS.seed)
        else:
            made = attack(name, epsilon, norm, FLAGS.seed)
        found.update({one.name: one for one in made})
    return list(found.values())


def on_scale(data: Any, low: float, high: float) -> Any:
    """Images of [0, 1], in the range of a model's pixels."""
    if (low, high) == pixel_scale.UNIT_RANGE:
        return data
    return data.map(lambda images, labels: (low + (high - low) * images, labels))


def report_path(path: Path, recipe: Recipe | None) -> Path:
    """Named by all that is not the run's own setting."""
    own = ["epsilon", "norm", "dataset", "split", "image_size"]
    other = "" if recipe else f"-{path.stem}"
    for name in own:
        if FLAGS[name].value is not None:
            other += f"-{name}={FLAGS[name].value}".replace("/", "_over_")
    if FLAGS.seed:
        other += f"-seed={FLAGS.seed}"
    return runs.report_path(path.parent, ",".join(FLAGS.attacks), FLAGS.examples, other)


def load(path: Path) -> keras.Model:
    """The model, on the fused kernel of batch norm where it can be."""
    model = runs.loaded(path)
    plain = type(model).__name__ in ("Functional", "Sequential")
    return zoo.fused(model) if plain else model


def main(argv: list[str]) -> None:
    """Attacks, prints and writes the report."""
    runs.quiet()
    if len(argv) > 1:
        raise app.UsageError(f"Unknown arguments: {argv[1:]}. See --help.")
    path, recipe = runs.model_and_recipe("model")
    epsilon = runs.number("epsilon", runs.setting("epsilon", recipe and recipe.epsilon))
    norm = runs.setting("norm", recipe.norm if recipe else "linf")
    model = load(path)
    low, high = pixel_scale.resolve(None, model)
    table = recipe.attacks if recipe else "cifar10"
    attacks = chosen_attacks(epsilon * (high - low), norm, table)
    test = datasets.load(
        runs.setting("dataset", recipe and recipe.dataset),
        split=runs.setting("split", recipe.test_split if recipe else "test"),
        batch_size=FLAGS.batch_size,
        image_size=FLAGS.image_size,
        data_dir=FLAGS.data_dir,
    )
    output = Path(FLAGS.output or report_path(path, recipe))
    if output.suffix != ".json":
        raise app.UsageError(f"--output must end with .json. Received: {output}.")
    report = kfa.evaluate_robustness(
        model,
        on_scale(test, low, high),
        attacks,
        max_examples=FLAGS.examples,
        batch_size=FLAGS.batch_size,
        resume=output.with_suffix(".partial"),
        verbose=FLAGS.verbose if FLAGS.verbose == "auto" else int(FLAGS.verbose),
    )
    published = recipe.published if recipe and recipe.published else None
    files.write_text(output.with_suffix(".md"), report.to_markdown(published))
    files.write_text(output, report.to_json())
    output.with_suffix(".partial").unlink(missing_ok=True)
    print(report.to_text(published))
    if published and recipe and recipe.published_on:
        print(f"Published for: {recipe.published_on}.")
    print(f"Report: {output}")


if __name__ == "__main__":
    app.run(main)
