"""The command line: options become one dataclass, one call does the work, one call shows the result.

Nothing heavy is imported before a command runs, so that `--help` answers at once.
"""

from __future__ import annotations

import logging
import os
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline import UserError, printable
from pipeline.options import (
    FOLDER,
    Command,
    cache_option,
    cluster_options,
    comparison_options,
    encoder_options,
    json_option,
    linear_options,
    optional_source,
    place_options,
    plan_options,
    runtime_options,
    search_options,
    seeds_option,
    several,
    source_options,
    tuning_options,
)

if TYPE_CHECKING:
    from pipeline.comparison import ComparisonSettings
    from pipeline.data import SourceOptions
    from pipeline.encoder import EncoderSpec, Runtime
    from pipeline.extract.onray import Cluster
    from pipeline.learning_curve import Plan
    from pipeline.task import Task

# ── commands ────────────────────────────────────────────────────────────────────────────────────────────────────────


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110, "show_default": True})
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
@click.option("--show-tokens", default=0, type=click.IntRange(0), metavar="N", help="List the tokens of N rows.")
@json_option
def explore(
    source: SourceOptions, encoders: tuple[EncoderSpec, ...], cache: Path, show_tokens: int, as_json: bool
) -> None:
    """Look at the data: class balance, token lengths, repeated texts, leaks, conflicting labels."""
    from pipeline import show
    from pipeline.contenders import profile

    show.result(profile(source, encoders[0], cache, show_tokens), as_json)


@command("extract", "probe-or-tune extract dair-ai/emotion --pooling cls,mean")
@source_options
@encoder_options
@runtime_options
@cluster_options
@cache_option
@click.option("--recalibrate", is_flag=True, help="int8: calibrate again, on SOURCE; its vectors get a new folder.")
@json_option
def extract(
    source: SourceOptions,
    encoders: tuple[EncoderSpec, ...],
    runtime: Runtime,
    cluster: Cluster | None,
    cache: Path,
    recalibrate: bool,
    as_json: bool,
) -> None:
    """Stage one: texts through the frozen encoder, vectors to disk. Interrupted, it goes on where it was."""
    from pipeline import show
    from pipeline.estimates import announce_extraction
    from pipeline.extract import extract_on

    with show.progress() as progress:
        far = cluster is not None and "://" in source.source  # only Ray can look into it
        total = None if far else announce_extraction(source, encoders[0], runtime, cache)
        rest = (runtime, cache, progress, recalibrate, total)
        done = [extract_on(cluster, source, spec, *rest) for spec in encoders]
    show.results(done, as_json)


def task_of(source: SourceOptions, place: dict[str, Any], **settings: Any) -> Task:
    """Read the source and bundle what every contender is fitted with."""
    from pipeline.data import read
    from pipeline.task import Task

    return Task(dataset=read(source), seed=source.seed, **place, **settings)


def spoken_command() -> str:
    """The command as it was given, for the page to repeat."""
    return shlex.join(["probe-or-tune", *sys.argv[1:]])


@command("fit-lr", "probe-or-tune fit-lr sms-spam --encoder minilm --smote")
@source_options
@encoder_options
@runtime_options
@linear_options
@place_options
@json_option
def fit_lr(source: SourceOptions, place: dict[str, Path], as_json: bool, **settings: Any) -> None:
    """Stage two: logistic regression on the vectors, C chosen in stratified folds of train alone."""
    from pipeline import show
    from pipeline.fitting import fit_linear

    with show.progress() as progress:
        runs = fit_linear(task_of(source, place, progress=progress, **settings))
    show.results(runs, as_json)


@command("fine-tune", "probe-or-tune fine-tune dair-ai/emotion --epochs 2 --batch-size 64")
@source_options
@encoder_options
@runtime_options
@tuning_options
@seeds_option
@place_options
@json_option
def fine_tune(source: SourceOptions, place: dict[str, Path], as_json: bool, **settings: Any) -> None:
    """The contender: train the whole encoder, best epoch by macro F1 on validation."""
    from pipeline import show
    from pipeline.finetune.seeds import several_seeds
    from pipeline.fitting import fit_tuned

    with show.progress() as progress:
        runs = fit_tuned(task_of(source, place, progress=progress, **settings))
    show.results(runs, as_json, several_seeds(runs))


