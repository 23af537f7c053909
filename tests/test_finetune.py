"""A fine-tuned encoder learns what can be learnt, is found when it has been fitted, and survives being killed."""

import json
import os
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline import UserError
from pipeline.contenders import tuned_runs
from pipeline.data import Dataset, Split
from pipeline.encoder import Runtime
from pipeline.encoder.checkpoint import EncoderSpec, locate
from pipeline.finetune import FineTuneSettings, fine_tune, kind_of, load_finetuned, question_of
from pipeline.finetune.heads import own_dropout
from pipeline.finetune.seeds import several_seeds
from pipeline.linear.probe import LinearModel
from pipeline.run import Cost, Run, load_run, save
from pipeline.task import Task

GOOD, BAD, FILLER = ("happy", "good", "love"), ("sad", "bad", "hate"), ("it", "was", "the", "of")
FAST = FineTuneSettings(epochs=4, batch_size=16, learning_rate=1e-2, precision="fp32")


def split(name: str, rows: int, seed: int, pairs: bool = False) -> Split:
    """Every text says its class in one word, at its start."""
    random = np.random.default_rng(seed)
    labels = np.arange(rows) % 2
    texts = []
    for label in labels:
        word = str(random.choice(GOOD if label == 0 else BAD))
        rest = " ".join(random.choice(FILLER, int(random.integers(0, 4))))
        texts.append((rest, word) if pairs else (f"{word} {rest}".strip(),))
    return Split(name, texts, labels.astype(np.int64), np.array([f"{name}:{i}" for i in range(rows)]))


def dataset(pairs: bool = False, train: int = 160) -> Dataset:
    sizes = {"train": train, "validation": 60, "test": 60}
    splits = {name: split(name, rows, seed, pairs) for seed, (name, rows) in enumerate(sizes.items())}
    columns = ("premise", "hypothesis") if pairs else ("text",)
    return Dataset("toy", splits, {name: name for name in splits}, ("good", "bad"), columns, "label", "ab" * 16, ())


def epochs(run):
    return [record for record in run.history if "epoch" in record]


@pytest.fixture(scope="module")
def fitted(tiny_distilbert, tmp_path_factory):
    """One whole run, read by several tests."""
    runs = tmp_path_factory.mktemp("runs")
    return fine_tune(dataset(), locate(EncoderSpec(str(tiny_distilbert))), FAST, Runtime(), runs), runs


def test_it_learns_what_the_texts_say(fitted):
    run, _ = fitted
    assert run.kind == "fine-tune"
    assert run.metrics["test"]["accuracy"] == 1.0
    assert run.metrics["validation"]["accuracy"] == 1.0
    assert run.predictions["test"].row_ids[:2].tolist() == ["test:0", "test:1"]
    assert run.settings["chosen"]["learning_rate"] == 1e-2
    assert run.settings["text_parts"] == 1


def test_history_tells_every_epoch_before_and_after(fitted):
    run, _ = fitted
    assert [record["epoch"] for record in epochs(run)] == [0, 1, 2, 3, 4]
    assert epochs(run)[0]["validation"]["accuracy"] < 0.7  # before training
    assert "loss" not in epochs(run)[0]
    losses = [record["loss"] for record in epochs(run)[1:]]
    assert losses[-1] < losses[0]


def test_the_best_epoch_by_validation_macro_f1_is_kept(fitted):
    run, _ = fitted
    judged = [record["validation"] for record in epochs(run)[1:]]
    best = max(judged, key=lambda found: (found["macro_f1"], -found["log_loss"]))  # equal scores: the lower loss
    assert run.settings["chosen"]["epoch"] == 1 + judged.index(best)
    assert run.metrics["validation"]["macro_f1"] == best["macro_f1"]


def test_a_saved_run_opens_and_says_the_same(fitted, tmp_path):
    run, _ = fitted
    proba = load_finetuned(run, cache=tmp_path).proba(dataset().test.texts)
    np.testing.assert_allclose(proba, run.predictions["test"].proba, atol=1e-6)


