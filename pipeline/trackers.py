"""What a comparison found, told to experiment trackers: a run for each contender, and one for the verdict."""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from . import UserError, log
from .finetune.tracking import place_of
from .run import Run
from .verdict import Comparison
from .words import error_line

LONGEST = 500  # characters of a setting: MLflow takes no more


@dataclass(frozen=True)
class Record:
    """One run of a tracker."""

    group: str  # the data set
    name: str
    settings: Mapping[str, Any]
    numbers: Mapping[str, float]
    home: Path  # where what is written to files goes


def records(comparison: Comparison, runs: Sequence[Run], home: Path) -> list[Record]:
    """Each contender with its settings, scores and costs, then the verdict with the difference of each pair."""
    settings = {str(run.folder): run.settings for run in runs}
    told = []
    for one in comparison.contenders:
        costs = {f"cost/{key}": value for key, value in asdict(one.cost).items() if value is not None}
        scores = {f"test/{key}": score.value for key, score in one.metrics.items()}
        facts = {"kind": one.kind, "run": one.run, "recommended": one.name == comparison.recommended}
        told.append(record(comparison, home, one.name, dict(settings.get(one.run, {})) | facts, scores | costs))
    pairs = {f"difference/{pair.a}/{pair.b}": pair.difference for pair in comparison.pairs}
    facts = {"recommendation": comparison.recommendation, "recommended": comparison.recommended}
    return [*told, record(comparison, home, "verdict", facts | {"metric": comparison.metric}, pairs)]


def record(
    comparison: Comparison, home: Path, name: str, settings: Mapping[str, Any], numbers: Mapping[str, float]
) -> Record:
    """Names as every tracker takes them, settings as short texts."""
    plain = {re.sub(r"[^\w\-. /:]", "_", key): float(value) for key, value in numbers.items()}
    short = {re.sub(r"[^\w\-. /:]", "_", key): str(value)[:LONGEST] for key, value in settings.items()}
    return Record(comparison.dataset, name, short, plain, home)


# ── trackers ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _tensorboard(told: Record) -> None:
    from torch.utils.tensorboard import SummaryWriter

    place = os.environ.get("TENSORBOARD_LOGGING_DIR") or told.home / "trackers"
    with SummaryWriter(str(Path(place) / re.sub(r"[^\w\-.]", "_", told.name))) as writer:  # type: ignore[no-untyped-call]
        for key, value in told.numbers.items():
            writer.add_scalar(key, value, 0)  # type: ignore[no-untyped-call]
        for key, text in told.settings.items():
            writer.add_text(key, text, 0)  # type: ignore[no-untyped-call]


def _mlflow(told: Record) -> None:
    import mlflow

    mlflow.set_experiment(place_of("mlflow", told.group))
    with mlflow.start_run(run_name=told.name):
        mlflow.log_params(dict(told.settings))
        mlflow.log_metrics(dict(told.numbers))


def _wandb(told: Record) -> None:
    import wandb

    run = wandb.init(
        project=place_of("wandb", told.group), group=told.group, name=told.name, config=dict(told.settings)
    )
    run.log(dict(told.numbers))
    run.finish()


def _trackio(told: Record) -> None:
    import trackio

    trackio.init(project=place_of("trackio", told.group), name=told.name, config=dict(told.settings))
    trackio.log(dict(told.numbers))
    trackio.finish()


TRACKERS: dict[str, Callable[[Record], None]] = {
    "mlflow": _mlflow,
    "tensorboard": _tensorboard,
    "trackio": _trackio,
    "wandb": _wandb,
}


def check(names: Sequence[str]) -> None:
    """Raises UserError, before anything is fitted, for a tracker whose package is not there."""
    for name in names:
        if name in TRACKERS and importlib.util.find_spec(name) is None:
            raise UserError(f"--report-to {name}: {name} is not installed; pip install {name}, or leave it out")


def tell(names: Sequence[str], comparison: Comparison, runs: Sequence[Run], home: Path) -> None:
    """Everything to each tracker; one that fails is said, and the verdict stands. What only the Trainer knows is its.

    `home`: a folder for those that write files.
    """
    for name in names:
        if name not in TRACKERS:
            continue
        try:
            for told in records(comparison, runs, home):
                TRACKERS[name](told)
        except Exception as error:
            log.warning("--report-to %s: %s; the verdict stands", name, error_line(error))
