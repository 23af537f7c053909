"""The same rows for all: predictions of the judged split in one order, or the reason why there is none."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .. import UserError, listed
from ..run import Predictions, Run


def aligned(runs: Sequence[Run]) -> list[Predictions]:
    """Every run's predictions of the judged split (test, else validation), in the first run's order.

    Raises UserError if the runs cannot be compared row by row.
    """
    if not runs:
        raise UserError("no runs to compare; fit one with fit-lr or fine-tune, or leave out --only-existing")
    first = runs[0]
    for run in runs[1:]:
        if run.dataset_digest != first.dataset_digest:
            raise UserError(
                f"{label(run)} was fitted on other rows, labels or splits ({run.dataset}, {run.dataset_digest[:8]}) "
                f"than {label(first)} ({first.dataset}, {first.dataset_digest[:8]}); fit both on the same rows"
            )
        if run.class_names != first.class_names:
            raise UserError(
                f"{label(run)} knows the classes {listed(run.class_names)}, "
                f"{label(first)} {listed(first.class_names)}; fit both on the same source"
            )
    role = judged_role(runs)
    return [in_order(run, run.predictions[role], first, first.predictions[role]) for run in runs]


def judged_role(runs: Sequence[Run]) -> str:
    """The role that runs are judged on: test, or validation where one of them has no labelled test split.

    Raises UserError if there is neither.
    """
    role = next((role for role in ("test", "validation") if all(judgeable(run, role) for run in runs)), None)
    if role is None:
        lacking = [label(run) for run in runs if not judgeable(run, "test")]
        raise UserError(f"{listed(lacking)}: no predictions of a labelled test split; fit again on a labelled one")
    return role


def judgeable(run: Run, role: str) -> bool:
    """Whether the run predicted that role and its labels are known."""
    predictions = run.predictions.get(role)
    return predictions is not None and len(predictions.truth) > 0 and bool((predictions.truth >= 0).all())


def in_order(run: Run, mine: Predictions, first: Run, wanted: Predictions) -> Predictions:
    """`mine` in the row order of `wanted`.

    Raises UserError, with how many rows differ, unless both hold the same row ids with the same labels.
    """
    same_rows = mine.aligned_to(wanted.row_ids)
    if same_rows is None:
        alone = np.setxor1d(mine.row_ids, wanted.row_ids)
        count = max(len(alone), abs(len(mine.row_ids) - len(wanted.row_ids)))
        raise UserError(
            f"{label(run)} and {label(first)} were judged on different rows of '{wanted.split}' ({count} of them "
            "are in one only); fit both with the same --limit, --rows and --split"
        )
    wrong = int((same_rows.truth != wanted.truth).sum())
    if wrong:
        raise UserError(f"{label(run)} and {label(first)} disagree on the label of {wrong} rows; fit both again")
    return same_rows


def label(run: Run) -> str:
    """How an error names a run."""
    return run.folder.name if run.folder else run.kind