def test_the_saved_model_is_a_stock_checkpoint(fitted):
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    run, _ = fitted
    model = AutoModelForSequenceClassification.from_pretrained(run.model_folder, local_files_only=True)
    assert model.config.id2label == {0: "good", 1: "bad"}
    assert model.config.label2id == {"good": 0, "bad": 1}
    texts = [text[0] for text in dataset().test.texts]
    batch = AutoTokenizer.from_pretrained(run.model_folder)(texts, padding=True, return_tensors="pt")
    proba = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits.softmax(-1)
    np.testing.assert_allclose(proba.detach().numpy(), run.predictions["test"].proba, atol=1e-5)


def test_fitted_twice_it_is_found_and_nothing_is_left_behind(fitted, tiny_distilbert):
    run, runs = fitted
    checkpoint = locate(EncoderSpec(str(tiny_distilbert)))
    again = fine_tune(dataset(), checkpoint, replace(FAST, report_to=("none",)), Runtime(), runs)
    assert again.created == run.created
    assert again.folder == question_of(FAST, dataset(), checkpoint, runs).folder
    assert [p.name for p in run.folder.parent.iterdir()] == [run.folder.name]


def test_costs_are_measured(fitted):
    cost = fitted[0].cost
    assert cost.trained_parameters == 42082
    assert cost.model_mb == pytest.approx(0.18, abs=0.02)
    assert min(cost.fit_seconds, cost.cpu_seconds) > 0
    assert cost.ms_per_text_batch is None  # measured where it is served, by who has a cache
    assert cost.peak_rss_mb > 50


def test_predicting_nothing_gives_nothing(fitted, tmp_path):
    assert load_finetuned(fitted[0], cache=tmp_path).proba([]).shape == (0, 2)


# ── resuming ────────────────────────────────────────────────────────────────────────────────────────────────────────


class KilledError(Exception):
    pass


def test_interrupted_and_resumed_it_ends_the_same(fitted, tiny_distilbert, tmp_path):
    whole, _ = fitted
    checkpoint = locate(EncoderSpec(str(tiny_distilbert)))

    def kill(stage, done, total):
        if done == 25:  # in the middle of the third epoch of ten steps
            raise KilledError

    with pytest.raises(KilledError):
        fine_tune(dataset(), checkpoint, FAST, Runtime(), tmp_path, kill)
    seen = []
    run = fine_tune(dataset(), checkpoint, FAST, Runtime(), tmp_path, lambda stage, done, total: seen.append(done))
    assert seen == list(range(21, 41))  # two epochs are not repeated
    np.testing.assert_array_equal(run.predictions["test"].proba, whole.predictions["test"].proba)
    assert [record.get("loss") for record in epochs(run)] == [record.get("loss") for record in epochs(whole)]


CHILD = """
import os, signal, sys
sys.path.insert(0, {tests!r})
from pathlib import Path
from test_finetune import FAST, dataset
from pipeline.encoder.checkpoint import EncoderSpec, locate
from pipeline.encoder import Runtime
from pipeline.finetune import fine_tune
def kill(stage, done, total):
    if done == 15:
        os.kill(os.getpid(), signal.SIGKILL)
fine_tune(dataset(), locate(EncoderSpec({encoder!r})), FAST, Runtime(), Path({runs!r}), kill)
"""


@pytest.mark.slow
def test_killed_by_signal_and_resumed_it_ends_the_same(fitted, tiny_distilbert, tmp_path):
    whole, _ = fitted
    here = Path(__file__).parent
    code = CHILD.format(tests=str(here), encoder=str(tiny_distilbert), runs=str(tmp_path))
    done = subprocess.run([sys.executable, "-c", code], cwd=here.parent, env={**os.environ}, check=False)
    assert done.returncode == -signal.SIGKILL
    seen = []
    run = fine_tune(
        dataset(),
        locate(EncoderSpec(str(tiny_distilbert))),
        FAST,
        Runtime(),
        tmp_path,
        lambda stage, done, total: seen.append(done),
    )
    assert seen[0] == 11
    np.testing.assert_array_equal(run.predictions["validation"].proba, whole.predictions["validation"].proba)


