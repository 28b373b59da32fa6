"""Whether an update got slower from one checkout of this repository to another.

    git worktree add /tmp/before COMMIT
    python benchmarks/two_checkouts.py --before=/tmp/before --network=preact_resnet18_16

Each checkout has a process of its own; they take turns, `--updates` of Free training
each, and the ratio after / before is taken within a turn. Printed are the median of
those ratios and its 95% interval by the bootstrap.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from absl import app, flags

FLAGS = flags.FLAGS
flags.DEFINE_string("before", None, "The older checkout.", required=True)
flags.DEFINE_string("network", "preact_resnet18_16", "The network, of subjects.py.")
flags.DEFINE_string("method", "free8", "The method, of subjects.py.")
flags.DEFINE_string("policy", "float32", "Precision.")
flags.DEFINE_integer("batch_size", 128, "Images in a minibatch.", 1)
flags.DEFINE_integer("updates", 4, "Updates in a turn.", 1)
flags.DEFINE_integer("rounds", 30, "Turns of each.", 2)

# Reads a number of updates a line, and prints the seconds of each.
WORKER = """
import json, sys, warnings
import keras
from subjects import METHODS, NETWORKS, compiled
from timing import UpdateTimes, random_images

warnings.filterwarnings("ignore")
network, method, policy, batch_size = sys.argv[1:]
keras.config.set_dtype_policy(policy)
keras.utils.set_random_seed(0)
model = compiled(METHODS[method](NETWORKS[network]()))
times, batch_size = UpdateTimes(), int(batch_size)
images, labels = random_images(batch_size * 8)
for line in sys.stdin:
    times.seconds.clear()
    model.fit(images, labels, batch_size=batch_size, epochs=1, verbose=0,
              steps_per_epoch=int(line) + 1, callbacks=[times])
    print(json.dumps(times.seconds), flush=True)
"""


def worker(checkout: Path) -> subprocess.Popen:
    """A process that trains with the library of a checkout."""
    folders = [str(checkout), str(checkout / "benchmarks")]
    return subprocess.Popen(
        [
            *(sys.executable, "-c", WORKER, FLAGS.network, FLAGS.method, FLAGS.policy),
            str(FLAGS.batch_size),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(folders)},
    )


def turn(process: subprocess.Popen, updates: int) -> list[float]:
    """The seconds of each of these updates."""
    process.stdin.write(f"{updates}\n")
    process.stdin.flush()
    return json.loads(process.stdout.readline())


def main(argv: list[str]) -> None:
    del argv
    here = Path(__file__).resolve().parents[1]
    processes = [worker(Path(FLAGS.before)), worker(here)]
    for process in processes:
        turn(process, 2)  # traces
    ratios, least = [], [np.inf, np.inf]
    for number in range(FLAGS.rounds):
        order = (0, 1) if number % 2 == 0 else (1, 0)
        seconds = {which: turn(processes[which], FLAGS.updates) for which in order}
        least = [min(least[which], *seconds[which]) for which in (0, 1)]
        ratios.append(min(seconds[1]) / min(seconds[0]))
    draws = np.random.default_rng(0).choice(ratios, (10_000, len(ratios)))
    low, high = np.quantile(np.median(draws, axis=1), (0.025, 0.975))
    print(
        f"{FLAGS.network}, {FLAGS.policy}, {FLAGS.method}: after / before "
        f"{np.median(ratios):.4f} [{low:.4f}, {high:.4f}] "
        f"({FLAGS.rounds} rounds; minima {1e3 * least[1]:.1f} / {1e3 * least[0]:.1f} "
        f"ms, {least[1] / least[0]:.4f})",
        flush=True,
    )
    for process in processes:
        process.stdin.close()
        process.wait()


if __name__ == "__main__":
    app.run(main)
