"""PyTorch networks: whatever torch.fx traces into the layers of `torch_layers` and their sums."""

from __future__ import annotations

import operator
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from bcd_implicit.convert.network import Network
from bcd_implicit.model import ImplicitModel

if TYPE_CHECKING:
    from torch import fx, nn

    from bcd_implicit.convert.torch_layers import Tensor

__all__ = ["from_torch"]


def from_torch(net: nn.Module, input_shape: int | tuple[int, ...]) -> ImplicitModel:
    """Convert a PyTorch network, as it predicts after ``net.eval()``.

    Layers: Linear, Conv2d, BatchNorm1d and 2d, MaxPool2d, AvgPool2d, AdaptiveAvgPool2d, Flatten,
    ReLU, LeakyReLU, Tanh, Sigmoid, Softmax, Dropout, Identity, in a Sequential or any module that
    torch.fx can trace: sums (residual blocks) and the functions of these layers without parameters
    (``relu``, ``tanh``, ``sigmoid``, ``flatten``) are understood too. ``max(a, b)`` becomes
    ``b + relu(a - b)``. Normalisation, average pooling and sums become states with the identity as
    activation only where that saves nonzeros.

    Parameters
    ----------
    net : torch.nn.Module
    input_shape : int or tuple of int
        Of one sample: ``(channels, height, width)``, or the number of features.

    Returns
    -------
    ImplicitModel
        Takes samples flattened to rows, in the precision of the network's parameters: convert
        ``net.double()`` for float64.

    Raises
    ------
    ImportError
        If PyTorch is missing.
    TypeError
        If it is no network, but its ``state_dict()``, say.
    ValueError
        If a layer is not supported or does not fit its input; it is named.

    References
    ----------
    L. El Ghaoui, F. Gu, B. Travacca, A. Askari, A. Tsai, "Implicit deep learning", SIAM J. Math.
    Data Sci. 3 (2021). K. He, X. Zhang, S. Ren, J. Sun, "Deep residual learning for image
    recognition", CVPR (2016).
    """
    try:
        from torch import fx, nn

        from bcd_implicit.convert import torch_layers
    except ImportError as error:
        raise ImportError("from_torch needs PyTorch: pip install .[torch]") from error
    if not isinstance(net, nn.Module):
        raise TypeError(f"net must be a torch.nn.Module; got {type(net).__name__}")
    shape: tuple[int, ...] = tuple(np.atleast_1d(input_shape).tolist())
    if len(shape) not in (1, 3) or not all(isinstance(n, int) and n > 0 for n in shape):
        raise ValueError(
            "input_shape must be a number of features or (channels, height, width); got "
            f"{input_shape!r}"
        )
    _refuse(net)
    training = [part for part in net.modules() if part.training]
    try:
        for part in training:  # of branches on it, those of predictions are converted
            part.training = False
        # tracing goes into a layer that stands alone
        traced = fx.symbolic_trace(nn.Sequential(net) if type(net) in torch_layers.LAYERS else net)
    except Exception as error:
        raise ValueError(
            f"{type(net).__name__} cannot be traced by torch.fx ({error}); write it without "
            "branches on data, or as a Sequential"
        ) from error
    finally:
        for part in training:
            part.training = True
    dtype = next((p.detach().cpu().numpy().dtype for p in net.parameters()), np.dtype(np.float64))
    network = Network(prod(shape), dtype=dtype)
    values: dict[fx.Node, torch_layers.Tensor] = {}
    for node in traced.graph.nodes:
        if node.op == "placeholder":
            if values and node.users:
                raise ValueError(f"{type(net).__name__} must take one tensor; it also takes {node}")
            values[node] = torch_layers.Tensor(network.inputs, shape)
        elif node.op == "output":
            if not isinstance(node.args[0], fx.Node):
                raise ValueError(f"the network must return one tensor; got {node.args[0]}")
            return network.model(values[node.args[0]].value)
        elif (node.op, node.target) != ("call_method", "size"):  # the batch: x.view(x.size(0), -1)
            values[node] = _apply(network, traced, node, values)
            if _is_in_place(traced, node):
                old, new = values[node.all_input_nodes[0]].value, values[node].value
                for other, tensor in values.items():  # views of what was written to see it too
                    if tensor.value is old:
                        values[other] = torch_layers.Tensor(new, tensor.shape)
            elif not node.users:
                raise ValueError(
                    f"the result of {node} is never used: was it a sum in place, as x += y? "
                    "PyTorch's tracing forgets that it changes x; write x = x + y"
                )
    raise ValueError(f"{type(net).__name__} returns nothing")


def _refuse(net: nn.Module) -> None:
    """Raise ValueError for what would be passed over in silence."""
    import torch

    for name, part in net.named_modules():
        if part._forward_hooks or part._forward_pre_hooks:
            label = name or type(net).__name__
            raise ValueError(f"layer {label} has hooks, which are not converted: remove them")
    for name, parameter in net.named_parameters():
        if parameter.dtype not in (torch.float32, torch.float64):
            raise ValueError(f"{name} must be of float32 or float64; got {parameter.dtype}")


def _apply(
    network: Network, traced: fx.GraphModule, node: fx.Node, values: dict[fx.Node, Tensor]
) -> Tensor:
    """Convert one node of the graph; what goes wrong names it."""
    import torch

    from bcd_implicit.convert.torch_layers import LAYERS, add

    layer: Any = node.target
    if node.op == "call_module":
        layer = traced.get_submodule(str(node.target))
    label = f"layer {node.target} ({type(layer).__name__})" if node.op == "call_module" else node
    known = [value for value in node.all_input_nodes if value in values]
    inputs = [values[value] for value in known]
    sums = (operator.add, operator.iadd, torch.add, "add", "add_")
    try:
        if node.op == "call_module" and type(layer) in LAYERS:
            return LAYERS[type(layer)](network, inputs[0], layer)
        # of two tensors, which may be the same, without alpha
        plain_sum = len(node.args) == 2 and all(v in known for v in node.args) and not node.kwargs
        if node.op != "call_module" and layer in sums and plain_sum:
            return add(network, *(values[value] for value in node.args))
        stand_in = _module(node) if node.op != "call_module" else None
        if stand_in is not None:
            return LAYERS[type(stand_in)](network, inputs[0], stand_in)
    except ValueError as error:
        raise ValueError(f"{label} {error}") from error
    names = ", ".join(kind.__name__ for kind in LAYERS)
    raise ValueError(
        f"{label} is not supported; known are {names} and sums. Replace it, or convert the parts "
        "before and behind it and use bcd_implicit.algebra.cascade"
    )


def _called(node: fx.Node) -> str:
    """Return the name of the function or method that a node calls."""
    return node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")


def _is_in_place(traced: fx.GraphModule, node: fx.Node) -> bool:
    """Whether a node writes its result to its first input."""
    if node.op == "call_module":
        return bool(getattr(traced.get_submodule(str(node.target)), "inplace", False))
    name = _called(node)
    return name.endswith("_") or name == "iadd" or bool(node.kwargs.get("inplace", False))


def _module(node: fx.Node) -> nn.Module | None:
    """Return the layer that does what a call of a function or method does."""
    from torch import nn

    name = _called(node)
    extra = (*node.args[1:], *node.kwargs.values())
    plain: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid}
    if name.rstrip("_") in plain and not any(isinstance(value, float) for value in extra):
        return plain[name.rstrip("_")]()
    if name == "flatten" and (extra == (1,) or extra == (1, -1)):
        return nn.Flatten()
    if name in ("view", "reshape") and len(extra) == 2 and extra[1] == -1:
        return nn.Flatten()
    return None
