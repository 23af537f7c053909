"""The encoder's graph converted to OpenVINO once, stored on disk, and used again without torch.

A converted model is `<cache>/models/<checkpoint digest>/<name>.xml` and `.bin`, with a `<name>.json` that holds their
sha256 and a check of itself, and is written last: without it, or where a byte of the three differs, there is no model,
and it is converted again. There are two a checkpoint: `cls` for that pooling alone, `all` for any other wish; and one
for each choice of inner layers, in which nothing above the highest of them is computed.

A conversion is compared with torch before it is kept. One that fails, or computes something else, leaves its record
alone, which says so: the encoder then runs on torch, and nobody tries again before OpenVINO has another version.
"""

from __future__ import annotations

import atexit
import json
import os
import secrets
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import UserError, installed_version, log
from ..files import disk_errors, draft_of, mark_used, refusal, sweep
from ..words import error_line
from .checkpoint import Checkpoint, digest_of, sha256
from .pooling import LAYER, POOLERS, base
from .quiet import quiet
from .verification import answers, fault_of, needs_equal_lengths, openvino_run

FORMAT = 4  # raise it when the graph is built differently, or checked for more
CHECKED = 3  # the first whose record has a check of itself

Model = tuple[Path, dict[str, Any]]  # the .xml file, and the facts beside it


@dataclass(frozen=True)
class Made:
    """A model of OpenVINO's that is not kept yet, the facts to keep beside it, and what tells a fault of its file."""

    model: Any  # None: only the facts are worth keeping
    facts: dict[str, Any]
    fault_of: Callable[[Path], str | None] = lambda file: None


def names_of(poolings: tuple[str, ...]) -> tuple[str, tuple[str, ...]]:
    """The converted model that serves `poolings`, and the poolings that it computes; a head's output has its own."""
    if any(LAYER in name for name in poolings):
        return f"layers-{digest_of(poolings)}", poolings
    if poolings == ("cls",) or not set(poolings) <= set(POOLERS):
        return "-".join(poolings), poolings
    return "all", tuple(POOLERS)


def home_of(checkpoint: Checkpoint, cache: Path) -> Path:
    return Path(cache) / "models" / checkpoint.digest


def converted(checkpoint: Checkpoint, poolings: tuple[str, ...], cache: Path) -> Model:
    """The converted graph for `poolings`; made the first time, and again for longer texts than it was checked on.

    Raises FaultyConversionError if it cannot be made, or computes something else than torch does.
    """
    name, poolings = names_of(poolings)
    home = home_of(checkpoint, cache)
    file, facts = made_once(home, name, poolings, lambda: convert(checkpoint, poolings), checkpoint.max_length)
    if facts["fault"]:
        raise FaultyConversionError(checkpoint.name, facts["fault"])
    return file, facts


class FaultyConversionError(UserError):
    """An encoder that OpenVINO does not compute as torch does, and in what: a `fault` such as 'fails on ...'."""

    def __init__(self, name: str, fault: str) -> None:
        super().__init__(f"--engine openvino: for {name} OpenVINO {fault}; pass --engine torch")
        self.fault = fault


def is_tried(checkpoint: Checkpoint, poolings: tuple[str, ...], cache: Path) -> bool:
    """Whether `cache` holds a conversion for `poolings`, or that there can be none."""
    return (home_of(checkpoint, cache) / f"{names_of(poolings)[0]}.json").exists()


def known_fault(checkpoint: Checkpoint, poolings: tuple[str, ...], cache: Path) -> str | None:
    """Why OpenVINO cannot compute `poolings`, if that has been tried; None if it can, or nobody has tried."""
    home, name = home_of(checkpoint, cache), names_of(poolings)[0]
    if not is_tried(checkpoint, poolings, cache) or (home / f"{name}.xml").exists():  # one that is sound has a model
        return None
    stored = load(home, name)
    return str(stored[1]["fault"]) if stored is not None and stored[1].get("fault") else None


def made_once(home: Path, name: str, poolings: Sequence[str], make: Callable[[], Made], tokens: int = 0) -> Model:
    """The model `name` in `home`, made and kept if it is not there, or not for all `poolings` or for texts of `tokens`
    tokens; in a temporary folder if `home` takes no files."""
    stored = load(home, name)
    if stored is not None and set(poolings) <= set(stored[1]["poolings"]) and tokens <= stored[1]["tokens"]:
        return stored
    made = make()
    try:
        return keep(home, name, made)
    except OSError as error:
        log.warning(f"{home}: the converted model cannot be kept ({error_line(error)}); it is made again each time")
    aside = Path(tempfile.mkdtemp(prefix="probe-or-tune-"))
    atexit.register(shutil.rmtree, aside, ignore_errors=True)
    with disk_errors(aside, "no room for the converted model", "free some, or set TMPDIR"):
        return keep(aside, name, made)


