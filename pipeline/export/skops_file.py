"""A run as the same scikit-learn pipeline, kept with skops: no pickle, and nothing is built that is not named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .. import UserError, listed, need
from ..run import Run
from .sklearn_pipeline import PACKAGE, VERSION, answering, installed_name, model_of

FILE = "model.skops"
OURS = "probe_or_tune."  # whose types a loader has to trust: those of this package


def write(run: Run, encoder: str | None, folder: Path) -> list[str]:
    """Write the run as `model.skops`; returns what its user has to know, a sentence each.

    Raises UserError for what is no scikit-learn model, and if skops is not there.
    """
    io = need("skops.io", "skops")
    model, needs = model_of(run, encoder, "skops")
    with installed_name():
        io.dump(model, folder / FILE)
    types = listed(f"'{name}'" for name in trusted(folder / FILE)) or ""
    return [f"open it with skops.io.load('{FILE}', trusted=[{types}])", VERSION, *([PACKAGE] if needs else [])]


def trusted(file: Path) -> list[str]:
    """The types in a file that skops does not know. Raises UserError for one that is not of this package."""
    unknown: list[str] = need("skops.io", "skops").get_untrusted_types(file=file)
    if strange := [name for name in unknown if not name.startswith(OURS)]:
        raise UserError(f"--format skops: the pipeline holds {listed(strange)}, which skops does not know; pass joblib")
    return unknown


def reload(folder: Path, class_names: tuple[str, ...]) -> Any:
    """texts → probabilities (n, k), by `skops.io.load`; vectors in float32."""
    io = need("skops.io", "skops")
    with installed_name():
        return answering(io.load(folder / FILE, trusted=trusted(folder / FILE)), class_names)
