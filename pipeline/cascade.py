"""Two contenders in a row: the cheap one answers what it is sure of, the dear one the rest.

Sure is what its likeliest class has a probability of at least the threshold for (selective prediction: Chow 1970;
cascades: Viola & Jones 2001). The threshold is chosen on rows that neither has learnt from, and never on those that are
judged: the most rows for the cheap one at which both together are right at least as often as the dear one alone.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from . import UserError
from .run import Cost, Fit, Fitted, Predictions, Run
from .run.model import Layout, damaged, is_number, read_model, write_model
from .stack import chosen_on, joint_cost, joint_question, said_of, save_parts

LAYOUT = Layout("cascade", lists={"k": "class_names", "m": "parts"})
NEVER = 2.0  # a threshold above every probability: the dear one answers all
SHARES = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0)  # of rows that the dear one answers, at which the front is shown


@dataclass(frozen=True)
class CascadeModel:
    """The cheap part's answer where its largest probability reaches the threshold, else the dear one's."""

    parts: tuple[str, ...]  # kinds: the cheap one, the dear one
    threshold: float
    class_names: tuple[str, ...]

    def save(self, folder: Path, runs: Sequence[Run]) -> None:
        """Write the model and the `runs` of its parts into `folder`."""
        write_model(folder, LAYOUT, self, threshold=self.threshold)
        save_parts(folder, runs)

    @classmethod
    def load(cls, folder: Path | str) -> CascadeModel:
        """Read a model. Raises UserError if a file is missing or damaged."""
        record, values = read_model(folder, LAYOUT)
        with damaged(folder):
            if not is_number(record["threshold"]) or len(values["parts"]) != 2:
                raise ValueError("no threshold, or not two parts")
            return cls(threshold=float(record["threshold"]), **values)


def unsure(cheap: np.ndarray, threshold: float) -> np.ndarray:
    """Which rows (n,) bool of the cheap one's probabilities (n, k) go to the dear one."""
    return np.asarray(cheap.max(1) < threshold)


