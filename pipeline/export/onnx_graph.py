"""A run as one ONNX graph: input_ids and attention_mask in, probabilities out; pooling, scaler and head are in it."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from .. import UserError, need
from ..encoder.pooling import NORMALIZED, components, stored
from ..encoder.pooling import parts as single
from ..encoder.quiet import quiet
from ..run import Run
from ..words import error_line
from .parts import Head, Parts, parts_of, refuse_prompt
from .stock import write_tokenizer

OPSET = 17
INPUTS = ("input_ids", "attention_mask", "token_type_ids")


def write(run: Run, encoder: str | None, folder: Path) -> list[str]:
    """Write `model.onnx`, `tokenizer.json` (which cuts and pads) and `config.json` into `folder`.

    Raises UserError if onnx is not installed, or if the encoder cannot be traced.
    """
    import torch

    parts = parts_of(run, encoder)
    refuse_prompt(parts, "onnx")
    onnx = need("onnx", "onnx")
    typed = parts.pairs and parts.checkpoint.has_types
    module = _module(parts, typed)
    ids = torch.ones((2, 8), dtype=torch.int64)
    mask = torch.ones_like(ids)
    mask[1, 6:] = 0
    example = (ids, mask, torch.zeros_like(ids)) if typed else (ids, mask)
    names = list(INPUTS[: len(example)])
    axes = {name: {0: "texts", 1: "tokens"} for name in names} | {"probabilities": {0: "texts"}}
    file = folder / "model.onnx"
    with quiet(), torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            torch.onnx.export(
                module,
                example,
                str(file),
                dynamo=False,  # the other one cannot leave both axes open for every encoder, and needs a package more
                input_names=names,
                output_names=["probabilities"],
                dynamic_axes=axes,
                opset_version=OPSET,
            )
        except Exception as error:  # tracing can fail in any way
            raise UserError(
                f"--format onnx: {parts.checkpoint.name} cannot be converted ({error_line(error)})"
            ) from error
    graph = onnx.load(str(file))
    facts = {"class_names": list(parts.run.class_names), "max_length": parts.max_length, "threshold": parts.threshold}
    for key, value in facts.items():
        entry = graph.metadata_props.add()
        entry.key, entry.value = key, json.dumps(value, ensure_ascii=False)
    onnx.save(graph, str(file))
    names_of = dict(enumerate(parts.run.class_names))
    config = {"id2label": names_of, "label2id": {v: k for k, v in names_of.items()}, **facts}
    (folder / "config.json").write_text(json.dumps(config, indent=2, ensure_ascii=False), "utf-8")
    write_tokenizer(parts, folder, types=typed, built_in=True)
    return []


def _module(parts: Parts, typed: bool) -> Any:
    """The whole run as a torch module: ids, mask (b, t) → probabilities (b, k)."""
    import torch
    from torch import nn

    from ..encoder import graph
    from ..finetune.heads import read

    class Whole(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            if parts.head is None:
                self.model = read(parts.checkpoint, parts.run.class_names)
                self.typed = parts.checkpoint.has_types
            else:
                self.model = graph.build(parts.checkpoint, single((parts.pooling,)))
                self.typed = self.model.types
                self.top = _head(parts.head)

        def forward(self, ids: Any, mask: Any, types: Any = None) -> Any:
            types = torch.zeros_like(ids) if types is None else types  # single texts are all of the first type
            if parts.head is None:
                more = {"token_type_ids": types} if self.typed else {}
                logits = self.model(input_ids=ids, attention_mask=mask, **more)["logits"]
            else:
                vectors = self.model(ids, mask, types) if self.typed else self.model(ids, mask)
                logits = self.top(_side_by_side(self.model.poolings, vectors, parts.pooling))
            return torch.softmax(logits.float(), dim=-1)

    return Whole().eval()


def _side_by_side(names: tuple[str, ...], outputs: Any, pooling: str) -> Any:
    """Vectors (b, d) of `pooling` as a tensor, made of those of its rows, which are called `names`."""
    import torch

    vectors = dict(zip(names, outputs, strict=True))
    several = [
        torch.nn.functional.normalize(vectors[stored(name)]) if name.endswith(NORMALIZED) else vectors[stored(name)]
        for name in components(pooling)
    ]
    return torch.cat(several, dim=1)


def _head(head: Head) -> Any:
    """`head` as torch layers."""
    import torch
    from torch import nn

    def layer(weight: np.ndarray, bias: np.ndarray) -> Any:
        made = nn.Linear(weight.shape[1], weight.shape[0])
        with torch.no_grad():
            made.weight.copy_(torch.from_numpy(weight))
            made.bias.copy_(torch.from_numpy(bias))
        return made

    top = layer(head.Q, head.q)
    if head.P is None or head.p is None:
        return top
    return nn.Sequential(layer(head.P, head.p), nn.ReLU(), top)


def reload(folder: Path, class_names: tuple[str, ...]) -> Any:
    """texts → probabilities (n, k), by onnxruntime and tokenizers on the exported folder alone."""
    from tokenizers import Tokenizer

    runtime = need("onnxruntime", "onnx")
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    session = runtime.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
    wanted = [entry.name for entry in session.get_inputs()]

    def proba(texts: Any) -> np.ndarray:
        probabilities = []
        for start in range(0, len(texts), 16):
            rows = [t if len(t) == 2 else t[0] for t in texts[start : start + 16]]
            encoded = tokenizer.encode_batch(rows)
            columns = {
                "input_ids": [e.ids for e in encoded],
                "attention_mask": [e.attention_mask for e in encoded],
                "token_type_ids": [e.type_ids for e in encoded],
            }
            probabilities.append(session.run(None, {name: np.array(columns[name], np.int64) for name in wanted})[0])
        return np.concatenate(probabilities)

    return proba
