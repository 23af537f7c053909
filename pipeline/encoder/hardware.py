"""What this machine can do, asked without importing torch: processors, their instructions, GPUs.

`auto` chooses by this and never by guessing: bfloat16 on a processor that lacks it is slower than float32.
"""

from __future__ import annotations

import contextlib
import ctypes
import ctypes.util
import hashlib
import importlib.util
import json
import os
import platform
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from .. import UserError, choose
from ..files import publish, user_folder

CPUINFO = Path("/proc/cpuinfo")
BF16_FLAGS = ("avx512_bf16", "amx_bf16")
WORTH = 1.15  # gain over float32 below which bfloat16 is not chosen
AMPERE = (8, 0)  # the first CUDA capability with bfloat16


@dataclass(frozen=True)
class Hardware:
    """The devices that an encoder could run on."""

    cores: int  # that this process may use; two processors of one core count once
    cpu_bf16: bool  # bfloat16 matrix products that are native and pay
    cuda: tuple[int, int] | None  # compute capability of the first GPU, as the driver says; None: no GPU
    mps: bool  # Apple's GPU


@dataclass(frozen=True)
class Backend:
    """Where and how to encode, and why: three rows of three tables."""

    engine: str
    precision: str
    device: str
    reason: str


@lru_cache(maxsize=1)
def hardware() -> Hardware:
    """This machine."""
    apple = platform.system() == "Darwin" and platform.machine() == "arm64"
    return Hardware(cores(), cpu_bf16(), cuda_capability(), apple)


# ── the processor ───────────────────────────────────────────────────────────────────────────────────────────────────


class _Stack(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))


@contextlib.contextmanager
def signal_stack_kept() -> Iterator[None]:
    """Undo what OpenVINO's CPU plugin does to the thread that loads it: it makes signals run on a stack so small that
    the interpreter's handler does not fit, and Ctrl-C ends in a segmentation fault."""
    if platform.system() != "Linux":
        yield
        return
    library, before = ctypes.CDLL(None), _Stack()
    library.sigaltstack(None, ctypes.byref(before))
    try:
        yield
    finally:
        library.sigaltstack(ctypes.byref(before), None)


def processors() -> list[int]:
    """Numbers of the processors that this process may use."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))


def cores(system: Path = Path("/sys/devices/system/cpu")) -> int:
    """Cores that this process may use: of its affinity, or of its container's quota if that is less.

    Two processors that share a core also share what multiplies matrices.
    """
    siblings = []
    for number in processors():
        try:
            siblings.append((system / f"cpu{number}/topology/thread_siblings_list").read_text().strip())
        except OSError:
            siblings.append(str(number))
    quota = cgroup_quota()
    return max(1, min(len(set(siblings)), round(quota)) if quota else len(set(siblings)))


def cgroup_quota(root: Path = Path("/sys/fs/cgroup")) -> float | None:
    """Processors' worth of time that a container may use, or None if it has no limit (control groups 2, then 1)."""
    try:
        if (root / "cpu.max").exists():
            quota, period = (root / "cpu.max").read_text().split()[:2]
        else:
            quota = (root / "cpu/cpu.cfs_quota_us").read_text()
            period = (root / "cpu/cpu.cfs_period_us").read_text()
        return float(quota) / float(period) if float(quota) > 0 else None
    except (OSError, ValueError):  # 'max' is no number: no limit
        return None


def cpu_bf16(cpuinfo: Path = CPUINFO) -> bool:
    """Whether bfloat16 matrix products pay on this processor: it has them, and they are measurably faster.

    The flag alone is not enough: a virtual machine may hide the matrix unit (AMX) of a processor whose vector
    instructions for bfloat16 run at half the speed of float32.
    """
    flags = cpu_flags(cpuinfo)
    if not any(flag in flags for flag in BF16_FLAGS):
        return False
    if any(flag.startswith("amx_") for flag in flags):
        return True
    gain = kept_gain(cpuinfo) if cpuinfo == CPUINFO else bf16_gain()
    return gain > WORTH if gain is not None else "AuthenticAMD" in _first_line(cpuinfo, "vendor_id")


