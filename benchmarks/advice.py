"""Is the advice right? Recommendations with a known truth, and cross-validation on synthetic worlds and on real text.

    python benchmarks/verdict.py --parts recommendation,worlds
    python benchmarks/verdict.py --parts text --vectors FOLDER

`recommendation`: five contenders with known accuracies; how often something is taken that is worse by more than the
margin, what that loses, and how often the stated largest loss holds. `worlds`: two procedures whose true difference is
known; how often the interval of cross-validation holds it, how often one is falsely called better. `text`: small
subsets of labelled sets, ridge regression on TF-IDF against ridge regression on frozen vectors; the verdict of
cross-validation, and of a tenth held back, against the thousands of rows left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.kinds import kind_row
from pipeline.run import Cost, Predictions, Run
from pipeline.verdict import bootstrap, compare
from pipeline.verdict import statistics as st
from pipeline.verdict.crossvalidation import RowFolds, fold_difference, split_folds
from pipeline.verdict.field import Advice
from pipeline.verdict.pairing import PairFacts, judged_pairs
from pipeline.verdict.recommend import recommend
from pipeline.verdict.regret import Preference, regrets
from pipeline.verdict.results import Contender, Interval

Record = dict[str, Any]

# ── recommendations ─────────────────────────────────────────────────────────────────────────────────────────────────

NAMES = ("majority", "tfidf", "lr", "lr+smote", "fine-tune")
SECONDS = (0.01, 0.5, 12.0, 14.0, 400.0)
TRUTHS = {  # name of a cell → accuracy of each contender
    "fine-tune +2": (0.4, 0.80, 0.80, 0.79, 0.82),
    "fine-tune +3": (0.4, 0.80, 0.80, 0.79, 0.83),
    "fine-tune +5": (0.4, 0.80, 0.80, 0.79, 0.85),
    "fine-tune +10": (0.4, 0.75, 0.78, 0.77, 0.85),
    "tfidf +3": (0.4, 0.83, 0.80, 0.80, 0.80),
    "all equal": (0.4, 0.80, 0.80, 0.80, 0.80),
    "in steps": (0.4, 0.76, 0.78, 0.80, 0.82),
}
MARGIN = 0.01


def draw_right(accuracies: tuple[float, ...], rows: int, rng: np.random.Generator, alike: float = 0.5) -> np.ndarray:
    """Which rows (c, n) each contender has right; what is hard is hard for two of them in a share `alike` of rows."""
    shared = rng.random(rows)
    own = rng.random((len(accuracies), rows))
    same = rng.random((len(accuracies), rows)) < np.sqrt(alike)
    return np.where(same, shared, own) < np.array(accuracies)[:, None]


def facts_of(one: np.ndarray, other: np.ndarray, draws: int, rng: np.random.Generator) -> PairFacts:
    """The pair of two contenders that are right on rows (n,), as a comparison of two classes has it."""
    truth = np.arange(len(one)) % 2
    table = st.outcomes(truth, np.array([np.where(r, truth, 1 - truth) for r in (one, other)]), 2)
    drawn = bootstrap.counts(table, ("accuracy",), draws, rng)[1][0, 0]
    p = st.mcnemar(int((one & ~other).sum()), int((other & ~one).sum()))
    return PairFacts(float(one.mean() - other.mean()), drawn, p, len(one), int((one != other).sum()))


def recommended(right: np.ndarray, draws: int, rng: np.random.Generator) -> tuple[str | None, dict[str, float]]:
    """What is recommended where contenders are right on rows (c, n), and the largest plausible loss of each."""
    scores = right.mean(1)
    order = sorted(range(len(NAMES)), key=lambda i: (-scores[i], NAMES[i]))
    pairs = []
    for guessing in (False, True):
        couples = [c for c in combinations(order, 2) if (0 in c) is guessing]
        facts = [facts_of(right[a], right[b], draws, rng) for a, b in couples]
        pairs += judged_pairs("accuracy", MARGIN, list(NAMES), couples, np.arange(len(NAMES)), facts)
    costs = [Cost(fit_seconds=s, extract_seconds=None, ms_per_text_batch=0.01 if s < 1 else 2.0) for s in SECONDS]
    runs = {name: Run(name, {}, ("a", "b"), {}, cost, "d", "0" * 16) for name, cost in zip(NAMES, costs, strict=True)}
    contenders = []
    for i in order:
        value = Interval(float(scores[i]), float(scores[i]), float(scores[i]))
        metrics = {"accuracy": value, "macro_f1": value, "log_loss": value}
        contenders.append(Contender(NAMES[i], NAMES[i], "", metrics, costs[i]))
    losses = regrets([NAMES[i] for i in order if kind_row(NAMES[i]).family != "constant"], pairs)
    advice = Advice("accuracy", Preference(MARGIN), right.shape[1], losses)
    return recommend(contenders, pairs, runs, advice)[0], losses


def recommendations(rows: tuple[int, ...], repeats: int, draws: int) -> Iterator[Record]:
    """One record a cell."""
    for cell, accuracies in TRUTHS.items():
        best = max(accuracies)
        for n in rows:
            rng = np.random.default_rng([n, *map(ord, cell)])
            lost, held, silent, plain = [], [], 0, []
            for _ in range(repeats):
                right = draw_right(accuracies, n, rng)
                name, losses = recommended(right, draws, rng)
                seen = max(range(1, len(NAMES)), key=lambda i: right[i].mean())
                plain.append(best - accuracies[seen])
                held += [best - accuracies[NAMES.index(c)] <= loss + 1e-9 for c, loss in losses.items()]
                if name is None:
                    silent += 1
                else:
                    lost.append(best - accuracies[NAMES.index(name)])
            worse = [float(np.mean(np.array(losses) > MARGIN + 1e-9)) if losses else None for losses in (lost, plain)]
            yield {
                "part": "recommendation",
                "cell": cell,
                "rows": n,
                "repeats": repeats,
                "none": silent / repeats,
                "worse_than_margin": worse[0],
                "mean_loss": float(np.mean(lost)) if lost else None,
                "best_seen_worse": worse[1],
                "best_seen_loss": float(np.mean(plain)),
                "regret_holds": float(np.mean(held)),
            }


# ── cross-validation where the truth is known ───────────────────────────────────────────────────────────────────────

Fit = Callable[[np.ndarray, np.ndarray, np.ndarray, np.random.Generator], np.ndarray]  # X, y, new X → right or wrong
WIDTH = 15  # features a block has


@dataclass(frozen=True)
class World:
    """Rows of two blocks of features; each procedure sees one of them. With `gain` 0 they are exchangeable."""

    name: str
    gain: float = 0.0
    seen: float = 1.0  # share of its features that a fit sees: seeds matter below 1

    def draw(self, rows: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Features (n, 2·15) and classes (n,); a row that is hard is hard in both blocks."""
        labels = rng.integers(0, 2, rows)
        signal = 1.15 / np.sqrt(WIDTH) * np.linspace(0.2, 1.8, WIDTH)
        strength = (2 * labels - 1) * (1 + 0.5 * rng.normal(size=rows))
        blocks = [rng.normal(size=(rows, WIDTH)) + strength[:, None] * signal * g for g in (1.0, 1 + self.gain)]
        return np.hstack(blocks), labels

    def right(
        self, learnt: tuple[np.ndarray, np.ndarray], judged: tuple[np.ndarray, np.ndarray], rng: np.random.Generator
    ) -> np.ndarray:
        """Which judged rows (2, m) regularised discriminant analysis on each block has right."""
        found = []
        for block in (slice(0, WIDTH), slice(WIDTH, 2 * WIDTH)):
            columns = np.arange(2 * WIDTH)[block]
            if self.seen < 1:
                columns = rng.choice(columns, round(self.seen * WIDTH), replace=False)
            X, signs = learnt[0][:, columns], 2.0 * learnt[1] - 1
            mean = X.mean(0)
            centred = X - mean
            ridge = centred.T @ centred + 0.1 * len(X) * np.eye(len(columns))
            weights = np.linalg.solve(ridge, centred.T @ (signs - signs.mean()))
            found.append(((judged[0][:, columns] - mean) @ weights + signs.mean() > 0) == (judged[1] == 1))
        return np.array(found)


