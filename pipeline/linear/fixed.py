"""A logistic regression at a C that is known already: one fit, no folds. What a learning curve is made of."""

from __future__ import annotations

import numpy as np

from .probe import LinearModel
from .search import full, moments, standardise
from .solver import principal_axes, solve
from .tune import all_classes


def fit_at(matrix: np.ndarray, labels: np.ndarray, class_names: tuple[str, ...], C: float) -> LinearModel:
    """The model of vectors (n, d) with `labels` (n,), scaled on these rows; classes without a row are never predicted.

    At least two classes must occur.
    """
    present, truth = np.unique(labels, return_inverse=True)
    mean, scale = moments(matrix)
    axes = principal_axes(standardise(matrix, mean, scale))
    fit = solve(axes, truth, np.ones((1, len(truth)), np.float32), C, len(present))
    W, b = axes.weights(full(fit.stacked[0].T).T if len(present) == 2 else fit.stacked[0])
    return LinearModel(*all_classes(W, b, present, len(class_names)), mean, scale, tuple(class_names))
