"""The majority class."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from pipeline import UserError
from pipeline.baseline import MajorityModel, majority_fit


def part(name, texts, truth):
    ids = np.array([f"{name}:{i}" for i in range(len(truth))])
    return SimpleNamespace(name=name, texts=texts, labels=np.array(truth), row_ids=ids)


def world(**parts):
    return SimpleNamespace(
        name="reviews", digest="d" * 16, class_names=("bad", "good"), roles={role: role for role in parts}, **parts
    )


def test_majority_is_the_class_shares(tmp_path):
    dataset = world(train=part("train", [("a",), ("b",), ("c",), ("d",)], [0, 0, 0, 1]), test=part("t", [("x",)], [1]))
    run = majority_fit(dataset, tmp_path).run()
    assert run.kind == "majority"
    assert run.checkpoint_digest is None
    assert run.predictions["test"].proba.tolist() == [[0.75, 0.25]]
    assert set(run.predictions) == {"train", "test"}
    assert MajorityModel.load(run.model_folder).proba([("x",), ("y",)]).tolist() == [[0.75, 0.25]] * 2
    assert majority_fit(dataset, tmp_path).run().folder == run.folder


def test_majority_of_one_class_is_refused(tmp_path):
    with pytest.raises(UserError, match="one class only"):
        majority_fit(world(train=part("train", [("a",), ("b",)], [1, 1])), tmp_path).run()


@pytest.mark.parametrize("prior", [[1.0], ["a", "b"], [float("nan"), 1], None, [-1, 2]])
def test_a_lying_prior_is_refused(tmp_path, prior):
    MajorityModel(np.array([0.5, 0.5], "f4"), ("a", "b")).save(tmp_path)
    path = tmp_path / "model.json"
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | {"prior": prior}), "utf-8")
    with pytest.raises(UserError, match="damaged model"):
        MajorityModel.load(tmp_path)