WORLDS = (World("exchangeable"), World("exchangeable, seeds matter", seen=0.6), World("a gap", gain=0.35))


def true_gap(world: World, rows: int, repeats: int = 300) -> float:
    """Mean difference of the procedures trained on so many rows; exactly 0 where they are exchangeable."""
    if not world.gain:
        return 0.0
    rng = np.random.default_rng([rows, 5])
    gaps = []
    for _ in range(repeats):
        right = world.right(world.draw(rows, rng), world.draw(4000, rng), rng)
        gaps.append(right[1].mean() - right[0].mean())
    return float(np.mean(gaps))


def worlds(rows: tuple[int, ...], repeats: int) -> Iterator[Record]:
    """One record for each world, number of rows, and number of the ten folds that are judged."""
    for world in WORLDS:
        for n in rows:
            truth = true_gap(world, round(0.9 * n))
            rng = np.random.default_rng([n, *map(ord, world.name)])
            found: dict[int, list[tuple[bool, bool, float]]] = {10: [], 5: [], 3: []}
            for _ in range(repeats):
                X, y = world.draw(n, rng)
                place = split_folds(y, np.arange(n), 10, rng)
                right = np.zeros((2, n), bool)
                for fold in range(10):
                    train, test = place != fold, place == fold
                    right[:, test] = world.right((X[train], y[train]), (X[test], y[test]), rng)
                for folds, outcomes in found.items():
                    outcomes.append(judged(right[:, place < folds], place[place < folds], truth))
            for folds, outcomes in found.items():
                held, called, half = np.array(outcomes, float).mean(0)
                yield {
                    "part": "worlds",
                    "world": world.name,
                    "rows": n,
                    "folds": folds,
                    "repeats": repeats,
                    "true_difference": truth,
                    "coverage": held,
                    "called": called,
                    "half_width": half,
                }


