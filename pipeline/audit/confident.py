"""Which labels are probably wrong: how likely each label is under models that did not learn from the row.

The label of a row is its true class, or, at a rate of `e`, another one: P(label y) = (1 - e) π_y + e Σ_j π_j U_jy.
π is the models' geometric mixture with weights and class biases, U the classes that wrong labels come from (j) and go
to (y); all are fitted to the labels at hand. The rate is told from the models' own mistakes as the lapse rate of a
psychometric function is: it is what is left where they are surest (Wichmann and Hill, The psychometric function I,
Perception & Psychophysics 63, 2001). U, and its fit by expectation maximisation, are those of Dawid and Skene, Maximum
Likelihood Estimation of Observer Error-Rates, Journal of the Royal Statistical Society C 28, 1979. Arrays only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

TINY = 1e-6  # what a model is allowed to rule out
ROUNDS, STEPS = 3, 3  # fits of U, each followed by one of the mixture; steps of one
PRIOR = 10  # rows for which the flat U counts, each class
TRIED = 0.1  # rate of wrong labels at first
FIRST = -2.2  # log odds at which its fit starts: a rate of 0.05
MOST = 0.5  # rate of wrong labels: beyond it right and wrong could change places
SURE = 0.8  # probability from which on a label is called wrong, at the rate's lower bound
LEARNT = 0.2  # agreement with the labels beyond guessing the largest class, below which models say nothing of them
HALF_CHI2 = 1.92  # of the 95 % quantile, one degree of freedom


@dataclass(frozen=True, eq=False)
class Suspicion:
    """What c models' probabilities say of the labels of n rows."""

    score: np.ndarray  # (n,) probability that the label is wrong
    suggested: np.ndarray  # (n,) int64, the likeliest class
    confident: np.ndarray  # (n,) bool: another class is suggested, and the label is wrong with 80 % at the lowest rate
    rate: float  # share of wrong labels
    low: float  # its 95 % interval, by profile likelihood
    high: float
    weights: np.ndarray  # (c,) how much each model has to say; sums to 1
    learnt: bool  # whether the models agree with the labels well enough to be heard

    @property
    def weak(self) -> bool:
        """Whether there may well be wrong labels, and none can be told from the models' own mistakes."""
        return not self.learnt or (not self.confident.any() and self.high * len(self.score) >= 1 and self.high > 0.01)


@dataclass(frozen=True, eq=False)
class Mixture:
    """A fit of the mixture and the rate."""

    point: np.ndarray  # (c + k + 1,) logarithms of the weights, biases, log odds of the rate
    rate: float
    proba: np.ndarray  # (n, k), π
    loss: float  # minus the logarithm of likelihood and prior

    def wrong(self, labels: np.ndarray, sources: np.ndarray, rate: float) -> np.ndarray:
        """Probability (n, k) that a label is wrong and the row of class j."""
        wrong = rate * self.proba * sources
        right = (1 - rate) * self.proba[np.arange(len(labels)), labels]
        return np.asarray(wrong / np.maximum(right + wrong.sum(1), 1e-300)[:, None])


def suspect(labels: np.ndarray, probas: Sequence[np.ndarray]) -> Suspicion:
    """Labels (n,) held against the probabilities (n, k) of models that did not learn from them."""
    logs = np.log(np.maximum(np.asarray(probas, np.float64), TINY))  # (c, n, k)
    fitted, sources = fit(labels, logs)
    n = len(labels)
    low, high = interval(labels, logs, sources, fitted)
    suggested = fitted.proba.argmax(1)
    sure = fitted.wrong(labels, sources, low).sum(1) >= SURE
    spoken = np.exp(fitted.point[: len(logs)])
    # were there none, there is still an order: as if one row were wrong
    score = fitted.wrong(labels, sources, max(fitted.rate, 1 / n)).sum(1)
    guessed = np.bincount(labels).max() / n
    learnt = bool((suggested == labels).mean() - guessed >= LEARNT * (1 - guessed))
    confident = sure & (suggested != labels) & learnt
    return Suspicion(
        score, suggested, confident, fitted.rate, low if learnt else 0.0, high, spoken / spoken.sum(), learnt
    )


def fit(labels: np.ndarray, logs: np.ndarray) -> tuple[Mixture, np.ndarray]:
    """The mixture, and U (n, k) of each row's label by the class that it may come from: flat, unless rows say more."""
    n, k = logs.shape[1:]
    sources = np.full((n, k), 1 / max(k - 1, 1))
    sources[np.arange(n), labels] = 0
    flat = fitted = mixture(labels, logs, sources)
    uniform = sources
    for i in range(ROUNDS if k > 2 else 0):
        # where wrong labels are of few kinds a flat U finds none: looked for at a rate at which they would show
        rate = fitted.rate if i else max(fitted.rate, TRIED)
        for _ in range(STEPS):
            sources = sources_of(labels, fitted.wrong(labels, sources, rate))
        start = np.append(fitted.point[:-1], max(fitted.point[-1], FIRST))  # at a rate of 0 the slope is 0
        fitted = mixture(labels, logs, sources, start=start)
    return (fitted, sources) if fitted.loss < flat.loss - HALF_CHI2 else (flat, uniform)


