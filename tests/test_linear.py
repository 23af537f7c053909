"""The whole fit on small made-up vectors: what is chosen, what is said, what comes back."""

from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from pipeline import UserError, linear
from pipeline.linear import Encoded, EncodingFacts, LinearSettings, fit_lr, tune
from pipeline.linear.folds import split
from pipeline.linear.probe import LinearModel
from pipeline.linear.tune import fit
from pipeline.run import load_run


def blobs(sizes, d=6, seed=0, spread=1.5):
    """Rows of overlapping classes with the given sizes, shuffled."""
    rng = np.random.default_rng(seed)
    truth = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    centres = np.random.default_rng(7).normal(size=(len(sizes), d))
    return (centres[truth] + spread * rng.normal(size=(len(truth), d)) + 3).astype(np.float32), truth


def part(name, truth):
    ids = np.array([f"{name}:{i}" for i in range(len(truth))])
    return SimpleNamespace(name=name, texts=[(i,) for i in ids], labels=truth, row_ids=ids)


def world(sizes=(60, 40, 20), **settings):
    """A data set with vectors for each role."""
    vectors, parts = {}, {}
    for seed, role in enumerate(("train", "validation", "test")):
        vectors[role], truth = blobs(sizes, seed=seed)
        parts[role] = part(role, truth)
    names = tuple("abcdefgh"[: len(sizes)])
    dataset = SimpleNamespace(name="made", digest="d" * 16, class_names=names, roles={r: r for r in parts}, **parts)
    return vectors, dataset, LinearSettings(**settings)


def names(k):
    return tuple(f"c{i}" for i in range(k))


def facts_of(run, what):
    return [point for point in run.history if point["what"] == what]


def test_run_holds_predictions_of_every_role(tmp_path):
    vectors, dataset, settings = world()
    run = fit_lr(Encoded(lambda: vectors, "abc", {"pooling": "cls"}), dataset, settings, tmp_path)
    assert run.kind == "lr"
    assert run.checkpoint_digest == "abc"
    assert run.settings["pooling"] == "cls"
    assert run.settings["imbalance"] == "none"
    for role in ("train", "validation", "test"):
        assert run.predictions[role].row_ids.tolist() == getattr(dataset, role).row_ids.tolist()
        assert np.allclose(run.predictions[role].proba.sum(1), 1, atol=1e-5)
    assert run.metrics["validation"]["accuracy"] > 0.6
    model = LinearModel.load(run.model_folder, "abc", dataset.class_names)
    assert np.array_equal(model.proba(vectors["test"]), run.predictions["test"].proba)
    assert load_run(run.folder).history == run.history


def test_the_model_is_scikit_learns_at_the_chosen_penalty(tmp_path):
    vectors, dataset, settings = world()
    run = fit_lr(Encoded(lambda: vectors, "abc"), dataset, settings, tmp_path)
    (final,) = facts_of(run, "final")
    assert final["converged"]
    scaler = StandardScaler().fit(vectors["train"])
    theirs = LogisticRegression(C=final["C"], tol=1e-10, max_iter=10000)
    theirs.fit(scaler.transform(vectors["train"]).astype(np.float64), dataset.train.labels)
    expected = theirs.predict_proba(scaler.transform(vectors["test"]))
    assert np.abs(run.predictions["test"].proba - expected).max() < 1e-4


def test_fitted_once_then_found(tmp_path, monkeypatch):
    vectors, dataset, settings = world()
    run = fit_lr(Encoded(lambda: vectors, "abc"), dataset, settings, tmp_path)
    monkeypatch.setattr(linear, "fit", lambda *a, **k: pytest.fail("fitted again"))
    assert fit_lr(Encoded(lambda: vectors, "abc"), dataset, settings, tmp_path).folder == run.folder
    with pytest.raises(pytest.fail.Exception):
        fit_lr(Encoded(lambda: vectors, "another checkpoint"), dataset, settings, tmp_path)


