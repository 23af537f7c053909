"""Where contenders err: confusion, what differs between two of them, rows of the highest and lowest loss."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..metrics import confusion
from ..run import Predictions


@dataclass(frozen=True, eq=False)
class Confusion:
    """One contender's confusion on the judged split."""

    name: str
    counts: np.ndarray  # (k, k): row = truth, column = predicted

    @property
    def shares(self) -> np.ndarray:
        """(k, k): the same as shares of the true class; 0 for a class without rows."""
        return np.asarray(self.counts / np.maximum(self.counts.sum(1, keepdims=True), 1))

    def to_json(self) -> dict[str, Any]:
        return {"name": self.name, "counts": self.counts.tolist(), "shares": self.shares.round(6).tolist()}


@dataclass(frozen=True, eq=False)
class Between:
    """What differs between contenders a and b on n judged rows."""

    a: str
    b: str
    both_right: int
    only_a: int  # rows that a alone gets right
    only_b: int
    both_wrong: int
    differ: int  # rows of which they do not say the same
    difference: np.ndarray  # (k, k) counts of a minus counts of b
    by_class: dict[str, tuple[int, int]]  # true class → rows that a alone, and b alone, gets right
    rows: np.ndarray  # (differ,) row numbers, first those of whose label they think most differently

    def to_json(self) -> dict[str, Any]:
        plain = {name: getattr(self, name) for name in ("a", "b", "both_right", "only_a", "only_b", "both_wrong")}
        by_class = {name: {"only_a": a, "only_b": b} for name, (a, b) in self.by_class.items()}
        return plain | {"differ": self.differ, "difference": self.difference.tolist(), "by_class": by_class}


def confusions(judged: Mapping[str, Predictions], k: int) -> tuple[Confusion, ...]:
    """One for each contender; rows in one order."""
    return tuple(Confusion(name, confusion(p.truth, p.labels, k)) for name, p in judged.items())


def between(a: str, b: str, judged: Mapping[str, Predictions], class_names: tuple[str, ...]) -> Between:
    """Contenders `a` and `b`, both in `judged`, on the same rows in the same order."""
    truth, k, every = judged[a].truth, len(class_names), np.arange(len(judged[a].truth))
    said_a, said_b = judged[a].labels, judged[b].labels
    right_a, right_b = said_a == truth, said_b == truth
    apart = np.abs(judged[a].proba[every, truth].astype(float) - judged[b].proba[every, truth])
    differ = np.flatnonzero(said_a != said_b)
    of = {name: truth == i for i, name in enumerate(class_names)}
    return Between(
        a=a,
        b=b,
        both_right=int((right_a & right_b).sum()),
        only_a=int((right_a & ~right_b).sum()),
        only_b=int((right_b & ~right_a).sum()),
        both_wrong=int((~right_a & ~right_b).sum()),
        differ=len(differ),
        difference=confusion(truth, said_a, k) - confusion(truth, said_b, k),
        by_class={n: (int((right_a & ~right_b & r).sum()), int((right_b & ~right_a & r).sum())) for n, r in of.items()},
        rows=differ[np.argsort(-apart[differ], kind="stable")],
    )


def loss(p: Predictions) -> np.ndarray:
    """Minus the logarithm of the probability (n,) of each row's label, in nats."""
    of_label = p.proba[np.arange(len(p.truth)), p.truth].astype(np.float64)
    return np.asarray(np.abs(np.log(np.clip(of_label, 1e-15, 1))))  # no -0, and float32 may pass 1


def extremes(p: Predictions, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Row numbers of the highest and of the lowest loss, at most `count` each, the most extreme first."""
    order = np.argsort(loss(p), kind="stable")
    return order[::-1][:count], order[:count]