def test_a_checkpoint_that_was_not_finished_is_not_resumed_from(tmp_path):
    from pipeline.finetune.job import TrainingState, last_state

    (tmp_path / "checkpoint-10").mkdir()
    (tmp_path / "checkpoint-20").mkdir()
    TrainingState(history=[{"epoch": 0}], epoch=1).write(tmp_path / "checkpoint-10" / "done.json")
    (tmp_path / "checkpoint-20" / "done.json").write_text('{"epoch"')
    state, folder = last_state(tmp_path)
    assert (state.epoch, folder.name) == (1, "checkpoint-10")


# ── seeds, stopping, choosing ───────────────────────────────────────────────────────────────────────────────────────


def test_seeds_differ_and_the_same_seed_does_not(fitted, tiny_distilbert, tmp_path):
    whole, _ = fitted
    spec = EncoderSpec(str(tiny_distilbert), precision="fp32")
    (seeds,) = several_seeds(tuned_runs(Task(dataset(), (spec,), tuning=FAST, runs=tmp_path, seeds=2)))
    np.testing.assert_array_equal(seeds.runs[0].predictions["test"].proba, whole.predictions["test"].proba)
    assert [run.seed for run in seeds.runs] == [42, 43]
    assert not np.array_equal(seeds.runs[0].predictions["test"].proba, seeds.runs[1].predictions["test"].proba)
    each = [run.metrics["test"]["log_loss"] for run in seeds.runs]
    assert seeds.mean["test"]["log_loss"] == pytest.approx(np.mean(each))
    assert seeds.spread["test"]["log_loss"] == pytest.approx(np.std(each, ddof=1))
    assert seeds.best in seeds.runs
    assert several_seeds(seeds.runs[:1]) == []


def test_it_stops_early_when_validation_does_not_get_better(tiny_distilbert, tmp_path):
    settings = replace(FAST, epochs=6, learning_rate=1e-9, patience=1)
    run = fine_tune(dataset(), locate(EncoderSpec(str(tiny_distilbert))), settings, Runtime(), tmp_path)
    assert [record["epoch"] for record in epochs(run)] == [0, 1, 2]  # nothing moves, so the second is no better
    losses = [record["validation"]["log_loss"] for record in epochs(run)]
    assert run.settings["chosen"]["epoch"] == 1 + int(np.argmin(losses[1:]))  # equal scores: the lower loss


@pytest.mark.parametrize(("rates", "epochs"), [((1e-9, 1e-8, 1e-2), 4), ((1e-9, 1e-2), 2)])
def test_a_searched_training_is_the_one_at_its_rate(rates, epochs, tiny_distilbert, tmp_path, monkeypatch):
    monkeypatch.setattr("pipeline.finetune.rates.RATES", rates)
    monkeypatch.setattr("pipeline.finetune.rates.JUDGED", (60, 60))  # validation is enough: nothing is held out
    monkeypatch.setattr("pipeline.finetune.rates.FEWEST_STEPS", 15)  # the second rung ends the third epoch
    checkpoint, settings = locate(EncoderSpec(str(tiny_distilbert))), replace(FAST, epochs=epochs, learning_rate=None)
    seen = []
    run = fine_tune(dataset(), checkpoint, settings, Runtime(), tmp_path, lambda *told: seen.append(told))
    tried = [record for record in run.history if "search" in record]
    steps = {4: [15, 30, 30], 2: [15, 15]}[epochs]
    assert [(record["learning_rate"], record["steps"], record["chosen"]) for record in tried] == [
        (rate, step, rate == 1e-2) for rate, step in zip(rates, steps, strict=True)
    ]
    assert run.settings["chosen"]["learning_rate"] == 1e-2
    assert run.cost.fit_seconds > sum(record["seconds"] for record in tried)
    total = {4: 3 * 15 + 2 * 15, 2: 2 * 15}[epochs]
    assert [told for told in seen if told[0] == "learning rate"] == [
        ("learning rate", step, total) for step in range(1, total + 1)
    ]
    assert [told[1] for told in seen if told[0] == "fine-tune"] == list(range(steps[-1] + 1, 10 * epochs + 1))
    given = fine_tune(dataset(), checkpoint, replace(settings, learning_rate=1e-2), Runtime(), tmp_path)
    np.testing.assert_array_equal(run.predictions["test"].proba, given.predictions["test"].proba)
    judged = [[e["validation"] for e in [r for r in one.history if "epoch" in r]] for one in (run, given)]
    assert judged[0] == judged[1]


