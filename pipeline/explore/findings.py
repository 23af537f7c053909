"""Profile → findings: what a data set will cost its models, in sentences, dearest first."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from ..data.labels import are_dates, same_but_for_looks
from ..words import counted
from .record import Finding, Profile

_rows = partial(counted, thing="row")


def find(profile: Profile, roles: Mapping[str, str]) -> tuple[Finding, ...]:
    """Everything worth saying of `profile`; `roles`: role → split name."""
    findings = [finding for look in LOOKS for finding in look(profile, roles)]
    return tuple(sorted(findings, key=lambda finding: -finding.cost))


def _leak_findings(made: Profile, roles: Mapping[str, str]) -> list[Finding]:
    """A leaked row is scored as remembered, not as understood."""
    findings = []
    for table, how in ((made.leaks, ""), (made.near_leaks, " but for white space")):
        for pair, count in table.items():
            first, second = pair.split("/")
            if count and first in roles.values() and second in roles.values():
                share = count / made.splits[second].rows
                sentence = (
                    f"{_rows(count)} of {second} ({share:.1%}) {'stands' if count == 1 else 'stand'} in {first}{how}: "
                    f"scores on {second} flatter whoever remembers {first}."
                )
                findings.append(Finding("leak", share, sentence))
    return findings


def _conflict_findings(made: Profile, roles: Mapping[str, str]) -> list[Finding]:
    return [
        Finding(
            "conflict",
            split.outvoted / split.rows,
            f"{split.conflicting} text{'s' if split.conflicting > 1 else ''} of {name} "
            f"{'have' if split.conflicting > 1 else 'has'} more than one label: at best "
            f"{1 - split.outvoted / split.rows:.1%} of its rows can be got right.",
        )
        for name, split in made.splits.items()
        if split.conflicting
    ]


def _truncation_findings(made: Profile, roles: Mapping[str, str]) -> list[Finding]:
    if not made.truncated_share:
        return []
    sentence = (
        f"{made.truncated_share:.1%} of the texts are longer than max_length {made.effective_max_length} and are cut "
        f"there; the longest has {made.tokens['max']:.0f} tokens, the encoder reads {made.limit}."
    )
    return [Finding("truncated", made.truncated_share / 2, sentence)]


def _balance_findings(made: Profile, roles: Mapping[str, str]) -> list[Finding]:
    """What accuracy hides: the score of always answering the largest class, above that of guessing evenly."""
    counts = {name: rows for name, rows in made.splits[roles["train"]].classes.items() if rows}
    largest, smallest = max(counts, key=lambda c: counts[c]), min(counts, key=lambda c: counts[c])
    if counts[largest] < 1.5 * counts[smallest]:
        return []
    share = counts[largest] / sum(counts.values())
    sentence = (
        f"Classes are uneven: {_rows(counts[largest])} of '{largest}', {counts[smallest]} of '{smallest}' in train; "
        f"always answering '{largest}' is right for {share:.1%} of them, so read macro F1 beside accuracy."
    )
    return [Finding("imbalance", max(0.0, share - 1 / len(counts)), sentence)]


def _repeat_findings(made: Profile, roles: Mapping[str, str]) -> list[Finding]:
    return [
        Finding(
            "duplicates",
            split.duplicates / split.rows / 2,
            f"{_rows(split.duplicates)} of {name} ({split.duplicates / split.rows:.1%}) "
            f"{'repeats' if split.duplicates == 1 else 'repeat'} an earlier text.",
        )
        for name, split in made.splits.items()
        if split.duplicates
    ]


def _empty_findings(made: Profile, roles: Mapping[str, str]) -> list[Finding]:
    total = sum(split.rows for split in made.splits.values())
    if not made.empty:
        return []
    verb = "has" if made.empty == 1 else "have"
    sentence = f"{_rows(made.empty)} ({made.empty / total:.1%}) {verb} an empty text; --drop-empty leaves them out."
    return [Finding("empty", made.empty / total, sentence)]


def _placeholder_findings(made: Profile, roles: Mapping[str, str]) -> list[Finding]:
    total = sum(split.rows for split in made.splits.values())
    if not made.placeholders:
        return []
    verb = "is" if made.placeholders == 1 else "are"
    sentence = (
        f"{_rows(made.placeholders)} ({made.placeholders / total:.1%}) {verb} nothing but a word for a missing value, "
        "such as 'nan'; check --text, or drop them."
    )
    return [Finding("placeholders", made.placeholders / total, sentence)]


def _label_findings(made: Profile, roles: Mapping[str, str]) -> list[Finding]:
    """Labels that are no classes, or one class under several names."""
    counts = {name: sum(split.classes.get(name, 0) for split in made.splits.values()) for name in made.class_names}
    total = max(1, sum(counts.values()))
    findings = []
    for names in same_but_for_looks(made.class_names):
        share = (sum(counts[name] for name in names) - max(counts[name] for name in names)) / total
        shown = ", ".join(map(repr, names[:6]))
        sentence = f"Labels differ in case, white space or hyphens alone: {shown}; these are {len(names)} classes here."
        findings.append(Finding("label variants", share, sentence))
    many = f"{len(counts):,} classes in {_rows(total)}"
    if are_dates(made.class_names):
        findings.append(
            Finding("labels", 1.0, f"The labels are dates ({many}): they name moments, not classes; check --label.")
        )
    elif len(counts) >= 50 and len(counts) > total / 5:
        sentence = f"There are {many}, fewer than 5 a class: is the label an id, a name or a number? Check --label."
        findings.append(Finding("labels", 0.9, sentence))
    return findings


def _order_findings(made: Profile, roles: Mapping[str, str]) -> list[Finding]:
    """Costs nothing as long as nobody takes the first rows."""
    names = [name for name, split in made.splits.items() if split.sorted_by_label]
    if not names:
        return []
    what = f"Sorted by label: {', '.join(names)}; the first rows are all of one class, so take samples with --limit."
    return [Finding("sorted", 0.001, what)]


def _name_findings(made: Profile, roles: Mapping[str, str]) -> list[Finding]:
    shares = made.named_in_text
    if not shares or max(shares.values()) < 0.05:
        return []
    name = max(shares, key=lambda c: shares[c])
    sentence = f"The label stands in the text: '{name}' in {shares[name]:.1%} of its rows; check that it is no leak."
    return [Finding("label in text", shares[name] / 4, sentence)]


def _unknown_findings(made: Profile, roles: Mapping[str, str]) -> list[Finding]:
    shares = made.unknown_by_class or {}
    if not shares or max(shares.values()) < 0.01:
        return []
    name = max(shares, key=lambda c: shares[c])
    sentence = (
        f"The tokenizer does not know {shares[name]:.1%} of the tokens of '{name}'; try an encoder of that language."
    )
    return [Finding("unknown tokens", shares[name], sentence)]


def _rare_findings(made: Profile, roles: Mapping[str, str]) -> list[Finding]:
    """Classes that the test split judges on a handful of rows, or not at all."""
    role = next((role for role in ("test", "validation") if role in roles), None)
    if role is None:
        return []
    counts = made.splits[roles[role]].classes
    thin = [name for name, rows in counts.items() if rows < 10]
    if not thin:
        return []
    verb = "class has" if len(thin) == 1 else "classes have"
    sentence = (
        f"{len(thin)} {verb} fewer than 10 rows in {roles[role]} ({', '.join(thin[:3])}): "
        "their scores are little more than chance."
    )
    return [Finding("rare classes", len(thin) / len(counts) / 10, sentence)]


LOOKS = (
    _leak_findings,
    _conflict_findings,
    _truncation_findings,
    _balance_findings,
    _repeat_findings,
    _empty_findings,
    _placeholder_findings,
    _label_findings,
    _order_findings,
    _name_findings,
    _unknown_findings,
    _rare_findings,
)