def test_test_rows_change_nothing_that_is_learnt(tmp_path):
    vectors, dataset, settings = world()
    first = fit_lr(Encoded(lambda: vectors, "abc"), dataset, settings, tmp_path / "1")
    changed = {**vectors, "test": vectors["test"] + 1, "validation": -vectors["validation"]}
    second = fit_lr(Encoded(lambda: changed, "abc"), dataset, settings, tmp_path / "2")
    assert np.array_equal(first.predictions["train"].proba, second.predictions["train"].proba)
    a, b = LinearModel.load(first.model_folder), LinearModel.load(second.model_folder)
    assert np.array_equal(a.W, b.W)


def test_out_of_fold_means_that_a_row_has_not_seen_itself():
    X = np.random.default_rng(0).normal(size=(200, 50)).astype(np.float32)
    y = np.random.default_rng(1).integers(0, 2, 200)
    found = fit(X, y, np.arange(200), names(2), LinearSettings(C=(1000.0,)))
    assert (found.model.proba(X).argmax(1) == y).mean() > 0.65  # learnt by heart
    assert (found.proba.argmax(1) == y).mean() < 0.6  # and worth nothing


def test_equal_texts_do_not_leak_between_folds():
    rng = np.random.default_rng(0)
    X = np.repeat(rng.normal(size=(40, 30)), 5, 0).astype(np.float32)
    y = np.repeat(rng.integers(0, 2, 40), 5)
    settings = LinearSettings(C=(1000.0,))
    together = fit(X, y, np.repeat(np.arange(40), 5), names(2), settings)
    leaking = fit(X, y, np.arange(200), names(2), settings)
    assert (leaking.proba.argmax(1) == y).mean() > 0.9
    assert (together.proba.argmax(1) == y).mean() < 0.7


def test_search_is_scikit_learns(tmp_path):
    """Same folds, same grid: the same C and the same log loss to 1e-3."""
    from sklearn.linear_model import LogisticRegressionCV

    X, y = blobs((150, 100, 50), d=20, spread=3)
    grid = tuple(float(C) for C in np.logspace(-4, 1, 6))
    found = fit(X, y, np.arange(300), names(3), LinearSettings(C=grid))
    folds = split(y, np.arange(300), names(3), 5, 42)
    pairs = [(folds.kept(f), folds.held(f)) for f in range(5)]
    theirs = LogisticRegressionCV(
        Cs=list(grid), cv=pairs, scoring="neg_log_loss", l1_ratios=(0.0,), use_legacy_attributes=False, max_iter=5000
    ).fit(StandardScaler().fit_transform(X), y)
    points = [point for point in found.history if point["what"] == "search"]
    losses = -np.ravel(theirs.scores_.mean(0))
    assert min(points, key=lambda p: p["log_loss"])["C"] == theirs.C_
    for point, loss in zip(points, losses, strict=False):
        assert point["log_loss"] == pytest.approx(loss, abs=1e-3)
    assert all(point["converged"] for point in points)


def test_path_stops_once_the_score_worsens():
    X, y = blobs((150, 100, 50), d=20, spread=5)
    found = fit(X, y, np.arange(300), names(3), LinearSettings())
    losses = [point["log_loss"] for point in found.history if point["what"] == "search"]
    assert losses[-1] > min(losses)
    assert losses.index(min(losses)) >= len(losses) - 3
    assert len(losses) < 12


def test_grid_grows_until_its_best_point_is_inside():
    X, y = blobs((40, 40), d=4, spread=0.35)  # easily told apart: wants hardly any penalty
    found = fit(X, y, np.arange(80), names(2), LinearSettings())
    Cs = [point["C"] for point in found.history if point["what"] == "search"]
    best = next(point["C"] for point in found.history if point["what"] == "final")
    assert max(Cs) > 100
    assert best < max(Cs) or any("where the search ends" in note for note in found.notes)


def test_a_given_grid_stays_and_its_edge_is_named():
    X, y = blobs((60, 60))
    found = fit(X, y, np.arange(120), names(2), LinearSettings(C=(1e-5, 1e-4)))
    assert [point["C"] for point in found.history if point["what"] == "search"] == [1e-5, 1e-4]
    assert any("C = 0.0001 is the highest of the grid" in note for note in found.notes)


@pytest.mark.parametrize("C", [(0.0,), (-1.0,), (np.nan,), (1.0, np.inf), ()])
def test_a_penalty_that_is_not_positive_is_refused(C):
    X, y = blobs((20, 20))
    with pytest.raises(UserError, match="C must be"):
        fit(X, y, np.arange(40), names(2), LinearSettings(C=C))