def together(cheap: np.ndarray, threshold: float, dear: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Probabilities (n, k) of both; `dear` is asked for those of the rows (m,) that need it."""
    rows = np.flatnonzero(unsure(cheap, threshold))
    joined = np.array(cheap, np.float32)
    if len(rows):
        joined[rows] = dear(rows)
    return joined


def steps(cheap: np.ndarray, dear: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Every threshold (s,), descending, with the share of rows (s,) for the dear one and the accuracy (s,) of both."""
    confidence = cheap.max(1)
    order = np.argsort(-confidence, kind="stable")
    gain = (cheap.argmax(1) == truth).astype(int) - (dear.argmax(1) == truth)
    ends = np.flatnonzero(np.diff(confidence[order], append=-1.0))  # equally sure rows are answered by the same one
    right = (dear.argmax(1) == truth).sum() + np.concatenate([[0], np.cumsum(gain[order])[ends]])
    thresholds = np.concatenate([[NEVER], confidence[order][ends]])
    return thresholds, 1 - np.concatenate([[0], ends + 1]) / len(truth), right / len(truth)


def choose_threshold(cheap: np.ndarray, dear: np.ndarray, truth: np.ndarray) -> float:
    """The lowest threshold at which both (n, k) are right on `truth` (n,) at least as often as the dear one alone."""
    thresholds, _, accuracy = steps(cheap, dear, truth)
    return float(thresholds[np.flatnonzero(accuracy >= accuracy[0])[-1]])


def cascade_fit(parts: Sequence[Fit], dataset: Any, runs: Path, seed: int) -> Fit:
    """The fit of a cascade of two; they are found or fitted before its clock starts.

    Raises UserError unless there are two different ones.
    """
    question = joint_question("cascade", parts, dataset, runs, seed)
    if len(parts) != 2:
        raise UserError("--cascade: pass two contenders, the cheap one first, as in --cascade tfidf,fine-tune")

    @contextlib.contextmanager
    def around(_: Path) -> Iterator[list[Run]]:
        yield [part.run() for part in parts]

    return Fit(question, lambda fitted: _learnt(fitted, dataset), around)


def _learnt(parts: Sequence[Run], dataset: Any) -> Fitted:
    """The threshold, and what both say together."""
    role = chosen_on(parts, "--cascade")
    cheap, dear = said_of(parts, dataset, role)
    truth = np.asarray(getattr(dataset, role).labels, np.int64)
    threshold = choose_threshold(cheap, dear, truth)
    model = CascadeModel(tuple(part.kind for part in parts), threshold, tuple(dataset.class_names))
    share = float(unsure(cheap, threshold).mean())
    where = "out of fold" if role == "train" else "on validation"

    def proba(role: str) -> np.ndarray:
        first, second = said_of(parts, dataset, role)
        return together(first, threshold, lambda rows: second[rows])

    def held_out(predictions: Mapping[str, Predictions]) -> list[dict[str, Any]]:
        if "test" not in predictions:
            return []
        first, second = said_of(parts, dataset, "test")
        costs = [part.cost.ms_per_text_batch for part in parts]
        return front((cheap, dear, truth), (first, second, predictions["test"].truth), costs)

    return Fitted(
        proba=proba,
        roles=tuple(dataset.roles),
        save=lambda folder: model.save(folder, parts),
        cost=lambda: cascade_cost(parts, share),
        out_of_fold=proba("train") if role == "train" else None,
        history=[{"what": "threshold", "role": role, "threshold": threshold, "share": share}],
        notes=(
            f"{parts[0].kind} answers from a probability of {threshold:.3f} on; {parts[1].kind} the rest, "
            f"{share:.0%} of the rows {where}",
        ),
        checkpoint_digest=next((part.checkpoint_digest for part in parts if part.checkpoint_digest), None),
        held_out=held_out,
    )


def cascade_cost(parts: Sequence[Run], share: float) -> Cost:
    """Both are fitted and kept; a text takes the cheap one's time, and the dear one's if it is among that share."""
    both = joint_cost(parts, 0.0)
    cheap, dear = (part.cost for part in parts)

    def mean(name: str) -> float | None:
        first, second = getattr(cheap, name), getattr(dear, name)
        return None if first is None or second is None else first + share * second

    values = {name: getattr(both, name) for name in vars(both)}
    return Cost(**values | {name: mean(name) for name in ("ms_per_text_batch", "ms_per_text_single")})


# ── the front ───────────────────────────────────────────────────────────────────────────────────────────────────────

Answers = tuple[np.ndarray, np.ndarray, np.ndarray]  # of the cheap one (n, k), of the dear one (n, k), truth (n,)


def front(chosen: Answers, judged: Answers, costs: Sequence[float | None]) -> list[dict[str, Any]]:
    """Cost and accuracy on the judged rows at thresholds that were `chosen` elsewhere, by the share that they leave.

    `difference` is that to the dear one alone, with an interval that holds for all points together.
    """
    thresholds, left, _ = steps(*chosen)
    cheap, dear, truth = judged
    places = sorted({int(np.abs(left - share).argmin()) for share in SHARES})
    points = []
    for threshold in thresholds[places].tolist():
        rows = unsure(cheap, threshold)
        labels = np.where(rows, dear.argmax(1), cheap.argmax(1))
        low, high = paired(labels == truth, dear.argmax(1) == truth, 0.05 / len(places))
        share, accuracy = float(rows.mean()), float((labels == truth).mean())
        known = costs[0] is not None and costs[1] is not None
        points.append(
            {
                "what": "front",
                "threshold": threshold,
                "share": share,
                "ms_per_text_batch": costs[0] + share * costs[1] if known else None,  # type: ignore[operator]
                "accuracy": accuracy,
                "difference": accuracy - float((dear.argmax(1) == truth).mean()),
                "low": low,
                "high": high,
            }
        )
    return points


def paired(one: np.ndarray, other: np.ndarray, alpha: float) -> tuple[float, float]:
    """Interval of the difference of two shares of right answers (n,) bool on the same rows (Agresti & Min 2005)."""
    from scipy.special import ndtri

    more, less = (one & ~other).sum() + 0.5, (other & ~one).sum() + 0.5
    n = len(one) + 2
    error = math.sqrt(more + less - (more - less) ** 2 / n) / n
    half = float(ndtri(1 - alpha / 2)) * error
    return float((more - less) / n - half), float((more - less) / n + half)
