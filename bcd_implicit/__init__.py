"""Sparse, certified implicit models trained by block-coordinate descent."""

__version__ = "0.1.0"
