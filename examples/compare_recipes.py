"""Trains recipes with several seeds, attacks them, and says which one is ahead.

    python examples/compare_recipes.py \
        --recipes=cifar10_compact_free,cifar10_compact_fgsm_rs --seeds=0,1,2

The first recipe is compared with each of the others: the difference of the means over
the seeds, with its interval, and McNemar's test for the runs in the middle of each.
Each run is a folder of its own, made by `keras-free-adv`; stop this program at any
time, and the same command goes on. With `--notrain` it prints what is there.
"""

import math
import statistics
from dataclasses import dataclass
from pathlib import Path

from absl import app, flags

from keras_free_adv import RobustnessReport, files, recipes
from keras_free_adv.command_line import run_folder, subcommand
from keras_free_adv.recipes import Recipe
from keras_free_adv.tables import markdown

FLAGS = flags.FLAGS
flags.DEFINE_list("recipes", None, "Their names; the first is compared with the rest.")
flags.DEFINE_list("seeds", ["0", "1", "2"], "Seeds of each.")
flags.DEFINE_string("attacks", "pgd20x10", "The attack that decides.")
flags.DEFINE_integer("examples", 10_000, "Test images under it.", 1)
flags.DEFINE_integer(
    "autoattack_examples", 0, "Test images under AutoAttack, for middle runs.", 0
)
flags.DEFINE_bool("train", True, "Whether to train and attack what is missing.")
flags.DEFINE_string("data_dir", None, "Where TFDS keeps its data.")
flags.DEFINE_string("output", "runs", "Folder of the runs.")
flags.DEFINE_enum("verbose", "auto", ["auto", "0", "1", "2"], "As in Keras' fit.")

# The 97.5% points of Student's distribution with so many degrees of freedom.
_STUDENT = (math.inf, 12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)
NATURAL = "natural"


@dataclass
class Run:
    """A recipe, trained with a seed.

    Attributes:
        recipe: the recipe.
        seed: the seed.
        report: under the attack that decides.
        autoattack: under AutoAttack, or None.
        minutes: of processor time, the updates alone, each epoch charged as the
            run's fastest.
    """

    recipe: Recipe
    seed: int
    report: RobustnessReport
    autoattack: RobustnessReport | None
    minutes: float

    def percent(self, name: str) -> float:
        """Its accuracy."""
        return 100 * self.report.accuracy[name]


def folder_of(recipe: Recipe, seed: int) -> Path:
    """Where a run is."""
    return Path(FLAGS.output) / run_folder.folder_name(recipe, seed)


def make(recipe: Recipe, seed: int, attacks: str, examples: int) -> None:
    """Trains and attacks a run, as far as it is not done."""
    folder = folder_of(recipe, seed)
    common = [f"--seed={seed}", f"--verbose={FLAGS.verbose}"]
    if FLAGS.data_dir:
        common.append(f"--data_dir={FLAGS.data_dir}")
    if not (folder / run_folder.MODEL).exists():
        subcommand.run(
            "train",
            f"--recipe={recipe.name}",
            f"--output={folder}",
            "--test_examples=0",
            *common,
        )
    if not run_folder.report_path(folder, attacks, examples).exists():
        subcommand.run(
            "evaluate",
            str(folder),
            f"--attacks={attacks}",
            f"--examples={examples}",
            # So that the file has the same name for all seeds.
            f"--output={report_page(folder, attacks, examples)}",
            *common,
        )


def report_page(folder: Path, attacks: str, examples: int) -> Path:
    """Where the page of a report is."""
    return run_folder.report_path(folder, attacks, examples).with_suffix(".html")


def found(recipe: Recipe, seed: int) -> Run | None:
    """What there is of a run, or None if it is not attacked yet."""
    folder = folder_of(recipe, seed)
    decides = run_folder.report_of(folder, FLAGS.attacks, FLAGS.examples)
    if decides is None:
        return None
    # What else the machine did beside some epochs is not the method's.
    seconds = recipe.epochs * min(run_folder.history_of(folder)["cpu_seconds"])
    examples = FLAGS.autoattack_examples
    autoattack = run_folder.report_of(folder, "autoattack", examples)
    return Run(recipe, seed, decides, autoattack, seconds / 60)