@command("compare", "probe-or-tune compare sms-spam --encoder minilm")
@source_options
@encoder_options
@runtime_options
@search_options
@tuning_options
@seeds_option
@place_options
@comparison_options
@json_option
def compare(
    source: SourceOptions, place: dict[str, Path], rules: ComparisonSettings, as_json: bool, **settings: Any
) -> None:
    """Fit what is missing, then judge: scores, paired tests, costs, one verdict, an HTML page and a model card."""
    from pipeline import show
    from pipeline.comparison import contest

    with show.progress() as progress:
        outcome = contest(task_of(source, place, progress=progress, **settings), rules, spoken_command())
    show.result(outcome, as_json)


@command("curve", "probe-or-tune curve sms-spam --encoder minilm --contenders tfidf,lr")
@source_options
@encoder_options
@runtime_options
@search_options
@tuning_options
@place_options
@plan_options
@json_option
def curve(source: SourceOptions, place: dict[str, Path], plan: Plan, as_json: bool, **settings: Any) -> None:
    """Scores against number of labels, and where one contender overtakes another; points are kept under --runs."""
    from pipeline import show
    from pipeline.learning_curve import curve as draw

    with show.progress() as progress:
        found = draw(task_of(source, place, progress=progress, **settings), plan)
    show.result(found, as_json)


@command("audit", "probe-or-tune audit reviews.csv --text body --label stars --out suspicious.csv")
@source_options
@encoder_options
@runtime_options
@search_options
@place_options
@click.option(
    "--contenders", default="tfidf,lr", callback=several(), metavar="NAME,…", help="Who speaks, fitted if missing."
)
@click.option("--only-existing", is_flag=True, help="Fit nothing: audit the runs that are there.")
@click.option("--metric", default="accuracy", help="The one metric that the verdict rests on.")
@click.option("--margin", default=0.01, type=click.FloatRange(0), help="Differences below it do not matter.")
@click.option("--near", default=0.95, help="Cosine from which on two different texts are near-repeats.")
@click.option("--top", default=20, type=click.IntRange(0), help="Rows of highest and lowest loss, a contender.")
@click.option("--pair", callback=several(), metavar="A,B", help="Contenders to hold side by side (default: best two).")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Suspicious labels as CSV, for review.")
@json_option
def audit(
    source: SourceOptions,
    place: dict[str, Path],
    contenders: tuple[str, ...],
    only_existing: bool,
    metric: str,
    margin: float,
    near: float,
    top: int,
    pair: tuple[str, ...] | None,
    out: Path | None,
    as_json: bool,
    **settings: Any,
) -> None:
    """What is wrong with the data: suspicious labels, confusion, losses, near-repeats, what leaks are worth.

    Fits TF-IDF and logistic regression if they are missing, never fine-tunes; a fine-tuning run that is there is used.
    """
    from pipeline import show
    from pipeline.audit import AuditSettings
    from pipeline.audit.review import export
    from pipeline.comparison import ComparisonSettings, examine

    if pair is not None and len(pair) != 2:
        raise click.BadParameter("two names, as in --pair lr,tfidf", param_hint="--pair")
    with show.progress() as progress:
        task = task_of(source, place, progress=progress, **settings)
        rules = ComparisonSettings(contenders=contenders, only_existing=only_existing, metric=metric, margin=margin)
        found = examine(task, rules, AuditSettings(metric, margin, near, top, pair and (pair[0], pair[1])))
    if out is not None:
        click.echo(f"{export(found.rows, out):,} suspicious labels: {out}", err=True)
    show.result(found, as_json)


