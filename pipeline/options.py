"""Options of the command line, in bundles: each becomes one value, so that nothing downstream has ten parameters.

The values' own modules are imported when a command runs, so that `--help` answers at once.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from pipeline.comparison import ComparisonSettings
    from pipeline.data import SourceOptions
    from pipeline.encoder import EncoderSpec, Runtime
    from pipeline.extract.onray import Cluster
    from pipeline.finetune import FineTuneSettings
    from pipeline.learning_curve import Plan
    from pipeline.linear import LinearSettings

Command = Callable[..., Any]
Options = dict[str, Callable[[Command], Command]]


def bundle(name: str, options: Options, build: Callable[..., Any]) -> Callable[[Command], Command]:
    """Decorator: hand `options` over as the one argument `name`, made by `build`."""

    def decorate(function: Command) -> Command:
        @functools.wraps(function)
        def bundled(**values: Any) -> Any:
            mine = {key: values.pop(key) for key in options}
            return function(**values, **{name: build(**mine)})

        wrapper: Command = bundled
        for option in reversed(options.values()):
            wrapper = option(wrapper)
        return wrapper

    return decorate


def several(kind: Callable[[str], Any] = str) -> Callable[[click.Context, click.Parameter, str | None], Any]:
    """Option callback: `a,b` → ('a', 'b'), each through `kind`; None stays None."""

    def parse(_: click.Context, parameter: click.Parameter, value: str | None) -> tuple[Any, ...] | None:
        if value is None:
            return None
        try:
            parts = tuple(kind(part.strip()) for part in value.split(",") if part.strip())
        except ValueError as error:
            raise click.BadParameter(f"'{value}': {error}", param=parameter) from error
        if not parts:
            raise click.BadParameter("an empty list", param=parameter)
        return parts

    return parse


def auto(kind: Callable[[str], Any]) -> Callable[[click.Context, click.Parameter, str | None], Any]:
    """Option callback: `auto` → None, anything else through `kind`, which must be above zero."""

    def parse(_: click.Context, parameter: click.Parameter, value: str | None) -> Any:
        if value is None or value == "auto":
            return None
        try:
            number = kind(value)
        except ValueError:
            number = 0
        if not number > 0:
            raise click.BadParameter(f"'{value}' is neither auto nor a number above 0", param=parameter)
        return number

    return parse


def _source(**values: Any) -> SourceOptions:
    from pipeline.data import SourceOptions

    return SourceOptions(**values)


def _source_if_any(source: str | None, **values: Any) -> SourceOptions | None:
    return None if source is None else _source(source=source, **values)


def _encoders(encoder: tuple[str, ...], **values: Any) -> tuple[EncoderSpec, ...]:
    from pipeline.encoder import EncoderSpec

    specs = []
    for given in encoder:
        name, at, own = (given, "", "") if Path(given).exists() else given.partition("@")
        if at and not (name and own):
            raise click.UsageError(f"--encoder {given}: write NAME@REVISION, such as bert-base-uncased@main")
        if at and values.get("revision"):
            raise click.UsageError(f"--encoder {given} names its revision; pass either @{own} or --revision")
        specs.append(EncoderSpec(**values | {"name": name} | ({"revision": own} if at else {})))
    return tuple(specs)


def _runtime(**values: Any) -> Runtime:
    from pipeline.encoder import Runtime

    return Runtime(**values)


def _linear(smote: bool = False, imbalance: tuple[str, ...] | None = None, **values: Any) -> tuple[LinearSettings, ...]:
    from pipeline.linear import LinearSettings

    if smote and imbalance:
        raise click.UsageError("--smote is --imbalance smote; pass one of the two")
    kinds = ("smote",) if smote else imbalance or ("none",)
    return tuple(LinearSettings(imbalance=kind, **values) for kind in kinds)


def _tuning(report_to: tuple[str, ...] | None, **values: Any) -> FineTuneSettings:
    from pipeline.finetune import FineTuneSettings

    return FineTuneSettings(report_to=report_to or (), **values)


def _rules(run: tuple[Path, ...], **values: Any) -> ComparisonSettings:
    from pipeline.comparison import ComparisonSettings

    if values["budget"] is not None and values["only_existing"]:
        raise click.UsageError("--budget plans what is fitted and --only-existing fits nothing; pass one of the two")
    return ComparisonSettings(external_runs=run, **values)


def _plan(**values: Any) -> Plan:
    from pipeline.learning_curve import Plan

    return Plan(**values)


def budget(_: click.Context, parameter: click.Parameter, value: str | None) -> float | None:
    """Option callback: `20m` → seconds."""
    from pipeline.fitting import seconds_of

    try:
        return None if value is None else seconds_of(value)
    except ValueError as error:
        raise click.BadParameter(f"'{value}': {error}", param=parameter) from error


def _cluster(runner: str, address: str | None, workers: int | None) -> Cluster | None:
    """None: extract here, without Ray."""
    if runner == "local":
        if address or workers:
            raise click.UsageError("--address and --workers are for --runner ray")
        return None
    from pipeline.extract.onray import Cluster

    return Cluster(address, workers)


FOLDER = click.Path(file_okay=False, path_type=Path)

source_parts: Options = {
    "source": click.argument("source"),
    "text": click.option("--text", multiple=True, metavar="COLUMN", help="Column of the text; twice for pairs."),
    "label": click.option("--label", metavar="COLUMN", help="Column of the label."),
    "train": click.option("--train", metavar="NAME", help="Split to learn from."),
    "validation": click.option("--validation", metavar="NAME", help="Split to choose settings on."),
    "test": click.option("--test", metavar="NAME", help="Split to judge on."),
    "limit": click.option("--limit", metavar="N|P%", help="Only so many rows a split (seeded, stratified)."),
    "rows": click.option("--rows", metavar="first:N|P%", help="Only the first rows of each split, unshuffled."),
    "split": click.option("--split", metavar="80/0/20", help="Split train/validation/test anew, in these shares."),
    "drop_empty": click.option("--drop-empty", is_flag=True, help="Leave out rows with an empty text."),
    "seed": click.option("--seed", default=42, type=click.IntRange(0), help="Seed of everything random."),
}
source_options = bundle("source", source_parts, _source)
optional_source = bundle("source", source_parts | {"source": click.argument("source", required=False)}, _source_if_any)
encoder_options = bundle(
    "encoders",
    {
        "encoder": click.option(
            "--encoder",
            default="distilbert-base-uncased",
            callback=several(),
            metavar="NAME[@REV],…",
            help="Hub name, local folder, or minilm (packaged, needs no network).",
        ),
        "revision": click.option("--revision", metavar="REV", help="Tag, branch or commit on the Hub."),
        "pooling": click.option(
            "--pooling",
            default="cls",
            callback=several(),
            metavar="cls|mean|max",
            help="Token vectors → text vector; a,b makes both, a+b concatenates.",
        ),
        "max_length": click.option(
            "--max-length",
            default="auto",
            callback=auto(int),
            metavar="auto|N",
            help="Tokens at which a text is cut; auto is the encoder's own limit.",
        ),
        "precision": click.option(
            "--precision", default="auto", metavar="auto|fp32|bf16|fp16|int8", help="Of the encoder."
        ),
        "engine": click.option("--engine", default="auto", metavar="auto|torch|openvino", help="What runs it."),
        "storage": click.option(
            "--storage",
            default="float32",
            metavar="float32|float16",
            help="Kept on disk; float16 rounds, in half the room.",
        ),
    },
    _encoders,
)
runtime_options = bundle(
    "runtime",
    {
        "device": click.option("--device", default="auto", metavar="auto|cpu|cuda|mps", help="Where it runs."),
        "threads": click.option(
            "--threads", type=click.IntRange(1), help="Processor threads (default: all there are)."
        ),
    },
    _runtime,
)
cluster_options = bundle(
    "cluster",
    {
        "runner": click.option(
            "--runner",
            default="local",
            type=click.Choice(["local", "ray"]),
            help="ray: a folder of Parquet through the actors of a cluster, into the same cache.",
        ),
        "address": click.option(
            "--address", metavar="HOST:PORT|auto", help="Of a running Ray cluster (default: one on this machine)."
        ),
        "workers": click.option(
            "--workers",
            type=click.IntRange(1),
            help="Actors (default: one a GPU, or one for each --threads processors).",
        ),
    },
    _cluster,
)
search: Options = {
    "C": click.option("--C", "C", callback=several(float), metavar="A,B,…", help="Grid of C (default: found)."),
    "folds": click.option("--folds", default=5, type=click.IntRange(2), help="Folds that choose C."),
}
treatment: Options = {
    "smote": click.option("--smote", is_flag=True, help="Oversample with SMOTE, inside the folds only."),
    "imbalance": click.option(
        "--imbalance",
        callback=several(),
        metavar="KIND[,KIND]",
        help="none, balanced, smote, smote-minority, over or auto.",
    ),
    "objective": click.option("--objective", default="macro_f1", help="What auto maximises."),
    "calibrate": click.option("--calibrate", default="none", metavar="none|temperature", help="Fitted out of fold."),
    "prior_correction": click.option("--prior-correction", is_flag=True, help="Undo what resampling does to shares."),
    "threshold": click.option("--threshold", metavar="f1", help="Two classes: threshold of the best F1."),
}
search_options = bundle("linear", search, _linear)
linear_options = bundle("linear", treatment | search, _linear)
tuning_options = bundle(
    "tuning",
    {
        "epochs": click.option("--epochs", default=3, type=click.IntRange(1), help="Passes over train."),
        "batch_size": click.option("--batch-size", default=32, type=click.IntRange(1), help="Rows a step."),
        "learning_rate": click.option(
            "--learning-rate",
            default="auto",
            callback=auto(float),
            metavar="auto|X",
            help="auto tries 2e-5, 5e-5 and 1e-4 in short runs, judged on validation.",
        ),
        "weight_decay": click.option("--weight-decay", default=0.01, type=float, help="Of AdamW."),
        "warmup": click.option("--warmup", default=0.1, type=float, help="Share of the steps."),
        "schedule": click.option(
            "--schedule", default="linear", metavar="linear|cosine|constant", help="Learning rate after the warm-up."
        ),
        "patience": click.option("--patience", type=int, help="Stop after so many epochs without a better macro F1."),
        "gradient_accumulation": click.option("--gradient-accumulation", default=1, type=int, help="Batches a step."),
        "label_smoothing": click.option("--label-smoothing", default=0.0, type=float, help="0 to 1."),
        "class_weights": click.option("--class-weights", is_flag=True, help="Rows of rare classes count for more."),
        "head": click.option("--head", default="standard", metavar="standard|linear|mlp", help="Classifier."),
        "dropout": click.option("--dropout", type=float, help="Of the head (default: the architecture's)."),
        "xavier": click.option("--xavier", is_flag=True, help="Xavier weights and zero bias for the head."),
        "init_head": click.option("--init-head", type=FOLDER, metavar="RUN", help="Start from a fit-lr run."),
        "freeze": click.option("--freeze", is_flag=True, help="Train a head alone, on cached vectors."),
        "unfreeze": click.option("--unfreeze", type=int, metavar="N", help="Train the last N layers and the head."),
        "from_scratch": click.option("--from-scratch", is_flag=True, help="Random weights instead of pretrained ones."),
        "report_to": click.option("--report-to", callback=several(), metavar="NAME,…", help="Trackers of the Trainer."),
    },
    _tuning,
)
seeds_option = click.option("--seeds", default=1, type=click.IntRange(1), help="Repeat with so many seeds.")


def place(**folders: Path) -> dict[str, Path]:
    """Where things lie, as the task wants it."""
    return folders


def cache_place(_: click.Context, parameter: click.Parameter, value: str) -> Path:
    """Option callback: a folder as it is, a URL as the local folder that mirrors it."""
    if "://" not in value:
        return FOLDER.convert(value, parameter, None)
    from pipeline.store.remote import mirror

    return mirror(value)


cache_option = click.option(
    "--cache",
    default="cache",
    callback=cache_place,
    metavar="FOLDER|URL",
    help="Where the vectors are: a folder, or s3://bucket/prefix (a copy of what is read stays here).",
)
place_options = bundle(
    "place",
    {
        "cache": cache_option,
        "runs": click.option("--runs", default="runs", type=FOLDER, help="Folder of the runs."),
    },
    place,
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
METRIC = "The one metric that the verdict rests on."
comparison_options = bundle(
    "rules",
    {
        "contenders": click.option(
            "--contenders",
            default="majority,tfidf,lr,lr+smote,fine-tune",
            callback=several(),
            metavar="NAME,…",
            help="Who takes part; frozen-head, from-scratch and lr+balanced, -over, -auto may, too.",
        ),
        "run": click.option("--run", multiple=True, type=FOLDER, help="A run's folder that joins; repeatable."),
        "only_existing": click.option(
            "--only-existing", is_flag=True, help="Fit nothing: compare the runs that are there."
        ),
        "budget": click.option(
            "--budget", callback=budget, metavar="20m|90s|2h", help="Time to fit in; what does not fit is left out."
        ),
        "metric": click.option("--metric", default="accuracy", help=METRIC),
        "margin": click.option(
            "--margin", default=0.01, type=click.FloatRange(0), help="Differences below it do not matter."
        ),
        "by": click.option("--by", metavar="COLUMN", help="Also score the groups of rows that share a value of it."),
        "page": click.option(
            "--report", "page", type=click.Path(dir_okay=False, path_type=Path), help="HTML page (default: in --runs)."
        ),
    },
    _rules,
)
plan_options = bundle(
    "plan",
    {
        "contenders": click.option(
            "--contenders",
            default="tfidf,lr,fine-tune",
            callback=several(),
            metavar="NAME,…",
            help="Lines of the curve: tfidf, lr, fine-tune, from-scratch.",
        ),
        "sizes": click.option(
            "--sizes", callback=several(int), metavar="N,…", help="Numbers of labels (default: eight, up to all)."
        ),
        "tuned_sizes": click.option(
            "--fine-tune-sizes",
            "tuned_sizes",
            callback=several(int),
            metavar="N,…",
            help="The same for fine-tuning (default: all, a third, a 9th, a 27th).",
        ),
        "draws": click.option("--draws", default=5, type=click.IntRange(1), help="Subsets drawn for each size."),
        "tuned_draws": click.option(
            "--fine-tune-draws", "tuned_draws", default=1, type=click.IntRange(1), help="The same for fine-tuning."
        ),
        "metric": click.option("--metric", default="accuracy", help="What is drawn: a metric of counts."),
    },
    _plan,
)
