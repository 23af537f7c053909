"""Python as people write it: frames, data sets and lists give what a file with the same rows gives."""

import importlib
import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tables import sentences

import pipeline
from pipeline import UserError
from pipeline import options as bundles
from pipeline.data import SourceOptions, read
from pipeline.data.frames import frames
from pipeline.options import commands
from pipeline.options.keywords import asked_on
from pipeline.tfidf import TfidfSettings, tfidf_fit

ROOT = Path(__file__).parent.parent
TEXTS, LABELS = map(list, zip(*sentences(240), strict=True))
NAMES = LABELS


def as_pandas(texts, labels):
    return pytest.importorskip("pandas").DataFrame({"body": texts, "stars": labels})


def as_polars(texts, labels):
    return pytest.importorskip("polars").DataFrame({"body": texts, "stars": labels})


def as_datasets(texts, labels):
    from datasets import Dataset

    return Dataset.from_dict({"body": texts, "stars": labels})


def as_arrow(texts, labels):
    import pyarrow as pa

    return pa.table({"body": texts, "stars": labels})


def as_dict(texts, labels):
    return {"body": texts, "stars": np.array(labels)}


KINDS = [as_pandas, as_polars, as_datasets, as_arrow, as_dict]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__[3:])
def test_rows_in_memory_are_those_of_a_file(kind, tmp_path):
    file = tmp_path / "data.csv"
    file.write_text("body,stars\n" + "".join(f'"{t}",{n}\n' for t, n in zip(TEXTS, NAMES, strict=True)), "utf-8")
    options = {"text": ("body",), "label": "stars"}
    from_file = read(SourceOptions(str(file), **options))
    from_frame = read(SourceOptions("data", **options, frames=frames(kind(TEXTS, NAMES))))
    assert from_frame.digest == from_file.digest
    assert (from_frame.class_names, len(from_frame.train)) == (("bad", "good"), 192)


def test_lists_are_texts_and_labels():
    data = read(SourceOptions("data", frames=frames(TEXTS, NAMES)))
    assert data.text_columns == ("text",)
    assert sum(len(split) for split in data.splits.values()) == 240
    pairs = [(text, f"of {i}") for i, text in enumerate(TEXTS)]
    data = read(SourceOptions("data", text=("text", "text_pair"), frames=frames(pairs, np.array(NAMES))))
    assert data.train.texts[0][1].startswith("of ")


def test_splits_keep_their_names_and_class_labels_go_by_name():
    from datasets import ClassLabel, Dataset, DatasetDict, Features, Value

    def split(order, rows):
        features = Features({"text": Value("string"), "label": ClassLabel(names=order)})
        return Dataset.from_dict({"text": TEXTS[:rows], "label": [order.index(n) for n in NAMES[:rows]]}, features)

    data = read(SourceOptions("data", frames=frames(DatasetDict(train=split(["bad", "good"], 100),
                                                                test=split(["good", "bad"], 40)))))  # fmt: skip
    assert len(data.test) == 40
    assert [data.class_names[i] for i in data.test.labels] == NAMES[:40]


def test_what_pandas_calls_missing_is_no_text_and_no_label():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"text": [*TEXTS, None, np.nan], "label": [*NAMES, "bad", "good"]})
    data = read(SourceOptions("data", frames=frames(frame)))
    assert sum(text == ("",) for split in data.splits.values() for text in split.texts) == 2
    frame.loc[3, "label"] = None
    with pytest.raises(UserError, match="row 3"):
        read(SourceOptions("data", frames=frames(frame)))


def test_columns_of_any_library_are_lists():
    import pyarrow as pa

    columns = [np.array, iter, tuple, lambda held: list(np.array(held)), lambda held: pa.chunked_array([held])]
    columns += [lambda held: dict(enumerate(held)).values()]
    columns += [module.Series for name in ("pandas", "polars") if (module := installed(name))]
    for kind in columns:
        data = read(SourceOptions("data", frames=frames(kind(TEXTS), kind(NAMES))))
        assert data.digest == read(SourceOptions("data", frames=frames(TEXTS, NAMES))).digest, kind


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        ([True, False], ("False", "True")),
        (list(np.array([True, False])), ("False", "True")),
        (list(np.array([2.0, 1.0], "f4")), ("1", "2")),
        (list(np.array([2, 1])), ("1", "2")),
        (["two", "one"], ("one", "two")),
    ],
)
def test_labels_of_any_type_have_the_same_names(labels, names):
    data = read(SourceOptions("data", frames=frames(TEXTS, labels * 120)))
    assert data.class_names == names


