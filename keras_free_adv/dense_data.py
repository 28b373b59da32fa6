"""Refusals of data that is not one array of images: sparse, ragged, in a list."""

from typing import Any

import keras
import numpy as np

# By name: whatever the backend, data may come from TensorFlow.
_KINDS = {
    "SparseTensor": "sparse",
    "SparseTensorSpec": "sparse",
    "RaggedTensor": "ragged",
    "RaggedTensorSpec": "ragged",
}
_REMEDIES = {
    "sparse": "Make it dense first: tf.sparse.to_dense(tensor), or .toarray() in SciPy",
    "ragged": "Pad it to one size first: tensor.to_tensor()",
}


def require_dense(name: str, data: Any) -> None:
    """Raises if `data`, in any structure, holds sparse or ragged tensors.

    Args:
        name: of the argument.
        data: arrays and tensors, or a dataset of them.
    """
    is_dataset = hasattr(data, "element_spec")
    for part in keras.tree.flatten(data.element_spec if is_dataset else data):
        kind = _kind_of(part)
        if kind is not None:
            raise TypeError(
                f"Argument `{name}`{', a dataset,' if is_dataset else ''} must hold "
                f"dense arrays or tensors. Received: a {kind} one, "
                f"{type(part).__name__} of shape {tuple(part.shape)}. "
                f"{_REMEDIES[kind]}{' in dataset.map' if is_dataset else ''}."
            )


def require_no_list_of_minibatches(name: str, data: Any) -> None:
    """Raises if `data` is a list of minibatches.

    Args:
        name: of the argument.
        data: what should be arrays or a dataset.
    """
    is_list = isinstance(data, (list, tuple)) and len(data) > 0
    if is_list and all(map(_is_minibatch, data)):
        raise TypeError(
            f"Argument `{name}` must be arrays or a dataset. Received: a "
            f"{type(data).__name__} of {len(data)} minibatches (images, labels). "
            "Concatenate them, or pass tf.data.Dataset.from_generator(lambda: "
            "minibatches, output_signature=...)."
        )


def require_one_array(name: str, images: Any) -> None:
    """Raises if `images` is a list of minibatches, or of images of several sizes.

    Args:
        name: of the argument.
        images: what should be one array, a structure of one, or a dataset.
    """
    require_no_list_of_minibatches(name, images)
    if not isinstance(images, (list, tuple)) or len(images) < 2:
        return
    shapes = {tuple(i.shape) for i in images if _is_array(i)}
    of_one_rank = len({len(shape) for shape in shapes}) == 1
    if all(map(_is_array, images)) and of_one_rank and len(shapes) > 1:
        raise TypeError(
            f"Argument `{name}` must be one array of images of one size. Received: a "
            f"{type(images).__name__} of {len(images)} arrays of shapes "
            f"{sorted(shapes)[:4]}. Resize the images to one size and stack them: "
            "np.stack(images)."
        )


def _kind_of(part: Any) -> str | None:
    if type(part).__module__.startswith("scipy.sparse"):
        return "sparse"
    return _KINDS.get(type(part).__name__)


def _is_minibatch(item: Any) -> bool:
    is_pair = isinstance(item, (list, tuple)) and len(item) in (2, 3)
    return is_pair and all(_is_array(part) and len(part.shape) > 0 for part in item)


def _is_array(item: Any) -> bool:
    return (
        isinstance(item, np.ndarray)
        or keras.ops.is_tensor(item)
        or (hasattr(item, "shape") and hasattr(item, "dtype"))
    )