@signal_stack_kept()
def cpu_flags(cpuinfo: Path = Path("/proc/cpuinfo")) -> frozenset[str]:
    """The processor's instructions, as Linux names them; where there is no such list, what OpenVINO says."""
    if cpuinfo.exists():
        return frozenset((_first_line(cpuinfo, "flags") or _first_line(cpuinfo, "Features")).split())
    if platform.system() == "Darwin" or not has_openvino():
        return frozenset()
    import openvino

    able = openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return frozenset({"avx512_bf16"} if "BF16" in able else ())


def _first_line(cpuinfo: Path, key: str) -> str:
    try:
        lines = cpuinfo.read_text("utf-8", "replace").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(key)), "")


@lru_cache(maxsize=1)
@signal_stack_kept()
def bf16_gain() -> float | None:
    """How many times as fast as in float32 this processor multiplies matrices in bfloat16; None without OpenVINO.

    About 0.2 s, once a process. Time of the processor is measured rather than of the wall, so that a busy machine
    answers the same.
    """
    if not has_openvino():
        return None
    import numpy as np
    import openvino
    from openvino import opset13 as ops

    given = np.ones((256, 768), np.float32)
    spent = {}
    for hint in ("f32", "bf16"):
        array = ops.parameter(given.shape, np.float32)
        product = ops.matmul(array, ops.constant(np.full((768, 3072), 1e-3, np.float32)), False, False)
        config = {"INFERENCE_PRECISION_HINT": hint, "INFERENCE_NUM_THREADS": 1, "ENABLE_CPU_PINNING": False}
        request = (
            openvino.Core().compile_model(openvino.Model([product], [array]), "CPU", config).create_infer_request()
        )
        times = []
        for _ in range(6):
            started = time.process_time()
            request.infer([given])
            times.append(time.process_time() - started)
        spent[hint] = min(times)
    return spent["f32"] / max(spent["bf16"], 1e-9)


def kept_gain(cpuinfo: Path, home: Path | None = None) -> float | None:
    """`bf16_gain`, measured once a processor and installed OpenVINO and then remembered in the user's cache folder.

    A process that encodes one text would spend more time on measuring than on the text.
    """
    package = importlib.util.find_spec("openvino")
    if package is None or not package.origin:
        return bf16_gain()
    identity = [cpu_name(), sorted(cpu_flags(cpuinfo)), os.stat(package.origin).st_mtime]
    name = hashlib.blake2b(json.dumps(identity).encode(), digest_size=8).hexdigest()
    home = home or user_folder()
    file = home / f"bf16-{name}.json"
    try:
        gain = json.loads(file.read_text("utf-8"))["gain"]
        if isinstance(gain, float) and gain > 0:
            return gain
    except (OSError, ValueError, KeyError, TypeError):
        pass  # never measured here, or no number: measured now
    gain = bf16_gain()
    with contextlib.suppress(OSError):  # where nothing can be stored, it is measured each time
        home.mkdir(parents=True, exist_ok=True)
        publish(file, json.dumps({"gain": gain}).encode())
    return gain


def cpu_name() -> str:
    """The processor's name, for people."""
    return _first_line(Path("/proc/cpuinfo"), "model name") or platform.processor() or platform.machine()


# ── GPUs ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def cuda_capability() -> tuple[int, int] | None:
    """Compute capability of the first CUDA GPU that this process may use, asked of the driver; None without one."""
    if os.environ.get("CUDA_VISIBLE_DEVICES", "all").strip() in ("", "-1"):
        return None
    library = _cuda_library()
    if library is None:
        return None
    try:
        device, major, minor = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
        answers = (
            library.cuInit(0),
            library.cuDeviceGet(ctypes.byref(device), 0),
            library.cuDeviceGetAttribute(ctypes.byref(major), 75, device),  # ..._COMPUTE_CAPABILITY_MAJOR
            library.cuDeviceGetAttribute(ctypes.byref(minor), 76, device),  # ..._COMPUTE_CAPABILITY_MINOR
        )
    except (OSError, AttributeError):
        return None
    return (major.value, minor.value) if not any(answers) else None


