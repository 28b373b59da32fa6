"""Images and labels that a user names: a folder, a file, a data set, or a function."""

import importlib
import re
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from absl import flags

from keras_free_adv import datasets
from keras_free_adv.command_line import console
from keras_free_adv.command_line.command import CommandError
from keras_free_adv.datasets.array_file import array_file
from keras_free_adv.datasets.photo_folder import class_names_of

Range = tuple[float, float]

A_DATA_SET = "a data set"

_FUNCTION = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
_NAMED = 10  # of the files that are skipped


class Wanted(NamedTuple):
    """What is to be done with the data.

    Attributes:
        image_shape: (height, width, channels) that the model takes; None where any.
        value_range: of the model's pixels.
        split: of a data set or an .npz.
        batch_size: images in a minibatch.
        trains: whether to shuffle and to augment.
        augment: whether to augment, if it is for training.
        one_hot: whether labels are one-hot rows.
        drop_remainder: whether to leave out a short last minibatch.
        seed: of order and augmentation.
        crop: whether photographs are cut, not squeezed.
        classes: the names of the model's classes, if they are known.
        units: how many outputs it has.
        pixels: the range of float images in an .npz, if it is said.
        data_dir: where TFDS keeps its data.
        examples: how many of a folder's photographs are used, the first; None for all.
    """

    image_shape: tuple[int | None, ...]
    value_range: Range
    split: str
    batch_size: int
    trains: bool = False
    augment: str = "none"
    one_hot: bool = False
    drop_remainder: bool = False
    seed: int = 0
    crop: bool = False
    classes: tuple[str, ...] | None = None
    units: int | None = None
    pixels: Range | None = None
    data_dir: str | None = None
    examples: int | None = None

    def check_classes(self, name: str, found: tuple[str, ...]) -> None:
        """Raises if the data's classes cannot be those of the model."""
        if self.classes is not None and self.classes != found:
            raise CommandError(
                f"{name} has other classes than the model. The model's, in their "
                f"order: {', '.join(self.classes)}. Received: {', '.join(found)}. Name "
                "the subfolders as the model's classes."
            )
        known = None if self.units is None else max(self.units, 2)
        if known is not None and len(found) != known:
            raise CommandError(
                f"{name} has {len(found)} classes, and the model knows {known}. "
                f"Received: {', '.join(found)}."
            )


class ImageData(NamedTuple):
    """Images and labels.

    Attributes:
        name: what they were called by.
        minibatches: a dataset of (images, labels), or arrays of both, on the scale of
            the model's pixels.
        class_names: the names of the classes, if they are known.
        skipped: files that cannot be decoded.
    """

    name: str
    minibatches: Any
    class_names: tuple[str, ...] | None = None
    skipped: tuple[str, ...] = ()


def refuse_flags_that_do_not_apply(
    values: flags.FlagValues, name: str, size: int | None
) -> None:
    """Raises if a flag was typed that says nothing of this data.

    Args:
        values: the flags, those of `_define_data`.
        name: of the data.
        size: height and width that the model takes; None for any.
    """
    kind = kind_of(name)
    applies = {
        "split": ("an .npz", A_DATA_SET),
        "pixels": ("an .npz",),
        "crop": ("a folder",),
        "data_dir": (A_DATA_SET,),
    }
    for flag, kinds in applies.items():
        if values[flag].present and kind not in kinds:
            raise CommandError(
                f"--{flag} is for {' and '.join(kinds)}. Received: {name}, which is "
                f"{kind}. Leave it out.",
                flag,
            )
    if size is not None and values.image_size not in (None, size):
        raise CommandError(
            f"--image_size={values.image_size}: the model takes images of "
            f"{size}x{size} pixels, to which all are brought. Leave it out.",
            "image_size",
        )


def kind_of(name: str) -> str:
    """What a name of data stands for, in words."""
    if Path(name).is_dir():
        return "a folder"
    if Path(name).suffix == ".npz":
        return "an .npz"
    return "a function" if _FUNCTION.fullmatch(name) else A_DATA_SET


def image_data(name: str, wanted: Wanted) -> ImageData:
    """The data of a name.

    Raises:
        CommandError: there is none, or it does not fit the model.
    """
    path = Path(name)
    if path.is_dir():
        return _of_folder(name, wanted)
    if path.suffix == ".npz":
        return _of_arrays(name, wanted)
    if _FUNCTION.fullmatch(name):
        returned = _returned_by(name)
        if wanted.trains and isinstance(returned, (tuple, list)):
            low, high = wanted.value_range
            x, y = (np.asarray(part) for part in returned)
            return _to_train_on(name, (x - low) / (high - low), y, wanted)
        return ImageData(name, returned)
    if path.exists() or ("/" in name and not name.split("/")[0].isidentifier()):
        raise CommandError(
            f"DATA must be a folder with a subfolder for each class, an .npz file, the "
            f"name of a data set, or module:function. Received: {name!r}, which is "
            f"{'another kind of file' if path.exists() else 'not there'}."
        )
    return _of_data_set(name, wanted)


