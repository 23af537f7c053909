"""Model files: there and back, and whatever a stranger may put in their place."""

import json
import struct

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from pipeline import UserError
from pipeline.linear.probe import LinearModel, softmax


def small(**changes) -> LinearModel:
    fields = {
        "W": np.array([[1, 0], [0, 1], [-1, 0]], np.float32),
        "b": np.array([0, 0.5, 0], np.float32),
        "mean": np.array([1, 2], np.float32),
        "scale": np.array([2, 1], np.float32),
        "class_names": ("ham", "späm", "b\n"),
        "checkpoint_digest": "abc",
    }
    return LinearModel(**{**fields, **changes})


def two(**changes) -> LinearModel:
    return small(W=np.eye(2, dtype="f4"), b=np.zeros(2, "f4"), class_names=("no", "yes"), **changes)


def test_probabilities_by_hand():
    assert np.allclose(small().logits(np.array([[3.0, 2.0]])), [[1, 0.5, -1]])
    assert np.allclose(small(temperature=2.0).proba(np.array([[3.0, 2.0]])), softmax(np.array([[0.5, 0.25, -0.5]])))


def test_equals_scikit_learns_prediction():
    rng = np.random.default_rng(0)
    X = rng.normal(2, 3, (200, 30)).astype(np.float32)
    y = rng.integers(0, 4, 200)
    scaler = StandardScaler().fit(X)
    theirs = LogisticRegression(C=0.1).fit(scaler.transform(X), y)
    model = LinearModel(
        *(np.asarray(a, np.float32) for a in (theirs.coef_, theirs.intercept_, scaler.mean_, scaler.scale_)),
        class_names=("a", "b", "c", "d"),
    )
    assert np.abs(model.proba(X) - theirs.predict_proba(scaler.transform(X))).max() < 1e-5
    assert model.proba(X).dtype == np.float32


def test_there_and_back(tmp_path):
    model = two(temperature=1.5, threshold=0.25, pooling="cls+mean")
    model.save(tmp_path)
    back = LinearModel.load(tmp_path, "abc", ("no", "yes"))
    X = np.random.default_rng(0).normal(size=(5, 2))
    assert np.array_equal(back.proba(X), model.proba(X))
    assert (back.class_names, back.pooling, back.temperature, back.threshold) == (("no", "yes"), "cls+mean", 1.5, 0.25)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["model.json", "model.safetensors"]


def test_the_threshold_decides_between_two():
    proba = np.array([[0.7, 0.3], [0.9, 0.1]], np.float32)
    assert two().labels(proba).tolist() == [0, 0]
    assert two(threshold=0.25).labels(proba).tolist() == [1, 0]


def test_another_checkpoint_or_class_list_is_refused(tmp_path):
    small().save(tmp_path)
    with pytest.raises(UserError, match="checkpoint abc"):
        LinearModel.load(tmp_path, "abd")
    with pytest.raises(UserError, match="fit again"):
        LinearModel.load(tmp_path, "abc", ("späm", "ham", "b\n"))


def test_another_width_and_nan_are_refused():
    with pytest.raises(UserError, match="width 2"):
        small().proba(np.zeros((1, 3)))
    with pytest.raises(UserError, match="not finite"):
        small().proba(np.array([[np.nan, 0]]))


def header(path) -> tuple[dict, bytes]:
    payload = path.read_bytes()
    (length,) = struct.unpack_from("<Q", payload)
    return json.loads(payload[8 : 8 + length]), payload[8 + length :]


def write(path, head: dict, body: bytes) -> None:
    text = json.dumps(head).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + body)


@pytest.mark.parametrize(
    "change",
    [
        lambda h: h["W"].update(shape=[2**40, 2**20]),
        lambda h: h["W"].update(shape=[-3, -2]),
        lambda h: h["W"].update(shape=[6]),
        lambda h: h["W"].update(shape=[2, 3]),
        lambda h: h["W"].update(shape=[3, 2.0]),
        lambda h: h["W"].update(shape=[True, 2]),
        lambda h: h["W"].update(shape="32"),
        lambda h: h["W"].update(dtype="F64"),
        lambda h: h["W"].update(dtype="I32"),
        lambda h: h["W"].update(dtype=["F32"]),
        lambda h: h["W"].update(data_offsets=[0, 10**30]),
        lambda h: h["W"].update(data_offsets=[-24, 0]),
        lambda h: h["W"].update(data_offsets=[0]),
        lambda h: h.pop("scale"),
        lambda h: h.update({"../../evil": h["W"]}),
        lambda h: h.update(W=None),
    ],
)
def test_a_lying_header_is_refused(tmp_path, change):
    small().save(tmp_path)
    head, body = header(tmp_path / "model.safetensors")
    change(head)
    write(tmp_path / "model.safetensors", head, body)
    with pytest.raises(UserError, match="damaged model"):
        LinearModel.load(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"format": 99},
        {"kind": "tfidf"},
        {"class_names": ["a", "b"]},
        {"class_names": "abc"},
        {"class_names": [1, 2, 3]},
        {"temperature": 0},
        {"temperature": float("nan")},
        {"temperature": "1"},
        {"temperature": True},
        {"threshold": 0.5},
        {"pooling": ["cls"]},
        {"checkpoint_digest": 7},
    ],
)
def test_a_lying_record_is_refused(tmp_path, change):
    small().save(tmp_path)
    path = tmp_path / "model.json"
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | change), "utf-8")
    with pytest.raises(UserError):
        LinearModel.load(tmp_path)


@pytest.mark.parametrize(("name", "value"), [("W", np.nan), ("b", np.inf), ("mean", -np.inf), ("scale", 0)])
def test_numbers_that_cannot_be_are_refused(tmp_path, name, value):
    array = getattr(small(), name).copy()
    array.flat[0] = value
    small(**{name: array}).save(tmp_path)
    with pytest.raises(UserError, match="damaged model"):
        LinearModel.load(tmp_path)


def test_a_missing_file_a_folder_and_a_pickle_are_refused(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        LinearModel.load(tmp_path)
    small().save(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"cos\nsystem\n(S'touch pwned'\ntR.")
    with pytest.raises(UserError, match="damaged model"):
        LinearModel.load(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    (tmp_path / "model.safetensors").mkdir()
    with pytest.raises(UserError, match="no such file"):
        LinearModel.load(tmp_path)


@pytest.mark.parametrize("length", [0, 7, 8, 50, 200])
def test_truncated_files_are_refused(tmp_path, length):
    small().save(tmp_path)
    for name in ("model.safetensors", "model.json"):
        whole = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(whole[: min(length, len(whole) - 1)])
        with pytest.raises(UserError):
            LinearModel.load(tmp_path)
        (tmp_path / name).write_bytes(whole)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(["model.json", "model.safetensors"]),
    st.lists(st.tuples(st.integers(0, 600), st.integers(0, 255)), min_size=1, max_size=6),
)
def test_any_flipped_bytes_give_a_model_or_a_user_error(tmp_path, name, flips):
    small().save(tmp_path)
    payload = bytearray((tmp_path / name).read_bytes())
    for place, value in flips:
        payload[place % len(payload)] = value
    (tmp_path / name).write_bytes(payload)
    try:
        proba = LinearModel.load(tmp_path).proba(np.zeros((2, 2)))
    except UserError:  # when it is read, or where a number has become too large to compute with
        return
    assert proba.shape == (2, 3)
    assert np.isfinite(proba).all()


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200))
def test_any_bytes_give_a_user_error(tmp_path, payload):
    small().save(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(payload)
    with pytest.raises(UserError):
        LinearModel.load(tmp_path)
