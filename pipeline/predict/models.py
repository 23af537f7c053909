"""Models by kind: whatever turns texts into probabilities. What one kind needs is imported when it is opened."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from .. import UserError, kinds, log
from ..encoder import Runtime, backend_for, open_encoder
from ..encoder.checkpoint import Checkpoint, EncoderSpec, locate
from ..encoder.converted import is_tried
from ..encoder.hardware import choose_backend
from ..encoder.pooling import side_by_side
from ..encoder.tokens import tokenizer
from ..extract.vector_file import FROM_FILE, VectorFile
from ..run import Run, probabilities
from ..run.model import kind_at
from .texts import Texts


class Model(Protocol):
    """Whatever turns texts into probabilities (n, k). One with a `threshold` gives its second class from there on."""

    def proba(self, texts: Texts) -> np.ndarray: ...


class Sound:
    """A run's model whose every answer is looked at: probabilities, or a UserError that names the run."""

    def __init__(self, model: Model, run: Run) -> None:
        self.model, self.run = model, run
        self.threshold: float | None = getattr(model, "threshold", None)

    def proba(self, texts: Texts) -> np.ndarray:
        """Probabilities (n, k) of n texts; rows are finite, at least 0 and sum to 1."""
        with np.errstate(all="ignore"):  # said below
            return probabilities(self.model.proba(texts), self.run.folder)


@dataclass(frozen=True)
class Opening:
    """How a run is opened: on what, where vectors and converted encoders lie, where its encoder lies now."""

    runtime: Runtime
    cache: Path
    encoder: str | None = None  # None: where it was
    vectors: Path | None = None  # those of the texts, of a run on vectors from a file

    def open(self, run: Run) -> Model:
        """Raises UserError where `open_run` does, and for vectors that the run does not read."""
        if self.vectors is not None:
            if not run.settings.get("vectors"):
                raise UserError(f"--vectors: {run.folder} makes its own vectors; leave it out")
            run = replace(run, settings=run.settings | {"vectors": str(self.vectors)})
        return open_run(run, self.runtime, self.cache, self.encoder)


def open_run(
    run: Run,
    runtime: Runtime | None = None,
    cache: Path = Path("cache"),
    encoder: str | None = None,
    precision: str | None = None,
) -> Model:
    """The model of a run, ready to predict; `encoder` says where its encoder lies now, if not where it was.

    `precision` is what to compute in, instead of what suits the machine (int8 for a run fitted on int8 vectors).

    Raises UserError if the run's files are damaged, or if its encoder has changed since or cannot be found.
    """
    if not isinstance(runtime, Runtime | None):
        raise UserError(f"runtime: a {type(runtime).__name__} is no Runtime; pass Runtime(device=...)")
    try:
        opener: Callable[..., Model] = kinds.load(kinds.kind_row(run.kind).opener)
    except UserError as error:
        raise UserError(f"{run.folder}: {error}") from error
    if encoder is not None:
        run = replace(run, settings=run.settings | {"encoder": encoder})
    try:
        return Sound(opener(run, runtime or Runtime(), cache, precision), run)
    except KeyError as error:
        raise UserError(f"{run.folder}: its settings say nothing of {error}; fit it again") from error


def head_of(run: Run) -> Any:
    """The LinearModel or FrozenHead of a run on frozen vectors: the same format holds both.

    Raises UserError if it is damaged, or knows other classes than the run.
    """
    if kind_at(run.model_folder) == "linear":
        from ..linear.probe import LinearModel

        model: Any = LinearModel.load(run.model_folder)
    else:
        from ..finetune.frozen import FrozenHead

        model = FrozenHead.load(run.model_folder)
    if model.class_names != run.class_names:
        raise UserError(f"{run.model_folder}: its classes are not those of its run; fit it again")
    return model


def spec_of(settings: Mapping[str, Any], pooling: str) -> EncoderSpec:
    """The encoder of a run on frozen vectors; int8 is asked for by name, everything else suits the machine."""
    int8 = settings["precision"] == "int8"
    rest = (settings["max_length"], "int8" if int8 else "auto", settings["engine"] if int8 else "auto")
    prompt = f"={settings['prompt']}" if settings.get("prompt") else "none"
    return EncoderSpec(settings["encoder"], settings.get("revision"), (pooling,), *rest, prompt=prompt)


