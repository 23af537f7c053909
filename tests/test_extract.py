"""Stage one end to end: tiny encoders, real store, real threads."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from pipeline import UserError, silent
from pipeline.data import SourceOptions, read
from pipeline.encoder import EncoderSpec, Runtime, choose_backend, locate
from pipeline.extract import Extractor, embed, extract_source
from pipeline.extract.extractor import Commits
from pipeline.store import text_keys

ROOT = Path(__file__).parent.parent
FAST = Runtime(shard_rows=64)


def texts(count, seed=0):
    random = np.random.default_rng(seed)
    words = ["the", "film", "was", "boring", "happy", "call", "now", "free", "prize", "people", "want"]
    return [(" ".join(random.choice(words, random.integers(1, 30))) + f" {i}",) for i in range(count)]


def vectors(tiny, rows, cache, **spec):
    """Vectors of rows in their own order, and what it took."""
    wish = EncoderSpec(str(tiny), **({"precision": "fp32"} | spec))
    extractor = Extractor(locate(wish), wish, FAST, cache, silent, text_keys(rows))
    done = extractor.run([rows], len(rows))
    return extractor.embedding_cache.serve(text_keys(rows), wish.pooling[0]).vectors, done


def test_vectors_come_in_the_callers_order_whatever_the_engine(tiny_distilbert, tmp_path):
    rows = texts(300)
    fast, _ = vectors(tiny_distilbert, rows, tmp_path, engine="openvino")
    reference, _ = vectors(tiny_distilbert, rows, tmp_path, engine="torch")
    assert fast.shape == (300, 32)
    np.testing.assert_allclose(fast, reference, atol=1e-5)
    assert len(np.unique(reference.round(4), axis=0)) == 300


def test_what_another_machine_made_is_read_and_what_is_missing_is_made_as_here(tiny_distilbert, tmp_path, monkeypatch):
    monkeypatch.setattr("pipeline.extract.extractor.WINDOW", 64)
    rows = texts(128)
    vectors(tiny_distilbert, rows[:64], tmp_path, engine="torch")  # as a machine without OpenVINO would
    wish = EncoderSpec(str(tiny_distilbert), precision="fp32")
    here = choose_backend("auto", "fp32", "cpu").engine
    extractor = Extractor(locate(wish), wish, Runtime(device="cpu"), tmp_path)
    done = extractor.run([rows], len(rows))
    assert extractor.encoder.backend.engine == here
    assert (done.rows, done.unique, done.encoded, done.from_cache) == (128, 128, 128, 0)  # all in one folder
    _, later = vectors(tiny_distilbert, rows, tmp_path)  # as a fit does, which knows all its texts
    assert later.encoded == 0


def test_the_same_text_is_encoded_once_and_counted_twice(tiny_distilbert, tmp_path):
    rows = [*texts(50), *texts(50), ("",), ("",)]
    matrix, done = vectors(tiny_distilbert, rows, tmp_path, engine="torch")
    assert (done.rows, done.unique, done.encoded) == (102, 51, 51)
    np.testing.assert_array_equal(matrix[:50], matrix[50:100])
    np.testing.assert_array_equal(matrix[100], matrix[101])


def test_a_second_run_encodes_only_what_is_new(tiny_distilbert, tmp_path):
    before, _ = vectors(tiny_distilbert, texts(100), tmp_path, engine="torch")
    after, done = vectors(tiny_distilbert, [*texts(100), ("something new",)], tmp_path, engine="torch")
    assert (done.encoded, done.unique - done.encoded) == (1, 100)
    np.testing.assert_array_equal(after[:100], before)


def test_a_longer_limit_encodes_only_what_the_shorter_one_cut(tiny_distilbert, tmp_path):
    rows = texts(100)
    _, short = vectors(tiny_distilbert, rows, tmp_path / "both", engine="torch", max_length=16)
    longer, done = vectors(tiny_distilbert, rows, tmp_path / "both", engine="torch", max_length=128)
    fresh, _ = vectors(tiny_distilbert, rows, tmp_path / "fresh", engine="torch", max_length=128)
    assert 0 < short.truncated_rows < 100
    assert done.encoded == short.truncated_rows
    np.testing.assert_allclose(longer, fresh, atol=1e-5)


def test_several_poolings_come_from_one_pass_and_concatenate(tiny_bert, tmp_path):
    rows = texts(40)
    both, done = vectors(tiny_bert, rows, tmp_path, engine="torch", pooling=("cls+mean", "max"))
    assert both.shape == (40, 64)
    assert done.encoded == 40
    mean, again = vectors(tiny_bert, rows, tmp_path, engine="torch", pooling=("mean",))
    assert again.encoded == 0
    np.testing.assert_array_equal(both[:, 32:], mean)


def test_pairs_are_fed_with_their_token_types(tiny_bert, tmp_path):
    rows = [("the film", "was boring"), ("the", "film was boring"), ("the film was boring",)]
    matrix, done = vectors(tiny_bert, rows, tmp_path, engine="torch")
    assert done.unique == 3
    assert np.abs(matrix[0] - matrix[1]).max() > 1e-3


def test_auto_takes_the_folder_that_holds_everything(tiny_distilbert, tmp_path):
    rows = texts(30)
    exact, _ = vectors(tiny_distilbert, rows, tmp_path, engine="torch", precision="fp32")
    found, done = vectors(tiny_distilbert, rows, tmp_path, precision="auto")
    assert done.encoded == 0
    np.testing.assert_array_equal(found, exact)


def test_padding_is_small_and_windows_do_not_change_vectors(tiny_distilbert, tmp_path, monkeypatch):
    rows = texts(500)
    whole, done = vectors(tiny_distilbert, rows, tmp_path / "a", engine="torch")
    monkeypatch.setattr("pipeline.extract.extractor.WINDOW", 64)
    parts, small = vectors(tiny_distilbert, rows, tmp_path / "b", engine="torch")
    np.testing.assert_allclose(whole, parts, atol=1e-5)
    assert done.padding_share < 0.05
    assert small.encoded == 500


@pytest.mark.parametrize("engine", ["torch", "openvino"])
def test_an_interrupted_extraction_keeps_what_it_encoded(engine, tiny_distilbert, tmp_path, monkeypatch):
    rows = texts(400)
    wish = EncoderSpec(str(tiny_distilbert), engine=engine, precision="fp32")
    checkpoint = locate(wish)

    keep, asked = Commits._keep, []

    def impatient(self, *batch):
        keep(self, *batch)
        if self.done.encoded > 100 and not asked:
            asked.append(True)
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(Commits, "_keep", impatient)
    extractor = Extractor(checkpoint, wish, FAST, tmp_path, silent, text_keys(rows))
    with pytest.raises(KeyboardInterrupt):
        extractor.run([rows])
    monkeypatch.undo()
    kept = extractor.done.encoded
    _, done = vectors(tiny_distilbert, rows, tmp_path, engine=engine)
    assert kept > 100
    assert done.encoded == 400 - kept


SLOW_EXTRACTION = """
import sys
from pathlib import Path
from pipeline import silent
from pipeline.encoder import EncoderSpec, Runtime, locate
from pipeline.extract import Extractor
from pipeline.store import text_keys
sys.path.insert(0, "tests")
from test_extract import texts
wish = EncoderSpec(sys.argv[1], engine="torch", precision="fp32")
rows = texts(20_000)
print("ready", flush=True)
runtime = Runtime(shard_rows=256, threads=1)
Extractor(locate(wish), wish, runtime, Path(sys.argv[2]), silent, text_keys(rows)).run([rows])
"""


def test_a_killed_extraction_goes_on_and_ends_with_the_same_vectors(tiny_distilbert, tmp_path):
    cache = tmp_path / "cache"
    command = [sys.executable, "-c", SLOW_EXTRACTION, str(tiny_distilbert), str(cache)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    while len(list(cache.glob("*/*.safetensors"))) < 3 and process.poll() is None:
        time.sleep(0.01)
    process.kill()
    assert process.wait() == -signal.SIGKILL  # in the middle of its work
    rows = texts(20_000)[:3000]
    resumed, done = vectors(tiny_distilbert, rows, cache, engine="torch")
    fresh, _ = vectors(tiny_distilbert, rows, tmp_path / "fresh", engine="torch")
    assert 0 < done.encoded < 3000
    np.testing.assert_allclose(resumed, fresh, atol=1e-5)


def test_a_data_set_is_embedded_by_role(tiny_distilbert, tmp_path):
    (tmp_path / "mails.csv").write_text("text,label\n" + "".join(f"mail {i} now,{'ab'[i % 2]}\n" for i in range(100)))
    dataset = read(SourceOptions(str(tmp_path / "mails.csv")))
    spec = EncoderSpec(str(tiny_distilbert), engine="torch", precision="fp32")
    done = embed(dataset, spec, FAST, tmp_path / "cache", silent)
    matrices = done.matrices("cls")
    assert {role: m.vectors.shape for role, m in matrices.items()} == {
        "train": (80, 32),
        "validation": (10, 32),
        "test": (10, 32),
    }
    assert matrices["test"].row_ids.tolist() == dataset.test.row_ids.tolist()
    assert done.seconds() > 0


def test_what_extract_tells(tiny_distilbert, tmp_path):
    (tmp_path / "mails.txt").write_text("the film\nthe film was boring\nthe film\n")
    spec = EncoderSpec(str(tiny_distilbert), engine="torch", precision="fp32")
    told = extract_source(SourceOptions(str(tmp_path / "mails.txt")), spec, FAST, tmp_path / "cache", silent).to_json()
    assert (told["rows"], told["unique"], told["encoded"], told["from_cache"]) == (3, 2, 2, 0)
    assert (told["dim"], told["pooling"], told["engine"], told["precision"]) == (32, "cls", "torch", "fp32")
    assert told["tokens"] == 4 + 6 + 4  # [CLS] the film [SEP], ...
    assert told["vectors_digest"] in told["folders"][0]


def test_no_rows_is_an_error(tiny_distilbert, tmp_path):
    (tmp_path / "mails.csv").write_text("text,label\n")
    with pytest.raises(UserError):
        extract_source(
            SourceOptions(str(tmp_path / "mails.csv")), EncoderSpec(str(tiny_distilbert)), FAST, tmp_path, silent
        )
