"""The command line: options become one dataclass, one call does the work, one call shows the result.

Nothing heavy is imported before a command runs, so that `--help` answers at once.
"""

from __future__ import annotations

import functools
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline import UserError

if TYPE_CHECKING:
    from pipeline.contenders import Task
    from pipeline.data import SourceOptions
    from pipeline.encoder import Effort, EncoderSpec
    from pipeline.finetune import FineTuneSettings
    from pipeline.linear import LinearSettings

Command = Callable[..., Any]
Options = dict[str, Callable[[Command], Command]]


# ── options: a bundle of them becomes one value ─────────────────────────────────────────────────────────────────────


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
            return tuple(kind(part.strip()) for part in value.split(",") if part.strip())
        except ValueError as error:
            raise click.BadParameter(f"'{value}': {error}", param=parameter) from error

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


def _encoders(encoder: tuple[str, ...], **values: Any) -> tuple[EncoderSpec, ...]:
    from pipeline.encoder import EncoderSpec

    return tuple(EncoderSpec(name=name, **values) for name in encoder)


def _effort(**values: Any) -> Effort:
    from pipeline.encoder import Effort

    return Effort(**values)


def _linear(smote: bool = False, imbalance: tuple[str, ...] | None = None, **values: Any) -> tuple[LinearSettings, ...]:
    from pipeline.linear import LinearSettings

    if smote and imbalance:
        raise click.UsageError("--smote is --imbalance smote; pass one of the two")
    kinds = ("smote",) if smote else imbalance or ("none",)
    return tuple(LinearSettings(imbalance=kind, **values) for kind in kinds)


def _tuning(**values: Any) -> FineTuneSettings:
    from pipeline.finetune import FineTuneSettings

    return FineTuneSettings(**values)


FOLDER = click.Path(file_okay=False, path_type=Path)

source_options = bundle(
    "source",
    {
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
        "seed": click.option("--seed", default=42, show_default=True, help="Seed of everything random."),
    },
    _source,
)
encoder_options = bundle(
    "encoders",
    {
        "encoder": click.option(
            "--encoder",
            default="distilbert-base-uncased",
            show_default=True,
            callback=several(),
            metavar="NAME[,NAME]",
            help="Hub name, local folder, or minilm (packaged, needs no network).",
        ),
        "revision": click.option("--revision", metavar="REV", help="Tag, branch or commit on the Hub."),
        "pooling": click.option(
            "--pooling",
            default="cls",
            show_default=True,
            callback=several(),
            metavar="cls|mean|max",
            help="Token vectors → text vector; a,b makes both, a+b concatenates.",
        ),
        "max_length": click.option(
            "--max-length",
            default="auto",
            show_default=True,
            callback=auto(int),
            metavar="auto|N",
            help="Tokens at which a text is cut; auto is the encoder's own limit.",
        ),
        "precision": click.option(
            "--precision", default="auto", show_default=True, metavar="auto|fp32|bf16|fp16|int8", help="Of the encoder."
        ),
        "engine": click.option(
            "--engine", default="auto", show_default=True, metavar="auto|torch|openvino", help="What runs it."
        ),
    },
    _encoders,
)
effort_options = bundle(
    "effort",
    {
        "device": click.option(
            "--device", default="auto", show_default=True, metavar="auto|cpu|cuda|mps", help="Where it runs."
        ),
        "threads": click.option(
            "--threads", type=click.IntRange(1), help="Processor threads (default: all there are)."
        ),
    },
    _effort,
)
search: Options = {
    "C": click.option("--C", "C", callback=several(float), metavar="A,B,…", help="Grid of C (default: found)."),
    "folds": click.option("--folds", default=5, show_default=True, type=click.IntRange(2), help="Folds that choose C."),
}
imbalance: Options = {
    "smote": click.option("--smote", is_flag=True, help="Oversample with SMOTE, inside the folds only."),
    "imbalance": click.option(
        "--imbalance",
        callback=several(),
        metavar="KIND[,KIND]",
        help="none, balanced, smote, smote-minority, over or auto.",
    ),
}
search_options = bundle("linear", search, _linear)
linear_options = bundle("linear", imbalance | search, _linear)
tuning_options = bundle(
    "tuning",
    {
        "epochs": click.option(
            "--epochs", default=3, show_default=True, type=click.IntRange(1), help="Passes over train."
        ),
        "batch_size": click.option(
            "--batch-size", default=32, show_default=True, type=click.IntRange(1), help="Rows a step."
        ),
        "learning_rate": click.option(
            "--learning-rate",
            default="auto",
            show_default=True,
            callback=auto(float),
            metavar="auto|X",
            help="auto tries 2e-5, 5e-5 and 1e-4 in short runs, judged on validation.",
        ),
        "weight_decay": click.option("--weight-decay", default=0.01, show_default=True, type=float, help="Of AdamW."),
    },
    _tuning,
)


