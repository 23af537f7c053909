"""A run as a stock Hugging Face checkpoint: what serves such checkpoints runs it with no code of ours.

`DistilBertForSequenceClassification` computes relu(v Pᵀ + p) Qᵀ + q on the [CLS] vector v, with P of d x d. A linear
model W v + b of k classes fits in: relu(z) - relu(-z) = z, so that P = [W; -W; 0] and Q = [I, -I, 0] are exact while
2 k ≤ d. For more classes P is the identity, moved by as much as a last LayerNorm can ever take away from 0.
An encoder of BERT's block is the same computation as DistilBERT's once the row of the first token type, which every
single text has, is added to the positions.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from .. import UserError, listed
from ..encoder.opener import read_json
from ..encoder.quiet import quiet
from ..encoder.saving import separate
from ..run import Run
from .parts import Head, Parts, parts_of, refuse_pooling, refuse_prompt

EPSILON = 1e-12  # of every LayerNorm of DistilBERT, whatever its config says
NOTE = "probe_or_tune"  # the config's key for what no stock field says
SPECIAL = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token", "bos_token", "eos_token")


def write(run: Run, encoder: str | None, folder: Path) -> list[str]:
    """Write the run as a checkpoint into `folder`; returns what its user has to know, a sentence each.

    Raises UserError for what no stock class computes exactly, naming what does.
    """
    from ..finetune.heads import read

    parts, notes = parts_of(run, encoder), list[str]()
    if parts.stock:
        model = read(parts.checkpoint, run.class_names)
    else:
        model, narrow = _folded(parts)
        if narrow:
            notes.append("float32 only: with this many classes lower precision cuts off what tells them apart")
    model.config.update({NOTE: {"max_length": parts.max_length, "threshold": parts.threshold, "notes": notes}})
    with quiet():
        model.save_pretrained(folder, state_dict=separate(model))
    write_tokenizer(parts, folder, types=model.config.model_type != "distilbert" and parts.checkpoint.has_types)
    return notes


def _folded(parts: Parts) -> tuple[Any, bool]:
    """A DistilBertForSequenceClassification of the run, and whether it is for float32 only."""
    import torch
    from transformers import DistilBertForSequenceClassification

    from ..encoder.graph import load_model

    refuse_pooling(parts)
    refuse_prompt(parts, "transformers")
    if parts.head is None:
        raise UserError("--format transformers: no stock class has this run's head; pass --format onnx")
    kind = str(parts.checkpoint.config.get("model_type"))
    if kind not in ENCODERS:
        raise UserError(
            f"--format transformers: only {listed(ENCODERS)} encoders fit into a stock class exactly, this one is "
            f"'{kind}'; pass --format onnx"
        )
    config, rename = ENCODERS[kind]
    settings = config(parts)
    weights = {
        name: value for name, value in load_model(parts.checkpoint).state_dict().items() if "position_ids" not in name
    }
    state = {f"distilbert.{name}": value for name, value in rename(weights).items()}
    last = f"distilbert.transformer.layer.{settings.n_layers - 1}.output_layer_norm"
    pre, pre_bias, top, top_bias, narrow = as_relu(
        parts.head, state[f"{last}.weight"].double().numpy(), state[f"{last}.bias"].double().numpy()
    )
    state |= {
        "pre_classifier.weight": _tensor(pre),
        "pre_classifier.bias": _tensor(pre_bias),
        "classifier.weight": _tensor(top),
        "classifier.bias": _tensor(top_bias),
    }
    names = parts.run.class_names
    settings.id2label, settings.label2id = dict(enumerate(names)), {name: i for i, name in enumerate(names)}
    settings.problem_type, settings.dtype = "single_label_classification", "float32"
    with quiet(), torch.no_grad():
        model = DistilBertForSequenceClassification(settings)
        model.load_state_dict(state, strict=True)
    return model.eval(), narrow


def as_relu(
    head: Head, gamma: np.ndarray, beta: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, bool]:
    """P (d, d), p (d,), Q (k, d), q (k,) with relu(v Pᵀ + p) Qᵀ + q equal to `head`, and whether only float32 bears it.

    `gamma`, `beta` (d,): the LayerNorm that v comes from, so that |v| ≤ √(d - 1) |gamma| + |beta|.
    """
    d, k = len(gamma), len(head.q)
    if head.P is not None and head.p is not None:
        return head.P, head.p, head.Q, head.q, False  # DistilBERT's form
    if 2 * k <= d:
        P, p, Q = np.zeros((d, d)), np.zeros(d), np.zeros((k, d))
        P[:k], P[k : 2 * k] = head.Q, -head.Q
        p[:k], p[k : 2 * k] = head.q, -head.q
        Q[:, :k], Q[:, k : 2 * k] = np.eye(k), -np.eye(k)
        return P, p, Q, np.zeros(k), False
    shift = np.sqrt(d - 1) * np.abs(gamma) + np.abs(beta)  # v + shift ≥ 0: nothing is ever cut
    return np.eye(d), shift, head.Q, head.q - head.Q @ shift, True


def _tensor(array: np.ndarray) -> Any:
    import torch

    return torch.from_numpy(np.ascontiguousarray(array, np.float32))


# ── encoders of DistilBERT's block ──────────────────────────────────────────────────────────────────────────────────


def _distilbert_config(parts: Parts) -> Any:
    from transformers import DistilBertConfig

    return DistilBertConfig.from_dict({k: v for k, v in parts.checkpoint.config.items() if k != "architectures"})


def _bert_config(parts: Parts) -> Any:
    """BERT's settings under DistilBERT's names.

    Raises UserError for what DistilBERT lacks: pairs distinguished by type, another epsilon, relative positions.
    """
    from transformers import DistilBertConfig

    config = parts.checkpoint.config
    if parts.pairs:
        raise UserError(
            "--format transformers: DistilBERT has no token types, by which BERT tells the texts of a pair apart; "
            "pass --format onnx"
        )
    if (
        config.get("layer_norm_eps", EPSILON) != EPSILON
        or config.get("position_embedding_type", "absolute") != "absolute"
    ):
        raise UserError(
            f"--format transformers: {parts.checkpoint.name} normalises or counts positions as DistilBERT does not; "
            "pass --format onnx"
        )
    return DistilBertConfig(
        vocab_size=config["vocab_size"],
        max_position_embeddings=config["max_position_embeddings"],
        n_layers=config["num_hidden_layers"],
        n_heads=config["num_attention_heads"],
        dim=config["hidden_size"],
        hidden_dim=config["intermediate_size"],
        activation=config.get("hidden_act", "gelu"),
        dropout=config.get("hidden_dropout_prob", 0.1),
        attention_dropout=config.get("attention_probs_dropout_prob", 0.1),
        pad_token_id=parts.checkpoint.pad_id,
    )


BERT_NAMES = {  # within a layer, BERT's name → DistilBERT's
    "attention.self.query": "attention.q_lin",
    "attention.self.key": "attention.k_lin",
    "attention.self.value": "attention.v_lin",
    "attention.output.dense": "attention.out_lin",
    "attention.output.LayerNorm": "sa_layer_norm",
    "intermediate.dense": "ffn.lin1",
    "output.dense": "ffn.lin2",
    "output.LayerNorm": "output_layer_norm",
}


def _from_bert(state: dict[str, Any]) -> dict[str, Any]:
    """BERT's weights under DistilBERT's names, the first token type's row in the positions."""
    renamed = {}
    for name, value in state.items():
        if name.startswith("encoder.layer."):
            _, _, number, rest = name.split(".", 3)
            inner, _, kind = rest.rpartition(".")
            renamed[f"transformer.layer.{number}.{BERT_NAMES[inner]}.{kind}"] = value
        elif name.startswith("embeddings.") and "token_type" not in name:
            renamed[name] = value
    row = state["embeddings.token_type_embeddings.weight"][0]
    renamed["embeddings.position_embeddings.weight"] = renamed["embeddings.position_embeddings.weight"] + row
    return renamed


