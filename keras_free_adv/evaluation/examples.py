"""Evaluation data that can be gone through again, once for each attack."""

import zlib
from collections.abc import Iterator

import numpy as np

from keras_free_adv.data.labelled_batches import LabelledBatches

# A dataset's examples are kept in memory up to this size, so that one that shuffles
# is still the same examples in the same order for every attack; a larger one is
# streamed again.
REMEMBERED_BYTES = 2 * 1024**3

NumberedBatch = tuple[np.ndarray, np.ndarray, np.ndarray]


class Examples:
    """Numbered minibatches (ids, images, labels), the same in every pass.

    Args:
        batches: the data.

    Attributes:
        checksum: of all images and labels in their order, after a whole pass.
        count: number of examples, after a whole pass.
    """

    def __init__(self, batches: LabelledBatches) -> None:
        self._batches = batches
        self._remembered: list[NumberedBatch] | None = None if batches.in_memory else []
        self.checksum: int | None = None
        self.count = 0

    def __iter__(self) -> Iterator[NumberedBatch]:
        if self.checksum is not None and self._remembered:
            yield from self._remembered
            return
        count, checksum = 0, 0
        for images, labels in self._batches:
            ids = np.arange(count, count + len(images))
            count += len(images)
            for part in (images, labels):
                checksum = zlib.crc32(np.ascontiguousarray(part).data, checksum)
            if self.checksum is None:
                self._remember((ids, images, labels))
            yield ids, images, labels
        if self.checksum not in (None, checksum):
            raise ValueError(
                "Argument `data` must hold the same examples in the same order each "
                "time it is read: it is read once for each attack. Received: a "
                "dataset that came in another order, and is too large to be kept in "
                "memory. Remove its shuffle and random augmentation."
            )
        self.count, self.checksum = count, checksum

    def _remember(self, batch: NumberedBatch) -> None:
        if self._remembered is None:
            return
        self._remembered.append(batch)
        if sum(images.nbytes for _, images, _ in self._remembered) > REMEMBERED_BYTES:
            self._remembered = None
