"""The classes that a model predicts in an evaluation, and the first images to show."""

import dataclasses
from typing import Any

import numpy as np
from keras import ops

from keras_free_adv import image_axes

# How many examples are shown.
SHOWN = 8


@dataclasses.dataclass
class PredictedClasses:
    """The class that a model predicts of each of N images, without and under attack.

    Attributes:
        labels: the true classes, `[N]`.
        classes: "natural", then each attack's name, to the predicted classes, `[N]`:
            under an attack that of the image which fooled the model; of an example that
            was not fooled, or was wrong before, that without an attack.
        images: the first images, `[SHOWN or fewer, ...]`; None in a report that was
            read from a file.
        adversarial: each attack's name to the same images as that attack changed them;
            what it did not attack is unchanged. An attack whose result was resumed from
            a file of an earlier version is missing.
        class_names: names of the classes, if the data has them.
    """

    labels: np.ndarray
    classes: dict[str, np.ndarray]
    images: np.ndarray | None = None
    adversarial: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    class_names: tuple[str, ...] | None = None

    def name_of(self, number: int) -> str:
        """The name of a class, or its number."""
        known = self.class_names is not None and number < len(self.class_names)
        return self.class_names[number] if known else str(number)  # type: ignore[index]

    def to_dict(self) -> dict[str, Any]:
        """Labels and classes as plain values; images are left out."""
        return {
            "labels": self.labels.tolist(),
            "classes": {name: found.tolist() for name, found in self.classes.items()},
            "class_names": self.class_names and list(self.class_names),
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "PredictedClasses":
        """Reads what `to_dict` gave."""
        names = values["class_names"]
        return cls(
            np.array(values["labels"], int),
            {name: np.array(found, int) for name, found in values["classes"].items()},
            class_names=None if names is None else tuple(names),
        )


def channels_last(images: np.ndarray, data_format: str) -> np.ndarray:
    """Images with their channels last; what is no image stays as it is."""
    if images.ndim not in (3, 4):
        return images
    return ops.convert_to_numpy(image_axes.to_last(images, data_format))
