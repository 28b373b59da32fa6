"""The examples of a set, as stored: of this package, scikit-learn, a file, TFDS."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from keras_free_adv import validation
from keras_free_adv.datasets.array_file import array_file

LARGE = 100_000
CIFAR10_SAMPLE = Path(__file__).with_name("cifar10_sample.npz")
CIFAR10_CLASSES = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)
# Sets of letters and digits: a mirrored one is another sign, or none.
_SIGNS = ("emnist", "kmnist", "mnist", "mnist_corrupted", "omniglot", "svhn_cropped")


@dataclass(frozen=True)
class Source:
    """The examples of a split, in a fixed order.

    Attributes:
        examples: (image, label): the file's bytes, or pixels in [0, 1].
        size: number of examples.
        stored_bytes: their size as stored, about.
        class_names: the names of the classes, in the order of their numbers.
        shape: (height, width, channels); height and width are None if they vary.
        encoding: "jpeg", "any" (other encoded images), or "pixels".
        mirrors: whether a mirrored image still belongs to its class.
        fit: how images that vary in size are brought to one: "window" (a part is cut
            out, as is usual for ImageNet), "squeeze" (the whole image is resized) or
            "crop" (the largest central window is).
    """

    examples: tf.data.Dataset
    size: int
    stored_bytes: int
    class_names: tuple[str, ...]
    shape: tuple[int | None, int | None, int]
    encoding: str
    mirrors: bool = True
    fit: str = "window"

    @property
    def classes(self) -> int:
        """The number of classes."""
        return len(self.class_names)


def cifar10_sample(split: str) -> Source:
    """Test images of CIFAR-10 that come with this package, ten of each class."""
    validation.one_of("split", split, ("test",))
    with np.load(CIFAR10_SAMPLE, allow_pickle=False) as stored:
        x, y = stored["images"].astype("float32") / 255.0, stored["labels"]
    examples = tf.data.Dataset.from_tensor_slices((x, y))
    return Source(examples, len(x), x.nbytes, CIFAR10_CLASSES, x.shape[1:], "pixels")


def digits(split: str) -> Source:
    """scikit-learn's digits: 8x8 gray images, a fifth of them for testing."""
    try:
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split
    except ImportError as error:
        raise _missing("scikit-learn") from error
    validation.one_of("split", split, ("train", "test"))
    images, labels = load_digits(return_X_y=True)
    parts = train_test_split(
        (images / 16.0).astype("float32").reshape(-1, 8, 8, 1),
        labels.astype("int64"),
        test_size=0.2,
        random_state=0,
        stratify=labels,
    )
    x, y = (parts[0], parts[2]) if split == "train" else (parts[1], parts[3])
    examples = tf.data.Dataset.from_tensor_slices((x, y))
    names = tuple(str(digit) for digit in range(10))
    return Source(examples, len(x), x.nbytes, names, (8, 8, 1), "pixels", mirrors=False)


def from_array_file(name: str, split: str) -> Source:
    """An .npz file: see `array_file`."""
    try:
        stored = array_file(name, split)
        low, high = stored.pixel_range()
    except FileNotFoundError as error:
        raise ValueError(f"Argument `name`: {error}") from error
    except ValueError as error:
        raise ValueError(
            f"Argument `name`: {name} {error}. Pixels must be uint8, or floats in "
            f"[0, 1]. Received: split={split!r}."
        ) from error
    x, y = stored.images, labels_as_numbers(stored.labels)

    def in_unit_range(image: Any, label: Any) -> tuple[Any, Any]:
        return (tf.cast(image, tf.float32) - low) / (high - low), label

    examples = tf.data.Dataset.from_tensor_slices((x, y)).map(
        in_unit_range, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True
    )
    names = stored.class_names or tuple(map(str, range(int(y.max()) + 1)))
    return Source(examples, len(x), x.nbytes, names, x.shape[1:], "pixels")


def labels_as_numbers(labels: np.ndarray) -> np.ndarray:
    """Numbers of classes, `[N]`, of numbers or one-hot rows."""
    y = np.asarray(labels).reshape(len(labels), -1)
    return y.argmax(-1) if y.shape[-1] > 1 else y[:, 0].astype("int64")


def from_tfds(name: str, split: str, data_dir: str | None) -> Source:
    """An image classification set of TensorFlow Datasets."""
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise _missing("tensorflow-datasets") from error
    try:
        builder = tfds.builder(name, data_dir=data_dir)
    except tfds.core.registered.DatasetNotFoundError as error:
        raise ValueError(
            "Argument `name` must be 'digits' or the name of a TensorFlow Datasets "
            f"set. Received: name={name!r}. tfds.list_builders() lists them."
        ) from error
    features = dict(builder.info.features or {})
    image, label = (
        features.get(key) for key in builder.info.supervised_keys or ("", "")
    )
    if not isinstance(image, tfds.features.Image) or not isinstance(
        label, tfds.features.ClassLabel
    ):
        raise ValueError(
            "Argument `name` must be an image classification set, with an Image and a "
            f"ClassLabel. Received: name={name!r}, with {features}."
        )
    builder.download_and_prepare()
    # A large set is read from several files in turn, always in the same order.
    files_at_once = 16 if builder.info.splits.total_num_examples > LARGE else 1
    examples = builder.as_dataset(
        split=split,
        as_supervised=True,
        shuffle_files=False,
        read_config=tfds.ReadConfig(
            interleave_cycle_length=files_at_once, add_tfds_id=False
        ),
        decoders={builder.info.supervised_keys[0]: tfds.decode.SkipDecoding()},
    )
    size = int(examples.cardinality())
    return Source(
        examples,
        size,
        builder.info.dataset_size * size // builder.info.splits.total_num_examples,
        tuple(label.names),
        image.shape or (None, None, 3),
        "jpeg" if image.encoding_format == "jpeg" else "any",
        mirrors=builder.name not in _SIGNS,
    )


def _missing(package: str) -> ImportError:
    return ImportError(
        f"keras_free_adv.datasets.load needs {package} for this set. "
        'Install it with: pip install "keras_free_adv[datasets]"'
    )