def place(**folders: Path) -> dict[str, Path]:
    """Where things lie, as the task wants it."""
    return folders


place_options = bundle(
    "place",
    {
        "cache": click.option(
            "--cache", default="cache", show_default=True, type=FOLDER, help="Folder of the vectors."
        ),
        "runs": click.option("--runs", default="runs", show_default=True, type=FOLDER, help="Folder of the runs."),
    },
    place,
)
cache_option = click.option("--cache", default="cache", show_default=True, type=FOLDER, help="Folder of the vectors.")
runs_option = click.option("--runs", default="runs", show_default=True, type=FOLDER, help="Folder of the runs.")
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")


# ── commands ────────────────────────────────────────────────────────────────────────────────────────────────────────


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="probe-or-tune")
def cli() -> None:
    """Is logistic regression on frozen [CLS] vectors good enough, or is it worth fine-tuning the encoder?

    SOURCE is a bundled sample (sms-spam), a folder with train.* and test.* (parquet, csv, tsv, jsonl), one file, or a
    data set on the Hub (dair-ai/emotion, nyu-mll/glue:mnli).
    """


def command(name: str, example: str) -> Callable[[Command], click.Command]:
    """A command of the group whose help ends in an example."""
    return cli.command(name, epilog=f"Example:  {example}")


@command("explore", "probe-or-tune explore reviews.csv --text body --label stars")
@source_options
@encoder_options
@cache_option
@json_option
def explore(source: SourceOptions, encoders: tuple[EncoderSpec, ...], cache: Path, as_json: bool) -> None:
    """Look at the data: class balance, token lengths, repeated texts, leaks, conflicting labels."""
    from pipeline import show
    from pipeline.contenders import profile

    show.result(profile(source, encoders[0], cache), as_json)


@command("extract", "probe-or-tune extract dair-ai/emotion --pooling cls,mean")
@source_options
@encoder_options
@effort_options
@cache_option
@json_option
def extract(
    source: SourceOptions, encoders: tuple[EncoderSpec, ...], effort: Effort, cache: Path, as_json: bool
) -> None:
    """Stage one: texts through the frozen encoder, vectors to disk. Interrupted, it goes on where it was."""
    from pipeline import show
    from pipeline.extract import extract_source

    with show.progress() as progress:
        done = [extract_source(source, spec, effort, cache, progress) for spec in encoders]
    show.results(done, as_json)


def task_of(source: SourceOptions, place: dict[str, Any], **settings: Any) -> Task:
    """Read the source and bundle what every contender is fitted with."""
    from pipeline.contenders import Task
    from pipeline.data import read

    return Task(dataset=read(source), seed=source.seed, **place, **settings)


def spoken_command() -> str:
    """The command as it was given, for the page to repeat."""
    return " ".join(["probe-or-tune", *sys.argv[1:]])


@command("fit-lr", "probe-or-tune fit-lr sms-spam --encoder minilm --smote")
@source_options
@encoder_options
@effort_options
@linear_options
@place_options
@json_option
def fit_lr(source: SourceOptions, place: dict[str, Path], as_json: bool, **settings: Any) -> None:
    """Stage two: logistic regression on the vectors, C chosen in stratified folds of train alone."""
    from pipeline import show
    from pipeline.contenders import linear_runs

    with show.progress() as progress:
        runs = linear_runs(task_of(source, place, progress=progress, **settings))
    show.results(runs, as_json)


@command("fine-tune", "probe-or-tune fine-tune dair-ai/emotion --epochs 2 --batch-size 64")
@source_options
@encoder_options
@effort_options
@tuning_options
@place_options
@json_option
def fine_tune(source: SourceOptions, place: dict[str, Path], as_json: bool, **settings: Any) -> None:
    """The contender: train the whole encoder, best epoch by macro F1 on validation."""
    from pipeline import show
    from pipeline.contenders import tuned_runs

    with show.progress() as progress:
        runs = tuned_runs(task_of(source, place, progress=progress, **settings))
    show.results(runs, as_json)


@command("compare", "probe-or-tune compare sms-spam --encoder minilm")
@source_options
@encoder_options
@effort_options
@search_options
@tuning_options
@place_options
@click.option(
    "--contenders",
    default="majority,tfidf,lr,lr+smote,fine-tune",
    show_default=True,
    callback=several(),
    metavar="NAME,…",
    help="Who takes part.",
)
@click.option("--only-existing", is_flag=True, help="Fit nothing: compare the runs that are there.")
@click.option("--metric", default="accuracy", show_default=True, help="The one metric that the verdict rests on.")
@click.option(
    "--margin", default=0.01, show_default=True, type=click.FloatRange(0), help="Differences below it do not matter."
)
@click.option(
    "--report", "page", type=click.Path(dir_okay=False, path_type=Path), help="HTML page (default: in --runs)."
)
@json_option
def compare(
    source: SourceOptions,
    place: dict[str, Path],
    contenders: tuple[str, ...],
    only_existing: bool,
    metric: str,
    margin: float,
    page: Path | None,
    as_json: bool,
    **settings: Any,
) -> None:
    """Fit what is missing, then judge: scores, paired tests, costs, one verdict and an HTML page."""
    from pipeline import show
    from pipeline.contest import Rules, contest

    with show.progress() as progress:
        task = task_of(source, place, progress=progress, **settings)
        rules = Rules(contenders=contenders, only_existing=only_existing, metric=metric, margin=margin, page=page)
        outcome = contest(task, rules, spoken_command())
    show.result(outcome, as_json)


