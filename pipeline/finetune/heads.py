"""An encoder with a head on it, as one torch model: built, saved and opened again.

`standard` is what the architecture itself puts on top (transformers' `AutoModelForSequenceClassification`) and is
saved as exactly that. `linear` and `mlp` sit on the raw [CLS] vector, which no stock class does for every
architecture: they are saved as a stock *encoder* checkpoint beside `head.safetensors` and `head.json`.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import UserError, choose
from ..encoder.checkpoint import Checkpoint
from ..encoder.opener import opened, opened_model
from ..encoder.quiet import quiet
from ..encoder.saving import save, separate
from ..linear.probe import LinearModel
from ..run.model import read_record
from ..words import error_line

if TYPE_CHECKING:
    import torch

FORMAT = 1
DROPOUTS = (
    "classifier_dropout",
    "classifier_dropout_prob",
    "seq_classif_dropout",
    "cls_dropout",
)  # and the dropout in front of their classifier
TOKENIZER_FILES = (
    "tokenizer.json tokenizer_config.json special_tokens_map.json added_tokens.json vocab.txt vocab.json merges.txt "
    "spm.model spiece.model sentencepiece.bpe.model"
).split()


@dataclass(frozen=True)
class HeadSpec:
    """What sits on the encoder. `start` is a fitted linear model on the same encoder's [CLS] vectors."""

    name: str = "standard"
    dropout: float | None = None  # None: the architecture's own, or 0.1
    xavier: bool = False
    start: LinearModel | None = None


# ── heads on the raw [CLS] vector ───────────────────────────────────────────────────────────────────────────────────


def _linear(dim: int, classes: int, dropout: float) -> torch.nn.Module:
    from torch import nn

    return nn.Sequential(nn.Dropout(dropout), nn.Linear(dim, classes))


def _mlp(dim: int, classes: int, dropout: float) -> torch.nn.Module:
    from torch import nn

    return nn.Sequential(
        nn.Dropout(dropout), nn.Linear(dim, dim), nn.GELU(), nn.Dropout(dropout), nn.Linear(dim, classes)
    )


HEADS: dict[str, Callable[[int, int, float], torch.nn.Module] | None] = {
    "standard": None,  # the architecture's own
    "linear": _linear,
    "mlp": _mlp,
}


def _classifier(encoder: Any, head: Any) -> Any:
    """A torch model: logits (b, k) of `head` on the [CLS] vector (b, d) of `encoder`."""
    from torch import nn
    from transformers.modeling_outputs import SequenceClassifierOutput

    class Classifier(nn.Module):
        accepts_loss_kwargs = False

        def __init__(self) -> None:
            super().__init__()
            self.encoder, self.head, self.config = encoder, head, encoder.config

        def forward(self, attention_mask: Any, **texts: Any) -> Any:
            hidden = self.encoder(attention_mask=attention_mask, **texts)[0]  # (b, t, d)
            return SequenceClassifierOutput(logits=self.head(hidden[:, 0]))

    return Classifier()


# ── building ────────────────────────────────────────────────────────────────────────────────────────────────────────


def build(
    checkpoint: Checkpoint, class_names: Sequence[str], spec: HeadSpec, seed: int, pretrained: bool = True
) -> Any:
    """A float32 torch model of `checkpoint` with a new head for `class_names`; new weights depend on `seed` alone.

    Raises UserError if the head is unknown, does not suit `spec.start`, or the architecture has no classifier.
    """
    choose(HEADS, spec.name, "head")
    if spec.start is not None and spec.name != "linear":
        raise UserError(f"--init-head starts a linear head, not '{spec.name}'; pass --head linear")
    with quiet(), isolated(seed):
        model = _stock(checkpoint, class_names, spec, pretrained)
        if spec.name != "standard":
            model = _on_cls(checkpoint, class_names, spec, pretrained)
        if spec.xavier:
            xavier(head_of(model))
        if spec.start is not None:
            _start(model, spec.start, checkpoint)
    return model


