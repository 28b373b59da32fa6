"""`keras-free-adv export`."""

import json
import shutil

import pytest

from tests.command_line.program import fails, typed


@pytest.fixture(scope="module")
def short_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("short") / "run"
    flags = ["--recipe=digits_natural", "--set=epochs=2", "--set=steps_per_epoch=12"]
    typed("train", *flags, "--verbose=0", "--test_examples=0", f"--output={folder}")
    return folder


def test_a_run_is_exported_with_all_that_is_known_of_it(tmp_path, short_run):
    shutil.copytree(short_run, tmp_path / "run")
    settings = ["--attacks=fgsm", "--examples=50", "--verbose=0"]
    typed("evaluate", tmp_path / "run", *settings)
    flags = [tmp_path / "run", tmp_path / "served" / "digits"]
    said = typed("export", *flags)
    path = tmp_path / "served" / "digits" / "1"
    assert f"Published: {path}" in said
    assert "Pixels are in [0, 1]." in said
    assert f"-v {path.parent}:/models/digits -e MODEL_NAME=digits" in said
    assets = {p.name: p.read_text() for p in (path / "assets").iterdir()}
    assert assets["class_names.txt"].split() == [str(digit) for digit in range(10)]
    assert json.loads(assets["recipe.json"])["name"] == "digits_natural"
    assert "fgsm" in json.loads(assets["robustness_report.json"])["accuracy"]
    assert "Published" in typed("export", *flags)
    assert sorted(p.name for p in path.parent.iterdir()) == ["1", "2"]
    # A report of another model.
    other = tmp_path / "other.json"
    report = json.loads(assets["robustness_report.json"])
    report["settings"]["model_checksum"] = "0" * 16
    other.write_text(json.dumps(report))
    said = fails("export", *flags, f"--report={other}")
    assert "must be of the model that is exported" in said
    flags[1] = tmp_path / "digits.tflite"
    # Its first layer takes pixels of [0, 1].
    said = fails("export", *flags, "--value_range=0,255")
    assert "--value_range: Argument `value_range`" in said
    said = typed("export", *flags)
    assert "Written" in said
    assert "Pixels are in [0, 1]." in said
    assert (tmp_path / "digits.tflite").stat().st_size > 10_000
    assert "--version: a .tflite file" in fails("export", *flags, "--version=3")
