"""A run: settings, predictions, cost and model of one fitted contender, as one folder without pickle.

`runs/<data set>-<digest>/<kind>-<digest>/` holds `run.json`, `predictions.safetensors` and `model/`. It is written as
a draft and renamed, so that a folder of that name is always whole; the name is a digest of what was asked for, so that
the same question is answered by finding the folder, not by fitting again.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
import re
import secrets
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import UserError, log
from pipeline.metrics import decide, scores

FORMAT = 1
PACKAGES = ("torch", "transformers", "datasets", "scikit-learn", "imbalanced-learn", "openvino", "numpy")


@dataclass(frozen=True, eq=False)
class Predictions:
    """What a run says of one split, in the split's own order."""

    split: str
    row_ids: np.ndarray  # (n,) str
    truth: np.ndarray  # (n,) int64
    proba: np.ndarray  # (n, k) float32, rows sum to 1
    threshold: float | None = None  # of the run that says it

    @property
    def labels(self) -> np.ndarray:
        """Class numbers (n,): what the run answers, by its threshold if it has one."""
        return decide(self.proba, self.threshold)


@dataclass(frozen=True)
class Cost:
    """What a run took and what its model takes. None where it was not measured."""

    fit_seconds: float | None = None  # learning, search included
    extract_seconds: float | None = None  # encoding its rows once, whether or not they came from the cache this time
    cpu_seconds: float | None = None
    peak_rss_mb: float | None = None
    trained_parameters: int | None = None
    model_mb: float | None = None  # everything prediction needs, the encoder included
    ms_per_text_batch: float | None = None  # text to probabilities, in large batches
    ms_per_text_single: float | None = None  # the same, one text at a time


@dataclass(frozen=True, eq=False)
class Run:
    """One fitted contender. `predictions` is keyed by role: 'validation', 'test', 'train' (out of fold).

    Costs are in seconds, megabytes (10⁶ bytes) and milliseconds a text, as their names say.

    Raises nothing itself: `load_run` answers for a folder that is no run.

    Examples
    --------
    >>> from pipeline import load_run
    >>> run = load_run(RUN)
    >>> run.kind, run.class_names, run.predictions["test"].proba.shape
    ('lr', ('ham', 'spam'), (30, 2))
    >>> 0 <= run.metrics["test"]["macro_f1"] <= 1
    True
    """

    kind: str
    settings: dict[str, Any]
    class_names: tuple[str, ...]
    predictions: dict[str, Predictions]
    cost: Cost
    dataset: str
    dataset_digest: str
    checkpoint_digest: str | None = None  # None: needs no encoder
    seed: int = 0
    seconds: float = 0.0  # wall clock of the whole call
    history: list[dict[str, Any]] = field(default_factory=list)  # per epoch, or per point of a search
    notes: tuple[str, ...] = ()
    metrics: dict[str, dict[str, Any]] = field(default_factory=dict)  # role -> scores()
    threshold: float | None = None  # two classes: the second from this probability on, instead of the likelier one
    versions: dict[str, str] = field(default_factory=dict)
    created: str = ""
    folder: Path | None = None  # where it lies; None until saved

    @property
    def model_folder(self) -> Path:
        assert self.folder is not None, "a run has a model once it is saved"
        return self.folder / "model"

    def to_json(self) -> dict[str, Any]:
        """What `--json` prints of a run."""
        return {
            "run": str(self.folder),
            "kind": self.kind,
            "dataset": self.dataset,
            "class_names": list(self.class_names),
            "metrics": self.metrics,
            "settings": self.settings,
            "seconds": self.seconds,
            "cost": asdict(self.cost),
            "notes": list(self.notes),
            "checkpoint_digest": self.checkpoint_digest,
            "history": self.history,
        }


# ── the folder ──────────────────────────────────────────────────────────────────────────────────────────────────────