def test_a_rate_that_diverges_is_left_and_all_of_them_are_one_line(tiny_distilbert, tmp_path, monkeypatch):
    from pipeline.finetune import job

    advance = job.advance

    def broken(model, one, *rest):
        if one.rate > limit:
            raise job.diverged(1, one.rate)
        advance(model, one, *rest)

    monkeypatch.setattr("pipeline.finetune.rates.advance", broken)
    monkeypatch.setattr("pipeline.finetune.rates.RATES", (1e-3, 1e-2, 1e-1))
    checkpoint, limit = locate(EncoderSpec(str(tiny_distilbert))), 5e-3
    settings = replace(FAST, epochs=1, learning_rate=None)
    run = fine_tune(dataset(), checkpoint, settings, Runtime(), tmp_path)
    assert run.settings["chosen"]["learning_rate"] == 1e-3
    assert [record.get("log_loss") is None for record in run.history if "search" in record] == [False, True, True]
    limit = 0
    with pytest.raises(UserError, match="the training diverged"):
        fine_tune(dataset(), checkpoint, replace(settings, seed=1), Runtime(), tmp_path)


def test_killed_after_its_search_it_does_not_search_again(tiny_distilbert, tmp_path, monkeypatch):
    monkeypatch.setattr("pipeline.finetune.rates.RATES", (1e-9, 1e-2))
    monkeypatch.setattr("pipeline.finetune.rates.FEWEST_STEPS", 15)
    checkpoint, settings = locate(EncoderSpec(str(tiny_distilbert))), replace(FAST, epochs=2, learning_rate=None)

    def kill(stage, done, total):
        if (stage, done) == ("fine-tune", 17):
            raise KilledError

    with pytest.raises(KilledError):
        fine_tune(dataset(), checkpoint, settings, Runtime(), tmp_path, kill)
    seen = []
    run = fine_tune(dataset(), checkpoint, settings, Runtime(), tmp_path, lambda *told: seen.append(told[:2]))
    assert seen == [("fine-tune", step) for step in range(16, 21)]
    assert [record["steps"] for record in run.history if "search" in record] == [15, 15]


def test_without_validation_the_last_epoch_stands(tiny_distilbert, tmp_path):
    whole = dataset()
    data = replace(whole, roles={"train": "train", "test": "test"})
    run = fine_tune(data, locate(EncoderSpec(str(tiny_distilbert))), replace(FAST, epochs=2), Runtime(), tmp_path)
    assert run.settings["chosen"]["epoch"] == 2
    assert set(run.predictions) == {"test"}


# ── what else can be asked for ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("head", ["linear", pytest.param("mlp", marks=pytest.mark.slow)])
def test_other_heads_learn_and_open_again(head, tiny_bert, tmp_path):
    settings = replace(FAST, head=head, xavier=True, dropout=0.0, learning_rate=5e-3, epochs=5)
    run = fine_tune(dataset(), locate(EncoderSpec(str(tiny_bert))), settings, Runtime(), tmp_path)
    assert run.metrics["test"]["accuracy"] == 1.0
    assert json.loads((run.model_folder / "head.json").read_text())["head"] == head
    proba = load_finetuned(run, cache=tmp_path).proba(dataset().test.texts)
    np.testing.assert_allclose(proba, run.predictions["test"].proba, atol=1e-6)
    (run.model_folder / "head.safetensors").write_bytes(b"\x80\x04pickle")
    with pytest.raises(UserError, match="damaged head"):
        load_finetuned(run, cache=tmp_path)


