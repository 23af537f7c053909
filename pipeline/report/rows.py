"""Sections on single rows of the judged split: errors, calibration, a map of the vectors, disagreements, the audit."""

from __future__ import annotations

import numpy as np

from ..metrics import class_f1, confusion, reliability
from ..run import Predictions
from ..words import shorten
from . import audited, charts
from .facts import Facts
from .numbers import principal, sparse
from .section import Section

ROWS, POINTS, CLASSES, MISTAKES = 400, 1200, 30, 40  # what keeps the page small, and readable
ABSTAINED = (0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6)  # shares of rows
TEXT, SNIPPET = 600, 140  # characters


def errors(facts: Facts) -> Section | None:
    """Confusion of every contender, F1 of every class, and the mistakes made most often."""
    if not facts.judged:
        return None
    k = len(facts.classes)
    tables = [confusion(facts.truth, labels, k) for labels in facts.predicted().T]  # each (k, k)
    f1 = [class_f1(np.diag(table), table.sum(0), table.sum(1)) for table in tables]
    taken = facts.taken
    taken_table = tables[facts.names.index(taken)]
    mistakes = np.sum(tables, axis=0)
    mistakes -= np.diag(np.diag(mistakes))
    shown = np.sort(np.argsort(-(mistakes.sum(0) + mistakes.sum(1)), kind="stable")[:CLASSES])
    order = np.argsort(-mistakes, axis=None, kind="stable")[:MISTAKES]
    worst = [
        {"true": facts.classes[t], "said": facts.classes[p], "counts": [int(table[t, p]) for table in tables]}
        for t, p in zip(*np.unravel_index(order, mistakes.shape), strict=True)
        if mistakes[t, p]
    ]
    by_class = [
        {
            "name": name,
            "rows": int((facts.truth == i).sum()),
            "f1": [float(of[i]) for of in f1],
            "precision": ratio(taken_table[i, i], taken_table[:, i].sum()),
            "recall": ratio(taken_table[i, i], taken_table[i].sum()),
        }
        for i, name in enumerate(facts.classes)
    ]
    view = {"names": facts.names, "worst": worst, "by_class": by_class, "k": k, "shown": len(shown), "taken": taken}
    cells = [sparse(table) for table in tables]
    given = {"names": facts.names, "classes": facts.classes, "shown": shown, "tables": cells}
    return Section("Where each one errs", view, given=given, short="Errors")


def ratio(part: int, of: int) -> float | None:
    """part / of; None where there is nothing of it."""
    return float(part / of) if of else None


def calibration(facts: Facts) -> Section | None:
    """Reliability diagrams."""
    graded = {name: p for name, p in facts.judged.items() if p.graded}
    if not graded:
        return None
    bins = {name: reliability(p.truth, np.asarray(p.proba, np.float64)) for name, p in graded.items()}
    drawn = {f"calibration-{i}": charts.reliability(bins[name]) for i, name in enumerate(graded)}
    unsure = [name for name, p in graded.items() if np.ptp(p.proba.max(1))]  # majority is as sure of every row
    rows = [{"i": i, **point} for i, name in enumerate(unsure) for point in answered_share(graded[name])]
    if rows:
        drawn["abstaining"] = charts.abstaining(rows, unsure)
    silent = [name for name in facts.names if name not in graded]
    view = {"names": list(graded), "silent": silent, "bins": bins, "few": charts.FEW}
    return Section("Can the probabilities be believed?", view, drawn, short="Reliability")


def answered_share(p: Predictions) -> list[dict[str, float]]:
    """Accuracy of the surest rows, for 0 to 60 % of the rows left without an answer."""
    surest = np.argsort(-p.proba[np.arange(len(p.truth)), p.labels], kind="stable")
    right = (p.labels == p.truth)[surest]
    counts = {share: len(right) - round(share * len(right)) for share in ABSTAINED}
    return [{"share": share, "value": float(right[:n].mean())} for share, n in counts.items() if n >= charts.FEW]


def vector_map(facts: Facts) -> Section | None:
    """The judged split's vectors on their two main components, by label or by who errs."""
    if not facts.vectors or not facts.judged:
        return None
    n, truth = len(facts.truth), facts.truth
    chosen = np.sort(np.random.default_rng(0).permutation(n)[:POINTS])
    common = np.sort(np.argsort(-np.bincount(truth, minlength=len(facts.classes)), kind="stable")[:7])
    place = {int(label): i for i, label in enumerate(common)}
    names = [facts.classes[label] for label in common] + ["other classes"] * (len(facts.classes) > 7)
    maps, explained = [], {}
    for name, vectors in facts.vectors.items():
        spots, explained[name] = principal(vectors)
        maps.append(spots[chosen].round(3))
    by_label = {"names": names, "places": [place.get(int(label), 7) for label in truth[chosen]]}
    wrong = facts.predicted()[chosen] != truth[chosen, None]  # (points, c)
    texts = facts.texts()
    given = {
        "maps": maps,
        "colourings": [by_label, *({"names": ["right", "wrong"], "places": w.astype(int)} for w in wrong.T)],
        "texts": [shorten(" ⏐ ".join(texts.get(str(row), ())), SNIPPET) for row in facts.row_ids[chosen]],
        "labels": [facts.classes[label] for label in truth[chosen]],
        "spec": charts.points(names),
        "palette": charts.PALETTE,
        "rightWrong": charts.RIGHT_WRONG,
    }
    view = {"explained": explained, "contenders": facts.names, "rows": len(chosen), "of": n}
    return Section("A map of the vectors", view, given=given, short="Map")


def disagreements(facts: Facts) -> Section | None:
    """Rows on which the contenders do not say the same, those first on which they differ most about the truth.

    One that says the same of every row disagrees with everybody about nothing, and is left out.
    """
    names = [name for name, labels in zip(facts.names, facts.predicted().T, strict=True) if len(set(labels)) > 1]
    if len(names) < 2:
        return None
    truth, rows = facts.truth, np.arange(len(facts.truth))
    probas = np.stack([facts.judged[name].proba for name in names], axis=1)  # (n, c, k)
    predicted = np.stack([facts.judged[name].labels for name in names], axis=1)  # (n, c)
    sure = np.take_along_axis(probas, predicted[:, :, None], 2)[:, :, 0]  # (n, c)
    of_label = probas[rows, :, truth]  # (n, c): probability of the true label
    spread = of_label.max(1) - of_label.min(1)
    differ = np.flatnonzero((predicted != predicted[:, :1]).any(1))
    texts = facts.texts()
    shown = [
        {
            "id": str(facts.row_ids[i]),
            "text": [shorten(part, TEXT) for part in texts.get(str(facts.row_ids[i]), ())],
            "label": truth[i],
            "said": [[s, round(float(p), 3)] for s, p in zip(predicted[i], sure[i], strict=True)],
            "spread": round(float(spread[i]), 3),
        }
        for i in differ[np.argsort(-spread[differ], kind="stable")][:ROWS]
    ]
    silent = [name for name in facts.names if name not in names]
    view = {"shown": len(shown), "differ": len(differ), "of": len(predicted), "silent": silent}
    given = {"names": names, "classes": facts.classes, "rows": shown}
    return Section("Where they disagree", view, given=given, short="Disagreements")


def audit(facts: Facts) -> Section | None:
    """Labels in doubt, near-repeats, what leaks are worth, rows by their loss."""
    if facts.audit is None:
        return None
    view, given = audited.summary(facts.audit), audited.tables(facts.audit)
    return Section("What may be wrong with the data", view, given=given, short="Audit")