def placed(run: Run, model: Any) -> Checkpoint:
    """The encoder that a run's head belongs to, found on this machine.

    Raises UserError if it is not there, or is another one now.
    """
    checkpoint = locate(spec_of(run.settings, model.pooling))
    here = checkpoint.checkpoint_digest(model.pooling)
    if model.checkpoint_digest != here:
        raise UserError(
            f"--encoder {run.settings['encoder']}: not the checkpoint that {run.folder} was fitted on "
            f"({here[:8]} instead of {str(model.checkpoint_digest)[:8]}); pass that one, or fit again"
        )
    return checkpoint


class Lookup:
    """A head on vectors from a file, in which each text is looked up."""

    def __init__(self, run: Run, runtime: Runtime, cache: Path, precision: str | None = None) -> None:
        self.model, self.columns = head_of(run), run.text_columns
        self.threshold: float | None = getattr(self.model, "threshold", None)
        if run.settings["vectors"] == FROM_FILE:
            raise UserError(
                f"{run.folder}: fitted on vectors from {run.settings['encoder']}, not on an encoder that is here; "
                "pass --vectors FILE.parquet with those of the texts, a column 'text' beside them"
            )
        self.file = VectorFile.opened(run.settings["vectors"])

    def vectors(self, texts: Texts) -> np.ndarray:
        """(n, d) float32, in the order of the texts."""
        return self.file.take(self.file.rows_of([], texts, self.columns), [text[0] for text in texts])

    def proba(self, texts: Texts) -> np.ndarray:
        """Probabilities (n, k) float32."""
        return np.asarray(self.model.proba(self.vectors(texts)))


def probe(run: Run, runtime: Runtime, cache: Path, precision: str | None = None) -> Probe | Lookup:
    """The model of a run on vectors."""
    return (Lookup if run.settings.get("vectors") else Probe)(run, runtime, cache, precision)


class Vectorizer:
    """Texts → the vectors of a frozen encoder, by whatever this machine serves them with."""

    def __init__(self, checkpoint: Checkpoint, spec: EncoderSpec, runtime: Runtime, cache: Path) -> None:
        self.checkpoint, (self.pooling,) = checkpoint, spec.pooling
        here = choose_backend(spec.engine, spec.precision, runtime.device)
        runtime = replace(runtime, device=here.device)
        self.encoder = open_encoder(checkpoint, spec.pooling, here.engine, here.precision, runtime, cache)
        self.tokenizer = tokenizer(checkpoint, cache)

    def vectors(self, texts: Texts) -> np.ndarray:
        """(n, d) float32, in the order of the texts."""
        vectors = self.encoder.encode_all(self.tokenizer.encode(texts, self.checkpoint.max_length))
        return side_by_side(vectors, self.pooling)


def needs_torch(checkpoint: Checkpoint, spec: EncoderSpec, runtime: Runtime, cache: Path) -> bool:
    """Whether a Vectorizer imports torch: as its engine, or to convert the encoder, which has not been done yet."""
    poolings = checkpoint.poolings(spec.pooling)
    here = backend_for(checkpoint, poolings, choose_backend(spec.engine, spec.precision, runtime.device), cache)
    return here.engine == "torch" or not is_tried(checkpoint, poolings, cache)


class Probe:
    """A head on the vectors of a frozen encoder."""

    def __init__(self, run: Run, runtime: Runtime, cache: Path, precision: str | None = None) -> None:
        self.model = head_of(run)
        self.threshold: float | None = getattr(self.model, "threshold", None)
        settings, spec = run.settings, spec_of(run.settings, self.model.pooling)
        if precision is not None:
            spec = replace(spec, precision=precision, engine="auto")
        served = Vectorizer(placed(run, self.model), spec, runtime, cache)
        self.checkpoint, self.encoder, self.vectors = served.checkpoint, served.encoder, served.vectors
        if self.encoder.precision != settings["precision"]:
            log.info(f"fitted on {settings['precision']} vectors, predicting from {self.encoder.precision} ones")
        if settings.get("storage", "float32") != "float32":
            log.info(f"fitted on vectors kept as {settings['storage']}, predicting from ones that are not rounded")
        if settings.get("calibration") not in (None, self.encoder.calibration):
            log.info("fitted on int8 vectors of another calibration: probabilities may differ; fit again")

    def proba(self, texts: Texts) -> np.ndarray:
        """Probabilities (n, k) float32."""
        return np.asarray(self.model.proba(self.vectors(texts)))


def majority(run: Run, runtime: Runtime, cache: Path, precision: str | None) -> Model:
    from ..baseline import MajorityModel

    return MajorityModel.load(run.model_folder)


def tfidf(run: Run, runtime: Runtime, cache: Path, precision: str | None) -> Model:
    from ..tfidf.model import TfidfModel

    return TfidfModel.load(run.model_folder)
