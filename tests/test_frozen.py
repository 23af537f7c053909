"""A head on cached vectors: as good as its separable data, out of core, and opened again without torch."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from pipeline import UserError
from pipeline.data import Dataset, Split
from pipeline.finetune.frozen import FrozenHead, buffers, frozen_fit, load_frozen, minibatches, moments
from pipeline.finetune.training import FineTuneSettings
from pipeline.linear import Encoded
from pipeline.linear.probe import LinearModel

SETTINGS = FineTuneSettings(epochs=20, batch_size=32, freeze=True, head="linear", learning_rate=1e-2)
SIZES = {"train": 300, "validation": 60, "test": 60}


def toy(rings: bool = False):
    """Vectors (n, 4) of two classes: apart along one axis, or one around the other."""
    random, vectors, splits = np.random.default_rng(0), {}, {}
    for name, rows in SIZES.items():
        labels = np.arange(rows) % 2
        X = random.normal(size=(rows, 4))
        if rings:
            X[:, :2] *= np.where(labels, 3, 0.5)[:, None] / np.linalg.norm(X[:, :2], axis=1, keepdims=True)
        else:
            X[:, 0] = np.where(labels, 2, -2) + 0.1 * X[:, 0]
        vectors[name] = (50 + 10 * X).astype(np.float32)  # far from standardised
        ids = np.array([f"{name}:{i}" for i in range(rows)])
        splits[name] = Split(name, [("",)] * rows, labels.astype(np.int64), ids)
    roles = {name: name for name in SIZES}
    return vectors, Dataset("toy", splits, roles, ("out", "in"), ("text",), "label", "cd" * 16, ())


def fit(tmp_path, settings=SETTINGS, rings=False, pooling="cls"):
    vectors, data = toy(rings)
    return frozen_fit(
        Encoded(lambda: vectors, "c" * 32, {"pooling": pooling, "text_parts": 1}), data, settings, tmp_path
    ).run(), vectors


def test_a_linear_head_is_a_linear_model(tmp_path):
    run, vectors = fit(tmp_path)
    assert run.kind == "frozen-head"
    assert run.metrics["test"]["accuracy"] == 1.0
    model = load_frozen(run.model_folder)
    assert isinstance(model, LinearModel)
    assert (model.checkpoint_digest, model.pooling) == ("c" * 32, "cls")
    np.testing.assert_allclose(model.proba(vectors["test"]), run.predictions["test"].proba, atol=1e-6)
    assert run.cost.trained_parameters == 2 * 4 + 2


def test_the_standard_head_learns_what_no_line_can(tmp_path):
    linear, _ = fit(tmp_path, rings=True)
    settings = replace(SETTINGS, head="standard", epochs=60)
    run, vectors = fit(tmp_path, settings, rings=True)
    assert linear.metrics["test"]["accuracy"] < 0.8
    assert run.metrics["test"]["accuracy"] > 0.95
    model = load_frozen(run.model_folder)
    assert isinstance(model, FrozenHead)
    np.testing.assert_allclose(model.proba(vectors["test"]), run.predictions["test"].proba, atol=1e-6)


def test_found_when_fitted_and_the_same_with_the_same_seed(tmp_path):
    first, _ = fit(tmp_path)
    assert fit(tmp_path)[0].created == first.created
    again, _ = fit(tmp_path / "elsewhere")
    np.testing.assert_array_equal(again.predictions["test"].proba, first.predictions["test"].proba)
    other, _ = fit(tmp_path, replace(SETTINGS, seed=1))
    assert not np.array_equal(other.predictions["test"].proba, first.predictions["test"].proba)


def test_history_and_early_stopping(tmp_path):
    run, _ = fit(tmp_path, replace(SETTINGS, patience=2))
    tried = [record["validation"]["macro_f1"] for record in run.history]
    best = 1 + int(np.argmax(tried[1:]))
    assert [record["epoch"] for record in run.history] == list(range(best + 3))
    assert run.metrics["validation"]["macro_f1"] == tried[best]


def test_prediction_needs_no_torch(tmp_path):
    run, _ = fit(tmp_path, replace(SETTINGS, head="standard", epochs=1))
    code = (
        "import sys, numpy as np; from pipeline.finetune.frozen import load_frozen;"
        f"load_frozen({str(run.model_folder)!r}).proba(np.zeros((3, 4), 'f4'));"
        "assert not {'torch', 'transformers', 'sklearn'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


class Sliced:
    """Rows that can only be read in slices, as a store serves them."""

    def __init__(self, rows):
        self.rows, self.largest = rows, 0

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, part):
        assert isinstance(part, slice)
        found = self.rows[part]
        self.largest = max(self.largest, len(found))
        return found


def test_rows_are_read_in_slices_and_each_is_seen_once():
    X = Sliced(np.arange(150_000, dtype=np.float32)[:, None])
    labels = np.arange(150_000)
    seen = [(x, y) for x, y in minibatches(X, labels, 512, np.random.default_rng(0))]
    order = np.concatenate([y for _, y in seen])
    assert sorted(order) == list(range(150_000))
    assert not np.array_equal(order, labels)
    np.testing.assert_array_equal(np.concatenate([x for x, _ in seen])[:, 0], order)
    assert X.largest == 1024
    assert all(len(slices) <= 64 for slices in buffers(150_000, np.random.default_rng(0)))


def test_moments_are_those_of_the_whole():
    X = np.random.default_rng(0).normal(100, 3, (40_000, 3)).astype(np.float32)
    X[:, 2] = 7
    mean, scale = moments(Sliced(X))
    np.testing.assert_allclose(mean, X.astype(np.float64).mean(0), rtol=1e-6)
    np.testing.assert_allclose(scale[:2], X[:, :2].astype(np.float64).std(0), rtol=1e-5)
    assert scale[2] == 1  # a constant says nothing, and must not divide by zero


def test_bad_input_is_refused(tmp_path):
    vectors, data = toy()
    vectors["train"][3, 1] = np.nan
    with pytest.raises(UserError, match="not finite"):
        frozen_fit(Encoded(lambda: vectors, "c" * 32), data, SETTINGS, tmp_path).run()
    with pytest.raises(UserError, match="choose one of linear, standard"):
        fit(tmp_path, replace(SETTINGS, head="mlp"))
    run, _ = fit(tmp_path, replace(SETTINGS, head="standard", epochs=1))
    with pytest.raises(UserError, match="width 4"):
        load_frozen(run.model_folder).proba(np.zeros((1, 5), np.float32))
    (run.model_folder / "model.safetensors").write_bytes(b"\x80\x04")
    with pytest.raises(UserError, match="damaged"):
        load_frozen(run.model_folder)
