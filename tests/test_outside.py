"""What comes from outside is data: no code of a checkpoint runs, nothing reports anywhere, no weight is made up."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from pipeline import UserError
from pipeline.encoder import EncoderSpec, locate
from pipeline.encoder.graph import load_model
from pipeline.encoder.opener import refuse_code
from pipeline.finetune.heads import HeadSpec, build

ROOT = Path(__file__).parent.parent
GUARD = """
import os, socket, sys
def refuse(*address, **_):
    with open(os.environ["GUARD_LOG"], "a") as log:
        log.write(repr(address) + "\\n")
    raise OSError("no network here")
socket.getaddrinfo = refuse
_connect = socket.socket.connect
def connect(self, address):
    return _connect(self, address) if self.family == socket.AF_UNIX else refuse(address)
socket.socket.connect = connect
"""


def copied(source: Path, target: Path, **config) -> Path:
    """A copy of a checkpoint with some fields of its config changed."""
    shutil.copytree(source, target)
    file = target / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text("utf-8")) | config), "utf-8")
    return target


def reweighted(folder: Path, change) -> Path:
    """The same folder with its tensors replaced by `change(tensors)`."""
    file = folder / "model.safetensors"
    save_file(change(load_file(file)), file, {"format": "pt"})
    return folder


def test_the_opener_is_the_only_way_in():
    calls = {
        str(file.relative_to(ROOT)): len(re.findall(r"\.from_pretrained\(|AutoModel\w*\.from_|trust_remote_code", text))
        for file in [ROOT / "cli.py", *(ROOT / "pipeline").rglob("*.py")]
        if (text := re.sub(r"\"\"\".*?\"\"\"|f?\"[^\"\n]*\"", "", file.read_text("utf-8"), flags=re.S))
    }
    assert {name: count for name, count in calls.items() if count} == {
        "pipeline/encoder/opener.py": 2,
        "pipeline/finetune/heads.py": 1,  # from_config: random weights of a known architecture
    }


@pytest.mark.parametrize(
    ("file", "record"),
    [
        ("config.json", {"auto_map": {"AutoModel": "own.Model"}}),
        ("config.json", {"text_config": {"auto_map": {"AutoModel": "own.Model"}}}),
        ("tokenizer_config.json", {"auto_map": {"AutoTokenizer": ["own.Tokenizer", None]}}),
        ("processor_config.json", {"auto_map": {"AutoProcessor": "own.Processor"}}),
        ("config.4.0.0.json", {"auto_map": {"AutoModel": "own.Model"}}),
        ("config.json", {"configuration_files": ["config.4.0.0.json"]}),
        ("tokenizer_config.json", {"fast_tokenizer_files": ["tokenizer.4.0.0.json"]}),
        ("config.json", {"custom_pipelines": {"x": {"impl": "own.Pipeline"}}}),
    ],
)
def test_a_record_that_asks_for_code_or_another_file_is_refused_by_name(file, record, tiny_distilbert, tmp_path):
    folder = copied(tiny_distilbert, tmp_path / "encoder")
    path = folder / file
    given = json.loads(path.read_text("utf-8")) if path.exists() else {}
    path.write_text(json.dumps(given | record), "utf-8")
    key = "auto_map" if "auto_map" in json.dumps(record) else next(iter(record))
    with pytest.raises(UserError, match=f"{re.escape(file)} names '{key}'"):
        locate(EncoderSpec(str(folder)))


def test_an_adapter_beside_the_encoder_and_a_deep_record_are_refused(tiny_distilbert, tmp_path):
    folder = copied(tiny_distilbert, tmp_path / "encoder")
    (folder / "deep.json").write_text("[" * 100_000 + "]" * 100_000, "utf-8")
    with pytest.raises(UserError, match=r"deep.json is nested too deeply"):
        refuse_code(folder, "x")
    (folder / "deep.json").unlink()
    os.mkfifo(folder / "pipe.json")
    with pytest.raises(UserError, match=r"pipe.json is a pipe or a device"):
        refuse_code(folder, "x")
    (folder / "pipe.json").unlink()
    (folder / "adapter_config.json").write_text("{}", "utf-8")
    with pytest.raises(UserError, match="an adapter lies beside the encoder"):
        locate(EncoderSpec(str(folder)))


HOOK = "import os; open(os.environ['PWNED'], 'w').write('x')\n"
COLUMNS = ["--text", "body", "--label", "verdict"]
COMMANDS = ["explore", "extract", "doctor", "compare", "audit", "fit-lr", "fine-tune"]


def planted(folder: Path) -> Path:
    """A checkpoint without a tokenizer.json whose model type is its own, with code beside it."""
    (folder / "own.py").write_text(HOOK, "utf-8")
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\n", "utf-8")
    for name, auto in (("config.json", "AutoModel"), ("tokenizer_config.json", "AutoTokenizer")):
        file = folder / name
        given = json.loads(file.read_text("utf-8")) if file.exists() else {}
        file.write_text(json.dumps(given | {"auto_map": {auto: "own.Thing"}}), "utf-8")
    return folder


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "vocab.txt"])
def test_a_pipe_or_a_device_in_a_checkpoint_is_refused_at_once(name, tiny_distilbert, tmp_path):
    folder = shutil.copytree(tiny_distilbert, tmp_path / "encoder")
    (folder / name).unlink(missing_ok=True)
    os.mkfifo(folder / name)
    with pytest.raises(UserError, match=f"{name} is a pipe or a device, not a file"):
        locate(EncoderSpec(str(folder)))
    (folder / name).unlink()
    (folder / name).symlink_to("/dev/zero")
    with pytest.raises(UserError, match=f"{name} is a pipe or a device, not a file"):
        locate(EncoderSpec(str(folder)))


@pytest.mark.parametrize("command", COMMANDS)
def test_planted_code_stays_inert_whatever_standard_input_answers(command, tiny_distilbert, tmp_path, reviews):
    evil = planted(copied(tiny_distilbert, tmp_path / "sdpa", model_type="evil"))
    places = ["--cache", str(tmp_path / "c"), *(["--runs", str(tmp_path / "r")] if command in COMMANDS[3:] else [])]
    done = subprocess.run(
        [sys.executable, str(ROOT / "cli.py"), command, str(reviews), *COLUMNS, "--encoder", str(evil), *places],
        input="y\n1\ny\n", capture_output=True, text=True, timeout=120,
        env=os.environ | {"PWNED": str(tmp_path / "pwned"), "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert not (tmp_path / "pwned").exists()
    assert done.returncode == (0 if command == "doctor" else 1)  # doctor reports what is wrong
    assert "names 'auto_map'" in done.stderr + done.stdout
    assert "Traceback" not in done.stderr


def test_nothing_is_reported_and_nothing_written_below_the_home_folder(tiny_distilbert, tmp_path, reviews):
    (tmp_path / "guard").mkdir()
    (tmp_path / "guard" / "sitecustomize.py").write_text(GUARD, "utf-8")
    (tmp_path / "home").mkdir()
    environment = {
        key: value for key, value in os.environ.items() if key not in ("XDG_CACHE_HOME", "HF_HOME", "CI")
    } | {
        "HOME": str(tmp_path / "home"),
        "GUARD_LOG": str(tmp_path / "log"),
        "PYTHONPATH": f"{tmp_path / 'guard'}:{ROOT}",
    }
    options = ["--encoder", str(tiny_distilbert), "--cache", str(tmp_path / "c"), "--runs", str(tmp_path / "r")]
    subprocess.run(
        [sys.executable, str(ROOT / "cli.py"), "fit-lr", str(reviews), *COLUMNS, *options, "--engine", "openvino"],
        env=environment, check=True, capture_output=True, timeout=120,
    )  # fmt: skip
    assert not (tmp_path / "log").exists()
    assert not [file for file in (tmp_path / "home").rglob("*") if "probe-or-tune" not in str(file) and file.is_file()]


# ── weights ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def layer(name: str) -> bool:
    return "layer.1." in name and name.endswith("lin1.weight")


@pytest.mark.parametrize(
    "change",
    [
        lambda tensors: {name: value for name, value in tensors.items() if not layer(name)},
        lambda tensors: {name: value[:-1].copy() if layer(name) else value for name, value in tensors.items()},
        lambda tensors: {f"whatever.{name}": value for name, value in tensors.items()},
    ],
)
def test_weights_that_would_be_drawn_at_random_are_refused_by_name(change, tiny_distilbert, tmp_path):
    folder = reweighted(copied(tiny_distilbert, tmp_path / "encoder"), change)
    with pytest.raises(UserError, match=r"weights that its config needs are missing or of another shape"):
        load_model(locate(EncoderSpec(str(folder))))
    with pytest.raises(UserError, match=r"weights that its config needs are missing or of another shape"):
        build(locate(EncoderSpec(str(folder))), ("a", "b"), HeadSpec(), 0)


@pytest.mark.parametrize("prefix", ["_orig_mod.", "module.", "module._orig_mod."])
def test_a_wrapper_before_every_name_is_taken_off(prefix, tiny_distilbert, tmp_path):
    expected = load_model(locate(EncoderSpec(str(tiny_distilbert)))).state_dict()
    folder = reweighted(
        copied(tiny_distilbert, tmp_path / "encoder"),
        lambda tensors: {f"{prefix}{name}": value for name, value in tensors.items()},
    )
    got = load_model(locate(EncoderSpec(str(folder)))).state_dict()
    assert all(np.array_equal(got[name].numpy(), value.numpy()) for name, value in expected.items())


@pytest.mark.parametrize("classes", [2, 3])
def test_a_strangers_head_is_never_started_from(classes, tiny_distilbert, tmp_path):
    names = tuple(f"class {i}" for i in range(2))
    fresh = build(locate(EncoderSpec(str(tiny_distilbert))), names, HeadSpec(), 7).state_dict()
    folder = copied(tiny_distilbert, tmp_path / "encoder", num_labels=classes)

    def headed(tensors):
        return tensors | {
            "classifier.weight": np.full((classes, 32), 5, np.float32),
            "classifier.bias": np.full(classes, 5, np.float32),
            "pre_classifier.weight": np.full((32, 32), 5, np.float32),
            "pre_classifier.bias": np.full(32, 5, np.float32),
        }

    got = build(locate(EncoderSpec(str(reweighted(folder, headed)))), names, HeadSpec(), 7).state_dict()
    assert all(np.array_equal(got[name].numpy(), value.numpy()) for name, value in fresh.items())


def test_a_shard_outside_of_the_folder_is_no_weight(tiny_distilbert, tmp_path):
    folder = copied(tiny_distilbert, tmp_path / "encoder")
    shutil.move(folder / "model.safetensors", tmp_path / "elsewhere.safetensors")
    names = dict.fromkeys(load_file(tmp_path / "elsewhere.safetensors"), "../elsewhere.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}), "utf-8")
    with pytest.raises(UserError, match="safetensors"):
        locate(EncoderSpec(str(folder)))
