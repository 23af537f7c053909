import json
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from pipeline import UserError, hub
from pipeline.encoder.checkpoint import EncoderSpec, locate
from pipeline.hub import Answer, UnreachableError

COMMIT, NEWER = "a" * 40, "b" * 40


@pytest.fixture
def cache(tmp_path, monkeypatch, tiny_distilbert):
    """A made-up Hugging Face cache that holds owner/tiny; the Hub itself may be asked."""
    for name in hub.OFFLINE_NAMES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    keep(tmp_path / "hub", "owner/tiny", COMMIT, tiny_distilbert)
    return tmp_path / "hub"


def keep(cache: Path, name: str, commit: str, checkpoint: Path, ref: str = "main") -> Path:
    home = cache / f"models--{name.replace('/', '--')}"
    shutil.copytree(checkpoint, home / "snapshots" / commit)
    (home / "refs").mkdir(exist_ok=True)
    (home / "refs" / ref).write_text(commit)
    return home / "snapshots" / commit


def answering(monkeypatch, answer):
    asked = []

    def ask(name, revision):
        asked.append((name, revision))
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(hub, "ask", ask)
    return asked


FILES = ("README.md", "config.json", "model.safetensors", "onnx/model.onnx", "tokenizer.json", "tokenizer_config.json")


def test_a_cached_name_costs_one_request(cache, monkeypatch):
    asked = answering(monkeypatch, Answer(COMMIT, FILES))
    first, second = locate(EncoderSpec("owner/tiny")), locate(EncoderSpec("owner/tiny"))
    assert first.folder == cache / "models--owner--tiny" / "snapshots" / COMMIT
    assert second.folder == first.folder
    assert asked == [("owner/tiny", None)]  # once a process


def test_without_the_hub_the_cached_copy_serves(cache, monkeypatch, caplog):
    caplog.set_level("INFO", "pipeline")
    answering(monkeypatch, UnreachableError("no answer within 3 s"))
    assert locate(EncoderSpec("owner/tiny")).folder.name == COMMIT
    assert "the Hub cannot be reached" in caplog.text


@pytest.mark.parametrize("name", hub.OFFLINE_NAMES)
def test_offline_asks_nothing(cache, monkeypatch, name):
    asked = answering(monkeypatch, UnreachableError("never"))
    monkeypatch.setenv(name, "1")
    assert locate(EncoderSpec("owner/tiny")).folder.name == COMMIT
    with pytest.raises(UserError, match=r"owner/other: not in .*--encoder minilm .*local checkpoint folder"):
        locate(EncoderSpec("owner/other"))
    assert asked == []


def test_a_full_commit_never_moves_and_is_not_asked_for(cache, monkeypatch):
    asked = answering(monkeypatch, UnreachableError("never"))
    assert locate(EncoderSpec("owner/tiny", revision=COMMIT)).folder.name == COMMIT
    assert asked == []


def test_a_moved_tag_is_followed_and_changes_the_digest(cache, monkeypatch, tmp_path):
    from conftest import make_distilbert

    before = locate(EncoderSpec("owner/tiny", revision=COMMIT))
    moved = keep(cache, "owner/tiny", NEWER, make_distilbert(tmp_path / "other", seed=9), ref="elsewhere")
    answering(monkeypatch, Answer(NEWER, FILES))
    after = locate(EncoderSpec("owner/tiny"))
    assert after.folder == moved
    assert after.digest != before.digest
    assert (cache / "models--owner--tiny/refs/main").read_text() == NEWER  # found without the Hub next time


def test_only_what_an_encoder_is_made_of_is_downloaded(cache, monkeypatch):
    fetched = []

    def download(name, commit, files, folder):
        fetched.extend(files)
        return cache / "models--owner--tiny" / "snapshots" / COMMIT

    monkeypatch.setattr(hub, "download", download)
    others = ("pytorch_model.bin", "tf_model.h5", "modeling_own.py", "model-of-another.safetensors", "vocab.txt")
    answering(monkeypatch, Answer(NEWER, (*FILES, *others)))
    locate(EncoderSpec("owner/tiny"))
    assert sorted(fetched) == [
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "vocab.txt",
    ]


