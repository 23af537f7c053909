"""A run from anywhere joins the contenders, if it was judged on exactly the same rows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from .. import UserError, listed
from ..data import Dataset
from ..run import Run

ELSEWHERE = "fitted on other training rows than the contenders beside it; only the judged rows are the same"


def admit(run: Run, dataset: Dataset) -> Run:
    """`run` as a contender on the test split of `dataset`, whatever it was fitted on.

    A run of other training rows is distinguished by the setting `fitted on`, which its name then shows.

    Raises UserError if its classes, its test rows (by row id) or their labels differ.
    """
    where, test = run.folder, dataset.test
    if set(run.class_names) != set(dataset.class_names):
        theirs, here = set(run.class_names), set(dataset.class_names)
        sides = {"only there": sorted(theirs - here), "only here": sorted(here - theirs)}
        differ = "; ".join(f"{side}: {listed(names[:5])}" for side, names in sides.items() if names)
        raise UserError(f"--run {where}: knows other classes ({differ}); pass a run of the same classes")
    if run.class_names != dataset.class_names:
        raise UserError(f"--run {where}: has its classes in another order; fit it again on a source with labels.json")
    mine = run.predictions.get("test")
    if mine is None:
        raise UserError(f"--run {where}: has no predictions of a labelled test split; fit it again on a labelled one")
    aligned = mine.aligned_to(test.row_ids)
    if aligned is None:
        shared = len(np.intersect1d(mine.row_ids, test.row_ids))
        raise UserError(
            f"--run {where}: was judged on {len(mine.row_ids):,} rows of '{mine.split}', of which {shared:,} are among "
            f"the {len(test):,} of '{test.name}' here; fit it with the same --split, --limit, --rows and --seed"
        )
    wrong = int((aligned.truth != test.labels).sum())
    if wrong:
        raise UserError(f"--run {where}: {wrong:,} of its test rows have another label here; is it another data set?")
    run = replace(run, predictions=run.predictions | {"test": replace(aligned, split=test.name)})
    if run.dataset_digest == dataset.digest:
        return run
    return replace(
        run,
        dataset=dataset.name,
        dataset_digest=dataset.digest,
        settings=run.settings | {"fitted on": f"{run.dataset} {run.dataset_digest[:8]}"},
        notes=(*run.notes, ELSEWHERE),
    )
