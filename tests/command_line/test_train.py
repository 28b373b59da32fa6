"""`keras-free-adv train`: a run can be killed and continued, and is not mixed up."""

import json
import shutil
import signal
import time

import keras
import numpy as np
import pytest

from keras_free_adv.recipes import building
from tests import forked
from tests.command_line.program import fails, typed
from tests.conftest import by_hand

QUICK = ["--set=epochs=2", "--set=steps_per_epoch=12", "--verbose=0"]


@pytest.mark.parametrize(
    "row", [by_hand("natural"), "free4", by_hand("pgd7"), by_hand("trades")]
)
def test_train_writes_the_model_the_history_the_report_and_the_settings(tmp_path, row):
    flags = [f"--recipe=digits_{row}", "--test_examples=64", "--monitor_every=1"]
    out = typed("train", *flags, *QUICK, f"--output={tmp_path}")
    assert {p.name for p in tmp_path.iterdir()} == {
        "model.card.json",
        "history.json",
        "model.keras",
        "report-paper-64.html",
        "report-paper-64.json",
        "report-paper-64.md",
        "settings.json",
    }
    report = json.loads((tmp_path / "report-paper-64.json").read_text())
    assert set(report["accuracy"]) == {
        "natural",
        "pgd20",
        "pgd100",
        "cw100",
        "pgd20x10",
    }
    assert f"{report['accuracy']['pgd20']:.2%}" in out
    settings = json.loads((tmp_path / "settings.json").read_text())["settings"]
    assert settings["name"] == f"digits_{row}"
    assert (settings["epochs"], settings["seed"]) == (2, 0)
    history = json.loads((tmp_path / "history.json").read_text())
    for name in ("loss", "seconds", "cpu_seconds", "val_pgd20_accuracy"):
        assert len(history[name]) == 2

    # The model is plain, and `evaluate` knows the rest from the folder.
    out = typed(
        "evaluate",
        tmp_path,
        "--attacks=fgsm,pgd20",
        "--examples=32",
        "--verbose=0",
    )
    found = json.loads((tmp_path / "report-fgsm-pgd20-32.json").read_text())
    assert set(found["accuracy"]) == {"natural", "fgsm", "pgd20"}
    assert found["threat_models"]["fgsm"]["epsilon"] == 0.16
    assert f"{found['accuracy']['fgsm']:.2%}" in out
    assert not list(tmp_path.glob("*.partial"))


@pytest.mark.parametrize("row", [by_hand("natural"), "free4"])
def test_the_same_command_continues_a_killed_run(tmp_path, row):
    def flags(folder):
        return [
            f"--recipe=digits_{row}",
            "--set=ema_momentum=0.9",
            "--set=steps_per_epoch=4",
            "--verbose=0",
            "--deterministic",
            "--test_examples=0",
            f"--output={tmp_path / folder}",
        ]

    process = forked.start(
        *("-m", "keras_free_adv", "train", *flags("killed")), forks=False
    )
    backup = tmp_path / "killed" / "backup"
    deadline = time.monotonic() + 120
    while not list(backup.glob("backup-[3-9]")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (tmp_path / "killed" / "model.keras").exists()
    assert "Continuing after epoch" in typed("train", *flags("killed"))
    typed("train", *flags("whole"))
    one, other = (
        keras.models.load_model(tmp_path / folder / "model.keras").get_weights()
        for folder in ("killed", "whole")
    )
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a, b)


def test_train_refuses_to_mix_two_runs(tmp_path):
    flags = ["--recipe=digits_natural", *QUICK, "--test_examples=0"]
    typed("train", *flags, f"--output={tmp_path}")
    said = fails("train", *flags, "--set=momentum=0.5", f"--output={tmp_path}")
    assert "momentum=0.9 (now 0.5)" in said


def test_recipes_are_listed_and_shown():
    listed = typed("recipes").split()
    assert "cifar10_wrn32_10_free8" in listed
    shown = json.loads(
        typed("train", "--recipe=cifar10_wrn32_10_free8", "--show", "--set=replays=4")
    )
    assert shown["method_arguments"] == {"replays": 4}
    said = fails("train", "--recipe=cifar10_free8")
    assert "Did you mean" in said
    assert "--recipe" in fails("train")


@pytest.mark.parametrize("name", ["settings.json", "model.keras", "history.json"])
def test_a_damaged_file_of_a_run_is_named_and_left_alone(tmp_path, name, short_run):
    folder = tmp_path / "run"
    shutil.copytree(short_run, folder)
    cut = (folder / name).read_bytes()[:-20]
    (folder / name).write_bytes(cut)
    flags = ["--recipe=digits_natural", *QUICK, "--test_examples=0"]
    said = fails("train", *flags, f"--output={folder}")
    assert str(folder / name) in said
    assert "damaged" in said
    assert (folder / name).read_bytes() == cut


@pytest.mark.parametrize("text", ["[]", "null", "{}", '{"settings": {}}'])
def test_settings_of_something_else_are_named(tmp_path, text, short_run):
    shutil.copytree(short_run, tmp_path / "run")
    (tmp_path / "run" / "settings.json").write_text(text)
    said = fails("evaluate", tmp_path / "run")
    assert "settings.json is damaged" in said


