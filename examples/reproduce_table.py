"""Trains and attacks the rows of a table that are missing, and prints the table.

    python examples/reproduce_table.py --table=digits --examples=360
    python examples/reproduce_table.py --table=cifar10 --scale=small
    python examples/reproduce_table.py --table=cifar10 --rows=free8,pgd7

The published figures stand beside the measured ones. Each row is a run of its own
folder, made by `keras-free-adv`; stop this program at any time, and the
same command goes on. With `--train=false` it only prints what is there.

With `--monitor_every` it also draws robust accuracy against training time. Other work
of the machine is kept out: each epoch counts as long as its run's fastest one. Where a
machine was never quiet, and only its processor trains, `--clock=cpu` counts the seconds
that the processor spent on the training instead.
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path

from absl import app, flags

from keras_free_adv import RobustnessReport, files, recipes
from keras_free_adv.command_line import run_folder, subcommand
from keras_free_adv.plotting import plot_accuracy_against_time
from keras_free_adv.recipes import Recipe

FLAGS = flags.FLAGS
TABLES = ("cifar10", "cifar100", "imagenet", "digits")

flags.DEFINE_enum("table", "cifar10", TABLES, "The table.")
flags.DEFINE_enum(
    "scale", "full", ["small", "full"], "small: rows that fit a CPU (of CIFAR)."
)
flags.DEFINE_list(
    "rows", [], "Ends of recipes' names, such as free8,pgd7; all if unset."
)
flags.DEFINE_integer("examples", 1000, "Test images under the paper's attacks.", 1)
flags.DEFINE_list("autoattack_rows", [], "Rows to put under AutoAttack as well.")
flags.DEFINE_integer("autoattack_examples", 500, "Test images under AutoAttack.", 1)
flags.DEFINE_integer(
    "monitor_every", 0, "PGD-20 each so many epochs, for a curve; 0 for never.", 0
)
flags.DEFINE_enum("clock", "wall", ["wall", "cpu"], "What times are of.")
flags.DEFINE_integer("seed", 0, "Seed of the weights, the order and the attacks.")
flags.DEFINE_bool("train", True, "Whether to train and attack what is missing.")
flags.DEFINE_string("data_dir", None, "Where TFDS keeps its data.")
flags.DEFINE_string("output", "runs", "Folder of the runs.")
flags.DEFINE_enum("verbose", "auto", ["auto", "0", "1", "2"], "As in Keras' fit.")


@dataclasses.dataclass
class Row:
    """A recipe and what was measured of it.

    Attributes:
        recipe: the recipe.
        minutes: training time, the updates alone, by the chosen clock.
        fastest: of an update, in seconds, in the fastest epoch.
        paper: the report under the paper's attacks.
        autoattack: the report under AutoAttack, or None.
    """

    recipe: Recipe
    minutes: float
    fastest: float
    paper: RobustnessReport
    autoattack: RobustnessReport | None

    @property
    def short(self) -> str:
        """The end of the recipe's name."""
        return short_name(self.recipe)

    @property
    def undisturbed(self) -> float:
        """Minutes of training, had each epoch taken as long as the fastest."""
        return self.fastest * self.recipe.updates / 60


def short_name(recipe: Recipe) -> str:
    """What tells a recipe from the others of its table."""
    for start in ("wrn32_10_", "small_", "imagenet_", "digits_"):
        if start in recipe.name:
            return recipe.name.partition(start)[2]
    return recipe.name.partition("_")[2]


def chosen_recipes() -> list[Recipe]:
    """The rows asked for."""
    small = FLAGS.scale == "small" and FLAGS.table.startswith("cifar")
    table = recipes.table(f"{FLAGS.table}_small" if small else FLAGS.table)
    if not small and FLAGS.table == "cifar10":
        table += recipes.table("cifar10_baselines")
    known = {short_name(recipe): recipe for recipe in table}
    for flag in ("rows", "autoattack_rows"):
        unknown = set(FLAGS[flag].value) - set(known)
        if unknown:
            raise app.UsageError(
                f"--{flag} must be of {', '.join(known)}. Received: {sorted(unknown)}."
            )
    return [known[name] for name in FLAGS.rows or known]


