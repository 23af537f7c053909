"""Runs made of other runs, opened: their parts are opened here, and encode each text once."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from .. import kinds
from ..cascade import CascadeModel, together
from ..encoder import Runtime
from ..run import Run
from ..stack import StackModel, part_runs, pool
from .models import Lookup, Model, Probe, head_of, open_run, probe
from .texts import Texts


class Stack:
    """Several models, their probabilities multiplied, each to its weight; parts on the same vectors share them."""

    def __init__(self, run: Run, runtime: Runtime, cache: Path, precision: str | None = None) -> None:
        self.weights = StackModel.load(run.model_folder).weights
        self.probes: dict[str, Probe | Lookup] = {}  # by the checkpoint that their vectors come from
        self.parts: list[tuple[str | None, Callable[[Any], np.ndarray]]] = []  # what it reads: a probe's vectors, texts
        for part in part_runs(run):
            row = kinds.kind_row(part.kind)
            if not row.needs_vectors:
                self.parts.append((None, kinds.load(row.opener)(part, runtime, cache, precision).proba))
                continue
            now = {name: run.settings[name] for name in ("encoder", "vectors") if name in run.settings}
            moved = replace(part, settings=part.settings | now)
            key = str(part.checkpoint_digest)
            if key not in self.probes:
                self.probes[key] = probe(moved, runtime, cache, precision)
            self.parts.append((key, head_of(part).proba))

    def proba(self, texts: Texts) -> np.ndarray:
        """Probabilities (n, k) float32."""
        vectors = {key: probe.vectors(texts) for key, probe in self.probes.items()}
        return pool([proba(texts if key is None else vectors[key]) for key, proba in self.parts], self.weights)


class Cascade:
    """The cheap model, and the dear one for texts that the cheap one is not sure of; opened when one comes."""

    def __init__(self, run: Run, runtime: Runtime, cache: Path, precision: str | None = None) -> None:
        self.limit = CascadeModel.load(run.model_folder).threshold
        now = {name: run.settings[name] for name in ("vectors",) if name in run.settings}
        self.parts = [
            replace(part, settings=part.settings | now) if part.settings.get("vectors") else part
            for part in part_runs(run)
        ]
        encoder = run.settings.get("encoder")
        moved = [encoder if kinds.kind_row(part.kind).needs_vectors else None for part in self.parts]
        self.openers = [
            functools.partial(open_run, part, runtime, cache, where, precision)
            for part, where in zip(self.parts, moved, strict=True)
        ]
        self.cheap: Model = self.openers[0]()

    @functools.cached_property
    def dear(self) -> Model:
        """The second model."""
        return self.openers[1]()

    def proba(self, texts: Texts) -> np.ndarray:
        """Probabilities (n, k) float32."""
        cheap = self.cheap.proba(texts)
        return together(cheap, self.limit, lambda rows: self.dear.proba([texts[row] for row in rows]))
