"""What a checkpoint says of how it wants to be read, in the files that sentence-transformers keeps beside it.

`modules.json` names what follows the encoder (a pooling, lengths brought to 1), `1_Pooling/config.json` which pooling,
`sentence_bert_config.json` at how many tokens texts are cut, `config_sentence_transformers.json` the prompts that stand
before a text. They are a stranger's: nothing outside of the folder is read, and no code that they name ever runs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

from .. import UserError, listed, log
from .opener import read_json, read_record, record_keys
from .pooling import NORMALIZED, POOLERS

MODULES = "modules.json"
PROMPTS = "config_sentence_transformers.json"
LENGTHS = tuple(
    f"sentence_{kind}_config.json"
    for kind in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
)
LIBRARY = "sentence_transformers."
WITHOUT_EFFECT = ("Dropout",)  # of a model that is not being trained
POOLING_FILES = {  # what a file calls a pooling → what it is here
    "cls": "cls",
    "max": "max",
    "mean": "mean",
    "mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "weightedmean": "weightedmean",
    "lasttoken": "last",
}
FLAGS = {  # the same in files of versions before 6, in the order in which vectors stand side by side
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
ARGUMENTS = (
    "model_args config_args tokenizer_args model_kwargs config_kwargs processor_kwargs processing_kwargs".split()
)
HARMLESS = ("trust_remote_code", "torch_dtype", "dtype", "attn_implementation", "add_pooling_layer", "use_fast")


@dataclass(frozen=True)
class Declared:
    """How a checkpoint wants to be read; every field may be empty."""

    pooling: str | None = None  # as --pooling takes it; None: nothing is declared, or it cannot be made here
    prompts: Mapping[str, str] = field(default_factory=dict)
    default_prompt: str = ""  # the text that stands before every text
    max_length: int | None = None
    lower_case: bool = False  # texts are to be lower-cased, whatever the tokenizer does
    prompt_left_out: bool = False  # the pooling leaves the prompt's tokens out
    unsupported: str = ""  # why the declared vectors cannot be made here; empty if they can, or if none are declared


def encoder_folder(folder: Path, name: str) -> Path:
    """Where the encoder itself lies: `folder`, or what `modules.json` names for it (`0_Transformer` of old ones).

    Raises UserError for a `modules.json` that cannot be read, or that names something outside of `folder`.
    """
    kind, place = next(iter(_modules(folder, name)), ("", folder))
    return place if kind == "Transformer" else folder


def declared(folder: Path, name: str) -> Declared:
    """What the files in `folder` declare of the encoder `name`.

    Raises UserError for files that cannot be read, or that name something outside of the folder.
    """
    homes = dict.fromkeys((encoder_folder(folder, name), folder))
    lengths = next((_object(at / file, name) for at in homes for file in LENGTHS if (at / file).exists()), {})
    prompts = _object(folder / PROMPTS, name)
    pooling, left_out, problems = _pooling(folder, name)
    problems += _differently_encoded(lengths)
    default = _default_prompt(prompts, name)
    limit = lengths.get("max_seq_length")
    return Declared(
        pooling=None if problems else pooling,
        prompts=_prompts(prompts, name),
        default_prompt=default,
        max_length=limit if isinstance(limit, int) and not isinstance(limit, bool) and limit >= 3 else None,
        lower_case=lengths.get("do_lower_case") is True,
        prompt_left_out=left_out,
        unsupported="; ".join(problems),
    )


def _object(file: Path, name: str) -> dict[str, Any]:
    """An object of the checkpoint's, empty if the file is not there. Raises UserError if it is none, or too large."""
    if not file.exists():
        return {}
    record_keys(file, name)
    return read_json(file, name)


# ── the pooling ─────────────────────────────────────────────────────────────────────────────────────────────────────


