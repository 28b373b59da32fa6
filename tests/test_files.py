import concurrent.futures
import contextlib
import errno
import fcntl
import os
import resource
import signal
import stat
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import filelock
import pytest

from keras_free_adv import files

# Without the package around it, so that a process takes no time to start. Kills itself
# before the system call of a number, of those that change or flush what is on the disk.
PROGRAM = textwrap.dedent(
    """
    import importlib.util, os, signal, sys
    from pathlib import Path

    source, number, what, path = sys.argv[1:]
    spec = importlib.util.spec_from_file_location("files", source)
    files = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(files)
    calls = 0

    def dying(call):
        def counted(*args, **kwargs):
            global calls
            calls += 1
            if calls == int(number):
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*args, **kwargs)
        return counted

    for name in ("mkdir", "open", "fsync", "rename", "replace", "rmdir", "unlink"):
        setattr(os, name, dying(getattr(os, name)))

    def write(path, text):
        with open(path, "w", opener=lambda path, flags: os.open(path, flags)) as file:
            for letter in text:
                file.write(letter)
                file.flush()
                os.fsync(file.fileno())

    path = Path(path)
    if what == "file":
        with files.atomic_write(path) as beside:
            write(beside, "new")
    elif what == "folder":
        with files.atomic_folder(path / "new") as beside:
            write(beside / "one", "new")
            write(beside / "two", "new")
        files.remove_folder(path / "old")
    print(calls)
    """
)


def calls_made(number, what, path):
    """Runs it to its death at a call; afterwards, how many calls it made, or None."""
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM, files.__file__, str(number), what, str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode in (0, -signal.SIGKILL), ended.stderr
    return int(ended.stdout) if ended.returncode == 0 else None


def test_a_file_is_written_whole(tmp_path):
    files.write_text(tmp_path / "folder" / "a.txt", "text")
    assert (tmp_path / "folder" / "a.txt").read_text() == "text"
    assert [p.name for p in (tmp_path / "folder").iterdir()] == ["a.txt"]


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.txt"
    files.write_text(path, "old")

    def write_half():
        with files.atomic_write(path) as beside:
            beside.write_text("half")
            raise OSError("the cable was pulled")

    with pytest.raises(OSError, match="a.txt.*the cable was pulled.*untouched"):
        write_half()
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_a_failed_folder_leaves_nothing(tmp_path):
    def write_half():
        with files.atomic_folder(tmp_path / "folder") as folder:
            (folder / "a").write_text("half")
            raise ValueError("another error is as it was")

    with pytest.raises(ValueError, match="^another error is as it was$"):
        write_half()
    assert list(tmp_path.iterdir()) == []


def test_the_name_beside_keeps_its_ending(tmp_path):
    with files.atomic_write(tmp_path / "model.keras") as beside:
        assert beside.suffix == ".keras"
        beside.write_text("")


def test_others_may_read_what_was_written(tmp_path):
    """A server under another account, say: the room beside is closed to it."""
    files.write_text(tmp_path / "file", "text")
    with files.atomic_folder(tmp_path / "folder"):
        pass
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain.txt").write_text("")
    for mine, plain in (("file", "plain.txt"), ("folder", "plain")):
        assert (tmp_path / mine).stat().st_mode == (tmp_path / plain).stat().st_mode


def test_a_kill_at_any_call_leaves_the_old_file_or_the_new_one(tmp_path):
    calls = calls_made(0, "file", tmp_path / "whole")
    assert calls > 8
    seen = set()
    for number in range(1, calls + 1):
        path = tmp_path / f"run-{number}" / "a.txt"
        files.write_text(path, "old")
        assert calls_made(number, "file", path) is None
        seen.add(path.read_text())
        # What is left beside goes, and the next write succeeds.
        files.discard_leftovers(path)
        assert [p.name for p in path.parent.iterdir()] == ["a.txt"]
    assert seen == {"old", "new"}


def test_a_kill_at_any_call_leaves_the_old_folder_or_the_new_one(tmp_path):
    def prepare(folder):
        (folder / "old").mkdir(parents=True)
        for name in ("one", "two"):
            (folder / "old" / name).write_text("old")

    prepare(tmp_path / "whole")
    calls = calls_made(0, "folder", tmp_path / "whole")
    assert calls > 15
    seen = set()
    for number in range(1, calls + 1):
        folder = tmp_path / f"run-{number}"
        prepare(folder)
        assert calls_made(number, "folder", folder) is None
        there = {path.name for path in folder.iterdir() if path.name[0] != "."}
        for name in there:
            found = {p.name: p.read_text() for p in (folder / name).iterdir()}
            assert found == {"one": name, "two": name}
        seen.add(frozenset(there))
        files.discard_leftovers(folder / "*")
        assert {path.name for path in folder.iterdir()} == there
    assert seen == {
        frozenset({"old"}),
        frozenset({"old", "new"}),
        frozenset({"new"}),
    }


