"""Python as people write it: the commands as functions, on frames and lists as well as on files and names.

A function takes what its command takes, under the options' names: `--max-length 128` is `max_length=128`,
`--text a --text b` is `text=("a", "b")`, `--contenders a,b` is `contenders=["a", "b"]`. Defaults are the command
line's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import UserError, options, show
from .metrics import METRICS, with_usual
from .options import commands
from .options.keywords import asked, asked_on, in_memory
from .predict.classifier import Classifier
from .show import parts
from .verdict.results import LOSS
from .words import format_duration, notebook_table, one_line

if TYPE_CHECKING:
    from .audit import Audit
    from .comparison import Outcome
    from .disagreement import Settled
    from .explore import Profile
    from .learning_curve import Curve
    from .run import Run
    from .verdict import Comparison


# ── a verdict ───────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, eq=False, repr=False)
class Verdict:
    """What `compare` found: the sentence, the scores, the page, and every model that took part.

    Raises UserError where a model is asked for that cannot be opened, or where none is recommended.

    Examples
    --------
    >>> from probe_or_tune import compare
    >>> verdict = compare("sms-spam", split="40/0/60", contenders=["majority", "tfidf"], encoder="minilm")
    >>> verdict.best.predict(["win a prize now"]).shape
    (1,)
    """

    outcome: Outcome
    cache: Path

    @property
    def comparison(self) -> Comparison:
        """Contenders, pairs, intervals: what `--json` prints."""
        return self.outcome.comparison

    @property
    def sentence(self) -> str:
        """What to take, and why."""
        return self.comparison.recommendation

    @property
    def report(self) -> Path | None:
        """The HTML page."""
        return self.outcome.report

    @cached_property
    def models(self) -> dict[str, Classifier]:
        """Every contender's model by its name, best score first; answers from a file have none."""
        from .run import load_run

        fitted = [contender for contender in self.comparison.contenders if contender.run]
        return {c.name: Classifier(load_run(Path(c.run)), cache=self.cache) for c in fitted}

    @property
    def best(self) -> Classifier:
        """The model that is recommended. Raises UserError if none is, or if its answers came from a file."""
        name = self.comparison.recommended
        if name is None:
            raise UserError(f"none is recommended ({one_line(self.sentence, 200)}); take one of `models`")
        if name not in self.models:
            raise UserError(
                f"'{name}' is a file of answers and predicts nothing new; ask its model, or take one of `models`"
            )
        return self.models[name]

    def scores(self) -> list[dict[str, str]]:
        """A row a contender, for a table or a data frame."""
        names = [name for name in METRICS if name in with_usual(self.comparison.metric)]
        return [
            {"contender": contender.name}
            | {METRICS[name].label: parts.interval(contender.metrics[name]) for name in names}
            | {
                LOSS: self.comparison.may_lose(contender.name),
                "fit": format_duration(contender.cost.fit_seconds),
                "ms/text": parts.number(contender.cost.ms_per_text_batch),
            }
            for contender in self.comparison.contenders
        ]

    def to_json(self) -> dict[str, Any]:
        """What `compare --json` prints."""
        return self.outcome.to_json()

    def __repr__(self) -> str:
        return f"<Verdict on {self.comparison.dataset}: {self.sentence}>"

    def _repr_html_(self) -> str:
        return notebook_table([self.sentence], self.scores(), self.report)


# ── the commands ────────────────────────────────────────────────────────────────────────────────────────────────────


def compare(source: Any, label: Any = None, **given: Any) -> Verdict:
    """Fit what is missing, then judge: is a probe enough?

    `source` is a pandas or polars frame, a `datasets.Dataset`, a dict of those by split, lists of texts and labels, a
    path, or a name. `label` is its column, or the labels (n,) themselves where `source` is a list of texts. `vectors`
    is a file, or an array (n, d) with a vector for each row of `source`, in its order.

    Raises UserError for what cannot be read, learnt from or compared, TypeError for an option that there is not.

    Examples
    --------
    >>> from probe_or_tune import compare
    >>> texts = [f"{'win a prize' if i % 3 else 'see you'} {i}" for i in range(600)]
    >>> labels = ["spam" if i % 3 else "ham" for i in range(600)]
    >>> verdict = compare(texts, labels, contenders=["majority", "tfidf"], encoder="minilm")
    >>> verdict.best.predict(["win a prize now"])
    array(['spam'], dtype='<U4')
    """
    from .comparison import contest, read

    bundles = (commands.compare_task, options.comparison_options)
    with asked_on(source, label, bundles, given) as (task, rules), show.progress() as progress:
        return Verdict(contest(read(task, rules, progress), rules, "compare(…)"), task.cache)


def fit_lr(source: Any, label: Any = None, **given: Any) -> Classifier:
    """Logistic regression on frozen vectors, C chosen in stratified folds of train alone.

    Raises UserError for what cannot be read or learnt from, and for several settings at once.

    Examples
    --------
    >>> from probe_or_tune import fit_lr
    >>> model = fit_lr("sms-spam", rows="first:200", encoder="minilm", smote=True)
    >>> model.predict_proba(["win a prize now", "see you at home"]).shape
    (2, 2)
    """
    from .fitting import fit_linear

    with asked_on(source, label, (commands.fit_lr_task,), given) as (task,), show.progress() as progress:
        return one(fit_linear(task.read(progress)), task.cache)