def _pooling(folder: Path, name: str) -> tuple[str | None, bool, list[str]]:
    """The pooling that is declared, whether it leaves prompts out, and what of it cannot be made here."""
    modules = _modules(folder, name)
    if not modules:
        return None, False, []
    problems: list[str] = []
    poolings: list[str] = []
    normalized = left_out = False
    for number, (kind, place) in enumerate(modules):
        config = _object(place / "config.json", name)
        if kind == "Transformer" and number == 0:
            continue
        if kind == "Pooling" and not poolings and not normalized:
            if not config or place == folder:
                raise UserError(f"--encoder {name}: {MODULES} names {place.name}, which is not there; fetch it too")
            poolings, left_out = _modes(config, name), config.get("include_prompt") is False
        elif kind == "Normalize" and config.get("module_input_name", "sentence_embedding") == "sentence_embedding":
            normalized = True
        elif kind not in WITHOUT_EFFECT:
            problems.append(f"has a module {kind}")
    if not poolings:
        problems = problems or ["has no pooling"]
    if normalized and len(poolings) > 1:
        problems.append(f"normalizes {'+'.join(poolings)} together")
    return "+".join(poolings) + (NORMALIZED if normalized else ""), left_out, problems


def _modules(folder: Path, name: str) -> list[tuple[str, Path]]:
    """Class name and folder of each module, in order; empty if none are declared."""
    if not (folder / MODULES).exists():
        if not (folder / "1_Pooling" / "config.json").exists():
            return []
        usual = [("Transformer", ""), ("Pooling", "1_Pooling"), ("Normalize", "2_Normalize")]
        return [(kind, folder / place) for kind, place in usual if (folder / place).is_dir()]
    record_keys(folder / MODULES, name)
    entries, modules = read_record(folder / MODULES, name), []
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise UserError(f"--encoder {name}: {MODULES} is no list of modules; fetch the checkpoint again")
    for entry in entries:
        kind, place = str(entry.get("type")), str(entry.get("path", ""))
        if not kind.startswith(LIBRARY):
            kind = f"of its own code ({kind})"
        modules.append((kind.rpartition(".")[2] if kind.startswith(LIBRARY) else kind, _inside(folder, place, name)))
    return modules


def _inside(folder: Path, place: str, name: str) -> Path:
    """A module's folder. Raises UserError for one that is not inside the checkpoint's."""
    path = PurePosixPath(place.replace("\\", "/"))
    outside = path.is_absolute() or ".." in path.parts or ":" in place or "\0" in place
    if outside or not (folder / path).resolve().is_relative_to(folder.resolve()):  # a link may lead out of it, too
        raise UserError(f"--encoder {name}: {MODULES} names '{place}', which is outside of the checkpoint's folder")
    return folder / path


def _modes(config: Mapping[str, Any], name: str) -> list[str]:
    """The poolings of a module's config, as they are called here."""
    given = config.get("pooling_mode")
    if given is None:
        given = [mode for flag, mode in FLAGS.items() if config.get(flag)] or "mean"
    modes = [given] if isinstance(given, str) else list(given) if isinstance(given, list) else [str(given)]
    for mode in modes:
        if POOLING_FILES.get(str(mode)) not in POOLERS:
            raise UserError(
                f"--encoder {name}: declares the pooling '{mode}', which is none of {listed(POOLING_FILES)}; "
                "fetch the checkpoint again"
            )
    return [POOLING_FILES[mode] for mode in modes]


def _differently_encoded(lengths: Mapping[str, Any]) -> list[str]:
    """What of the encoder's own module this package would do otherwise."""
    task = lengths.get("transformer_task", "feature-extraction")
    problems = [] if task == "feature-extraction" else [f"is used for {task}"]
    passed = sorted(
        str(key)
        for argument in ARGUMENTS
        for key, value in (lengths[argument] if isinstance(lengths.get(argument), dict) else {}).items()
        if key not in HARMLESS and value not in (None, {}, [])
    )
    return problems + ([f"passes {listed(passed)} to transformers"] if passed else [])


