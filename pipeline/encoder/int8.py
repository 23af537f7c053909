"""A converted encoder in 8-bit integers: calibrated once a checkpoint, then used for every data set.

Post-training quantisation by NNCF (extra `[int8]`) of weights and activations, with SmoothQuant (Xiao et al. 2023) and
bias correction. The calibrated model is stored beside the converted one; whoever finds it imports neither NNCF nor
torch.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from .. import UserError, log, need
from .batches import TokenBatch
from .checkpoint import Checkpoint, digest_of
from .converted import FORMAT, Made, Model, converted, home_of, load, made_once, names_of, retire
from .hardware import cpu_flags
from .tokens import tokenizer

TEXTS = 300  # calibrated on fewer, vectors drift: mean cosine 0.991 to 0.9945 on 64, 0.9957 and better on 300
HELD_OUT = 100
SAMPLE = Path(__file__).parent.parent / "samples" / "sms-spam" / "all.parquet"
INSTRUCTIONS = ("avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm")  # x86's, then ARM's; Linux's names
CUT = 128  # tokens of a calibration text at most: ranges are known long before


def native(flags: Iterable[str]) -> tuple[str, ...] | None:
    """Those of a processor's instructions (`flags`) that multiply 8-bit integers; None if they are not known."""
    listing = frozenset(flags)
    known = len(listing) > 1  # elsewhere than on Linux there is no list
    return tuple(name for name in INSTRUCTIONS if name in listing) if known else None


def speed_of(flags: Iterable[str]) -> str:
    """What to expect of int8 on a processor with these instructions, for people."""
    able = native(flags)
    needs = "avx512_vnni, avx_vnni or amx_int8 (ARM: asimddp or i8mm)"
    if able is None:
        return f"faster than float32 where the processor has {needs}, which cannot be seen here"
    if able:
        return f"the processor multiplies 8-bit integers ({', '.join(able)})"
    return f"slower than float32 on this processor: it has none of {needs}"


@lru_cache(maxsize=1)
def say_if_slow() -> None:
    """One line where int8 is slower than what it is asked for instead of."""
    if native(cpu_flags()) == ():
        log.warning("--precision int8: %s", speed_of(cpu_flags()))


def calibration_of(checkpoint: Checkpoint, poolings: tuple[str, ...], cache: Path) -> str | None:
    """Which calibration the vectors of `poolings` would be made with now; None if there is none yet."""
    name, poolings = names_of(poolings)
    stored = load(home_of(checkpoint, cache), f"int8-{name}")
    return str(stored[1]["calibration"]) if stored and set(poolings) <= set(stored[1]["poolings"]) else None


def calibrated(
    checkpoint: Checkpoint,
    poolings: tuple[str, ...],
    cache: Path,
    texts: Iterable[tuple[str, ...]] = (),
) -> Model:
    """The 8-bit model for `poolings`; calibrated the first time, on `texts` and the bundled sample.

    Raises UserError if it has to be calibrated and NNCF is not installed.
    """
    say_if_slow()
    name, computed = names_of(poolings)
    home = home_of(checkpoint, cache)
    return made_once(home, f"int8-{name}", computed, lambda: calibrate(checkpoint, poolings, cache, texts))


def forget(checkpoint: Checkpoint, poolings: tuple[str, ...], cache: Path) -> None:
    """Set the calibration for `poolings` aside, so that the next encoder is calibrated anew, on the texts it is given.

    Other texts make another calibration, and its vectors get a separate folder.
    """
    retire(home_of(checkpoint, cache), f"int8-{names_of(poolings)[0]}")


def calibrate(checkpoint: Checkpoint, poolings: tuple[str, ...], cache: Path, texts: Iterable[tuple[str, ...]]) -> Made:
    """Quantise the converted model on at least 300 texts: the model and the facts to keep beside it."""
    nncf = quiet_nncf()
    used = enough(texts)
    log.info(f"calibrating {checkpoint.name} for int8 on {len(used)} texts, once")
    file, facts = converted(checkpoint, poolings, cache)
    model = model_of(file)
    batches = _batches(checkpoint, cache, used)

    def fed(batch: TokenBatch) -> list[np.ndarray]:
        types = np.zeros_like(batch.ids) if batch.types is None else batch.types
        return [batch.ids, batch.mask, types][: len(model.inputs)]

    with _silence():
        small = nncf.quantize(
            model,
            nncf.Dataset(batches, fed),
            subset_size=len(batches),
            model_type=nncf.ModelType.TRANSFORMER,
            preset=nncf.QuantizationPreset.MIXED,
            fast_bias_correction=True,
        )
    cosine = _cosine(model_of(file), small, [fed(batch) for batch in _batches(checkpoint, cache, held_out(used))])
    log.info(f"{checkpoint.name}: int8 vectors have cosine {cosine:.4f} to float32 on average")
    name = digest_of(["calibration", FORMAT, checkpoint.digest, facts["poolings"], nncf.__version__, used])
    return Made(small, facts | {"calibration": name, "texts": len(used), "cosine": cosine})


def model_of(file: Path) -> Any:
    import openvino

    return openvino.Core().read_model(file)


def _cosine(exact: Any, small: Any, inputs: Sequence[Sequence[np.ndarray]]) -> float:
    """Mean cosine between the first pooling's vectors of two models."""
    import openvino

    core, both = openvino.Core(), []
    for model in (exact, small):
        compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32", "ENABLE_CPU_PINNING": False})
        both.append(np.concatenate([compiled(list(given))[0] for given in inputs]))
    first, second = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in both)
    return float((first * second).sum(1).mean())


def enough(texts: Iterable[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """300 of `texts`, topped up from the bundled sample.

    Raises UserError if both together are fewer.
    """
    used = list(islice((tuple(text) for text in texts if any(part.strip() for part in text)), TEXTS))
    used += bundled()[: TEXTS - len(used)]
    if len(used) < TEXTS:
        raise UserError(f"--precision int8: {len(used)} texts to calibrate on, {TEXTS} are needed; pass more texts")
    return used


def bundled() -> list[tuple[str, ...]]:
    """The texts of the bundled sample; none where it is not installed."""
    if not SAMPLE.exists():
        return []
    import pyarrow.parquet as parquet

    return [(text,) for text in parquet.read_table(SAMPLE, columns=["text"]).column("text").to_pylist()]


def held_out(used: Sequence[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Texts to judge a calibration by: of the sample, but not calibrated on; those themselves where there is none."""
    seen = set(used)
    return [text for text in bundled()[TEXTS:] if text not in seen][:HELD_OUT] or list(used[:HELD_OUT])


def _batches(checkpoint: Checkpoint, cache: Path, texts: Sequence[tuple[str, ...]]) -> list[TokenBatch]:
    return list(tokenizer(checkpoint, cache).encode(texts, min(CUT, checkpoint.max_length)).batches(1024))


def quiet_nncf() -> Any:
    """NNCF, which then neither reports its use over the network nor logs."""
    os.environ.setdefault("NNCF_CI", "1")  # its switch for that, read when it is imported
    with _silence():
        nncf = need("nncf", "int8")
        logging.getLogger("nncf").setLevel(logging.ERROR)
    return nncf


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Without NNCF's progress bars, which go to standard output, and its warnings."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield
