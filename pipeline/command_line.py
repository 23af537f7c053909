"""The command line: options become one dataclass, one call does the work, one call shows the result.

Nothing heavy is imported before a command runs, so that `--help` answers at once.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from . import options
from .options import commands
from .options.configured import ConfiguredGroup, as_toml, path_of
from .options.parsing import Command

if TYPE_CHECKING:
    from .audit import AuditSettings
    from .comparison import ComparisonSettings
    from .data import SourceOptions
    from .disagreement import LabelSettings
    from .encoder import EncoderSpec, Runtime
    from .export import ExportSettings
    from .extract.anywhere import EncodingOptions
    from .learning_curve import Plan
    from .predict import Ask, Given, Opening
    from .task import TaskOptions

    Encoders = tuple[EncoderSpec, ...]


@click.group(
    cls=ConfiguredGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110, "show_default": True},
)
@click.version_option(package_name="probe-or-tune")
def cli() -> None:
    """Is logistic regression on frozen [CLS] vectors good enough, or is it worth fine-tuning the encoder?

    SOURCE is a bundled sample (sms-spam), a folder with train.* and test.* (parquet, csv, tsv, jsonl), one file, or a
    data set on the Hub (dair-ai/emotion, nyu-mll/glue:mnli).
    """


def command(name: str, example: str) -> Callable[[Command], click.Command]:
    """A command of the group whose help ends in an example."""
    return cli.command(name, epilog=f"Example:  {example}")


def repeated() -> str:
    """This command, and the file of settings that repeats it."""
    context = click.get_current_context()
    words = [*path_of(context), "--config", "FILE.toml"]
    line = shlex.join(["probe-or-tune", *sys.argv[1:]])
    return f"{line}\n\n# or: {shlex.join(['probe-or-tune', *words])}, the file being\n{as_toml(context)}"


@command("explore", "probe-or-tune explore reviews.csv --text body --label stars")
@options.source_options
@options.encoder_options
@options.cache_option
@click.option("--show-tokens", default=0, type=click.IntRange(0), metavar="N", help="List the tokens of N rows.")
@options.json_option
def explore(source: SourceOptions, encoders: Encoders, cache: Path, show_tokens: int, as_json: bool) -> None:
    """Look at the data: balance, lengths, repeats, leaks, conflicts."""
    from . import show
    from .contenders import profile

    show.result(profile(source, encoders[0], cache, show_tokens), as_json)


@command("extract", "probe-or-tune extract dair-ai/emotion --pooling cls,mean")
@commands.extract_options
@options.json_option
def extract(job: EncodingOptions, as_json: bool) -> None:
    """Stage one: texts through the frozen encoder, vectors to disk. Interrupted, it goes on where it was."""
    from . import show
    from .estimates import extract_announced

    with show.progress() as progress:
        done = extract_announced(job, progress)
    show.results(done, as_json)


@command("fit-lr", "probe-or-tune fit-lr sms-spam --encoder minilm --smote")
@commands.fit_lr_task
@options.json_option
def fit_lr(task: TaskOptions, as_json: bool) -> None:
    """Stage two: logistic regression on the vectors. C is chosen in stratified folds of train alone."""
    from . import show
    from .fitting import fit_linear

    with show.progress() as progress:
        runs = fit_linear(task.read(progress))
    show.results(runs, as_json)


@command("fine-tune", "probe-or-tune fine-tune dair-ai/emotion --epochs 2 --batch-size 64")
@commands.fine_tune_task
@options.json_option
def fine_tune(task: TaskOptions, as_json: bool) -> None:
    """The contender: train the whole encoder. The epoch is the best by macro F1 on validation."""
    from . import show
    from .finetune.seeds import several_seeds
    from .fitting import fit_tuned

    with show.progress() as progress:
        runs = fit_tuned(task.read(progress))
    show.results(runs, as_json, several_seeds(runs))


@command("compare", "probe-or-tune compare sms-spam --encoder minilm")
@commands.compare_task
@options.comparison_options
@options.json_option
def compare(task: TaskOptions, rules: ComparisonSettings, as_json: bool) -> None:
    """Fit what is missing, then judge: one verdict, and a page. With scores, paired tests, costs and a model card."""
    from . import show
    from .comparison import contest, read

    with show.progress() as progress:
        outcome = contest(read(task, rules, progress), rules, repeated())
    show.result(outcome, as_json)


@command("curve", "probe-or-tune curve sms-spam --encoder minilm --contenders tfidf,lr")
@commands.curve_task
@options.plan_options
@options.json_option
def curve(task: TaskOptions, plan: Plan, as_json: bool) -> None:
    """Scores against number of labels, and where lines cross. Points are kept under --runs."""
    from . import show
    from .learning_curve import curve as draw

    with show.progress() as progress:
        drawn = draw(task.read(progress), plan)
    show.result(drawn, as_json)


@command("audit", "probe-or-tune audit reviews.csv --text body --label stars --out suspicious.csv")
@commands.audit_task
@options.audit_rules
@options.audit_options
@click.option("--out", type=options.FILE, help="Suspicious labels as CSV, for review.")
@options.json_option
def audit(
    task: TaskOptions, rules: ComparisonSettings, settings: AuditSettings, out: Path | None, as_json: bool
) -> None:
    """What is wrong with the data: labels, near-repeats, leaks. Also confusion, losses, and what leaks are worth.

    Fits TF-IDF and logistic regression if they are missing, never fine-tunes; a fine-tuning run that is there is used.
    """
    from . import show
    from .audit.review import export
    from .comparison import examine
    from .files import spare

    if out is not None:
        spare(out, task.source.source)
    with show.progress() as progress:
        audited = examine(task.read(progress), rules, settings)
    if out is not None:
        click.echo(f"{export(audited.rows, out):,} labels in doubt: {out}", err=True)
    show.result(audited, as_json)


@command("label-next", "probe-or-tune label-next RUN RUN --pool texts.csv --count 200 --out next.csv")
@click.argument("runs", nargs=2, type=options.FOLDER, metavar="RUN RUN")
@commands.label_options
@commands.opening_options
@options.json_option
def label_next(runs: tuple[Path, Path], settings: LabelSettings, opening: Opening, as_json: bool) -> None:
    """Which of two runs is better on texts without labels. The rows to label, and the verdict that they bring.

    Rows are drawn at random among those on which the two differ; the others cannot tell them apart.
    """
    from . import show
    from .disagreement import label_next
    from .run import load_run

    with show.progress() as progress:
        found = label_next([load_run(run) for run in runs], settings, opening, progress)
    show.result(found, as_json)


@command("predict", "echo 'win a free phone' | probe-or-tune predict runs/sms-spam-…/lr-…")
@click.argument("run", type=options.FOLDER)
@commands.texts_options
@click.option("--out", type=options.FILE, help="Write here: .jsonl, .csv or .parquet.")
@commands.answer_options
@commands.opening_options
@click.option("--json", "as_json", is_flag=True, help="Answers are JSON, an object a line, with and without this.")
def predict(run: Path, given: Given, out: Path | None, ask: Ask, opening: Opening, as_json: bool) -> None:
    """A run on TEXTS, a file, or lines of standard input. One JSON object a text."""
    from . import predict as library
    from . import show
    from .files import spare
    from .run import load_run

    if out is not None:
        spare(out, given.file)
    fitted = load_run(run)
    blocks = library.texts_in(fitted, given, sys.stdin)
    total = library.announce(fitted, given) if given.file else None
    with show.progress(quiet=given.file is None or (out is None and sys.stdout.isatty())) as progress:
        answers = library.watched(library.answers(fitted, opening.open(fitted), blocks, ask), total, progress)
        if out is None:
            show.lines(answers)
        else:
            click.echo(f"{library.write(answers, out):,} texts predicted: {out}", err=True)


@command("export", "probe-or-tune export runs/sms-spam-…/lr-… --format transformers --out served")
@click.argument("run", type=options.FOLDER)
@commands.export_options
@options.json_option
def export(run: Path, settings: ExportSettings, as_json: bool) -> None:
    """A run as a stock checkpoint, an ONNX graph or scikit-learn. These are what the world already runs.

    It is loaded again by what will run it and compared with the run on 200 texts before --out appears.
    """
    from . import show
    from .run import load_run

    show.result(settings.export(load_run(run)), as_json)


@command("report", "probe-or-tune report sms-spam --encoder minilm")
@commands.report_task
@options.report_options
@options.json_option
def report(task: TaskOptions, rules: ComparisonSettings, as_json: bool) -> None:
    """The HTML page of the runs that exist; nothing is fitted."""
    from . import show
    from .comparison import contest, read

    show.result(contest(read(task, rules), rules, repeated()), as_json)


@command("doctor", "probe-or-tune doctor sms-spam --encoder minilm")
@options.optional_source
@options.encoder_options
@options.runtime_options
@options.cache_option
@options.json_option
def doctor(source: SourceOptions | None, encoders: Encoders, runtime: Runtime, cache: Path, as_json: bool) -> None:
    """What this machine can do, and how long SOURCE will take. Each engine and precision with measured tokens/s."""
    from . import show
    from .doctor import checkup

    show.results([checkup(spec, runtime, cache, source) for spec in encoders], as_json)


@cli.group()
def cache() -> None:
    """Look after the vectors on disk."""


@cache.command("ls", epilog="Example:  probe-or-tune cache ls")
@options.cache_option
@options.json_option
def cache_ls(cache: Path, as_json: bool) -> None:
    """What the cache holds: vectors, models, kept states. With encoder, pooling, precision, rows, size, last use."""
    from . import show
    from .store.upkeep import holdings

    show.listing(holdings(cache), as_json)


@cache.command("verify", epilog="Example:  probe-or-tune cache verify sms-spam --encoder minilm --recompute 100")
@options.optional_source
@options.encoder_options
@options.runtime_options
@options.cache_option
@click.option("--recompute", "count", type=click.IntRange(1), metavar="K", help="Encode K random rows of SOURCE again.")
@options.json_option
def cache_verify(
    source: SourceOptions | None, encoders: Encoders, runtime: Runtime, cache: Path, count: int | None, as_json: bool
) -> None:
    """Check every byte of every shard. What is damaged is moved aside and encoded again when it is next wanted.

    With --recompute, which needs SOURCE: are the vectors what the encoder gives, within its stated tolerance?
    """
    from . import show
    from .store.upkeep import folders, verify

    if (source is None) != (count is None):
        raise click.UsageError("SOURCE and --recompute K go together: K of its rows are encoded again")
    if source is None or count is None:
        with show.progress() as progress:
            checked = [verify(folder, progress) for folder in folders(cache)]
        show.listing(checked, as_json)
        return
    from .extract.recompute import insist, recompute

    with show.progress() as progress:
        recomputed = [recompute(source, spec, runtime, cache, count, progress) for spec in encoders]
    show.results(recomputed, as_json)
    insist(recomputed)


@cache.command("export", epilog="Example:  probe-or-tune cache export sms-spam --encoder minilm --out vectors.parquet")
@commands.encoding_options
@click.option("--out", required=True, type=options.FILE, help="File to write: .parquet.")
@options.json_option
def cache_export(job: EncodingOptions, out: Path, as_json: bool) -> None:
    """Vectors of SOURCE with texts and labels as Parquet. For pandas, polars, DuckDB and datasets."""
    from . import show
    from .extract.parquet import export_parquet

    if len(job.encoders) > 1:
        raise click.UsageError("a file holds the vectors of one encoder; pass one --encoder")
    with show.progress() as progress:
        done = export_parquet(job.source, job.encoders[0], job.runtime, job.cache, out, progress)
    show.result(done, as_json)


@cache.command("prune", epilog="Example:  probe-or-tune cache prune --litter")
@options.cache_option
@click.option("--litter", is_flag=True, help="Also delete quarantined files and drafts older than a day.")
@options.json_option
def cache_prune(cache: Path, litter: bool, as_json: bool) -> None:
    """Merge small shards and drop rows that stand twice. Safe beside a running extraction."""
    from . import show
    from .store.upkeep import derived, folders, prune, swept

    with show.progress() as progress:
        pruned = [prune(folder, litter, progress) for folder in folders(cache)]
        pruned += [swept(folder, litter) for folder in derived(cache)]
    show.listing(pruned, as_json)
