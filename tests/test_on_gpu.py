"""benchmarks/on_gpu.py, rehearsed on a CPU; and its parts."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from keras_free_adv import zoo
from tests import forked
from tests.conftest import by_hand

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
STEPS = [
    *("environment", "updates", "train", "pytorch"),
    *("tests", "autoattack", "more_updates", "two_gpus"),
]


@pytest.fixture
def of_benchmarks(monkeypatch):
    """Their modules can be imported, for the test."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    yield
    for name in [name for name in sys.modules if name.split(".")[0] == "gpu"]:
        del sys.modules[name]


def on_gpu(*flags, backend="tensorflow"):
    words = [BENCHMARKS / "on_gpu.py", *flags]
    environment = {
        **os.environ,
        "KERAS_BACKEND": backend,
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
    if backend == "tensorflow":
        return forked.python(*words, env=environment)
    return subprocess.run(
        [sys.executable, *words],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )


@pytest.mark.tensorflow_only
@pytest.mark.parametrize(
    ("backend", "steps"),
    [
        ("tensorflow", STEPS[:6]),
        by_hand("tensorflow", STEPS),
        by_hand("jax", STEPS),
    ],
)
def test_a_rehearsal_goes_to_its_end_and_is_not_done_twice(backend, steps, tmp_path):
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"needs {backend}")
    flags = ["--dry_run", f"--output={tmp_path}"]
    if steps != STEPS:
        flags.append(f"--steps={','.join(steps)}")
    ended = on_gpu(*flags, backend=backend)
    assert ended.returncode == 0, ended.stdout[-3000:] + ended.stderr[-3000:]
    has_torch = importlib.util.find_spec("torch") is not None
    for name in steps:
        record = json.loads((tmp_path / f"{name}.json").read_text())
        if name in ("pytorch", "autoattack") and not has_torch:
            assert "cannot import torch" in record["stopped_by"]
            continue
        assert record["ended"], (name, record)
        assert record["settings"]["backend"] == backend
    page = (tmp_path / "on_gpu.md").read_text()
    assert page.count("\n## ") == len(steps)
    assert "figures mean nothing" in page
    # What was found is kept: the two steps are not run again, nor the page made anew.
    again = on_gpu(*flags, "--steps=environment,updates", backend=backend)
    assert again.returncode == 0, again.stderr
    assert again.stdout.count("done before") == 2
    assert (tmp_path / "on_gpu.md").read_text() == page
    # And findings at another size are not mixed with them.
    full = on_gpu("--steps=environment", f"--output={tmp_path}", backend=backend)
    assert full.returncode != 0
    assert "other settings" in full.stdout + full.stderr
    # The weights come home.
    pieces = list(tmp_path.glob("weights-*-of-*.npz"))
    assert pieces
    assert all(piece.stat().st_size < 16e6 for piece in pieces)


def test_weights_in_pieces_are_put_together(of_benchmarks, tmp_path):
    from gpu.weights import read_pieces, write_pieces

    model = zoo.preact_resnet18(width=4)
    before = model.get_weights()
    paths = write_pieces(model, tmp_path, largest=30_000)
    assert len(paths) > 2
    assert all(path.stat().st_size < 60_000 for path in paths)
    other = zoo.preact_resnet18(width=4)
    other.set_weights([0 * weight for weight in before])
    read_pieces(other, tmp_path)
    for one, two in zip(before, other.get_weights(), strict=True):
        # Kernels in half precision, 11 bits; vectors as they were.
        tolerance = 2.0**-11 if one.ndim > 1 else 0.0
        np.testing.assert_allclose(two, one, rtol=tolerance, atol=1e-7)
    paths[1].unlink()
    with pytest.raises(FileNotFoundError, match="pieces of weights"):
        read_pieces(other, tmp_path)


def test_a_large_array_has_a_piece_of_its_own(of_benchmarks, tmp_path):
    from gpu.weights import write_pieces

    model = zoo.preact_resnet18(width=4)
    assert write_pieces(model, tmp_path, largest=1)[-1].stem.endswith(
        f"of-{len(model.get_weights())}"
    )


def test_an_update_costs_the_difference_of_a_long_and_a_short_fit(
    of_benchmarks, monkeypatch
):
    from gpu import cost_of_update

    # A call costs 5 seconds, an update 0.25.
    monkeypatch.setattr(
        cost_of_update, "seconds_of_fit", lambda model, data, n: 5 + 0.25 * n
    )
    found = cost_of_update.in_turns({"free": None}, {"free": None}, (10, 50), 2)
    assert found == {"free": [0.25, 0.25]}


def test_a_step_that_is_unknown_is_refused():
    ended = on_gpu("--dry_run", "--steps=everything")
    assert ended.returncode != 0
    assert "--steps must be of environment, updates" in ended.stdout + ended.stderr
