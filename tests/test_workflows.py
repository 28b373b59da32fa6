"""GitHub workflows, commit hooks and releases: what can be checked without GitHub."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

import keras_free_adv

ROOT = Path(__file__).parent.parent
FILES = sorted((ROOT / ".github/workflows").glob("*.yml"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]


def workflow(name):
    return yaml.safe_load((ROOT / f".github/workflows/{name}.yml").read_text())


def commands(job):
    return [step["run"] for step in job["steps"] if "run" in step]


def test_there_are_workflows_for_tests_docs_and_releases():
    assert [path.stem for path in FILES] == ["docs", "release", "tests"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_workflow_is_whole(path):
    loaded = yaml.safe_load(path.read_text())
    assert loaded["name"] == path.stem
    assert loaded[True]  # `on`, which is a truth value in YAML 1.1
    assert loaded["permissions"] == {"contents": "read"}
    for name, job in loaded["jobs"].items():
        assert re.fullmatch(r"(ubuntu|windows)-latest", job["runs-on"])
        assert {job["needs"]} <= set(loaded["jobs"]) if "needs" in job else True
        for step in job["steps"]:
            assert ("run" in step) != ("uses" in step), name
            assert re.fullmatch(r"[\w./-]+@[\w./-]+", step.get("uses", "a@b"))


def test_python_versions_are_those_of_the_project():
    tested = workflow("tests")["jobs"]["tests"]["strategy"]["matrix"]["python"]
    stem = "Programming Language :: Python :: "
    said = [c.removeprefix(stem) for c in PROJECT["classifiers"] if c.startswith(stem)]
    assert tested == [version for version in said if "." in version]
    assert PROJECT["requires-python"] == f">={tested[0]}"
    for path in FILES:
        for job in yaml.safe_load(path.read_text())["jobs"].values():
            for step in job["steps"]:
                version = step.get("with", {}).get("python-version", tested[0])
                assert version in (*tested, "${{ matrix.python }}")


def test_extras_that_are_installed_exist():
    for path in FILES:
        for job in yaml.safe_load(path.read_text())["jobs"].values():
            backends = job.get("strategy", {}).get("matrix", {}).get("backend", [])
            for command in commands(job):
                for extras in re.findall(r"install .*\.\[(.+)\]", command):
                    for extra in extras.split(","):
                        # TensorFlow is no extra: each install has it.
                        asked = set(backends) - {"tensorflow"}
                        assert ({extra} if "$" not in extra else asked) <= set(EXTRAS)


def test_the_tests_are_run_as_the_readme_says():
    readme = (ROOT / "README.md").read_text()
    section = re.search(r"^## Test it\n(.*?)^## ", readme, re.S | re.M).group(1)
    (command,) = re.findall(r"\S+/python (-m pytest.*)", section)
    job = workflow("tests")["jobs"]["tests"]
    (step,) = (step for step in job["steps"] if step.get("name") == "All tests")
    assert step["run"] == f"python {command}"
    assert step["if"] == "matrix.backend == 'tensorflow'"


def test_the_program_for_windows_runs(tmp_path):
    job = workflow("tests")["jobs"]["windows"]
    (program,) = (c for c in commands(job) if "walk_packages" in c)
    ended = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert any(tmp_path.iterdir())


@pytest.mark.parametrize(("tag", "code"), [("right", 0), ("v0.0.0", 1)])
def test_a_tag_that_is_not_the_version_is_not_released(tag, code):
    loaded = workflow("release")
    assert loaded[True] == {"push": {"tags": ["v*"]}}
    (check,) = (c for c in commands(loaded["jobs"]["build"]) if "GITHUB_REF_NAME" in c)
    tag = f"v{keras_free_adv.__version__}" if tag == "right" else tag
    ended = subprocess.run(
        ["bash", "-c", check],
        cwd=ROOT,
        env={**os.environ, "GITHUB_REF_NAME": tag},
        check=False,
    )
    assert ended.returncode == code


def test_only_what_was_built_and_tested_is_published():
    jobs = workflow("release")["jobs"]
    assert "bash .ci/release dist" in commands(jobs["build"])
    publish = jobs["publish"]
    assert publish["needs"] == "build"
    assert publish["permissions"] == {"id-token": "write"}
    assert "secrets" not in (ROOT / ".github/workflows/release.yml").read_text()
    used = [step["uses"].split("@")[0] for step in publish["steps"]]
    assert used == ["actions/download-artifact", "pypa/gh-action-pypi-publish"]


def test_the_script_of_a_release_is_one_that_bash_reads_and_names_tests():
    script = ROOT / ".ci/release"
    subprocess.run(["bash", "-n", script], check=True)
    named = re.findall(r"tests/\S+\.py", script.read_text())
    assert len(named) >= 5
    for name in named:
        assert (ROOT / name).is_file()


def test_hooks_have_tools_that_the_project_allows():
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    versions = {
        hook["id"].split("-")[0]: repo["rev"].removeprefix("v")
        for repo in hooks
        for hook in repo["hooks"]
    }
    assert set(versions) == {"mypy", "ruff"}
    for text in EXTRAS["dev"]:
        tool = Requirement(text)
        if tool.name in versions:
            assert tool.specifier.contains(versions.pop(tool.name))
    assert not versions


# What no checkout has from git.
NOT_OURS = shutil.ignore_patterns(
    ".git", ".venv*", "build", "dist", "runs", "*.egg-info", "__pycache__", ".*_cache",
    ".hypothesis", "*.py[cod]",
)  # fmt: skip


@pytest.mark.long
@pytest.mark.skipif(not importlib.util.find_spec("build"), reason="needs build")
def test_the_sdist_has_all_and_the_wheel_the_package(tmp_path):
    """Without a connection: with the setuptools that is installed."""
    import tarfile
    import zipfile

    source, made = tmp_path / "source", tmp_path / "made"
    shutil.copytree(ROOT, source, ignore=NOT_OURS)
    expected = {
        path.relative_to(source).as_posix()
        for path in source.rglob("*")
        if path.is_file()
    }
    built = subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", made, source],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stdout + built.stderr
    stem = f"keras_free_adv-{keras_free_adv.__version__}"
    assert sorted(path.name for path in made.iterdir()) == [
        f"{stem}-py3-none-any.whl",
        f"{stem}.tar.gz",
    ]
    with tarfile.open(made / f"{stem}.tar.gz") as archive:
        names = {m.name.removeprefix(f"{stem}/") for m in archive if m.isfile()}
    made_by_it = {name for name in names if ".egg-info/" in name}
    assert names - made_by_it - {"PKG-INFO", "setup.cfg"} == expected

    with zipfile.ZipFile(made / f"{stem}-py3-none-any.whl") as archive:
        names = set(archive.namelist())
        metadata = archive.read(f"{stem}.dist-info/METADATA").decode()
    about = {name for name in names if name.startswith(f"{stem}.dist-info/")}
    package = {name for name in expected if name.startswith("keras_free_adv/")}
    assert names - about == package
    assert "keras_free_adv/py.typed" in package
    assert f"{stem}.dist-info/licenses/LICENSE" in about
    assert "\nAuthor: The keras_free_adv authors\n" in metadata
    for name in ("Homepage", "Documentation", "Issues", "Changelog"):
        url = "https://github.com/keras-free-adv/keras_free_adv"
        assert f"\nProject-URL: {name}, {url}" in metadata
