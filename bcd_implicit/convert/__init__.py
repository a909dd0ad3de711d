"""Every network is an implicit model: exact conversions, one small function for each architecture.

The states of a feedforward network are its hidden units. They are numbered from the last layer to
the first, as in the article, so that A is strictly block upper triangular; prediction is then
substitution, layer by layer. All matrices are sparse.

PyTorch and scikit-learn are imported by the functions that need them.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bcd_implicit.convert.clustering import kmeans_assignment
    from bcd_implicit.convert.equilibria import deep_equilibrium, equilibrium_rnn
    from bcd_implicit.convert.network import Network, Value
    from bcd_implicit.convert.ode import (
        VectorField,
        choose_steps,
        explicit_euler,
        implicit_euler,
        largest_implicit_step,
        runge_kutta,
    )
    from bcd_implicit.convert.recurrent import lstm, rnn
    from bcd_implicit.convert.sklearn import from_sklearn
    from bcd_implicit.convert.sparse_coding import adaptive_ista, ista, lista, sparse_code
    from bcd_implicit.convert.torch import from_torch

_HOME = {
    "Network": "network",
    "Value": "network",
    "VectorField": "ode",
    "adaptive_ista": "sparse_coding",
    "choose_steps": "ode",
    "deep_equilibrium": "equilibria",
    "equilibrium_rnn": "equilibria",
    "explicit_euler": "ode",
    "from_sklearn": "sklearn",
    "from_torch": "torch",
    "implicit_euler": "ode",
    "ista": "sparse_coding",
    "kmeans_assignment": "clustering",
    "largest_implicit_step": "ode",
    "lista": "sparse_coding",
    "lstm": "recurrent",
    "rnn": "recurrent",
    "runge_kutta": "ode",
    "sparse_code": "sparse_coding",
}

__all__ = [
    "Network",
    "Value",
    "VectorField",
    "adaptive_ista",
    "choose_steps",
    "deep_equilibrium",
    "equilibrium_rnn",
    "explicit_euler",
    "from_sklearn",
    "from_torch",
    "implicit_euler",
    "ista",
    "kmeans_assignment",
    "largest_implicit_step",
    "lista",
    "lstm",
    "rnn",
    "runge_kutta",
    "sparse_code",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
