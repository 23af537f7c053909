"""FrozenEncoder among scikit-learn's own: its checks, its pipelines, its tables."""

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import estimator_checks_generator
from sklearn.utils.validation import check_is_fitted, validate_data

from pipeline import FrozenEncoder, UserError
from pipeline.transformer import texts_of

TEXTS = ["win a prize now", "come home today", "the film was boring", "i love this day"]
LABELS = ["spam", "ham", "ham", "spam"]
WITHOUT_TEXT = {  # of scikit-learn's checks, those that need no input
    "check_estimator_cloneable",
    "check_estimator_repr",
    "check_estimator_sparse_array",
    "check_estimator_sparse_matrix",
    "check_estimator_sparse_tag",
    "check_estimator_tags_renamed",
    "check_estimators_unfitted",
    "check_get_params_invariance",
    "check_mixin_order",
    "check_no_attributes_set_in_init",
    "check_parameters_default_constructible",
    "check_set_params",
    "check_do_not_raise_errors_in_init_or_set_params",
    "check_transformer_n_iter",
    "check_transformers_unfitted",
    "check_valid_tag_types",
    "check_fit1d",
}


@pytest.fixture
def frozen(tmp_path, tiny_distilbert):
    """A transformer on the tiny encoder."""
    return FrozenEncoder(str(tiny_distilbert), engine="torch", precision="fp32", cache_dir=str(tmp_path / "cache"))


class Spoken(FrozenEncoder):
    """Numbers read aloud: scikit-learn's checks feed numbers, and what they check is everything around the encoder."""

    def fit(self, X, y=None):
        return super().fit(aloud(validate_data(self, X)), y)

    def transform(self, X):
        check_is_fitted(self)
        return super().transform(aloud(validate_data(self, X, reset=False)))

    def _see(self, X, reset=True):
        """Seen by `validate_data`."""


def aloud(rows):
    return [" ".join(f"{value:.3g}" for value in row) for row in rows]


def refused(estimator):
    """scikit-learn's checks that cannot be passed, and why."""
    every = {getattr(check, "func", check).__name__ for _, check in estimator_checks_generator(estimator)}
    return dict.fromkeys(every - WITHOUT_TEXT, "feeds numbers, and a number is no text")


def test_scikit_learns_checks_that_need_no_numbers(frozen):
    from sklearn.utils.estimator_checks import check_estimator

    found = check_estimator(frozen, expected_failed_checks=refused(frozen), on_fail=None, on_skip=None)
    status = {record["check_name"]: record["status"] for record in found}
    assert {name for name in WITHOUT_TEXT if status[name] != "passed"} == set()
    assert {name for name, said in status.items() if said == "failed"} == set()


def test_all_of_scikit_learns_checks_on_numbers_read_aloud(tmp_path, tiny_distilbert):
    from sklearn.utils.estimator_checks import check_estimator

    spoken = Spoken(str(tiny_distilbert), engine="torch", precision="fp32", cache_dir=str(tmp_path / "cache"))
    found = check_estimator(spoken, on_fail=None, on_skip=None)
    assert len(found) > 40
    assert {r["check_name"]: str(r["exception"])[:200] for r in found if r["status"] == "failed"} == {}


def test_text_is_what_its_tags_say(frozen):
    tags = frozen.__sklearn_tags__()
    assert tags.input_tags.string
    assert not tags.input_tags.sparse


def test_every_form_of_text_gives_the_same_vectors(frozen):
    own = frozen.fit(TEXTS).transform(TEXTS)
    assert own.shape == (4, 32)
    assert own.dtype == np.float32
    column = pd.Series(TEXTS, name="text")
    for given in (np.array(TEXTS), np.array(TEXTS, dtype=object)[:, None], column, column.to_frame(), tuple(TEXTS)):
        np.testing.assert_array_equal(clone(frozen).fit_transform(given), own)
    pairs = list(zip(TEXTS, TEXTS[::-1], strict=True))
    table = pd.DataFrame(pairs, columns=["first", "second"])
    np.testing.assert_array_equal(clone(frozen).fit_transform(pairs), clone(frozen).fit_transform(table))
    assert not np.allclose(clone(frozen).fit_transform(pairs), own)


