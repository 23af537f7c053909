"""Python as people write it: the commands as functions, on frames and lists as well as on files and names.

A function takes what its command takes, under the options' names: `--max-length 128` is `max_length=128`,
`--text a --text b` is `text=("a", "b")`, `--contenders a,b` is `contenders=["a", "b"]`. Defaults are the command
line's.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from . import UserError, listed, options, show
from .metrics import METRICS, with_usual
from .options import commands
from .predict.classifier import Classifier
from .show import parts
from .verdict.results import LOSS
from .words import format_duration, notebook_table, one_line

if TYPE_CHECKING:
    from .audit import Audit
    from .comparison import Outcome
    from .explore import Profile
    from .learning_curve import Curve
    from .run import Run
    from .verdict import Comparison


# ── options ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def made_of(bundles: Sequence[options.Bundle], source: Any, label: Any, given: dict[str, Any]) -> list[Any]:
    """What the command line makes of the same options: the value of each bundle, the rows of `source` in the first.

    Raises TypeError for an option that is none of theirs, UserError for a value that the command line refuses.
    """

    def collect(**made: Any) -> dict[str, Any]:
        return made

    for bundle in reversed(bundles):
        collect = bundle(collect)
    command = click.command()(collect)
    in_memory = not isinstance(source, (str, os.PathLike))
    named = label is None or isinstance(label, str | int)  # a column, which pandas may call by a number
    words = ["data" if in_memory else os.fspath(source)]
    given = given | ({"label": label} if named else {})
    vectors = given.get("vectors")
    if hasattr(vectors, "shape"):  # an array is no word
        given = given | {"vectors": None}
    words = [*words_of(command, given), "--", *words]
    try:
        made = command.main(args=words, standalone_mode=False)
    except click.ClickException as error:
        raise UserError(error.format_message()) from error
    if in_memory or not named:
        from .data.frames import frames

        first = made[bundles[0].name]
        made[bundles[0].name] = with_rows(first, frames(source, None if named else label))
    if hasattr(vectors, "shape"):
        made[bundles[0].name] = with_vectors(made[bundles[0].name], vectors)
    return [made[bundle.name] for bundle in bundles]


def with_vectors(value: Any, vectors: Any) -> Any:
    """TaskOptions with an array of vectors (n, d), one for each row of the one table in memory, in its order.

    Raises UserError for a source of another form, or of another number of rows.
    """
    frames = value.source.frames
    rows = [frame.count_rows() for frame in frames.splits.values()] if frames else []
    if rows != [len(vectors)]:
        told = f"{listed(rows)} rows" if rows else "a source that is not in memory"
        raise UserError(f"vectors: {len(vectors):,} for {told}; pass one for each row of one table, or a file")
    return replace(value, vectors=(np.asarray(vectors),))


def with_rows(value: Any, rows: Any) -> Any:
    """SourceOptions, or what holds them as `source`, with rows from memory."""
    if hasattr(value, "frames"):
        return replace(value, frames=rows)
    return replace(value, source=replace(value.source, frames=rows))


def words_of(command: click.Command, given: dict[str, Any]) -> list[str]:
    """Keyword arguments as the words of a command line."""
    options_of = (option for option in command.params if isinstance(option, click.Option))
    known = {option.opts[0].lstrip("-").replace("-", "_"): option for option in options_of}
    words: list[str] = []
    for name, value in given.items():
        if name not in known:
            raise TypeError(f"no option '{name}'; choose among {listed(sorted(map(str, known)))}")
        option, flag = known[name], known[name].opts[0]
        if value is False and option.secondary_opts:
            words.append(option.secondary_opts[0])
        if option.is_flag and value is not None:
            words += [flag] if value else option.secondary_opts[:1]
        elif value is None or value is False:
            continue
        elif option.multiple:
            words += [word for one in ([value] if isinstance(value, str | int) else value) for word in (flag, str(one))]
        else:
            several = isinstance(value, Sequence) and not isinstance(value, str)
            words += [flag, ",".join(map(str, value)) if several else str(value)]
    return words


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

    task, rules = made_of((commands.compare_task, options.comparison_options), source, label, given)
    with show.progress() as progress:
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

    (task,) = made_of((commands.fit_lr_task,), source, label, given)
    with show.progress() as progress:
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

    (task,) = made_of((commands.curve_task,), source, label, given)
    with show.progress() as progress:
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

    (task,) = made_of((commands.fine_tune_task,), source, label, given)
    with show.progress() as progress:
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

    source_options, encoders = made_of((options.source_options, options.encoder_options), source, label, given)
    return profile(source_options, encoders[0], Path("cache"))


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

    task, rules, settings = made_of(
        (commands.audit_task, options.audit_rules, options.audit_options), source, label, given
    )
    with show.progress() as progress:
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

    task, plan = made_of((commands.curve_task, options.plan_options), source, label, given)
    with show.progress() as progress:
        return curve(task.read(progress), plan)