@pytest.fixture(scope="module")
def short_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("short") / "run"
    flags = ["--recipe=digits_natural", *QUICK, "--test_examples=0"]
    typed("train", *flags, f"--output={folder}")
    return folder


def test_a_run_of_the_first_release_is_known_again(tmp_path, short_run):
    folder = tmp_path / "run"
    shutil.copytree(short_run, folder)
    text = (folder / "settings.json").read_text()
    old = text.replace('"epsilon_warmup_steps"', '"epsilon_warmup"')
    assert old != text
    (folder / "settings.json").write_text(old)
    flags = ["--recipe=digits_natural", *QUICK, "--test_examples=0"]
    typed("train", *flags, f"--output={folder}")
    assert (folder / "settings.json").read_text() == old


def test_a_wrong_setting_does_not_bind_the_folder(tmp_path):
    flags = ["--recipe=digits_natural", f"--output={tmp_path / 'run'}"]
    assert "`augment`" in fails("train", *flags, "--set=augment=standart")
    assert "no_such" in fails("train", *flags, "--set=dataset=no_such")
    assert not (tmp_path / "run").exists()


def test_photographs_of_ones_own_are_trained_on_and_the_run_knows_its_classes(tmp_path):
    generator = np.random.default_rng(0)
    for number in range(24):
        path = (
            tmp_path / "photos" / ("bright" if number % 2 else "dark") / f"{number}.png"
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = generator.integers(0, 60, (20, 14, 3)) + (190 if number % 2 else 0)
        keras.utils.save_img(path, pixels, scale=False)
    settings = ["--recipe=photos", "--set=batch_size=8", "--set=width=4"]
    length = ["--set=epochs=4", "--set=steps_per_epoch=6", "--image_size=16"]
    run = tmp_path / "run"
    output = [f"--output={run}", "--verbose=0"]
    said = typed("train", tmp_path / "photos", *settings, *length, *output)
    assert f"keras-free-adv evaluate {run} photos/test" in said
    assert keras.models.load_model(run / "model.keras").output_shape == (None, 2)
    flags = ["--attacks=fgsm", "--verbose=0", f"--output={tmp_path / 'page.html'}"]
    assert "DATA is needed" in fails("evaluate", run, *flags)
    typed("evaluate", run, tmp_path / "photos", *flags)
    report = json.loads((tmp_path / "page.json").read_text())
    assert report["threat_models"]["fgsm"]["epsilon"] == pytest.approx(8 / 255)
    assert report["predicted"]["class_names"] == ["bright", "dark"]
    # Its weights are where another training begins, on classes of another number.
    for number in range(8):
        path = tmp_path / "photos" / "gray" / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        keras.utils.save_img(path, np.full((9, 9, 3), 128.0), scale=False)
    further = tmp_path / "further"
    typed(
        "train",
        tmp_path / "photos",
        *settings,
        *length,
        f"--weights={run}",
        f"--output={further}",
        "--verbose=0",
    )
    model = keras.models.load_model(further / "model.keras")
    assert model.output_shape == (None, 3)
    assert model.input_shape == (None, 16, 16, 3)
    before = keras.models.load_model(run / "model.keras")
    kernels = [
        next(w for w in each.weights if len(w.shape) == 4) for each in (before, model)
    ]
    # Muon keeps a kernel's norm: those of other initial weights would differ more.
    norms = [float(keras.ops.norm(keras.ops.reshape(k, (-1,)))) for k in kernels]
    assert norms[0] == pytest.approx(norms[1], rel=1e-4)


@pytest.mark.parametrize("method", ["free", "natural"])
def test_arrays_are_trained_on_and_lengths_are_of_the_networks_scale(
    tmp_path, method, monkeypatch
):
    """A network of ones own that takes pixels of 0 to 255."""
    keras.utils.set_random_seed(0)
    # Dark and bright are on two sides of 0, so that a linear network learns it soon.
    layers = [keras.Input((8, 8, 3)), keras.layers.Rescaling(1 / 127.5, offset=-1)]
    layers += [keras.layers.Flatten(), keras.layers.Dense(2)]
    keras.Sequential(layers).save(tmp_path / "my.keras")
    labels = np.arange(24) % 2
    images = np.where(labels, 200, 50)[:, None, None, None] + np.zeros((24, 8, 8, 3))
    np.savez(tmp_path / "data.npz", x=images.astype("uint8"), y=labels)
    trained = []
    compiled = building.compiled
    monkeypatch.setattr(
        building,
        "compiled",
        lambda *each: trained.append(compiled(*each)) or trained[0],
    )
    typed(
        *("train", tmp_path / "data.npz", "--recipe=photos", f"--set=method={method}"),
        *("--set=epochs=8", "--set=steps_per_epoch=3", "--set=batch_size=8"),
        *("--set=optimizer=sgd", "--set=learning_rate=0.02", "--verbose=0"),
        *(f"--weights={tmp_path / 'my.keras'}", f"--output={tmp_path / 'run'}"),
    )
    if method == "free":
        assert trained[0].epsilon == pytest.approx(10)
        assert trained[0].step_size == pytest.approx(20)
    model = keras.models.load_model(tmp_path / "run" / "model.keras")
    found = keras.ops.convert_to_numpy(model(images.astype("float32")))
    assert (found.argmax(-1) == labels).mean() == 1.0