def refused(path):
    with (
        pytest.raises(OSError, match="could not be written") as caught,
        files.atomic_write(path) as beside,
    ):
        beside.write_text("new")
    return caught.value


def test_a_path_through_a_file_is_refused_with_a_remedy(tmp_path):
    (tmp_path / "file").write_text("mine")
    for path in (tmp_path / "file" / "b" / "a.txt", tmp_path / "file" / "a.txt"):
        error = refused(path)
        assert str(path) in str(error)
        assert "is a file: remove it" in str(error) or "something else" in str(error)
    assert (tmp_path / "file").read_text() == "mine"


def test_a_file_does_not_take_the_place_of_a_folder(tmp_path):
    (tmp_path / "a" / "mine").mkdir(parents=True)
    error = refused(tmp_path / "a")
    assert error.errno == errno.EISDIR
    assert "It is a folder" in str(error)
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_an_unwritable_folder_is_refused_with_a_remedy(tmp_path):
    # For the superuser every folder is writable, but for those of the kernel.
    folder = Path("/proc/self") if os.geteuid() == 0 else tmp_path / "closed"
    if os.geteuid() == 0:
        if not folder.is_dir():
            pytest.skip("this system has no folder that the superuser cannot write to")
    else:
        folder.mkdir(mode=0o500)
    error = refused(folder / "a.txt")
    assert str(folder / "a.txt") in str(error)


