"""Runs made of other runs, opened: their parts are opened here, and encode each text once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from .. import kinds
from ..encoder import Runtime
from ..run import Run
from ..stack import StackModel, part_runs, pool
from .models import Probe, head_of
from .texts import Texts


class Stack:
    """Several models, their probabilities multiplied, each to its weight; parts on the same vectors share them."""

    def __init__(self, run: Run, runtime: Runtime, cache: Path, precision: str | None = None) -> None:
        self.weights = StackModel.load(run.model_folder).weights
        self.probes: dict[str, Probe] = {}  # by the checkpoint that their vectors come from
        self.parts: list[tuple[str | None, Callable[[Any], np.ndarray]]] = []  # what it reads: a probe's vectors, texts
        for part in part_runs(run):
            row = kinds.kind_row(part.kind)
            if not row.needs_vectors:
                self.parts.append((None, kinds.load(row.opener)(part, runtime, cache, precision).proba))
                continue
            moved = replace(part, settings=part.settings | {"encoder": run.settings["encoder"]})
            key = str(part.checkpoint_digest)
            if key not in self.probes:
                self.probes[key] = Probe(moved, runtime, cache, precision)
            self.parts.append((key, head_of(part).proba))

    def proba(self, texts: Texts) -> np.ndarray:
        """Probabilities (n, k) float32."""
        vectors = {key: probe.vectors(texts) for key, probe in self.probes.items()}
        return pool([proba(texts if key is None else vectors[key]) for key, proba in self.parts], self.weights)
