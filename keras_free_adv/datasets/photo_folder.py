"""Images in a folder, with a subfolder for each class."""

import concurrent.futures
import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import tensorflow as tf

from keras_free_adv.datasets import decoding
from keras_free_adv.datasets.sources import Source

ENDINGS = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".webp")
_NAMED = 5
_AT_ONCE = 64  # files that are looked at side by side, at least


class PhotoFolder(NamedTuple):
    """What was found in a folder.

    Attributes:
        source: the images that can be decoded.
        skipped: files that cannot, each with the reason.
    """

    source: Source
    skipped: tuple[str, ...]


def photo_folder(
    folder: str | os.PathLike, channels: int = 3, limit: int | None = None
) -> PhotoFolder:
    """Finds the images of a folder, and decodes each once: a broken one is skipped.

    Classes are the names of the subfolders, in their order, as Keras'
    `image_dataset_from_directory` has them; images come from the classes in turn, so
    that the first so many of them are of all classes.

    Args:
        folder: the folder.
        channels: 1 for gray images, 3 for colour.
        limit: images to find; of the files after them few are decoded. None for all.

    Raises:
        ValueError: no image in a subfolder, or none that can be decoded.
    """
    folder = Path(folder)
    classes = class_names_of(folder)
    found = [_images_in(folder / name) for name in classes]
    in_turn = [
        (paths[row], label)
        for row in range(max(map(len, found)))
        for label, paths in enumerate(found)
        if row < len(paths)
    ]
    good: list[tuple[Path, int]] = []
    skipped: tuple[str, ...] = ()
    limit = len(in_turn) if limit is None else limit
    with concurrent.futures.ThreadPoolExecutor() as pool:
        while len(good) < limit and in_turn:
            count = max(limit - len(good), _AT_ONCE)
            looked_at, in_turn = in_turn[:count], in_turn[count:]
            reasons = pool.map(lambda each: _reason(each[0], channels), looked_at)
            for (path, label), reason in zip(looked_at, reasons, strict=True):
                if len(good) == limit:
                    break
                if reason:
                    skipped += (f"{path} ({reason})",)
                else:
                    good.append((path, label))
    if not good:
        raise ValueError(
            f"{str(folder)!r} holds no image that can be decoded: {_listed(skipped)}."
        )
    paths, labels = zip(*good, strict=True)
    examples = tf.data.Dataset.from_tensor_slices(
        ([str(path) for path in paths], tf.constant(labels, tf.int64))
    ).map(
        lambda path, label: (tf.io.read_file(path), label),
        num_parallel_calls=tf.data.AUTOTUNE,
    )
    size = sum(path.stat().st_size for path in paths)
    shape = (None, None, channels)
    source = Source(examples, len(paths), size, classes, shape, "any")
    return PhotoFolder(source, skipped)


def class_names_of(folder: str | os.PathLike) -> tuple[str, ...]:
    """The names of the classes: those of the subfolders, in their order.

    Raises:
        ValueError: the folder has not a subfolder with images for each of two or more
            classes.
    """
    folder = Path(folder)
    classes = _subfolders(folder)
    found = [_images_in(folder / name) for name in classes]
    if not any(found):
        raise ValueError(
            f"{str(folder)!r} has no subfolder with images ({', '.join(ENDINGS)}). "
            "Expected a subfolder for each class, named after it. Received: "
            f"{_listed(sorted(path.name for path in folder.iterdir()))}."
        )
    deeper = [folder / name for name in classes if _subfolders(folder / name)]
    if len(deeper) == len(classes):
        raise ValueError(
            f"{str(folder)!r} has subfolders ({_listed(classes)}) that have subfolders "
            "of their own: are these the classes? Pass one of them: "
            f"{_listed(repr(str(each)) for each in deeper)}."
        )
    if len(classes) == 1:
        raise ValueError(
            f"{str(folder)!r} has one subfolder, {classes[0]!r}, and a classifier "
            "needs two classes or more."
        )
    empty = [name for name, paths in zip(classes, found, strict=True) if not paths]
    if empty:
        raise ValueError(
            f"{str(folder)!r} has subfolders without an image: {_listed(empty)}. Every "
            "subfolder counts as a class: remove what is none."
        )
    return classes


def _subfolders(folder: Path) -> tuple[str, ...]:
    return tuple(sorted(path.name for path in folder.iterdir() if _is_class(path)))


def _is_class(path: Path) -> bool:
    return path.is_dir() and not path.name.startswith((".", "__"))


def _images_in(folder: Path) -> list[Path]:
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in ENDINGS
        and not path.name.startswith(".")
        and path.is_file()
    )


def _reason(path: Path, channels: int) -> str | None:
    """Why a file cannot be decoded, or None."""
    try:
        encoded = tf.io.read_file(str(path))
        decoding.decoded(encoded, channels)
    except (tf.errors.OpError, ValueError) as error:
        return _why(path, str(getattr(error, "message", error)))
    return None


def _why(path: Path, message: str) -> str:
    if not path.stat().st_size:
        return "an empty file"
    if "Unknown image file format" in message:
        return "no image in a known format"
    return "damaged"


def _listed(names: Iterable[str]) -> str:
    names = list(names)
    more = f", and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return (", ".join(map(str, names[:_NAMED])) or "nothing") + more
