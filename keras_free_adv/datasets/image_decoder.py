"""Encoded minibatches to images and labels, decoded and augmented."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import tensorflow as tf

from keras_free_adv.data import keys
from keras_free_adv.datasets import augmentation, decoding
from keras_free_adv.datasets.sources import Source
from keras_free_adv.distribution.padded_batch import WorkerSlice


class WholeMinibatch(NamedTuple):
    """Every example of a minibatch, where a `WorkerSlice` is some of them."""

    rows: int  # of a full minibatch

    def places(self, size: Any) -> Any:
        """The places of all `size` examples, int32 `[size]`."""
        return tf.range(size)


@dataclass(frozen=True)
class ImageDecoder:
    """Decodes and augments minibatches.

    Attributes:
        source: where they are from.
        batch_size: examples in a full minibatch.
        augment: see `load`.
        seed: of the augmentation.
        image_size: height and width to resize to, if they differ a pair; None for
            images of one size.
        one_hot: whether to make labels one-hot rows.
        value_range: of the images that come out.
    """

    source: Source
    batch_size: int
    augment: str
    seed: int
    image_size: int | tuple[int, int] | None
    one_hot: bool
    value_range: tuple[float, float] = (0.0, 1.0)

    def decode(
        self,
        encoded: tf.data.Dataset,
        first: Any,
        rows: WorkerSlice | WholeMinibatch,
    ) -> tf.data.Dataset:
        """Decodes those examples of each minibatch that `rows` selects.

        Args:
            encoded: minibatches (encoded image, label).
            first: the number of the first.
            rows: which examples of each.

        Returns:
            A dataset of ((images, labels), size of the whole minibatch).
        """
        parallel = {"num_parallel_calls": tf.data.AUTOTUNE}

        def select(number: Any, minibatch: Any) -> tuple[Any, ...]:
            size = tf.shape(minibatch[1])[0]
            places = rows.places(size)
            numbers = tf.repeat(number, tf.size(places))
            sizes = tf.fill(tf.shape(places), size)
            chosen = (tf.gather(part, places) for part in minibatch)
            return *chosen, places, numbers, sizes

        def example(image: Any, label: Any, place: Any, number: Any, size: Any) -> Any:
            image = self._image(
                image, number * self.batch_size + tf.cast(place, tf.int64)
            )
            if self.one_hot:
                label = tf.one_hot(label, self.source.classes)
            return image, label, place, number, size

        def augment(images: Any, y: Any, places: Any, numbers: Any, sizes: Any) -> Any:
            images = self._shifted(images, numbers[0], places, sizes[0])
            low, high = self.value_range
            if (low, high) != (0.0, 1.0):
                images = low + (high - low) * images
            return (images, y), sizes[0]

        examples = encoded.enumerate(first).map(select, **parallel).unbatch()
        decoded = examples.map(example, **parallel).batch(rows.rows)
        return decoded.map(augment, **parallel)

    def _fitted(self, pixels: Any, size: tuple[int, int]) -> Any:
        """A whole image, squeezed to a size or cut to its shape, in [0, 1]."""
        if self.source.fit == "crop":
            top, left, height, width = decoding.central_window(
                tf.shape(pixels), size, 0.0
            )
            pixels = pixels[top : top + height, left : left + width]
        return tf.clip_by_value(tf.image.resize(pixels, size) / 255.0, 0.0, 1.0)

    @property
    def _size(self) -> tuple[int, int] | None:
        size = self.image_size
        return (size, size) if isinstance(size, int) else size

    def _key(self, number: Any) -> Any:
        return keys.key(keys.AUGMENT, self.seed, number)

    def _image(self, image: Any, number: Any) -> Any:
        """One image, in [0, 1]; one that a window is cut of is augmented too."""
        size = self._size
        if size is not None and self.source.fit == "window":
            random = self.augment != "none"
            key = self._key(number)
            return _window(image, self.source, size, key, random=random)
        if size is not None:
            return self._fitted(decoding.decoded(image, self.source.shape[-1]), size)
        if self.source.encoding == "pixels":
            return image
        is_jpeg = self.source.encoding == "jpeg"
        return decoding.whole_image(image, self.source.shape, is_jpeg=is_jpeg)

    def _shifted(self, images: Any, number: Any, places: Any, size: Any) -> Any:
        """Images of one size, augmented as their whole minibatch is."""
        windows = self._size is not None and self.source.fit == "window"
        if windows or self.augment == "none":
            return images
        return augmentation.pad_crop_flip(
            images,
            self._key(number),
            padding=_padding(self.augment, self._size or self.source.shape[:2]),
            flip=self.source.mirrors,
            places=places,
            size=size,
        )


def _padding(augment: str, size: tuple[int | None, int | None]) -> tuple[int, int]:
    if augment == "flip":
        return 0, 0
    height, width = (n or 0 for n in size)
    return (2, 2) if augment == "standard_pad2" else (height // 8, width // 8)


def _window(
    encoded: Any, source: Source, size: tuple[int, int], key: Any, *, random: bool
) -> Any:
    """A window of the image, resized, in [0, 1]; no more of a JPEG is decoded."""

    def window_of(shape: Any) -> decoding.Window:
        if random:
            draw = keys.key(key[0], key[1], 0)
            return augmentation.random_window(shape, draw)
        return decoding.central_window(shape, size, decoding.margin_of(size[0]))

    pixels = decoding.resized_window(
        encoded,
        window_of,
        size,
        channels=source.shape[-1],
        is_jpeg=source.encoding == "jpeg",
    )
    if random:
        draw = keys.key(key[0], key[1], 1)
        pixels = tf.image.stateless_random_flip_left_right(pixels, draw)
    return pixels
