"""How long an epoch of fine-tuning takes, and how good it gets, against transformers' Trainer with default arguments.

    python benchmarks/finetune.py SOURCE [--encoder minilm] [--rows 2000] [--epochs 2] [--batch-size 64] [--seeds 1]
    python benchmarks/finetune.py SOURCE --frozen     # a head on cached vectors against the encoder run every epoch
    python benchmarks/finetune.py SOURCE --rows 640 --epochs 1 --profile   # what a step's time goes to, of either

`Trainer` gets what its defaults give: float32, shuffled batches, each padded to its longest text. Same machine, same
checkpoint, learning rate, batch size and seeds. Seconds are of training alone, without judging; CPU seconds are beside
them because they hardly change when the machine is shared. Prints a table, writes benchmarks/results/finetune.json.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

from pipeline.data import Dataset, SourceOptions, read, subset
from pipeline.encoder import Runtime
from pipeline.encoder.batches import pad
from pipeline.encoder.checkpoint import Checkpoint, EncoderSpec, locate
from pipeline.encoder.tokens import tokenizer
from pipeline.finetune.device import machine
from pipeline.finetune.heads import HeadSpec, build, isolated, quiet
from pipeline.finetune.training import FineTuneSettings, Rows, TrainingJob, inputs, logits, tokenised, trainer_for

RESULTS = Path(__file__).parent / "results" / "finetune.json"
SILENT: Callable[..., None] = lambda *_: None  # noqa: E731


class Spent:
    wall = cpu = 0.0


@contextmanager
def clocked() -> Iterator[Spent]:
    spent, wall, cpu = Spent(), time.perf_counter(), time.process_time()
    yield spent
    spent.wall, spent.cpu = time.perf_counter() - wall, time.process_time() - cpu


def accuracy(model: Any, rows: Rows, where: Any) -> float:
    return float((logits(model, rows, where).argmax(1) == rows.labels).mean())


# ── the whole encoder ───────────────────────────────────────────────────────────────────────────────────────────────


def ours(model: Any, rows: dict[str, Rows], settings: FineTuneSettings, where: Any, names: tuple[str, ...]) -> None:
    """What `fine-tune` does between two judgements, without the judgements."""
    from transformers import TrainerCallback

    with tempfile.TemporaryDirectory() as folder:
        rate = settings.learning_rate or 1e-4
        job = TrainingJob(rows["train"], None, names, settings, rate, where, Path(folder), SILENT)
        trainer = trainer_for(model, job, TrainerCallback())
        trainer.args.save_strategy = "no"
        trainer.train()


def default(model: Any, rows: dict[str, Rows], settings: FineTuneSettings, where: Any, names: tuple[str, ...]) -> None:
    """Trainer as it comes: only what both must share is said."""
    from transformers import AutoTokenizer, DataCollatorWithPadding, PrinterCallback, Trainer, TrainingArguments

    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            num_train_epochs=settings.epochs or 2,
            per_device_train_batch_size=settings.batch_size,
            learning_rate=settings.learning_rate or 1e-4,
            seed=settings.seed,
            save_strategy="no",
            use_cpu=where.device == "cpu",
            disable_tqdm=True,
        )
        texts = AutoTokenizer.from_pretrained(settings.init_head, local_files_only=True)
        items = [rows["train"][i] for i in range(len(rows["train"]))]
        items = [{k: v.tolist() if k != "labels" else int(v) for k, v in item.items()} for item in items]
        trainer = Trainer(model, arguments, DataCollatorWithPadding(texts), items)
        trainer.remove_callback(PrinterCallback)
        trainer.train()


WAYS = {"Trainer, default": default, "fine-tune": ours}


def epochs_against_default(data: Dataset, checkpoint: Checkpoint, options: argparse.Namespace) -> dict[str, Any]:
    """Seconds an epoch and accuracy of both ways, for each seed in turn."""
    import transformers.trainer  # noqa: F401 - not what is timed

    found: dict[str, Any] = {way: {"seconds": [], "cpu_seconds": [], "accuracy": []} for way in WAYS}
    tokens, rows = tokenizer(checkpoint), {}
    for role in ("train", "validation"):
        split = getattr(data, role)
        rows[role] = tokenised(split.texts, split.labels, tokens, checkpoint.max_length, checkpoint.pad_id)
    for seed in range(options.seeds):
        for way, fit in WAYS.items():
            settings = FineTuneSettings(
                epochs=options.epochs,
                batch_size=options.batch_size,
                learning_rate=options.learning_rate,
                seed=42 + seed,
                init_head=checkpoint.folder,  # where the tokenizer lies
            )
            where = machine(options.device)
            model = build(checkpoint, data.class_names, HeadSpec(), settings.seed).to(where.device)
            with quiet(), isolated(settings.seed), clocked() as spent:
                fit(model, rows, settings, where, data.class_names)
            found[way]["seconds"].append(spent.wall / options.epochs)
            found[way]["cpu_seconds"].append(spent.cpu / options.epochs)
            found[way]["accuracy"].append(accuracy(model, rows["validation"], machine(options.device, "fp32")))
            shown(way, found[way])
    base, own = (found[way] for way in WAYS)
    found["faster"] = float(np.mean(base["seconds"]) / np.mean(own["seconds"]))
    found["less_cpu"] = float(np.mean(base["cpu_seconds"]) / np.mean(own["cpu_seconds"]))
    found["precision"] = machine(options.device).precision
    print(f"an epoch is {found['faster']:.2f} x faster ({found['less_cpu']:.2f} x less CPU), in {found['precision']}")
    return found


def shown(way: str, record: dict[str, list[float]]) -> None:
    print(
        f"{way:28s} {record['seconds'][-1]:8.1f} s an epoch {record['cpu_seconds'][-1]:8.1f} CPU s"
        f"   validation accuracy {record['accuracy'][-1]:.4f}",
        flush=True,
    )


PARTS = {  # of a step, by what torch calls its operators
    "matrix products": ("mm", "addmm", "bmm", "baddbmm"),
    "random numbers": ("bernoulli_", "random_", "native_dropout", "uniform_"),
    "elementwise": ("mul", "mul_", "add", "add_", "div", "div_", "gelu", "gelu_backward", "ge", "where", "sum", "neg"),
    "norms and softmax": ("native_layer_norm", "native_layer_norm_backward", "_softmax", "_softmax_backward_data"),
    "copies": ("copy_", "cat", "clone", "fill_", "zero_", "contiguous"),
    "optimiser and clipping": ("_foreach", "_fused", "linalg_vector_norm", "lerp", "addcdiv", "addcmul", "sqrt"),
}


def profile(data: Dataset, checkpoint: Checkpoint, options: argparse.Namespace) -> dict[str, Any]:
    """Seconds a step on one thread, and the shares of its operators, of both ways."""
    import torch
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as watched

    torch.set_num_threads(1)
    split, tokens, where = data.train, tokenizer(checkpoint), machine("cpu", "fp32")
    rows = {"train": tokenised(split.texts, split.labels, tokens, checkpoint.max_length, checkpoint.pad_id)}
    steps = options.epochs * -(-len(split) // options.batch_size)
    found: dict[str, Any] = {}
    for way, fit in WAYS.items():
        settings = FineTuneSettings(epochs=options.epochs, batch_size=options.batch_size, learning_rate=1e-4)
        settings = replace(settings, init_head=checkpoint.folder)
        model = build(checkpoint, data.class_names, HeadSpec(), settings.seed)
        with quiet(), isolated(settings.seed), watched(activities=[ProfilerActivity.CPU]) as seen:
            fit(model, rows, settings, where, data.class_names)
        times = {event.key.removeprefix("aten::"): event.self_cpu_time_total / 1e6 for event in seen.key_averages()}
        shares = {part: sum(s for key, s in times.items() if _is(key, names)) for part, names in PARTS.items()}
        total = sum(times.values())
        shares["all else"] = total - sum(shares.values())
        found[way] = {"seconds_a_step": total / steps} | {part: s / total for part, s in shares.items()}
        parts = ", ".join(f"{part} {s / total:.0%}" for part, s in shares.items())
        print(f"{way:28s} {total / steps:.2f} s a step of {options.batch_size} rows: {parts}", flush=True)
    return found


def _is(key: str, names: tuple[str, ...]) -> bool:
    return key in names or any(key.startswith(name) for name in names if name[0] == "_")


# ── a head alone ────────────────────────────────────────────────────────────────────────────────────────────────────


def loop(data: Dataset, checkpoint: Checkpoint, options: argparse.Namespace) -> float:
    """The usual loop: every epoch the frozen encoder reads every text again, and Adam moves a linear head."""
    import torch

    where, tokens = machine(options.device), tokenizer(checkpoint)
    rows = {
        role: tokenised(
            getattr(data, role).texts, getattr(data, role).labels, tokens, checkpoint.max_length, checkpoint.pad_id
        )
        for role in ("train", "validation")
    }
    with quiet():
        model = build(checkpoint, data.class_names, HeadSpec("linear", dropout=0.0), 42).to(where.device)
    optimiser, random = torch.optim.Adam(model.head.parameters(), lr=1e-3), np.random.default_rng(42)
    model.encoder.requires_grad_(False)
    model.eval()
    for _ in range(options.epochs):
        order = random.permutation(len(rows["train"]))
        for start in range(0, len(order), options.batch_size):
            places = order[start : start + options.batch_size]
            taken = rows["train"].take(places)
            batch = pad(np.arange(len(taken)), taken.ids, taken.types, taken.pad_id)
            found = model(**inputs(batch, where))["logits"]
            loss = torch.nn.functional.cross_entropy(found, torch.from_numpy(rows["train"].labels[places]))
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return accuracy(model, rows["validation"], where)


def cached(data: Dataset, options: argparse.Namespace, folder: Path) -> float:
    """One extraction into an empty cache, then the same epochs on its vectors."""
    from pipeline.extract import embed
    from pipeline.finetune.frozen import frozen_fit
    from pipeline.linear import Encoded

    spec, runtime = EncoderSpec(options.encoder, pooling=("cls",)), Runtime(device=options.device)
    done = embed(data, spec, runtime, folder / "cache", SILENT)
    matrices = done.matrices("cls")
    settings = FineTuneSettings(epochs=options.epochs, batch_size=options.batch_size, freeze=True, head="linear")
    vectors = {role: matrix.vectors for role, matrix in matrices.items()}
    encoded = Encoded(lambda: vectors, done.checkpoint.checkpoint_digest("cls"), {"pooling": "cls"})
    run = frozen_fit(encoded, data, settings, folder / "runs").run()
    print(f"  of which the head took {run.cost.fit_seconds:.1f} s, judged after every epoch")
    return float(run.metrics["validation"]["accuracy"])


def head_against_loop(data: Dataset, checkpoint: Checkpoint, options: argparse.Namespace) -> dict[str, Any]:
    """Seconds of all epochs, extraction included, and accuracy of both."""
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for way, fit in {
            "fine-tune --freeze": lambda: cached(data, options, Path(folder)),
            "the encoder in the loop": lambda: loop(data, checkpoint, options),
        }.items():
            with clocked() as spent:
                score = fit()
            found[way] = {"seconds": spent.wall, "cpu_seconds": spent.cpu, "accuracy": score}
            print(f"{way:28s} {spent.wall:8.1f} s {spent.cpu:8.1f} CPU s   validation accuracy {score:.4f}", flush=True)
    own, base = found.values()
    found["faster"] = base["seconds"] / own["seconds"]
    print(f"{options.epochs} epochs are {found['faster']:.1f} x faster, extraction included")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source")
    parser.add_argument("--encoder", default="minilm")
    parser.add_argument("--rows", type=int, help="of train, seeded; all of them if not given")
    parser.add_argument("--epochs", type=int, help="2, and 20 with --frozen")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--learning-rate", type=float, default=1e-4)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--frozen", action="store_true")
    parser.add_argument("--profile", action="store_true")
    options = parser.parse_args()
    options.epochs = options.epochs or (20 if options.frozen else 2)
    data = read(SourceOptions(options.source))
    if options.rows and options.rows < len(data.train):
        places = np.sort(np.random.default_rng(0).permutation(len(data.train))[: options.rows])
        data = replace(data, splits={**data.splits, data.roles["train"]: subset(data.train, places)})
    data = replace(data, roles={role: data.roles[role] for role in ("train", "validation")})  # what both ways read
    checkpoint = locate(EncoderSpec(options.encoder))
    key = "frozen" if options.frozen else "profile" if options.profile else "whole"
    measure = {"frozen": head_against_loop, "profile": profile, "whole": epochs_against_default}[key]
    print(
        f"{len(data.train)} rows of {data.name}, {options.encoder}, batch {options.batch_size}, {options.epochs} epochs"
    )
    found = measure(data, checkpoint, options) | {"options": vars(options) | {"source": data.name}}
    RESULTS.parent.mkdir(exist_ok=True)
    before = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    RESULTS.write_text(json.dumps(before | {key: found}, indent=1))


if __name__ == "__main__":
    main()
