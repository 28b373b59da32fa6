"""`datasets.load_folder`: as Keras' own loader has it, and more."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_free_adv import datasets
from keras_free_adv.data.addressable_dataset import minibatches_from


@pytest.fixture
def folder(tmp_path):
    """Ten images of noise: six of cats, four of dogs, of unlike sizes."""
    generator = np.random.default_rng(0)
    for number in range(10):
        path = tmp_path / ("cat" if number < 6 else "dog") / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        pixels = generator.integers(0, 256, (12 + number, 20 - number, 3))
        path.write_bytes(tf.io.encode_png(tf.constant(pixels, tf.uint8)).numpy())
    return tmp_path


def read(dataset):
    """All images and labels of a pass."""
    images, labels = zip(*dataset.as_numpy_iterator(), strict=True)
    return np.concatenate(images), np.concatenate(labels)


@pytest.mark.parametrize("crop", [False, True])
def test_images_are_those_of_keras_own_loader(folder, crop):
    theirs = keras.utils.image_dataset_from_directory(
        folder,
        image_size=(9, 7),
        batch_size=4,
        shuffle=False,
        crop_to_aspect_ratio=crop,
        verbose=False,
    )
    expected, labels = read(theirs)
    data = datasets.load_folder(folder, image_size=(9, 7), batch_size=4, crop=crop)
    assert data.class_names == tuple(theirs.class_names) == ("cat", "dog")
    images, found = read(data)
    # Here the classes take turns; there one comes after the other.
    assert found.tolist() == [0, 1, 0, 1, 0, 1, 0, 1, 0, 0]
    for label in (0, 1):
        ours, others = images[found == label], expected[labels == label] / 255
        if not crop:
            np.testing.assert_allclose(ours, others, atol=1e-5)
        # A window may begin a pixel further: of noise, most is the same.
        assert np.median(np.abs(ours - others)) < (0.02 if crop else 1e-5)


def test_gray_images_are_made_of_any_file(folder):
    colour, _ = read(datasets.load_folder(folder, image_size=8, batch_size=10))
    gray, _ = read(
        datasets.load_folder(folder, image_size=8, batch_size=10, channels=1)
    )
    assert gray.shape == (10, 8, 8, 1)
    luminance = colour @ np.array([0.2989, 0.587, 0.114])
    np.testing.assert_allclose(gray[..., 0], luminance, atol=0.01)


def test_the_order_follows_from_the_seed_and_can_be_entered_anywhere(folder):
    def shuffled(seed):
        return datasets.load_folder(
            folder,
            image_size=8,
            batch_size=4,
            shuffle=True,
            augment="standard",
            seed=seed,
        )

    data = shuffled(3)
    passes = [read(minibatches_from(data, 3 * n).take(3)) for n in range(2)]
    assert not np.array_equal(passes[0][0], passes[1][0])
    assert sorted(passes[1][1]) == [0] * 6 + [1] * 4
    again = read(minibatches_from(shuffled(3), 4).take(2))
    np.testing.assert_array_equal(again[0], passes[1][0][4:])
    assert not np.array_equal(read(shuffled(4))[0], passes[0][0])


def test_flips_are_of_about_half_of_the_images_and_nothing_else(folder):
    plain, _ = read(datasets.load_folder(folder, image_size=8, batch_size=10))
    flipped = np.zeros(10)
    for seed in range(20):
        data = datasets.load_folder(
            folder, image_size=8, batch_size=10, augment="flip", seed=seed
        )
        images, _ = read(data)
        same = np.isclose(images, plain, atol=1e-5).all((1, 2, 3))
        mirrored = np.isclose(images, plain[:, :, ::-1], atol=1e-5).all((1, 2, 3))
        assert np.all(same ^ mirrored)
        flipped += mirrored
    assert 60 < flipped.sum() < 140  # 100 are expected, with a deviation of 7
    assert np.all((flipped > 1) & (flipped < 19))


def test_broken_files_are_named_and_left_out(folder):
    (folder / "cat" / "cut.jpg").write_bytes(b"\xff\xd8\xff\xe0 and no more")
    (folder / "dog" / "empty.png").touch()
    (folder / "dog" / "text.gif").write_text("no image")
    (folder / "dog" / ".hidden.png").touch()
    with pytest.warns(UserWarning, match="is no image that can be") as warned:
        data = datasets.load_folder(folder, image_size=8, batch_size=4)
    named = sorted(str(one.message).split(" is no image")[0] for one in warned)
    assert named == [
        f"{folder}/cat/cut.jpg (damaged)",
        f"{folder}/dog/empty.png (an empty file)",
        f"{folder}/dog/text.gif (no image in a known format)",
    ]
    assert len(data.skipped) == 3
    assert len(read(data)[0]) == 10


def test_so_many_are_taken_and_the_files_after_them_are_not_decoded(folder):
    whole, labels = read(datasets.load_folder(folder, image_size=8, batch_size=4))
    (folder / "cat" / "0.jpg").write_bytes(b"\xff\xd8\xff\xe0 and no more")
    (folder / "dog" / "z.png").touch()  # the fifth dog
    settings = {"image_size": 8, "batch_size": 4}
    with pytest.warns(UserWarning, match="is no image that can be") as warned:
        data = datasets.load_folder(folder, max_examples=5, **settings)
    assert [str(one.message).split(" (")[0] for one in warned] == [
        f"{folder}/cat/0.jpg"
    ]
    # The broken cat is left out, and the next ones take its turn.
    found, numbers = read(data)
    assert numbers.tolist() == [1, 0, 1, 0, 1]
    cats, dogs = whole[labels == 0], whole[labels == 1]
    expected = [dogs[0], cats[0], dogs[1], cats[1], dogs[2]]
    np.testing.assert_array_equal(found, np.stack(expected))
    with pytest.warns(UserWarning, match="is no image that can be"):
        data = datasets.load_folder(folder, max_examples=99, **settings)
    assert len(read(data)[0]) == 10


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"augment": "standard_pad2"}, "`augment`"),
        ({"channels": 4}, "`channels`"),
        ({"image_size": 0}, "`image_size`"),
        ({"image_size": (8, -1)}, "`image_size`"),
        ({"batch_size": 0}, "`batch_size`"),
        ({"max_examples": 0}, "`max_examples`"),
        ({"batch_size": 11, "drop_remainder": True}, "holds 10 images, too few"),
    ],
)
def test_a_wrong_argument_is_named(folder, changes, said):
    with pytest.raises(ValueError, match=said):
        datasets.load_folder(folder, **{"image_size": 8, "batch_size": 4, **changes})


def test_labels_are_one_hot_for_label_smoothing(folder):
    data = datasets.load_folder(folder, image_size=8, batch_size=4, one_hot=True)
    np.testing.assert_array_equal(read(data)[1][:2], np.eye(2))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("ending", ["webp", "gif", "bmp", "jpg", "JPEG", "png"])
def test_every_format_is_read(tmp_path, ending, channels):
    image = pytest.importorskip("PIL.Image", reason="needs Pillow, to write the files")
    pixels = np.full((8, 8, 3), (200, 120, 40), "uint8")
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        image.fromarray(pixels).save(tmp_path / name / f"1.{ending}")
    data = datasets.load_folder(tmp_path, image_size=8, batch_size=2, channels=channels)
    images, _ = read(data)
    assert images.shape == (2, 8, 8, channels)
    expected = pixels[0, 0] if channels == 3 else pixels[0, 0] @ [0.2989, 0.587, 0.114]
    np.testing.assert_allclose(images, np.full_like(images, expected / 255), atol=0.03)


def test_pixels_of_another_range_are_shuffled_and_augmented_anew_all_the_same(folder):
    settings = {"image_size": 8, "batch_size": 10, "shuffle": True, "seed": 5}
    settings["augment"] = "standard"
    unit = datasets.load_folder(folder, **settings)
    levels = datasets.load_folder(folder, value_range=(-1, 255), **settings)
    passes = [read(minibatches_from(levels, n).take(1)) for n in range(2)]
    assert not np.array_equal(passes[0][1], passes[1][1]) or not np.array_equal(
        passes[0][0], passes[1][0]
    )
    for number, (images, labels) in enumerate(passes):
        expected, same = read(minibatches_from(unit, number).take(1))
        np.testing.assert_allclose(images, 256 * expected - 1, atol=1e-3)
        np.testing.assert_array_equal(labels, same)


def test_arrays_come_as_minibatches_shuffled_by_the_seed():
    images = np.arange(6, dtype="float32").reshape(6, 1, 1, 1) / 10
    labels = np.arange(6)
    data = datasets.load_arrays(
        images, labels, batch_size=4, shuffle=True, value_range=(0, 10)
    )
    found = [read(minibatches_from(data, 2 * n).take(2)) for n in range(2)]
    assert found[0][1].tolist() != found[1][1].tolist()
    for x, y in found:
        np.testing.assert_allclose(x.ravel(), y, atol=1e-5)
        assert sorted(y) == list(range(6))
    rows = datasets.load_arrays(images, np.eye(6), batch_size=6)
    assert read(rows)[1].tolist() == labels.tolist()
    with pytest.raises(ValueError, match="`images`"):
        datasets.load_arrays(images + 7, labels, batch_size=4)
