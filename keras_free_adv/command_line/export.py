"""`keras-free-adv export`: the model for TensorFlow Serving, or for phones."""

from pathlib import Path
from typing import Any

import keras_free_adv as kfa
from keras_free_adv import datasets
from keras_free_adv.command_line import console
from keras_free_adv.command_line import values as typed
from keras_free_adv.command_line.command import CommandError
from keras_free_adv.command_line.subject import Subject, subject

FROM_LOGITS = {"auto": "auto", "true": True, "false": False}
_FOR_SERVERS = ("version", "data", "split", "report")


def run(values: Any, model: str, output: str) -> None:
    """Exports, and says what to do next."""
    exported = subject(model)
    low, high = exported.value_range(
        typed.pixel_range("value_range", values.value_range)
    )
    settings = {
        "value_range": (low, high),
        "from_logits": FROM_LOGITS[values.from_logits],
        "predicts": values.predicts,
    }
    if output.endswith(".tflite"):
        _export_for_phones(values, exported, output, settings)
        return
    report = _report_of(values, exported)
    of_data = _of_data(values, exported)
    if values.image_size is not None:
        of_data["image_size"] = values.image_size
    with console.without_warnings():
        written = kfa.export_for_serving(
            exported.model,
            output,
            version=values.version,
            recipe=exported.recipe,
            report=report,
            **of_data,
            **settings,
        )
    home = Path(output).resolve()
    print(f"Published: {written}")
    print(f"Pixels are in [{low:g}, {high:g}].")
    if exported.own_data:
        print(
            "Of image files the server takes the central part; in training the whole "
            "was squeezed, unless it was given --crop. Send pixels to have the same."
        )
    if report is None:
        print(
            "It has no robustness report: measure it with keras-free-adv evaluate, and "
            "pass --report."
        )
    print(
        "Serve it with:\n"
        "  docker run --rm -p 8500:8500 -p 8501:8501 \\\n"
        f"    -v {home}:/models/{home.name} -e MODEL_NAME={home.name} "
        "tensorflow/serving"
    )


def _export_for_phones(
    values: Any, exported: Subject, output: str, settings: dict[str, Any]
) -> None:
    given = [f"--{name}" for name in _FOR_SERVERS if values[name].value is not None]
    if given:
        raise CommandError(
            f"{', '.join(given)}: a .tflite file holds nothing of it. Leave it out, or "
            "name a folder as OUTPUT."
        )
    size = values.image_size
    written = kfa.export_for_litert(exported.model, output, image_size=size, **settings)
    low, high = settings["value_range"]
    print(f"Written: {written}")
    print(f"Pixels are in [{low:g}, {high:g}].")


def _report_of(values: Any, exported: Subject) -> kfa.RobustnessReport | None:
    """The report asked for, or the newest in the folder of a run, or none."""
    found = [Path(values.report)] if values.report else []
    if not found and exported.recipe is not None:
        found = sorted(
            exported.folder.glob("report-*.json"), key=lambda p: p.stat().st_mtime
        )
    if not found:
        return None
    try:
        return kfa.RobustnessReport.from_json(found[-1].read_text())
    except (OSError, ValueError) as error:
        raise CommandError(
            f"--report: {found[-1]} cannot be read: {error}", "report"
        ) from error


def _of_data(values: Any, exported: Subject) -> dict[str, Any]:
    """Class names and image size: those of the training, or of the data set named."""
    recipe = exported.recipe
    if values.data is None and exported.class_names is not None:
        return {"class_names": exported.class_names}
    if values.data is None and (recipe is None or exported.own_data):
        return {}
    data = datasets.load(
        values.data or recipe.dataset,  # type: ignore[union-attr]
        split=values.split or (recipe.test_split if recipe else "test"),
        batch_size=1,
        data_dir=values.data_dir,
    )
    return {"class_names": data.class_names, "image_size": data.image_size}
