"""What travels in the wheel: a photograph and its attack, with no network."""

import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from keras_free_adv import backends

ROOT = Path(__file__).parent.parent

PROGRAM = textwrap.dedent(
    """
    from keras_free_adv import PGDAttack, datasets, zoo
    data = datasets.load("cifar10_sample", split="test", batch_size=20, shuffle=False)
    images, labels = next(iter(data))
    for name in ("natural", "free"):
        model = zoo.pretrained("cifar10_compact_" + name)
        adversarial = PGDAttack(8 / 255, seed=0)(images, labels, model=model)
        right = model.predict(adversarial, verbose=0).argmax(-1) == labels.numpy()
        print(right.mean())

    import keras_free_adv
    print(keras_free_adv.__file__)
    """
)


def without_network():
    """What puts a command in a network of its own, which reaches nothing."""
    command = ["unshare", "--map-root-user", "--net"]
    if shutil.which("unshare"):
        tried = subprocess.run([*command, "true"], capture_output=True, check=False)
        if tried.returncode == 0:
            return command
    return []


@pytest.mark.skipif(backends.NAME != "tensorflow", reason="once is enough")
def test_a_photograph_is_attacked_from_the_wheel_alone(tmp_path):
    source = tmp_path / "source"
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "keras_free_adv", source / "keras_free_adv", ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    alone = ["--no-deps", "--no-index"]
    subprocess.run(
        [*pip, "wheel", *alone, "--no-build-isolation", "-w", tmp_path, source],
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.stat().st_size < 20e6
    target = tmp_path / "installed"
    subprocess.run(
        [*pip, "install", *alone, "--target", target, wheel],
        check=True,
        capture_output=True,
    )
    ended = subprocess.run(
        [*without_network(), sys.executable, "-c", PROGRAM],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(target), "HOME": str(tmp_path)},
    )
    assert ended.returncode == 0, ended.stderr
    natural, robust, file = ended.stdout.split()
    assert float(natural) == 0.0
    # 42.4% of the test set; of 20 images, more than a few.
    assert float(robust) >= 0.2
    assert Path(file).is_relative_to(target)
