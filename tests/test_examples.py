"""The examples run, at a small size."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"
ENVIRONMENT = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}


def command(name, *flags):
    return [sys.executable, str(EXAMPLES / name), *flags]


def run(name, *flags):
    ended = subprocess.run(
        command(name, *flags),
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_quickstart_prints_the_table_and_saves_what_it_says(tmp_path):
    out = run("quickstart.py", "--updates=24", f"--output={tmp_path}")
    rows = [line for line in out.splitlines() if line.startswith("| ")]
    names = [row.split("|")[1].strip() for row in rows]
    assert names == ["training", "natural", "Free", "7-PGD"]
    assert {p.name for p in tmp_path.iterdir()} == {
        "adversarial_examples.png",
        "free.keras",
        "history.json",
    }
    model = keras.models.load_model(tmp_path / "free.keras")
    assert model.predict(np.zeros((2, 8, 8, 1)), verbose=0).shape == (2, 10)


@pytest.mark.parametrize("method", ["natural", "free", "pgd"])
def test_train_writes_the_model_the_history_the_report_and_the_settings(
    tmp_path, method
):
    flags = [f"--method={method}", "--epochs=2", "--verbose=0", "--schedule=cosine"]
    out = run("train.py", *flags, f"--output={tmp_path}")
    assert {p.name for p in tmp_path.iterdir()} == {
        "history.json",
        "model.keras",
        "report.json",
        "report.md",
        "settings.json",
    }
    report = json.loads((tmp_path / "report.json").read_text())
    assert set(report["accuracy"]) == {"natural", "pgd20", "pgd20x10"}
    assert f"{report['accuracy']['pgd20']:.2%}" in out
    settings = json.loads((tmp_path / "settings.json").read_text())["settings"]
    assert settings["method"] == method
    assert settings["epochs"] == 2
    assert len(json.loads((tmp_path / "history.json").read_text())["loss"]) == 2


@pytest.mark.parametrize("method", ["natural", "free"])
def test_the_same_command_continues_a_killed_run(tmp_path, method):
    def flags(folder):
        return [
            f"--method={method}",
            "--epochs=40",
            "--batch_size=512",
            "--verbose=0",
            "--deterministic",
            f"--output={tmp_path / folder}",
        ]

    process = subprocess.Popen(
        command("train.py", *flags("killed")),
        env=ENVIRONMENT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    backup = tmp_path / "killed" / "backup"
    deadline = time.monotonic() + 120
    while not list(backup.glob("backup-[3-9]")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "killed" / "model.keras").exists()
    assert "Continuing after epoch" in run("train.py", *flags("killed"))
    run("train.py", *flags("whole"))
    one, other = (
        keras.models.load_model(tmp_path / folder / "model.keras").get_weights()
        for folder in ("killed", "whole")
    )
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a, b)


def test_train_refuses_to_mix_two_runs(tmp_path):
    flags = ["--epochs=1", "--verbose=0", f"--output={tmp_path}"]
    run("train.py", *flags)
    ended = subprocess.run(
        command("train.py", *flags, "--epsilon=0.3"),
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
        check=False,
    )
    assert ended.returncode != 0
    assert "--epsilon=" in ended.stdout + ended.stderr
