"""Scores equal scikit-learn's; a run's folder appears whole, is found again, and executes nothing."""

import contextlib
import json
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from sklearn import metrics

from pipeline import UserError, kinds, memory
from pipeline.metrics import reliability, scores
from pipeline.run import Cost, Fitted, Predictions, Question, Run, answer, find, fit_once, load_run, runs_of, save
from pipeline.run.folder import slug

NAMES = ("ham", "spam", "other")


def guesses(n=200, k=3, seed=0):
    random = np.random.default_rng(seed)
    return random.integers(0, k, n), random.dirichlet(np.ones(k), n).astype(np.float32)


def a_run(**changes):
    truth, proba = guesses()
    ids = np.array([f"test:{i}" for i in range(len(truth))])
    facts = {
        "kind": "lr",
        "settings": {"C": 1.0, "pooling": "cls"},
        "class_names": NAMES,
        "predictions": {"test": Predictions("test", ids, truth, proba)},
        "cost": Cost(fit_seconds=1.5),
        "dataset": "mails",
        "dataset_digest": "d" * 32,
    }
    return Run(**(facts | changes))


def question(runs, settings, seed=42, checkpoints=(), name="mails", **more):
    data = SimpleNamespace(name=name, digest="d" * 32, class_names=NAMES, roles={})
    return Question("lr", data, Path(runs), seed, settings, checkpoint_digests=checkpoints, **more)


def test_scores_equal_scikit_learns():
    truth, proba = guesses()
    predicted, ours = proba.argmax(1), scores(truth, proba, NAMES)
    assert ours["accuracy"] == pytest.approx(metrics.accuracy_score(truth, predicted))
    assert ours["balanced_accuracy"] == pytest.approx(metrics.balanced_accuracy_score(truth, predicted))
    assert ours["macro_f1"] == pytest.approx(metrics.f1_score(truth, predicted, average="macro"))
    assert ours["weighted_f1"] == pytest.approx(metrics.f1_score(truth, predicted, average="weighted"))
    assert ours["precision"] == pytest.approx(metrics.precision_score(truth, predicted, average="macro"))
    assert ours["recall"] == pytest.approx(metrics.recall_score(truth, predicted, average="macro"))
    assert ours["log_loss"] == pytest.approx(metrics.log_loss(truth, proba), rel=1e-6)
    assert ours["brier"] == pytest.approx(metrics.brier_score_loss(truth, proba), rel=1e-5)
    assert ours["per_class"]["spam"]["rows"] == int((truth == 1).sum())


def test_binary_brier_is_the_usual_one():
    truth, proba = guesses(k=2)
    assert scores(truth, proba, NAMES[:2])["brier"] == pytest.approx(
        metrics.brier_score_loss(truth, proba[:, 1]), rel=1e-5
    )


def test_a_class_that_nobody_sees_does_not_lower_macro_f1():
    truth, proba = np.array([0, 1]), np.array([[0.9, 0.1, 0.0], [0.2, 0.8, 0.0]])
    assert scores(truth, proba, NAMES)["macro_f1"] == 1.0
    assert scores(truth, proba, NAMES)["per_class"]["other"]["rows"] == 0


def test_calibration_error_by_hand():
    # confidences 0.9 (right) and 0.7 (wrong): |0.9 − 1| / 2 + |0.7 − 0| / 2
    truth, proba = np.array([0, 1]), np.array([[0.9, 0.1], [0.7, 0.3]])
    assert scores(truth, proba, NAMES[:2])["ece"] == pytest.approx(0.05 + 0.35)
    assert [b["rows"] for b in reliability(truth, proba)] == [1, 1]


def test_nothing_and_nonsense_are_not_scored():
    with pytest.raises(UserError, match="no labelled rows"):
        scores(np.array([], int), np.zeros((0, 2)), NAMES[:2])
    with pytest.raises(UserError, match="not finite"):
        scores(np.array([0]), np.array([[np.nan, 1.0]]), NAMES[:2])


