"""One small function for each PyTorch layer: from a value and its shape to the next."""

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import torch
from torch import nn

from bcd_implicit.convert.images import Window, averages, convolution, maxima
from bcd_implicit.convert.network import Network, Value

__all__ = ["LAYERS", "Tensor", "add", "flattened"]


@dataclass(frozen=True)
class Tensor:
    """A value and its shape without the batch: ``(features,)`` or ``(channels, height, width)``."""

    value: Value
    shape: tuple[int, ...]

    @property
    def image(self) -> tuple[int, int]:
        """Height and width."""
        if len(self.shape) != 3:
            raise ValueError(
                f"expects an image (channels, height, width); got shape {self.shape}: give "
                "input_shape=(channels, height, width)"
            )
        return self.shape[1], self.shape[2]


Layer = Callable[[Network, Tensor, Any], Tensor]


def flattened(tensor: Tensor) -> Tensor:
    """Return the same numbers as a vector."""
    return Tensor(tensor.value, (prod(tensor.shape),))


def add(network: Network, first: Tensor, second: Tensor) -> Tensor:
    """Return a sum, as at the end of a residual block."""
    if first.shape != second.shape:
        raise ValueError(f"adds tensors of shapes {first.shape} and {second.shape}")
    return Tensor(network.settled(first.value + second.value), first.shape)


def _linear(network: Network, x: Tensor, layer: nn.Linear) -> Tensor:
    if x.shape != (layer.in_features,):
        raise ValueError(
            f"expects {layer.in_features} features; got shape {x.shape}: is a Flatten missing, or "
            "is input_shape another?"
        )
    return Tensor(
        network.linear(x.value, _array(layer.weight), _array(layer.bias)), (layer.out_features,)
    )


