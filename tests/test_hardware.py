import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pipeline import UserError
from pipeline.encoder import hardware
from pipeline.encoder.hardware import Hardware, cgroup_quota, choose_backend, cores, cpu_bf16, cpu_flags

PLAIN = Hardware(cores=2, cpu_bf16=False, cuda=None, mps=False)
BF16 = Hardware(cores=2, cpu_bf16=True, cuda=None, mps=False)
AMPERE = Hardware(cores=2, cpu_bf16=True, cuda=(8, 0), mps=False)
TURING = Hardware(cores=2, cpu_bf16=True, cuda=(7, 5), mps=False)
APPLE = Hardware(cores=2, cpu_bf16=False, cuda=None, mps=True)


@pytest.fixture(autouse=True)
def whole_installation(monkeypatch):
    """As if torch were built for CUDA and OpenVINO installed, wherever this runs."""
    monkeypatch.setattr(hardware, "torch_has_cuda", lambda: True)
    monkeypatch.setattr(hardware, "has_openvino", lambda: True)


@pytest.mark.parametrize(
    ("machine", "chosen"),
    [
        (PLAIN, ("openvino", "fp32", "cpu")),
        (BF16, ("openvino", "bf16", "cpu")),
        (AMPERE, ("torch", "bf16", "cuda")),
        (TURING, ("torch", "fp16", "cuda")),
        (APPLE, ("torch", "fp16", "mps")),
    ],
)
def test_auto_follows_the_hardware(machine, chosen):
    found = choose_backend(machine=machine)
    assert (found.engine, found.precision, found.device) == chosen
    assert found.reason


def test_a_wish_is_a_wish():
    assert choose_backend("torch", "fp32", "cpu", AMPERE).device == "cpu"
    assert choose_backend("openvino", machine=AMPERE).device == "cpu"
    int8 = choose_backend(precision="int8", machine=AMPERE)
    assert (int8.engine, int8.device) == ("openvino", "cpu")
    assert choose_backend(device="cuda:1", machine=AMPERE).device == "cuda:1"
    assert choose_backend(precision="bf16", machine=PLAIN).precision == "bf16"  # slow, but asked for


def test_a_torch_for_the_cpu_uses_no_gpu(monkeypatch):
    monkeypatch.setattr(hardware, "torch_has_cuda", lambda: False)
    assert choose_backend(machine=AMPERE).device == "cpu"


def test_without_openvino_torch_does_it(monkeypatch):
    monkeypatch.setattr(hardware, "has_openvino", lambda: False)
    assert choose_backend(machine=PLAIN).engine == "torch"
    with pytest.raises(UserError, match="--engine openvino: not installed"):
        choose_backend("openvino", machine=PLAIN)


@pytest.mark.parametrize(
    ("wish", "message"),
    [
        (("auto", "fp16", "cpu"), "fp16: a CPU multiplies float16 many times slower"),
        (("torch", "int8", "cpu"), "the torch engine has no int8 on cpu; pass --engine openvino"),
        (("torch", "int8", "cuda"), "the torch engine has no int8 on cuda; pass one of fp32, bf16, fp16"),
        (("openvino", "auto", "cuda"), "no device for the openvino engine 'cuda'; choose one of cpu"),
        (("onnx", "auto", "auto"), "no engine 'onnx'; choose one of torch, openvino"),
        (("auto", "fp64", "auto"), "no precision 'fp64'; choose one of fp32, bf16, fp16, int8"),
        (("auto", "auto", "tpu"), "no device for the torch engine 'tpu'"),
    ],
)
def test_what_cannot_run_is_refused_with_the_reason(wish, message):
    with pytest.raises(UserError, match=message):
        choose_backend(*wish, machine=PLAIN)


def cpuinfo(tmp_path: Path, flags: str, vendor: str = "GenuineIntel") -> Path:
    file = tmp_path / "cpuinfo"
    file.write_text(f"processor\t: 0\nvendor_id\t: {vendor}\nflags\t\t: fpu sse {flags}\n\nprocessor\t: 1\n")
    return file


@pytest.mark.parametrize(
    ("flags", "gain", "pays"),
    [
        ("avx2 avx512f", 9.0, False),  # without the flag nothing is measured
        ("avx512_bf16 amx_tile amx_bf16", 0.5, True),
        ("avx512_bf16", 1.9, True),
        ("avx512_bf16", 0.52, False),  # the flag alone is not enough
    ],
)
def test_bfloat16_is_used_where_it_pays(tmp_path, monkeypatch, flags, gain, pays):
    monkeypatch.setattr(hardware, "bf16_gain", lambda: gain)
    assert cpu_bf16(cpuinfo(tmp_path, flags)) is pays


