"""The options of one command each, made of the shared ones."""

from __future__ import annotations

import click

from . import (
    builders,
    cache_option,
    cascade_option,
    cluster_options,
    encoder_options,
    judged_source_options,
    judging,
    linear_options,
    runs_option,
    runtime_options,
    search_options,
    seeds_option,
    source_options,
    stack_option,
    tuning_options,
    vectors_option,
)
from .parsing import FILE, FOLDER, Bundle, Number, joined, made

TASK = ".task:TaskOptions"
ENCODING = ".extract.anywhere:EncodingOptions"
places = {"cache": cache_option, "runs": runs_option}  # where vectors and runs lie
places_of_fits = places | {"vectors": vectors_option}
stacking = places_of_fits | {"stack": stack_option}
shared = (source_options, encoder_options, runtime_options)
encoding_options = joined("job", ENCODING, *shared, cache=cache_option)
extract_options = joined(
    "job",
    ENCODING,
    *shared,
    cluster_options,
    cache=cache_option,
    recalibrate=click.option(
        "--recalibrate", is_flag=True, help="int8: calibrate again, on SOURCE; its vectors get a new folder."
    ),
)
fit_lr_task = joined("task", TASK, *shared, linear_options, **places_of_fits)
fine_tune_task = joined("task", TASK, *shared, tuning_options, seeds=seeds_option, **places)
compare_task = joined(
    "task",
    TASK,
    judged_source_options,
    *shared[1:],
    search_options,
    tuning_options,
    seeds=seeds_option,
    cascade=cascade_option,
    **stacking,
)
curve_task = joined("task", TASK, *shared, search_options, tuning_options, **stacking)
audit_task = joined("task", TASK, *shared, search_options, **stacking)
report_task = joined("task", TASK, judged_source_options, encoder_options, **places)
moved_encoder = click.option("--encoder", metavar="NAME", help="Where the run's encoder lies now, if it has moved.")
opening_options = Bundle(
    "opening",
    {
        "encoder": moved_encoder,
        "vectors": click.option("--vectors", type=FILE, help="Of a run on --vectors: those of the texts, by text."),
        **runtime_options.options,
        "cache": cache_option,
    },
    builders.opening,
)
texts_options = Bundle(
    "given",
    {
        "texts": click.argument("texts", nargs=-1),
        "file": click.option("--file", type=FILE, help="Texts: parquet, csv, tsv, jsonl, txt."),
        "text": click.option(
            "--text", multiple=True, metavar="COLUMN", help="Column of the text in --file (default: the run's own)."
        ),
        "keep": click.option(
            "--keep",
            multiple=True,
            is_flag=False,
            flag_value="*",
            metavar="[COLUMN]",
            help="Carry this column of --file through, for joining; without a name, every column.",
        ),
    },
    made(".predict:Given"),
)
label_options = Bundle(
    "settings",
    {
        "pool": click.option("--pool", required=True, type=FILE, help="Texts without labels: parquet, csv, jsonl."),
        "text": click.option(
            "--text", multiple=True, metavar="COLUMN", help="Column of the text in --pool (default: the runs' own)."
        ),
        "count": click.option("--count", default=200, type=click.IntRange(1), help="Rows to label next."),
        "out": click.option("--out", type=FILE, help="Write them here: .csv, or .json for Label Studio."),
        "labelled": click.option("--labelled", type=FILE, help="Labels so far: that file, filled in, or exported."),
        "margin": judging["margin"],
        "seed": click.option("--seed", default=42, type=click.IntRange(0), help="Of the order in which rows come."),
    },
    made(".disagreement:LabelSettings"),
)
answer_options = Bundle(
    "ask",
    {
        "top_k": click.option(
            "--top-k", type=click.IntRange(1), metavar="N", help="Only the N likeliest classes, likeliest first."
        ),
        "abstain_below": click.option(
            "--abstain-below",
            type=Number(0, 1),
            metavar="P",
            help="No label where its probability is below P.",
        ),
    },
    made(".predict:Ask"),
)
export_options = Bundle(
    "settings",
    {
        "form": click.option(
            "--format", "form", required=True, metavar="transformers|onnx|joblib|skops", help="What will run it."
        ),
        "out": click.option(
            "--out", required=True, type=FOLDER, help="New folder: the model, its class names and a model card."
        ),
        "source": click.option(
            "--source", metavar="SOURCE", help="Check on 200 texts of this (default: of the bundled data set)."
        ),
        "text": click.option(
            "--text", multiple=True, metavar="COLUMN", help="Column of the text in --source; twice for pairs."
        ),
        "repository": click.option("--push", "repository", metavar="OWNER/NAME", help="Upload it to the Hub, too."),
        "encoder": moved_encoder,
        "cache": cache_option,
    },
    builders.export,
)