def _config(checkpoint: Checkpoint, class_names: Sequence[str], dropout: float | None) -> Any:
    from transformers import AutoConfig

    config = opened(AutoConfig, checkpoint.folder, checkpoint.name)
    config.id2label = dict(enumerate(class_names))
    config.label2id = {name: i for i, name in enumerate(class_names)}
    config.problem_type = "single_label_classification"
    if dropout is not None:
        for name in known(config, checkpoint):
            setattr(config, name, dropout)
    return config


def own_dropout(config: Mapping[str, Any], otherwise: float = 0.1) -> float:
    """The dropout in front of an architecture's own classifier, by its config."""
    found = [config.get(name) for name in (*DROPOUTS, "hidden_dropout_prob", "hidden_dropout")]
    return next((float(value) for value in found if value is not None), otherwise)


def known(config: Any, checkpoint: Checkpoint) -> list[str]:
    """What this architecture calls the dropout of its own classifier. Raises UserError if it has none of its own."""
    names = [name for name in DROPOUTS if hasattr(config, name)]
    if not names:
        raise UserError(
            f"{checkpoint.name}: its own classifier has no dropout to set; leave out --dropout, or --head mlp"
        )
    return names


def _stock(checkpoint: Checkpoint, class_names: Sequence[str], spec: HeadSpec, pretrained: bool) -> Any:
    import torch
    from transformers import AutoModel
    from transformers import AutoModelForSequenceClassification as Auto

    config = _config(checkpoint, class_names, spec.dropout)
    drawn = torch.random.get_rng_state()
    model = _load(Auto, checkpoint, config, False)
    if pretrained:  # the encoder alone: a head that lies beside it was trained for somebody else's classes
        encoder = _load(AutoModel, checkpoint, config, True)
        lost = model.base_model.load_state_dict(encoder.state_dict(), strict=False).missing_keys
        assert not [name for name in lost if "pooler" not in name], "the classifier's encoder is the bare encoder"
        torch.random.set_rng_state(drawn)  # the head depends on the seed alone, not on how much the encoder drew
        for part in head_of(model):
            part.apply(model._init_weights)
    return model


def _on_cls(checkpoint: Checkpoint, class_names: Sequence[str], spec: HeadSpec, pretrained: bool) -> Any:
    from transformers import AutoModel

    make = HEADS[spec.name]
    assert make is not None
    encoder = _load(AutoModel, checkpoint, _config(checkpoint, class_names, None), pretrained)
    if getattr(encoder, "pooler", None) is not None:
        encoder.pooler = None  # its output is not looked at, and a parameter without gradient is a trap under DDP
    return _classifier(encoder, make(checkpoint.dim, len(class_names), 0.1 if spec.dropout is None else spec.dropout))


def _load(auto: Any, checkpoint: Checkpoint, config: Any, pretrained: bool) -> Any:
    import torch

    try:
        if not pretrained:
            return auto.from_config(config, dtype=torch.float32, trust_remote_code=False)
        return opened_model(auto, checkpoint.folder, checkpoint.name, config=config, dtype=torch.float32)
    except UserError:
        raise
    except Exception as error:  # a stranger's files can be wrong in any way
        raise UserError(
            f"--encoder {checkpoint.name}: cannot be fine-tuned ({error_line(error)}); choose another encoder"
        ) from error


def xavier(parts: list[Any]) -> None:
    """Glorot and Bengio 2010: uniform weights that keep a layer's variance, biases 0."""
    from torch import nn

    for part in parts:
        for module in part.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)


def _start(model: Any, start: LinearModel, checkpoint: Checkpoint) -> None:
    """Linear probing, then fine-tuning (Kumar et al. 2022): the head begins as the fitted model, scaler folded in."""
    import torch

    if start.pooling != "cls":
        raise UserError(f"--init-head: that run reads '{start.pooling}' vectors; fit one with --pooling cls")
    start.check(checkpoint.checkpoint_digest("cls"), tuple(model.config.id2label[i] for i in range(len(start.b))))
    weight, bias = folded(start)
    last = model.head[-1]
    with torch.no_grad():
        last.weight.copy_(torch.from_numpy(weight))
        last.bias.copy_(torch.from_numpy(bias))