def sources_of(labels: np.ndarray, wrong: np.ndarray) -> np.ndarray:
    """U (n, k) of each row's label by source class, from `wrong` (n, k); no row speaks for itself."""
    k = wrong.shape[1]
    counts = np.zeros((k, k))  # by label, by class it comes from
    np.add.at(counts, labels, wrong)
    sources = (counts[labels] - wrong + PRIOR / (k - 1)) / (counts.sum(0) - wrong + PRIOR)
    sources[np.arange(len(labels)), labels] = 0
    return np.asarray(sources)


def mixture(
    labels: np.ndarray,
    logs: np.ndarray,
    sources: np.ndarray,
    rate: float | None = None,
    start: np.ndarray | None = None,
) -> Mixture:
    """Fit weights, biases and, unless it is given, the rate to labels (n,), log probabilities (c, n, k), U (n, k)."""
    from scipy.optimize import minimize

    c, k = len(logs), logs.shape[2]
    if start is None:
        start = np.concatenate([np.full(c, -np.log(c)), np.zeros(k), [FIRST]])
    call = partial(objective, labels=labels, logs=logs, sources=sources, rate=rate)
    done = minimize(call, start, jac=True, method="L-BFGS-B", options={"maxiter": 200})
    return Mixture(done.x, rate_of(done.x) if rate is None else rate, softmax(done.x, logs), float(done.fun))


def rate_of(point: np.ndarray) -> float:
    return float(MOST / (1 + np.exp(-np.clip(point[-1], -30, 30))))


def softmax(point: np.ndarray, logs: np.ndarray) -> np.ndarray:
    """π (n, k) at a point of the fit."""
    c = len(logs)
    scores = np.tensordot(np.exp(point[:c]), logs, 1) + point[c:-1]
    scores = np.exp(scores - scores.max(1, keepdims=True))
    return np.asarray(scores / scores.sum(1, keepdims=True))


def objective(
    point: np.ndarray, labels: np.ndarray, logs: np.ndarray, sources: np.ndarray, rate: float | None
) -> tuple[float, np.ndarray]:
    """Minus log likelihood with standard normal priors of biases and of the weights' logarithms; and its gradient."""
    c, rows, proba = len(logs), np.arange(len(labels)), softmax(point, logs)
    e = rate_of(point) if rate is None else rate
    right, wrong = proba[rows, labels], (proba * sources).sum(1)
    likelihood = np.maximum((1 - e) * right + e * wrong, 1e-300)
    given = e * sources  # (n, k) likelihood of the label, were the row of class j
    given[rows, labels] += 1 - e
    slope = -proba * (given - likelihood[:, None]) / likelihood[:, None]  # (n, k) by the scores
    apart = np.concatenate([point[:c] + np.log(c), point[c:-1]])  # from the priors' means
    by_weight = np.einsum("nk,cnk->c", slope, logs) * np.exp(point[:c])
    by_rate = 0.0 if rate is not None else -((wrong - right) / likelihood).sum() * e * (1 - e / MOST)
    gradient = np.concatenate([np.concatenate([by_weight, slope.sum(0)]) + apart, [by_rate]])
    return float(0.5 * apart @ apart - np.log(likelihood).sum()), gradient


def interval(labels: np.ndarray, logs: np.ndarray, sources: np.ndarray, fitted: Mixture) -> tuple[float, float]:
    """95 % interval of the rate: where the profile likelihood has fallen by half a chi-square quantile."""
    from scipy.optimize import brentq

    def fallen(rate: float) -> float:
        return mixture(labels, logs, sources, rate, fitted.point).loss - fitted.loss - HALF_CHI2

    least, most = min(1e-5, fitted.rate), MOST - 1e-6
    low = brentq(fallen, least, fitted.rate, xtol=1e-3, rtol=0.02) if fallen(least) > 0 else 0.0
    upper = min(most, 1.5 * max(fitted.rate, 0.5 / len(labels)))
    while upper < most and fallen(upper) < 0:
        upper = min(most, 1.5 * upper)
    high = brentq(fallen, fitted.rate, upper, xtol=1e-4, rtol=0.02) if fallen(upper) > 0 else most
    return float(low), float(high)
