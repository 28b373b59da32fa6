"""Prints TF_CONFIG, which tells a worker where the others are and which one it is.

    export TF_CONFIG=$(python examples/tf_config.py --hosts="node1 node2" --worker=0)

Every worker is given the same hosts in the same order, and its own number.
"""

import json

from absl import app, flags

FLAGS = flags.FLAGS

flags.DEFINE_spaceseplist("hosts", None, "The workers' hosts, in order.", required=True)
flags.DEFINE_integer("worker", None, "Which of them this one is, from 0.", 0)
flags.mark_flag_as_required("worker")
flags.DEFINE_integer("port", 12345, "First port; each next worker listens on the next.")


def main(argv: list[str]) -> None:
    """Prints it on one line."""
    if len(argv) > 1:
        raise app.UsageError(f"Quote the hosts. Left over: {' '.join(argv[1:])}.")
    count = len(FLAGS.hosts)
    if FLAGS.worker >= count:
        raise app.UsageError(
            f"--worker must be below the number of hosts, {count}. Received: "
            f"{FLAGS.worker}. Workers are numbered from 0."
        )
    addresses = [f"{host}:{FLAGS.port + i}" for i, host in enumerate(FLAGS.hosts)]
    task = {"type": "worker", "index": FLAGS.worker}
    print(json.dumps({"cluster": {"worker": addresses}, "task": task}))


if __name__ == "__main__":
    app.run(main)
