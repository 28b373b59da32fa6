"""Python programs in processes of their own, in which Keras is imported already.

To import TensorFlow takes ten seconds of a core, and many tests start a program. So one
process imports it, and others are forked from it: `multiprocessing` does that. They are
as fresh ones but for what is read at an import (environment variables, and what a
program hides from it), the hashes of strings, and the very end, which is `os._exit`.
Where that matters, `forks=False`.
"""

import atexit
import contextlib
import functools
import multiprocessing
import os
import random
import runpy
import signal
import subprocess
import sys
import tempfile
import threading
import types
from pathlib import Path

# This module is imported in the forked process: it must not import the package.
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["keras"])
# JAX and PyTorch have threads of their own, which a fork leaves behind.
FORKS = os.environ.get("KERAS_BACKEND", "tensorflow") == "tensorflow"


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
        for path in said:
            path.touch()
        process = _process(words, env, cwd, said)
        try:
            process.join()
        finally:
            process.kill()
            process.join()
        texts = [path.read_text() for path in said]
    return subprocess.CompletedProcess(words, process.exitcode, *texts)


def start(*words, env=None, errors=True, forks=FORKS):
    """As `subprocess.Popen([sys.executable, *words])`, its output in a pipe.

    Args:
        words: as of `python`.
        env: as of `python`.
        errors: whether what it writes to the standard error is in the pipe too.
        forks: as of `python`.
    """
    words, env = list(map(str, words)), _environment(env)
    if forks:
        return _Started(words, env, errors)
    return subprocess.Popen(
        [sys.executable, *words],
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT if errors else subprocess.DEVNULL,
        text=True,
    )


class _Started:
    def __init__(self, words, env, errors):
        reader, writer = CONTEXT.Pipe(duplex=False)
        said = [writer, writer if errors else Path(os.devnull)]
        self._process = _process(words, env, None, said)
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


def _process(words, env, cwd, said):
    """Started; it does not outlive this process."""
    search_path = _search_path(env.get("PYTHONPATH"))
    arguments = (words, env, cwd, said, search_path)
    process = CONTEXT.Process(target=_run, args=arguments, daemon=True)
    process.start()
    return process


@functools.cache
def _search_path(given):
    """Where a program finds modules, but for the folder of its own."""
    environment = {**os.environ, "PYTHONPATH": given} if given else dict(os.environ)
    if not given:
        environment.pop("PYTHONPATH", None)
    printed = subprocess.run(
        [sys.executable, "-c", "import sys; print(*sys.path[1:], sep='\\n')"],
        capture_output=True,
        text=True,
        env=environment,
        check=True,
    )
    return printed.stdout.splitlines()


def _run(words, env, cwd, said, search_path):
    for number, place in enumerate(said, 1):
        is_path = isinstance(place, Path)
        os.dup2(os.open(place, os.O_WRONLY) if is_path else place.fileno(), number)
    os.environ.clear()
    os.environ.update(env)
    if cwd is not None:
        os.chdir(cwd)
    sys.path[:] = search_path
    if env.get("PYTHONUNBUFFERED"):
        sys.stdout.reconfigure(line_buffering=True)
    random.seed()
    sys.modules["numpy"].random.seed()
    try:
        _run_as_main(*words)
    except Exception:
        sys.excepthook(*sys.exc_info())
        raise SystemExit(1) from None
    finally:
        with contextlib.suppress(ValueError):  # a standard stream that was closed
            atexit._run_exitfuncs()


def _run_as_main(first, *others):
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
