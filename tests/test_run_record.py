"""A run's record from anywhere: every field of another type is one line, and costs no other run."""

import contextlib
import copy
import json
import math
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from tables import names

from pipeline import UserError
from pipeline.baseline import majority_fit
from pipeline.data import SourceOptions, read
from pipeline.run import ended, in_words, load_run
from pipeline.run.shape import RECORD
from pipeline.tfidf import TfidfSettings, tfidf_fit
from pipeline.untrusted import check

OTHERS = [None, 5, -1, 1.5, "x", "", True, [], {}, [5], {"a": 5}, math.inf, math.nan, 10**400, "9" * 5000, [[[[]]]]]


def leaves(value, path=()) -> Iterator[tuple]:
    """The paths of everything inside a JSON value, itself left out."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in inside:
        yield (*path, key)
        yield from leaves(inner, (*path, key))


def changed(record, path, value):
    made = copy.deepcopy(record)
    at = made
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    return made


@pytest.fixture
def fitted(reviews, tmp_path) -> Path:
    """The folder of a TF-IDF run; another one and majority lie beside it."""
    data = read(SourceOptions(str(reviews), text=("body",), label="verdict"))
    majority_fit(data, tmp_path / "runs").run()
    tfidf_fit(data, TfidfSettings(C=(1.0,), min_df=1, folds=2, features="words"), tmp_path / "runs").run()
    made = tfidf_fit(data, TfidfSettings(C=(1.0,), folds=2, features="words"), tmp_path / "runs").run().folder
    assert made is not None
    return made


def test_a_record_of_any_other_shape_is_read_right_or_refused(fitted):
    """Hundreds of changes: whatever is accepted still has the types that every reader relies on."""
    file = fitted / "run.json"
    record = json.loads(file.read_text())
    changes = [(path, value) for path in leaves(record) for value in OTHERS]
    random = np.random.default_rng(0)
    refused = []
    for i in random.permutation(len(changes))[:300].tolist():
        file.write_text(json.dumps(changed(record, *changes[i])))
        try:
            made = load_run(fitted)
        except UserError as error:
            refused.append(str(error))
        else:
            check(json.loads(file.read_text()), RECORD, "it")
            json.dumps(made.to_json())
    assert all("\n" not in message and len(message) < 600 for message in refused)
    assert 50 < len(refused) < 295  # some are notes, seconds, names of versions: another value of the same type


@pytest.mark.parametrize(
    "change",
    [{"created": 5}, {"metrics": {"test": 5}}],
)
def test_one_damaged_run_does_not_cost_the_others(fitted, run, reviews, tmp_path, change):
    file = fitted / "run.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    code, out, err = run("report", *names(reviews), "--runs", tmp_path / "runs", "--json")
    assert code == 0, err
    assert f"left out: {file}: damaged run" in err
    assert sorted(contender["kind"] for contender in json.loads(out)["contenders"]) == ["majority", "tfidf"]


ENDED = {
    "share": 0.4,
    "ahead": -0.1,
    "error": 0.02,
    "reach": -0.05,
    "metric": "accuracy",
    "margin": 0.01,
    "against": "lr",
}
FRONT = {
    "what": "front",
    "share": 0.5,
    "ms_per_text_batch": None,
    "accuracy": 0.9,
    "difference": 0.0,
    "low": -0.1,
    "high": 0,
}


@pytest.mark.parametrize("value", [*OTHERS, "nowhere"], ids=str)
def test_what_is_read_by_name_alone_is_there_and_of_its_type(fitted, value):
    file = fitted / "run.json"
    record = json.loads(file.read_text())
    whole = {**record, "history": [FRONT], "settings": {**record["settings"], "chosen": {"ended": ENDED}}}
    file.write_text(json.dumps(whole))
    assert in_words(ended(load_run(fitted))).startswith("ended after 40 % of its steps")
    paths = [("settings", "chosen", "ended", key) for key in ENDED if key != "error"]
    for path in [*paths, *(("history", 0, key) for key in FRONT), ("settings", "chosen", "ended")]:
        file.write_text(json.dumps(changed(whole, path, value)))
        with contextlib.suppress(UserError):
            made = load_run(fitted)
            why = ended(made)
            assert why is None or in_words(why)
            fronts = [point for point in made.history if point.get("what") == "front"]
            assert all(type(point["accuracy"]) in (int, float) for point in fronts)
    for key in set(FRONT) - {"what"}:
        file.write_text(json.dumps(whole | {"history": [{k: v for k, v in FRONT.items() if k != key}]}))
        with pytest.raises(UserError, match=f"has no '{key}'"):
            load_run(fitted)


def test_what_is_no_regular_file_is_refused_at_once(fitted):
    for name in ("predictions.safetensors", "run.json"):
        (fitted / name).unlink()
        os.mkfifo(fitted / name)
        with pytest.raises(UserError, match="a pipe, not a file"):
            load_run(fitted)
    (fitted / "run.json").unlink()
    (fitted / "run.json").symlink_to("/dev/zero")
    with pytest.raises(UserError, match="a device, not a file"):
        load_run(fitted)


@pytest.mark.parametrize("value", [np.nan, np.inf, -0.25, 7.0])
def test_probabilities_that_are_none_are_refused(fitted, value):
    file = fitted / "predictions.safetensors"
    arrays = load_file(file)
    proba = arrays["test.proba"].copy()
    proba[3, 0] = value
    save_file(arrays | {"test.proba": proba}, file)
    with pytest.raises(UserError, match="not between 0 and 1 or do not sum to 1"):
        load_run(fitted)


def test_labels_that_are_none_are_refused(fitted):
    file = fitted / "predictions.safetensors"
    arrays = load_file(file)
    save_file(arrays | {"test.truth": arrays["test.truth"] + 2}, file)
    with pytest.raises(UserError, match="not among the 2 classes"):
        load_run(fitted)


def test_deep_json_is_one_line(fitted):
    for text in ('{"format": ' + "[" * 100_000, "[" * 100_000 + "]" * 100_000, '{"a": ' * 50_000):
        (fitted / "run.json").write_text(text)
        with pytest.raises(UserError, match="damaged, or not valid JSON"):
            load_run(fitted)