def folder_of(recipe: Recipe) -> Path:
    """Where a row's run is."""
    return Path(FLAGS.output) / run_folder.folder_name(recipe, FLAGS.seed)


def make(recipe: Recipe) -> None:
    """Trains and attacks a row, as far as it is not done."""
    folder = folder_of(recipe)
    run_folder.check_is_of(folder, recipe, FLAGS.seed)
    common = [f"--seed={FLAGS.seed}"]
    if FLAGS.data_dir:
        common.append(f"--data_dir={FLAGS.data_dir}")
    if not (folder / run_folder.MODEL).exists():
        subcommand.run(
            "train",
            f"--recipe={recipe.name}",
            f"--output={folder}",
            f"--monitor_every={FLAGS.monitor_every}",
            "--test_examples=0",
            f"--verbose={FLAGS.verbose}",
            *common,
        )
    wanted = [("paper", FLAGS.examples)]
    if short_name(recipe) in FLAGS.autoattack_rows:
        wanted.append(("autoattack", FLAGS.autoattack_examples))
    for attacks, examples in wanted:
        if not run_folder.report_path(folder, attacks, examples).exists():
            subcommand.run(
                "evaluate",
                str(folder),
                f"--attacks={attacks}",
                f"--examples={examples}",
                *common,
            )


def measured(recipe: Recipe) -> Row | None:
    """What there is of a row, or None if it is not finished."""
    folder = folder_of(recipe)
    run_folder.check_is_of(folder, recipe, FLAGS.seed)
    paper = run_folder.report_of(folder, "paper", FLAGS.examples)
    if paper is None:
        return None
    seconds = seconds_of(recipe)
    return Row(
        recipe,
        sum(seconds) / 60,
        min(seconds) / recipe.steps_per_epoch,
        paper,
        run_folder.report_of(folder, "autoattack", FLAGS.autoattack_examples),
    )


def seconds_of(recipe: Recipe) -> list[float]:
    """What each epoch took."""
    history = run_folder.history_of(folder_of(recipe))
    return history["cpu_seconds" if FLAGS.clock == "cpu" else "seconds"]


def accuracy_table(rows: list[Row]) -> list[str]:
    """Measured accuracy with its interval, and the published one in brackets."""
    names = list(rows[0].paper.accuracy)
    with_autoattack = any(row.autoattack for row in rows)
    head = ["training", "updates", *names, *(["autoattack"] if with_autoattack else [])]
    lines = [head]
    for row in rows:
        cells = [row.short, f"{row.recipe.updates:,}"]
        cells += [accuracy(row.paper, name, row.recipe.published) for name in names]
        if with_autoattack:
            report = row.autoattack
            cells.append(accuracy(report, "autoattack", {}) if report else "")
        lines.append(cells)
    return markdown(lines)


def accuracy(report: RobustnessReport, name: str, published: dict[str, float]) -> str:
    """Percent, with half the width of the interval, and what was published."""
    low, high = report.intervals[name]
    text = f"{100 * report.accuracy[name]:.1f} ± {50 * (high - low):.1f}"
    return f"{text} [{published[name]:.2f}]" if name in published else text


def time_table(rows: list[Row]) -> list[str]:
    """What training took, the whole and an update, and both relative to natural's.

    Undisturbed is as if each epoch had taken as long as the run's fastest one.
    """
    natural = next((row for row in rows if row.recipe.method == "natural"), None)
    clock = "CPU " if FLAGS.clock == "cpu" else ""
    head = ["training", "updates", f"{clock}minutes", "undisturbed", "/ natural"]
    lines = [[*head, f"{clock}ms an update", "/ natural", "published"]]
    for row in rows:
        published = row.recipe.published_minutes
        lines.append(
            [
                row.short,
                f"{row.recipe.updates:,}",
                f"{row.minutes:.1f}",
                f"{row.undisturbed:.1f}",
                f"{row.undisturbed / natural.undisturbed:.2f}" if natural else "",
                f"{1e3 * row.fastest:.1f}",
                f"{row.fastest / natural.fastest:.2f}" if natural else "",
                f"{published:,.0f} min" if published else "",
            ]
        )
    return markdown(lines)