def judged(right: np.ndarray, place: np.ndarray, truth: float) -> tuple[bool, bool, float]:
    """Whether the interval of rows (2, m) holds the truth, whether one is called better, and half its width."""
    found = fold_difference(right[1].astype(float) - right[0], place, 10)
    low, high = found.interval()
    p = st.mcnemar(int((right[1] & ~right[0]).sum()), int((right[0] & ~right[1]).sum()))
    return low <= truth <= high, max(p, found.p_value) < 0.05, (high - low) / 2


# ── cross-validation on real text ───────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, eq=False)
class Pool:
    """A labelled set: texts (n,), their frozen vectors (n, d), classes (n,); each text once."""

    name: str
    texts: np.ndarray
    vectors: np.ndarray
    labels: np.ndarray
    classes: int

    @classmethod
    def load(cls, path: Path) -> Pool:
        """From X, y, texts and k of a .npz file."""
        with np.load(path, allow_pickle=True) as arrays:
            first = np.sort(np.unique(arrays["texts"].astype(str), return_index=True)[1])
            X, y, texts = arrays["X"][first].astype(np.float64), arrays["y"][first], arrays["texts"][first].astype(str)
            return cls(path.stem.removeprefix("adv_"), texts, X, y, int(arrays["k"]))

    def scores(self, learnt: np.ndarray, judged: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Scores (m, k) of both procedures, TF-IDF and vectors, for rows `judged` (m,), from rows `learnt`."""
        from sklearn.feature_extraction.text import TfidfVectorizer

        words = TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2))
        train, new = words.fit_transform(self.texts[learnt]), words.transform(self.texts[judged])
        mean, spread = self.vectors[learnt].mean(0), self.vectors[learnt].std(0) + 1e-9
        dense = [(self.vectors[rows] - mean) / spread / np.sqrt(self.vectors.shape[1]) for rows in (learnt, judged)]
        return self._ridge(train, new, learnt, 0.3), self._ridge(dense[0], dense[1], learnt, 0.15)

    def _ridge(self, train: Any, new: Any, learnt: np.ndarray, penalty: float) -> np.ndarray:
        target = np.eye(self.classes)[self.labels[learnt]]
        mean = target.mean(0)
        gram = train @ train.T
        gram = gram.toarray() if hasattr(gram, "toarray") else gram
        dual = np.linalg.solve(gram + penalty * np.eye(len(learnt)), target - mean)
        scores: np.ndarray = np.asarray(new @ (train.T @ dual)) + mean
        return scores

    def runs(self, rows: np.ndarray, scores: tuple[np.ndarray, np.ndarray]) -> list[Run]:
        """What both procedures say of some rows, as runs."""
        ids, names = rows.astype(str), tuple(f"c{i}" for i in range(self.classes))
        made = []
        for kind, score, seconds in zip(("tfidf", "lr"), scores, (1.0, 20.0), strict=True):
            sharp = np.exp(10 * (score - score.max(1, keepdims=True)))
            proba = (sharp / sharp.sum(1, keepdims=True)).astype(np.float32)
            predictions = {"test": Predictions("all", ids, self.labels[rows], proba)}
            cost = Cost(fit_seconds=seconds, extract_seconds=None, ms_per_text_batch=0.01)
            made.append(Run(kind, {}, names, predictions, cost, self.name, "0" * 16))
        return made


def text(pools: list[Pool], rows: tuple[int, ...], repeats: int) -> Iterator[Record]:
    """One record for each set, number of rows and way of judging."""
    for pool in pools:
        for n in rows:
            rng = np.random.default_rng([n, len(pool.labels)])
            outcomes: dict[str, list[tuple[str, float]]] = {"cv": [], "80/10/10": []}
            gaps = []
            for _ in range(repeats):
                chosen = rng.choice(len(pool.labels), n, replace=False)
                rest = rng.permutation(np.setdiff1d(np.arange(len(pool.labels)), chosen))[:3000]
                hits = [(s.argmax(1) == pool.labels[rest]).mean() for s in pool.scores(chosen, rest)]
                gaps.append(hits[1] - hits[0])
                for way, verdict in (("cv", cross_validated(pool, chosen, rng)), ("80/10/10", held_out(pool, chosen))):
                    outcomes[way].append(answered(verdict, hits))
            for way, found in outcomes.items():
                said = [word for word, _ in found]
                yield {
                    "part": "text",
                    "set": pool.name,
                    "rows": n,
                    "way": way,
                    "repeats": repeats,
                    "gap": float(np.mean(gaps)),
                    **{word: said.count(word) / repeats for word in ("right", "wrong", "silent")},
                    "mean_loss": float(np.mean([loss for _, loss in found])),
                }


def cross_validated(pool: Pool, chosen: np.ndarray, rng: np.random.Generator) -> Any:
    """The comparison of both procedures on rows `chosen` (n,) out of ten folds."""
    place = split_folds(pool.labels[chosen], np.arange(len(chosen)), 10, rng)
    scores = np.zeros((2, len(chosen), pool.classes))
    for fold in range(10):
        test = np.flatnonzero(place == fold)
        scores[:, test] = pool.scores(chosen[place != fold], chosen[test])
    folds = RowFolds(chosen.astype(str), place, np.arange(len(chosen)))
    return compare(pool.runs(chosen, (scores[0], scores[1])), folds=folds, draws=200, row_draws=10)


def held_out(pool: Pool, chosen: np.ndarray) -> Any:
    """The same on a tenth of them, learnt from eight tenths."""
    tenth = len(chosen) // 10
    test = chosen[:tenth]
    return compare(pool.runs(test, pool.scores(chosen[2 * tenth :], test)), draws=2000, row_draws=10)


def answered(comparison: Any, hits: list[float]) -> tuple[str, float]:
    """right, wrong or silent, against the rows left out, and what the recommendation loses on them."""
    (pair,) = comparison.pairs
    names = ["tfidf", "lr"]
    loss = max(hits) - hits[names.index(comparison.recommended)]
    if pair.verdict not in ("better", "worse"):
        return "silent", loss
    better = pair.a if pair.verdict == "better" else pair.b
    return ("right" if hits[names.index(better)] == max(hits) else "wrong"), loss


def line(record: Record) -> str:
    """One row of the printed table."""
    facts = [f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in record.items() if k != "part"]
    return f"{record['part']}: " + "  ".join(facts)