def test_a_run_comes_back_as_it_was(tmp_path):
    run = a_run()
    folder = question(tmp_path, run.settings).folder
    assert find(folder) is None
    saved = save(run, folder, lambda model: (model / "w.json").write_text("[1]"))
    back = load_run(folder)
    assert back.to_json() == find(folder).to_json() == saved.to_json()
    assert back.settings == run.settings
    assert back.class_names == NAMES
    assert back.cost.fit_seconds == 1.5
    assert back.cost.model_mb == pytest.approx(3e-6)
    assert back.metrics["test"]["accuracy"] == saved.metrics["test"]["accuracy"]
    np.testing.assert_array_equal(back.predictions["test"].proba, run.predictions["test"].proba)
    assert back.predictions["test"].row_ids[199] == "test:199"
    assert [r.folder for r in runs_of(tmp_path, run.dataset, run.dataset_digest)] == [folder]
    assert not list(folder.parent.glob(".draft-*"))


def test_settings_name_the_folder_and_their_order_does_not():
    def place(settings, seed=1, checkpoint=()):
        return question("runs", settings, seed, checkpoint, name="a/b c").folder

    assert place({"C": 1, "k": 2}) == place({"k": 2, "C": 1})
    assert len({place({"C": 1}), place({"C": 2}), place({"C": 1}, seed=2), place({"C": 1}, checkpoint=("e",))}) == 4
    assert place({}).parent.name == "a-b-c-" + "d" * 16


def test_a_failed_model_leaves_no_folder(tmp_path):
    def explode(model):
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        save(a_run(), tmp_path / "set" / "lr-1", explode)
    assert list((tmp_path / "set").iterdir()) == []


def test_a_disk_that_is_full_for_safetensors_is_one_line(tmp_path):
    from safetensors import SafetensorError

    def full(model):
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    with pytest.raises(UserError, match=r"cannot write the run \(.*No space left.*\); choose another --runs"):
        save(a_run(), tmp_path / "lr-1", full)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "change", [{"kind": None}, {"settings": []}, {"cost": {"ms_per_text_batch": "x"}}, {"cost": None}]
)
def test_a_record_of_other_types_is_refused_in_one_line(tmp_path, change):
    save(a_run(), tmp_path / "lr-1", lambda model: None)
    file = tmp_path / "lr-1" / "run.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(UserError, match="damaged run") as caught:
        load_run(tmp_path / "lr-1")
    assert "\n" not in str(caught.value)


def test_the_second_writer_keeps_the_first_ones_run(tmp_path):
    first = save(a_run(), tmp_path / "lr-1", lambda model: (model / "w").write_text("first"))
    second = save(a_run(seconds=9.0), tmp_path / "lr-1", lambda model: (model / "w").write_text("second"))
    assert (tmp_path / "lr-1" / "model" / "w").read_text() == "first"
    assert second.seconds == first.seconds == 0.0


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("run.json", b"{", "damaged"),
        ("run.json", b"\xff\xfe", "damaged"),
        ("run.json", b"[]", "damaged"),
        ("run.json", b'{"format": 99}', "format 99"),
        ("predictions.safetensors", b"", "damaged"),
        ("predictions.safetensors", b"\xff" * 64, "damaged"),
        ("predictions.safetensors", b"\x80\x04cos\nsystem\n", "damaged"),
    ],
)
def test_a_strangers_run_is_refused_in_one_line(tmp_path, name, content, message):
    save(a_run(), tmp_path / "lr-1", lambda model: None)
    (tmp_path / "lr-1" / name).write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        load_run(tmp_path / "lr-1")
    assert "\n" not in str(caught.value)