def test_it_starts_from_a_fitted_regression(tiny_distilbert, tmp_path):
    checkpoint = locate(EncoderSpec(str(tiny_distilbert)))
    arrays = np.zeros((2, 32), "f4"), np.array([0, 3], "f4"), np.zeros(32, "f4"), np.ones(32, "f4")
    start = LinearModel(*arrays, ("good", "bad"), checkpoint.checkpoint_digest("cls"))
    fitted = Run("lr", {}, ("good", "bad"), {}, Cost(), "toy", "ab" * 16)
    folder = save(fitted, tmp_path / "toy" / "lr-1", start.save).folder
    settings = replace(FAST, epochs=1, head="linear", init_head=folder, learning_rate=1e-3)
    with pytest.raises(UserError, match="fitted on other rows or splits"):  # its train may hold rows of this test
        fine_tune(replace(dataset(), digest="cd" * 16), checkpoint, settings, Runtime(), tmp_path)
    run = fine_tune(dataset(), checkpoint, settings, Runtime(), tmp_path)
    bad = 1 / (1 + np.exp(-3))  # the regression knows of no word and always says so
    before = -(np.log(bad) + np.log(1 - bad)) / 2
    assert epochs(run)[0]["validation"]["log_loss"] == pytest.approx(before, abs=1e-5)
    assert run.settings["init_head"] == "toy/lr-1"


def test_pairs_with_token_types(tiny_bert, tmp_path):
    settings = replace(FAST, epochs=5, learning_rate=5e-3)
    run = fine_tune(dataset(pairs=True), locate(EncoderSpec(str(tiny_bert))), settings, Runtime(), tmp_path)
    assert run.metrics["test"]["accuracy"] == 1.0
    assert run.settings["text_parts"] == 2
    proba = load_finetuned(run, cache=tmp_path).proba(dataset(pairs=True).test.texts)
    np.testing.assert_allclose(proba, run.predictions["test"].proba, atol=1e-6)


def test_from_scratch_forgets_the_pretrained_weights(tiny_distilbert, tmp_path):
    settings = replace(FAST, epochs=1, from_scratch=True)
    run = fine_tune(dataset(), locate(EncoderSpec(str(tiny_distilbert))), settings, Runtime(), tmp_path)
    assert run.kind == "from-scratch"
    assert epochs(run)[0]["validation"]["log_loss"] == pytest.approx(np.log(2), abs=0.05)


def test_weights_smoothing_and_accumulation_are_part_of_the_question(tiny_distilbert, tmp_path):
    checkpoint = locate(EncoderSpec(str(tiny_distilbert)))
    settings = replace(
        FAST, epochs=20, class_weights=True, label_smoothing=0.1, gradient_accumulation=2, batch_size=8, unfreeze=2
    )
    run = fine_tune(dataset(), checkpoint, settings, Runtime(), tmp_path)
    assert run.metrics["test"]["accuracy"] == 1.0
    assert run.kind == "fine-tune+last-2"
    assert run.cost.trained_parameters < 42082  # the embeddings stay as they are
    assert run.folder != question_of(replace(settings, label_smoothing=0.0), dataset(), checkpoint, tmp_path).folder


def a_trainer(folder, settings, work):
    """Of an encoder for eight rows."""
    from transformers import TrainerCallback

    from pipeline import silent
    from pipeline.encoder.tokens import tokenizer
    from pipeline.finetune.device import machine
    from pipeline.finetune.heads import HeadSpec, build
    from pipeline.finetune.training import TrainingJob, tokenised, trainer_for

    checkpoint = locate(EncoderSpec(str(folder)))
    rows = tokenised([("good film",), ("bad film",)] * 4, np.array([0, 1] * 4), tokenizer(checkpoint), 8, 0)
    callback = type("Quiet", (TrainerCallback,), {})()
    model = build(checkpoint, ("a", "b"), HeadSpec(), 0)
    job = TrainingJob(rows, None, ("a", "b"), settings, 1e-3, machine("cpu", "fp32"), work, silent, dataset="films")
    return trainer_for(model, job, callback)


