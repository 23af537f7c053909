"""The recommendation: which contender to take, in plain words, why, and what would change it.

The facts come in as contenders and pairs; nothing here draws or tests.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipeline.kinds import kind_row
from pipeline.run import Run
from pipeline.verdict.field import Field, rise
from pipeline.verdict.reasons import borrowed_rates, reasons_of
from pipeline.verdict.results import (
    HORIZON,
    LABELS,
    Contender,
    Pair,
    change,
    duration,
    fit_key,
    p_words,
    score,
    total_seconds,
    training_seconds,
    unit,
)
from pipeline.verdict.statistics import rows_needed

HEADS = {"probe": "Probe", "tuned": "Fine-tune", "words": "Neither probe nor fine-tuning", "constant": "None of these"}


def recommend(
    contenders: Sequence[Contender],
    pairs: Sequence[Pair],
    runs: dict[str, Run],
    metric: str,
    margin: float,
    rows: int,
    others: Sequence[Pair] = (),
) -> tuple[str | None, str, list[str]]:
    """The contender to take (None: none of them), the sentences that say so and why, and further reasons.

    Taken is the cheapest, in training and 10,000 predictions, of those that nothing else beats by more than the margin;
    among those that cost about as little, the best. Seeds of one fit cost what they cost on average. Always guessing
    one class is a yardstick and never taken, nor is what is not shown to beat it. `others`: the pairs in other metrics.
    """
    families = {c.name: kind_row(c.kind).family for c in contenders}
    tuned = {c.name: runs[c.name] for c in contenders if families[c.name] == "tuned"}
    searched = {fit_key(run) for run in tuned.values() if run.settings.get("learning_rate") == "auto"}
    found = {name: rise(run, metric, margin, fit_key(run) in searched) for name, run in tuned.items()}
    rising = {name: gain for name, gain in found.items() if gain}
    field = Field(contenders, {(p.a, p.b): p for p in pairs}, families, metric, margin, rows, rising)
    serious = [c for c in contenders if families[c.name] != "constant"]
    guess = field.first("constant")
    if not serious or (guess and not learnt(field, serious[0], guess)):
        return None, nothing_learnt(field, serious, contenders[0], guess, others), reasons_of(field, None)
    unbeaten = [c for c in serious if not any(field.beats(other, c) for other in serious)]
    if guess:  # the best of them is shown to beat guessing: that was asked above
        unbeaten = [c for c in unbeaten if learnt(field, c, guess)] or [serious[0]]
    costs = mean_costs(contenders, runs)
    cheap = min(costs[c.name] for c in unbeaten)
    choice = next(c for c in unbeaten if costs[c.name] <= 1.5 * cheap + 1)
    return (
        choice.name,
        f"{verdict_sentence(field, choice)} {what_would_change(field, choice)}",
        [*reasons_of(field, choice), *borrowed_rates(contenders, runs)],
    )


def mean_costs(contenders: Sequence[Contender], runs: dict[str, Run]) -> dict[str, float]:
    """Seconds of training and 10,000 predictions by name, the mean over runs that differ in their seed alone."""
    groups: dict[str, list[float]] = {}
    for c in contenders:
        groups.setdefault(fit_key(runs[c.name]), []).append(total_seconds(c.cost))
    return {c.name: float(np.mean(groups[fit_key(runs[c.name])])) for c in contenders}


def learnt(field: Field, best: Contender, guess: Contender) -> bool:
    """Whether the best contender is shown to beat guessing, which is no mean rival in calibration alone."""
    if field.metric == "ece":
        return True
    pair = field.pairs.get((best.name, guess.name))
    return pair is not None and pair.verdict == "better"


def nothing_learnt(
    field: Field, serious: Sequence[Contender], top: Contender, guess: Contender | None, others: Sequence[Pair]
) -> str:
    if not serious or guess is None:
        return (
            f"Nothing to choose from: {top.name} ({field.label} {field.says(top)}) only guesses; fit lr or fine-tune."
        )
    best = serious[0]
    pair = field.pairs.get((best.name, guess.name)) or field.pairs[guess.name, best.name]
    more = f" About {pair.rows_to_decide:,} more rows would tell." if pair.rows_to_decide else ""
    start = (
        f"None of these: {best.name} ({field.label} {field.says(best)}) is not shown to beat always guessing "
        f"one class ({field.says(guess)}; adjusted {p_words(pair.p_adjusted)})"
    )
    for c in serious:
        for found in others:
            if found.verdict == "better" and (found.a, found.b) == (c.name, guess.name):
                m = found.metric
                mine, plain = score(m, c.metrics[m].value), score(m, guess.metrics[m].value)
                return (
                    f"{start}; but by {LABELS[m]} {c.name} is ({mine} against {plain}): where classes are uneven, "
                    f"name that metric beforehand (--metric {m}).{more}"
                )
    return f"{start}, so look at the labels before the models.{more}"


def verdict_sentence(field: Field, choice: Contender) -> str:
    """What to take, and the number that it rests on."""
    m, kind = field.metric, field.families[choice.name]
    serious = [c for c in field.contenders if field.families[c.name] != "constant"]
    best, head = serious[0], HEADS[kind]
    if kind == "words" and not {"probe", "tuned"} <= set(field.families.values()):
        head = "TF-IDF"
    if choice is best:
        return f"{head}: {leads(field, choice, serious)}{finding(field, choice)}."
    pair = field.pairs[best.name, choice.name]
    gap = change(m, abs(pair.difference))
    if field.slight(pair):
        within = f"{change(m, field.margin)}{unit(m)}"
        near = f"is as good as {best.name} ({field.says(best)}) within ±{within}"
        if pair.verdict == "better":
            near = f"trails {best.name} ({field.says(best)}) by less than {within}"
        return (
            f"{head}: {choice.name} ({field.label} {field.says(choice)}) {near} and {cheaper(choice, best)}"
            f"{finding(field, choice)}."
        )
    ahead = "scores the same" if even(field, pair) else f"is ahead by {gap}{unit(m)}"
    return (
        f"Undecided; {choice.name} for now: {best.name} {ahead} ({field.label} {field.says(best)} "
        f"against {field.says(choice)}), which {field.rows:,} rows do not settle (95 % interval "
        f"{field.span(pair)}, adjusted {p_words(pair.p_adjusted)}), and {choice.name} {cheaper(choice, best)}"
        f"{finding(field, choice)}."
    )


def even(field: Field, pair: Pair) -> bool:
    """Whether the two are level as far as scores are printed."""
    return change(field.metric, pair.difference) == change(field.metric, 0.0)


def leads(field: Field, choice: Contender, serious: Sequence[Contender]) -> str:
    """How far the best is ahead of the best of each other family, or of the next of its own."""
    m = field.metric
    rivals = [c for f in ("tuned", "probe", "words") if f != field.families[choice.name] and (c := field.first(f))]
    rivals = rivals or list(serious[1:2])
    if not rivals:
        return f"{choice.name} is all there is to choose from ({field.label} {field.says(choice)})"
    parts = []
    for rival in sorted(rivals, key=field.contenders.index):
        pair = field.pairs[choice.name, rival.name]
        gap = f"{change(m, abs(pair.difference))}{unit(m)}"
        known = f"95 % interval {field.span(pair)}"
        ahead = {"better": f"beats {rival.name} by {gap} ({known})", "equivalent": f"is as good as {rival.name}"}
        chance = f"is ahead of {rival.name} by {gap} that may be chance ({known})"
        parts.append(ahead.get(pair.verdict, f"scores as {rival.name} does ({known})" if even(field, pair) else chance))
    return f"{choice.name} ({field.label} {field.says(choice)}) {' and '.join(parts)}"


def finding(field: Field, choice: Contender) -> str:
    """That words without an encoder beat the probe, where they do: what most comparisons leave out."""
    words, probe = field.first("words"), field.first("probe")
    if not words or not probe or not field.beats(words, probe):
        return ""
    cheap = " and is cheaper" if total_seconds(words.cost) < total_seconds(probe.cost) else ""
    if choice is words:
        return f"; counting words is better than the frozen vectors{cheap}" if cheap else ""
    return f"; {words.name} beats the probe {probe.name} too ({field.says(words)} against {field.says(probe)}){cheap}"


def cheaper(choice: Contender, best: Contender) -> str:
    """`costs a 40th of it (12 s against 8 min for training and 10,000 predictions)`."""
    mine, other = total_seconds(choice.cost), total_seconds(best.cost)
    if not np.isfinite([mine, other]).all() or mine <= 0:
        return "costs no more than it"
    ratio = other / mine
    share = f"costs {fraction(ratio)} of it" if ratio >= 1.5 else "costs about the same"
    return f"{share} ({duration(mine)} against {duration(other)} for training and {HORIZON:,} predictions)"


def fraction(ratio: float) -> str:
    """1 / ratio in words: `61 %`, from a third on `1/3`; two significant digits at most."""
    return f"{100 / ratio:.0f} %" if ratio < 2.5 else f"1/{float(f'{ratio:.2g}'):.0f}"


def what_would_change(field: Field, choice: Contender) -> str:
    """The second sentence: on what the choice hangs."""
    m, kinds = field.metric, set(field.families.values())
    serious = [c for c in field.contenders if field.families[c.name] != "constant"]
    best = serious[0]
    tuned = field.first("tuned")
    if tuned and field.families[choice.name] != "tuned" and tuned.name in field.rising:
        gain = field.rising[tuned.name]
        return f"It may change with {gain.remedy}: {tuned.name} was still improving ({gain})."
    if choice is not best:
        pair = field.pairs[best.name, choice.name]
        if field.slight(pair):
            if abs(pair.difference) < field.margin / 20:
                return "Nothing here says otherwise; only other contenders or other data would change it."
            return (
                f"It would change if {change(m, abs(pair.difference))}{unit(m)} mattered to you: then take {best.name}."
            )
        error = (pair.high - pair.low) / (2 * 1.96)
        shown, same = rows_needed(pair.difference, error, field.rows, field.margin, len(field.pairs))
        rows = f"About {pair.rows_to_decide:,} more test rows" if pair.rows_to_decide else "More test rows"
        outcome = f"speak for {best.name}" if shown <= same else "show the two to be equivalent"
        return f"{rows} would decide it and, if the gap stays what it is, {outcome}."
    if "tuned" not in kinds:
        return "It would change if fine-tuning, which was not tried, gained more than it costs."
    rivals = [c for c in serious[1:] if total_seconds(c.cost) < total_seconds(choice.cost)]
    if not rivals:
        return "Nothing here costs less; it would change only with other contenders or other data."
    rival = rivals[0]
    gap = change(m, abs(field.pairs[choice.name, rival.name].difference))
    return f"It would change if {gap}{unit(m)} over {rival.name} were not worth {price(choice, rival)}."


def price(dear: Contender, cheap: Contender) -> str:
    """`8 min more of training and 3.2 ms a text instead of 0.02`."""
    extra = (training_seconds(dear.cost) or 0.0) - (training_seconds(cheap.cost) or 0.0)
    parts = [f"{duration(extra)} more of training"] if extra > 0 else []
    slow, fast = dear.cost.ms_per_text_batch, cheap.cost.ms_per_text_batch
    if slow is not None and fast is not None and slow > 1.2 * fast:
        parts.append(f"{slow:.2g} ms a text instead of {fast:.2g}")
    return " and ".join(parts) or "its cost"