def _conv(network: Network, x: Tensor, layer: nn.Conv2d) -> Tensor:
    image = x.image
    if x.shape[0] != layer.in_channels:
        raise ValueError(f"expects {layer.in_channels} channels; got shape {x.shape}")
    if layer.padding_mode != "zeros":
        raise ValueError(f"has padding_mode={layer.padding_mode!r}; only 'zeros' is linear algebra")
    size, stride, dilation = (_pair(v) for v in (layer.kernel_size, layer.stride, layer.dilation))
    padding = layer.padding
    if padding == "valid":
        padding = 0
    elif padding == "same":
        spans = [d * (s - 1) for s, d in zip(size, dilation, strict=True)]
        if any(span % 2 for span in spans):
            raise ValueError("has padding='same' for an even kernel; give the padding as numbers")
        padding = (spans[0] // 2, spans[1] // 2)
    window = Window(size, stride, _pair(padding), dilation)
    W = convolution(_array(layer.weight), image, window, layer.groups)
    shape = (layer.out_channels, *window.output(image))
    b = None if layer.bias is None else np.repeat(_array(layer.bias), shape[1] * shape[2])
    return Tensor(network.linear(x.value, W, b), shape)


def _batch_norm(network: Network, x: Tensor, layer: nn.BatchNorm1d | nn.BatchNorm2d) -> Tensor:
    if layer.running_mean is None or layer.running_var is None:
        raise ValueError("has no running statistics: every batch would be another network")
    n_dims = 3 if isinstance(layer, nn.BatchNorm2d) else 1
    if len(x.shape) != n_dims or x.shape[0] != layer.num_features:
        raise ValueError(f"expects {layer.num_features} channels; got shape {x.shape}")
    factor = 1.0 / np.sqrt(_array(layer.running_var) + layer.eps)
    shift = -_array(layer.running_mean) * factor
    if layer.affine:
        factor = factor * _array(layer.weight)
        shift = shift * _array(layer.weight) + _array(layer.bias)
    factor, shift = (np.repeat(v, prod(x.shape[1:])) for v in (factor, shift))
    value = x.value.scaled(factor)
    return Tensor(Value(value.S, value.T, value.c + shift), x.shape)


def _max_pool(network: Network, x: Tensor, layer: nn.MaxPool2d) -> Tensor:
    if layer.ceil_mode or layer.return_indices:
        raise ValueError("has ceil_mode or return_indices; pad the image instead")
    window = Window(
        _pair(layer.kernel_size),
        _pair(layer.stride or layer.kernel_size),
        _pair(layer.padding),
        _pair(layer.dilation),
    )
    value = maxima(network, x.value, x.shape[0], x.image, window)
    return Tensor(value, (x.shape[0], *window.output(x.image)))


def _avg_pool(network: Network, x: Tensor, layer: nn.AvgPool2d) -> Tensor:
    if layer.ceil_mode or layer.divisor_override is not None:
        raise ValueError("has ceil_mode or divisor_override; pad the image instead")
    stride = _pair(layer.stride or layer.kernel_size)
    window = Window(_pair(layer.kernel_size), stride, _pair(layer.padding))
    W = averages(x.shape[0], x.image, window, bool(layer.count_include_pad))
    return Tensor(network.linear(x.value, W), (x.shape[0], *window.output(x.image)))


def _adaptive_avg_pool(network: Network, x: Tensor, layer: nn.AdaptiveAvgPool2d) -> Tensor:
    image = x.image
    goal = tuple(given or own for given, own in zip(_pair(layer.output_size), image, strict=True))
    if any(own % given for given, own in zip(goal, image, strict=True)):
        raise ValueError(f"makes {goal} of an image of {image}, which it does not divide")
    size = (image[0] // goal[0], image[1] // goal[1])
    W = averages(x.shape[0], image, Window(size, size))
    return Tensor(network.linear(x.value, W), (x.shape[0], *goal))


def _softmax(network: Network, x: Tensor, layer: nn.Softmax) -> Tensor:
    if len(x.shape) != 1 or layer.dim not in (-1, 1):
        raise ValueError(f"is taken over dim={layer.dim} of shape {x.shape}; only dim=1 of vectors")
    return Tensor(network.activate(x.value, "softmax", size=len(x.value)), x.shape)


def _same(network: Network, x: Tensor, layer: nn.Module) -> Tensor:
    return x


def _componentwise(description: Callable[[Any], str | dict[str, Any]]) -> Layer:
    def convert(network: Network, x: Tensor, layer: Any) -> Tensor:
        return Tensor(network.activate(x.value, description(layer)), x.shape)

    return convert


def _flatten(network: Network, x: Tensor, layer: nn.Flatten) -> Tensor:
    if (layer.start_dim, layer.end_dim) not in ((1, -1), (1, len(x.shape))):
        raise ValueError(f"flattens from {layer.start_dim} to {layer.end_dim}; only 1 to -1")
    return flattened(x)


LAYERS: dict[type[nn.Module], Layer] = {
    nn.Linear: _linear,
    nn.Conv2d: _conv,
    nn.BatchNorm1d: _batch_norm,
    nn.BatchNorm2d: _batch_norm,
    nn.MaxPool2d: _max_pool,
    nn.AvgPool2d: _avg_pool,
    nn.AdaptiveAvgPool2d: _adaptive_avg_pool,
    nn.Flatten: _flatten,
    nn.Softmax: _softmax,
    nn.Identity: _same,
    nn.Dropout: _same,
    nn.Dropout2d: _same,
    nn.ReLU: _componentwise(lambda layer: "relu"),
    nn.Tanh: _componentwise(lambda layer: "tanh"),
    nn.Sigmoid: _componentwise(lambda layer: "sigmoid"),
    nn.LeakyReLU: _componentwise(
        lambda layer: {"name": "leaky_relu", "slope": float(layer.negative_slope)}
    ),
}


def _array(parameter: torch.Tensor | None) -> Any:
    return None if parameter is None else parameter.detach().cpu().numpy()


def _pair(value: Any) -> tuple[int, int]:
    height, width = (value, value) if isinstance(value, int) else value
    return height, width