@pytest.mark.parametrize("name", ["model.weights.h5", "model.keras", "arrays.npz"])
def test_a_full_disk_leaves_the_old_file(tmp_path, name):
    """No file may grow beyond a limit, as on a disk that is full."""
    import keras
    import numpy as np

    model = keras.Sequential([keras.Input((200,)), keras.layers.Dense(200)])

    def write(path):
        with files.atomic_write(path) as beside:
            if name.endswith("npz"):
                np.savez(beside, np.zeros((200, 200)))
            elif name.endswith("keras"):
                model.save(beside)
            else:
                model.save_weights(beside)

    path = tmp_path / name
    path.write_text("old")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(OSError, match=f"{name}.*too large.*untouched.*limit"):
            write(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert path.read_text() == "old"
    assert [left.name for left in tmp_path.iterdir()] == [name]
    write(path)
    assert path.stat().st_size > 100_000


def test_a_checksum_is_of_all_bytes(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(bytes(1000))
    before = files.checksum(path)
    path.write_bytes(bytes(999) + b"1")
    assert files.checksum(path) != before
    path.write_bytes(bytes(1000))
    assert files.checksum(path) == before


def test_a_write_removes_what_killed_writers_of_the_file_left(tmp_path):
    path = tmp_path / "report [1].json"
    left = tmp_path / f".{path.name}.being-written-abcdefgh"
    other = tmp_path / ".report 1.json.being-written-abcdefgh"
    mine = tmp_path / f".{path.name}-20240101"
    for folder in (left, other, mine):
        folder.mkdir()
        (folder / path.name).write_text("half")
    files.write_text(path, "whole")
    assert not left.exists()
    assert other.exists()
    assert mine.exists()


def test_of_a_link_the_file_that_it_leads_to_is_written(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    target, link = tmp_path / "elsewhere" / "a.txt", tmp_path / "link.txt"
    target.write_text("old")
    link.symlink_to(target)
    files.write_text(link, "new")
    assert link.is_symlink()
    assert target.read_text() == "new"


def test_a_writer_that_is_alive_is_left_alone(tmp_path):
    path = tmp_path / "a.txt"
    with files.atomic_write(path) as beside:
        files.discard_leftovers(path)
        files.write_text(path, "by another writer")
        beside.write_text("by this one")
    assert path.read_text() == "by this one"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_a_file_system_that_cannot_put_names_on_the_disk(tmp_path, monkeypatch):
    """Some network file systems: `fsync` of a folder is an error there."""
    real = os.fsync

    def fsync(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "Invalid argument")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    files.write_text(tmp_path / "a.txt", "text")
    assert (tmp_path / "a.txt").read_text() == "text"


def test_each_of_several_writers_gets_a_version_of_its_own(tmp_path):
    together = threading.Barrier(8)

    def write(number):
        def fill(folder):
            (folder / "who").write_text(str(number))
            together.wait()

        return files.write_version(tmp_path / "model", fill)

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        paths = list(pool.map(write, range(8)))
    assert sorted(int(path.name) for path in paths) == list(range(1, 9))
    for number, path in enumerate(paths):
        assert (path / "who").read_text() == str(number)
    assert len(list((tmp_path / "model").iterdir())) == 8
    # The next comes after the latest, whatever else is there.
    (tmp_path / "model" / "20").write_text("a file")
    (tmp_path / "model" / "30x").mkdir()
    together = threading.Barrier(1)
    assert write(9).name == "21"
    with pytest.raises(FileExistsError, match="Version 20 .* left as it is"):
        files.write_version(tmp_path / "model", lambda folder: None, 20)
    assert (tmp_path / "model" / "20").read_text() == "a file"
    with pytest.raises(ZeroDivisionError):
        files.write_version(tmp_path / "model", lambda folder: 1 / 0)
    assert not [p for p in (tmp_path / "model").iterdir() if p.name[0] == "."]


@pytest.mark.parametrize("error", [OSError(errno.ENOLCK, "No locks"), None])
def test_a_file_system_without_locks(tmp_path, monkeypatch, error):
    """Files are written all the same, and nobody's folder is taken for a leftover."""

    def acquire(*_, **__):
        raise error or NotImplementedError("no flock here")

    monkeypatch.setattr(filelock.BaseFileLock, "acquire", acquire)
    left = tmp_path / ".a.txt.being-written-abcdefgh"
    left.mkdir()
    files.write_text(tmp_path / "a.txt", "text")
    assert (tmp_path / "a.txt").read_text() == "text"
    assert left.is_dir()


def test_a_folder_that_is_taken_before_it_is_locked_is_replaced(tmp_path, monkeypatch):
    real = filelock.FileLock.acquire
    taken = []

    def acquire(lock, *args, **kwargs):
        folder = Path(lock.lock_file).parent
        if not taken and folder.is_dir():
            taken.append(folder)
            folder.rmdir()  # by another process that takes it for a leftover
            raise FileNotFoundError(errno.ENOENT, "No such file or directory")
        return real(lock, *args, **kwargs)

    monkeypatch.setattr(filelock.FileLock, "acquire", acquire)
    files.write_text(tmp_path / "a.txt", "text")
    assert len(taken) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_where_folders_cannot_be_opened_nor_open_files_removed(tmp_path, monkeypatch):
    """Windows: it also flushes only files that are open for writing."""
    real_open, real_fsync, real_unlink = os.open, os.fsync, os.unlink
    flushed, kept = [], []

    def names_of_open_files():
        names = set()
        for number in os.listdir("/proc/self/fd"):
            with contextlib.suppress(OSError):
                names.add(os.readlink(f"/proc/self/fd/{number}"))
        return names

    def refusing_folders(path, flags, *args, **kwargs):
        # Only the library's own calls: Linux' `rmtree` opens folders.
        if sys._getframe(1).f_globals is vars(files) and os.path.isdir(path):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return real_open(path, flags, *args, **kwargs)

    def fsync(descriptor):
        if not fcntl.fcntl(descriptor, fcntl.F_GETFL) & (os.O_RDWR | os.O_WRONLY):
            raise OSError(errno.EBADF, "Bad file descriptor")
        flushed.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        real_fsync(descriptor)

    def unlink(path, *args, dir_fd=None, **kwargs):
        folder = "" if dir_fd is None else os.readlink(f"/proc/self/fd/{dir_fd}")
        if os.path.join(folder, path) in names_of_open_files():
            kept.append(path)
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        real_unlink(path, *args, dir_fd=dir_fd, **kwargs)

    class WindowsLock(filelock.FileLock):
        """Removes its file after it was released."""

        def _release(self):
            super()._release()
            Path(self.lock_file).unlink(missing_ok=True)

    monkeypatch.setattr(files, "_WINDOWS", True)
    monkeypatch.setattr(filelock, "FileLock", WindowsLock)
    monkeypatch.setattr(os, "open", refusing_folders)
    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "unlink", unlink)
    left = tmp_path / ".a.txt.being-written-abcdefgh"
    left.mkdir()
    (left / "a.txt").write_text("half")

    files.write_text(tmp_path / "a.txt", "text")
    with files.atomic_folder(tmp_path / "folder") as folder:
        (folder / "inside").write_text("text")
    assert len(kept) >= 3  # the locks of both rooms, and of the leftover
    assert sorted(Path(path).name for path in flushed) == ["a.txt", "inside"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.txt", "folder"]
    files.remove_folder(tmp_path / "folder")
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
