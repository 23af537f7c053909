"""A run's folder: written atomically, read without trust, set aside where it is damaged."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import secrets
import time
import unicodedata
from collections.abc import Callable
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from .. import UserError, installed_version, log
from ..files import disk_errors, draft, publish
from ..metrics import scores
from ..untrusted import open_regular
from ..words import error_line
from .record import Cost, Predictions, Run
from .shape import AGAIN, read_record

FORMAT = 1
PACKAGES = ("torch", "transformers", "datasets", "scikit-learn", "imbalanced-learn", "openvino", "numpy")


def digest(value: Any) -> str:
    """Hexadecimal digest of a JSON value, independent of key order."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=str)
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def slug(name: str) -> str:
    """A file name that says what `name` says, of at most 120 bytes, letters of any script among them."""
    plain = re.sub(r"[^\w.+-]+", "-", unicodedata.normalize("NFC", name)).strip("-.")
    return plain.encode()[:120].decode("utf-8", "ignore").strip("-.") or "unnamed"


def save(run: Run, folder: Path, write_model: Callable[[Path], None]) -> Run:
    """Write `run` to `folder` in one rename; `write_model` fills the empty `model/` folder that it is given.

    If another process published the same folder meanwhile, that one is kept and returned.

    Raises UserError if the folder cannot be written.
    """
    from safetensors import SafetensorError  # what a full disk is there

    folder = Path(folder)
    with disk_errors(folder, "cannot write the run", "choose another --runs", (SafetensorError,)):
        try:
            with draft(folder) as new:
                (new / "model").mkdir(parents=True)
                write_model(new / "model")
                finished = _finished(run, new / "model")
                _write_predictions(new / "predictions.safetensors", run.predictions)
                text = json.dumps(_record(finished), indent=1, ensure_ascii=False, default=_plain)
                (new / "run.json").write_text(text, "utf-8")
                if folder.exists() and not (folder / "run.json").exists():
                    set_aside(folder, "not whole")
        except OSError:
            if (folder / "run.json").exists():
                return load_run(folder)
            raise
    return replace(finished, folder=folder)


def rewritten(run: Run) -> Run:
    """`run`, whose record says from now on what it says; where it cannot be written, only this process knows."""
    assert run.folder is not None, "a run that lies somewhere"
    text = json.dumps(_record(run), indent=1, ensure_ascii=False, default=_plain)
    try:
        publish(run.folder / "run.json", text.encode("utf-8"))
    except OSError as error:
        log.warning("%s: its record cannot be written again (%s)", run.folder, error_line(error))
    return run


def _record(run: Run) -> dict[str, Any]:
    """What `run.json` says."""
    record = {f.name: getattr(run, f.name) for f in fields(run) if f.name not in ("predictions", "folder")}
    splits = {role: p.split for role, p in run.predictions.items()}
    return record | {"format": FORMAT, "cost": asdict(run.cost), "splits": splits}


def _finished(run: Run, model: Path) -> Run:
    """A run with its scores, versions, time and the size of its model."""
    return replace(
        run,
        metrics={
            role: scores(p.truth, p.proba, run.class_names, p.threshold)
            for role, p in run.predictions.items()
            if len(p.truth) and (p.truth >= 0).all()
        },
        versions=run.versions or versions(),
        created=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        cost=run.cost if run.cost.model_mb is not None else replace(run.cost, model_mb=folder_mb(model)),
    )


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
        with open_regular(file) as handle:
            length = int.from_bytes(handle.read(8), "little")
            header = json.loads(handle.read(length)) if length < file.stat().st_size else {}
        ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
        return bool(ends) and file.stat().st_size == 8 + length + max(ends)
    except (UserError, OSError, ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError):
        return False