def test_where_nothing_can_be_measured_the_maker_decides(tmp_path, monkeypatch):
    monkeypatch.setattr(hardware, "bf16_gain", lambda: None)
    assert cpu_bf16(cpuinfo(tmp_path, "avx512_bf16", "AuthenticAMD"))
    assert not cpu_bf16(cpuinfo(tmp_path, "avx512_bf16", "GenuineIntel"))


def test_flags_are_read_off_the_system(tmp_path):
    assert {"fpu", "sse", "avx2"} <= cpu_flags(cpuinfo(tmp_path, "avx2"))


def test_the_gain_is_a_measured_ratio(monkeypatch):
    pytest.importorskip("openvino", reason="openvino is not installed")
    float32, bfloat16 = [9.0, 0.5, 0.3, 0.4, 0.3, 0.3], [7.0, 0.2, 0.1, 0.2, 0.15, 0.1]  # seconds, the first ones cold
    clock = iter([0.0, *np.cumsum([seconds for spent in float32 + bfloat16 for seconds in (spent, 1.0)])])
    monkeypatch.setattr(hardware.time, "process_time", lambda: next(clock))
    assert hardware.bf16_gain.__wrapped__() == pytest.approx(3.0)


@pytest.mark.parametrize(("text", "quota"), [("max 100000", None), ("150000 100000", 1.5), ("", None)])
def test_a_containers_quota(tmp_path, text, quota):
    (tmp_path / "cpu.max").write_text(text)
    assert cgroup_quota(tmp_path) == quota


def test_a_containers_quota_of_the_older_kind(tmp_path):
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu/cpu.cfs_quota_us").write_text("-1")
    (tmp_path / "cpu/cpu.cfs_period_us").write_text("100000")
    assert cgroup_quota(tmp_path) is None
    (tmp_path / "cpu/cpu.cfs_quota_us").write_text("400000")
    assert cgroup_quota(tmp_path) == 4
    assert cgroup_quota(tmp_path / "absent") is None


def test_two_processors_of_one_core_count_once(tmp_path, monkeypatch):
    monkeypatch.setattr(hardware, "processors", lambda: list(range(8)))
    monkeypatch.setattr(hardware, "cgroup_quota", lambda: None)
    for number in range(8):
        folder = tmp_path / f"cpu{number}/topology"
        folder.mkdir(parents=True)
        (folder / "thread_siblings_list").write_text(f"{number % 4},{number % 4 + 4}\n")
    assert cores(tmp_path) == 4
    assert cores(tmp_path / "absent") == 8  # where the system does not say
    monkeypatch.setattr(hardware, "cgroup_quota", lambda: 2.0)
    assert cores(tmp_path) == 2
    monkeypatch.setattr(hardware, "cgroup_quota", lambda: 0.2)
    assert cores(tmp_path) == 1


def test_no_gpu_where_none_is_visible(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert hardware.cuda_capability() is None


def test_the_machine_is_asked_without_torch():
    code = "import sys; from pipeline.encoder.hardware import *; choose_backend(); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[1])
    assert done.stdout.strip() == "False", done.stderr


def test_the_gain_is_measured_once(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(hardware, "bf16_gain", lambda: asked.append(1) or 1.5)
    monkeypatch.setattr(hardware.importlib.util, "find_spec", lambda name: type("Spec", (), {"origin": __file__}))
    home = tmp_path / "home"
    assert [hardware.kept_gain(cpuinfo(tmp_path, "avx512_bf16"), home) for _ in range(3)] == [1.5] * 3
    assert len(asked) == 1
    assert hardware.kept_gain(cpuinfo(tmp_path, "avx512_bf16 avx512_vnni"), home) == 1.5  # another processor
    assert len(asked) == 2
    for file in home.iterdir():
        file.write_text('{"gain": "fast"}')
    assert hardware.kept_gain(cpuinfo(tmp_path, "avx512_bf16"), home) == 1.5
    assert len(asked) == 3
    (tmp_path / "full").write_text("no folder")
    assert hardware.kept_gain(cpuinfo(tmp_path, "avx512_bf16"), tmp_path / "full") == 1.5  # nothing can be kept
