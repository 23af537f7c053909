"""A run: settings, predictions, cost and model of one fitted contender, as one folder without pickle.

`runs/<data set>-<digest>/<kind>-<digest>/` holds `run.json`, `predictions.safetensors` and `model/`. It is written as
a draft and renamed, so that a folder of that name is always whole; the name is a digest of what was requested where it
differs from the defaults, so that the same question is answered by finding the folder, not by fitting again.

`record` says what a run holds, `folder` writes and reads it, `fit` finds a run or has it fitted.
"""

from .ended import ENDED, STOP, ended, in_words
from .fit import Fit, Fitted, Question, answer, fit_once, labelled, work_folder
from .folder import as_run, digest, find, folder_mb, load_run, rewritten, runs_folder, runs_of, save, slug, versions
from .record import Cost, Predictions, Run, probabilities

__all__ = [
    "ENDED",
    "STOP",
    "Cost",
    "Fit",
    "Fitted",
    "Predictions",
    "Question",
    "Run",
    "answer",
    "as_run",
    "digest",
    "ended",
    "find",
    "fit_once",
    "folder_mb",
    "in_words",
    "labelled",
    "load_run",
    "probabilities",
    "rewritten",
    "runs_folder",
    "runs_of",
    "save",
    "slug",
    "versions",
    "work_folder",
]
