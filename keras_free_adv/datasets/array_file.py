"""An .npz file with images and labels."""

import os
from typing import NamedTuple

import numpy as np

# The names of images and labels in the file, the first that are there.
NAMES = (
    ("x_{split}", "y_{split}"),
    ("{split}_images", "{split}_labels"),
    ("x", "y"),
    ("images", "labels"),
)
CLASS_NAMES = "class_names"
_IN_ADVANCE = 16_384  # of float images, to see which range they are of


class ArrayFile(NamedTuple):
    """What a file holds.

    Attributes:
        images: `[N, height, width, channels]`, as stored.
        labels: `[N]`, or one-hot rows.
        class_names: their names, if the file has them.
    """

    images: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...] | None

    def pixel_range(
        self, said: tuple[float, float] | None = None
    ) -> tuple[float, float]:
        """The range of the pixels: that of their type, or what they show.

        Args:
            said: what the user says it is.

        Raises:
            ValueError: floats that are not in [0, 1], and nothing said.
        """
        if said is not None:
            return said
        if self.images.dtype == np.uint8:
            return 0.0, 255.0
        looked_at = self.images[:_IN_ADVANCE]
        lowest, highest = float(looked_at.min()), float(looked_at.max())
        if lowest >= 0.0 and highest <= 1.0:
            return 0.0, 1.0
        raise ValueError(f"holds pixels from {lowest:g} to {highest:g}")


def array_file(path: str | os.PathLike, split: str) -> ArrayFile:
    """Reads a split of a file.

    Args:
        path: of the file. Images and labels are `x_train` and `y_train` for the split
            "train", or `train_images` and `train_labels`; or, whatever the split, `x`
            and `y`, or `images` and `labels`. `class_names` may be there.
        split: which part.

    Raises:
        ValueError: it cannot be read, or does not hold images and labels. The message
            goes on a sentence that begins with the file.
        FileNotFoundError: there is none.
    """
    if not os.path.exists(path):
        raise FileNotFoundError(f"There is no file {str(path)!r}.")
    images, labels, names = _read(path, split)
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim != 4 or len(images) != len(labels):
        raise ValueError(
            "must hold images [examples, height, width, channels] and as many labels. "
            f"Received: arrays of the shapes {images.shape} and {labels.shape}."
        )
    return ArrayFile(images, labels, names)


def _read(
    path: str | os.PathLike, split: str
) -> tuple[np.ndarray, np.ndarray, tuple[str, ...] | None]:
    try:
        with np.load(path, allow_pickle=False) as file:
            names = tuple(map(str, file[CLASS_NAMES])) if CLASS_NAMES in file else None
            for pair in NAMES:
                x, y = (one.format(split=split) for one in pair)
                if x in file and y in file:
                    return file[x], file[y], names
            held = ", ".join(file) or "nothing"
    except (OSError, ValueError, EOFError) as error:
        raise ValueError(f"cannot be read: {error}") from error
    expected = "; ".join(" and ".join(pair).format(split=split) for pair in NAMES)
    raise ValueError(
        f"must hold images and labels by the names {expected}. Received: {held}."
    )