@pytest.mark.parametrize("missing", [None, np.nan, np.float32("nan"), "pandas.NA", "pandas.NaT"])
def test_a_missing_label_is_no_class(missing):
    if isinstance(missing, str):
        missing = getattr(pytest.importorskip("pandas"), missing.partition(".")[2])
    with pytest.raises(UserError, match="row 1: label missing"):
        read(SourceOptions("data", frames=frames(TEXTS, [NAMES[0], missing, *NAMES[2:]])))
    data = read(SourceOptions("data", frames=frames([TEXTS[0], missing, *TEXTS[2:]], NAMES)))
    assert ("",) in [text for split in data.splits.values() for text in split.texts]


def test_a_model_takes_texts_in_any_form_and_nothing_else(tiny_distilbert, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    verdict = pipeline.compare(TEXTS, NAMES, encoder=tiny_distilbert, contenders=["majority", "tfidf"])
    assert "out of fold" in repr(verdict.models["tfidf"])  # fitted on all rows, judged by cross-validation
    model = verdict.models["tfidf"]
    wanted = model.predict(TEXTS[:5]).tolist()
    assert model.predict(iter(TEXTS[:5])).tolist() == model.predict(np.array(TEXTS[:5])).tolist() == wanted
    for name in ("pandas", "polars"):
        if module := installed(name):
            assert model.predict(module.Series(TEXTS[:5])).tolist() == wanted
            assert model.predict(module.DataFrame({"body": TEXTS[:5]})).tolist() == wanted
    for texts in ("a text", b"a", {"body": TEXTS}, set(TEXTS), 5, [None], [("a", "b")], [["a"], "b", 7]):
        with pytest.raises(UserError, match="text"):
            model.predict(texts)
    assert model.score(TEXTS, NAMES) == pytest.approx(np.mean(model.predict(TEXTS) == np.array(NAMES)))
    assert model.score(TEXTS, [model.classes_.tolist().index(n) for n in NAMES]) == model.score(TEXTS, np.array(NAMES))
    for labels, problem in ((NAMES[:5], "5 labels for 240 texts"), ([7] * 240, "none of the labels is a class")):
        with pytest.raises(UserError, match=problem):
            model.score(TEXTS, labels)


def installed(name):
    """The module, None where it is not installed."""
    return importlib.import_module(name) if importlib.util.find_spec(name) else None


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ({"a", "b"}, "a set is no source"),
        (5, "a int is no source; pass a pandas"),
        ([], "a list is no source"),
        (b"text", "a bytes is no source"),
        ([("a", "b", "c")], "a string or a pair"),
        ({"text": ["a", "b"], "label": ["x"]}, "columns of different length"),
    ],
)
def test_what_is_no_source_is_refused(source, problem):
    with pytest.raises(UserError, match=problem):
        read(SourceOptions("data", frames=frames(source)))


def made_of(bundles, source, label, given):
    with asked_on(source, label, bundles, given) as made:
        return made


def test_options_are_those_of_the_command_line():
    (task,) = made_of(
        (commands.compare_task,),
        TEXTS,
        NAMES,
        {"C": [0.1, 1], "epochs": 2, "drop_empty": True, "seeds": None, "split": "70/10/20"},
    )
    assert task.linear[0].C == (0.1, 1.0)
    assert (task.tuning.epochs, task.source.drop_empty, task.source.split) == (2, True, "70/10/20")
    _, rules = made_of(
        (commands.compare_task, bundles.comparison_options),
        "x.csv",
        None,
        {"report": "page.html", "only_existing": True},
    )
    assert (str(rules.page), rules.only_existing) == ("page.html", True)  # under the names that the command line has
    (_, plan) = made_of((commands.curve_task, bundles.plan_options), "x.csv", None, {"fine_tune_draws": 2})
    assert plan.tuned_draws == 2
    with pytest.raises(TypeError, match=r"no option 'epoch'; choose among .*epochs"):
        made_of((commands.compare_task,), "x.csv", None, {"epoch": 2})
    with pytest.raises(UserError, match="Invalid value for 'seeds': 0"):
        made_of((commands.compare_task,), "x.csv", None, {"seeds": 0})
    (task,) = made_of((commands.compare_task,), "x.csv", None, {"lora": True, "cascade": True})
    assert (task.tuning.lora, task.cascade) == (8, ("tfidf", "fine-tune"))


