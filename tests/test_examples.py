"""The examples run, at a small size."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import keras
import numpy as np
import pytest

from keras_free_adv import datasets, plotting, zoo
from tests import forked
from tests.command_line.program import typed
from tests.conftest import said_by

EXAMPLES = Path(__file__).parent.parent / "examples"


def ended(name, *flags, **settings):
    return forked.python(EXAMPLES / name, *flags, **settings)


def run(name, *flags, **settings):
    process = ended(name, *flags, **settings)
    assert process.returncode == 0, process.stderr
    return process.stdout


def fails(name, *flags):
    process = ended(name, *flags)
    assert process.returncode != 0
    return process.stdout + process.stderr


def quickstart(folder, seed):
    flags = ["--updates=24", f"--seed={seed}", f"--output={folder}"]
    return run("quickstart.py", *flags, forks=False)  # as a user starts it


@pytest.fixture(scope="module")
def ended_quickstart(tmp_path_factory):
    """Its folder, and what it printed."""
    folder = tmp_path_factory.mktemp("quickstart")
    return folder, quickstart(folder, seed=5)


def test_quickstart_prints_the_table_and_saves_what_it_says(ended_quickstart):
    folder, out = ended_quickstart
    rows = [line for line in out.splitlines() if line.startswith("| ")]
    names = [row.split("|")[1].strip() for row in rows]
    assert names == ["training", "natural", "Free", "7-PGD"]
    assert {p.name for p in folder.iterdir()} == {
        "adversarial_examples.png",
        "free.keras",
        "history.json",
    }
    model = keras.models.load_model(folder / "free.keras")
    assert model.predict(np.zeros((2, 8, 8, 1)), verbose=0).shape == (2, 10)


@pytest.mark.long
@pytest.mark.by_hand
def test_a_seed_makes_the_quickstart_repeatable_bit_for_bit(ended_quickstart, tmp_path):
    quickstart(tmp_path, seed=5)
    results = []
    for folder in (ended_quickstart[0], tmp_path):
        model = keras.models.load_model(folder / "free.keras")
        weights = b"".join(weight.tobytes() for weight in model.get_weights())
        results.append((weights, (folder / "history.json").read_text()))
    assert results[0] == results[1]


def test_figures_draws_every_picture_in_every_format_and_shows_it(tmp_path):
    small = ["--updates=8", "--test_examples=8", "--dpi=20", "--formats=png,svg"]
    out = run("figures.py", *small, f"--output={tmp_path}")
    index = (tmp_path / "index.md").read_text()
    shown = re.findall(r"!\[.+\]\(\./(\w+)\.png\)", index)
    assert f"{len(shown)} figures in {tmp_path}" in out
    endings = {"png": b"\x89PNG", "svg": b"<?xml"}
    assert {path.name for path in tmp_path.iterdir()} == {
        "index.md",
        *(f"{name}.{ending}" for name in shown for ending in endings),
    }
    for name in shown:
        for ending, begin in endings.items():
            content = (tmp_path / f"{name}.{ending}").read_bytes()
            assert content.startswith(begin)
            assert len(content) < 2_000_000, (name, ending)
    # The command on the page is the one that made it.
    assert shlex.join(["python", "examples/figures.py", *small]) in index


def test_the_gallery_has_all_of_plotting():
    source = (EXAMPLES / "figures.py").read_text()
    missing = [n for n in plotting.__all__ if f"plotting.{n}(" not in source]
    assert not missing, "Add them to PICTURES in examples/figures.py."
    pictures = re.findall(r'^    "(\w+)": Picture\(', source, re.M)
    docs = EXAMPLES.parent / "docs"
    shown = re.findall(
        r"\(images/gallery/(\w+)\.png\)", (docs / "gallery.md").read_text()
    )
    remedy = "Run the command in docs/gallery.md."
    assert shown == pictures, remedy
    files = list((docs / "images/gallery").iterdir())
    assert sorted(path.stem for path in files) == sorted(pictures), remedy
    assert sum(path.stat().st_size for path in files) < 2_000_000


@pytest.mark.parametrize(
    ("flag", "said"),
    [
        ("--formats=png,gif", "must be some of png, svg, pdf. Received: png, gif"),
        ("--formats=", "Received: none"),
        ("more", "Unknown arguments: ['more']"),
    ],
)
def test_figures_refuses_what_it_cannot_write_before_it_trains(flag, said):
    out = fails("figures.py", flag)
    assert said in out
    assert "Training" not in out


def test_reproduce_table_makes_what_is_missing_and_prints_the_table(tmp_path):
    check_table(tmp_path, ["free4"])


@pytest.mark.long
@pytest.mark.by_hand
def test_rows_of_a_table_are_compared(tmp_path):
    check_table(tmp_path, ["free4", "free8"])


def check_table(tmp_path, names):
    flags = [
        "--table=digits",
        f"--rows={','.join(names)}",
        "--examples=24",
        "--monitor_every=20",
        "--verbose=0",
        f"--output={tmp_path}",
    ]
    assert "No row is finished" in fails("reproduce_table.py", "--notrain", *flags)
    out = run("reproduce_table.py", *flags)
    assert "== keras-free-adv train --recipe=digits_free4" in out
    printed = (tmp_path / "table-digits-full.md").read_text()
    assert printed in out
    rows = [line.split("|")[1].strip() for line in printed.splitlines() if "|" in line]
    assert rows[: 2 + len(names)] == ["training", "---", *names]
    report = json.loads(
        (tmp_path / "digits_free4" / "report-paper-24.json").read_text()
    )
    assert f"{100 * report['accuracy']['pgd100']:.1f} ±" in printed
    assert ("McNemar" in printed) is (len(names) == 2)
    picture = tmp_path / "curve-digits-full.png"
    assert f"against training time: {picture}" in printed
    assert picture.read_bytes().startswith(b"\x89PNG")
    # A second time there is nothing left to do.
    again = run("reproduce_table.py", *flags)
    assert "==" not in again
    assert printed in again


def test_rows_of_a_table_have_names_of_their_own(tmp_path):
    """--rows=free8 is the paper's row, not that of another network."""
    said = fails("reproduce_table.py", "--table=cifar10", "--rows=free")
    names = re.search(r"--rows must be of (.*?)\. Received", said, re.S)[1].split(", ")
    assert len(names) == len(set(names)) == 9
    assert {"free8", "preactresnet18_free8", "trades"} <= set(names)