def load_run(folder: Path | str) -> Run:
    """Read a run's record and predictions; its model is opened by the module that made it.

    Raises UserError if `folder` is not a run, is of a newer format, or has been damaged. Nothing in the folder is
    executed, whatever it holds.

    Examples
    --------
    >>> from probe_or_tune import load_run
    >>> load_run(RUN).folder == RUN  # RUN is the folder that fit-lr printed
    True
    """
    if not isinstance(folder, str | os.PathLike):
        raise UserError(
            f"a {type(folder).__name__} is no run; pass a Run, or the folder that fit-lr or fine-tune printed"
        )
    folder = Path(folder)
    record = read_record(folder, FORMAT)
    classes = tuple(record["class_names"])
    known = {f.name: record[f.name] for f in fields(Run) if f.name in record}
    known |= {name: tuple(record.get(name, ())) for name in ("class_names", "notes", "text_columns")}
    known["cost"] = Cost(**{f.name: record["cost"].get(f.name) for f in fields(Cost)})
    try:
        predictions = _read_predictions(
            folder / "predictions.safetensors", record["splits"], len(classes), record.get("threshold")
        )
        return Run(**known, predictions=predictions, folder=folder)
    except UserError:
        raise
    except FileNotFoundError as error:
        raise UserError(f"{folder}: damaged run (no predictions.safetensors); {AGAIN}") from error
    except Exception as error:  # a stranger's file can be wrong in any way
        raise UserError(f"{folder}: damaged run ({type(error).__name__}: {error}); {AGAIN}") from error


def as_run(value: Any) -> Run:
    """A run, of itself, of a model that holds one as `run`, or of its folder. Raises UserError if it is none."""
    held = getattr(value, "run", value)
    return held if isinstance(held, Run) else load_run(held)


def runs_folder(runs: Path, dataset: str, dataset_digest: str) -> Path:
    """Where the runs on exactly these rows, labels and splits lie."""
    return Path(runs) / f"{slug(dataset)}-{dataset_digest[:16]}"


def runs_of(runs: Path, dataset: str, dataset_digest: str) -> list[Run]:
    """Every run fitted on exactly these rows, labels and splits, oldest first; damaged ones are left out, and said."""
    stored = []
    for file in sorted(runs_folder(runs, dataset, dataset_digest).glob("[!.]*/run.json")):
        try:
            stored.append(load_run(file.parent))
        except UserError as error:  # one that is damaged must not cost the others
            log.warning("left out: %s", error)
    return sorted(stored, key=lambda run: run.created)


def versions() -> dict[str, str]:
    """Versions of what the numbers depend on, without importing any of it."""
    installed = {name: version for name in PACKAGES if (version := installed_version(name))}
    return {"python": platform.python_version()} | installed


def folder_mb(folder: Path) -> float:
    """Megabytes (10⁶ bytes) of the files below `folder`."""
    return sum(file.stat().st_size for file in Path(folder).rglob("*") if file.is_file()) / 1e6


def as_json(value: Any) -> Any:
    """A value as it comes back from a record: tuples are lists, paths strings."""
    return json.loads(json.dumps(value, default=_plain))


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
    from safetensors.numpy import load

    with open_regular(path) as file:
        arrays, predictions = load(file.read()), {}
    for role, split in splits.items():
        raw = arrays[f"{role}.row_ids"].tobytes().decode("utf-8")
        ids = np.array(raw.split("\n") if raw else [], dtype=str)
        truth, proba = arrays[f"{role}.truth"], arrays[f"{role}.proba"]
        if not (len(ids) == len(truth) == len(proba)) or proba.shape[1:] != (classes,) or truth.dtype != np.int64:
            raise UserError(f"{path}: predictions of '{role}' do not fit together; delete the run and fit it again")
        if len(truth) and not (truth.min() >= -1 and truth.max() < classes):
            raise UserError(f"{path}: labels of '{role}' are not among the {classes} classes; {AGAIN}")
        if not (np.isfinite(proba).all() and (proba >= 0).all() and (np.abs(proba.sum(1) - 1) < 0.01).all()):
            raise UserError(f"{path}: probabilities of '{role}' are not between 0 and 1 or do not sum to 1; {AGAIN}")
        predictions[role] = Predictions(split, ids, truth, proba, threshold)
    return predictions
