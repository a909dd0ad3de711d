"""Convex subproblems on plain arrays; knows nothing of models or estimators."""

if __name__ == "solvers":
    raise ImportError(
        "this package is installed as 'bcd_implicit.solvers'; import it under that name"
    )
