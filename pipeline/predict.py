"""A run × texts → probabilities, in chunks: the memory it takes does not grow with the source.

Every kind of run is opened by the row of `OPENERS` that its kind starts with.
"""

from __future__ import annotations

import csv
import json
import os
import queue
import secrets
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from pipeline import Progress, UserError, choose, log, spoken
from pipeline.baseline import MajorityModel, TfidfModel
from pipeline.batching import pad, plan
from pipeline.data import SourceOptions, count_rows, read_chunks
from pipeline.encoder import Effort, open_encoder
from pipeline.encoder.checkpoint import EncoderSpec, locate, parts
from pipeline.encoder.hardware import choice
from pipeline.encoder.tokens import tokenizer
from pipeline.finetune import load_finetuned
from pipeline.finetune.frozen import load_frozen
from pipeline.run import Run

CHUNK = 1024  # texts that are sorted by length and encoded together

Texts = Sequence[tuple[str, ...]]


class Model(Protocol):
    """Whatever turns texts into probabilities (n, k)."""

    def proba(self, texts: Texts) -> np.ndarray: ...


@dataclass(frozen=True)
class Answer:
    """What is predicted of one text."""

    text: tuple[str, ...]
    label: str
    proba: dict[str, float]

    def to_json(self) -> dict[str, Any]:
        """One object of `predict`'s output; a pair's texts are a list."""
        return {
            "text": self.text[0] if len(self.text) == 1 else list(self.text),
            "label": self.label,
            "proba": self.proba,
        }


def open_run(run: Run, effort: Effort | None = None, cache: Path = Path("cache"), encoder: str | None = None) -> Model:
    """The model of a run, ready to predict; `encoder` says where its encoder lies now, if not where it was.

    Raises UserError if the run's files are damaged, or if its encoder has changed since or cannot be found.
    """
    family = run.kind.partition("+")[0]
    if encoder is not None:
        run = replace(run, settings=run.settings | {"encoder": encoder})
    return choose(OPENERS, family, "kind of run")(run, effort or Effort(), cache)


def answers(run: Run, model: Model, blocks: Iterable[Texts]) -> Iterator[Answer]:
    """Label and probabilities of each text, block by block, in order.

    Raises UserError if a text has another number of parts than those that the run learnt from.
    """
    parts = int(run.settings.get("text_parts", 0))
    for block in blocks:
        wrong = next((text for text in block if parts and len(text) != parts), None)
        if wrong is not None:
            raise UserError(f"this run reads {parts} texts a row and got {len(wrong)}: {wrong[0][:40]!r}")
        for text, row in zip(block, model.proba(block), strict=True):
            proba = {name: round(float(p), 6) for name, p in zip(run.class_names, row, strict=True)}
            yield Answer(text, run.class_names[int(row.argmax())], proba)


# ── texts in ────────────────────────────────────────────────────────────────────────────────────────────────────────


def texts_in(
    run: Run, texts: Sequence[str], file: Path | None, columns: tuple[str, ...], lines: Iterable[str]
) -> Iterator[Texts]:
    """The texts to predict: those given, else those of `file`, else `lines` as they come.

    A run on pairs takes two texts as one pair. Raises UserError if texts and a file are given both.
    """
    parts = int(run.settings.get("text_parts", 1))
    if texts and file:
        raise UserError("texts and --file were given; pass one of the two")
    if file:
        return file_blocks(file, columns)
    if texts and len(texts) % parts:
        raise UserError(f"this run reads {parts} texts a row and got {len(texts)}; pass them in pairs")
    if texts:
        return iter([[tuple(texts[i : i + parts]) for i in range(0, len(texts), parts)]])
    return line_blocks(lines, parts)


def file_blocks(file: Path, columns: tuple[str, ...]) -> Iterator[Texts]:
    """The texts of a file of any size, a block at a time.

    Raises UserError if it cannot be read.
    """
    for chunk in read_chunks(SourceOptions(str(file), text=columns), rows=CHUNK):
        yield chunk.texts


def announce(run: Run, file: Path) -> int:
    """Say how many texts will be predicted and about how long that takes; returns how many.

    Raises UserError if the file cannot be read.
    """
    rows, each = count_rows(SourceOptions(str(file))), run.cost.ms_per_text_batch
    about = "" if each is None else f", about {spoken(rows * each / 1000)} where nothing is in the cache"
    log.info("%s: %s texts for %s%s", file, f"{rows:,}", run.kind, about)
    return rows


def watched(answers: Iterable[Answer], total: int | None, progress: Progress) -> Iterator[Answer]:
    """The same answers, with progress told now and then."""
    for done, answer in enumerate(answers, 1):
        yield answer
        if done % 64 == 0 or done == total:
            progress("predict", done, total)


def line_blocks(lines: Iterable[str], parts: int = 1) -> Iterator[Texts]:
    """Texts as lines bring them: whatever has arrived, one at least; a pair is two strings with a tab between them."""
    line: queue.Queue[str | None] = queue.Queue(CHUNK)

    def work() -> None:
        for text in lines:
            line.put(text)
        line.put(None)

    threading.Thread(target=work, daemon=True, name="lines").start()
    open_ = True
    while open_:
        block: list[tuple[str, ...]] = []
        while open_ and len(block) < CHUNK and not (block and line.empty()):
            text = line.get()
            if text is None:
                open_ = False
            else:
                text = text.removesuffix("\n").removesuffix("\r")
                block.append(tuple(text.split("\t", 1)) if parts == 2 else (text,))
        if block:
            yield block


# ── answers out ─────────────────────────────────────────────────────────────────────────────────────────────────────