@command("predict", "echo 'win a free phone' | probe-or-tune predict runs/sms-spam-…/lr-…")
@click.argument("run", type=FOLDER)
@click.argument("texts", nargs=-1)
@click.option("--file", type=click.Path(dir_okay=False, path_type=Path), help="Texts: parquet, csv, tsv, jsonl, txt.")
@click.option("--text", multiple=True, metavar="COLUMN", help="Column of the text in --file; twice for pairs.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Write here: .jsonl, .csv or .parquet.")
@click.option("--top-k", type=click.IntRange(1), metavar="N", help="Only the N likeliest classes, likeliest first.")
@click.option(
    "--abstain-below", type=click.FloatRange(0, 1), metavar="P", help="No label where its probability is below P."
)
@click.option("--encoder", metavar="NAME", help="Where the run's encoder lies now, if it has moved.")
@runtime_options
@cache_option
@click.option("--json", "as_json", is_flag=True, help="Answers are JSON, an object a line, with and without this.")
def predict(
    run: Path,
    texts: tuple[str, ...],
    file: Path | None,
    text: tuple[str, ...],
    out: Path | None,
    top_k: int | None,
    abstain_below: float | None,
    encoder: str | None,
    runtime: Runtime,
    cache: Path,
    as_json: bool,
) -> None:
    """A run on TEXTS, on a file, or on the lines of standard input: one JSON object a text."""
    from pipeline import predict as library
    from pipeline import show
    from pipeline.run import load_run

    fitted = load_run(run)
    blocks = library.texts_in(fitted, texts, file, text, sys.stdin)
    ask = library.Ask(top_k, abstain_below)
    total = library.announce(fitted, file) if file else None
    with show.progress(quiet=file is None or (out is None and sys.stdout.isatty())) as progress:
        answers = library.answers(fitted, library.open_run(fitted, runtime, cache, encoder), blocks, ask)
        found = library.watched(answers, total, progress)
        if out is None:
            show.lines(found)
        else:
            click.echo(f"{library.write(found, out):,} texts predicted: {out}", err=True)


@command("export", "probe-or-tune export runs/sms-spam-…/lr-… --format transformers --out served")
@click.argument("run", type=FOLDER)
@click.option("--format", "form", required=True, metavar="transformers|onnx|joblib", help="What will run it.")
@click.option("--out", required=True, type=FOLDER, help="New folder: the model, its class names and a model card.")
@click.option("--source", metavar="SOURCE", help="Check on 200 texts of this (default: of the bundled data set).")
@click.option("--text", multiple=True, metavar="COLUMN", help="Column of the text in --source; twice for pairs.")
@click.option("--push", "repository", metavar="OWNER/NAME", help="Upload it to the Hub, too.")
@click.option("--encoder", metavar="NAME", help="Where the run's encoder lies now, if it has moved.")
@cache_option
@json_option
def export(
    run: Path,
    form: str,
    out: Path,
    source: str | None,
    text: tuple[str, ...],
    repository: str | None,
    encoder: str | None,
    cache: Path,
    as_json: bool,
) -> None:
    """A run as what the world already runs: a stock Hugging Face checkpoint, an ONNX graph, a scikit-learn pipeline.

    It is loaded again by what will run it and compared with the run on 200 texts before --out appears.
    """
    from pipeline import show
    from pipeline.data import SourceOptions
    from pipeline.export import export_run
    from pipeline.run import load_run

    texts = SourceOptions(source, text=text) if source else None
    done = export_run(load_run(run), form, out, source=texts, cache=cache, encoder=encoder, repository=repository)
    show.result(done, as_json)


@command("report", "probe-or-tune report sms-spam --encoder minilm")
@source_options
@encoder_options
@place_options
@click.option("--metric", default="accuracy", help="The one metric that the verdict rests on.")
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
    from pipeline.comparison import ComparisonSettings, contest
    from pipeline.kinds import names

    rules = ComparisonSettings(contenders=tuple(names(numbered=False)), only_existing=True, metric=metric, page=page)
    show.result(contest(task_of(source, place, encoders=encoders), rules, spoken_command()), as_json)


