"""`keras-free-adv evaluate`."""

import hashlib
import shlex
import webbrowser
from pathlib import Path
from typing import Any

import keras_free_adv as kfa
from keras_free_adv import files
from keras_free_adv.command_line import console
from keras_free_adv.command_line import values as typed
from keras_free_adv.command_line.command import PROGRAM, CommandError
from keras_free_adv.command_line.image_data import (
    ImageData,
    Wanted,
    image_data,
    refuse_flags_that_do_not_apply,
)
from keras_free_adv.command_line.named_attacks import named_attacks
from keras_free_adv.command_line.subject import Subject, subject
from keras_free_adv.evaluation.html_page import COMMAND, not_withstood, verdict
from keras_free_adv.evaluation.robustness_report import RobustnessReport

# What has a name of its own in the name of a report.
_IN_NAME = (
    *("epsilon", "norm", "split", "image_size", "crop", "seed"),
    *("value_range", "pixels", "search_dtype"),
)


def run(values: Any, model: str, data: str | None = None) -> None:
    """Attacks, prints, and writes the report as page, JSON and Markdown."""
    typed_epsilon(values)  # before the model is loaded
    attacked = subject(model)
    epsilon, norm = ball(values, attacked)
    value_range = attacked.value_range(
        typed.pixel_range("value_range", values.value_range)
    )
    low, high = value_range
    attacks = named_attacks(
        values.attacks,
        epsilon * (high - low),
        norm=norm,
        value_range=value_range,
        seed=values.seed,
        table=attacked.recipe.attacks if attacked.recipe else "cifar10",
    )
    page = page_of(values, attacked, data)
    files.check_room(page)
    images = data_for(values, attacked, data, value_range)
    print(f"The model's pixels are in [{low:g}, {high:g}].", flush=True)
    with console.without_warnings():  # the report has them
        report = kfa.evaluate_robustness(
            attacked.model,
            images.minibatches,
            attacks,
            max_examples=values.examples,
            batch_size=values.batch_size,
            resume=page.with_suffix(".partial"),
            verbose=console.verbose(values.verbose),
            search_dtype=values.search_dtype,
        )
    report.settings["model"] = attacked.name
    report.settings[COMMAND] = command_of("evaluate", values, model, data)
    report.warnings += _doubts(attacked, data, images)
    publish(report, page, attacked, images)
    for line in _what_next(report, model):
        print(line)
    if values.open:
        webbrowser.open(page.resolve().as_uri())


def _what_next(report: RobustnessReport, model: str) -> list[str]:
    """What a user may want to do now."""
    said = []
    if report.worst_case > 0 and not any(
        "autoattack" in name for name in report.accuracy
    ):
        said.append("A first look: without --attacks, AutoAttack is tried too.")
    if not_withstood(report):
        said.append(
            "To make it robust: keras-free-adv train photos/train --recipe=photos "
            f"--weights={model}"
        )
    return said


def _doubts(attacked: Subject, data: str | None, images: ImageData) -> list[str]:
    """What the program knows, and the report does not."""
    said = []
    if images.skipped:
        count = len(images.skipped)
        files = f"{count} files could not be decoded, and were"
        if count == 1:
            files = f"{images.skipped[0]} could not be decoded, and was"
        said.append(f"Of {images.name}, {files} left out.")
    recipe = attacked.recipe if attacked.own_data else None
    if recipe and data and Path(data).resolve() == Path(recipe.dataset).resolve():
        said.append(
            f"The model was trained on {images.name}: on images that it has not seen "
            "it is less accurate. Evaluate it on others."
        )
    return said


def command_of(name: str, values: Any, *arguments: str | None) -> str:
    """The command that was typed."""
    words = [PROGRAM, name, *(word for word in arguments if word is not None)]
    for flag in values:
        if values[flag].present and flag != "debug":
            value = values[flag].value
            text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
            words.append(f"--{flag}={text}")
    return shlex.join(words)


