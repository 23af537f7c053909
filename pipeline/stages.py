"""The stages' own functions as Python calls them: reading, opening and exporting, of a path as of what it holds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import options
from .options import commands
from .options.keywords import in_memory, spoken

if TYPE_CHECKING:
    from .data import Dataset, SourceOptions
    from .encoder import Runtime
    from .export import Handed
    from .predict import Model
    from .predict.classifier import Classifier
    from .run import Run


def read(source: Any, allow_one_class: bool = False) -> Dataset:
    """A labelled source in memory, divided into train, validation and test: a SourceOptions, or what `compare` takes.

    A source with one split is cut 80/10/10; one without a validation split gives a tenth of train; one without a
    labelled test split is judged on its first validation split. `notes` says what was decided, and so does the log.
    `allow_one_class`: do not refuse a train split with a single class (`class_names` then holds all that are named).

    Raises UserError, in one line, for everything that cannot be read or learnt from.

    Examples
    --------
    >>> from probe_or_tune import SourceOptions, read
    >>> data = read(SourceOptions("sms-spam", rows="first:100"))
    >>> data.train.labels.shape, data.train.texts[0][0][:20]
    ((80,), ...)
    """
    from . import data

    with spoken(options.source_options):
        return data.read(source_of(source), allow_one_class)


def source_of(source: Any) -> SourceOptions:
    """SourceOptions as they are, a path's or a name's, or those of rows in memory."""
    from .data import SourceOptions
    from .data.frames import frames

    if isinstance(source, SourceOptions):
        return source
    return SourceOptions("data", frames=frames(source)) if in_memory(source) else SourceOptions(source)


def open_run(
    run: Run | Classifier | Path | str,
    runtime: Runtime | None = None,
    cache: Path | str = "cache",
    encoder: str | None = None,
    precision: str | None = None,
) -> Model:
    """The model of a run, or of the folder of one, ready to predict.

    `encoder` says where its encoder lies now, if not where it was. `precision` is what to compute in, instead of what
    suits the machine (int8 for a run fitted on int8 vectors).

    Raises UserError if the run's files are damaged, or if its encoder has changed since or cannot be found.

    Examples
    --------
    >>> from probe_or_tune import open_run
    >>> model = open_run(RUN, cache=TMP / "cache")
    >>> proba = model.proba([("win a prize now",), ("see you at home",)])  # a text is a tuple of 1 or 2 strings
    >>> proba.shape, proba.sum(1).round(3).tolist()
    ((2, 2), [1.0, 1.0])
    """
    from . import predict
    from .run import as_run

    with spoken(commands.opening_options, options.encoder_options):
        return predict.open_run(as_run(run), runtime, Path(cache), encoder, precision)


def export_run(run: Run | Classifier | Path | str, form: str, out: Path | str, **settings: Any) -> Handed:
    """Write `run` into the new folder `out`, checked on 200 texts of `source` (default: of the bundled data set).

    `settings` are the other fields of `ExportSettings`: `source`, `runtime`, `cache`, `encoder` (where the
    run's encoder is now, if it has moved), `repository` (OWNER/NAME, to which it is uploaded at last).

    Raises UserError for a format that there is not or that cannot hold this run exactly, if `out` exists already,
    if the export does not answer as the run does, and if it cannot be uploaded (then it is there all the same).

    Examples
    --------
    >>> from probe_or_tune import export_run
    >>> done = export_run(RUN, "joblib", TMP / "served", cache=TMP / "cache")
    >>> sorted(done.files)
    ['README.md', 'model.joblib']
    >>> import joblib
    >>> joblib.load(TMP / "served" / "model.joblib").predict_proba(["win a prize now"]).shape
    (1, 2)
    """
    from . import export
    from .run import as_run

    with spoken(commands.export_options, format="form", push="repository"):
        if (source := settings.get("source")) is not None:
            settings["source"] = source_of(source)
        return export.export_run(as_run(run), form, Path(out), **settings)