ENCODERS: dict[str, tuple[Any, Any]] = {  # model_type → config, weights
    "distilbert": (_distilbert_config, dict),
    "bert": (_bert_config, _from_bert),
}


# ── the tokenizer ───────────────────────────────────────────────────────────────────────────────────────────────────


def write_tokenizer(parts: Parts, folder: Path, types: bool, built_in: bool = False) -> None:
    """The run's tokenizer as `tokenizer.json` and its settings, in a form that every version of transformers reads.

    `types`: whether the model takes token types. `built_in`: cutting and padding are written into `tokenizer.json`
    itself, for readers that have nothing else.
    """
    from ..encoder.tokens import tokenizer

    tokens = tokenizer(parts.checkpoint)
    if built_in:
        tokens.backend.enable_truncation(parts.max_length, direction="left" if tokens.cut_left else "right")
        pad = tokens.backend.id_to_token(parts.checkpoint.pad_id) or "[PAD]"
        tokens.backend.enable_padding(pad_id=parts.checkpoint.pad_id, pad_token=pad)
    tokens.backend.save(str(folder / "tokenizer.json"))
    special = _special_tokens(parts)
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": parts.max_length,
        "model_input_names": ["input_ids", *(["token_type_ids"] if types else []), "attention_mask"],
        "truncation_side": "left" if tokens.cut_left else "right",
        "clean_up_tokenization_spaces": False,
        **special,
    }
    settings.setdefault("pad_token", tokens.backend.id_to_token(parts.checkpoint.pad_id))
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2, ensure_ascii=False), "utf-8")


def _special_tokens(parts: Parts) -> dict[str, str]:
    """Which token plays which special role, as the checkpoint's files say."""
    special: dict[str, str] = {}
    for name in ("special_tokens_map.json", "tokenizer_config.json"):
        if (file := parts.checkpoint.folder / name).exists():
            for key, value in read_json(file, parts.checkpoint.name).items():
                text = value.get("content") if isinstance(value, dict) else value
                if key in SPECIAL and isinstance(text, str):
                    special[key] = text
    return special


# ── the consumer ────────────────────────────────────────────────────────────────────────────────────────────────────


def reload(folder: Path, class_names: tuple[str, ...]) -> Any:
    """texts → probabilities (n, k), by `transformers.pipeline` on the exported folder alone."""
    import torch
    from transformers import pipeline

    with quiet():
        classify = pipeline("text-classification", model=str(folder), device="cpu", dtype=torch.float32)

    def proba(texts: Any) -> np.ndarray:
        given = [{"text": t[0], "text_pair": t[1]} if len(t) == 2 else t[0] for t in texts]
        with quiet():
            answers = [classify(one, top_k=None, truncation=True) for one in given]
        out = np.zeros((len(given), len(class_names)))
        place = {name: i for i, name in enumerate(class_names)}
        for row, answer in zip(out, answers, strict=True):
            for entry in answer[0] if isinstance(answer[0], list) else answer:
                row[place[entry["label"]]] = entry["score"]
        return out

    return proba
