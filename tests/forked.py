"""Python programs in processes of their own, which have imported TensorFlow already.

That takes ten seconds of a core, and many tests start a program. So one process imports
it, and others are forked from it: `multiprocessing` does that. What an import or an
environment variable that is read at import changes needs `subprocess`.
"""

import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import threading
import types
from pathlib import Path

from keras_free_adv import backends

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["keras"])


# JAX and PyTorch have threads of their own, which a fork leaves behind.
FORKS = backends.NAME == "tensorflow"


def python(*words, env=None, cwd=None, forks=FORKS):
    """As `subprocess.run([sys.executable, *words])`, with the output captured.

    Args:
        words: FILE, -m MODULE or -c PROGRAM, and its arguments.
        env: the environment, whose TF_CPP_MIN_LOG_LEVEL is "3" if None.
        cwd: the folder that it runs in.
        forks: False for a process that imports everything itself.
    """
    words, env = list(map(str, words)), _environment(env)
    if not forks:
        command = [sys.executable, *words]
        return subprocess.run(
            command, capture_output=True, text=True, env=env, cwd=cwd, check=False
        )
    with tempfile.TemporaryDirectory() as folder:
        said = [Path(folder, name) for name in ("stdout", "stderr")]
        process = CONTEXT.Process(target=_run, args=(words, env, cwd, said))
        process.start()
        process.join()
        texts = [path.read_text() for path in said]
    return subprocess.CompletedProcess(words, process.exitcode, *texts)


def start(*words, env=None):
    """As `subprocess.Popen([sys.executable, *words])`, all output in one pipe."""
    words, env = list(map(str, words)), _environment(env)
    if FORKS:
        return _Started(words, env)
    return subprocess.Popen(
        [sys.executable, *words],
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


class _Started:
    def __init__(self, words, env):
        reader, writer = CONTEXT.Pipe(duplex=False)
        said = [writer, writer]
        self._process = CONTEXT.Process(target=_run, args=(words, env, None, said))
        self._process.start()
        writer.close()
        self.stdout = os.fdopen(os.dup(reader.fileno()))
        reader.close()

    def communicate(self, timeout=None):
        texts = []
        reading = threading.Thread(
            target=lambda: texts.append(self.stdout.read()), daemon=True
        )
        reading.start()
        reading.join(timeout)
        if reading.is_alive():
            raise subprocess.TimeoutExpired("a forked program", timeout)
        self.stdout.close()
        self.wait()
        return texts[0], None

    @property
    def returncode(self):
        return self._process.exitcode

    def wait(self):
        self._process.join()
        return self.returncode

    def send_signal(self, number):
        if self._process.is_alive():
            os.kill(self._process.pid, number)

    def kill(self):
        self.send_signal(signal.SIGKILL)


def _environment(env):
    return {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"} if env is None else dict(env)


def _run(words, env, cwd, said):
    for number, place in enumerate(said, 1):
        is_path = isinstance(place, Path)
        flags = os.O_WRONLY | os.O_CREAT
        os.dup2(os.open(place, flags) if is_path else place.fileno(), number)
    os.environ.clear()
    os.environ.update(env)
    if cwd is not None:
        os.chdir(cwd)
    for given in reversed(env.get("PYTHONPATH", "").split(os.pathsep)):
        sys.path.insert(0, given)
    if env.get("PYTHONUNBUFFERED"):
        sys.stdout.reconfigure(line_buffering=True)
    first, *others = words
    if first == "-c":
        program, *others = others
        sys.argv = ["-c", *others]
        sys.path.insert(0, "")
        sys.modules["__main__"] = main = types.ModuleType("__main__")
        exec(compile(program, "<string>", "exec"), vars(main))
    elif first == "-m":
        module, *others = others
        sys.argv = [module, *others]
        sys.path.insert(0, os.getcwd())
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    else:
        sys.argv = [first, *others]
        sys.path.insert(0, str(Path(first).resolve().parent))
        runpy.run_path(first, run_name="__main__")
