"""`keras-free-adv train` on two worker processes, of which one is killed."""

import json
import signal
import time

import keras
import numpy as np
import pytest

from tests.conftest import by_hand, said_by_workers, start_workers

TRAIN = ["-m", "keras_free_adv", "train"]
FLAGS = [
    "--strategy=multi_worker",
    "--recipe=digits_free8",
    "--set=epochs=5",
    "--set=steps_per_epoch=30",
    "--monitor_every=2",
    "--monitor_examples=100",
    "--test_examples=50",
    "--verbose=0",
]


def start(folder):
    return start_workers([*TRAIN, *FLAGS, f"--output={folder}"])


def finished(folder):
    outputs, codes = said_by_workers(start(folder))
    assert codes == [0, 0], outputs
    return outputs


def wait_for(path, seconds=60):
    end = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < end, f"no {path} after {seconds} seconds"
        time.sleep(0.02)


@pytest.mark.parametrize("killed", [1, by_hand(0)])
def test_a_worker_is_killed_and_all_go_on_where_they_were(
    tmp_path, killed, uninterrupted
):
    folder = tmp_path / "run"
    processes = start(folder)
    wait_for(folder / "backup" / "backup-2")
    time.sleep(0.1)  # into the third epoch
    processes[killed].send_signal(signal.SIGKILL)
    begin = time.monotonic()
    outputs, codes = said_by_workers(processes)
    assert time.monotonic() - begin < 60
    other = 1 - killed
    assert codes[killed] == -signal.SIGKILL
    assert codes[other] not in (0, -signal.SIGKILL)
    assert "Another of the 2 workers was lost, or cannot be reached." in outputs[other]
    assert "start the same command on all of them again" in outputs[other]
    assert not (folder / "model.keras").exists()

    outputs = finished(folder)
    assert "Continuing after epoch 2 of 5." in outputs[0]
    assert "150 updates" in outputs[0]
    assert outputs[1].count("Continuing") == 0
    histories = [
        json.loads((run / "history.json").read_text())
        for run in (folder, uninterrupted)
    ]
    for name, values in histories[0].items():
        assert len(values) == 5 - (name.startswith("val_"))
        if "seconds" not in name:
            assert values == histories[1][name], name
    weights, whole = (
        keras.models.load_model(run / "model.keras").get_weights()
        for run in (folder, uninterrupted)
    )
    for one, other in zip(weights, whole, strict=True):
        np.testing.assert_array_equal(one, other)
    # One worker wrote; nothing is left over.
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        path.name for path in uninterrupted.iterdir()
    )


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "run"
    finished(folder)
    names = {path.name for path in folder.iterdir()}
    assert {"history.json", "model.keras", "report-paper-50.json"} <= names
    return folder
