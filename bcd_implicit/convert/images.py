"""Convolution and pooling of images as sparse matrices, and maxima as rectified differences.

An image is the vector of its channels, each row by row, as ``Flatten`` makes it.
"""

from typing import NamedTuple

import numpy as np

from bcd_implicit._activation import Array
from bcd_implicit._matrices import csr
from bcd_implicit._typing import IntArray, Matrix
from bcd_implicit.convert.network import Network, Value

__all__ = ["Window", "averages", "convolution", "maxima", "taps"]

Pair = tuple[int, int]


class Window(NamedTuple):
    """A window that slides over an image: heights before widths."""

    size: Pair
    stride: Pair
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)

    def output(self, image: Pair) -> Pair:
        """Return height and width of the output.

        Raises
        ------
        ValueError
            If there is none.
        """
        height, width = (
            (image[a] + 2 * self.padding[a] - self.dilation[a] * (self.size[a] - 1) - 1)
            // self.stride[a]
            + 1
            for a in (0, 1)
        )
        if min(height, width) < 1:
            raise ValueError(f"has a window of {self.size}, larger than the image of {image}")
        return height, width


def taps(image: Pair, window: Window) -> IntArray:
    """Return which pixel each entry of each window sees, shape (positions, entries); -1: padding.

    Examples
    --------
    >>> taps((2, 3), Window((1, 2), (1, 1)))
    array([[0, 1],
           [1, 2],
           [3, 4],
           [4, 5]])
    """
    along = []
    for a in (0, 1):
        starts = np.arange(window.output(image)[a]) * window.stride[a] - window.padding[a]
        places = starts[:, None] + np.arange(window.size[a]) * window.dilation[a]
        along.append(np.where((places >= 0) & (places < image[a]), places, -1))
    rows, columns = along[0][:, None, :, None], along[1][None, :, None, :]
    pixels = np.where((rows < 0) | (columns < 0), -1, rows * image[1] + columns)
    return pixels.reshape(-1, window.size[0] * window.size[1]).astype(np.intp)


def convolution(weight: Array, image: Pair, window: Window, groups: int = 1) -> Matrix:
    """Return the matrix of a convolution with ``weight`` (outputs, inputs / groups, height, width).

    Examples
    --------
    >>> convolution(np.array([[[[1.0, -1.0]]]]), (1, 3), Window((1, 2), (1, 1))).toarray()
    array([[ 1., -1.,  0.],
           [ 0.,  1., -1.]])
    """
    outputs, inputs = weight.shape[:2]
    pixels = taps(image, window)
    position, entry = np.nonzero(pixels >= 0)
    pixel = pixels[position, entry]
    row = np.arange(outputs)[:, None, None] * len(pixels) + position
    first = np.arange(outputs) // (outputs // groups) * inputs
    channel = first[:, None] + np.arange(inputs)
    column = channel[:, :, None] * (image[0] * image[1]) + pixel
    entries = weight.reshape(outputs, inputs, -1)[:, :, entry]
    shape = (outputs * len(pixels), groups * inputs * image[0] * image[1])
    row = np.broadcast_to(row, column.shape)
    return csr((entries.ravel(), (row.ravel(), column.ravel())), shape=shape)


def averages(channels: int, image: Pair, window: Window, count_padding: bool = True) -> Matrix:
    """Return the matrix of average pooling.

    Examples
    --------
    >>> averages(1, (1, 4), Window((1, 2), (1, 2))).toarray()
    array([[0.5, 0.5, 0. , 0. ],
           [0. , 0. , 0.5, 0.5]])
    """
    pixels = taps(image, window)
    position, entry = np.nonzero(pixels >= 0)
    seen = np.full(len(pixels), pixels.shape[1]) if count_padding else (pixels >= 0).sum(axis=1)
    row = np.arange(channels)[:, None] * len(pixels) + position
    column = np.arange(channels)[:, None] * (image[0] * image[1]) + pixels[position, entry]
    entries = np.broadcast_to(1.0 / seen[position], row.shape)
    shape = (channels * len(pixels), channels * image[0] * image[1])
    return csr((entries.ravel(), (row.ravel(), column.ravel())), shape=shape)


def maxima(network: Network, value: Value, channels: int, image: Pair, window: Window) -> Value:
    """Return the largest entry of every window: ``max(a, b) = b + relu(a - b)``, in pairs.

    Raises
    ------
    ValueError
        If a window sees nothing but padding: it has no largest entry.
    """
    value = network.settled(value)
    pixels = taps(image, window)
    if (pixels < 0).all(axis=1).any():
        raise ValueError("has windows of nothing but padding; give less padding or dilation")
    pixels = np.where(pixels < 0, pixels.max(axis=1, keepdims=True), pixels)  # never padding
    offsets = np.arange(channels)[:, None] * (image[0] * image[1])
    left = [value[(offsets + pixels[:, k]).ravel()] for k in range(pixels.shape[1])]
    while len(left) > 1:
        pairs = [
            second + network.activate(first - second, "relu")
            for first, second in zip(left[::2], left[1::2], strict=False)
        ]
        left = pairs + ([left[-1]] if len(left) % 2 else [])
    return left[0]
