"""Step 3: a recipe to its end, attacked, and its weights to take home."""

import json
import time
from pathlib import Path

import keras

from gpu.record import Record
from gpu.sizes import Sizes
from gpu.step import Place, Step, table
from gpu.weights import write_pieces
from keras_free_adv import recipes
from keras_free_adv.command_line import run_folder
from keras_free_adv.command_line.main import main

RECIPE = "cifar10_preactresnet18_free8"
RUN = "run"


def model_of(folder: Path) -> Path:
    """Where the trained model is."""
    return folder / RUN / run_folder.MODEL


def run(sizes: Sizes, place: Place, record: Record) -> None:
    """Trains (or goes on), attacks, and writes the weights."""
    folder = place.folder / RUN
    located = [] if place.data_dir is None else [f"--data_dir={place.data_dir}"]
    changes = {**sizes.changes, "dataset": place.data}
    words = [f"--set={name}={json.dumps(value)}" for name, value in changes.items()]
    main(
        [
            *("train", f"--recipe={RECIPE}", *words, *located),
            *("--test_examples=0", f"--output={folder}", "--verbose=2"),
        ]
    )
    seconds = run_folder.history_of(folder)["seconds"]
    recipe = run_folder.recipe_of(folder)
    record.put(
        "training",
        {
            "recipe": RECIPE,
            "updates": recipe.updates,
            "policy": recipe.policy,
            "seconds": sum(seconds),
            "undisturbed_seconds": min(seconds) * recipe.epochs,
        },
    )
    # At once: what comes after may be stopped.
    pieces = write_pieces(
        keras.models.load_model(folder / run_folder.MODEL), place.folder
    )
    record.put("weights", [path.name for path in pieces])
    for attack in sizes.attacks:
        if attack in record:
            continue
        begin = time.perf_counter()
        main(
            [
                *("evaluate", str(folder), f"--attacks={attack}", *located),
                *(f"--examples={sizes.examples}", "--verbose=2"),
                # So that the file has the name that is looked for.
                f"--output={folder / f'report-{attack}-{sizes.examples}.html'}",
            ]
        )
        report = run_folder.report_of(folder, attack, sizes.examples)
        if report is None:
            raise RuntimeError(f"`evaluate` left no report of {attack} in {folder}.")
        record.put(
            attack,
            {
                "examples": report.examples,
                "natural": report.accuracy["natural"],
                "robust": report.worst_case,
                "seconds": time.perf_counter() - begin,
            },
        )


def page(record: Record) -> list[str]:
    """What it reached, beside what was published."""
    trained = record.found.get("training")
    if trained is None:
        return ["Not trained yet."]
    recipe = recipes.get(RECIPE)
    rows = [["attack", "images", "accuracy, percent", "published", "seconds"]]
    for name, found in record.found.items():
        if not isinstance(found, dict) or "robust" not in found:
            continue
        if len(rows) == 1:
            known = recipe.published.get("natural", "")
            natural = f"{100 * found['natural']:.1f}"
            rows.append(["natural", f"{found['examples']:,}", natural, f"{known}", ""])
        known = recipe.published.get(name, "")
        robust, seconds = f"{100 * found['robust']:.1f}", f"{found['seconds']:.0f}"
        rows.append([name, f"{found['examples']:,}", robust, f"{known}", seconds])
    return [
        f"`{RECIPE}`, {trained['policy']}: {trained['updates']:,} updates in "
        f"{trained['seconds'] / 60:.1f} minutes "
        f"({trained['undisturbed_seconds'] / 60:.1f} if each epoch had taken as long "
        f"as the fastest; published: {recipe.published_minutes} on a 2080 Ti).",
        "",
        *table(rows),
    ]


STEP = Step("A recipe to its end", run, page)
