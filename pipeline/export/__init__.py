"""Run → what the world already runs: a stock Hugging Face checkpoint, an ONNX graph, a scikit-learn pipeline.

Each export is written as a draft, reloaded in the program that will run it, compared with the run on 200 texts, and
renamed when it agrees: a folder of that name is always whole and always checked.
"""

from __future__ import annotations

import importlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .. import UserError, choose
from ..data import SourceOptions
from ..encoder import Runtime
from ..files import disk_errors, draft
from ..run import Run
from .agreement import Checked, check, reference_of, texts_for
from .model_card import Exported, export_card
from .parts import rounded
from .upload import push, ready

__all__ = ["FORMATS", "Checked", "ExportSettings", "Handed", "export_run"]


@dataclass(frozen=True)
class Handed:
    """An export that has been checked."""

    run: str
    format: str
    folder: str
    files: dict[str, int]  # name → bytes
    checked: Checked
    notes: tuple[str, ...]
    pushed: str | None = None  # its address on the Hub

    def to_json(self) -> dict[str, Any]:
        """What `export --json` prints."""
        return asdict(self)


@dataclass(frozen=True)
class ExportSettings:
    """What a run is exported as, and where to."""

    form: str
    out: Path
    source: SourceOptions | None = None  # checked on texts of it; None: of the bundled data set
    runtime: Runtime | None = None
    cache: Path = Path("cache")
    encoder: str | None = None  # where the run's encoder lies now, if it has moved
    repository: str | None = None  # OWNER/NAME on the Hub

    def export(self, run: Run) -> Handed:
        """Write `run` into the new folder `out`. Raises UserError where `export_run` does."""
        form = program(self.form)
        if run.settings.get("vectors"):
            raise UserError(
                f"{run.folder}: fitted on vectors from {run.settings['encoder']}, and an export takes texts; "
                "ask `predict --vectors`, or take the weights in its folder model/"
            )
        if self.repository is not None:
            ready(self.repository)
        out = Path(self.out)
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise UserError(f"{out}: is there already; pass another --out")
        texts, name = texts_for(run, self.source)
        with disk_errors(out, "cannot write", "choose another --out"), draft(out.absolute()) as new:
            new.mkdir(parents=True)
            notes = [*form.write(run, self.encoder, new), *rounded(run)]
            reference = reference_of(run, self.runtime or Runtime(), self.cache, self.encoder)
            checked = check(run, reference, form.reload(new, run.class_names), texts, name)
            about = Exported(self.form, self.repository or out.name, checked, notes)
            (new / "README.md").write_text(export_card(run, about), "utf-8", "replace")
            for file in new.iterdir():
                file.chmod(0o644)  # whatever serves it may be another user; safetensors writes for its owner alone
            files = {file.name: file.stat().st_size for file in sorted(new.iterdir())}
        address = push(out, self.repository) if self.repository is not None else None
        return Handed(str(run.folder), self.form, str(out), files, checked, tuple(notes), address)


FORMATS = {  # form → module of this room
    "transformers": "stock",
    "onnx": "onnx_graph",
    "joblib": "sklearn_pipeline",
    "skops": "skops_file",
}


def program(form: str) -> Any:
    """The module that writes a form and runs it again: `write(run, encoder, folder)`, `reload(folder, class_names)`.

    Raises UserError, naming all, if there is no such form.
    """
    return importlib.import_module(f".{choose(FORMATS, form, 'format of an export')}", __name__)


def export_run(run: Run, form: str, out: Path, **settings: Any) -> Handed:
    """Write `run` into the new folder `out`; `settings` are the other fields of `ExportSettings`.

    Raises UserError for a format that there is not or that cannot hold this run exactly, if `out` exists already,
    if the export does not answer as the run does, and if it cannot be uploaded (then it is there all the same).
    """
    return ExportSettings(form, out, **settings).export(run)
