"""What a run's record may say: the type of every field, down to the leaves, for whoever reads one from anywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .. import UserError
from ..metrics import METRICS
from ..untrusted import MAY_BE_NAN, check, read_json

NUMBER, TEXT, WHOLE = (None, float), (None, str), (None, int)
SCORES = {"per_class?": {str: {str: (None, MAY_BE_NAN)}}}
SETTINGS = {
    "encoder?": str, "revision?": TEXT, "pooling?": str, "precision?": str, "engine?": str, "storage?": str,
    "calibration?": TEXT, "max_length?": int, "text_parts?": int, "layers?": (None, str, int), "imbalance?": TEXT,
    "min_df?": int, "C?": (None, float, str, [float]), "seed?": int, "epochs?": (int, str), "batch_size?": int,
    "learning_rate?": (None, float, str), "fitted on?": str, "vectors?": str, "freeze?": bool, "head?": TEXT,
    "init_head?": TEXT, "threshold?": (None, str, float),
    "chosen?": (None, {
        "learning_rate?": NUMBER, "epoch?": WHOLE, "epochs?": WHOLE, "device?": TEXT, "precision?": TEXT,
        "ended?": (None, {
            "share": float, "ahead": float, "reach": float, "margin": float, "metric": str, "against": str,
        }),
    }),
}  # fmt: skip
COST = {
    "fit_seconds?": NUMBER, "extract_seconds?": NUMBER, "cpu_seconds?": NUMBER, "peak_rss_mb?": NUMBER,
    "trained_parameters?": WHOLE, "model_mb?": NUMBER, "ms_per_text_batch?": NUMBER, "ms_per_text_single?": NUMBER,
}  # fmt: skip
HISTORY = {
    "what?": str, "C?": float, "log_loss?": float, "seconds?": float, "epoch?": int, "loss?": MAY_BE_NAN,
    "learning_rate?": NUMBER, "validation?": (None, {str: (None, MAY_BE_NAN)}),
}  # fmt: skip
POINTS = {  # what of a history is read by name
    "front": {
        "share": float, "ms_per_text_batch": NUMBER, "accuracy": float,
        "difference": float, "low": float, "high": float,
    },
    "pooling": {"pooling": str, "log_loss": float},
    "final": {"C": float},
}  # fmt: skip
RECORD = {
    "format": int, "kind": str, "settings": SETTINGS, "class_names": [str], "cost": COST, "dataset": str,
    "dataset_digest": str, "checkpoint_digest": TEXT, "seed": int, "seconds": float, "history": [HISTORY],
    "notes": [str], "metrics": {str: SCORES}, "threshold?": NUMBER, "versions": {str: str}, "created": str,
    "splits": {str: str}, "text_columns?": [str],
}  # fmt: skip
AGAIN = "delete the folder and fit again"
ROLES = ("train", "validation", "test")


def read_record(folder: Path, shown_format: int) -> dict[str, Any]:
    """What `run.json` in `folder` says. Raises UserError unless every field is of its type and range."""
    path = folder / "run.json"
    if not path.exists():
        raise UserError(f"{folder}: no run here (no run.json); pass a folder that fit-lr or fine-tune printed")
    record = read_json(path, AGAIN)
    if isinstance(record, dict) and type(record.get("format")) is int and record["format"] != shown_format:
        raise UserError(
            f"{folder}: a run of format {record['format']}, this version reads {shown_format}; fit it again"
        )
    try:
        check(record, RECORD, "it")
        _check_ranges(record)
    except ValueError as error:
        raise UserError(f"{path}: damaged run ({error}); {AGAIN}") from error
    return dict(record)


def _check_ranges(record: dict[str, Any]) -> None:
    if len(record["class_names"]) < 2 or len(set(record["class_names"])) < len(record["class_names"]):
        raise ValueError("it.class_names has fewer than two names, or one twice")
    if not 0 <= (record.get("threshold") or 0) <= 1:
        raise ValueError("it.threshold is not between 0 and 1")
    if record["settings"].get("text_parts", 1) not in (1, 2) or record["settings"].get("max_length", 1) < 1:
        raise ValueError("it.settings has an impossible text_parts or max_length")
    if any((value or 0) < 0 for value in record["cost"].values()) or record["seconds"] < 0:
        raise ValueError("it.cost or it.seconds is below 0")
    if unknown := [role for role in record["splits"] if role not in ROLES]:
        raise ValueError(f"it.splits has a role that is none: {unknown[0][:40]!r}")
    chosen = record["settings"].get("chosen") or {}
    if (chosen.get("ended") or {"metric": "accuracy"})["metric"] not in METRICS:
        raise ValueError("it.settings.chosen.ended names no metric")
    for i, point in enumerate(record["history"]):
        check(point, POINTS.get(point.get("what"), {}), f"it.history[{i}]")
    for role, scores in record["metrics"].items():
        check({name: value for name, value in scores.items() if name != "per_class"},
              {str: (None, MAY_BE_NAN)}, f"it.metrics.{role[:40]}")  # fmt: skip
