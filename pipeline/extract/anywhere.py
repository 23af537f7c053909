"""A source, encoded here or by the actors of a cluster."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from .. import Progress, UserError
from ..data import SourceOptions
from ..encoder import Runtime
from ..encoder.checkpoint import EncoderSpec
from . import Extracted, extract_source, forget_calibration
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


def extract_on(job: EncodingOptions, spec: EncoderSpec, progress: Progress, total: int | None = None) -> Extracted:
    """A source through one of the job's encoders, here or by the actors of a Ray cluster.

    Raises UserError where these do, and if a cluster is to calibrate.
    """
    if job.recalibrate:
        if job.cluster is not None:
            raise UserError("--recalibrate: one machine calibrates for all; do it first, without --runner ray")
        forget_calibration(spec, job.cache)
    if job.cluster is None:
        return extract_source(job.source, spec, job.runtime, job.cache, progress, total)
    return extract_on_ray(job.source, spec, job.runtime, job.cache, job.cluster, progress)
