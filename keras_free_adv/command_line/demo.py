"""`keras-free-adv demo`: what an attack does to an ordinary and to a robust network."""

import sys
import webbrowser
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras_free_adv as kfa
from keras_free_adv import datasets, files, zoo
from keras_free_adv.command_line import console
from keras_free_adv.command_line import values as typed
from keras_free_adv.command_line.command import CommandError
from keras_free_adv.comparison.comparison_page import comparison_page
from keras_free_adv.evaluation.robustness_report import RobustnessReport
from keras_free_adv.tables import aligned

MODELS = {"ordinary": "cifar10_compact_natural", "robust": "cifar10_compact_free"}
DATA = "cifar10_sample"
TITLE = "An ordinary and a robust network, under attack"


def run(values: Any) -> None:
    """Attacks both networks, prints a table, and writes the page."""
    epsilon = typed.positive_number("epsilon", values.epsilon)
    page = Path(values.output)
    if page.suffix != ".html":
        raise CommandError(f"--output must end with .html. Received: {page}.", "output")
    files.check_room(page)
    print(
        "Two networks of the same size, trained for the same time, see the same 100\n"
        f"photographs. Each pixel of them may change by {values.epsilon} of its range."
    )
    test = datasets.load(DATA, split="test", batch_size=50)
    attack = kfa.PGDAttack(epsilon, seed=0)
    reports = {}
    for name, model in MODELS.items():
        print(f"\nAttacking the {name} network:", flush=True)
        with console.without_warnings():  # the page has them
            reports[name] = kfa.evaluate_robustness(
                zoo.fused(zoo.pretrained(model)),
                test,
                attack,
                verbose=console.verbose("auto"),
            )
    table = _table(reports)
    said = _verdict(reports, attack.name, values.epsilon)
    written = comparison_page(TITLE, said, reports, [("Accuracy", table)], {})
    files.write_text(page, written)
    print(f"\n{aligned(table)}\n\n{said}")
    print(f"With pictures: {page.resolve()}")
    print(
        "Your own model: keras-free-adv evaluate my.keras photos/test --epsilon=8/255"
    )
    if values.open and sys.stdout.isatty():
        webbrowser.open(page.resolve().as_uri())


def _table(reports: Mapping[str, RobustnessReport]) -> list[list[str]]:
    names = list(next(iter(reports.values())).accuracy)
    rows = [["network", *names]]
    for network, report in reports.items():
        rows.append([network, *(f"{report.accuracy[name]:.0%}" for name in names)])
    return rows


def _verdict(reports: Mapping[str, RobustnessReport], attack: str, epsilon: str) -> str:
    """The result in plain words."""
    natural, attacked = (
        {network: round(100 * r.accuracy[name]) for network, r in reports.items()}
        for name in ("natural", attack)
    )
    return (
        f"Of 100 photographs the ordinary network reads {natural['ordinary']} "
        f"correctly, and {attacked['ordinary']} after a change of at most {epsilon} of "
        f"each pixel's range. The robust one reads {natural['robust']}, and still "
        f"{attacked['robust']} after the change."
    )