def test_the_curve_charges_each_epoch_as_the_fastest(tmp_path):
    program = f"""
import json, sys
sys.path.insert(0, {str(EXAMPLES)!r})
import reproduce_table
from absl import flags
from keras_free_adv import recipes
flags.FLAGS(["", "--monitor_every=2", "--output={tmp_path}"])
recipe = recipes.get("digits_free8").replaced(epochs=5)
folder = reproduce_table.folder_of(recipe)
folder.mkdir()
# Looked at after epochs 2 and 4.
(folder / "history.json").write_text(json.dumps(
    {{"seconds": [9.0, 3.0, 2.0, 8.0, 4.0],
      "cpu_seconds": [6.0, 5.0, 7.0, 5.5, 5.5],
      "val_pgd20_accuracy": [0.1, 0.1, 0.3, 0.3]}}))
print(reproduce_table.curve(recipe))
flags.FLAGS.clock = "cpu"
print(reproduce_table.curve(recipe))
"""
    said = "([4.0, 8.0], [0.1, 0.3])\n([10.0, 20.0], [0.1, 0.3])\n"
    assert said_by(program) == said


QUICK = ["--set=epochs=2", "--set=steps_per_epoch=12", "--verbose=0"]


def test_a_changed_run_is_not_taken_for_the_recipe(tmp_path):
    flags = ["--recipe=digits_free4", *QUICK, "--test_examples=0"]
    typed("train", *flags, f"--output={tmp_path / 'digits_free4'}")
    said = fails(
        "reproduce_table.py",
        "--table=digits",
        "--rows=free4",
        f"--output={tmp_path}",
    )
    assert "epochs" in said
    assert "digits_free4" in said


def config(number, hosts=("a", "b")):
    addresses = [f"{host}:{12345 + i}" for i, host in enumerate(hosts)]
    task = {"type": "worker", "index": number}
    return {"cluster": {"worker": addresses}, "task": task}


def test_tf_config_tells_a_worker_of_the_others():
    printed = run("tf_config.py", "--hosts=a b", "--worker=1")
    assert json.loads(printed) == config(1)
    assert "below the number of hosts, 2. Received: 2" in fails(
        "tf_config.py", "--hosts=a b", "--worker=2"
    )
    assert "Quote the hosts" in fails("tf_config.py", "--hosts=a", "b", "--worker=0")


