"""What each kind of run is: one row a kind, which everything reads that asks what a run is.

A kind's name is its row's, or that and a variant after a plus: `lr`, `lr+smote`, `fine-tune+last-2`. What a row points
to (".module:name", in this package) is imported when it is used. A new contender is a row here and one in `CONTENDERS`.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from . import UserError, choose, listed
from .words import counted

NUMBER = r"\d+"
SCIPY, TRAINER = ("scipy.optimize", "scipy.sparse"), {"": ("torch", "transformers.trainer")}
RESAMPLED = ("smote", "smote-minority", "over", "imbalance-auto")
OPEN_PROBE, OPEN_TUNED = ".predict.models:probe", ".finetune:load_finetuned"
RANK = 8  # of LoRA, where none is given
PROBE_SKLEARN = ".export.sklearn_pipeline:probe"


@dataclass(frozen=True)
class Kind:
    """One row of the table."""

    family: str  # which answer it stands for: constant, words (no encoder), probe (frozen), tuned, cascade, external
    description: str  # how such a model comes about
    opener: str  # (run, runtime, cache, precision) → model with `proba(texts)`
    sklearn: str | None = None  # (run, encoder) → scikit-learn model, whether it imports this package; None: it is none
    learner: str | None = None  # Task → its lines on a learning curve; None: it has none there
    refit_share: float = 1.0  # of a fit, that one of a learning curve takes whose settings are known already
    library: str = "probe-or-tune"  # what opens its model
    needs_encoder: bool = True  # one run, or several, for each encoder
    needs_vectors: bool = False  # those of a frozen encoder
    expensive: bool = False  # trains an encoder: never fitted by the way
    learning_rate: float | None = None  # what it is trained at where none is given or searched for
    rates: Mapping[str, float] = field(default_factory=dict)  # a variant → the same, where it wants another
    variants: tuple[str, ...] = ()  # patterns of what may follow the plus
    described: Mapping[str, str] = field(default_factory=dict)  # a variant, its number left out → how it comes about
    imports: Mapping[str, tuple[str, ...]] = field(
        default_factory=dict
    )  # a variant, or '' for all → libraries of a fit
    version: int = 1  # raise it when a setting's default changes: runs are named by what differs from the defaults

    @property
    def needs_validation(self) -> bool:
        """Whether it chooses an epoch on rows that it does not learn from; the others choose in folds of train."""
        return self.learning_rate is not None


KINDS: dict[str, Kind] = {
    "predictions": Kind(
        family="external",
        description="predictions of another model, from a file",
        opener=".verdict.imported:opened",
        library="",
        needs_encoder=False,
    ),
    "majority": Kind(
        family="constant",
        description="the class shares of train, whatever the text",
        opener=".predict.models:majority",
        sklearn=".export.sklearn_pipeline:majority",
        needs_encoder=False,
    ),
    "tfidf": Kind(
        family="words",
        description="logistic regression on words, character pieces or both (TF-IDF), without an encoder",
        opener=".predict.models:tfidf",
        sklearn=".export.sklearn_pipeline:tfidf",
        learner=".learning_curve.learners:tfidf_learners",
        imports={"": (*SCIPY, "sklearn.feature_extraction.text")},
        refit_share=0.2,
        needs_encoder=False,
    ),
    "lr": Kind(
        family="probe",
        description="logistic regression on frozen vectors",
        opener=OPEN_PROBE,
        sklearn=PROBE_SKLEARN,
        learner=".learning_curve.learners:linear_learners",
        refit_share=0.1,
        needs_vectors=True,
        variants=("balanced", *RESAMPLED, "auto"),
        imports={"": SCIPY} | dict.fromkeys(RESAMPLED, ("imblearn.over_sampling",)),
    ),
    "stack": Kind(
        family="probe",
        description="TF-IDF and logistic regression on frozen vectors (or others) joined, each with its own weight",
        opener=".predict.joined:Stack",
        sklearn=".export.sklearn_pipeline:stacked",
        learner=".learning_curve.learners:stack_learners",
        imports={"": SCIPY},
        refit_share=0.1,
        needs_vectors=True,
    ),
    "cascade": Kind(
        family="cascade",
        description="a cheap contender for what it is sure of, a dear one for the rest",
        opener=".predict.joined:Cascade",
        needs_vectors=True,
        expensive=True,
    ),
    "frozen-head": Kind(
        family="probe",
        description="a torch head on frozen vectors",
        opener=OPEN_PROBE,
        sklearn=PROBE_SKLEARN,
        needs_vectors=True,
        learning_rate=1e-3,
        imports={"": ("torch",)},
        version=2,
    ),
    "fine-tune": Kind(
        family="tuned",
        description="the whole encoder, fine-tuned",
        opener=OPEN_TUNED,
        learner=".learning_curve.learners:tuned_learners",
        imports=TRAINER,
        library="transformers",
        expensive=True,
        learning_rate=1e-4,
        rates={"lora": 1e-3},
        variants=(f"last-{NUMBER}", "lora"),
        described={
            "last": "the encoder's last {}, fine-tuned on what those below make of the texts",
            "lora": "the whole encoder, fine-tuned by low-rank adapters (LoRA) that are merged into its weights",
        },
        version=2,
    ),
    "from-scratch": Kind(
        family="tuned",
        description="the encoder's architecture, trained from random weights",
        opener=OPEN_TUNED,
        learner=".learning_curve.learners:scratch_learners",
        imports=TRAINER,
        library="transformers",
        expensive=True,
        learning_rate=3e-4,
        version=3,
    ),
}


def split(kind: str, what: str = "kind of run") -> tuple[str, str]:
    """The name of a kind's row, and its variant: `lr+smote` → ('lr', 'smote'); '' without one.

    Raises UserError, naming every kind, if there is no such kind.
    """
    name, _, variant = kind.partition("+")
    row = KINDS.get(name)
    fits = row is not None and ("+" not in kind or any(re.fullmatch(known, variant) for known in row.variants))
    if not fits:
        raise UserError(f"no {what} '{kind}'; choose one of {listed(names())}")
    return name, variant


def kind_row(kind: str) -> Kind:
    """The row of a kind. Raises UserError, naming every kind, if there is no such kind."""
    return KINDS[split(kind)[0]]


def names(numbered: bool = True) -> list[str]:
    """Every kind that is fitted here, those with a number as `fine-tune+last-N`; without them unless `numbered`."""
    fitted = {name: row for name, row in KINDS.items() if row.family != "external"}
    patterns = [(name, variant) for name, row in fitted.items() for variant in ("", *row.variants)]
    shown = [name + (f"+{variant}" if variant else "") for name, variant in patterns]
    return [name.replace(NUMBER, "N") for name in shown if numbered or NUMBER not in name]


def describe(kind: str) -> str:
    """How a run of that kind comes about, its variant in parentheses where no words are made for it."""
    row, variant = kind_row(kind), split(kind)[1]
    name, _, number = variant.partition("-")
    if name in row.described:
        return row.described[name].format(counted(int(number or 0), "layer").removeprefix("1 "))
    return row.description + (f" ({variant})" if variant else "")


def learning_rate(kind: str) -> float | None:
    """What a kind is trained at where none is given or searched for; None: it is not trained so."""
    row, variant = kind_row(kind), split(kind)[1]
    return row.rates.get(variant, row.learning_rate)


def tuned(kind: str) -> bool:
    """Whether its encoder was trained."""
    return kind_row(kind).family == "tuned"


def covers(name: str, kind: str) -> bool:
    """Whether a run of that kind takes part as the contender `name`: fine-tuning does, whatever layers it trains."""
    return kind == name or (kind.startswith(f"{name}+") and tuned(name))


def import_libraries(kind: str) -> None:
    """Load what a fit of that kind needs, so that no fit's time depends on which was the first to want it."""
    row, variant = kind_row(kind), split(kind)[1]
    for name in dict.fromkeys(("", variant)):
        for module in row.imports.get(name, ()):
            importlib.import_module(module)


def load(path: str) -> Any:
    """What ".module:name" points to in this package."""
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module, __package__), name)


def curve_row(name: str) -> Kind:
    """The row of a line of a learning curve. Raises UserError, naming all, if there is none of that name."""
    return choose({n: row for n, row in KINDS.items() if row.learner}, name, "contender of a curve")