@command("doctor", "probe-or-tune doctor sms-spam --encoder minilm")
@optional_source
@encoder_options
@runtime_options
@cache_option
@json_option
def doctor(
    source: SourceOptions | None, encoders: tuple[EncoderSpec, ...], runtime: Runtime, cache: Path, as_json: bool
) -> None:
    """What this machine can do: engines and precisions with measured tokens/s, and what extracting SOURCE will take."""
    from pipeline import show
    from pipeline.doctor import checkup

    show.results([checkup(spec, runtime, cache, source) for spec in encoders], as_json)


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


@cache.command("verify", epilog="Example:  probe-or-tune cache verify sms-spam --encoder minilm --recompute 100")
@optional_source
@encoder_options
@runtime_options
@cache_option
@click.option("--recompute", "count", type=click.IntRange(1), metavar="K", help="Encode K random rows of SOURCE again.")
@json_option
def cache_verify(
    source: SourceOptions | None,
    encoders: tuple[EncoderSpec, ...],
    runtime: Runtime,
    cache: Path,
    count: int | None,
    as_json: bool,
) -> None:
    """Check every byte of every shard; what is damaged is moved aside and encoded again when it is next wanted.

    With --recompute, which needs SOURCE: are the vectors what the encoder gives, within its stated tolerance?
    """
    from pipeline import show
    from pipeline.store.upkeep import folders, verify

    if (source is None) != (count is None):
        raise click.UsageError("SOURCE and --recompute K go together: K of its rows are encoded again")
    if source is None or count is None:
        with show.progress() as progress:
            checked = [verify(folder, progress) for folder in folders(cache)]
        show.listing(checked, as_json)
        return
    from pipeline.extract.recompute import insist, recompute

    with show.progress() as progress:
        found = [recompute(source, spec, runtime, cache, count, source.seed, progress) for spec in encoders]
    show.results(found, as_json)
    insist(found)


@cache.command("export", epilog="Example:  probe-or-tune cache export sms-spam --encoder minilm --out vectors.parquet")
@source_options
@encoder_options
@runtime_options
@cache_option
@click.option("--out", required=True, type=click.Path(dir_okay=False, path_type=Path), help="File to write: .parquet.")
@json_option
def cache_export(
    source: SourceOptions, encoders: tuple[EncoderSpec, ...], runtime: Runtime, cache: Path, out: Path, as_json: bool
) -> None:
    """Vectors of SOURCE with texts and labels as one Parquet file, for pandas, polars, DuckDB and datasets."""
    from pipeline import show
    from pipeline.extract.parquet import export_parquet

    if len(encoders) > 1:
        raise click.UsageError("a file holds the vectors of one encoder; pass one --encoder")
    with show.progress() as progress:
        done = export_parquet(source, encoders[0], runtime, cache, out, progress)
    show.result(done, as_json)


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


class Spoken(logging.Formatter):
    """Notes may name classes and files: a terminal shows such names and does not obey them."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code: 0 done, 1 user error, 2 wrong usage, 130 interrupted."""
    notes = logging.StreamHandler(sys.stderr)
    notes.setFormatter(Spoken("%(message)s"))
    logger = logging.getLogger("pipeline")
    logger.handlers, logger.propagate = [notes], False
    logger.setLevel(logging.INFO)
    try:
        cli(args=arguments, prog_name="probe-or-tune", standalone_mode=False)
        sys.stdout.flush()  # here, where an error of it is answered
        return 0
    except UserError as error:
        click.echo(f"error: {printable(error)}", err=True)
        return 1
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        click.echo("interrupted; what was committed stays, the same command goes on from there", err=True)
        return 130
    except (BrokenPipeError, SystemExit):  # the second is what click makes of the first
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nobody reads on: nothing to say at exit either
        return 0
    except OSError as error:  # standard output on a full disk, say
        click.echo(f"error: {error.filename or 'standard output'}: {error.strerror or error}", err=True)
        return 1


def door() -> None:
    """Run the command line and leave; interrupted, without waiting for threads that are in the middle of a batch."""
    code = main()
    if code == 130:
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


if __name__ == "__main__":
    door()