@pytest.mark.parametrize("imbalance", ["balanced", "smote", "smote-minority", "over"])
def test_each_answer_to_imbalance_says_what_it_was_worth(tmp_path, imbalance):
    vectors, dataset, settings = world((120, 30, 10), imbalance=imbalance)
    run = fit_lr(Encoded(lambda: vectors, "abc"), dataset, settings, tmp_path)
    assert run.kind == f"lr+{imbalance}"
    (worth,) = facts_of(run, "resampling")
    assert worth["imbalance"] == imbalance
    assert worth["low"] <= worth["difference"] <= worth["high"]
    assert worth["helped"] == (worth["low"] > 0)
    ways = worth["calibration"]
    assert set(ways) == {"none", "as fitted", "prior corrected"}
    assert ways["prior corrected"]["log_loss"] < ways["as fitted"]["log_loss"]  # the priors had been bent
    assert len(run.predictions["train"].proba) == 160  # real rows only


def test_folds_of_a_sampler_scale_and_resample_their_own_rows(monkeypatch):
    X, y = blobs((50, 20))
    seen = []

    def spy(rows, truth, seed):
        seen.append((len(rows), np.abs(rows.mean(0)).max(), np.abs(rows.std(0) - 1).max()))
        return rows, truth

    monkeypatch.setitem(tune.SAMPLERS, "over", spy)
    fit(X, y, np.arange(70), names(2), LinearSettings(imbalance="over"))
    assert [size for size, _, _ in seen] == [56] * 5 + [70]  # five folds, then all rows
    assert max(mean for _, mean, _ in seen) < 1e-5
    assert max(std for _, _, std in seen) < 1e-4


def test_a_broken_sampler_is_named_and_the_fit_goes_on(monkeypatch):
    def broken(rows, truth, seed):
        raise ValueError("nothing to sample")

    monkeypatch.setitem(tune.SAMPLERS, "over", broken)
    X, y = blobs((50, 20))
    found = fit(X, y, np.arange(70), names(2), LinearSettings(imbalance="over"))
    assert "over was skipped: ValueError: nothing to sample" in found.notes
    monkeypatch.setitem(tune.SAMPLERS, "smote", broken)
    chosen = fit(X, y, np.arange(70), names(2), LinearSettings(imbalance="auto"))
    assert "smote: smote was skipped: ValueError: nothing to sample" in chosen.notes
    plain = fit(X, y, np.arange(70), names(2), LinearSettings())
    assert np.abs(found.model.proba(X) - plain.model.proba(X)).max() < 0.05


def test_prior_correction_brings_the_class_shares_back(tmp_path):
    vectors, dataset, settings = world((120, 30, 10), imbalance="balanced")
    bent = fit_lr(Encoded(lambda: vectors, "abc"), dataset, settings, tmp_path)
    settings = LinearSettings(imbalance="balanced", prior_correction=True)
    mended = fit_lr(Encoded(lambda: vectors, "abc"), dataset, settings, tmp_path)
    assert bent.folder != mended.folder
    shares = np.array([120, 30, 10]) / 160
    away = [np.abs(run.predictions["test"].proba.mean(0) - shares).max() for run in (bent, mended)]
    assert away[1] < 0.05 < away[0]


def test_auto_takes_the_best_and_none_in_a_tie(tmp_path):
    vectors, dataset, settings = world((200, 15), imbalance="auto")
    run = fit_lr(Encoded(lambda: vectors, "abc"), dataset, settings, tmp_path)
    (choice,) = facts_of(run, "auto")
    assert set(choice["gain"]) == {"none", "balanced", "smote"}
    assert choice["gain"][choice["imbalance"]] == max(choice["gain"].values())
    assert [worth["imbalance"] for worth in facts_of(run, "resampling")] == ["balanced", "smote"]
    X, y = blobs((40, 40), spread=0.1)  # all three are perfect
    found = fit(X, y, np.arange(80), names(2), LinearSettings(imbalance="auto"))
    assert next(point for point in found.history if point["what"] == "auto")["imbalance"] == "none"