def test_predictions_that_do_not_fit_the_classes_are_refused(tmp_path):
    save(a_run(), tmp_path / "lr-1", lambda model: None)
    record = json.loads((tmp_path / "lr-1" / "run.json").read_text())
    record["class_names"] = ["ham", "spam"]
    (tmp_path / "lr-1" / "run.json").write_text(json.dumps(record))
    with pytest.raises(UserError, match="do not fit together"):
        load_run(tmp_path / "lr-1")


def test_a_run_without_its_predictions_says_so(tmp_path):
    save(a_run(), tmp_path / "lr-1", lambda model: None)
    (tmp_path / "lr-1" / "predictions.safetensors").unlink()
    with pytest.raises(UserError, match=r"lr-1: damaged run \(no predictions\.safetensors\); "):
        load_run(tmp_path / "lr-1")


def test_no_run_here(tmp_path):
    with pytest.raises(UserError, match=r"no run here"):
        load_run(tmp_path)


def test_a_damaged_run_is_set_aside_and_fitted_again(tmp_path):
    from safetensors.numpy import save_file

    def write(model):
        save_file({"W": np.ones((3, 4), np.float32)}, model / "model.safetensors")

    folder = tmp_path / "lr-1"
    save(a_run(), folder, write)
    assert find(folder) is not None
    weights = folder / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:30])
    assert find(folder) is None
    assert [path.name.startswith(".damaged-") for path in tmp_path.iterdir()] == [True]
    save(a_run(), folder, write)
    assert find(folder) is not None


def test_half_a_run_does_not_stand_in_the_way(tmp_path):
    folder = tmp_path / "lr-1"
    save(a_run(), folder, lambda model: (model / "w").write_text("1"))
    (folder / "run.json").unlink()
    assert find(folder) is None
    assert save(a_run(), folder, lambda model: (model / "w").write_text("2")).folder == folder
    assert (folder / "model" / "w").read_text() == "2"


def test_a_moved_encoder_does_not_make_another_run():
    def place(encoder):
        return question("runs", {"C": 1, "encoder": encoder}, 1, ("e" * 32,)).folder

    assert place("/here/model") == place("/there/model")


@pytest.mark.skipif(not memory.FORGET.exists(), reason="Linux alone forgets a peak")
def test_a_peak_of_memory_can_be_forgotten():
    much = bytearray(200_000_000)
    high = memory.peak_rss_mb()
    del much
    memory.forget_peak()
    assert memory.peak_rss_mb() < high - 100


# ── a question and its answer ───────────────────────────────────────────────────────────────────────────────────────

DEFAULTS = {"C": 1.0, "folds": 5}


def ask(tmp_path, settings=None, **more):
    """A question about three rows of test, with the defaults above."""
    part = SimpleNamespace(name="test", labels=np.array([0, 1, 1]), row_ids=np.array(["a", "b", "c"]))
    data = SimpleNamespace(name="mails", digest="d" * 32, class_names=NAMES[:2], roles={"test": "test"}, test=part)
    more = {"defaults": DEFAULTS, "checkpoint_digests": ("e" * 32,)} | more
    return Question("lr", data, tmp_path, 7, DEFAULTS | (settings or {}), **more)


def learnt(calls, **more):
    """A fit that notes when it is called."""

    def learn(given):
        calls.append(given)
        proba = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]], np.float32)
        return Fitted(
            lambda role: proba,
            ("test",),
            lambda model: (model / "w").write_text("1"),
            lambda: Cost(model_mb=3.0),
            **more,
        )

    return learn


def test_a_fit_is_timed_measured_saved_and_then_found(tmp_path):
    calls = []
    run = fit_once(ask(tmp_path), learnt(calls, chosen={"chosen": {"epoch": 2}}))
    assert run.folder == ask(tmp_path).folder
    assert run.metrics["test"]["accuracy"] == pytest.approx(2 / 3)
    assert (run.kind, run.seed, run.checkpoint_digest) == ("lr", 7, "e" * 32)
    assert run.settings == DEFAULTS | {"chosen": {"epoch": 2}}
    assert 0 <= run.cost.fit_seconds <= run.seconds
    assert run.cost.peak_rss_mb > 1
    assert run.cost.model_mb == 3.0  # what the fit says itself counts
    assert fit_once(ask(tmp_path), learnt(calls)).created == run.created
    assert len(calls) == 1