def digest(value: Any) -> str:
    """Hexadecimal digest of a JSON value, independent of key order."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=str)
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def slug(name: str) -> str:
    """A file name that says what `name` says."""
    return re.sub(r"[^A-Za-z0-9._+-]+", "-", name).strip("-.") or "unnamed"


def run_folder(
    runs: Path,
    dataset: str,
    dataset_digest: str,
    kind: str,
    settings: dict[str, Any],
    checkpoint_digest: str | None,
    seed: int,
) -> Path:
    """Where the run that answers exactly this question lies, fitted or not.

    Where an encoder lies and what it is called does not count: its digest says what it is.
    """
    counted = {name: value for name, value in settings.items() if name not in ("encoder", "revision")}
    asked = digest([FORMAT, kind, counted, checkpoint_digest, seed])
    return Path(runs) / f"{slug(dataset)}-{dataset_digest[:16]}" / f"{slug(kind)}-{asked}"


def save(run: Run, folder: Path, write_model: Callable[[Path], None]) -> Run:
    """Write `run` to `folder` in one rename; `write_model` fills the empty `model/` folder that it is given.

    If another process published the same folder meanwhile, that one is kept and returned.

    Raises UserError if the folder cannot be written.
    """
    from safetensors import SafetensorError  # what a full disk is there

    folder = Path(folder)
    draft = folder.parent / f".draft-{secrets.token_hex(8)}"
    try:
        (draft / "model").mkdir(parents=True)
        write_model(draft / "model")
        whole = replace(
            run,
            metrics={
                role: scores(p.truth, p.proba, run.class_names, p.threshold)
                for role, p in run.predictions.items()
                if len(p.truth) and (p.truth >= 0).all()
            },
            versions=run.versions or versions(),
            created=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            cost=run.cost if run.cost.model_mb is not None else replace(run.cost, model_mb=folder_mb(draft / "model")),
        )
        _write_predictions(draft / "predictions.safetensors", run.predictions)
        record = {f.name: getattr(whole, f.name) for f in fields(whole) if f.name not in ("predictions", "folder")}
        record |= {
            "format": FORMAT,
            "cost": asdict(whole.cost),
            "splits": {r: p.split for r, p in run.predictions.items()},
        }
        (draft / "run.json").write_text(json.dumps(record, indent=1, ensure_ascii=False, default=_plain), "utf-8")
        for file in draft.rglob("*"):
            if file.is_file():
                with open(file, "rb") as handle:
                    os.fsync(handle.fileno())
        try:
            os.rename(draft, folder)
        except OSError:
            if (folder / "run.json").exists():
                return load_run(folder)
            if not folder.exists():
                raise
            set_aside(folder, "not whole")
            os.rename(draft, folder)
        return replace(whole, folder=folder)
    except (OSError, SafetensorError) as error:
        why = getattr(error, "strerror", None) or error
        raise UserError(f"{folder}: cannot write the run ({why}); choose another --runs") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def find(folder: Path) -> Run | None:
    """The run at `folder`, or None if it has not been fitted, or has been damaged since: then it is set aside."""
    folder = Path(folder)
    if not (folder / "run.json").exists():
        return None
    try:
        run = load_run(folder)
        broken = [file.name for file in (folder / "model").glob("*.safetensors") if not _is_whole(file)]
        problem = f"{broken[0]} is damaged" if broken else ""
        problem = problem or ("" if any((folder / "model").iterdir()) else "its model is gone")
    except (UserError, OSError) as error:
        run, problem = None, str(error)
    if problem:
        set_aside(folder, problem)
        return None
    return run


def set_aside(folder: Path, problem: str) -> None:
    """Move a damaged run out of the way, so that it is fitted again; nothing is deleted."""
    aside = folder.with_name(f".damaged-{secrets.token_hex(4)}-{folder.name}")
    os.rename(folder, aside)
    log.warning("%s: %s; moved to %s", folder, problem, aside.name)


def _is_whole(file: Path) -> bool:
    """Whether a safetensors file is as long as its header says."""
    try:
        with open(file, "rb") as handle:
            length = int.from_bytes(handle.read(8), "little")
            header = json.loads(handle.read(length)) if length < file.stat().st_size else {}
        ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
        return bool(ends) and file.stat().st_size == 8 + length + max(ends)
    except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError):
        return False


def load_run(folder: Path | str) -> Run:
    """Read a run's record and predictions; its model is opened by the module that made it.

    Raises UserError if `folder` is not a run, is of a newer format, or has been damaged. Nothing in the folder is
    executed, whatever it holds.

    Examples
    --------
    >>> from pipeline import load_run
    >>> load_run(RUN).folder == RUN  # RUN is the folder that fit-lr printed
    True
    """
    folder = Path(folder)
    try:
        record = json.loads((folder / "run.json").read_text("utf-8"))
    except FileNotFoundError as error:
        raise UserError(
            f"{folder}: no run here (no run.json); pass a folder that fit-lr or fine-tune printed"
        ) from error
    except (OSError, ValueError) as error:
        raise UserError(f"{folder / 'run.json'}: damaged ({error}); delete the folder and fit again") from error
    try:
        if record["format"] != FORMAT:
            raise UserError(f"{folder}: a run of format {record['format']}, this version reads {FORMAT}; fit it again")
        if not (isinstance(record["kind"], str) and isinstance(record["settings"], dict)):
            raise ValueError("no kind or no settings")
        if not all(value is None or isinstance(value, int | float) for value in record["cost"].values()):
            raise ValueError("a cost that is no number")
        splits = record.pop("splits")
        del record["format"]
        classes = tuple(str(name) for name in record.pop("class_names"))
        threshold = record.get("threshold")
        predictions = _read_predictions(folder / "predictions.safetensors", splits, len(classes), threshold)
        return Run(
            **{f.name: record[f.name] for f in fields(Run) if f.name in record and f.name not in ("cost", "notes")},
            class_names=classes,
            cost=Cost(**record["cost"]),
            notes=tuple(record["notes"]),
            predictions=predictions,
            folder=folder,
        )
    except UserError:
        raise
    except Exception as error:  # a stranger's file can be wrong in any way
        raise UserError(f"{folder}: damaged run ({type(error).__name__}: {error}); delete it and fit again") from error


def runs_of(runs: Path, dataset: str, dataset_digest: str) -> list[Run]:
    """Every run fitted on exactly these rows, labels and splits, oldest first."""
    home = Path(runs) / f"{slug(dataset)}-{dataset_digest[:16]}"
    return sorted((load_run(f.parent) for f in home.glob("[!.]*/run.json")), key=lambda run: run.created)


def versions() -> dict[str, str]:
    """Versions of what the numbers depend on, without importing any of it."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def folder_mb(folder: Path) -> float:
    """Megabytes (10⁶ bytes) of the files below `folder`."""
    return sum(file.stat().st_size for file in Path(folder).rglob("*") if file.is_file()) / 1e6


