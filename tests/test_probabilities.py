"""Whatever a run answers are probabilities, or one line says that they are none."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from pipeline import UserError, load_run, open_run
from pipeline.run import Predictions, probabilities

COLUMNS = ["--text", "body", "--label", "verdict"]
FITS: dict[str, list[Any]] = {  # kind → the command that fits one
    "lr": ["fit-lr"],
    "frozen-head": ["fine-tune", "--freeze", "--head", "standard", "--epochs", 1],
    "tfidf": ["compare", "--contenders", "majority,tfidf", "--no-cv"],
}


@pytest.mark.parametrize(
    "row",
    [[np.nan, 1], [np.inf, 0], [-0.1, 1.1], [0.5, 0.6], [0, 0], [1e38, 1e38]],
    ids=["nan", "infinite", "negative", "more than 1", "nothing", "huge"],
)
def test_what_is_no_probability_is_refused_with_its_row(row):
    proba = np.array([[0.25, 0.75], row, row], np.float32)
    with pytest.raises(UserError, match=r"^runs/x: the probabilities of row 1 \(.*\) are not finite .* sum to 1"):
        probabilities(proba, "runs/x")
    with pytest.raises(UserError, match=r"^predictions of 'test': the probabilities of row 1"):
        Predictions("test", np.array(["a", "b", "c"]), np.zeros(3, np.int64), proba)


def test_probabilities_pass_as_they_are():
    for proba in (np.zeros((0, 3), np.float32), np.array([[0.3333, 0.3333, 0.3333], [0, 1, 0]])):
        assert probabilities(proba, "x") is proba


@pytest.mark.parametrize("kind", FITS)
@pytest.mark.parametrize("value", [3e38, "temperature"])
def test_a_model_whose_numbers_overflow_answers_with_one_line(kind, value, run, tmp_path, reviews):
    command, options = FITS[kind][0], FITS[kind][1:]
    places = ["--runs", tmp_path / "runs"]
    assert run(command, reviews, *COLUMNS, *options, *places)[0] == 0
    folder = next((tmp_path / "runs").glob(f"*/{kind}-*"))
    model = folder / "model"
    if value == "temperature":
        if kind != "lr":
            pytest.skip("only a logistic regression has one")
        record = json.loads((model / "model.json").read_text("utf-8"))
        (model / "model.json").write_text(json.dumps(record | {"temperature": 1e-300}), "utf-8")
    else:
        overflow(model / "model.safetensors", value)
    code, out, err = run(
        "predict", folder, "the film was boring", "win a prize now", "--cache", tmp_path / "c", encoder=False
    )
    assert code == 1
    assert "NaN" not in out
    (line,) = [line for line in err.splitlines() if line.startswith("error")]
    assert "sum to 1" in line or "damaged" in line
    with pytest.raises(UserError):
        open_run(load_run(folder), cache=tmp_path / "c").proba([("the film was boring",), ("win a prize now",)])


def overflow(file: Path, value: float) -> None:
    """Give the float32 arrays of a model numbers of that size and either sign, but for those that must be positive."""
    random, arrays = np.random.default_rng(0), load_file(file)
    for name, array in arrays.items():
        if array.dtype == np.float32 and name not in ("scale", "idf"):
            arrays[name] = random.choice(np.array([value, -value], np.float32), array.shape)
    save_file(arrays, file)
