"""Which axis of images holds the channels."""

import keras
import numpy as np
import pytest
from keras import layers

from keras_free_adv import FreeAdversarialModel, image_axes

FIRST, LAST = "channels_first", "channels_last"


def convolution(data_format, shape=(3, 8, 8)):
    # The image of a layer that no CPU can run is still described.
    return keras.Sequential(
        [
            keras.Input(shape),
            layers.Rescaling(1 / 255),
            layers.Conv2D(2, 3, data_format=data_format),
            layers.GlobalAveragePooling2D(data_format=data_format),
        ]
    )


def behind_a_permutation():
    return keras.Sequential(
        [
            keras.Input((3, 8, 8)),
            layers.Permute((2, 3, 1)),
            layers.Conv2D(2, 3, data_format=LAST),
            layers.GlobalAveragePooling2D(data_format=LAST),
        ]
    )


class Subclassed(keras.Model):
    def __init__(self, *formats):
        super().__init__()
        self.parts = [layers.Conv2D(2, 3, data_format=f) for f in formats]


def dense():
    return keras.Sequential([keras.Input((3, 8, 8)), layers.Flatten()])


@pytest.mark.parametrize(
    ("build", "expected"),
    [
        (lambda: convolution(FIRST), FIRST),
        (lambda: convolution(LAST, (8, 8, 3)), LAST),
        (lambda: keras.Sequential([convolution(FIRST)]), FIRST),
        (lambda: FreeAdversarialModel(convolution(FIRST), 0.1), FIRST),
        (lambda: Subclassed(FIRST, FIRST), FIRST),
        (lambda: Subclassed(FIRST, LAST), None),
        (dense, None),
        (behind_a_permutation, None),
    ],
)
def test_what_a_model_shows(build, expected):
    model = build()
    assert image_axes.shown_by(model) == expected
    assert image_axes.resolve(None, model) == (expected or LAST)
    assert image_axes.resolve(LAST, model) == LAST
    before = keras.config.image_data_format()
    keras.config.set_image_data_format(FIRST)
    try:
        assert image_axes.resolve(None, model) == (expected or FIRST)
    finally:
        keras.config.set_image_data_format(before)


@pytest.mark.parametrize(
    ("shape", "right"),
    [
        ((2, 1, 8, 8), {FIRST}),
        ((2, 3, 32, 32), {FIRST}),
        ((2, 4, 32, 32), {FIRST}),
        ((2, 8, 8, 1), {LAST}),
        ((None, 32, 32, 3), {LAST}),
        # No number of channels, or one on both sides: either may be meant.
        ((2, 8, 8, 2), {FIRST, LAST}),
        ((2, 4, 4, 2), {FIRST, LAST}),
        ((2, 3, 8, 3), {FIRST, LAST}),
        ((2, 13, 64, 64), {FIRST, LAST}),
        ((2, 8, 8), {FIRST, LAST}),
        ((2, None, None, 3), {LAST, FIRST}),
    ],
)
def test_shapes_that_say_otherwise_are_refused(shape, right):
    for data_format in (FIRST, LAST):
        if data_format in right:
            image_axes.check_images(shape, data_format)
            continue
        (other,) = right
        with pytest.raises(ValueError, match=f"`data_format`.*data_format='{other}'"):
            image_axes.check_images(shape, data_format)


@pytest.mark.parametrize("data_format", [FIRST, LAST])
@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (2, 3, 4)])
def test_there_and_back(data_format, shape):
    images = np.arange(np.prod(shape)).reshape(shape)
    expected = images[..., None]
    if len(shape) == 4:
        expected = np.moveaxis(images, 1, -1) if data_format == FIRST else images
    moved = image_axes.to_last(images, data_format)
    np.testing.assert_array_equal(moved, expected)
    back = image_axes.from_last(moved, data_format, len(shape))
    np.testing.assert_array_equal(back, images)
