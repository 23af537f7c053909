"""The contenders of a comparison as a recommendation sees them: families, pairs, and trainings that had not ended."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..metrics import METRICS, change, score
from ..run import Run
from .crossvalidation import RowFolds
from .regret import Preference
from .results import Contender, Pair


@dataclass(frozen=True)
class Rise:
    """A training that had not levelled off: its last epoch is its best, and clearly better than the one before."""

    metric: str
    before: float
    last: float
    epochs: int
    given: bool  # whether its learning rate was given, and not searched for

    @property
    def remedy(self) -> str:
        """What may raise the score."""
        return "more --epochs" + (" or --learning-rate auto" if self.given else "")

    def __str__(self) -> str:
        name, was, now = METRICS[self.metric].label, score(self.metric, self.before), score(self.metric, self.last)
        return f"validation {name} went from {was} to {now} in the last of {self.epochs} epochs"


def rise(run: Run, metric: str, margin: float, searched: bool = False) -> Rise | None:
    """What `run` gained in its last epoch, None unless it is more than `margin` and the best epoch is the last.

    `searched`: its learning rate was found by another seed of the same fit.
    """
    metric = metric if metric in ("accuracy", "macro_f1") else "accuracy"
    judged = [h["validation"] for h in run.history if h.get("epoch") and h.get("validation")]  # from the first epoch on
    if len(judged) < 2 or judged[-1]["macro_f1"] < max(epoch["macro_f1"] for epoch in judged):
        return None
    before, last = judged[-2][metric], judged[-1][metric]
    given = isinstance(run.settings.get("learning_rate"), float) and not searched
    return Rise(metric, before, last, len(judged), given) if last - before > margin else None


@dataclass(frozen=True)
class Advice:
    """What a recommendation goes by."""

    metric: str
    preference: Preference
    rows: int
    regret: dict[str, float]  # serious contender -> the largest plausible loss of taking it
    folds: RowFolds | None = None  # rows were judged out of fold


@dataclass(frozen=True)
class Field:
    """Contenders, best first, with what was found between each two of them."""

    contenders: Sequence[Contender]
    pairs: dict[tuple[str, str], Pair]  # the better-scored one first
    families: dict[str, str]  # name -> family
    advice: Advice
    rising: dict[str, Rise]  # name -> how much a tuned contender gained in its last epoch, if that is worth a word

    @property
    def metric(self) -> str:
        return self.advice.metric

    @property
    def margin(self) -> float:
        return self.advice.preference.margin

    @property
    def serious(self) -> list[Contender]:
        """All but those that guess, best first."""
        return [c for c in self.contenders if self.families[c.name] != "constant"]

    def first(self, *families: str) -> Contender | None:
        """The best of some families."""
        return next((c for c in self.contenders if self.families[c.name] in families), None)

    def beats(self, one: Contender, other: Contender) -> bool:
        """Whether `one` is better by more than the margin may hide."""
        pair = self.pairs.get((one.name, other.name))
        if pair is None or pair.verdict != "better":
            return False
        return not (-self.margin <= pair.low90 and pair.high90 <= self.margin)

    def span(self, pair: Pair) -> str:
        """The 95 % interval of how far a is ahead."""
        low, high = (-pair.high, -pair.low) if METRICS[self.metric].lower_is_better else (pair.low, pair.high)
        return f"{change(self.metric, low)} to {change(self.metric, high)}"

    def says(self, contender: Contender) -> str:
        return score(self.metric, contender.metrics[self.metric].value)

    @property
    def label(self) -> str:
        return METRICS[self.metric].label