# Slurm's two commands, and one that says what the worker was started with.
STANDINS = {
    "scontrol": "echo a; echo b",
    "srun": 'shift 2; for i in 0 1; do SLURM_PROCID=$i "$@"; done',
    "python": f"""
if [ "$2" = keras_free_adv ]; then echo "$TF_CONFIG" "$@"; exit; fi
exec {sys.executable} "$@"
""",
}


def with_standins(tmp_path, script, *arguments, **environment):
    """The lines that a shell script prints when it meets the stand-ins."""
    for name, lines in STANDINS.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{lines}\n")
        (tmp_path / name).chmod(0o755)
    return subprocess.run(
        ["bash", *script, *arguments],
        cwd=EXAMPLES.parent,
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", **environment},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()


def test_the_slurm_script_starts_each_worker_with_its_number(tmp_path):
    flags = ["--recipe=digits_free8", "--set", "name=two words"]
    printed = with_standins(
        tmp_path,
        ["examples/slurm.sh"],
        *flags,
        SLURM_JOB_NODELIST="node[1-2]",
        SLURM_CPUS_PER_TASK="2",
    )
    for number, line in enumerate(printed):
        given, _, command = line.partition(" -m keras_free_adv train ")
        assert json.loads(given) == config(number)
        assert command == "--strategy=multi_worker --verbose=2 " + " ".join(flags)
    assert len(printed) == 2


def test_the_kubernetes_job_starts_each_worker_with_its_number(tmp_path):
    text = (EXAMPLES / "kubernetes.yaml").read_text()
    script = textwrap.dedent(
        re.search(r"args:\n +- \|\n(.*?)\n +resources:", text, re.S)[1]
    )
    (line,) = with_standins(tmp_path, ["-c", script], JOB_COMPLETION_INDEX="3")
    given, _, command = line.partition(" -m keras_free_adv train ")
    hosts = [f"free-adversarial-{i}.free-workers" for i in range(4)]
    assert json.loads(given) == config(3, hosts)
    assert "--strategy=multi_worker" in command


def test_the_readme_names_every_program_and_its_flags():
    text = (EXAMPLES / "README.md").read_text()
    for program in EXAMPLES.glob("*.py"):
        assert f"`{program.name}" in text
    for name, flags in re.findall(r"^python examples/(\w+)\.py (.*)$", text, re.M):
        source = (EXAMPLES / f"{name}.py").read_text()
        for flag in re.findall(r"--(\w+)", flags):
            assert f'"{flag}"' in source, (name, flag)


def test_cifar10_figures_draws_models_side_by_side(tmp_path):
    if not Path(os.environ.get("TFDS_DATA_DIR", ""), "cifar10").is_dir():
        pytest.skip("no CIFAR-10: TFDS_DATA_DIR names no folder that holds cifar10")
    data = datasets.load("cifar10", split="train[:1000]", batch_size=100)
    path = tmp_path / "linear.keras"
    model = keras.Sequential(
        [keras.Input((32, 32, 3)), keras.layers.Flatten(), keras.layers.Dense(10)]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss)
    model.fit(data, epochs=5, shuffle=False, verbose=0)
    model.save(path)
    both = [f"--runs=one={path}", f"--runs=m=4={path}"]
    run("cifar10_figures.py", *both, "--steps=2", f"--output={tmp_path / 'figures'}")
    drawn = {file.name for file in (tmp_path / "figures").iterdir()}
    names = ("targeted", "at_a_glance", "input_gradients", "large_epsilon")
    names += ("loss_surface",)
    assert drawn == {f"{name}.png" for name in names}
    said = fails("cifar10_figures.py", "--runs=one=nowhere")
    assert "--runs takes NAME=RUN or NAME=FILE. Received: one=nowhere" in said


def test_the_results_page_holds_what_the_kept_reports_print(tmp_path):
    docs = EXAMPLES.parent / "docs"
    folder = shutil.copytree(docs / "measured", tmp_path / "runs")
    small = ["--table=cifar10", "--scale=small", "--autoattack_rows=free8,pgd7"]
    out = run("reproduce_table.py", *small, "--notrain", f"--output={folder}")
    page = (docs / "results.md").read_text().splitlines()
    printed = [line for line in out.splitlines() if line.startswith("|")]
    assert len(printed) > 25
    assert [line for line in printed if line not in page] == []


def test_a_card_is_printed_and_a_run_without_reports_gets_none(tmp_path):
    said = run("make_pretrained.py", "--show=digits_free")
    assert said.strip() == str(zoo.card("digits_free"))
    said = fails("make_pretrained.py", f"--run={tmp_path}")
    assert "--about=SENTENCE are needed" in said
    said = fails("make_pretrained.py", f"--run={tmp_path}", "--about=Mine.")
    assert "is not the folder of a run" in said


@pytest.mark.long
@pytest.mark.by_hand
def test_recipes_are_compared_over_seeds(tmp_path):
    flags = [
        "--recipes=digits_free4,digits_fgsm_rs",
        "--seeds=0,1",
        "--attacks=pgd20",
        "--examples=120",
        "--autoattack_examples=20",
        "--verbose=0",
        f"--output={tmp_path}",
    ]
    assert "No run is finished" in fails("compare_recipes.py", "--notrain", *flags)
    out = run("compare_recipes.py", *flags)
    assert "== keras-free-adv train --recipe=digits_fgsm_rs" in out
    printed = (tmp_path / "comparison.md").read_text()
    assert printed in out
    seeds = []
    for name in ("digits_free4", "digits_free4-seed1"):
        report = json.loads((tmp_path / name / "report-pgd20-120.json").read_text())
        seeds.append(f"{100 * report['accuracy']['pgd20']:.1f}")
    assert f"| {', '.join(seeds)} |" in printed
    assert "p = " in printed
    again = run("compare_recipes.py", *flags)
    assert "==" not in again
    assert printed in again


def test_means_over_seeds_have_the_intervals_of_student():
    program = textwrap.dedent(
        """
        import compare_recipes
        print(compare_recipes.mean_and_half([40.0, 41.0, 42.0]))
        print(compare_recipes.difference([40.0, 41.0, 42.0], [38.0, 38.5, 39.0]))
        print(compare_recipes.mean_and_half([40.0]))
        """
    )
    ended = forked.python("-c", program, cwd=EXAMPLES)
    assert ended.returncode == 0, ended.stderr
    out = ended.stdout.split("\n")
    # 4.303 * 1 / sqrt(3) = 2.48; 2.776 * sqrt(1 / 3 + 0.25 / 3) = 1.79.
    assert out[:3] == ["41.0 ± 2.5", "+2.5 ± 1.8", "40.0"]


def test_compare_recipes_names_what_it_cannot_use():
    assert "--recipes=NAME,NAME is needed" in fails("compare_recipes.py")
    said = fails("compare_recipes.py", "--recipes=digits_fre4")
    assert "Did you mean digits_free4" in said


def test_the_results_page_holds_the_trials_that_are_kept():
    root = EXAMPLES.parent
    program = root / "benchmarks/small_recipe.py"
    kept = f"--output={root / 'docs/measured/small_recipe'}"
    ended = forked.python(program, "--table", kept)
    assert ended.returncode == 0, ended.stderr
    out = ended.stdout
    page = (root / "docs/results.md").read_text().splitlines()
    printed = [line for line in out.splitlines() if line.startswith("|")]
    assert len(printed) > 40
    assert [line for line in printed if line not in page] == []


def test_the_results_page_holds_what_the_kept_compact_runs_print(tmp_path):
    docs = EXAMPLES.parent / "docs"
    folder = shutil.copytree(docs / "measured", tmp_path / "runs")
    names = [f"cifar10_compact_{n}" for n in ("free", "fgsm_rs", "natural")]

    def tables(seeds):
        out = run(
            "compare_recipes.py",
            "--notrain",
            f"--recipes={','.join(names)}",
            f"--seeds={seeds}",
            "--examples=1000",
            f"--output={folder}",
        )
        return [line for line in out.splitlines() if line.startswith("|")]

    page = (docs / "results.md").read_text().splitlines()
    printed = tables("0,1,2")
    assert len(printed) == 9
    assert [line for line in printed if line not in page] == []
    # The front page's figures are those of the models in the package, of seed 0.
    printed = tables("0")
    for front in (docs.parent / "README.md", docs / "index.md"):
        text = front.read_text()
        free, natural = (
            next(line for line in printed if line.startswith(f"| {name} |"))
            for name in (names[0], names[2])
        )
        (_, _, _, minutes, clean, robust, *_), (_, _, _, longer, all_, none, *_) = (
            [cell.strip() for cell in line.split("|")] for line in (free, natural)
        )
        assert f"| {all_}% | {clean}% |" in text
        assert f"| {none}% | {robust}% |" in text
        assert f"| {longer} | {minutes} |" in text