@pytest.mark.parametrize(
    ("said", "heard"),
    [
        ("no 'text' among ['body']; pass --text body", "no 'text' among ['body']; pass text=\"body\""),
        ("pass --text 'the body' or --label", "pass text='the body' or label="),
        ("pass --text premise --text hypothesis", 'pass text=("premise", "hypothesis")'),
        ("pass --pooling last, --pooling mean, or", 'pass pooling="last", pooling="mean", or'),
        ("pass --label or another --train", "pass label= or another train="),
        ("pass --batch-size 16 --gradient-accumulation 2 for", "pass batch_size=16 gradient_accumulation=2 for"),
        ("--smote is --imbalance smote; pass one", "--smote is --imbalance smote; pass one"),  # not of this command
        (
            "--init-head starts a head; pass --head linear with it",
            'init_head= starts a head; pass head="linear" with it',
        ),
        ("--cv judges every row, or pass --no-cv", "cv=True judges every row, or pass cv=False"),
        ("check --rows, --limit and --drop-empty", "check rows=, limit= and drop_empty=True"),
        ("--metric nonsense: choose another metric", 'metric="nonsense": choose another metric'),
        ("pass --rows first:1000 here, (--seeds 3).", 'pass rows="first:1000" here, (seeds=3).'),
        ("works: --encoder minilm (pip install --no-deps x)", 'works: encoder="minilm" (pip install --no-deps x)'),
        ("more --epochs or --learning-rate auto", 'more epochs= or learning_rate="auto"'),
        ("Invalid value for '--epochs': x", "Invalid value for 'epochs': x"),
        ("--fine-tune-sizes and --json are others'", "--fine-tune-sizes and --json are others'"),
    ],
)
def test_what_the_command_line_says_is_said_in_keywords(said, heard):
    with pytest.raises(UserError) as told, asked_on("x", None, (commands.compare_task, bundles.comparison_options), {}):
        raise UserError(said)
    assert str(told.value) == heard


def test_functions_ask_for_keywords(tmp_path):
    frame = {"body": TEXTS, "stars": NAMES}
    for call, problem in [
        (lambda: pipeline.compare(frame, label="stars", text="review"), "no 'review' among .*; pass text="),
        (lambda: pipeline.explore(frame, text="body", label="rating"), "no 'rating' among .*; pass label="),
        (lambda: pipeline.fit_lr(frame, smote=True, imbalance="over"), 'smote=True is imbalance="smote"; pass one'),
        (lambda: pipeline.fit_lr(frame, text="body", label="stars", split="x"), 'split="x": write train/valid'),
        (lambda: pipeline.compare(frame, split="80/0/20", cv=True), "split= sets rows aside and cv=True judges"),
        (lambda: pipeline.fine_tune(frame, text="body", label="stars", freeze=True, lora=4), "freeze=True .* lora="),
    ]:
        with pytest.raises(UserError, match=problem) as told:
            call()
        assert "--" not in str(told.value)