def test_temperature_is_fitted_out_of_fold_and_reported(tmp_path):
    vectors, dataset, settings = world(C=(100.0,), calibrate="temperature")
    rng = np.random.default_rng(0)  # many empty columns: over-confident without a penalty
    wide = {role: np.hstack([X, rng.normal(size=(len(X), 60)).astype(np.float32)]) for role, X in vectors.items()}
    run = fit_lr(Encoded(lambda: wide, "abc"), dataset, settings, tmp_path)
    on = {point["role"]: point for point in facts_of(run, "temperature")}
    assert on["train"]["temperature"] > 1.2
    assert on["train"]["after"]["log_loss"] < on["train"]["before"]["log_loss"]
    assert on["test"]["after"]["log_loss"] < on["test"]["before"]["log_loss"]
    assert on["test"]["after"]["log_loss"] == pytest.approx(run.metrics["test"]["log_loss"], abs=1e-6)
    assert on["test"]["after"]["reliability"]
    assert LinearModel.load(run.model_folder).temperature == on["train"]["temperature"]


def test_threshold_is_chosen_out_of_fold_for_two_classes(tmp_path):
    vectors, dataset, settings = world((150, 20), threshold="f1")
    run = fit_lr(Encoded(lambda: vectors, "abc"), dataset, settings, tmp_path)
    on = {point["role"]: point for point in facts_of(run, "threshold")}
    assert set(on) == {"train", "validation", "test"}
    assert on["train"]["f1"] >= on["train"]["f1_at_half"]
    assert LinearModel.load(run.model_folder).threshold == on["test"]["threshold"]
    vectors, dataset, settings = world((20, 20, 20), threshold="f1")
    with pytest.raises(UserError, match="needs two classes, the data has 3"):
        fit_lr(Encoded(lambda: vectors, "abc"), dataset, settings, tmp_path)


def test_pooling_is_chosen_in_the_folds(tmp_path):
    vectors, dataset, settings = world()
    noise = np.random.default_rng(0)
    several = {role: {"cls": noise.normal(size=X.shape).astype(np.float32), "mean": X} for role, X in vectors.items()}
    digests = {pooling: f"abc/{pooling}" for pooling in ("cls", "mean", "cls+mean")}
    encoded = Encoded(lambda: several, digests, {"pooling": "auto"})
    run = fit_lr(encoded, dataset, settings, tmp_path)
    tried = facts_of(run, "pooling")
    assert [point["pooling"] for point in tried] == ["cls", "mean", "cls+mean"]
    best = min(tried, key=lambda point: point["log_loss"])["pooling"]
    assert best in ("mean", "cls+mean")
    assert run.checkpoint_digest == f"abc/{best}"
    assert LinearModel.load(run.model_folder).pooling == best
    assert fit_lr(encoded, dataset, settings, tmp_path).folder == run.folder


def test_cost_adds_the_encoders_share_and_leaves_unknown_what_is(tmp_path):
    vectors, dataset, settings = world()
    unknown = fit_lr(Encoded(lambda: vectors, "abc"), dataset, settings, tmp_path / "1").cost
    assert unknown.extract_seconds is None
    assert unknown.ms_per_text_batch is None
    assert unknown.trained_parameters == 3 * 7
    assert unknown.fit_seconds > 0
    facts = EncodingFacts(extract_seconds=12.5, encoder_mb=90.0, ms_per_text_batch=2.0, ms_per_text_single=9.0)
    known = fit_lr(Encoded(lambda: vectors, "abc", {}, lambda pooling: facts), dataset, settings, tmp_path / "2").cost
    assert known.extract_seconds == 12.5
    assert 2 < known.ms_per_text_batch < 3
    assert 9 < known.ms_per_text_single < 12
    assert 90 < known.model_mb < 90.1


@pytest.mark.parametrize("imbalance", ["none", "smote", "auto"])
def test_tiny_classes(imbalance):
    X, y = blobs((2, 2, 2))
    found = fit(X, y, np.arange(6), names(3), LinearSettings(imbalance=imbalance))
    assert np.isfinite(found.proba).all()
    assert any("2 folds instead of 5" in note for note in found.notes)
    X, y = blobs((12, 9, 1))
    found = fit(X, y, np.arange(22), names(3), LinearSettings(imbalance=imbalance))
    assert np.isfinite(found.proba).all()
    assert any("c2" in note for note in found.notes)
    assert found.model.proba(X).shape == (22, 3)


