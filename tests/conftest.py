"""Fakes and tiny checkpoints: no test reaches the network, and none needs anything outside this repository."""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import json
import os
import signal
import socket
import string
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from tables import sentences

for _name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE", "HF_HUB_DISABLE_TELEMETRY"):
    os.environ[_name] = "1"  # before any of them is imported: they read it once

WORDS = """
the a i you we they it is was are to of and in on for not no my your this that what how when feel feeling
felt good bad happy sad angry love hate fear surprise joy very so too call free now text win prize txt mobile reply
stop claim card bank money film movie great boring story actor plot really like dont cant just have had do did go went
come home work day night time today tomorrow friend life world people want need know think see look ok thanks
""".split()

SENTENCES = (
    "I feel so happy today, thanks for the call!",
    "you win a prize: txt CLAIM to 80082 now",
    "the film was boring and the plot went nowhere",
    "i dont know what to think of this",
    "",
    "WOW",
    "Ünïcode çafé — 日本 🙂 and naïve façade",
    "people want to go home after work " * 12,
)


# ── the installed name ──────────────────────────────────────────────────────────────────────────────────────────────


class InstalledName(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """`probe_or_tune`, which examples import, is this checkout's `pipeline`; test_install tries the wheel itself."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> importlib.machinery.ModuleSpec | None:
        return importlib.machinery.ModuleSpec(name, self) if name.split(".")[0] == "probe_or_tune" else None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        module = importlib.import_module("pipeline" + spec.name.removeprefix("probe_or_tune"))
        spec.loader_state = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        assert module.__spec__ is not None
        module.__spec__ = module.__spec__.loader_state


sys.meta_path.insert(0, InstalledName())

# ── no network ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail at once, and by name, where a test would leave this machine; sockets on the machine itself still work."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> None:
        local = self.family == socket.AF_UNIX or str(address[0]) in own
        if not local:
            raise OSError(f"a test tried to reach {address}")
        connect(self, address)

    own = {"127.0.0.1", "::1", "localhost", "0.0.0.0", socket.gethostname(), *_own_addresses()}
    monkeypatch.setattr(socket.socket, "connect", guarded)


def _own_addresses() -> list[str]:
    try:
        return socket.gethostbyname_ex(socket.gethostname())[2]
    except OSError:
        return []


@pytest.fixture(autouse=True, scope="module")
def same_kinds() -> Iterator[None]:
    """A kind of run that a module adds is gone after it."""
    from pipeline.kinds import KINDS

    before = dict(KINDS)
    yield
    KINDS.clear()
    KINDS.update(before)


@pytest.fixture(autouse=True, scope="session")
def interruptible() -> None:
    """A job in the background ignores Ctrl-C, one under nohup a hang-up, and so would everything that tests start."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, signal.SIG_DFL)


# ── tiny checkpoints: 2 layers, 32 wide, seeded, written without torch ──────────────────────────────────────────────

DIM, WIDE, HEADS, LAYERS, POSITIONS = 32, 64, 4, 2, 512


def wordpiece() -> Any:
    """A lower-casing WordPiece tokenizer that can spell any ASCII text, with the vocabulary of `WORDS`."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

    letters = string.ascii_lowercase + string.digits + string.punctuation
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *("##" + c for c in letters), *WORDS]
    vocabulary = {piece: i for i, piece in enumerate(dict.fromkeys(pieces))}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"])],
    )
    tokenizer.add_special_tokens(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"])
    return tokenizer


def bytelevel() -> Any:
    """A byte-level BPE tokenizer, trained on `SENTENCES`, with RoBERTa's special tokens in RoBERTa's places."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    tokenizer.train_from_iterator(
        [*SENTENCES, " ".join(WORDS)],
        trainers.BpeTrainer(
            vocab_size=400,
            special_tokens=special,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    return tokenizer


def _arrays(shapes: dict[str, tuple[int, ...]], seed: int) -> dict[str, np.ndarray]:
    """Seeded weights, large enough that two texts get visibly different vectors; norms start as the identity."""
    random, arrays = np.random.default_rng(seed), {}
    for name, shape in shapes.items():
        norm = "layer_norm" in name or "LayerNorm" in name
        noise = random.normal(0, 0.1 if norm or name.endswith("bias") else 0.25, shape)
        arrays[name] = (noise + (1 if norm and name.endswith("weight") else 0)).astype(np.float32)
    return arrays


def _linear(name: str, rows: int, columns: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (rows, columns), f"{name}.bias": (rows,)}


def _norm(name: str) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (DIM,), f"{name}.bias": (DIM,)}


def distilbert_shapes(vocabulary: int) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (vocabulary, DIM),
        "embeddings.position_embeddings.weight": (POSITIONS, DIM),
        **_norm("embeddings.LayerNorm"),
    }
    for layer in (f"transformer.layer.{i}." for i in range(LAYERS)):
        for part in ("q_lin", "k_lin", "v_lin", "out_lin"):
            shapes |= _linear(f"{layer}attention.{part}", DIM, DIM)
        shapes |= _norm(f"{layer}sa_layer_norm") | _norm(f"{layer}output_layer_norm")
        shapes |= _linear(f"{layer}ffn.lin1", WIDE, DIM) | _linear(f"{layer}ffn.lin2", DIM, WIDE)
    return shapes


