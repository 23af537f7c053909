"""The recommendation: which contender to take, in plain words, why, and what would change it.

The facts come in as contenders and pairs; nothing here draws or tests.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..kinds import kind_row
from ..metrics import METRICS, change, score, unit
from ..run import Run
from ..words import format_duration, format_p
from .field import Advice, Field, rise
from .reasons import borrowed_rates, hopeless, ladder, reasons_of
from .results import (
    HORIZON,
    Contender,
    Pair,
    fit_key,
    total_seconds,
    training_seconds,
)

HEADS = {
    "probe": "Probe",
    "tuned": "Fine-tune",
    "cascade": "Cascade",
    "words": "Neither probe nor fine-tuning",
    "external": "A model from elsewhere",
    "constant": "None of these",
}


def recommend(
    contenders: Sequence[Contender],
    pairs: Sequence[Pair],
    runs: dict[str, Run],
    advice: Advice,
    others: Sequence[Pair] = (),
) -> tuple[str | None, str, list[str]]:
    """The contender to take (None: none of them), the sentences that say so and why, and further reasons.

    Taken is the best seen; a cheaper one only if the largest loss that the rows leave plausible is within the margin,
    or within what the user says that its cost is worth. Always guessing one class is a yardstick and never taken, nor
    is anything where the best seen is not shown to beat it. `others`: the pairs in other metrics.
    """
    metric, margin = advice.metric, advice.preference.margin
    families = {c.name: kind_row(c.kind).family for c in contenders}
    tuned = {c.name: runs[c.name] for c in contenders if families[c.name] == "tuned"}
    searched = {fit_key(run) for run in tuned.values() if run.settings.get("learning_rate") == "auto"}
    whole = {c.name for c in contenders if not c.ended}
    gains = {name: rise(run, metric, margin, fit_key(run) in searched) for name, run in tuned.items() if name in whole}
    rising = {name: gain for name, gain in gains.items() if gain}
    field = Field(contenders, {(p.a, p.b): p for p in pairs}, families, advice, rising)
    serious, guess = field.serious, field.first("constant")
    if not serious or (guess and not learnt(field, serious[0], guess)):
        return None, nothing_learnt(field, serious, contenders[0], guess, others), reasons_of(field, None)
    choice = chosen(field, guess)
    return (
        choice.name,
        " ".join([verdict_sentence(field, choice), *hopeless(field), what_would_change(field, choice), *ladder(field)]),
        [*reasons_of(field, choice), *borrowed_rates(contenders, runs)],
    )


def chosen(field: Field, guess: Contender | None) -> Contender:
    """The best seen, or the cheapest of those whose largest plausible loss is accepted; of equally cheap ones the best.

    Where the user prefers cheap, a loss counts only if it is shown. A training that was ended for not passing what is
    cheap is taken only if it is shown to.
    """
    serious, preference = field.serious, field.advice.preference
    others = [c for c in serious if not c.ended]
    best = next((c for c in serious if not c.ended or all(field.beats(c, other) for other in others)), serious[0])
    accepted = [
        c
        for c in serious[serious.index(best) :]
        if c is best
        or level(field, best, c)
        or field.advice.regret[c.name] <= preference.tolerance(c, best)
        or (preference.prefer == "cheap" and not any(field.beats(other, c) for other in serious))
    ]
    accepted = [c for c in accepted if c is best or not guess or learnt(field, c, guess)]
    cheap = min(total_seconds(c.cost) for c in accepted)
    return next(c for c in accepted if total_seconds(c.cost) <= 1.5 * cheap + 1 or not np.isfinite(cheap))


def level(field: Field, best: Contender, c: Contender) -> bool:
    """Whether `c` scores exactly what the best seen does, and is best seen, too."""
    return field.pairs[best.name, c.name].difference == 0


def learnt(field: Field, best: Contender, guess: Contender) -> bool:
    """Whether a contender is shown to beat guessing, which is no mean rival in calibration alone."""
    if field.metric == "ece":
        return True
    pair = field.pairs.get((best.name, guess.name))
    return pair is not None and pair.verdict == "better"


def nothing_learnt(
    field: Field, serious: Sequence[Contender], top: Contender, guess: Contender | None, others: Sequence[Pair]
) -> str:
    """Why none of them is taken."""
    if not serious or guess is None:
        return (
            f"Nothing to choose from: {top.name} ({field.label} {field.says(top)}) only guesses; fit lr or fine-tune."
        )
    best = serious[0]
    pair = field.pairs.get((best.name, guess.name)) or field.pairs[guess.name, best.name]
    more = f" {precision(field, pair)}" if pair.more_rows else ""
    start = (
        f"None of these: {best.name} ({field.label} {field.says(best)}) is not shown to beat always guessing "
        f"one class ({field.says(guess)}; adjusted {format_p(pair.p_adjusted)})"
    )
    for c in serious:
        for pair in others:
            if pair.verdict == "better" and (pair.a, pair.b) == (c.name, guess.name):
                m = pair.metric
                mine, plain = score(m, c.metrics[m].value), score(m, guess.metrics[m].value)
                return (
                    f"{start}; but by {METRICS[m].label} {c.name} is ({mine} against {plain}): where classes are "
                    f"uneven that tells more, yet a metric counts as named beforehand (--metric {m}) only on rows "
                    f"not yet judged.{more}"
                )
    few = field.advice.rows < FEW_ROWS and field.advice.folds is None
    more_first = "judge more rows (--split 60/10/30) before you doubt the labels"
    remedy = more_first if few else "look at the labels before the models"
    return f"{start}, so {remedy}.{more}"


FEW_ROWS = 200  # judged ones, below which little is ever shown


def verdict_sentence(field: Field, choice: Contender) -> str:
    """What to take, how it stands to the best of the others, what the cheaper or the better one means."""
    serious, m = field.serious, field.metric
    best, head = serious[0], HEADS[field.families[choice.name]]
    if field.families[choice.name] == "words" and not {"probe", "tuned"} <= set(field.families.values()):
        head = "TF-IDF"
    if choice is best:
        return f"{head}: {leads(field, choice, serious)}{cheaper_half(field, choice)}{finding(field, choice)}."
    loss = field.advice.regret[choice.name]
    may = f"may lose up to {change(m, loss)}{unit(m)}"
    whole = next((c for c in serious if not c.ended), None)
    if best.ended and whole is not None and (choice is whole or level(field, whole, choice)):
        return (
            f"{head}: {choice.name} ({field.label} {field.says(choice)}{trained(field, choice)}) is best of those "
            f"trained to their end, and {may}{cheaper_half(field, choice)}{finding(field, choice)}."
        )
    why = {True: f", within ±{change(m, field.margin)}{unit(m)}", False: ""}[loss <= field.margin]
    preference = field.advice.preference
    if not why and level(field, best, choice):
        why = f", as little as {best.name}, which scores the same" if loss else ""
    elif not why:
        saved = preference.worth and loss <= preference.tolerance(choice, best)
        why = f", which {preference.worth.text} accepts" if saved and preference.worth else ", as cheap is preferred"
    return (
        f"{head}: {best.name} is best seen ({field.label} {field.says(best)}{trained(field, best)}); {choice.name} "
        f"({field.says(choice)}) {cheaper(choice, best)} and {may}{why}{finding(field, choice)}."
    )


def trained(field: Field, c: Contender) -> str:
    """That one training speaks for itself, where there is one seed of it and no folds."""
    once = field.families[c.name] == "tuned" and c.seeds == 1 and field.advice.folds is None
    return ", this training" if once else f", the mean of {c.seeds} seeds" if c.seeds > 1 else ""


def even(field: Field, pair: Pair) -> bool:
    """Whether the two are level as far as scores are printed."""
    return change(field.metric, pair.difference) == change(field.metric, 0.0)


def leads(field: Field, choice: Contender, serious: Sequence[Contender]) -> str:
    """How far the best is ahead of the best of each other family, or of the next of its own."""
    rivals = [c for f in ("tuned", "probe", "words") if f != field.families[choice.name] and (c := field.first(f))]
    rivals = rivals or list(serious[1:2])
    leader = f"{choice.name} ({field.label} {field.says(choice)}{trained(field, choice)})"
    if not rivals:
        return f"{choice.name} is all there is to choose from ({field.label} {field.says(choice)})"
    rivals = sorted(rivals, key=field.contenders.index)
    if field.advice.folds is not None:
        return f"{leader} is best seen. {out_of_fold_words(field, choice, rivals)}"
    parts = [
        f"is best seen: it {ahead(field, choice, rival)}" if i == 0 else ahead(field, choice, rival)
        for i, rival in enumerate(rivals)
    ]
    return f"{leader} {' and '.join(parts)}"


def ahead(field: Field, choice: Contender, rival: Contender) -> str:
    """`beats lr by 5.0 points (95 % interval 3.1 to 7.0)`, or as much as is shown."""
    pair, m = field.pairs[choice.name, rival.name], field.metric
    known = f"95 % interval {field.span(pair)}"
    if pair.verdict == "better":
        return f"beats {rival.name} by {change(m, abs(pair.difference))}{unit(m)} ({known})"
    if pair.verdict == "equivalent":
        return f"is as good as {rival.name} ({known})"
    if even(field, pair):
        return f"scores as {rival.name} does ({known})"
    return f"is ahead of {rival.name} by {change(m, abs(pair.difference))}{unit(m)}, which may be chance ({known})"


def out_of_fold_words(field: Field, choice: Contender, rivals: Sequence[Contender]) -> str:
    """`Trained on about 540 rows like these, lr is right 5.4 points more often than tfidf (…)`."""
    assert field.advice.folds is not None, "asked for under cross-validation only"
    m, parts = field.metric, []
    for rival in rivals:
        pair = field.pairs[choice.name, rival.name]
        gap = f"{change(m, abs(pair.difference))}{unit(m)}"
        than = f"{gap} more often than" if m == "accuracy" else f"{METRICS[m].label} better by {gap} than"
        parts.append(f"{than} {rival.name} (95 % interval {field.span(pair)}, over rows, training sets and seeds)")
    verb = "is right" if m == "accuracy" else "has"
    rows = f"{field.advice.folds.training_rows:,}"
    return f"Trained on about {rows} rows like these, {choice.name} {verb} {' and '.join(parts)}"


def cheaper_half(field: Field, choice: Contender) -> str:
    """`; tfidf costs 1/70 of it (…) and may lose up to 3.1 points`: the other half of what is to be weighed."""
    m, mine = field.metric, total_seconds(choice.cost)
    rivals = [c for c in field.serious if 1.5 * total_seconds(c.cost) < mine]
    if not rivals:
        return ""
    rival = min(rivals, key=lambda c: (field.advice.regret[c.name], total_seconds(c.cost)))
    loss = field.advice.regret[rival.name]
    return f"; {rival.name} {cheaper(rival, choice)} and may lose up to {change(m, loss)}{unit(m)}"


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
    if not np.isfinite(other):
        return f"takes {format_duration(mine)} for training and {HORIZON:,} predictions ({best.name}: not known)"
    if mine <= 0:
        return "costs no more than it"
    ratio = other / mine
    share = f"costs {fraction(ratio)} of it" if ratio >= 1.5 else "costs about the same"
    return (
        f"{share} ({format_duration(mine)} against {format_duration(other)} for training and {HORIZON:,} predictions)"
    )


def fraction(ratio: float) -> str:
    """1 / ratio in words: `61 %`, from a third on `1/3`; two significant digits at most."""
    return f"{100 / ratio:.0f} %" if ratio < 2.5 else f"1/{float(f'{ratio:.2g}'):.0f}"


def what_would_change(field: Field, choice: Contender) -> str:
    """The second sentence: on what the choice hangs."""
    m, kinds = field.metric, set(field.families.values())
    serious = field.serious
    best = serious[0]
    tuned = field.first("tuned")
    if tuned and field.families[choice.name] != "tuned" and tuned.name in field.rising:
        gain = field.rising[tuned.name]
        return f"It may change with {gain.remedy}: {tuned.name} was still improving ({gain})."
    if choice is not best and level(field, best, choice):
        return precision(field, field.pairs[best.name, choice.name])
    if choice is not best:
        loss = f"{change(m, field.advice.regret[choice.name])}{unit(m)}"
        if best.ended:
            return (
                f"It would change if a loss of up to {loss} mattered to you: then have {best.name} trained to its end."
            )
        return f"It would change if a loss of up to {loss} mattered to you: then take {best.name}."
    undecided = [p for (a, _), p in field.pairs.items() if a == choice.name and p.verdict == "undecided"]
    open_pairs = [p for p in undecided if field.families[p.b] != "constant"]
    if open_pairs:
        return precision(field, max(open_pairs, key=lambda p: -p.gain + 2 * p.error))
    if "tuned" not in kinds:
        most = abs((0.0 if METRICS[m].lower_is_better else METRICS[m].high) - best.metrics[m].value)
        if most <= field.margin:
            rest = f"{change(m, most)}{unit(m)} at most" if most else "nothing"
            return f"Fine-tuning, which was not tried, could gain {rest} on these rows."
        return "It would change if fine-tuning, which was not tried, gained more than it costs."
    rivals = [c for c in serious[1:] if total_seconds(c.cost) < total_seconds(choice.cost)]
    if not rivals:
        return "Nothing here costs less; it would change only with other contenders or other data."
    rival = rivals[0]
    gap = change(m, abs(field.pairs[choice.name, rival.name].difference))
    return f"It would change if {gap}{unit(m)} over {rival.name} were not worth {price(choice, rival)}."


def precision(field: Field, pair: Pair) -> str:
    """How many rows would make the interval of a pair narrow, and what looking again costs."""
    width = f"±{change(field.metric, 0.02)}{unit(field.metric)}"
    if pair.more_rows is None:
        if any(c.seeds > 1 for c in field.contenders if c.name in (pair.a, pair.b)) and pair.high - pair.low > 0.04:
            return f"No number of rows makes the interval between {pair.a} and {pair.b} {width}: seeds differ by more."
        return (
            f"The interval between {pair.a} and {pair.b} is {width} or less already: more rows are not needed for that."
        )
    return (
        f"About {pair.more_rows:,} more rows would narrow the interval between {pair.a} and {pair.b} to {width}; "
        "judged again on old and new rows together, a verdict is false in 8 of 100 instead of 5."
    )


def price(dear: Contender, cheap: Contender) -> str:
    """`8 min more of training and 3.2 ms a text instead of 0.02`."""
    extra = (training_seconds(dear.cost) or 0.0) - (training_seconds(cheap.cost) or 0.0)
    parts = [f"{format_duration(extra)} more of training"] if extra > 0 else []
    slow, fast = dear.cost.ms_per_text_batch, cheap.cost.ms_per_text_batch
    if slow is not None and fast is not None and slow > 1.2 * fast:
        parts.append(f"{slow:.2g} ms a text instead of {fast:.2g}")
    return " and ".join(parts) or "its cost"