def fit_stack(source: Any, label: Any = None, **given: Any) -> Classifier:
    """Several contenders joined, `stack=["tfidf", "lr"]` unless others are named; each weighs what it is worth.

    Raises UserError for what cannot be read or learnt from, and for several encoders or poolings at once.

    Examples
    --------
    >>> from probe_or_tune import fit_stack
    >>> fit_stack("sms-spam", rows="first:200", encoder="minilm").predict(["win a prize now"]).shape
    (1,)
    """
    from .contenders import fit

    with asked_on(source, label, (commands.curve_task,), given) as (task,), show.progress() as progress:
        return one(fit(task.read(progress), "stack"), task.cache)


def fine_tune(source: Any, label: Any = None, **given: Any) -> Classifier:
    """The whole encoder, fine-tuned; the best epoch by macro F1 on validation.

    Raises UserError for what cannot be read or learnt from, and for several settings at once.

    Examples
    --------
    >>> from probe_or_tune import fine_tune
    >>> model = fine_tune("sms-spam", rows="first:60", encoder="minilm", epochs=1, learning_rate=1e-4)
    >>> model.predict(["win a prize now"]).shape
    (1,)
    """
    from .fitting import fit_tuned

    with asked_on(source, label, (commands.fine_tune_task,), given) as (task,), show.progress() as progress:
        return one(fit_tuned(task.read(progress)), task.cache)


def one(runs: Sequence[Run], cache: Path) -> Classifier:
    """The model of the one run. Raises UserError if there are several."""
    if len(runs) > 1:
        raise UserError(f"{len(runs)} settings make as many models; ask for one, or use compare")
    return Classifier(runs[0], cache=cache)


def explore(source: Any, label: Any = None, **given: Any) -> Profile:
    """Class balance, token lengths, repeated texts, leaks, conflicting labels.

    Raises UserError for what cannot be read.

    Examples
    --------
    >>> from probe_or_tune import explore
    >>> explore("sms-spam", rows="first:200", encoder="minilm")
    <Profile of sms-spam: 200 rows, 2 classes, ... findings>
    """
    from .contenders import profile

    bundles = (options.source_options, options.encoder_options)
    with asked_on(source, label, bundles, given) as (rows, encoders):
        return profile(rows, encoders[0], Path("cache"))


def audit(source: Any, label: Any = None, **given: Any) -> Audit:
    """Suspicious labels, confusion, losses, near-repeats, and what leaks are worth.

    Raises UserError for what cannot be read or learnt from.

    Examples
    --------
    >>> from probe_or_tune import audit
    >>> audit("sms-spam", rows="first:300", contenders="tfidf", encoder="minilm").dataset
    'sms-spam'
    """
    from .comparison import examine

    bundles = (commands.audit_task, options.audit_rules, options.audit_options)
    with asked_on(source, label, bundles, given) as (task, rules, settings), show.progress() as progress:
        return examine(task.read(progress), rules, settings)


def learning_curve(source: Any, label: Any = None, **given: Any) -> Curve:
    """Scores against number of labels, and where one contender overtakes another.

    Raises UserError for what cannot be read or learnt from.

    Examples
    --------
    >>> from probe_or_tune import learning_curve
    >>> learning_curve("sms-spam", rows="first:300", contenders="tfidf", sizes=[50, 100], encoder="minilm")
    <Curve of sms-spam: tfidf on up to 240 labels>
    """
    from .learning_curve import curve

    bundles = (commands.curve_task, options.plan_options)
    with asked_on(source, label, bundles, given) as (task, plan), show.progress() as progress:
        return curve(task.read(progress), plan)


def label_next(runs: Sequence[Any], pool: Any, labelled: Any = None, **given: Any) -> Settled:
    """Which of two runs is better on texts without labels: the rows to label, and the verdict that they bring.

    `runs` are two folders, runs, or models such as a verdict's. `pool` is texts in any form that `compare` takes.
    What comes back holds `count` rows `to_label`, as columns; with the labels filled in they are passed as `labelled`,
    as a table or as a file.

    Raises UserError for runs of other classes, for what cannot be read, and for labels of another pool.

    Examples
    --------
    >>> from probe_or_tune import label_next
    >>> drawn = label_next([RUN, BASELINE], ["win a prize now", "see you at home", "a free prize"], count=2)
    >>> drawn.rows, list(drawn.to_label)
    (3, ['pool_row', 'text', 'label'])
    """
    from .data.frames import frames
    from .disagreement import label_next
    from .run import as_run

    bundles = (commands.label_options, commands.opening_options)
    if len(runs) != 2:
        raise UserError(f"{len(runs)} runs; pass the two that are to be told apart")
    places = {"pool": pool} | ({} if labelled is None else {"labelled": labelled})
    tables = {name: frames(held, name=name) for name, held in places.items() if in_memory(held)}
    given = given | places | dict.fromkeys(tables, "data")
    with asked(bundles, given) as (settings, opening), show.progress() as progress:
        return label_next([as_run(one) for one in runs], replace(settings, **tables), opening, progress)
