"""`keras-free-adv`, run by a program: one that makes many runs, each in its process."""

import subprocess
import sys


def run(*words: str) -> None:
    """Runs a command, and shows what is run.

    Raises:
        SystemExit: it failed, or was interrupted; with its status.
    """
    print(f"== keras-free-adv {' '.join(words)}", flush=True)
    ended = subprocess.run(
        [sys.executable, "-m", "keras_free_adv", *words], check=False
    )
    if ended.returncode:
        raise SystemExit(ended.returncode)