@command("predict", "echo 'win a free phone' | probe-or-tune predict runs/sms-spam-…/lr-…")
@click.argument("run", type=FOLDER)
@click.argument("texts", nargs=-1)
@click.option("--file", type=click.Path(dir_okay=False, path_type=Path), help="Texts: parquet, csv, tsv, jsonl, txt.")
@click.option("--text", multiple=True, metavar="COLUMN", help="Column of the text in --file; twice for pairs.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Write here: .jsonl, .csv or .parquet.")
@effort_options
@cache_option
def predict(
    run: Path,
    texts: tuple[str, ...],
    file: Path | None,
    text: tuple[str, ...],
    out: Path | None,
    effort: Effort,
    cache: Path,
) -> None:
    """A run on TEXTS, on a file, or on the lines of standard input: one JSON object a text."""
    from pipeline import predict as library
    from pipeline import show
    from pipeline.run import load_run

    fitted = load_run(run)
    blocks = library.texts_in(fitted, texts, file, text, sys.stdin)
    found = library.answers(fitted, library.open_run(fitted, effort, cache), blocks)
    if out is None:
        show.lines(found)
    else:
        click.echo(f"{library.write(found, out):,} texts predicted: {out}", err=True)


@command("report", "probe-or-tune report sms-spam --encoder minilm")
@source_options
@encoder_options
@place_options
@click.option("--metric", default="accuracy", show_default=True, help="The one metric that the verdict rests on.")
@click.option("--out", "page", type=click.Path(dir_okay=False, path_type=Path), help="HTML page (default: in --runs).")
@json_option
def report(
    source: SourceOptions,
    encoders: tuple[EncoderSpec, ...],
    place: dict[str, Path],
    metric: str,
    page: Path | None,
    as_json: bool,
) -> None:
    """The HTML page of the runs that exist for SOURCE; nothing is fitted."""
    from pipeline import show
    from pipeline.contest import Rules, contest

    rules = Rules(only_existing=True, metric=metric, page=page)
    show.result(contest(task_of(source, place, encoders=encoders), rules, spoken_command()), as_json)


@cli.group()
def cache() -> None:
    """Look after the vectors on disk."""


@cache.command("ls", epilog="Example:  probe-or-tune cache ls")
@cache_option
@json_option
def cache_ls(cache: Path, as_json: bool) -> None:
    """What the cache holds: encoder, pooling, precision, rows, size, last use."""
    from pipeline import show
    from pipeline.store.upkeep import holdings

    show.listing(holdings(cache), as_json)


@cache.command("verify", epilog="Example:  probe-or-tune cache verify")
@cache_option
@json_option
def cache_verify(cache: Path, as_json: bool) -> None:
    """Check every byte of every shard; what is damaged is moved aside and encoded again when it is next wanted."""
    from pipeline import show
    from pipeline.store.upkeep import folders, verify

    with show.progress() as progress:
        found = [verify(folder, progress) for folder in folders(cache)]
    show.listing(found, as_json)


@cache.command("prune", epilog="Example:  probe-or-tune cache prune --litter")
@cache_option
@click.option("--litter", is_flag=True, help="Also delete quarantined files and drafts older than a day.")
@json_option
def cache_prune(cache: Path, litter: bool, as_json: bool) -> None:
    """Merge small shards and drop rows that stand twice, safely beside a running extraction."""
    from pipeline import show
    from pipeline.store.upkeep import folders, prune

    with show.progress() as progress:
        found = [prune(folder, litter, progress) for folder in folders(cache)]
    show.listing(found, as_json)


# ── the door ────────────────────────────────────────────────────────────────────────────────────────────────────────


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code: 0 done, 1 user error, 2 wrong usage, 130 interrupted."""
    notes = logging.StreamHandler(sys.stderr)
    notes.setFormatter(logging.Formatter("%(message)s"))
    logger = logging.getLogger("pipeline")
    logger.handlers, logger.propagate = [notes], False
    logger.setLevel(logging.INFO)
    try:
        cli(args=arguments, prog_name="probe-or-tune", standalone_mode=False)
        return 0
    except UserError as error:
        click.echo(f"error: {error}", err=True)
        return 1
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        click.echo("interrupted; what was committed stays, the same command goes on from there", err=True)
        return 130
    except BrokenPipeError:
        return 0


if __name__ == "__main__":
    sys.exit(main())
