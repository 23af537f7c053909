"""Looking for what is wrong: every ranking, repeat and worth against numbers that fit in the head."""

import csv
import json
from types import SimpleNamespace

import numpy as np
import pytest

import cli
from pipeline import UserError, one_line, silent
from pipeline.audit import AuditSettings, audit, worth_of
from pipeline.audit.confident import objective, sources_of, suspect
from pipeline.audit.dropped import recommended, without, worth
from pipeline.audit.losses import between, confusions, extremes, loss
from pipeline.audit.neighbours import Nearest, across, near_repeats, normalised
from pipeline.audit.review import guarded, write_csv
from pipeline.audit.suspects import expected_errors, joint_counts
from pipeline.data import Dataset, Split
from pipeline.run import Cost, Predictions, Run

LABELS = np.array([0, 0, 0, 1, 1, 1])
PROBA = np.array([[0.9, 0.1], [0.8, 0.2], [0.1, 0.9], [0.2, 0.8], [0.3, 0.7], [0.55, 0.45]])


# ── wrong labels ────────────────────────────────────────────────────────────────────────────────────────────────────


def world(n, k, shift, seed=0):
    """Calibrated probabilities (n, k) and labels (n,) drawn from them; `shift`: how far classes lie apart."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(n, k))
    logits[np.arange(n), rng.integers(0, k, n)] += shift
    proba = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return proba, (proba.cumsum(1) < rng.random((n, 1))).sum(1).clip(max=k - 1)


def planted(labels, k, share, following, seed=1):
    rng = np.random.default_rng(seed)
    wrong = rng.choice(len(labels), round(share * len(labels)), replace=False)
    noisy = labels.copy()
    noisy[wrong] = (labels[wrong] + (1 if following else rng.integers(1, k, len(wrong)))) % k
    return noisy, np.isin(np.arange(len(labels)), wrong)


@pytest.mark.parametrize("following", [False, True])
@pytest.mark.parametrize("share", [0.05, 0.15])
@pytest.mark.parametrize("k", [2, 4])
def test_planted_labels_are_counted_and_named(k, share, following):
    proba, truth = world(2000, k, 5)
    labels, wrong = planted(truth, k, share, following)
    unsure = proba**0.3 / (proba**0.3).sum(1, keepdims=True)  # what models that learnt from wrong labels look like
    found = suspect(labels, [unsure, proba])
    assert found.low <= 1.15 * share
    assert found.high >= share
    assert found.rate == pytest.approx(share, rel=0.4)
    assert found.high - found.low < 0.06
    assert found.confident.sum() > 0.2 * wrong.sum()
    assert wrong[found.confident].mean() > 0.8
    assert (found.suggested[wrong & found.confident] == truth[wrong & found.confident]).mean() > 0.95
    assert area(wrong, found.score) > 0.97
    assert not found.weak


def area(wrong, score):
    ranks = np.argsort(np.argsort(score))[wrong]
    return (ranks.sum() - wrong.sum() * (wrong.sum() - 1) / 2) / (wrong.sum() * (~wrong).sum())


def test_models_own_mistakes_are_no_label_errors():
    proba, labels = world(2000, 4, 2)  # right on about six of ten, and as sure as they should be
    assert 0.5 < (proba.argmax(1) == labels).mean() < 0.75
    found = suspect(labels, [proba])
    assert not found.confident.any()
    assert found.low == pytest.approx(0, abs=0.005)
    assert found.weak == (found.high > 0.01)


def test_too_weak_to_tell_is_said():
    proba, truth = world(300, 4, 2)
    labels, _ = planted(truth, 4, 0.1, False)
    found = suspect(labels, [proba])
    assert found.weak
    assert "too weak" in expected_errors(found).sentence("train")
    assert found.high > 0.1


def test_models_that_hardly_beat_guessing_call_no_label_wrong():
    rng = np.random.default_rng(4)
    truth = rng.integers(0, 3, 2000)
    sure = np.where(rng.random(2000) < 0.42, truth, rng.integers(0, 3, 2000))  # overconfident: right on six of ten
    weaker = np.where(rng.random(2000) < 0.15, truth, rng.integers(0, 3, 2000))  # on four of ten
    for said, learnt in ((sure, True), (weaker, False)):
        found = suspect(truth, [np.eye(3)[said] * 0.97 + 0.01])
        assert found.learnt is learnt
    assert not found.confident.any()
    assert (found.low, found.weak) == (0.0, True)
    assert expected_errors(found).sentence("train").startswith("train: between 0 and ")


def test_a_model_that_knows_nothing_has_little_to_say():
    rng = np.random.default_rng(3)
    proba, labels = world(1000, 3, 4)
    found = suspect(labels, [proba, rng.dirichlet([1, 1, 1], 1000)])
    assert found.weights[0] > 0.9
    assert found.weights.sum() == pytest.approx(1)


def test_where_wrong_labels_come_from():
    wrong = np.array([[0.5, 0.0, 0.0], [0.0, 0.0, 0.25]])  # rows labelled 1 and 0
    flat = 10 / 2
    # of class 0: half a row went to 1, its own, which does not count; nothing else of it went anywhere
    expected = [[flat / 10, 0, flat / 10.25], [0, flat / 10, flat / 10]]
    assert sources_of(np.array([1, 0]), wrong) == pytest.approx(np.array(expected))


def test_the_fit_goes_down_its_slope():
    rng = np.random.default_rng(0)
    proba, labels = world(30, 3, 2)
    sources = rng.dirichlet([1, 1, 1], 30)
    point = rng.normal(size=2 + 3 + 1)
    fixed = {"labels": labels, "logs": np.log([proba, proba[:, ::-1]]), "sources": sources, "rate": None}
    _, slope = objective(point, **fixed)
    for i in range(6):
        step = 1e-6 * np.eye(6)[i]
        by_hand = (objective(point + step, **fixed)[0] - objective(point - step, **fixed)[0]) / 2e-6
        assert slope[i] == pytest.approx(by_hand, rel=1e-4, abs=1e-6)


def test_the_joint_counts_what_labels_seem_to_be():
    found = SimpleNamespace(confident=np.array([True, False, False]), suggested=np.array([1, 1, 1]))
    assert joint_counts(np.array([0, 0, 1]), found, 2).tolist() == [[1, 1], [0, 1]]


# ── near-repeats ────────────────────────────────────────────────────────────────────────────────────────────────────


def all_pairs(vectors, texts, threshold):
    """What near_repeats does, in one product: the reference."""
    _, first = np.unique(texts, return_index=True)
    unit = normalised(vectors[first])
    i, j = np.nonzero(np.triu(unit @ unit.T >= threshold, 1))
    return {(min(first[a], first[b]), max(first[a], first[b])) for a, b in zip(i, j, strict=True)}


@pytest.mark.parametrize("block", [3, 7, 1024])
def test_blocks_find_what_one_product_finds(monkeypatch, block):
    monkeypatch.setattr("pipeline.audit.neighbours.BLOCK", block)
    rng = np.random.default_rng(1)
    centres = rng.normal(size=(8, 16))
    vectors = (centres[rng.integers(0, 8, 50)] + 0.15 * rng.normal(size=(50, 16))).astype(np.float32)
    texts = np.arange(50)
    texts[40:45] = texts[0]  # exact repeats of the first row
    vectors[40:45] = vectors[0]
    split = np.repeat([0, 1], 25)
    found = near_repeats(vectors, texts, split, 2, 0.9)
    expected = all_pairs(vectors, texts, 0.9)
    assert set(map(tuple, found.pairs.tolist())) == expected
    assert found.total == len(expected) > 10
    assert (np.diff(found.cosine) <= 0).all()
    for row in range(50):
        own = np.flatnonzero(texts == texts[row])
        beside = {
            split[x]
            for a, b in expected
            for r, o in ((a, b), (b, a))
            if r in own
            for x in np.flatnonzero(texts == texts[o])
        }
        assert set(np.flatnonzero(found.beside[row])) == beside
    counts = across(found, split, ["train", "test"])
    assert counts["train/test"] == found.beside[25:, 0].sum()
    assert counts["train/train"] == found.beside[:25, 0].sum()


def test_equal_texts_are_not_near_repeats():
    vectors = np.array([[1, 0], [1, 0], [0, 1], [-1, -1]], np.float32)
    found = near_repeats(vectors, np.array([0, 0, 1, 2]), np.zeros(4, int), 1, 0.99)
    assert found.total == 0
    assert not found.beside.any()


def test_what_all_vectors_share_is_taken_off():
    shared = np.array([100.0, 0, 0], np.float32)
    vectors = shared + np.array([[0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1]], np.float32)
    assert near_repeats(vectors, np.arange(4), np.zeros(4, int), 1, 0.9).total == 0  # raw cosines are above 0.9999


def test_the_nearest_are_kept_and_all_are_counted():
    kept = Nearest(3)
    for value in range(10):
        kept.add(np.array([value]), np.array([value + 1]), np.array([value / 10], np.float32))
        assert len(kept.cosine) <= 6  # memory does not grow with what is found
    pairs, cosine = kept.sorted()
    assert pairs.tolist() == [[9, 10], [8, 9], [7, 8]]
    assert cosine.tolist() == pytest.approx([0.9, 0.8, 0.7])
    assert kept.total == 10


# ── losses and confusion ────────────────────────────────────────────────────────────────────────────────────────────


def predictions(proba, truth=LABELS, split="test"):
    ids = np.array([f"{split}:{i}" for i in range(len(truth))])
    return Predictions(split, ids, np.asarray(truth), np.asarray(proba, np.float32))


def test_confusion_counts_and_shares():
    (found,) = confusions({"lr": predictions(PROBA)}, 2)
    assert found.counts.tolist() == [[2, 1], [1, 2]]
    assert found.shares == pytest.approx(np.array([[2, 1], [1, 2]]) / 3)
    assert confusions({"lr": predictions(PROBA)}, 3)[0].shares[2].tolist() == [0, 0, 0]  # a class without rows


def test_what_differs_between_two():
    other = PROBA.copy()
    other[2], other[3] = [0.7, 0.3], [0.6, 0.4]  # right on row 2 now, wrong on row 3
    found = between("a", "b", {"a": predictions(PROBA), "b": predictions(other)}, ("x", "y"))
    assert (found.both_right, found.only_a, found.only_b, found.both_wrong, found.differ) == (3, 1, 1, 1, 2)
    assert found.by_class == {"x": (0, 1), "y": (1, 0)}
    assert found.rows.tolist() == [2, 3]  # 0.6 apart, then 0.4
    assert found.difference.tolist() == [[-1, 1], [-1, 1]]


def test_highest_and_lowest_loss():
    p = predictions(PROBA)
    assert loss(p)[2] == pytest.approx(-np.log(0.1))
    high, low = extremes(p, 2)
    assert high.tolist() == [2, 5]
    assert low.tolist() == [0, 1]
    assert loss(predictions(np.eye(2)[1 - LABELS])).max() == pytest.approx(-np.log(1e-15))  # finite


# ── what rows are worth ─────────────────────────────────────────────────────────────────────────────────────────────


def run_of(kind, **roles):
    return Run(
        kind=kind,
        settings={},
        class_names=("x", "y"),
        predictions=roles,
        cost=Cost(fit_seconds=1.0),
        dataset="d",
        dataset_digest="0" * 32,
    )


def test_leaked_rows_that_are_remembered_flatter():
    truth = np.tile([0, 1], 100)
    right = np.eye(2)[truth] * 0.8 + 0.1
    leaked = np.arange(200) < 40
    proba = np.where((leaked | (np.arange(200) % 4 < 2))[:, None], right, 1 - right)  # all leaked right, half the rest
    judged = predictions(proba, truth)
    found = worth("lr", judged, leaked, "accuracy", seed=0)
    assert (found.whole, found.rest, found.alone) == pytest.approx((0.6, 0.5, 1.0))
    assert found.worth == pytest.approx(0.1)
    assert 0.05 < found.low < 0.1 < found.high < 0.16
    lost = worth("lr", judged, leaked, "log_loss", seed=0)
    assert lost.whole == pytest.approx(-0.6 * np.log(0.9) - 0.4 * np.log(0.1))


def test_a_verdict_that_rests_on_the_dropped_rows_falls():
    truth = np.tile([0, 1], 100)
    right = np.eye(2)[truth] * 0.8 + 0.1
    odd = np.arange(200) < 60
    better = np.where(odd[:, None], right, np.where((np.arange(200) % 10 < 5)[:, None], right, 1 - right))
    worse = np.where(odd[:, None], 1 - right, np.where((np.arange(200) % 10 < 8)[:, None], right, 1 - right))
    runs = [run_of("lr", test=predictions(better, truth)), run_of("tfidf", test=predictions(worse, truth))]
    before = recommended(runs, "accuracy", 0.01)
    found = without("leaked", runs, odd, "accuracy", 0.01, before)
    assert (found.rows, found.of) == (60, 200)
    assert (found.recommended, found.recommended_without, found.stands) == ("lr", "tfidf", False)
    assert "rests on these rows" in found.sentence
    none = without("leaked", runs, np.zeros(200, bool), "accuracy", 0.01, before)
    assert (none.stands, none.scores) == (True, ())
    few = without("leaked", runs, np.arange(200) < 195, "accuracy", 0.01, before)
    assert few.stands is None


def test_what_a_comparison_knows_is_not_judged_again_and_equal_rows_once(monkeypatch):
    truth = np.tile([0, 1], 100)
    right = np.eye(2)[truth] * 0.8 + 0.1
    runs = [run_of(kind, test=predictions(right, truth)) for kind in ("lr", "tfidf")]
    judged = []
    monkeypatch.setattr("pipeline.audit.dropped.compare", lambda runs, **_: judged.append(runs) or known)  # type: ignore[has-type]
    known = SimpleNamespace(recommended="lr")
    odd, none = np.arange(200) < 60, np.zeros(200, bool)
    drops = {"leaked": odd, "leaked or near-repeated": odd.copy(), "suspicious": none}
    found = worth_of(drops, runs, AuditSettings(), silent, known)
    assert len(judged) == 1
    assert [dropped.what for dropped in found] == list(drops)
    assert "60 leaked or near-repeated rows" in found[1].sentence
    assert found[0].scores == found[1].scores


# ── all of it ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def small():
    """60 rows of train, 30 of test; train:0 is labelled wrongly, test:0 repeats train:1, test:1 nearly so."""
    rng = np.random.default_rng(2)
    truth = {"train": np.tile([0, 1], 30), "test": np.tile([0, 1], 15)}
    texts = {name: [(f"{name} text {i}",) for i in range(len(y))] for name, y in truth.items()}
    texts["test"][0] = texts["train"][1]
    vectors = {name: rng.normal(size=(len(y), 8)).astype(np.float32) for name, y in truth.items()}
    vectors["test"][0], vectors["test"][1] = vectors["train"][1], vectors["train"][2] * 1.01
    labels = {name: y.copy() for name, y in truth.items()}
    labels["train"][0] = 1
    splits = {
        name: Split(name, texts[name], labels[name], np.array([f"{name}:{i}" for i in range(len(y))]))
        for name, y in truth.items()
    }
    data = Dataset("d", splits, {"train": "train", "test": "test"}, ("x", "y"), ("text",), "label", "0" * 32)
    proba = {name: np.eye(2)[y] * 0.8 + 0.1 for name, y in truth.items()}
    runs = [
        run_of(kind, **{name: predictions(proba[name], labels[name], name) for name in truth})
        for kind in ("lr", "tfidf")
    ]
    return data, runs, vectors


def test_the_audit_finds_all_three(small):
    data, runs, vectors = small
    found = audit(data, runs, vectors, AuditSettings(top=3))
    assert [(row.row_id, row.label, row.suggested, row.kind) for row in found.rows] == [
        ("train:0", "y", "x", "doubtful")  # one of 60: models that are 90 % sure may be wrong that often
    ]
    assert found.expected["train"].low == 0
    assert 1 <= found.expected["train"].high < 5
    assert found.rows[0].says_so == "2 of 2"
    assert found.exact == {"train/train": 0, "train/test": 1, "test/test": 0}
    assert found.near == {"train/train": 0, "train/test": 1, "test/test": 0}
    (pair,) = found.near_pairs
    assert {pair.row_id, pair.other_id} == {"train:2", "test:1"}
    assert {pair.split, pair.other_split} == {"train", "test"}
    assert {d.what: d.rows for d in found.worth} == {
        "leaked": 1,
        "leaked or near-repeated": 2,
        "probably mislabelled": 0,
    }
    assert found.worth[-1].sentence == "No probably mislabelled rows among the 30 judged."  # some may be in doubt
    told = json.loads(json.dumps(found.to_json()))
    assert set(told["rows"][0]) >= {"row_id", "text", "label", "suggested", "score", "kind"}
    assert told["confusion"][0]["counts"] == [[15, 0], [0, 15]]
    assert len(told["losses"]["lr"]["highest"]) == 3


def test_rows_in_another_order_are_the_same_rows(small):
    data, runs, _ = small
    back = np.arange(60)[::-1]
    p = runs[0].predictions["train"]
    turned = Predictions("train", p.row_ids[back], p.truth[back], p.proba[back])
    other = [run_of("lr", train=turned, test=runs[0].predictions["test"])]
    assert audit(data, other).rows[0].row_id == "train:0"


def test_without_vectors_nothing_is_said_of_near_repeats(small):
    data, runs, _ = small
    found = audit(data, runs)
    assert (found.near, found.near_pairs) == ({}, ())
    assert "no vectors" in found.notes[0]


def test_runs_that_say_nothing_of_train(small):
    data, runs, _ = small
    only = [run_of("fine-tune", test=runs[0].predictions["test"])]
    with pytest.raises(UserError, match="out of fold"):
        audit(data, only)


@pytest.mark.parametrize("near", [0, -1, 1.5, float("nan")])
def test_a_cosine_that_is_none(small, near):
    data, runs, vectors = small
    with pytest.raises(UserError, match="--near"):
        audit(data, runs, vectors, AuditSettings(near=near))


# ── for review ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("cell", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", '=HYPERLINK("http://x","y")'])
def test_nothing_in_the_csv_is_a_formula(cell):
    assert guarded(cell) == "'" + cell


def test_the_csv_can_be_read_back(tmp_path):
    texts = ['a "quoted", text', "two\nlines", "נכון \u202e", "plain", "nul \0 byte", "lone \ud800"]
    assert write_csv(tmp_path / "x" / "out.csv", ("text", "score"), [(text, -0.5) for text in texts]) == 6
    with open(tmp_path / "x" / "out.csv", encoding="utf-8-sig", newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["text", "score"]
    assert [row[0] for row in rows[1:5]] == texts[:4]
    assert rows[5] == ["nul  byte", "-0.5"]
    assert rows[6][0] == "lone ?"


def test_a_csv_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="--out"):
        write_csv(tmp_path / "file" / "out.csv", ("a",), [])


def test_a_terminal_is_not_steered():
    assert one_line("a\x1b[2Jb\n\tc\u202ed\0", 20) == "a\ufffd[2Jb c\ufffdd\ufffd"
    assert one_line("x" * 30, 10) == "x" * 9 + "…"
    assert one_line(("one", "two"), 20) == "one ⏐ two"


# ── the command ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def call(capsys, tmp_path, tiny_distilbert):
    rows = []
    for i in range(240):
        good = i % 2 == 0
        said = "boring hate" if good == (i in (0, 7)) else "happy love"
        rows.append(f"the film was {said} number {i} {'really' if i % 3 else 'very'},{'good' if good else 'bad'}\n")
    file = tmp_path / "reviews.csv"
    file.write_text("text,label\n" + "".join(rows))

    def call(*words):
        places = ["--cache", tmp_path / "cache", "--runs", tmp_path / "runs", "--encoder", tiny_distilbert]
        code = cli.main([str(w) for w in ["audit", file, *places, "--engine", "torch", "--precision", "fp32", *words]])
        return code, *capsys.readouterr()

    return call


def test_a_sure_answer_has_a_loss_of_zero():
    p = predictions(np.array([[1, 0], [np.float32(1.0000001), 0], [0.5, 0.5]]), np.array([0, 0, 1]))
    assert [f"{value:.3f}" for value in loss(p)] == ["0.000", "0.000", "0.693"]


def test_the_command_finds_two_wrong_labels(call, tmp_path):
    code, out, err = call("--out", tmp_path / "suspicious.csv", "--json")
    assert code == 0
    found = json.loads(out)
    assert {row["row_id"] for row in found["rows"][:2]} == {"reviews:0", "reviews:7"}
    assert {(row["label"], row["suggested"]) for row in found["rows"][:2]} == {("good", "bad"), ("bad", "good")}
    assert [row["score"] for row in found["rows"]] == sorted((r["score"] for r in found["rows"]), reverse=True)
    assert set(found["speakers"]["train"]) <= {"tfidf", "lr"}
    assert "rows to learn from" in err  # said beforehand
    assert "near-repeats among" in err
    with open(tmp_path / "suspicious.csv", encoding="utf-8-sig", newline="") as file:
        assert [row["row_id"] for row in csv.DictReader(file)] == [row["row_id"] for row in found["rows"]]
    code, out, _ = call("--only-existing")
    assert code == 0
    assert "probably wrong" in out
    assert "No leaked rows among the 24 judged." in out


def test_what_the_command_refuses(call, tmp_path):
    code, _, err = call("--contenders", "lr,fine-tune")
    assert code == 1
    assert err.splitlines()[-1].startswith("error: audit does not fit 'fine-tune'")
    code, _, err = call("--pair", "lr")
    assert code == 2
    kept = (tmp_path / "reviews.csv").read_text()
    code, _, err = call("--out", tmp_path / "reviews.csv")
    assert (code, err) == (
        1,
        f"error: {tmp_path}/reviews.csv: is read here, and would be replaced; pass another --out\n",
    )
    assert (tmp_path / "reviews.csv").read_text() == kept
    code, _, err = call("--only-existing")
    assert code == 1