def _of_folder(name: str, wanted: Wanted) -> ImageData:
    height, width, channels = wanted.image_shape
    if height is None or width is None:
        raise CommandError(
            "The model takes images of any size: say which one. Pass --image_size=224.",
            "image_size",
        )
    if channels not in (1, 3):
        raise CommandError(
            "Photographs have 1 or 3 channels. Received: a model that takes "
            f"{channels}."
        )
    wanted.check_classes(name, class_names_of(name))
    # The decoders write to the console of a broken file; what is skipped is said below.
    with console.without_library_output(), console.without_warnings():
        dataset = datasets.load_folder(
            name,
            image_size=(height, width),
            channels=channels,
            batch_size=wanted.batch_size,
            crop=wanted.crop,
            shuffle=wanted.trains,
            augment=wanted.augment,
            seed=wanted.seed,
            one_hot=wanted.one_hot,
            drop_remainder=wanted.drop_remainder,
            value_range=wanted.value_range,
            max_examples=wanted.examples,
        )
    if dataset.skipped:
        _say_skipped(name, dataset.skipped)
    return ImageData(name, dataset, dataset.class_names, dataset.skipped)


def _say_skipped(name: str, skipped: tuple[str, ...]) -> None:
    count = len(skipped)
    files = "1 file" if count == 1 else f"{count} files"
    left = "is" if count == 1 else "are"
    print(f"Warning: of {name}, {files} cannot be decoded and {left} left out:")
    for each in skipped[:_NAMED]:
        print(f"  {each}")
    if count > _NAMED:
        print(f"  and {count - _NAMED} more")


def _of_data_set(name: str, wanted: Wanted) -> ImageData:
    height, width, _ = wanted.image_shape
    settings: dict[str, Any] = {
        "split": wanted.split,
        "batch_size": wanted.batch_size,
        "augment": wanted.augment,
        "one_hot": wanted.one_hot,
        "drop_remainder": wanted.drop_remainder,
        "seed": wanted.seed,
        "data_dir": wanted.data_dir,
        "shuffle": wanted.trains,
        "value_range": wanted.value_range,
    }
    try:
        dataset = datasets.load(name, **settings)
        if dataset.image_size not in (None, height) and height == width:
            dataset = datasets.load(name, image_size=height, **settings)
    except (ImportError, ValueError) as error:
        if isinstance(error, ImportError) and name == "digits":
            raise
        if isinstance(error, ValueError) and "Argument `name`" not in str(error):
            raise
        raise CommandError(
            f"There is no folder, no file and no data set {name!r}. Expected a folder "
            "with a subfolder for each class, an .npz file, the name of a data set "
            "(digits, cifar10_sample, or one of TensorFlow Datasets, which needs "
            'pip install "keras_free_adv[datasets]"), or module:function.'
        ) from error
    wanted.check_classes(name, dataset.class_names)
    return ImageData(name, dataset, dataset.class_names)


def _of_arrays(name: str, wanted: Wanted) -> ImageData:
    try:
        found = array_file(name, wanted.split)
    except FileNotFoundError as error:
        raise CommandError(str(error)) from error
    except ValueError as error:
        raise CommandError(f"{name} {error}") from error
    try:
        low, high = found.pixel_range(wanted.pixels)
    except ValueError as error:
        raise CommandError(
            f"{name} {error}: say their range. Pass --pixels=0,255, or what it is.",
            "pixels",
        ) from error
    images, labels, class_names = found
    if class_names is not None:
        wanted.check_classes(name, class_names)
    if wanted.trains:
        share = (images.astype("float32") - low) / (high - low)
        return _to_train_on(name, share, labels, wanted, class_names)
    to_low, to_high = wanted.value_range
    if (low, high) != (to_low, to_high) or images.dtype == np.uint8:
        share = (images.astype("float32") - low) / (high - low)
        images = to_low + (to_high - to_low) * share
    return ImageData(name, (images.astype("float32"), labels), class_names)


def _to_train_on(
    name: str,
    images: np.ndarray,
    labels: np.ndarray,
    wanted: Wanted,
    class_names: tuple[str, ...] | None = None,
) -> ImageData:
    """Arrays, images in [0, 1], as minibatches."""
    dataset = datasets.load_arrays(
        images,
        labels,
        batch_size=wanted.batch_size,
        shuffle=True,
        augment=wanted.augment,
        seed=wanted.seed,
        one_hot=wanted.one_hot,
        drop_remainder=wanted.drop_remainder,
        value_range=wanted.value_range,
    )
    return ImageData(name, dataset, class_names)


def _returned_by(name: str) -> Any:
    """What a user's function returns."""
    module_name, function_name = name.split(":")
    if "" not in sys.path:
        sys.path.insert(0, "")  # the folder that the command is given in
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise CommandError(
            f"DATA {name!r}: the module {module_name!r} cannot be imported: {error}."
        ) from error
    function = getattr(module, function_name, None)
    if not callable(function):
        raise CommandError(
            f"DATA {name!r}: the module {module_name!r} has no function "
            f"{function_name!r}."
        )
    returned = function()
    pair = isinstance(returned, (tuple, list)) and len(returned) == 2
    if not pair and not hasattr(returned, "element_spec"):
        raise CommandError(
            f"DATA {name!r} must return (images, labels) or a tf.data.Dataset of "
            f"minibatches of both. Received: {type(returned).__name__}."
        )
    return returned
