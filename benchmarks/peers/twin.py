"""A PyTorch network with the layers and weights of a Keras one.

PyTorch conventions inside (channels first, kernels transposed); the padding is Keras'.
"""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional


class Twin(nn.Module):
    """Computes what the exported Keras model does.

    Each layer runs once its inputs are there; a tensor is dropped after its last use,
    as it would be in a hand-written `forward`.

    Args:
        layers: the Keras layers, in an order in which they can run.
        arrays: their weights, by "number of the layer/number of the weight".
        channels_last: whether to compute in PyTorch's channels-last memory format.
    """

    def __init__(
        self, layers: list[dict[str, Any]], arrays: Any, channels_last: bool = False
    ) -> None:
        super().__init__()
        self._names = [layer["name"] for layer in layers]
        self._inputs = [layer["inputs"] for layer in layers]
        self._channels_last = channels_last
        self.steps = nn.ModuleList()
        for number, layer in enumerate(layers):
            if layer["kind"] not in KINDS:
                raise ValueError(
                    f"Cannot build {layer['kind']} {layer['name']!r} in PyTorch. Known "
                    f"layers: {sorted(KINDS)}."
                )
            weights = [
                torch.from_numpy(arrays[f"{number}/{k}"])
                for k in range(layer["weights"])
            ]
            self.steps.append(KINDS[layer["kind"]](layer, *weights))
        self._last_use = {
            name: number for number, used in enumerate(self._inputs) for name in used
        }
        self.eval().requires_grad_(False)
        if channels_last:
            self.to(memory_format=torch.channels_last)

    def forward(self, images: Tensor) -> Tensor:
        """Logits `[B, C]` of images `[B, channels, height, width]`."""
        if self._channels_last:
            images = _ToChannelsLast.apply(images)
        known: dict[str, Tensor] = {}
        for number, step in enumerate(self.steps):
            used = self._inputs[number]
            value = step(*(known[name] for name in used)) if used else images
            for name in set(used):
                if self._last_use[name] == number:
                    del known[name]
            known[self._names[number]] = value
        return value


def load_twin(path: str, channels_last: bool) -> Twin:
    """The twin of the model in an export."""
    with np.load(path) as export:
        return Twin(json.loads(str(export["layers"])), export, channels_last)


class _ToChannelsLast(torch.autograd.Function):
    """Attacks call `view` on images and gradients, so theirs stay channels-first."""

    @staticmethod
    def forward(context: Any, images: Tensor) -> Tensor:
        del context
        return images.contiguous(memory_format=torch.channels_last)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        del context
        return gradient.contiguous()


class _Affine(nn.Module):
    def __init__(self, scale: float, offset: float) -> None:
        super().__init__()
        self._scale, self._offset = scale, offset

    def forward(self, images: Tensor) -> Tensor:
        return images * self._scale + self._offset


class _Convolution(nn.Module):
    """A convolution with Keras' padding, which is on one side only where it is odd."""

    def __init__(self, layer: dict[str, Any], kernel: Tensor, bias: Any = None) -> None:
        super().__init__()
        self._size, self._strides = layer["kernel_size"], layer["strides"]
        self._same = layer["padding"] == "same"
        self._activation = _activation(layer)
        pads = [k // 2 if self._same else 0 for k in self._size]
        odd = all(k % 2 for k in self._size)
        self._simple = not self._same or (odd and set(self._strides) == {1})
        self._pads = [p + q for p, q in zip(pads, layer["zeros"], strict=True)]
        self.weight = nn.Parameter(kernel.permute(3, 2, 0, 1).contiguous())
        self.bias = None if bias is None else nn.Parameter(bias)

    def forward(self, x: Tensor) -> Tensor:
        if self._simple:
            pads = self._pads
        else:
            pads = [0, 0]
            x = functional.pad(x, self._keras_padding(x.shape[2:]))
        x = functional.conv2d(x, self.weight, self.bias, self._strides, pads)
        return self._activation(x)

    def _keras_padding(self, shape: Any) -> list[int]:
        pads: list[int] = []
        for length, size, stride in zip(shape, self._size, self._strides, strict=True):
            total = max((-(-length // stride) - 1) * stride + size - length, 0)
            pads = [total // 2, total - total // 2, *pads]  # the last axis first
        return pads


def _dense(layer: dict[str, Any], kernel: Tensor, bias: Any = None) -> nn.Module:
    dense = nn.Linear(*kernel.shape, bias=bias is not None)
    dense.weight = nn.Parameter(kernel.T.contiguous())
    if bias is not None:
        dense.bias = nn.Parameter(bias)
    return nn.Sequential(dense, _Function(_activation(layer)))


def _normalization(layer: dict[str, Any], *weights: Tensor) -> nn.Module:
    gamma, beta, mean, variance = weights
    norm = nn.BatchNorm2d(len(gamma), eps=layer["epsilon"])
    norm.weight, norm.bias = nn.Parameter(gamma), nn.Parameter(beta)
    norm.running_mean, norm.running_var = mean, variance
    return norm


class _Function(nn.Module):
    def __init__(self, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self._function = function

    def forward(self, *inputs: Tensor) -> Tensor:
        return self._function(*inputs)


def _activation(layer: dict[str, Any]) -> Callable[[Tensor], Tensor]:
    known = {
        "linear": lambda x: x,
        "relu": functional.relu,
        "silu": functional.silu,
    }
    if layer["activation"] not in known:
        raise ValueError(
            f"Cannot build activation {layer['activation']!r} of {layer['name']!r} in "
            f"PyTorch. Known activations: {list(known)}."
        )
    return known[layer["activation"]]


def _flat(x: Tensor) -> Tensor:
    return x.permute(0, 2, 3, 1).flatten(1)


KINDS: dict[str, Callable[..., nn.Module]] = {
    "InputLayer": lambda layer: nn.Identity(),
    "Rescaling": lambda layer: _Affine(layer["scale"], layer["offset"]),
    "Conv2D": _Convolution,
    "BatchNormalization": _normalization,
    "FusedBatchNormalization": _normalization,
    "Activation": lambda layer: _Function(_activation(layer)),
    "ReLU": lambda layer: nn.ReLU(),
    "Add": lambda layer: _Function(torch.add),
    "MaxPooling2D": lambda layer: nn.MaxPool2d(layer["pool_size"]),
    "GlobalAveragePooling2D": lambda layer: _Function(lambda x: x.mean((2, 3))),
    "Flatten": lambda layer: _Function(_flat),
    "Dense": _dense,
}