def middle(runs: list[Run]) -> Run:
    """The run of the median accuracy under the attack."""
    ranked = sorted(runs, key=lambda run: run.percent(FLAGS.attacks))
    return ranked[len(ranked) // 2]


def mean_and_half(values: list[float]) -> str:
    """The mean, and half the width of its 95% interval over the seeds."""
    mean = statistics.fmean(values)
    if len(values) < 2:
        return f"{mean:.1f}"
    spread = statistics.stdev(values) / math.sqrt(len(values))
    return f"{mean:.1f} ± {student(len(values) - 1) * spread:.1f}"


def student(freedom: int) -> float:
    """The 97.5% point of Student's distribution; a little too large above nine."""
    return _STUDENT[min(freedom, len(_STUDENT) - 1)]


def difference(one: list[float], other: list[float]) -> str:
    """The difference of the means, and half the width of its 95% interval."""
    ahead = statistics.fmean(one) - statistics.fmean(other)
    if min(len(one), len(other)) < 2:
        return f"{ahead:+.1f}"
    variance = sum(statistics.variance(v) / len(v) for v in (one, other))
    freedom = len(one) + len(other) - 2
    return f"{ahead:+.1f} ± {student(freedom) * math.sqrt(variance):.1f}"


def accuracy_table(groups: dict[str, list[Run]]) -> list[list[str]]:
    """A row for each recipe: means with intervals, and the seeds' own figures."""
    attack = FLAGS.attacks
    rows = [
        ["recipe", "updates", "CPU minutes", NATURAL, attack, f"{attack}, each seed"]
    ]
    if FLAGS.autoattack_examples:
        rows[0].append("autoattack, middle")
    for name, runs in groups.items():
        minutes = statistics.fmean(run.minutes for run in runs)
        rows.append(
            [
                name,
                f"{runs[0].recipe.updates:,}",
                f"{minutes:.1f}",
                *(
                    mean_and_half([r.percent(n) for r in runs])
                    for n in (NATURAL, attack)
                ),
                ", ".join(f"{run.percent(attack):.1f}" for run in runs),
            ]
        )
        if FLAGS.autoattack_examples:
            report = middle(runs).autoattack
            share = f"{100 * report.accuracy['autoattack']:.1f}" if report else ""
            rows[-1].append(share)
    return rows


def comparison_table(groups: dict[str, list[Run]]) -> list[list[str]]:
    """The first recipe against each of the others."""
    attack, (first, *others) = FLAGS.attacks, groups
    rows = [[f"{first} against", NATURAL, attack, "McNemar, the middle runs"]]
    for name in others:
        pairs = [
            difference(
                [run.percent(n) for run in groups[first]],
                [run.percent(n) for run in groups[name]],
            )
            for n in (NATURAL, attack)
        ]
        one, two = middle(groups[first]).report, middle(groups[name]).report
        p_value = f"p = {one.p_value(two, attack):.2g}"
        rows.append([name, *pairs, p_value])
    return rows


def main(argv: list[str]) -> None:
    """Makes what is missing, and prints the tables."""
    if len(argv) > 1:
        raise app.UsageError(f"Unknown arguments: {argv[1:]}. See --help.")
    if not FLAGS.recipes:
        raise app.UsageError("--recipes=NAME,NAME is needed.")
    try:
        chosen = [recipes.get(name) for name in FLAGS.recipes]
        seeds = [int(seed) for seed in FLAGS.seeds]
    except ValueError as error:
        raise app.UsageError(str(error)) from error
    if FLAGS.train:
        for seed in seeds:
            for recipe in chosen:
                make(recipe, seed, FLAGS.attacks, FLAGS.examples)
    groups = {
        recipe.name: runs
        for recipe in chosen
        if (runs := [run for seed in seeds if (run := found(recipe, seed))])
    }
    if not groups:
        raise app.UsageError(f"No run is finished in {FLAGS.output}.")
    if FLAGS.train and FLAGS.autoattack_examples:
        for runs in groups.values():
            run = middle(runs)
            make(run.recipe, run.seed, "autoattack", FLAGS.autoattack_examples)
        groups = {
            name: [found(run.recipe, run.seed) or run for run in runs]
            for name, runs in groups.items()
        }
    lines = [
        f"Accuracy in percent on {FLAGS.examples:,} test images, mean over seeds and "
        "half the width of its 95% interval",
        "",
        markdown(accuracy_table(groups)),
    ]
    if len(groups) > 1:
        lines += ["", markdown(comparison_table(groups))]
    missing = [
        f"{recipe.name} with seed {seed}"
        for recipe in chosen
        for seed in seeds
        if not any(run.seed == seed for run in groups.get(recipe.name, []))
    ]
    if missing:
        lines += ["", f"Not finished: {', '.join(missing)}."]
    text = "\n".join(lines)
    files.write_text(Path(FLAGS.output) / "comparison.md", text + "\n")
    print(text)


if __name__ == "__main__":
    app.run(main)
