"""Images and labels in an .npz file, and datasets.load of it."""

import numpy as np
import pytest

from keras_free_adv import datasets
from keras_free_adv.datasets.array_file import array_file

GENERATOR = np.random.default_rng(0)
PIXELS = GENERATOR.integers(0, 256, (7, 4, 4, 3), dtype="uint8")
LABELS = np.array([2, 0, 1, 1, 0, 2, 1])


@pytest.fixture
def path(tmp_path):
    """Of two splits, and the names of three classes."""
    path = tmp_path / "own.npz"
    names = ["cat", "dog", "eel"]
    np.savez_compressed(
        path,
        x_train=PIXELS,
        y_train=LABELS,
        x_test=PIXELS[:3] / 255.0,
        y_test=np.eye(3)[LABELS[:3]],
        class_names=names,
    )
    return path


def test_bytes_are_loaded_as_shares_of_255(path):
    data = datasets.load(str(path), split="train", batch_size=7, shuffle=False)
    images, labels = next(data.as_numpy_iterator())
    np.testing.assert_allclose(images, PIXELS / np.float32(255), rtol=1e-6)
    assert images.dtype == "float32"
    np.testing.assert_array_equal(labels, LABELS)
    assert data.class_names == ("cat", "dog", "eel")


def test_floats_and_one_hot_labels_are_what_they_are(path):
    data = datasets.load(str(path), split="test", batch_size=3)
    images, labels = next(data.as_numpy_iterator())
    np.testing.assert_allclose(images, PIXELS[:3] / 255.0, rtol=1e-6)
    np.testing.assert_array_equal(labels, LABELS[:3])


def test_a_training_split_is_shuffled_and_augmented(path):
    data = datasets.load(str(path), split="train", batch_size=7, augment="flip")
    images, labels = next(data.as_numpy_iterator())
    assert sorted(labels) == sorted(LABELS)
    both = [*(PIXELS / 255.0), *(PIXELS[:, :, ::-1] / 255.0)]
    for image in images:
        assert min(np.abs(image - each).max() for each in both) < 1e-6


def test_classes_without_names_are_numbered(tmp_path):
    np.savez(tmp_path / "plain.npz", x=PIXELS[..., 0], y=LABELS)
    data = datasets.load(str(tmp_path / "plain.npz"), split="any", batch_size=2)
    assert data.class_names == ("0", "1", "2")
    assert next(data.as_numpy_iterator())[0].shape == (2, 4, 4, 1)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"a": PIXELS}, "must hold images and labels by the names x_train and y_train"),
        ({"x": PIXELS, "y": LABELS[:3]}, "as many labels"),
        ({"x": PIXELS * 1.0, "y": LABELS}, "pixels from 0 to 255. Pixels must be"),
        (None, "There is no file"),
        ("text", "cannot be read"),
    ],
)
def test_what_cannot_be_read_is_said(tmp_path, content, said):
    path = tmp_path / "wrong.npz"
    if isinstance(content, str):
        path.write_text(content)
    elif content is not None:
        np.savez(path, **content)
    with pytest.raises(ValueError, match=f"Argument `name`.*{said}"):
        datasets.load(str(path), split="train", batch_size=2)


def test_a_file_says_the_range_of_its_pixels(tmp_path):
    np.savez(tmp_path / "wide.npz", x=PIXELS - 128.0, y=LABELS)
    stored = array_file(tmp_path / "wide.npz", "train")
    with pytest.raises(ValueError, match="holds pixels from -1"):
        stored.pixel_range()
    assert stored.pixel_range((-128.0, 127.0)) == (-128.0, 127.0)
