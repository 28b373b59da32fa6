import pytest

from keras_free_adv import files


def test_a_file_is_written_whole(tmp_path):
    files.write_text(tmp_path / "folder" / "a.txt", "text")
    assert (tmp_path / "folder" / "a.txt").read_text() == "text"
    assert [p.name for p in (tmp_path / "folder").iterdir()] == ["a.txt"]


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.txt"
    files.write_text(path, "old")

    def write_half():
        with files.written_beside(path) as beside:
            beside.write_text("half")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_half()
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_a_failed_folder_leaves_nothing(tmp_path):
    def write_half():
        with files.folder_written_beside(tmp_path / "folder") as folder:
            (folder / "a").write_text("half")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_half()
    assert list(tmp_path.iterdir()) == []


def test_the_name_beside_keeps_its_ending(tmp_path):
    with files.written_beside(tmp_path / "model.keras") as beside:
        assert beside.suffix == ".keras"
        beside.write_text("")