def test_a_trainings_place_in_tensorboard_is_no_later_ones(tiny_distilbert, tmp_path, monkeypatch):
    settings = replace(FAST, report_to=("tensorboard",))
    for place in ("elsewhere", None):
        if place:
            monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", place)
        else:
            monkeypatch.delenv("TENSORBOARD_LOGGING_DIR")
        with suppress(UserError):  # where it is not installed
            a_trainer(tiny_distilbert, settings, tmp_path)
        assert os.environ.get("TENSORBOARD_LOGGING_DIR") == place


def test_a_tracker_that_fails_costs_no_training(tiny_distilbert, tmp_path, caplog):
    from transformers import TrainerCallback

    from pipeline.finetune.tracking import spare

    seen = []

    def refused(self, *given, **named):
        seen.append("asked")
        raise ImportError("No module named 'alembic'")

    parts = {"on_train_begin": refused, "on_log": refused, "__module__": "transformers.integrations.somewhere"}
    trainer = a_trainer(tiny_distilbert, replace(FAST, epochs=1), tmp_path)
    trainer.add_callback(type("MLflowCallback", (TrainerCallback,), parts)())
    spare(trainer)
    trainer.train()
    assert trainer.state.global_step == 1
    assert seen == ["asked"]  # once: then it is left out
    assert "--report-to: MLflow: No module named 'alembic'; the training goes on without it" in caplog.text


def test_trackers_keep_a_training_where_they_keep_its_verdict(tiny_distilbert, tmp_path, monkeypatch):
    from transformers import TrainerCallback

    from pipeline.finetune.tracking import PLACES, place_of, spare

    names = {"mlflow": "probe-or-tune films", "trackio": "probe-or-tune-films", "wandb": "probe-or-tune"}
    for variable, _ in PLACES.values():
        monkeypatch.delenv(variable, raising=False)
    for place in (None, "elsewhere"):
        seen = {}

        def begun(self, *given, seen=seen, **named):
            seen.update({tracker: os.environ[variable] for tracker, (variable, _) in PLACES.items()})

        trainer = a_trainer(tiny_distilbert, replace(FAST, epochs=1), tmp_path / ".fine-tune-1")
        parts = {"on_train_begin": begun, "__module__": "transformers.integrations.somewhere"}
        trainer.add_callback(type("MLflowCallback", (TrainerCallback,), parts)())
        spare(trainer, "films")
        trainer.train()
        assert seen == {tracker: place_of(tracker, "films") for tracker in PLACES} == names
        assert (trainer.args.project, trainer.args.run_name) == (names["trackio"], "fine-tune-1")
        assert os.environ.get("MLFLOW_EXPERIMENT_NAME") == place
        monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "elsewhere")
        names["mlflow"] = "elsewhere"


@pytest.mark.parametrize(("schedule", "last"), [("linear", 0.0), ("constant", 1e-3)])
def test_the_rate_follows_its_schedule_after_the_warm_up(schedule, last, tiny_distilbert, tmp_path):
    settings = replace(FAST, epochs=5, batch_size=4, warmup=0.2, schedule=schedule)
    trainer = a_trainer(tiny_distilbert, settings, tmp_path)
    trainer.create_optimizer_and_scheduler(10)
    rates = []
    for _ in range(11):
        rates.append(trainer.lr_scheduler.get_last_lr()[0])
        trainer.optimizer.step()
        trainer.lr_scheduler.step()
    assert rates[:3] == pytest.approx([0.0, 5e-4, 1e-3])
    assert rates[10] == pytest.approx(last)