def bert_shapes(vocabulary: int, types: int, positions: int) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (vocabulary, DIM),
        "embeddings.position_embeddings.weight": (positions, DIM),
        "embeddings.token_type_embeddings.weight": (types, DIM),
        **_norm("embeddings.LayerNorm"),
    }
    for layer in (f"encoder.layer.{i}." for i in range(LAYERS)):
        for part in ("self.query", "self.key", "self.value", "output.dense"):
            shapes |= _linear(f"{layer}attention.{part}", DIM, DIM)
        shapes |= _norm(f"{layer}attention.output.LayerNorm") | _norm(f"{layer}output.LayerNorm")
        shapes |= _linear(f"{layer}intermediate.dense", WIDE, DIM) | _linear(f"{layer}output.dense", DIM, WIDE)
    return shapes | _linear("pooler.dense", DIM, DIM)


def write_checkpoint(
    folder: Path,
    config: dict[str, Any],
    shapes: dict[str, tuple[int, ...]],
    tokenizer: Any,
    tokenizer_config: dict[str, Any],
    seed: int = 0,
) -> Path:
    """A checkpoint folder as Hugging Face lays it out: config, safetensors, tokenizer."""
    from safetensors.numpy import save_file

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config, indent=2), "utf-8")
    save_file(_arrays(shapes, seed), folder / "model.safetensors", metadata={"format": "pt"})
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer_config, indent=2), "utf-8")
    return folder


BERT_TOKENS = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
ROBERTA_TOKENS = {"pad_token": "<pad>", "unk_token": "<unk>", "cls_token": "<s>", "sep_token": "</s>"}


def make_distilbert(folder: Path, seed: int = 0) -> Path:
    tokenizer = wordpiece()
    size = tokenizer.get_vocab_size()
    config = {
        "architectures": ["DistilBertModel"],
        "model_type": "distilbert",
        "activation": "gelu",
        "attention_dropout": 0.1,
        "dropout": 0.1,
        "dim": DIM,
        "hidden_dim": WIDE,
        "n_heads": HEADS,
        "n_layers": LAYERS,
        "max_position_embeddings": POSITIONS,
        "pad_token_id": 0,
        "sinusoidal_pos_embds": False,
        "vocab_size": size,
    }
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": POSITIONS, **BERT_TOKENS}
    settings["model_input_names"] = ["input_ids", "attention_mask"]
    return write_checkpoint(folder, config, distilbert_shapes(size), tokenizer, settings, seed)


def make_bert(folder: Path, seed: int = 1) -> Path:
    tokenizer = wordpiece()
    size = tokenizer.get_vocab_size()
    config = _bert_config("bert", "BertModel", size, types=2, positions=POSITIONS, pad=0)
    settings = {"tokenizer_class": "BertTokenizer", "model_max_length": POSITIONS, **BERT_TOKENS}
    return write_checkpoint(folder, config, bert_shapes(size, 2, POSITIONS), tokenizer, settings, seed)


def make_roberta(folder: Path, seed: int = 2) -> Path:
    tokenizer = bytelevel()
    size = tokenizer.get_vocab_size()
    config = _bert_config("roberta", "RobertaModel", size, types=1, positions=POSITIONS + 2, pad=1)
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": POSITIONS, **ROBERTA_TOKENS}
    settings["model_input_names"] = ["input_ids", "attention_mask"]
    return write_checkpoint(folder, config, bert_shapes(size, 1, POSITIONS + 2), tokenizer, settings, seed)


def _bert_config(kind: str, architecture: str, size: int, types: int, positions: int, pad: int) -> dict[str, Any]:
    return {
        "architectures": [architecture],
        "model_type": kind,
        "attention_probs_dropout_prob": 0.1,
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.1,
        "hidden_size": DIM,
        "intermediate_size": WIDE,
        "layer_norm_eps": 1e-12,
        "max_position_embeddings": positions,
        "num_attention_heads": HEADS,
        "num_hidden_layers": LAYERS,
        "pad_token_id": pad,
        "type_vocab_size": types,
        "vocab_size": size,
    }


@pytest.fixture(scope="session")
def tiny_distilbert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a whole DistilBERT checkpoint: 2 layers, 32 wide, 512 positions. Read it, do not write into it."""
    return make_distilbert(tmp_path_factory.mktemp("checkpoint") / "tiny-distilbert")


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same for BERT, which has token types and a pooler."""
    return make_bert(tmp_path_factory.mktemp("checkpoint") / "tiny-bert")


@pytest.fixture(scope="session")
def tiny_roberta(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same for RoBERTa, whose positions start after the padding id and whose pairs have two separators."""
    return make_roberta(tmp_path_factory.mktemp("checkpoint") / "tiny-roberta")


# ── commands, called in this process ────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def reviews(tmp_path: Path) -> Path:
    """A CSV of 300 rows with columns body and verdict."""
    file = tmp_path / "reviews.csv"
    file.write_text("body,verdict\n" + "".join(f"{text},{label}\n" for text, label in sentences(300)))
    return file


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], tmp_path: Path, tiny_distilbert: Path) -> Callable[..., Any]:
    """Call a command with the tiny encoder; returns exit code, standard output, standard error."""
    import cli

    def call(*arguments: Any, encoder: bool = True) -> tuple[int, str, str]:
        words = [str(a) for a in arguments]
        if encoder:
            words += ["--encoder", str(tiny_distilbert), "--cache", str(tmp_path / "cache")]
            words += ["--engine", "torch", "--precision", "fp32"]
        code = cli.main(words)
        out, err = capsys.readouterr()
        return code, out, err

    return call