def test_weights_that_could_hold_code_are_refused_with_the_remedy(cache, monkeypatch):
    answering(monkeypatch, Answer(NEWER, ("config.json", "pytorch_model.bin", "tokenizer.json")))
    with pytest.raises(UserError, match=r"only pytorch_model.bin.*--revision.*safetensors.*save_pretrained"):
        locate(EncoderSpec("owner/tiny"))


def test_an_unreachable_hub_names_both_ways_out(cache, monkeypatch):
    answering(monkeypatch, UnreachableError("ConnectError"))
    with pytest.raises(UserError, match=r"owner/absent: the Hub cannot be reached.*--encoder minilm.*local"):
        locate(EncoderSpec("owner/absent"))


def test_a_hub_that_never_answers_is_given_up_in_time(cache, monkeypatch):
    monkeypatch.setattr(hub, "TIMEOUT", 0.1)
    silence, answered = threading.Event(), threading.Event()

    def ask(name, revision):
        silence.wait()
        answered.set()

    monkeypatch.setattr(hub, "ask", ask)
    with pytest.raises(UserError, match="cannot be reached"):
        locate(EncoderSpec("owner/absent"))
    assert not answered.is_set()  # it was still being asked
    silence.set()
    assert answered.wait(30)


def test_an_unknown_encoder_is_said_to_be_one(cache, monkeypatch):
    from huggingface_hub import HfApi
    from huggingface_hub.errors import RepositoryNotFoundError

    def model_info(self, *_, **__):
        raise RepositoryNotFoundError("404", response=SimpleNamespace(headers={}, request=None, status_code=404))

    monkeypatch.setattr(HfApi, "model_info", model_info)
    with pytest.raises(UserError, match="owner/absent: the Hub knows no such model"):
        locate(EncoderSpec("owner/absent"))


def test_any_trouble_with_the_connection_means_unreachable(cache, monkeypatch):
    from huggingface_hub import HfApi

    calls = []

    def model_info(self, *_, timeout=None, **__):
        calls.append(timeout)
        raise ConnectionResetError("gone")

    monkeypatch.setattr(HfApi, "model_info", model_info)
    assert locate(EncoderSpec("owner/tiny")).folder.name == COMMIT
    assert calls == [3.0]  # one request, no retry


def test_the_name_from_before_owners_is_found_under_its_new_one(cache, monkeypatch, tiny_distilbert):
    answering(monkeypatch, UnreachableError("never"))
    keep(cache, "distilbert/distilbert-base-uncased", NEWER, tiny_distilbert)
    assert locate(EncoderSpec()).folder.name == NEWER


def test_an_incomplete_snapshot_is_no_snapshot(cache, monkeypatch):
    (cache / "models--owner--tiny" / "snapshots" / COMMIT / "model.safetensors").unlink()
    answering(monkeypatch, UnreachableError("ConnectError"))
    with pytest.raises(UserError, match="cannot be reached"):
        locate(EncoderSpec("owner/tiny"))


def test_a_name_that_could_not_be_one_is_not_asked_for(cache, monkeypatch):
    asked = answering(monkeypatch, UnreachableError("never"))
    with pytest.raises(UserError, match="no such folder, and not a name"):
        locate(EncoderSpec("what is this"))
    assert asked == []


def test_weights_in_several_files(tmp_path):
    for part in ("model-1.safetensors", "model-2.safetensors"):
        (tmp_path / part).write_bytes(b"x")
    index = {"weight_map": {"a": "model-2.safetensors", "b": "model-1.safetensors", "c": "model-2.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    assert [file.name for file in hub.weights(tmp_path)] == ["model-1.safetensors", "model-2.safetensors"]
    (tmp_path / "model-1.safetensors").unlink()
    assert hub.weights(tmp_path) == []


def test_a_cached_encoder_is_located_without_network_and_without_torch(cache, monkeypatch):
    code = (
        "import socket, sys; socket.socket = socket.getaddrinfo = None;"  # whoever uses either fails
        "from pipeline.encoder.checkpoint import *; from pipeline.encoder.tokens import tokenizer;"
        "tokenizer(locate(EncoderSpec('owner/tiny'))).encode([('some text',)]);"
        "print([name for name in ('torch', 'transformers', 'sklearn', 'datasets') if name in sys.modules])"
    )
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[1])
    assert done.stdout.strip() == "[]", done.stderr
