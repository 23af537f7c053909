"""Options of the command line, in bundles: each becomes one value, so that nothing downstream has ten parameters.

The values' own modules are imported when a command runs, so that `--help` answers at once.
"""

from __future__ import annotations

from collections.abc import Callable

import click

from ..kinds import RANK
from . import builders
from .parsing import (
    FILE,
    FOLDER,
    Bundle,
    Command,
    Number,
    Options,
    auto,
    budget,
    cache_place,
    made,
    positive,
    several,
)

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
    "group": click.option("--group", metavar="COLUMN", help="Rows that share a value of it stay together."),
    "time": click.option(
        "--time", metavar="COLUMN", help="Learn from the past, judge on the future: rows in its order."
    ),
    "drop_empty": click.option("--drop-empty", is_flag=True, help="Leave out rows with an empty text."),
    "seed": click.option("--seed", default=42, type=click.IntRange(0), help="Seed of everything random."),
}
source_options = Bundle("source", source_parts, made(".data:SourceOptions"))
judged_source_options = Bundle(  # of commands that may judge every row
    "source",
    source_parts
    | {
        "cv": click.option(
            "--cv/--no-cv",
            default=None,
            help="Judge every row by 10-fold cross-validation [default: without a test split, up to 2,000 rows]",
        )
    },
    builders.judged_source,
)
optional_source = Bundle(
    "source", source_parts | {"source": click.argument("source", required=False)}, builders.source_if_any
)
encoder_options = Bundle(
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
            default="declared",
            callback=several(),
            metavar="declared|cls|mean|…",
            help="Token vectors → text vector (default: the checkpoint's own, else cls); a,b makes both, a+b joins.",
        ),
        "prompt": click.option(
            "--prompt",
            default="auto",
            metavar="auto|none|NAME|TEXT",
            help="Before every text: a name that the checkpoint declares, or the text; auto is its default.",
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
            default="auto",
            metavar="auto|float32|float16",
            help="Kept on disk; float16 rounds, in half the room; auto takes it for inner layers alone.",
        ),
        "layers": click.option(
            "--layers",
            default="last",
            callback=several(),
            metavar="last|all|N,…",
            help="Layers whose [CLS] and mean one pass keeps, and pooling auto chooses among; 0: the embeddings.",
        ),
    },
    builders.encoders,
)
runtime_options = Bundle(
    "runtime",
    {
        "device": click.option("--device", default="auto", metavar="auto|cpu|cuda|mps", help="Where it runs."),
        "threads": click.option(
            "--threads", type=click.IntRange(1), help="Processor threads (default: all there are)."
        ),
    },
    made(".encoder:Runtime"),
)
cluster_options = Bundle(
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
    builders.cluster,
)
search: Options = {
    "C": click.option("--C", "C", callback=several(positive), metavar="A,B,…", help="Grid of C (default: found)."),
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
search_options = Bundle("linear", search, builders.linear)
linear_options = Bundle("linear", treatment | search, builders.linear)
tuning_options = Bundle(
    "tuning",
    {
        "epochs": click.option(
            "--epochs",
            default="auto",
            callback=auto(int),
            metavar="auto|N",
            help="Passes over train; auto makes about 250 steps, 10 a class at least, 3 to 30 passes.",
        ),
        "batch_size": click.option("--batch-size", default=32, type=click.IntRange(1), help="Rows a step."),
        "learning_rate": click.option(
            "--learning-rate",
            default="auto",
            callback=auto(float),
            metavar="auto|X",
            help="auto starts 2e-5, 5e-5 and 1e-4 together; the best on validation goes on.",
        ),
        "weight_decay": click.option("--weight-decay", default=0.01, type=Number(0), help="Of AdamW."),
        "warmup": click.option("--warmup", default=0.1, type=Number(0, 1, max_open=True), help="Share of the steps."),
        "schedule": click.option(
            "--schedule", default="linear", metavar="linear|cosine|constant", help="Learning rate after the warm-up."
        ),
        "patience": click.option("--patience", type=int, help="Stop after so many epochs without a better macro F1."),
        "gradient_accumulation": click.option("--gradient-accumulation", default=1, type=int, help="Batches a step."),
        "label_smoothing": click.option(
            "--label-smoothing", default=0.0, type=Number(0, 1, max_open=True), help="0 to 1."
        ),
        "class_weights": click.option("--class-weights", is_flag=True, help="Rows of rare classes count for more."),
        "head": click.option("--head", default="standard", metavar="standard|linear|mlp", help="Classifier."),
        "dropout": click.option(
            "--dropout", type=Number(0, 1, max_open=True), help="Of the head (default: the architecture's)."
        ),
        "xavier": click.option("--xavier", is_flag=True, help="Xavier weights and zero bias for the head."),
        "init_head": click.option("--init-head", type=FOLDER, metavar="RUN", help="Start from a fit-lr run."),
        "freeze": click.option("--freeze", is_flag=True, help="Train a head alone, on cached vectors."),
        "unfreeze": click.option("--unfreeze", type=int, metavar="N", help="Train the last N layers and the head."),
        "lora": click.option("--lora", type=int, is_flag=False, flag_value=RANK, metavar="[RANK]", help="LoRA (peft)."),
        "from_scratch": click.option("--from-scratch", is_flag=True, help="Random weights instead of pretrained ones."),
        "report_to": click.option(
            "--report-to",
            callback=several(),
            metavar="NAME,…",
            help="mlflow, tensorboard, trackio, wandb: all runs, the verdict.",
        ),
    },
    builders.tuning,
)
vectors_option = click.option(
    "--vectors",
    callback=several(),
    metavar="FILE.parquet,…",
    help="Vectors from elsewhere by row_id or text, in place of --encoder's (fine-tuning keeps that).",
)
stack_option = click.option(
    "--stack", default="tfidf,lr", callback=several(), metavar="NAME,…", help="What the contender stack joins."
)
cascade_option = click.option(
    "--cascade",
    is_flag=False,
    flag_value="tfidf,fine-tune",
    callback=several(),
    metavar="[CHEAP,DEAR]",
    help="Also a cascade: CHEAP answers what it is sure of, DEAR the rest (tfidf,fine-tune).",
)
seeds_option = click.option("--seeds", default=1, type=click.IntRange(1), help="Repeat with so many seeds.")


cache_option = click.option(
    "--cache",
    default="cache",
    callback=cache_place,
    metavar="FOLDER|URL",
    help="Where the vectors are: a folder, or s3://bucket/prefix (a copy of what is read stays here).",
)
runs_option = click.option("--runs", default="runs", type=FOLDER, help="Folder of the runs.")
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
judging: Options = {
    "metric": click.option("--metric", default="accuracy", help="The one metric that the verdict rests on."),
    "margin": click.option("--margin", default=0.01, type=Number(0), help="Differences below it do not matter."),
}


def contenders_option(default: str, help: str) -> Callable[[Command], Command]:
    return click.option("--contenders", default=default, callback=several(), metavar="NAME,…", help=help)


def only_existing(help: str) -> Callable[[Command], Command]:
    return click.option("--only-existing", is_flag=True, help=help)


def page_option(*names: str) -> Callable[[Command], Command]:
    return click.option(*names, "page", type=FILE, help="HTML page (default: in --runs).")


comparison_options = Bundle(
    "rules",
    {
        "contenders": contenders_option(
            "majority,tfidf,lr,lr+smote,stack,fine-tune",
            "Who takes part; lr+auto (pooling chosen in the folds), frozen-head, from-scratch, lr+balanced may, too.",
        ),
        "ladder": click.option(
            "--ladder",
            is_flag=True,
            help="From probe to tune: lr, the last layer, the last two, all of the encoder; what each step brings.",
        ),
        "run": click.option("--run", multiple=True, type=FOLDER, help="A run's folder that joins; repeatable."),
        "predictions": click.option(
            "--predictions",
            multiple=True,
            metavar="NAME=FILE",
            help="Answers of another model that joins: label or p_CLASS by row_id, text or order; repeatable.",
        ),
        "only_existing": only_existing("Fit nothing: compare the runs that are there."),
        "budget": click.option(
            "--budget", callback=budget, metavar="20m|90s|2h", help="Time to fit in; what does not fit is left out."
        ),
        "stop_hopeless": click.option(
            "--stop-hopeless",
            is_flag=True,
            help="End fine-tuning that validation shows not to pass the best cheap contender by more than --margin.",
        ),
        **judging,
        "worth": click.option(
            "--worth", metavar='"1 point = 10 min"', help="What a point is worth: so much time saved outweighs it."
        ),
        "prefer": click.option(
            "--prefer",
            default="best",
            type=click.Choice(["best", "cheap"]),
            help="cheap: a loss that is not shown does not count against what costs less.",
        ),
        "by": click.option("--by", metavar="COLUMN", help="Also score the groups of rows that share a value of it."),
        "page": page_option("--report"),
    },
    builders.rules,
)
audit_rules = Bundle(
    "rules",
    {
        "contenders": contenders_option("tfidf,lr", "Who speaks, fitted if missing."),
        "only_existing": only_existing("Fit nothing: audit the runs that are there."),
        **judging,
    },
    builders.rules,
)
audit_options = Bundle(
    "settings",
    {
        "near": click.option("--near", default=0.95, help="Cosine from which on two different texts are near-repeats."),
        "top": click.option(
            "--top", default=20, type=click.IntRange(0), help="Rows of highest and lowest loss, a contender."
        ),
        "pair": click.option(
            "--pair", callback=several(), metavar="A,B", help="Contenders to hold side by side (default: best two)."
        ),
    },
    builders.looking,
)
report_options = Bundle("rules", {"metric": judging["metric"], "page": page_option("--out")}, builders.everything)
plan_options = Bundle(
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
        "metric": click.option("--metric", default="accuracy", help="What is drawn."),
    },
    made(".learning_curve:Plan"),
)
