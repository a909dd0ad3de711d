"""Pictures of where A is zero."""

from matplotlib.figure import Figure
from scipy.sparse import csr_array

from bcd_implicit import ImplicitModel

__all__ = ["show_pattern"]


def show_pattern(model: ImplicitModel, figure: Figure, place: tuple[int, int, int]) -> None:
    """Draw where A is not zero."""
    axis = figure.add_subplot(*place)
    A = csr_array(model.A).tocoo()
    size = max(80 / model.n_states, 0.6)
    axis.plot(A.col, A.row, "," if model.n_states > 500 else "s", ms=size, color="#1d3557")
    axis.set(xlim=(-0.5, model.n_states - 0.5), ylim=(model.n_states - 0.5, -0.5), aspect="equal")
    axis.set(xticks=[], yticks=[])