def test_bfloat16_trains(tiny_distilbert, tmp_path):
    settings = replace(FAST, epochs=2, precision="bf16")
    run = fine_tune(dataset(), locate(EncoderSpec(str(tiny_distilbert))), settings, Runtime(device="cpu"), tmp_path)
    assert epochs(run)[2]["loss"] < epochs(run)[1]["loss"]
    assert run.settings["chosen"]["precision"] == "bf16"
    proba = load_finetuned(run, cache=tmp_path).proba(dataset().test.texts)
    np.testing.assert_allclose(proba, run.predictions["test"].proba, atol=1e-3)


@pytest.mark.slow
def test_two_processes_make_one_run(tiny_distilbert, tmp_path):
    code = tmp_path / "train.py"
    code.write_text(
        CHILD.format(tests=str(Path(__file__).parent), encoder=str(tiny_distilbert), runs=str(tmp_path / "runs"))
        .replace("os.kill", "print")
        .replace("Runtime()", "Runtime(device='cpu')")
    )
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", str(code)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent), "OMP_NUM_THREADS": "1"}
    subprocess.run(command, check=True, env=environment, capture_output=True)
    (home,) = (tmp_path / "runs").iterdir()
    (folder,) = home.iterdir()
    run = load_run(folder)
    assert run.metrics["test"]["accuracy"] >= 0.95
    proba = load_finetuned(run, cache=tmp_path).proba(dataset().test.texts)
    np.testing.assert_allclose(proba, run.predictions["test"].proba, atol=1e-6)


TOGETHER = """
import sys
sys.path.insert(0, {tests!r})
from test_finetune import *
even = dataset(train=80)
for name, rows in even.splits.items():  # all texts of one length, so that one process and two take them in one order
    rows.texts[:] = [(f"{{text[0].split()[0]}} it was",) for text in rows.texts]
settings = replace(FAST, epochs=2, batch_size={batch}, gradient_accumulation={accumulation}, learning_rate=1e-3)
fine_tune(even, locate(EncoderSpec({encoder!r})), settings, Runtime(device="cpu"), Path({runs!r}))
"""


@pytest.mark.slow
def test_two_processes_do_what_one_does_with_twice_the_accumulation(tiny_distilbert, tmp_path):
    quiet = tmp_path / "encoder"  # without dropout: two processes draw other numbers than one
    shutil.copytree(tiny_distilbert, quiet)
    config = json.loads((quiet / "config.json").read_text()) | {"dropout": 0.0, "attention_dropout": 0.0}
    (quiet / "config.json").write_text(json.dumps(config | {"seq_classif_dropout": 0.0}))
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent), "OMP_NUM_THREADS": "1"}
    found = {}
    for world_size, batch, accumulation in ((1, 8, 2), (2, 16, 1)):  # 16 rows a step, either way
        code, runs = tmp_path / f"{world_size}.py", tmp_path / f"runs-{world_size}"
        code.write_text(
            TOGETHER.format(
                tests=str(Path(__file__).parent),
                encoder=str(quiet),
                runs=str(runs),
                batch=batch,
                accumulation=accumulation,
            )
        )
        command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(world_size), str(code)]
        subprocess.run(command, check=True, env=environment, capture_output=True)
        ((folder,),) = ([*home.iterdir()] for home in runs.iterdir())
        found[world_size] = load_run(folder)
    one, two = found[1], found[2]
    assert 0.3 < epochs(one)[2]["loss"] < epochs(one)[1]["loss"]  # it has learnt something, and not everything
    for epoch in (1, 2):
        assert epochs(two)[epoch]["loss"] == pytest.approx(epochs(one)[epoch]["loss"], abs=1e-4)
    np.testing.assert_allclose(two.predictions["test"].proba, one.predictions["test"].proba, atol=1e-4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"head": "deep"}, "no head 'deep'; choose one of standard, linear, mlp"),
        ({"schedule": "steps"}, "no schedule 'steps'; choose one of linear, cosine, constant"),
        ({"epochs": 0}, "--epochs 0: out of range; pass 1 or more"),
        ({"freeze": True, "unfreeze": 1}, "--freeze and --unfreeze contradict"),
        ({"freeze": True, "weight_decay": 0.1}, "--freeze takes no --weight-decay"),
        ({"freeze": True, "schedule": "cosine"}, "--freeze takes no --schedule"),
        ({"init_head": Path("x")}, "--head linear"),
        ({"precision": "fp8"}, "no precision 'fp8'"),
        ({"unfreeze": 3}, "the encoder has 2 layers"),
        ({"lora": 8, "unfreeze": 1}, "--unfreeze and --lora contradict"),
        ({"lora": 0}, "--lora 0: out of range; pass 1 or more"),
        ({"unfreeze": -1}, "--unfreeze -1: out of range; pass 0 or more"),
        ({"learning_rate": 2.0}, "--learning-rate 2.0: out of range; pass more than 0 and less than 1"),
    ],
)
def test_settings_that_make_no_sense_are_refused(changes, message, tiny_distilbert, tmp_path):
    checkpoint = locate(EncoderSpec(str(tiny_distilbert)))
    with pytest.raises(UserError, match=message):
        fine_tune(dataset(), checkpoint, replace(FAST, **changes), Runtime(), tmp_path)
    assert list(tmp_path.rglob(".work-*")) == []


