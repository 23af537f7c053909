"""What a bundle's options become, where that takes more than a call: values that contradict each other are refused."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from ..audit import AuditSettings
    from ..comparison import ComparisonSettings
    from ..data import SourceOptions
    from ..encoder import EncoderSpec
    from ..export import ExportSettings
    from ..extract.onray import Cluster
    from ..finetune import FineTuneSettings
    from ..linear import LinearSettings
    from ..predict import Opening


def source_if_any(source: str | None, **values: Any) -> SourceOptions | None:
    from ..data import SourceOptions

    return None if source is None else SourceOptions(source=source, **values)


def judged_source(cv: bool | None, **values: Any) -> SourceOptions:
    """Left whole where every row is judged; a split that is named, or cut by hand, is judged alone."""
    from ..data import SourceOptions

    held = [f"--{name}" for name in ("split", "validation", "test") if values.get(name)]
    if cv and held:
        raise click.UsageError(f"{held[0]} sets rows aside and --cv judges every row; pass one of the two")
    return SourceOptions(whole=False if held else cv, **values)


def encoders(encoder: tuple[str, ...], **values: Any) -> tuple[EncoderSpec, ...]:
    from ..encoder import EncoderSpec

    specs = []
    for given in encoder:
        name, at, revision = (given, "", "") if Path(given).exists() else given.partition("@")
        if at and not (name and revision):
            raise click.UsageError(f"--encoder {given}: write NAME@REVISION, such as bert-base-uncased@main")
        if at and values.get("revision"):
            raise click.UsageError(f"--encoder {given} names its revision; pass either @{revision} or --revision")
        specs.append(EncoderSpec(**values | {"name": name} | ({"revision": revision} if at else {})))
    return tuple(specs)


def linear(smote: bool = False, imbalance: tuple[str, ...] | None = None, **values: Any) -> tuple[LinearSettings, ...]:
    from ..linear import LinearSettings

    if smote and imbalance:
        raise click.UsageError("--smote is --imbalance smote; pass one of the two")
    kinds = ("smote",) if smote else imbalance or ("none",)
    return tuple(LinearSettings(imbalance=kind, **values) for kind in kinds)


def tuning(report_to: tuple[str, ...] | None, **values: Any) -> FineTuneSettings:
    from ..finetune import FineTuneSettings

    return FineTuneSettings(report_to=report_to or (), **values)


def rules(run: tuple[Path, ...] = (), ladder: bool = False, **values: Any) -> ComparisonSettings:
    from ..comparison import LADDER, ComparisonSettings

    if ladder:
        given = click.get_current_context().get_parameter_source("contenders")
        if given is not click.core.ParameterSource.DEFAULT:
            raise click.UsageError("--ladder and --contenders both say who takes part; pass one of the two")
        values["contenders"] = LADDER
    if values.get("budget") is not None and values["only_existing"]:
        raise click.UsageError("--budget plans what is fitted and --only-existing fits nothing; pass one of the two")
    if given := values.pop("worth", None):
        from ..verdict.regret import worth

        values["worth"] = worth(given)
    return ComparisonSettings(external_runs=run, **values)


def everything(**values: Any) -> ComparisonSettings:
    """Whatever is there."""
    from ..kinds import names

    return rules(contenders=tuple(names(numbered=False)), only_existing=True, **values)


def looking(pair: tuple[str, ...] | None, **values: Any) -> AuditSettings:
    from ..audit import AuditSettings

    if pair is not None and len(pair) != 2:
        raise click.BadParameter("two names, as in --pair lr,tfidf", param_hint="--pair")
    return AuditSettings(pair=pair and (pair[0], pair[1]), **values)


def opening(encoder: str | None, cache: Path, vectors: Path | None, **runtime: Any) -> Opening:
    from ..encoder import Runtime
    from ..predict import Opening

    return Opening(Runtime(**runtime), cache, encoder, vectors)


def export(source: str | None, text: tuple[str, ...], **values: Any) -> ExportSettings:
    from ..data import SourceOptions
    from ..export import ExportSettings

    return ExportSettings(source=SourceOptions(source, text=text) if source else None, **values)


def cluster(runner: str, address: str | None, workers: int | None) -> Cluster | None:
    """None: extract here, without Ray."""
    if runner == "local":
        if address or workers:
            raise click.UsageError("--address and --workers are for --runner ray")
        return None
    from ..extract.onray import Cluster

    return Cluster(address, workers)