def typed_epsilon(values: Any) -> float | None:
    """Epsilon as it was typed, a share of the pixels' range.

    Raises:
        CommandError: it is no such share.
    """
    if values.epsilon is None:
        return None
    epsilon = typed.positive_number("epsilon", values.epsilon)
    if epsilon > 1 and values.norm != "l2":
        meant = f" Did you mean {epsilon:g}/255?" if epsilon <= 255 else ""
        raise CommandError(
            "--epsilon must be a share of the pixels' range, at most 1: 8/255 for "
            f"8 of 255 levels. Received: {values.epsilon}.{meant}",
            "epsilon",
        )
    return epsilon


def ball(values: Any, attacked: Subject) -> tuple[float, str]:
    """Epsilon, as a share of the pixels' range, and norm: as typed, or as trained for.

    Raises:
        CommandError: neither is known.
    """
    epsilon = typed_epsilon(values)
    if epsilon is not None:
        return epsilon, values.norm or attacked.norm or "linf"
    if attacked.epsilon is not None and values.norm in (None, attacked.norm):
        epsilon = attacked.epsilon
    elif attacked.epsilon is not None:
        raise CommandError(
            f"--norm={values.norm} needs an epsilon of its own: {attacked.name} was "
            f"trained for {attacked.norm}. Pass --epsilon.",
            "epsilon",
        )
    else:
        raise CommandError(
            f"Nothing says how far a pixel may change: {attacked.name} does not tell "
            "what it was trained for. Pass --epsilon=8/255, the usual change for "
            "photographs.",
            "epsilon",
        )
    return epsilon, values.norm or attacked.norm or "linf"


def data_for(
    values: Any,
    attacked: Subject,
    data: str | None,
    value_range: tuple[float, float],
) -> ImageData:
    """The images to attack: those that are named, or those of the recipe."""
    recipe = attacked.recipe
    if data is None and (recipe is None or attacked.own_data):
        raise CommandError(
            "DATA is needed, for a model that is not a run on a data set of its "
            "recipe: a folder of images, for example."
        )
    height, width, channels = attacked.image_shape
    size = values.image_size
    name = data or recipe.dataset  # type: ignore[union-attr]
    refuse_flags_that_do_not_apply(values, name, height)
    return image_data(
        name,
        Wanted(
            (height or size, width or size, channels),
            value_range,
            split=values.split or (recipe.test_split if recipe else "test"),
            batch_size=values.batch_size,
            crop=values.crop,
            seed=values.seed,
            classes=attacked.class_names,
            units=attacked.model.output_shape[-1],
            pixels=typed.pixel_range("pixels", values.pixels),
            data_dir=values.data_dir,
            examples=values.examples,
        ),
    )


def page_of(values: Any, attacked: Subject, data: str | None) -> Path:
    """Where the report's page goes: named by all that is not the model's own.

    Raises:
        CommandError: `--output` is no .html file.
    """
    if values.output is not None:
        page = Path(values.output)
        if page.suffix != ".html":
            raise CommandError(
                f"--output must end with .html. Received: {page}.", "output"
            )
        return page
    parts = [attacked.stem, *values.attacks, str(values.examples)]
    if data is not None:
        parts.append(short_name(data))
    for name in _IN_NAME:
        if values[name].value != values[name].default:
            parts.append(f"{name}={values[name].value}")
    if attacked.stem != "report":
        parts.insert(1, "report")
    name = "-".join(parts).replace("/", "_over_").replace(":", ".")
    return attacked.folder / f"{name}.html"


def short_name(data: str) -> str:
    """A short name of data; of a path with what tells it from others of its name."""
    path = Path(data)
    if not path.exists():
        return data
    whole = hashlib.blake2b(str(path.resolve()).encode(), digest_size=3).hexdigest()
    return f"{path.name}-{whole}"


def publish(
    report: RobustnessReport, page: Path, attacked: Subject, images: ImageData
) -> None:
    """Writes the report in three forms, and prints it."""
    recipe = attacked.recipe
    published = recipe.published if recipe and recipe.published else None
    report.to_html(page)
    files.write_text(page.with_suffix(".md"), report.to_markdown(published))
    files.write_text(page.with_suffix(".json"), report.to_json())
    page.with_suffix(".partial").unlink(missing_ok=True)
    print(report.to_text(published))
    if published and recipe and recipe.published_on:
        print(f"Published for: {recipe.published_on}.")
    print(verdict(report))
    print(f"Page: {page}")