def test_a_verdict_is_a_sentence_a_table_a_page_and_models(tiny_distilbert, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    frame = as_dict(TEXTS, ["<b>good" if name == "good" else "bad" for name in NAMES])
    verdict = pipeline.compare(
        frame,
        text="body",
        label="stars",
        encoder=tiny_distilbert,
        contenders=["majority", "tfidf", "lr"],
        split="50/0/50",
    )
    assert len(repr(verdict)) < 600
    assert verdict.sentence in repr(verdict)
    assert verdict.report.is_file()
    assert [row["contender"] for row in verdict.scores()] == [c.name for c in verdict.comparison.contenders]
    assert json.loads(json.dumps(verdict.to_json()))["recommended"] == verdict.comparison.recommended
    html = verdict._repr_html_()
    assert html.count("<tr>") == 4
    assert "<b>good" not in html
    for name, model in verdict.models.items():
        proba = model.predict_proba(TEXTS[:3])
        assert proba.shape == (3, 2), name
        assert proba.sum(1) == pytest.approx(1, abs=1e-5)
        assert (model.predict(TEXTS[:3]) == model.classes_[proba.argmax(1)]).all()
    assert verdict.models["lr"].predict([]).shape == (0,)
    with pytest.raises(UserError, match="row 1: int '5' is no text"):
        verdict.models["lr"].predict(["a", 5])
    assert len(repr(verdict.models["lr"])) < 200


def test_importing_the_package_and_its_functions_loads_nothing_heavy():
    code = "import sys, pipeline; pipeline.compare; print({'torch', 'transformers', 'sklearn'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_curve_and_audit_show_a_table_in_a_notebook(tiny_distilbert):
    frame = as_dict(TEXTS, NAMES)
    given = {"text": "body", "label": "stars", "encoder": tiny_distilbert}
    curve = pipeline.learning_curve(frame, contenders=["tfidf", "lr"], sizes=[10, 20], **given)
    html = curve._repr_html_()
    assert html.count("<tr>") == 1 + len({size for line in curve.lines for size in line.sizes})
    assert "<th>labels</th><th>tfidf</th><th>lr</th>" in html
    assert curve.file in html
    audited = pipeline.audit(frame, contenders=["tfidf"], **given)
    html = audited._repr_html_()
    assert html.count("<td>") == 8 * min(10, len(audited.rows))
    assert "labels" in html


# ── what the commands are made of ───────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """The folder of a run on words."""
    home = tmp_path_factory.mktemp("fitted")
    data = pipeline.read({"text": TEXTS, "label": NAMES})
    return tfidf_fit(data, TfidfSettings(), home / "runs").run().folder


def test_a_run_is_taken_by_its_folder_its_name_or_itself(fitted, tmp_path):
    run = pipeline.load_run(fitted)
    expected = pipeline.open_run(run).proba([(TEXTS[0],)]).tolist()
    for given in (fitted, str(fitted), pipeline.Classifier(run)):
        assert pipeline.open_run(given).proba([(TEXTS[0],)]).tolist() == expected
        assert pipeline.Classifier(given).predict_proba([TEXTS[0]]).tolist() == expected
    assert pipeline.export_run(str(fitted), "joblib", str(tmp_path / "out")).checked.difference < 1e-6


@pytest.fixture
def file(tmp_path):
    """The same rows as a file."""
    rows = [json.dumps({"text": text, "label": name}) for text, name in zip(TEXTS, NAMES, strict=True)]
    (tmp_path / "mails.jsonl").write_text("\n".join(rows))
    return tmp_path / "mails.jsonl"


def test_a_word_is_no_runtime(fitted):
    with pytest.raises(UserError, match=r"runtime: a str is no Runtime; pass Runtime\(device=\.\.\.\)"):
        pipeline.open_run(fitted, runtime="cpu")
    with pytest.raises(UserError, match="is no Runtime"):
        pipeline.Classifier(fitted, runtime="cpu").predict([TEXTS[0]])


@pytest.mark.parametrize("take", ["load_run", "open_run", "Classifier", "export_run", "label_next", "compare"])
def test_what_is_no_run_is_refused_by_its_type(take, fitted, tmp_path):
    calls = {
        "export_run": lambda run: pipeline.export_run(run, "joblib", tmp_path / "out"),
        "label_next": lambda run: pipeline.label_next([run, fitted], TEXTS),
        "compare": lambda run: importlib.import_module("pipeline.verdict").compare([run, fitted]),
    }
    call = calls.get(take) or getattr(pipeline, take)
    with pytest.raises(UserError, match="a NoneType is no run; pass a Run, or the folder that fit-lr or fine-tune"):
        call(None)
    with pytest.raises(UserError, match=r"nowhere: no run here \(no run.json\); pass a folder"):
        call(tmp_path / "nowhere")


def test_read_takes_what_compare_takes(file):
    frame = {"text": TEXTS, "label": NAMES}
    for source in (file, str(file), SourceOptions(file), SourceOptions(str(file), text="text"), frame):
        data = pipeline.read(source)
        assert data.class_names == ("bad", "good")
        assert sorted(text for split in data.splits.values() for (text,) in split.texts) == sorted(TEXTS)
    with pytest.raises(UserError, match="a NoneType is no source; pass"):
        pipeline.read(None)


def test_parts_speak_in_keywords(fitted, file, tmp_path):
    nowhere = str(tmp_path / "nowhere")
    for call, problem in [
        (lambda: pipeline.read(SourceOptions(str(file), text=("body",))), "no 'body' among .*; pass text= with one of"),
        (lambda: pipeline.read(SourceOptions(str(file), split="80/20")), 'split="80/20": write train/validation/test'),
        (lambda: pipeline.FrozenEncoder(nowhere).fit(TEXTS), f'encoder="{nowhere}": .*; pass encoder="minilm"'),
        (lambda: pipeline.FrozenEncoder("minilm", max_length=0).fit(TEXTS), "max_length=0: minilm takes 3 to 512 tok"),
        (lambda: pipeline.FrozenEncoder("minilm", pooling=("cls", "mean")).fit(TEXTS), "pooling=.*: write one name"),
        (lambda: pipeline.FrozenEncoder("minilm", cache_dir=file).fit(TEXTS).transform(TEXTS), "another cache_dir="),
        (lambda: pipeline.export_run(fitted, "onnx", tmp_path / "no"), 'no encoder; pass form="joblib"'),
    ]:
        with pytest.raises(UserError, match=problem) as told:
            call()
        assert "--" not in str(told.value)


def test_a_model_is_told_where_its_encoder_lies_now(tiny_distilbert, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(tiny_distilbert, "here")
    model = pipeline.fit_lr(TEXTS, NAMES, encoder="here", C=[1.0], folds=2)
    expected = model.predict_proba(TEXTS[:3])
    Path("here").rename("there")
    with pytest.raises(UserError, match=r'^encoder=".*here": no such folder; pass encoder='):
        pipeline.Classifier(model.run).predict(TEXTS[:3])
    moved = pipeline.Classifier(str(model.run.folder), encoder="there")
    assert np.allclose(moved.predict_proba(TEXTS[:3]), expected, atol=1e-6)
