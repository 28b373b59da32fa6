"""What a model masks of its own input, such as padded time steps.

`keras.layers.Masking` hides the time steps whose features all equal a value. A
perturbation would give them other values, and padding would count as data. So the
mask is taken from the clean images, and what it hides is never perturbed.
"""

from typing import Any

import keras
from keras import layers, ops

from keras_free_adv import keras_internals

# Before a mask, layers that keep every pixel in its place: a mask on their output is
# one on their input.
_PIXELWISE = (
    layers.Identity,
    layers.Rescaling,
    layers.Normalization,
    layers.Reshape,
    layers.Dropout,
    layers.GaussianNoise,
    layers.ActivityRegularization,
)
# The same of operations on tensors (`inputs / 255.0`), by the names of their classes.
_PIXELWISE_OPERATIONS = {
    *("Add", "Subtract", "Multiply", "Divide", "TrueDivide", "Cast"),
    *("ExpandDims", "Squeeze", "Reshape"),
}


def visible_pixels(model: keras.Model, images: Any, number: int = 0) -> Any:
    """Which pixels the model does not mask.

    Args:
        model: the model. Of one without a graph (subclassed) it is known where a
            Masking layer is called on the images as they come.
        images: clean images, `[B, ...]`.
        number: of the images among the model's inputs.

    Returns:
        Bool, `[B, ...]`, true where no layer masks the images, in nested models too;
        or None if the model masks none.
    """
    masks, _ = _masks_of(model, images, number)
    visible = None
    for mask, values in masks:
        # A mask is of time steps; each hides all the features of one.
        shown = ops.broadcast_to(ops.expand_dims(mask, -1), ops.shape(values))
        shown = ops.reshape(shown, ops.shape(images))
        visible = shown if visible is None else ops.logical_and(visible, shown)
    return visible


def zero_where_masked(values: Any, visible: Any) -> Any:
    """`values` `[B, ...]`, such as a delta or a gradient, zero where not `visible`."""
    if visible is None or values is None:
        return values
    return ops.where(visible, values, ops.zeros_like(values))


def keep_masked(points: Any, images: Any, visible: Any) -> Any:
    """`points` `[B, ...]`, with the clean images' pixels where not `visible`."""
    return points if visible is None else ops.where(visible, points, images)


def _masks_on_the_way(
    inputs: list[Any], outputs: list[Any], number: int, images: Any
) -> tuple[list[tuple[Any, Any]], Any]:
    """Follows the images through a graph as far as every pixel stays in its place.

    Args:
        inputs: the graph's inputs, as symbolic tensors.
        outputs: its outputs.
        number: of the images among the inputs.
        images: `[B, ...]`.

    Returns:
        Each mask met, with the values that it belongs to; and the values at the
        graph's first output, or None if they are no longer the images' pixels.
    """
    masks = []
    reached = {id(inputs[number]): _of_rank(images, len(inputs[number].shape))}
    for call in keras_internals.calls_between(inputs, outputs):
        values = [reached.get(id(tensor)) for tensor in call.input_tensors]
        if len(values) != 1 or values[0] is None:
            continue
        operation = call.operation
        mask = _mask_of(operation, values[0])
        after = None
        if mask is not None:
            masks.append((mask, values[0]))
        elif _is_pixelwise(operation):
            after = keras_internals.call_again(call, values[0])
        elif isinstance(operation, layers.Layer):
            found, after = _masks_of(operation, values[0])
            masks += found
        if after is not None:
            reached[id(call.outputs[0])] = after
    return masks, reached.get(id(outputs[0]))


def _masks_of(
    model: layers.Layer, images: Any, number: int = 0
) -> tuple[list[tuple[Any, Any]], Any]:
    """As `_masks_on_the_way`, of a model, or a layer that holds others."""
    inputs = getattr(model, "inputs", None)
    outputs = getattr(model, "outputs", None)
    if isinstance(model, keras.Model) and inputs and outputs:
        return _masks_on_the_way(inputs, outputs, number, images)
    calls = keras_internals.inputs_of_masking_layers(model, images)
    masks = [
        (_mask_of(layer, images), images)
        for layer, values in calls
        if _is_cast_of(values, images)
    ]
    return masks, None


def _is_cast_of(values: Any, images: Any) -> bool:
    """Whether these are the images themselves, at most in another float type."""
    while values is not images and hasattr(values, "op"):
        if values.op.type not in ("Cast", "Identity"):
            break
        values = values.op.inputs[0]
    return values is images


def _mask_of(operation: Any, values: Any) -> Any:
    """The mask that a layer makes from its input, bool `[B, ...]`, or None."""
    makes_masks = isinstance(operation, layers.Layer) and (
        type(operation).compute_mask is not layers.Layer.compute_mask
    )
    if not makes_masks:
        return None
    # As the layer sees them: under float16 small numbers may be the mask's value.
    seen = ops.cast(values, operation.compute_dtype)
    mask = operation.compute_mask(seen, None)
    # Layers that pass on a former mask have none to pass on here.
    return mask if hasattr(mask, "shape") else None


def _is_pixelwise(operation: Any) -> bool:
    """Whether it keeps pixels in their place, in inference mode."""
    return (
        isinstance(operation, _PIXELWISE)
        or type(operation).__name__ in _PIXELWISE_OPERATIONS
    )


def _of_rank(images: Any, rank: int) -> Any:
    """As Keras itself adds or drops a last axis of size one."""
    if len(images.shape) == rank - 1:
        return ops.expand_dims(images, -1)
    if len(images.shape) == rank + 1:
        return ops.squeeze(images, -1)
    return images
