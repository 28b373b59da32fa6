"""A server goes on, whatever it is sent."""

import re
import struct
import zlib

import numpy as np
import pytest
import tensorflow as tf

from tests.serving.artifacts import (
    as_words,
    colour_images,
    colour_network,
    compiled_program,
    encoded,
    published,
    run_in_c,
    run_words,
    signatures,
)

IMAGES, _ = colour_images(2)
FLOATS = (IMAGES / 255).astype("float32")
PNG, JPEG = encoded(IMAGES[0], "PNG"), encoded(IMAGES[0], "JPEG")


@pytest.fixture(scope="module")
def artifact(tmp_path_factory):
    return published(colour_network(), tmp_path_factory.mktemp("artifact"))


def chunk(kind, data):
    checked = kind + data
    return (
        struct.pack(">I", len(data)) + checked + struct.pack(">I", zlib.crc32(checked))
    )


def png_of_zeros(width, height):
    """A file of a few kilobytes whose image has as many pixels as it says."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rows = zlib.compress(bytes((width + 1) * height))
    parts = (chunk(b"IHDR", header), chunk(b"IDAT", rows), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def with_pixel(value):
    images = FLOATS.copy()
    images[1, 2, 3, 0] = value
    return images


FLOAT_MISTAKES = {
    "NaN": (with_pixel(np.nan), "finite pixels from 0 to 1"),
    "infinity": (with_pixel(np.inf), "finite pixels from 0 to 1"),
    "pixels of 0 to 255": (255 * FLOATS, "serve_uint8"),
    "an empty batch": (FLOATS[:0], "one image or more"),
}
SHAPE_MISTAKES = {
    "one image without a batch": (FLOATS[0], "[batch, 8, 8, 3]"),
    "another size": (FLOATS[:, :4, :4], "[batch, 8, 8, 3]"),
    "as many numbers in another order": (FLOATS.reshape(2, 3, 8, 8), "[2 3 8 8]"),
    "an axis too many": (FLOATS[None], "[batch, 8, 8, 3]"),
    "a scalar": (FLOATS[0, 0, 0, 0], "[batch, 8, 8, 3]"),
}
FILE_MISTAKES = {
    "no image": b"hello",
    "nothing": b"",
    "a GIF": encoded(IMAGES[0], "GIF"),
    "a JPEG cut short": JPEG[: len(JPEG) * 2 // 3],
    "a JPEG cut in its header": JPEG[:20],
    "a PNG cut short": PNG[: len(PNG) // 2],
    "a PNG cut in its signature": PNG[:8],
    "a PNG of no pixels": png_of_zeros(0, 0),
    "100 megapixels in 97 KB": png_of_zeros(10_000, 10_000),
    "a JPEG of 65 megapixels": tf.io.encode_jpeg(
        np.zeros((8192, 8000, 1), "uint8")
    ).numpy(),
}


@pytest.mark.parametrize("mistake", FLOAT_MISTAKES)
def test_images_that_are_wrong_are_refused_by_name(artifact, mistake):
    images, said = FLOAT_MISTAKES[mistake]
    served = signatures(artifact)["serving_default"]
    with pytest.raises(tf.errors.InvalidArgumentError, match="Input `images`") as error:
        served(images=tf.constant(images))
    assert said in str(error.value)
    assert np.isfinite(served(images=tf.constant(FLOATS))["probabilities"]).all()


@pytest.mark.parametrize("mistake", FILE_MISTAKES)
def test_files_that_are_wrong_are_refused_by_name(artifact, mistake):
    served = signatures(artifact)["serve_bytes"]
    files = tf.constant([PNG, FILE_MISTAKES[mistake]])
    with pytest.raises(tf.errors.InvalidArgumentError, match="image_bytes"):
        served(image_bytes=files)
    assert served(image_bytes=tf.constant([PNG, JPEG]))["class_ids"].shape[0] == 2


def test_an_empty_batch_of_files_is_refused(artifact):
    served = signatures(artifact)["serve_bytes"]
    with pytest.raises(tf.errors.InvalidArgumentError, match="Input `image_bytes`"):
        served(image_bytes=tf.constant([], tf.string))


def test_pixels_may_overshoot_a_little(artifact):
    """As resizing does; the same tolerance as in training."""
    served = signatures(artifact)["serving_default"]
    served(images=tf.constant(with_pixel(1.005)))
    with pytest.raises(tf.errors.InvalidArgumentError, match="1.02"):
        served(images=tf.constant(with_pixel(1.02)))


def test_shapes_and_dtypes_are_checked_without_python(artifact, tmp_path):
    """TensorFlow's C++ session, as in the server, checks no shapes of its own."""
    program = compiled_program(tmp_path)
    for images, said in SHAPE_MISTAKES.values():
        ended, _ = run_in_c(program, artifact, "serving_default", images)
        assert ended.returncode == 1
        assert "Input `images` must have shape" in ended.stderr
        assert said in ended.stderr
    ended, _ = run_in_c(program, artifact, "serve_uint8", IMAGES[:, :4])
    assert "Input `images` must have shape" in ended.stderr
    files = np.array([[PNG]], object)
    ended, _ = run_in_c(program, artifact, "serve_bytes", files)
    assert "Input `image_bytes` must have shape [batch]" in ended.stderr
    # The dtype is TensorFlow's to check, and it names no input.
    ended, _ = run_in_c(program, artifact, "serving_default", IMAGES)
    assert "to be float but uint8 is provided" in ended.stderr
    ended, found = run_in_c(program, artifact, "serving_default", FLOATS)
    assert ended.returncode == 0
    assert found["probabilities"].shape == (2, 7)


@pytest.mark.long
def test_good_and_bad_requests_leave_memory_flat(artifact, tmp_path, request):
    """100,000 if run by hand, 4,000 in CI, in the session that servers use.

    Not through Python: there TensorFlow keeps 0.9 KB of each request that fails, of
    any SavedModel.
    """
    program = compiled_program(tmp_path)
    good = [
        ("serving_default", FLOATS),
        ("serve_uint8", IMAGES),
        *(("serve_bytes", np.array([file], object)) for file in (PNG, JPEG)),
    ]
    bad = [
        *(("serving_default", images) for images, _ in FLOAT_MISTAKES.values()),
        *(("serving_default", images) for images, _ in SHAPE_MISTAKES.values()),
        *(("serve_bytes", np.array([f], object)) for f in FILE_MISTAKES.values()),
    ]
    requests = [as_words(artifact, *one) for one in good * 5 + bad]
    everything = "long" in request.config.getoption("markexpr")
    rounds = (100_000 if everything else 4_000) // len(requests)
    ended = run_words(program, artifact, rounds, *requests)
    assert len(re.findall(r"^\S+:\d \d+x7$", ended.stdout, re.M)) == len(good) * 5
    used = np.array(re.findall(r"^round \d+: (\d+) KiB$", ended.stderr, re.M), int)
    slope = np.polyfit(np.arange(6), used[-6:], 1)[0] * 10 / (rounds * len(requests))
    print(f"{rounds * len(requests)} requests: {used[0]} to {used[-1]} KiB in memory")
    assert slope * 1024 < (10 if everything else 1000)
