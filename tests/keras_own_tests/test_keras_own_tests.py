"""Keras' own tests, with each model that they train wrapped.

`differences.toml` lists the tests that pass with plain models and fail with wrapped
ones, and says why. It may only shrink: a test that is not in the list must pass, and a
test that passes must leave the list.
"""

import collections
import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import keras
import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
# Of training, callbacks, saving and export; the wheel of Keras carries them.
KERAS = Path(keras.__file__).parent / "src"
TESTS = [KERAS / "trainers" / "trainer_test.py"] + [
    path
    for folder in ("callbacks", "saving", "export")
    for path in sorted((KERAS / folder).glob("*_test.py"))
]
# Twice what two busy cores took.
LIMIT = 3600


def outcomes_of(file, *arguments):
    """Runs Keras' tests in a process of their own; returns each test's outcome."""
    command = [sys.executable, "-m", "pytest", "-q", "-c", os.devnull]
    command += ["-p", "no:cacheprovider", "--rootdir", KERAS, "--outcomes", file]
    command += ["-p", "tests.keras_own_tests.wrap_fitted_models"]
    # Some files need packages that are not installed.
    command += ["--continue-on-collection-errors", *arguments, *TESTS]
    ended = subprocess.run(
        [str(part) for part in command],
        cwd=file.parent,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"},
        timeout=LIMIT,
        check=False,
    )
    assert file.exists(), ended.stdout[-2000:] + ended.stderr[-2000:]
    return json.loads(file.read_text())


def known_differences():
    """Each test of the list, and why it fails with a wrapped model."""
    groups = tomllib.loads((HERE / "differences.toml").read_text())["difference"]
    return {test: group["reason"] for group in groups for test in group["tests"]}


def test_the_list_gives_each_test_one_reason():
    groups = tomllib.loads((HERE / "differences.toml").read_text())["difference"]
    tests = [test for group in groups for test in group["tests"]]
    twice = [test for test, count in collections.Counter(tests).items() if count > 1]
    assert not twice
    assert all(group["reason"].strip() for group in groups)


@pytest.mark.long
@pytest.mark.by_hand
@pytest.mark.skipif(
    not (KERAS / "trainers" / "trainer_test.py").exists(),
    reason=f"the installed Keras carries no tests: {TESTS[0]} is missing",
)
def test_wrapped_models_differ_only_where_the_list_says_so(tmp_path):
    wrapped = outcomes_of(tmp_path / "wrapped.json", "--wrap")
    trained = [test for test, found in wrapped.items() if found["trains"]]
    failed = {t: f["error"] for t, f in wrapped.items() if f["outcome"] == "failed"}
    (tmp_path / "failed.json").write_text(json.dumps(list(failed)))
    plain = outcomes_of(tmp_path / "plain.json", "--only", tmp_path / "failed.json")
    differ = {
        t: failed[t] for t, found in plain.items() if found["outcome"] == "passed"
    }
    print(f"{len(wrapped)} tests, {len(trained)} train a model, {len(differ)} differ")

    known = known_differences()
    new = {test: error for test, error in differ.items() if test not in known}
    assert not new, json.dumps(new, indent=1)
    mended = [t for t in known if wrapped.get(t, {}).get("outcome") == "passed"]
    assert not mended, f"They pass now; take them off the list: {mended}"