# ── prompts ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def _prompts(record: Mapping[str, Any], name: str) -> dict[str, str]:
    """The prompts by name. Raises UserError if one is no text."""
    given = record.get("prompts") or {}
    if not isinstance(given, dict) or not all(isinstance(text, str | None) for text in given.values()):
        raise UserError(f"--encoder {name}: prompts in {PROMPTS} that are no texts; fetch the checkpoint again")
    return {str(key): text or "" for key, text in given.items()}


def _default_prompt(record: Mapping[str, Any], name: str) -> str:
    """The prompt that stands before every text where none is asked for, as sentence-transformers has it."""
    chosen = record.get("default_prompt_name")
    if chosen is None:
        return ""
    prompts = _prompts(record, name)
    if chosen not in prompts:
        raise UserError(f"--encoder {name}: {PROMPTS} names the default prompt '{chosen}', which it does not have")
    return prompts[chosen]


def chosen_prompt(stated: Declared, given: str, name: str) -> str:
    """The text before every text: `auto` is the declared default, `none` nothing, else a declared name or the text.

    `=text` is a text whatever it looks like. Raises UserError for a bare word that is no declared name.
    """
    if given.startswith("="):
        return given[1:]
    if given == "auto":
        return stated.default_prompt
    if given == "none":
        return ""
    if given in stated.prompts:
        return stated.prompts[given]
    if given and not given.replace("-", "_").isidentifier():
        return given
    has = f"it has {listed(stated.prompts)}" if stated.prompts else "it has none"
    raise UserError(
        f"--prompt {given}: {name} declares no such prompt, {has}; pass one of them, none, or the text itself "
        "with the blank that ends it ('query: ')"
    )


@lru_cache(maxsize=256)
def _say(line: str) -> None:
    log.info(line)


def note_pooling(stated: Declared, given: tuple[str, ...], name: str) -> None:
    """Say once where another pooling than the declared one is asked for."""
    others = [pooling for pooling in given if pooling not in ("auto", "declared") and pooling != stated.pooling]
    if others and (stated.pooling or stated.unsupported):
        declares = stated.pooling or f"what is not computed here (it {stated.unsupported})"
        _say(f"--pooling {listed(others)}: {name} declares {declares}")


# ── [CLS] ───────────────────────────────────────────────────────────────────────────────────────────────────────────

CLS_LAST = ("xlnet",)  # whose own tokenizers put [CLS] behind the text
CLS_TOKENS = ("[CLS]", "<cls>")
CLS_FIRST = ("BertProcessing", "RobertaProcessing")  # which have no template


def cls_is_last(folder: Path, config: Mapping[str, Any]) -> bool:
    """Whether [CLS] stands behind the text: by the template in tokenizer.json, else by the architecture."""
    file = folder / "tokenizer.json"
    template = _template(file, file.stat().st_mtime_ns) if file.is_file() else ()
    if not template:
        return config.get("model_type") in CLS_LAST
    return template[-1] in CLS_TOKENS and template[0] not in CLS_TOKENS


@lru_cache(maxsize=64)
def _template(file: Path, written: int) -> tuple[str | None, ...]:
    """What stands around a single text: a special token, or None for the text; empty where the file does not say.

    It stands before the vocabulary, which is not parsed.
    """
    try:
        text = file.read_text("utf-8")
        start = text.index('"post_processor"')
        value, _ = json.JSONDecoder().raw_decode(text[text.index(":", start) + 1 :].lstrip())
        several = value["processors"] if value["type"] == "Sequence" else [value]
        if any(one["type"] in CLS_FIRST for one in several):
            return (CLS_TOKENS[0], None)
        pieces = next(one["single"] for one in several if one["type"] == "TemplateProcessing")
        return tuple(str(piece["SpecialToken"]["id"]) if "SpecialToken" in dict(piece) else None for piece in pieces)
    except (OSError, ValueError, KeyError, TypeError, RecursionError, StopIteration):
        return ()