def _cuda_library() -> ctypes.CDLL | None:
    for name in ("libcuda.so.1", "nvcuda.dll", ctypes.util.find_library("cuda") if os.name == "posix" else None):
        try:
            if name:
                return ctypes.CDLL(name)
        except OSError:
            continue
    return None


@lru_cache(maxsize=1)
def torch_has_cuda() -> bool:
    """Whether the installed torch is built for CUDA, read off its files; a CPU build cannot use any GPU."""
    package = importlib.util.find_spec("torch")
    for place in (package.submodule_search_locations or ()) if package else ():
        try:
            text = (Path(place) / "version.py").read_text("utf-8")
        except OSError:
            continue
        line = next((line for line in text.splitlines() if line.startswith("cuda")), "")
        return "None" not in line and "=" in line
    return False


def gpu_name() -> str | None:
    """The first GPU's name, for people, from the driver's tool."""
    try:
        call = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
        return subprocess.run(call, capture_output=True, text=True, timeout=5).stdout.strip().splitlines()[0]
    except (OSError, subprocess.SubprocessError, IndexError):
        return None


# ── the choice ──────────────────────────────────────────────────────────────────────────────────────────────────────


def has_openvino() -> bool:
    return importlib.util.find_spec("openvino") is not None


PRECISIONS: dict[str, str] = {  # name → what it is
    "fp32": "float32, the reference",
    "bf16": "bfloat16",
    "fp16": "float16, on GPUs",
    "int8": "8-bit integers, calibrated once a checkpoint (OpenVINO)",
}
RUNS: dict[str, dict[str, tuple[str, ...]]] = {  # engine → device → precisions
    "torch": {
        "cpu": ("fp32", "bf16"),
        "cuda": ("fp32", "bf16", "fp16"),
        "mps": ("fp32", "bf16", "fp16"),
    },
    "openvino": {"cpu": ("fp32", "bf16", "int8")},
}


def auto_device(machine: Hardware) -> str:
    if machine.cuda and torch_has_cuda():
        return "cuda"
    return "mps" if machine.mps else "cpu"


def auto_precision(device: str, machine: Hardware) -> tuple[str, str]:
    """The fastest precision that moves no vector by more than its last bits, and the reason for it."""
    if device == "cuda":
        if machine.cuda is None or machine.cuda >= AMPERE:
            return "bf16", "the GPU has bfloat16"
        return "fp16", f"the GPU (capability {machine.cuda[0]}.{machine.cuda[1]}) has no bfloat16"
    if device == "mps":
        return "fp16", "Apple's GPU is fastest in float16"
    if machine.cpu_bf16:
        return "bf16", "the processor has bfloat16, and it pays"
    return "fp32", "bfloat16 is missing or slower on this processor"


def choose_backend(
    engine: str = "auto", precision: str = "auto", device: str = "auto", machine: Hardware | None = None
) -> Backend:
    """What `auto` stands for on this machine, and whether the rest goes together.

    Raises UserError for a combination that cannot run, with the reason.
    """
    machine = machine or hardware()
    if device == "auto":
        device = "cpu" if engine == "openvino" or precision == "int8" else auto_device(machine)
    kind = device.partition(":")[0]
    if engine == "auto":
        engine = "openvino" if precision == "int8" or (kind == "cpu" and has_openvino()) else "torch"
    choose(RUNS, engine, "engine")
    choose(RUNS[engine], kind, f"device for the {engine} engine")
    reason = "as asked"
    if precision == "auto":
        precision, reason = auto_precision(kind, machine)
    choose(PRECISIONS, precision, "precision")
    if precision == "fp16" and kind == "cpu":
        raise UserError("--precision fp16: a CPU multiplies float16 many times slower than float32; pass fp32 or bf16")
    if precision not in RUNS[engine][kind]:
        able = [name for name, devices in RUNS.items() if precision in devices.get(kind, ())]
        hint = f"--engine {able[0]}" if able else f"one of {', '.join(RUNS[engine][kind])}"
        raise UserError(f"--precision {precision}: the {engine} engine has no {precision} on {kind}; pass {hint}")
    if engine == "openvino" and not has_openvino():
        raise UserError("--engine openvino: not installed; pip install openvino, or pass --engine torch")
    return Backend(engine, precision, device, reason)
