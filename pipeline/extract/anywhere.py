"""A source, encoded here or by the actors of a cluster."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from .. import Progress, UserError
from ..data import SourceOptions
from ..encoder import Runtime
from ..encoder.checkpoint import EncoderSpec
from . import Extracted, extract_source
from .onray import Cluster, extract_on_ray


@dataclass(frozen=True)
class EncodingOptions:
    """A source, and how its texts are encoded."""

    source: SourceOptions
    encoders: tuple[EncoderSpec, ...] = (EncoderSpec(),)
    runtime: Runtime = field(default_factory=Runtime)
    cache: Path = Path("cache")
    cluster: Cluster | None = None  # None: here
    recalibrate: bool = False  # int8, on the source


def extract_on(
    cluster: Cluster | None,
    source: SourceOptions,
    spec: EncoderSpec,
    runtime: Runtime,
    cache: Path,
    progress: Progress,
    recalibrate: bool = False,
    total: int | None = None,
) -> Extracted:
    """`extract_source` here, or by the actors of a Ray cluster. Raises UserError where these do."""
    if cluster is None:
        return extract_source(source, spec, runtime, cache, progress, recalibrate, total)
    if recalibrate:
        raise UserError("--recalibrate: one machine calibrates for all; do it first, without --runner ray")
    return extract_on_ray(source, spec, runtime, cache, cluster, progress)
