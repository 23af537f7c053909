"""The encoder's graph converted to OpenVINO once, kept on disk, and used again without torch.

A converted model is `<cache>/models/<checkpoint digest>/<name>.xml` and `.bin`, with a `<name>.json` that holds their
sha256 and a check of itself, and is written last: without it, or where a byte of the three differs, there is no model,
and it is converted again. There are two a checkpoint: `cls` for that pooling alone, `all` for any other wish.
"""

from __future__ import annotations

import atexit
import json
import os
import secrets
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from .. import UserError, log
from ..files import disk_errors, draft_of, refusal, sweep
from ..words import error_line
from .checkpoint import POOLERS, Checkpoint, digest_of, sha256
from .quiet import quiet

FORMAT = 3  # raise it when the graph is built differently
CHECKED = 3  # the first whose record has a check of itself

Model = tuple[Path, dict[str, Any]]  # the .xml file, and the facts beside it


def names_of(poolings: tuple[str, ...]) -> tuple[str, tuple[str, ...]]:
    """The converted model that serves `poolings`, and the poolings that it computes."""
    return ("cls", poolings) if poolings == ("cls",) else ("all", tuple(POOLERS))


def home_of(checkpoint: Checkpoint, cache: Path) -> Path:
    return Path(cache) / "models" / checkpoint.digest


def converted(checkpoint: Checkpoint, poolings: tuple[str, ...], cache: Path) -> Model:
    """The converted graph for `poolings`; made the first time.

    Raises UserError if the encoder cannot be converted.
    """
    name, poolings = names_of(poolings)
    return kept(home_of(checkpoint, cache), name, poolings, lambda: convert(checkpoint, poolings))


def kept(home: Path, name: str, poolings: Sequence[str], make: Callable[[], tuple[Any, dict[str, Any]]]) -> Model:
    """The model `name` in `home`, made and kept if it is not there, or not for all `poolings`; in a temporary folder if
    `home` takes no files."""
    stored = load(home, name)
    if stored is not None and set(poolings) <= set(stored[1]["poolings"]):
        return stored
    model, facts = make()
    try:
        return keep(home, name, model, facts)
    except OSError as error:
        log.warning(f"{home}: the converted model cannot be kept ({error_line(error)}); it is made again each time")
    aside = Path(tempfile.mkdtemp(prefix="probe-or-tune-"))
    atexit.register(shutil.rmtree, aside, ignore_errors=True)
    with disk_errors(aside, "no room for the converted model", "free some, or set TMPDIR"):
        return keep(aside, name, model, facts)


def convert(checkpoint: Checkpoint, poolings: tuple[str, ...]) -> tuple[Any, dict[str, Any]]:
    """The encoder as an OpenVINO model, any number of texts of any length; imports torch and transformers.

    OpenVINO's own `convert_model` reports its use over the network, so that its frontend is called here instead.
    """
    import openvino
    import torch
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    from . import graph

    encoder = graph.load_model(checkpoint)
    if checkpoint.config["model_type"] in graph.BLOCKS:
        graph.fold_scale(encoder)
    module = graph.build(checkpoint, poolings, encoder)
    ids, mask = torch.ones((2, 8), dtype=torch.int64), torch.ones((2, 8), dtype=torch.int64)
    mask[1, 6:] = 0
    example = (ids, mask, torch.zeros_like(ids)) if module.types else (ids, mask)
    frontend = FrontEndManager().load_by_framework("pytorch")
    with torch.inference_mode(), quiet():
        try:
            decoder = TorchScriptPythonDecoder(module, example_input=example)  # must outlive the conversion
            model = frontend.convert(frontend.load(decoder))
        except Exception as error:  # tracing can fail in any way
            raise UserError(
                f"--engine openvino: {checkpoint.name} cannot be converted ({error_line(error)}); pass --engine torch"
            ) from error
    for parameter in model.inputs:
        parameter.get_node().set_element_type(openvino.Type.i64)
        parameter.get_node().set_partial_shape(openvino.PartialShape([-1, -1]))
    model.validate_nodes_and_infer_types()
    return model, {"format": FORMAT, "poolings": list(poolings), "cls_only": module.cls_only}


def keep(home: Path, name: str, model: Any, facts: dict[str, Any]) -> Model:
    """Publish a model as three files, the one with the checksums last: float32 stays float32."""
    import openvino

    home.mkdir(parents=True, exist_ok=True)
    sweep(home)
    draft = draft_of(home / name)
    files = {suffix: draft.with_suffix(suffix) for suffix in (".xml", ".bin", ".json")}
    try:
        try:
            openvino.save_model(model, files[".xml"], compress_to_fp16=False)
        except RuntimeError as error:  # OpenVINO's word for a full disk
            raise OSError(28, "no room to write it") from error
        facts = facts | {"sha256": {suffix: sha256(files[suffix]) for suffix in (".xml", ".bin")}}
        files[".json"].write_text(json.dumps(facts | {"check": digest_of(facts)}, indent=1), "utf-8")
        for suffix, file in files.items():
            with open(file, "rb+") as handle:
                os.fsync(handle.fileno())
            os.replace(file, home / f"{name}{suffix}")
    finally:
        for file in files.values():
            file.unlink(missing_ok=True)
    return home / f"{name}.xml", facts


def load(home: Path, name: str) -> Model | None:
    """The model `name` in `home` if it is whole; a damaged one is moved aside and said."""
    try:
        text = (home / f"{name}.json").read_text("utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, UnicodeDecodeError) as error:
        quarantine(home, name, str(error))
        return None
    try:
        facts = json.loads(text)
        check = facts.pop("check", None)
        whole = check == digest_of(facts)
        if (facts["format"] < CHECKED and check is None) or (facts["format"] != FORMAT and whole):
            return None  # of another version: made again over it
        if whole and all(sha256(home / f"{name}{kind}") == own for kind, own in facts["sha256"].items()):
            return home / f"{name}.xml", facts
        problem = "its checksum is wrong"
    except OSError as error:
        problem = f"a file of it cannot be read: {error_line(error)}"
    except (ValueError, KeyError, TypeError, AttributeError):
        problem = "its record is no record"
    quarantine(home, name, problem)
    return None


def quarantine(home: Path, name: str, problem: str) -> None:
    """Move a damaged model aside, so that someone can look at it and nothing serves it."""
    aside = retire(home, name, "damaged")
    log.warning(f"{home / name}.xml: damaged ({problem}); moved to {aside}, made again")


def retire(home: Path, name: str, why: str = "former") -> str:
    """Rename the files of a model so that it is no longer found; the name that it has now.

    Raises UserError if that is not possible.
    """
    aside = f"{why}-{secrets.token_hex(4)}-{name}"
    for suffix in (".json", ".xml", ".bin"):
        try:
            os.replace(home / f"{name}{suffix}", home / f"{aside}{suffix}")
        except FileNotFoundError:
            continue
        except OSError as error:
            raise refusal(f"{home / name}.xml", "cannot be moved", error, "delete it yourself") from error
    return aside