def test_one_class_is_refused(tmp_path):
    vectors, dataset, settings = world()
    dataset.train = part("train", np.zeros(120, np.int64))
    with pytest.raises(UserError, match=r"one class only \(a\)"):
        fit_lr(Encoded(lambda: vectors, "abc"), dataset, settings, tmp_path)


def test_a_class_that_train_does_not_have_is_never_predicted():
    X, y = blobs((30, 30))
    found = fit(X, 2 * y, np.arange(60), names(4), LinearSettings())
    assert found.proba[:, [1, 3]].max() == 0
    assert found.model.proba(X)[:, [1, 3]].max() == 0
    assert (found.model.proba(X).argmax(1) == 2 * y).mean() > 0.7


def test_a_hundred_and_fifty_classes():
    X, y = blobs((3,) * 150, d=20, spread=0.3)
    found = fit(X, y, np.arange(450), names(150), LinearSettings(C=(0.1, 1.0)))
    assert found.proba.shape == (450, 150)
    assert (found.model.proba(X).argmax(1) == y).mean() > 0.9


def test_unlabelled_rows_and_vectors_that_are_not_finite_are_refused(tmp_path):
    vectors, dataset, settings = world()
    vectors["test"][3, 2] = np.nan
    with pytest.raises(UserError, match="test: vectors hold numbers that are not finite"):
        fit_lr(Encoded(lambda: vectors, "abc"), dataset, settings, tmp_path)
    dataset.train.labels[0] = -1
    with pytest.raises(UserError, match="without a label"):
        fit_lr(Encoded(lambda: vectors, "abc"), dataset, settings, tmp_path)


def test_an_unlabelled_test_split_is_not_scored(tmp_path):
    vectors, dataset, settings = world()
    dataset.test = part("test", np.full(120, -1))
    assert set(fit_lr(Encoded(lambda: vectors, "abc"), dataset, settings, tmp_path).predictions) == {
        "train",
        "validation",
    }


@pytest.mark.parametrize(
    ("settings", "listed"),
    [
        (LinearSettings(imbalance="adasyn"), "none, balanced, smote"),
        (LinearSettings(objective="f2"), "accuracy, macro_f1"),
        (LinearSettings(calibrate="platt"), "none, temperature"),
        (LinearSettings(threshold="recall"), "f1"),
    ],
)
def test_an_unknown_setting_is_answered_with_the_list(settings, listed):
    X, y = blobs((20, 20))
    with pytest.raises(UserError, match=listed):
        fit(X, y, np.arange(40), names(2), settings)


def test_more_than_memory_names_the_way_out():
    with pytest.raises(UserError, match=r"fine-tune --freeze"):
        tune.state_memory(10**9, 1024, np.arange(150).repeat(10), 5, "smote")


def test_memory_is_stated_before_a_large_fit(caplog):
    import logging

    with caplog.at_level(logging.INFO, "pipeline"):
        tune.state_memory(100_000, 1024, np.arange(10).repeat(10_000), 5, "none")
    assert "100,000 x 1024 with 10 classes: about" in caplog.text
    X, y = blobs((20, 20))
    (stated,) = [p for p in fit(X, y, np.arange(40), names(2), LinearSettings()).history if p["what"] == "memory"]
    assert 0 < stated["expected_mb"] < 1


def test_no_torch_on_the_way():
    import subprocess
    import sys

    code = "import sys, pipeline.tfidf; print([m for m in ('torch', 'sklearn', 'scipy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_calibration_that_is_made_on_the_way_names_the_run(tmp_path):
    vectors, dataset, settings = world()
    before = Encoded(lambda: vectors, "abc", {"precision": "int8"}, calibrated=lambda: {"calibration": "first"})
    run = fit_lr(before, dataset, settings, tmp_path)
    assert run.settings["calibration"] == "first"
    after = Encoded(lambda: pytest.fail("there is no need of vectors"), "abc", run.settings)
    assert fit_lr(after, dataset, settings, tmp_path).folder == run.folder
    other = Encoded(lambda: vectors, "abc", run.settings | {"calibration": "second"})
    assert fit_lr(other, dataset, settings, tmp_path).folder != run.folder