def test_what_surrounds_a_fit_is_not_on_its_clock_and_lasts_until_it_is_saved(tmp_path, monkeypatch):
    seen, slept, clock = [], [0.0], time.perf_counter
    monkeypatch.setattr(time, "perf_counter", lambda: clock() + slept[0])
    monkeypatch.setattr(time, "process_time", lambda: slept[0])

    def imported(kind):
        slept[0] += 1000

    monkeypatch.setattr(kinds, "import_libraries", imported)

    @contextlib.contextmanager
    def around(folder):
        slept[0] += 1000
        yield "vectors"
        seen.append((folder / "run.json").exists())

    calls = []
    run = fit_once(ask(tmp_path), learnt(calls), around)
    assert calls == ["vectors"]
    assert seen == [True]
    assert run.cost.fit_seconds < 1000 < 2000 <= run.seconds
    assert run.cost.cpu_seconds == 0


def test_a_new_setting_with_a_default_changes_no_name(tmp_path):
    calls = []
    run = fit_once(ask(tmp_path), learnt(calls))
    newer = {"defaults": DEFAULTS | {"layers": "last"}}
    assert ask(tmp_path, {"layers": "last"}, **newer).folder == run.folder
    assert fit_once(ask(tmp_path, {"layers": "last"}, **newer), learnt(calls)).folder == run.folder
    assert fit_once(ask(tmp_path, {"layers": "all"}, **newer), learnt(calls)).folder != run.folder
    assert len(calls) == 2


@pytest.mark.parametrize("change", [{"C": 2.0}, {"folds": 10}, {"storage": "float16"}])
def test_every_setting_that_differs_is_another_question(tmp_path, change):
    calls = []
    fit_once(ask(tmp_path), learnt(calls))
    other = fit_once(ask(tmp_path, change), learnt(calls))
    assert len(calls) == 2
    assert fit_once(ask(tmp_path, change), learnt(calls)).folder == other.folder
    assert len(calls) == 2


def test_a_run_that_an_earlier_version_named_is_found_by_its_record(tmp_path):
    calls = []
    run = fit_once(ask(tmp_path), learnt(calls))
    old = run.folder.with_name("lr-0123456789abcdef")
    run.folder.rename(old)
    assert fit_once(ask(tmp_path), learnt(calls)).folder == old
    assert answer(ask(tmp_path, {"C": 2.0})) is None
    assert answer(ask(tmp_path, checkpoint_digests=("f" * 32,))) is None
    assert len(calls) == 1


def test_a_run_whose_default_has_changed_since_is_fitted_again_and_said(tmp_path, caplog):
    calls = []
    run = fit_once(ask(tmp_path), learnt(calls))
    changed = ask(tmp_path, {"folds": 10}, defaults=DEFAULTS | {"folds": 10})
    assert changed.folder == run.folder  # nobody raised the kind's version
    assert fit_once(changed, learnt(calls)).settings["folds"] == 10
    assert len(calls) == 2
    assert "other defaults" in caplog.text
    assert list(tmp_path.glob("*/.damaged-*"))  # nothing is deleted


def test_an_unknown_kind_is_no_question(tmp_path):
    with pytest.raises(UserError, match="no kind of run 'oracle'"):
        Question("oracle", SimpleNamespace(), tmp_path, 1)


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("résumés & avis (1)", "résumés-avis-1"),
        ("评论", "评论"),
        ("x" * 300, "x" * 120),
        ("评" * 300, "评" * 40),  # three bytes each
        ("../../etc", "etc"),
        ("\udcff\0/", "unnamed"),
    ],
)
def test_a_folder_is_named_in_the_letters_of_its_data(name, folder):
    assert slug(name) == folder