def convert(checkpoint: Checkpoint, poolings: tuple[str, ...]) -> Made:
    """The encoder as an OpenVINO model, any number of texts of any length, if it can be one; imports torch and
    transformers."""
    from . import graph

    log.info("%s: converted for OpenVINO and compared with torch, once for this cache (10 s or more)", checkpoint.name)
    graphs = checkpoint.graphs()
    model = graphs.load_model(checkpoint)
    encoder = graphs.encoder_of(model)
    expected = answers(checkpoint, graphs.whole(checkpoint, poolings, model), graph.vocabulary(encoder))
    if checkpoint.config["model_type"] in graph.BLOCKS:
        graph.fold_scale(encoder)
    module = graphs.build(checkpoint, poolings, model)
    facts = stamp(checkpoint, poolings) | {"equal_lengths": needs_equal_lengths(expected)}
    facts |= {"cls_only": module.cls_only, "fault": None}
    try:
        return Made(traced(module), facts, lambda file: fault_of(openvino_run(file), expected))
    except Exception as error:  # tracing can fail in any way
        return Made(None, facts | {"fault": f"cannot convert it ({error_line(error)})"})


def equal_lengths_kept(checkpoint: Checkpoint, poolings: tuple[str, ...], model: Any, cache: Path) -> bool:
    """Whether batches of the torch encoder `model` must hold texts of one length only; found out once, and kept."""
    from . import graph

    graphs = checkpoint.graphs()
    frozen = {base(name) for name in poolings} <= set(POOLERS)
    name, outputs = ("torch", tuple(POOLERS)) if frozen else ("-".join(("torch", *poolings)), poolings)

    def make() -> Made:
        every_row = graphs.whole(checkpoint, outputs, model)
        moved = needs_equal_lengths(answers(checkpoint, every_row, graph.vocabulary(graphs.encoder_of(model))))
        return Made(None, stamp(checkpoint, outputs) | {"equal_lengths": moved})

    return bool(made_once(home_of(checkpoint, cache), name, outputs, make, checkpoint.max_length)[1]["equal_lengths"])


def stamp(checkpoint: Checkpoint, poolings: tuple[str, ...]) -> dict[str, Any]:
    """What a record holds for: an older or shorter one is made again."""
    return {
        "format": FORMAT,
        "openvino": installed_version("openvino") or "",
        "poolings": list(poolings),
        "tokens": checkpoint.max_length,
    }


def traced(module: Any) -> Any:
    """A torch graph of ours as an OpenVINO model.

    OpenVINO's own `convert_model` reports its use over the network, so that its frontend is called here instead.
    Raises whatever tracing does.
    """
    import openvino
    import torch
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    ids, mask = torch.ones((2, 8), dtype=torch.int64), torch.ones((2, 8), dtype=torch.int64)
    mask[1, 6:] = 0
    example = (ids, mask, torch.zeros_like(ids)) if module.types else (ids, mask)
    frontend = FrontEndManager().load_by_framework("pytorch")
    with torch.inference_mode(), quiet():
        # traced once: what it computes is compared with torch later; the decoder must outlive the conversion
        decoder = TorchScriptPythonDecoder(module, example_input=example, trace_kwargs={"check_trace": False})
        model = frontend.convert(frontend.load(decoder))
    for parameter in model.inputs:
        parameter.get_node().set_element_type(openvino.Type.i64)
        parameter.get_node().set_partial_shape(openvino.PartialShape([-1, -1]))
    model.validate_nodes_and_infer_types()
    return model


def keep(home: Path, name: str, made: Made) -> Model:
    """Publish a model as three files, the one with the checksums last: float32 stays float32. Without a model, or with
    one that has a fault, that one is all there is."""
    home.mkdir(parents=True, exist_ok=True)
    sweep(home)
    draft = draft_of(home / name)
    files = {suffix: draft.with_suffix(suffix) for suffix in (".xml", ".bin", ".json")}
    facts, sound = made.facts, made.model is not None
    try:
        if sound:
            _write(made.model, files[".xml"])
            facts = facts | ({"fault": fault} if (fault := made.fault_of(files[".xml"])) else {})
            sound = not fault
        facts = facts | {"sha256": {suffix: sha256(files[suffix]) for suffix in (".xml", ".bin") if sound}}
        files[".json"].write_text(json.dumps(facts | {"check": digest_of(facts)}, indent=1), "utf-8")
        for suffix, file in files.items():
            if suffix != ".json" and not sound:
                (home / f"{name}{suffix}").unlink(missing_ok=True)  # of a version that was not compared
                continue
            with open(file, "rb+") as handle:
                os.fsync(handle.fileno())
            os.replace(file, home / f"{name}{suffix}")
    finally:
        for file in files.values():
            file.unlink(missing_ok=True)
    return home / f"{name}.xml", facts


def _write(model: Any, file: Path) -> None:
    import openvino

    try:
        openvino.save_model(model, file, compress_to_fp16=False)
    except RuntimeError as error:  # OpenVINO's word for a full disk
        raise OSError(28, "no room to write it") from error


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
        intact = check == digest_of(facts)
        another_version = facts["format"] != FORMAT or facts["openvino"] != (installed_version("openvino") or "")
        if (facts["format"] < CHECKED and check is None) or (intact and another_version):
            return None  # of another version: made again over it
        if intact and all(sha256(home / f"{name}{kind}") == checksum for kind, checksum in facts["sha256"].items()):
            mark_used(home / f"{name}.json")
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