def write(answers: Iterable[Answer], out: Path) -> int:
    """Write answers to `out` in the format of its suffix, whole or not at all; returns how many.

    Raises UserError for an unknown suffix, or if the file cannot be written.
    """
    form = choose(WRITERS, out.suffix.lower(), "format for --out")
    draft = out.with_name(f".draft-{secrets.token_hex(4)}-{out.name}")
    try:
        rows = form(answers, draft)
        os.replace(draft, out)
        return rows
    except OSError as error:
        raise UserError(f"{out}: cannot write ({error.strerror or error}); choose another --out") from error
    finally:
        draft.unlink(missing_ok=True)


def _jsonl(answers: Iterable[Answer], path: Path) -> int:
    rows = 0
    with open(path, "w", encoding="utf-8", errors="replace") as file:
        for answer in answers:
            file.write(json.dumps(answer.to_json(), ensure_ascii=False) + "\n")
            rows += 1
    return rows


def _flat(answer: Answer) -> dict[str, Any]:
    """One row of a table: text, text_pair if there is one, label, and a column of probability for each class."""
    pair = {"text_pair": answer.text[1]} if len(answer.text) > 1 else {}
    return {"text": answer.text[0]} | pair | {"label": answer.label} | {f"p_{k}": p for k, p in answer.proba.items()}


def _csv(answers: Iterable[Answer], path: Path) -> int:
    rows = 0
    with open(path, "w", encoding="utf-8", errors="replace", newline="") as file:
        table: csv.DictWriter[str] | None = None
        for answer in answers:
            row = _flat(answer)
            if table is None:
                table = csv.DictWriter(file, list(row))
                table.writeheader()
            table.writerow(row)
            rows += 1
    return rows


def _parquet(answers: Iterable[Answer], path: Path) -> int:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows, table = 0, None
    try:
        for block in batched(answers, 8 * CHUNK):
            part = pa.Table.from_pylist([_flat(answer) for answer in block])
            table = table or pq.ParquetWriter(path, part.schema)
            table.write_table(part)
            rows += len(block)
    finally:
        if table is not None:
            table.close()
    if table is None:
        pq.write_table(pa.table({"text": pa.array([], pa.string()), "label": pa.array([], pa.string())}), path)
    return rows


def batched(answers: Iterable[Answer], size: int) -> Iterator[list[Answer]]:
    """Lists of `size` answers, the last one shorter."""
    block: list[Answer] = []
    for answer in answers:
        block.append(answer)
        if len(block) == size:
            yield block
            block = []
    if block:
        yield block


WRITERS: dict[str, Callable[[Iterable[Answer], Path], int]] = {
    ".jsonl": _jsonl,
    ".csv": _csv,
    ".parquet": _parquet,
}


# ── models by kind ──────────────────────────────────────────────────────────────────────────────────────────────────


class Probe:
    """A linear model on the vectors of a frozen encoder."""

    def __init__(self, run: Run, effort: Effort, cache: Path) -> None:
        self.model = load_frozen(run.model_folder)  # the same format holds a logistic regression
        asked = run.settings
        spec = EncoderSpec(
            asked["encoder"],
            asked.get("revision"),
            (self.model.pooling,),
            asked["max_length"],
            engine=asked["engine"] if asked["precision"] == "int8" else "auto",
            precision="int8" if asked["precision"] == "int8" else "auto",
        )
        self.checkpoint = locate(spec)
        here_digest = self.checkpoint.checkpoint_digest(self.model.pooling)
        if self.model.checkpoint_digest != here_digest or self.model.class_names != run.class_names:
            raise UserError(
                f"--encoder {asked['encoder']}: not the checkpoint that {run.folder} was fitted on "
                f"({here_digest[:8]} instead of {str(self.model.checkpoint_digest)[:8]}); pass that one, or fit again"
            )
        here = choice(spec.engine, spec.precision, effort.device)
        if here.precision != asked["precision"]:
            log.info(f"fitted on {asked['precision']} vectors, predicting from {here.precision} ones")
        if asked.get("storage", "float32") != "float32":
            log.info(f"fitted on vectors kept as {asked['storage']}, predicting from ones that are not rounded")
        effort = replace(effort, device=here.device)
        self.encoder = open_encoder(self.checkpoint, spec.pooling, here.engine, here.precision, effort, cache)
        self.tokenizer = tokenizer(self.checkpoint, cache)

    def vectors(self, texts: Texts) -> np.ndarray:
        """(n, d) float32, in the order of the texts."""
        tokens = self.tokenizer.encode(texts, self.checkpoint.max_length)
        batches = (
            pad(
                rows,
                [tokens.ids[i] for i in rows],
                None if tokens.types is None else [tokens.types[i] for i in rows],
                self.checkpoint.pad_id,
            )
            for rows in plan(np.array([len(row) for row in tokens.ids]), self.encoder.token_budget)
        )
        out = np.empty((len(texts), self.checkpoint.vector_dim(self.model.pooling)), np.float32)
        for batch, found in self.encoder.encode_many(batches):
            out[batch.rows] = np.concatenate([found[part] for part in parts((self.model.pooling,))], axis=1)
        return out

    def proba(self, texts: Texts) -> np.ndarray:
        """Probabilities (n, k) float32."""
        return self.model.proba(self.vectors(texts))


OPENERS: dict[str, Callable[[Run, Effort, Path], Model]] = {
    "majority": lambda run, effort, cache: MajorityModel.load(run.model_folder),
    "tfidf": lambda run, effort, cache: TfidfModel.load(run.model_folder),
    "lr": Probe,
    "frozen-head": Probe,
    "fine-tune": lambda run, effort, cache: load_finetuned(run, effort),
    "from-scratch": lambda run, effort, cache: load_finetuned(run, effort),
}
