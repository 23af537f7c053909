"""The one way to open what comes from outside: a checkpoint's files are data, and none of its code ever runs.

transformers asks on standard input whether a folder's Python may run wherever `trust_remote_code` is left unset,
and takes the first piped text for the answer. Everything is opened through `opened`, which answers beforehand.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .. import UserError, listed
from ..files import refusal
from ..words import error_line
from .quiet import quiet

LARGE_FILES = ("tokenizer.json", "vocab.json")  # of tokenizers: read by a library that knows no code in them
LARGEST_RECORD = 8 << 20  # bytes; a config is a few thousand
REFUSED_KEYS = {  # anywhere in a record → why it is refused
    "auto_map": "needs Python code from its repository, which is never run; choose another",
    "custom_pipelines": "brings Python code of its own, which is never run; take that out",
    "configuration_files": "is another config by the version of transformers; keep the one meant, as config.json",
    "fast_tokenizer_files": "is another tokenizer by the version of transformers; keep one as tokenizer.json",
}
WRAPPERS = {r"^(_orig_mod\.|module\.)+": ""}  # what torch.compile and DataParallel put before every weight's name


def refuse_code(folder: Path, name: str) -> None:
    """Raises UserError if a record in `folder` asks for custom Python, for another file, or for an adapter."""
    refuse_devices(folder, name)
    if (folder / "adapter_config.json").exists():
        raise UserError(
            f"--encoder {name}: an adapter lies beside the encoder (adapter_config.json) and would be left out; "
            "merge it (peft: merge_and_unload, save_pretrained), or take it away"
        )
    for file in sorted(folder.glob("*.json")):
        if file.name in LARGE_FILES or file.name.endswith(".index.json"):
            continue
        for key in REFUSED_KEYS.keys() & record_keys(file, name):
            raise UserError(f"--encoder {name}: {file.name} names '{key}': it {REFUSED_KEYS[key]}")


def refuse_devices(folder: Path, name: str) -> None:
    """Raises UserError if something in `folder` is neither a file nor a folder: a pipe never ends, nor /dev/zero."""
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.exists() and not (path.is_file() or path.is_dir()):
            raise UserError(
                f"--encoder {name}: {path.name} is a pipe or a device, not a file; fetch the checkpoint again"
            )


def record_keys(file: Path, name: str) -> set[str]:
    """Every key with a value in a JSON file, however deep; none if it holds no JSON.

    Raises UserError if it is no regular file, or larger or deeper than a checkpoint's record can be.
    """
    try:
        if not file.is_file() or file.stat().st_size > LARGEST_RECORD:
            raise UserError(f"--encoder {name}: {file.name} is no file of at most {LARGEST_RECORD >> 20} MiB")
        value = json.loads(file.read_bytes().decode("utf-8", "replace"))
    except ValueError:  # whoever needs it says so
        return set()
    except RecursionError as error:
        raise UserError(f"--encoder {name}: {file.name} is nested too deeply; fetch the checkpoint again") from error
    except OSError as error:
        raise UserError(f"--encoder {name}: {file.name} cannot be read ({error_line(error)})") from error
    keys, left = set(), [value]
    while left:
        part = left.pop()
        if isinstance(part, dict):
            keys |= {str(key) for key, inner in part.items() if inner not in (None, {}, [], "")}
            left += part.values()
        elif isinstance(part, list):
            left += part
    return keys


def read_record(file: Path, name: str) -> Any:
    """A JSON file of the checkpoint `name`. Raises UserError if it is none."""
    try:
        return json.loads(file.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise refusal(f"--encoder {name}", f"{file} cannot be read", error, "fetch the checkpoint again") from error


def read_json(file: Path, name: str) -> dict[str, Any]:
    """The same for a file that holds an object. Raises UserError if it does not."""
    value = read_record(file, name)
    if not isinstance(value, dict):
        raise UserError(f"--encoder {name}: {file} is not a JSON object; fetch the checkpoint again")
    return value


def opened(auto: Any, folder: Path, name: str, **settings: Any) -> Any:
    """`auto.from_pretrained` on a local folder: no network, no question, no code of the folder's.

    Raises UserError if the folder asks for code; what transformers raises passes.
    """
    refuse_code(folder, name)
    with quiet():
        return auto.from_pretrained(folder, local_files_only=True, trust_remote_code=False, **settings)


def opened_model(auto: Any, folder: Path, name: str, **settings: Any) -> Any:
    """The same for weights, safetensors alone: every one is there and of the right shape, a pooler's apart.

    Weights of a head that the model has not are left out, as for any encoder taken out of a checkpoint.

    Raises UserError, with the names, for weights that are missing or misshapen, which transformers would draw at
    random, and for those of the encoder that the config has no place for, which it would leave out.
    """
    model, report = opened(
        auto,
        folder,
        name,
        use_safetensors=True,
        key_mapping=WRAPPERS,
        output_loading_info=True,
        ignore_mismatched_sizes=True,  # refused below, by name
        **settings,
    )
    missing = [key for key in report["missing_keys"] if "pooler." not in key]
    misshapen = [entry[0] for entry in report["mismatched_keys"]]
    if missing or misshapen or report["error_msgs"]:
        lost = sorted(map(str, [*missing, *misshapen])) or report["error_msgs"]
        more = f" and {len(lost) - 3} more" if len(lost) > 3 else ""
        raise UserError(
            f"--encoder {name}: weights that its config needs are missing or of another shape "
            f"({listed(lost[:3])}{more}); fetch the checkpoint again, or save it with save_pretrained"
        )
    parts, base = {part for part, _ in model.base_model.named_children()}, model.base_model_prefix
    if left := sorted(key for key in report["unexpected_keys"] if _within(key, base) in parts):
        raise UserError(
            f"--encoder {name}: weights that its config has no place for ({listed(left[:3])}"
            f"{f' and {len(left) - 3} more' if len(left) > 3 else ''}); is config.json of another checkpoint?"
        )
    return model


def _within(key: str, base: str) -> str:
    """The part of an encoder, or of what stands on it, that the weight `key` is of: `embeddings`, `layer`."""
    steps = [step for step in key.split(".") if step not in ("_orig_mod", "module")]
    return (steps[1:] if steps[0] == base else steps)[0] if len(steps) > 1 else key