def _plain(value: Any) -> Any:
    """NumPy scalars, arrays and paths as JSON knows them."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    return str(value)


def _write_predictions(path: Path, predictions: dict[str, Predictions]) -> None:
    from safetensors.numpy import save_file

    arrays = {}
    for role, p in predictions.items():
        assert len(p.row_ids) == len(p.truth) == len(p.proba), "a prediction a row"
        ids = "\n".join(map(str, p.row_ids)).encode("utf-8")
        arrays[f"{role}.row_ids"] = np.frombuffer(ids, np.uint8)  # safetensors knows no strings
        arrays[f"{role}.truth"] = np.ascontiguousarray(p.truth, np.int64)
        arrays[f"{role}.proba"] = np.ascontiguousarray(p.proba, np.float32)
    save_file(arrays, path)


def _read_predictions(
    path: Path, splits: dict[str, str], classes: int, threshold: float | None
) -> dict[str, Predictions]:
    from safetensors.numpy import load_file

    arrays, found = load_file(path), {}
    for role, split in splits.items():
        raw = arrays[f"{role}.row_ids"].tobytes().decode("utf-8")
        ids = np.array(raw.split("\n") if raw else [], dtype=str)
        truth, proba = arrays[f"{role}.truth"], arrays[f"{role}.proba"]
        if not (len(ids) == len(truth) == len(proba)) or proba.shape[1:] != (classes,) or truth.dtype != np.int64:
            raise UserError(f"{path}: predictions of '{role}' do not fit together; delete the run and fit it again")
        found[role] = Predictions(split, ids, truth, proba, threshold)
    return found
