"""A comparison as `compare` makes it, over 500 made-up rows and six classes: what the tests of the page show."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from pipeline.audit import Audit, AuditSettings
from pipeline.audit import audit as look_into
from pipeline.data import Dataset, Split
from pipeline.explore import Profile
from pipeline.explore import profile as look_at
from pipeline.kinds import KINDS
from pipeline.learning_curve import Crossing, Curve, Line, Point
from pipeline.run import Cost, Predictions, Run
from pipeline.verdict import Comparison, compare

CLASSES = ("sadness", "joy", "love", "anger", "fear", "surprise")
SHARES = [0.29, 0.335, 0.08, 0.135, 0.12, 0.04]
WORDS = "i feel so very strange today and cannot quite say whether this is happy or sad news for us all".split()
HOSTILE = (
    "<script>alert('text')</script>",
    "</script><script>alert('closed')</script>",
    "<!-- <script> <![CDATA[ ]]> --><img src=x onerror=\"alert('img')\">",
    "\"'><svg onload=alert(1)>&lt;b&gt; &amp; &#x3c;",
    "\u202eright to left\u202c and \u2066isolates\u2069 \u05e9\u05dc\u05d5\u05dd",
    "{{ 7 * 7 }} {% raw %} ${alert(1)} `${alert(2)}`",
    'datum.x; signal(\'x\'); {"signal": "alert(1)"} [a].b\\.c',
    "Donaudampfschifffahrts" * 40,
    "👩‍👩‍👧‍👦 👍🏽 \u0000\u0007 \ud800 \u2028 \u2029 e\u0301",
    '=HYPERLINK("https://example.org","x")',
    "javascript:alert(1) https://example.org/a.png //example.org",
    "",
)
HOSTILE_CLASSES = (
    "<script>document.title='taken'</script>",
    "</script><b>bold</b>",
    "__proto__",
    "a.b[0]['c']\"d\"",
    "\u202eevitisop",
    "constructor",
)


def proba(truth: np.ndarray, skill: float, sharpness: float, rng: np.random.Generator, k: int) -> np.ndarray:
    """(n, k): the larger `skill`, the more often the truth is likeliest; the larger `sharpness`, the surer."""
    logits = rng.normal(size=(len(truth), k))
    logits[np.arange(len(truth)), truth] += skill
    logits[:, 1] += 0.4
    scaled = np.exp(sharpness * logits)
    return (scaled / scaled.sum(1, keepdims=True)).astype(np.float32)


def run_of(kind: str, p: np.ndarray, truth: np.ndarray, ids: np.ndarray, classes: tuple[str, ...], **more: Any) -> Run:
    return Run(
        kind=kind,
        class_names=classes,
        predictions={"test": Predictions("test", ids, truth, p)},
        dataset="emotion",
        dataset_digest="d" * 32,
        folder=Path(f"runs/emotion-dddddddddddddddd/{kind}-0123456789abcdef"),
        created="2026-11-22T05:00:00Z",
        versions={"python": "3.11.7", "torch": "2.13.0", "scikit-learn": "1.9.1"},
        **{"settings": {"C": [0.1, 1, 10], "encoder": "minilm"}, "seed": 42, "seconds": 12.5} | more,
    )


HISTORY: list[dict[str, Any]] = [
    {"search": "learning_rate", "learning_rate": 1e-4, "steps": 60, "log_loss": 0.91, "chosen": True},
    {"epoch": 0, "validation": {"accuracy": 0.21, "macro_f1": 0.08, "log_loss": 1.79}},
    {"epoch": 1, "validation": {"accuracy": 0.905, "macro_f1": 0.862, "log_loss": 0.31}, "loss": 0.82},
    {"epoch": 2, "validation": {"accuracy": 0.924, "macro_f1": 0.889, "log_loss": 0.22}, "loss": 0.24},
    {"epoch": 3, "validation": {"accuracy": 0.931, "macro_f1": 0.898, "log_loss": 0.21}, "loss": 0.15},
]


def runs(n: int = 500, classes: tuple[str, ...] = CLASSES, shares: list[float] | None = None) -> list[Run]:
    """Five contenders over the same rows: majority, tfidf, lr, lr+smote, fine-tune."""
    rng, k = np.random.default_rng(7), len(classes)
    weights = np.array(shares or (SHARES if k == 6 else [1 / k] * k))
    truth = rng.choice(k, size=n, p=weights / weights.sum()).astype(np.int64)
    ids = np.array([f"test:{i}" for i in range(n)])
    constant = np.tile((weights / weights.sum()).astype(np.float32), (n, 1))
    costs = {
        "majority": Cost(0.002, None, 0.002, 400.0, None, 0.001, 0.0004, 0.002),
        "tfidf": Cost(9.1, None, 17.0, 720.0, 120_000, 2.4, 0.021, 0.31),
        "lr": Cost(3.4, 31.0, 62.0, 890.0, 2310, 91.2, 1.93, 9.4),
        "lr+smote": Cost(11.8, 31.0, 70.0, 950.0, 2310, 91.2, 1.93, 9.5),
        "fine-tune": Cost(1130.0, None, 2210.0, 2900.0, 22_713_216, 91.3, 1.98, 9.8),
    }
    told = {
        "majority": constant,
        "tfidf": proba(truth, 2.75, 1.2, rng, k),
        "lr": proba(truth, 1.55, 0.9, rng, k),
        "lr+smote": proba(truth, 1.35, 1.1, rng, k),
        "fine-tune": proba(truth, 3.05, 2.2, rng, k),
    }
    notes = ("the learning rate 1e-4 was chosen among 2e-5, 5e-5 and 1e-4",)
    return [
        run_of(kind, p, truth, ids, classes, cost=costs[kind])
        if kind != "fine-tune"
        else run_of(kind, p, truth, ids, classes, cost=costs[kind], history=HISTORY, notes=notes)
        for kind, p in told.items()
    ]


HOSTILE_NAMES = ("majority", "<script>alert('kind')</script>", "__proto__", '" onfocus="alert(1)', "fine-tune")


def hostile_kinds() -> AbstractContextManager[object]:
    """As if there were such kinds of run, for as long: any other is refused before a page is made."""
    return mock.patch.dict(KINDS, {name: KINDS["lr"] for name in HOSTILE_NAMES if name not in KINDS})


def hostile_runs() -> list[Run]:
    """The same with names of contenders and classes that are meant to break out of the page."""
    return [
        replace(run, kind=name, notes=HOSTILE[:2], dataset="<b>set</b>", versions={HOSTILE[1]: HOSTILE[2]})
        for run, name in zip(runs(500, HOSTILE_CLASSES), HOSTILE_NAMES, strict=True)
    ]


def comparison(of: list[Run]) -> Comparison:
    found = compare(of, draws=400, row_draws=100, truncated_share=0.004)
    return replace(
        found,
        recommended="fine-tune",
        recommendation="Fine-tune: it is 6.2 points more accurate than the best cheaper contender, tfidf, at 120 times "
        "its training time.",
        reasons=(
            "fine-tune is better than tfidf: accuracy +6.2 points (95 % interval 3.4 to 9.0, adjusted p < 0.001).",
            "Logistic regression on frozen vectors falls behind tfidf, which needs no encoder.",
        ),
    )


def curve(of: list[Run], names: Sequence[str]) -> Curve:
    """The first line rises from 70 to 80 %, the second from 60 to 90 %, and so on in turn."""
    rises = [(0.7, 0.8), (0.6, 0.9)]
    lines = tuple(
        Line(
            name,
            name,
            tuple(Point(s, v, v - 0.02, v + 0.02, (v,), 1.0) for s, v in zip((100, 1000), rises[i % 2], strict=True)),
        )
        for i, name in enumerate(names)
    )
    said = f"{names[1]} overtakes {names[0]} between 200 and 500 labels."
    crossing = Crossing(names[1], names[0], "overtakes", 100, 1000, 316.0, 200.0, 500.0, 1.0, 0.1, said)
    rows = len(of[0].predictions["test"].truth)
    return Curve("emotion", "d" * 32, (), "accuracy", "test", rows, 1000, 42, lines, (crossing,), (names[0],))


def dataset(run: Run, hostile: bool = False) -> Dataset:
    """The texts of the judged rows and of a train split; hostile ones are meant to break out of the page."""
    rng, p, k = np.random.default_rng(3), run.predictions["test"], len(run.class_names)
    texts = [(" ".join(rng.choice(WORDS, size=rng.integers(5, 40))),) for _ in range(len(p.row_ids) + 300)]
    if hostile:
        texts = [(HOSTILE[i % len(HOSTILE)], f"pair {i}") for i in range(len(texts))]
    labels = np.arange(300) % k
    splits = {
        "train": Split("train", texts[-300:], labels, np.array([f"train:{i}" for i in range(300)])),
        "test": Split("test", texts[:-300], p.truth, p.row_ids),
    }
    roles = {name: name for name in splits}
    return Dataset(run.dataset, splits, roles, run.class_names, ("text",), "label", run.dataset_digest)


def vectors(run: Run, d: int = 32) -> np.ndarray:
    """(n, d), a little apart by class."""
    rng, truth = np.random.default_rng(5), run.predictions["test"].truth
    centres = rng.normal(size=(len(run.class_names), d))
    return (centres[truth] + 1.2 * rng.normal(size=(len(truth), d))).astype(np.float32)


def audit(runs: list[Run], of: Dataset) -> Audit:
    """An audit of the same runs: a label in 25 of train is wrong, and a row of the judged split nearly repeats one."""
    rng, train = np.random.default_rng(9), of.train
    k, truth = len(of.class_names), train.labels.copy()
    truth[::25] = (truth[::25] + 1) % k
    whole = [
        replace(
            run,
            predictions=run.predictions
            | {"train": Predictions("train", train.row_ids, train.labels, proba(truth, 3.5, 1.2, rng, k))},
        )
        for run in runs[1:]
    ]
    found = {name: rng.normal(size=(len(of.role(name)), 16)).astype(np.float32) for name in of.roles}
    found["test"][7] = found["train"][3] + 0.01
    return look_into(of, whole, found, AuditSettings(top=4))


class Words:
    """A tokenizer that counts words and two special tokens."""

    def lengths(self, texts: Sequence[tuple[str, ...]]) -> np.ndarray:
        return np.array([2 + sum(len(part.split()) for part in text) for text in texts])


def profile(of: Dataset) -> Profile:
    return look_at(of, Words(), limit=512, max_length=40)
