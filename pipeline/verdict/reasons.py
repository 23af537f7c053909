"""What else somebody who decides should know: the pairs in words, other metrics, seeds, epochs, learning rates."""

from __future__ import annotations

from collections.abc import Sequence

from .. import listed
from ..kinds import learning_rate
from ..metrics import METRICS, change, score, unit
from ..run import Run
from ..words import format_duration
from .field import Field
from .results import Contender, training_seconds


def reasons_of(field: Field, choice: Contender | None) -> list[str]:
    """What else somebody who decides should know."""
    reasons = []
    words, probe, tuned = field.first("words"), field.first("probe"), field.first("tuned")
    for one, other in ((probe, tuned), (words, probe), (words, tuned)):
        if one and other:
            reasons.append((field.pairs.get((one.name, other.name)) or field.pairs[other.name, one.name]).sentence)
    if choice:
        reasons += [*other_metrics(field, choice)]
    if len(field.contenders) > 1:
        reasons.append(
            f"{field.contenders[0].name} was picked as the best of {len(field.contenders)} on these rows, "
            "which flatters its own score a little; p and intervals are adjusted for all pairs (Holm)."
        )
    for name, gain in field.rising.items():
        reasons.append(f"{name} had not levelled off: {gain}; {gain.remedy} would likely raise its score.")
    if tuned and tuned.seed_spread is not None:
        spread = f"{change(field.metric, tuned.seed_spread)}{unit(field.metric)}"
        reasons.append(
            f"{tuned.name} is judged by the mean of its {tuned.seeds} seeds, which differ by up to {spread}; their "
            "spread is in its intervals, and the model handed over is the best of them on validation."
        )
    elif tuned and field.advice.folds is None:
        reasons.append(
            f"{tuned.name} was trained with one seed: the verdict holds for this training, not for every one "
            "(--seeds 3)."
        )
    return reasons


ENOUGH = 0.75  # of the gain: the cheapest rung that brings so much is named, else the one that brings most


def ladder(field: Field) -> list[str]:
    """What the last layers alone bring of fine-tuning's gain over the probe, and for what share of its training time.

    Nothing where no such rung was climbed, or fine-tuning the full encoder does not gain more than the margin.
    """
    metric = METRICS[field.metric]
    probe = next((c for c in field.contenders if c.kind == "lr"), None) or field.first("probe")
    full = next((c for c in field.contenders if c.kind == "fine-tune"), None)
    rungs = [c for c in field.contenders if c.kind.startswith("fine-tune+last-") and not c.ended]
    full_seconds = training_seconds(full.cost) if full else None
    if not probe or not full or full.ended or not rungs or not full_seconds:
        return []

    def gain(c: Contender) -> float:
        return metric.sign * (c.metrics[field.metric].value - probe.metrics[field.metric].value)

    if gain(full) <= field.margin:
        return []
    rungs.sort(key=lambda c: int(c.kind.rpartition("-")[2]))
    rung = next((c for c in rungs if gain(c) >= ENOUGH * gain(full)), None) or max(rungs, key=gain)
    seconds, n = training_seconds(rung.cost), int(rung.kind.rpartition("-")[2])
    if seconds is None:
        return []
    layers = "the last layer brings" if n == 1 else f"the last {n} layers bring"
    share, price = max(0.0, gain(rung) / gain(full)), seconds / full_seconds
    points = f"{change(field.metric, gain(rung))} of {change(field.metric, gain(full))}{unit(field.metric)}"
    times = f"{format_duration(seconds)} against {format_duration(full_seconds)}"
    return [
        f"As seen on these rows, {layers} {100 * share:.0f} % of what fine-tuning gains over {probe.name} ({points}) "
        f"for {100 * price:.0f} % of its training time ({times})."
    ]


def hopeless(field: Field) -> list[str]:
    """Which trainings were ended, by what, and that their scores and costs are of what was trained."""
    sentences = []
    for c in (c for c in field.contenders if c.ended):
        seeds = f" ({len(c.ended)} of {c.seeds} seeds)" if c.seeds > 1 else ""
        sentences.append(
            f"{c.name} ({field.says(c)}) was {c.ended[0]}{seeds}; its score and cost are those of what was trained "
            "until then."
        )
    return sentences


def other_metrics(field: Field, choice: Contender) -> list[str]:
    """Where another metric would choose otherwise, and clearly."""
    sentences = []
    for metric, why in (
        ("accuracy", "which counts every row alike"),
        ("macro_f1", "which counts every class alike"),
        ("log_loss", "which matters if the probabilities are used"),
    ):
        rivals = [c for c in field.contenders if field.families[c.name] != "constant"]
        key = {c.name: METRICS[metric].sign * c.metrics[metric].value for c in rivals}
        lead = max(rivals, key=lambda c, key=key: key[c.name])  # type: ignore[misc]
        mine, theirs = choice.metrics[metric], lead.metrics[metric]
        apart = theirs.high < mine.low if METRICS[metric].lower_is_better else theirs.low > mine.high
        if metric != field.metric and lead is not choice and apart:
            sentences.append(
                f"By {METRICS[metric].label}, {why}, {lead.name} leads: {score(metric, theirs.value)} against "
                f"{score(metric, mine.value)} for {choice.name}."
            )
    return sentences


def borrowed_rates(contenders: Sequence[Contender], runs: dict[str, Run]) -> list[str]:
    """What was trained at the learning rate that was given for fine-tuning the full encoder, and may want another."""
    rates = {runs[c.name].settings.get("learning_rate") for c in contenders if c.kind == "fine-tune"}
    borrowed = [
        c.name
        for c in contenders
        if learning_rate(c.kind) not in (None, learning_rate("fine-tune"))
        and runs[c.name].settings.get("learning_rate") in rates - {"auto", None}
    ]
    if not borrowed:
        return []
    return [
        f"{listed(borrowed)} had to take the learning rate that was given for fine-tuning; without --learning-rate "
        "each takes one of its own."
    ]