def test_pandas_out_keeps_the_index(frozen):
    frozen.set_params(pooling="cls+mean").set_output(transform="pandas")
    found = frozen.fit_transform(pd.Series(TEXTS, index=[7, 8, 9, 10]))
    assert found.index.tolist() == [7, 8, 9, 10]
    assert found.columns[[0, 31, 32, 63]].tolist() == ["cls_0", "cls_31", "mean_0", "mean_31"]
    assert found.dtypes.unique().tolist() == [np.float32]


def test_grid_search_over_encoders_encodes_each_text_once(frozen, tmp_path, tiny_bert, tiny_distilbert, monkeypatch):
    from pipeline.encoder import Encoder

    encoded, honest = [], Encoder.push

    def counted(self, batch):
        encoded.append(len(batch.rows))
        return honest(self, batch)

    monkeypatch.setattr(Encoder, "push", counted)
    texts, labels = [f"{text} {i}" for i in range(5) for text in TEXTS], LABELS * 5
    model = make_pipeline(frozen, StandardScaler(), LogisticRegression())
    grid = {"frozenencoder__encoder": [str(tiny_distilbert), str(tiny_bert)], "logisticregression__C": [0.1, 1.0]}
    search = GridSearchCV(model, grid, cv=2).fit(texts, labels)
    assert sum(encoded) == 2 * len(texts)  # two encoders; folds, C and the last fit pay nothing
    assert search.predict(["win a prize 0"]).shape == (1,)
    assert clone(search.best_estimator_).get_params()["frozenencoder__pooling"] == "declared"


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("one string", "one string was given"),
        (["a", None], "row 1: NoneType 'None' is no text"),
        (pd.Series(["a", float("nan")]), "row 1: float 'nan' is no text"),
        ([], "no texts"),
        (np.zeros((2, 3)), "an array of shape"),
        ([("a", "b", "c")], "row 0: no or more than two texts"),
        (["a", ("b", "c")], "row 1: 2 texts where row 0 has 1"),
        (7, "int is no list of texts"),
    ],
)
def test_what_is_no_text_is_refused_by_row(given, says):
    with pytest.raises(UserError, match=says) as found:
        texts_of(given)
    assert isinstance(found.value, ValueError)  # as scikit-learn's callers expect


def test_misuse_is_said(frozen, tmp_path):
    with pytest.raises(NotFittedError):
        frozen.transform(TEXTS)
    frozen.fit(TEXTS)
    with pytest.raises(UserError, match="fitted on 1 texts a row and given 2"):
        frozen.transform([("a", "b")])
    with pytest.raises(UserError, match="no pooling 'median'; choose one of cls, mean, max"):
        clone(frozen).set_params(pooling="median").fit(TEXTS)
    with pytest.raises(UserError, match="no such folder"):
        clone(frozen).set_params(encoder=str(tmp_path / "none")).fit(TEXTS)


def test_without_a_store_the_encoder_stays_open_and_nothing_is_kept(frozen, tmp_path, monkeypatch):
    import pickle

    own = frozen.fit(TEXTS).transform(TEXTS)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())
    served = clone(frozen).set_params(cache_dir=None).fit(TEXTS)
    np.testing.assert_allclose(served.transform(TEXTS), own, atol=1e-6)
    opened = served._open[1]
    served.transform(["another text"])
    assert served._open[1] is opened
    assert set(tmp_path.iterdir()) <= {*before, tmp_path / "xdg"}
    assert not list((tmp_path / "xdg").rglob("*.safetensors"))
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(served)).transform(TEXTS), served.transform(TEXTS))