@pytest.mark.parametrize("where", ["judged", "trained"])
def test_a_training_that_diverges_is_one_line(where, tiny_distilbert, tmp_path, monkeypatch):
    from pipeline.finetune import job

    if where == "judged":
        bad = {"accuracy": 0.0, "macro_f1": 0.0, "log_loss": None}
        monkeypatch.setattr(job.TrainingJob, "judge", lambda self, *_: (bad, None))
    else:
        monkeypatch.setattr(job, "finite", lambda number: None)
    checkpoint = locate(EncoderSpec(str(tiny_distilbert)))
    with pytest.raises(UserError, match=r"diverged: in epoch 1 .* at learning rate .*; pass a smaller --learning-rate"):
        fine_tune(dataset(), checkpoint, FAST, Runtime(), tmp_path)


def test_the_dropout_of_a_head_is_the_architectures():
    assert own_dropout({"seq_classif_dropout": 0.2, "dropout": 0.1}) == 0.2
    assert own_dropout({"classifier_dropout": None, "hidden_dropout_prob": 0.15}) == 0.15
    assert own_dropout({}) == 0.1


def test_epochs_by_default_are_another_question_than_three(tiny_distilbert, tmp_path):
    checkpoint = locate(EncoderSpec(str(tiny_distilbert)))
    auto, three = (
        question_of(FineTuneSettings(epochs=epochs), dataset(), checkpoint, tmp_path) for epochs in (None, 3)
    )
    assert (auto.settings["epochs"], three.settings["epochs"]) == ("auto", 3)
    assert auto.folder != three.folder
    record = {"kind": "fine-tune", "seed": 42, "dataset_digest": auto.dataset.digest, "settings": three.settings}
    record["checkpoint_digest"] = auto.checkpoint_digests[0]
    assert three.answered_by(record)
    assert not auto.answered_by(record)


def test_epochs_by_default_make_250_steps_and_the_run_says_how_many(tiny_distilbert, tmp_path):
    settings = replace(FAST, epochs=None, batch_size=10)
    run = fine_tune(dataset(train=100), locate(EncoderSpec(str(tiny_distilbert))), settings, Runtime(), tmp_path)
    assert (run.settings["epochs"], run.settings["chosen"]["epochs"]) == ("auto", 25)
    assert epochs(run)[-1]["epoch"] == 25
    assert run.notes[0].startswith("100 rows to learn from: chance decides much of this run, and an epoch chosen on 60")


def test_kinds_have_names():
    assert kind_of(FineTuneSettings()) == "fine-tune"
    assert kind_of(FineTuneSettings(freeze=True)) == "frozen-head"
    assert kind_of(FineTuneSettings(unfreeze=2)) == "fine-tune+last-2"
    assert kind_of(FineTuneSettings(lora=16)) == "fine-tune+lora"