def folded(model: LinearModel) -> tuple[np.ndarray, np.ndarray]:
    """W' (k, d) and b' (k,) that give the model's logits on vectors that have not been standardised."""
    scaled = model.W.astype(np.float64) / model.scale
    bias = model.b - scaled @ model.mean
    return (scaled / model.temperature).astype(np.float32), (bias / model.temperature).astype(np.float32)


# ── parts of a model ────────────────────────────────────────────────────────────────────────────────────────────────


def encoder_of(model: Any) -> Any:
    """The encoder inside a model that `build` made."""
    return model.encoder if hasattr(model, "head") and hasattr(model, "encoder") else model.base_model


def head_of(model: Any) -> list[Any]:
    """Everything of a model that is not its encoder."""
    encoder = encoder_of(model)
    return [child for child in model.children() if child is not encoder]


# ── the folder ──────────────────────────────────────────────────────────────────────────────────────────────────────


def write(model: Any, checkpoint: Checkpoint, class_names: Sequence[str], spec: HeadSpec, folder: Path) -> None:
    """Write model and tokenizer into `folder`, as a checkpoint that transformers reads."""
    with quiet():
        if spec.name == "standard":
            model.save_pretrained(folder, state_dict=separate(model))
        else:
            model.encoder.save_pretrained(folder, state_dict=separate(model.encoder))
            save(model.head, folder / "head.safetensors")
            record = {"format": FORMAT, "kind": "head", "head": spec.name, "pooling": "cls"}
            record["class_names"] = list(class_names)
            (folder / "head.json").write_text(json.dumps(record, indent=1, ensure_ascii=False), "utf-8")
    for name in TOKENIZER_FILES:
        if (checkpoint.folder / name).exists():
            shutil.copyfile(checkpoint.folder / name, folder / name)


def read(checkpoint: Checkpoint, class_names: Sequence[str]) -> Any:
    """The model that `write` left in `checkpoint.folder`, ready to predict.

    Raises UserError if the folder is damaged or knows other classes.
    """
    if not (checkpoint.folder / "head.json").exists():
        from transformers import AutoModelForSequenceClassification as Auto

        with quiet(), isolated(0):
            model = _load(Auto, checkpoint, _config(checkpoint, class_names, None), True)
        return model.eval()
    record = read_record(checkpoint.folder / "head.json", "head")
    if record.get("class_names") != list(class_names) or record.get("head") not in ("linear", "mlp"):
        raise UserError(f"{checkpoint.folder / 'head.json'}: does not fit its run; fit it again")
    with quiet(), isolated(0):
        model = _on_cls(checkpoint, class_names, HeadSpec(record["head"]), True)
        _load_head(model, checkpoint.folder / "head.safetensors")
    return model.eval()


def _load_head(model: Any, file: Path) -> None:
    from safetensors.torch import load_file

    try:
        model.head.load_state_dict(load_file(file))
    except Exception as error:  # a stranger's file can be wrong in any way
        raise UserError(f"{file}: damaged head ({type(error).__name__}); fit the run again") from error


def linear_head(folder: Path) -> tuple[np.ndarray, np.ndarray] | None:
    """W (k, d) and b (k,) of a saved linear head on raw [CLS] vectors, or None if `folder` has another head."""
    from safetensors.numpy import load_file

    if not (folder / "head.json").exists() or read_record(folder / "head.json", "head").get("head") != "linear":
        return None
    arrays = load_file(folder / "head.safetensors")
    return arrays["1.weight"], arrays["1.bias"]


# ── manners ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@contextmanager
def isolated(seed: int) -> Iterator[None]:
    """The global random generators, which transformers draws from: as `seed` sets them inside, as they were outside."""
    import random

    import torch

    states = random.getstate(), np.random.get_state(), torch.random.get_rng_state()
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.random.set_rng_state(states[2])


def parameters(model: Any, trained: bool = False) -> int:
    """Numbers in a model; with `trained`, only those that learn."""
    return sum(math.prod(p.shape) for p in model.parameters() if p.requires_grad or not trained)