def curve(recipe: Recipe) -> tuple[list[float], list[float]]:
    """Seconds of training and PGD-20 accuracy, at each epoch that was looked at.

    Every epoch is charged as the fastest one: what disturbed the others is not the
    method's.
    """
    history = run_folder.history_of(folder_of(recipe))
    accuracy = history.get("val_pgd20_accuracy", [])
    # Its first entry is of the first look; between two looks the last one is repeated.
    first = recipe.epochs - len(accuracy) + 1
    looks = range(first, recipe.epochs + 1, FLAGS.monitor_every)
    seconds = [epoch * min(seconds_of(recipe)) for epoch in looks]
    return seconds, [accuracy[epoch - first] for epoch in looks]


def draw_curves(rows: list[Row]) -> str:
    """Draws the rows that were looked at while they trained; says where."""
    found = {row.short: curve(row.recipe) for row in rows}
    curves = {name: points for name, points in found.items() if points[0]}
    if not curves:
        return "No curve: no row was trained with --monitor_every."
    without = ", ".join(name for name in found if name not in curves)
    figure = plot_accuracy_against_time(
        curves,
        ylabel="PGD-20 accuracy on test images",
        title=f"{FLAGS.table}, {FLAGS.scale}; an epoch counts as its run's fastest",
        xlabel="training, CPU minutes" if FLAGS.clock == "cpu" else "training, minutes",
    )
    path = Path(FLAGS.output) / f"curve-{FLAGS.table}-{FLAGS.scale}.png"
    with files.atomic_write(path) as beside:
        figure.savefig(beside, format="png", dpi=100)
    said = f"PGD-20 accuracy against training time: {path}"
    return f"{said}. Trained without --monitor_every: {without}." if without else said


def ranking(
    title: str, rows: list[Row], report_of: Callable[[Row], RobustnessReport | None]
) -> list[str]:
    """Every pair of robust rows under the strongest attack: McNemar's test."""
    able = [row for row in rows if report_of(row) and row.recipe.method != "natural"]
    if len(able) < 2:
        return []
    name = title
    lines = [["p-value", *(row.short for row in able[1:])]]
    for i, row in enumerate(able[:-1]):
        cells = [row.short]
        for j, other in enumerate(able[1:], start=1):
            one, two = report_of(row), report_of(other)
            cells.append(
                f"{one.p_value(two, name):.2g}" if j > i and one and two else ""
            )
        lines.append(cells)
    return [
        "",
        f"Are they equally accurate under {name}? McNemar's test, exact, two-sided:",
        "",
        *markdown(lines),
    ]


def markdown(lines: list[list[str]]) -> list[str]:
    """A table, the first line its head."""
    head, *rest = (f"| {' | '.join(cells)} |" for cells in lines)
    return [head, "|---" * len(lines[0]) + "|", *rest]


def main(argv: list[str]) -> None:
    """Makes what is missing, and prints the table."""
    if len(argv) > 1:
        raise app.UsageError(f"Unknown arguments: {argv[1:]}. See --help.")
    chosen = chosen_recipes()
    if FLAGS.train:
        for recipe in chosen:
            make(recipe)
    rows = [row for recipe in chosen if (row := measured(recipe))]
    if not rows:
        raise app.UsageError(f"No row is finished in {FLAGS.output}.")
    missing = [short_name(r) for r in chosen if r not in [row.recipe for row in rows]]
    last = list(rows[0].paper.accuracy)[-1]
    on = {row.recipe.published_on for row in rows if row.recipe.published_on}
    lines = [
        f"{FLAGS.table}, {FLAGS.scale}: accuracy in percent on "
        f"{rows[0].paper.examples} test images (AutoAttack: "
        f"{FLAGS.autoattack_examples}), half the width of the 95% interval, [published]"
        + (f" for {'; '.join(sorted(on))}" if on else ""),
        "",
        *accuracy_table(rows),
        "",
        *time_table(rows),
        *ranking(last, rows, lambda row: row.paper),
        *ranking("autoattack", rows, lambda row: row.autoattack),
    ]
    if FLAGS.monitor_every:
        lines += ["", draw_curves(rows)]
    if missing:
        lines += ["", f"Not finished: {', '.join(missing)}."]
    name = f"table-{FLAGS.table}-{FLAGS.scale}.md"
    files.write_text(Path(FLAGS.output) / name, "\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    app.run(main)
