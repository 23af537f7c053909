"""A run as a scikit-learn pipeline whose `predict_proba` takes texts, kept with joblib.

joblib is pickle: loading such a file executes what it says. It is offered because scikit-learn's users serve such
files; the run itself stays JSON and safetensors.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from .. import UserError, kinds
from ..predict.texts import texts_a_row
from ..run import Run
from .parts import Parts, parts_of

FILE = "model.joblib"
PICKLE = "model.joblib is pickle: loading it executes what it says, so load only files whose origin you trust"

VERSION = "it belongs to the version of scikit-learn that wrote it"
PACKAGE = "it imports this package: install it where it is loaded, from its checkout (pip install .)"


def write(run: Run, encoder: str | None, folder: Path) -> list[str]:
    """Write the run as `model.joblib`; returns what its user has to know, a sentence each.

    Raises UserError for a fine-tuned run, which is no scikit-learn model.
    """
    import joblib

    model, needs = model_of(run, encoder)
    with installed_name():
        joblib.dump(model, folder / FILE, compress=3)
    return [PICKLE, VERSION, *([PACKAGE] if needs else [])]


@contextmanager
def installed_name() -> Iterator[None]:
    """Inside, our type in a pipeline bears the name that it has where this package is installed.

    A checkout calls the package `pipeline`, which where the file is opened may be a module of somebody else's.
    """
    from ..transformer import FrozenEncoder

    package, here = "probe_or_tune", FrozenEncoder.__module__
    named = {package: sys.modules[here.partition(".")[0]], f"{package}.transformer": sys.modules[here]}
    before = {name: sys.modules.get(name) for name in named}
    try:
        sys.modules.update(named)
        FrozenEncoder.__module__ = f"{package}.transformer"
        yield
    finally:
        FrozenEncoder.__module__ = here
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module


def model_of(run: Run, encoder: str | None, form: str = "joblib") -> tuple[Any, bool]:
    """The run as a fitted scikit-learn model, and whether loading it imports this package.

    Raises UserError for a fine-tuned run, which is none.
    """
    made = kinds.kind_row(run.kind).sklearn
    if made is None and run.kind == "cascade":
        raise UserError(f"{run.folder}: a cascade is two models; export its parts, which lie in model/parts")
    if made is None:
        what = "fine-tuned encoder" if kinds.tuned(run.kind) else f"{run.kind} run"
        raise UserError(f"--format {form}: a {what} is no scikit-learn model; pass --format transformers")
    model, needs = kinds.load(made)(run, encoder)
    if run.threshold is not None:
        model = _by_threshold(model, run)
    return model, needs


def _sorted(run: Run) -> tuple[np.ndarray, np.ndarray]:
    """Class names (k,) in scikit-learn's order, which is the alphabet's, and where each stands in the run's (k,)."""
    names = np.array(run.class_names)
    order = np.argsort(names, kind="stable")
    return names[order], order


def _regression(W: np.ndarray, b: np.ndarray, run: Run) -> Any:
    """A fitted LogisticRegression with weights W (k, d) and b (k,) in the run's order of classes."""
    from sklearn.linear_model import LogisticRegression

    names, order = _sorted(run)
    W, b = W[order], b[order]
    model = LogisticRegression()
    two = len(names) == 2
    model.coef_, model.intercept_ = (W[1:] - W[:1], b[1:] - b[:1]) if two else (W, b)
    model.classes_, model.n_features_in_, model.n_iter_ = names, W.shape[1], np.array([0])
    return model


def _scaler(mean: np.ndarray, scale: np.ndarray) -> Any:
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler()
    scaler.mean_, scaler.scale_ = mean.astype(np.float64), scale.astype(np.float64)
    scaler.var_, scaler.n_features_in_, scaler.n_samples_seen_ = scaler.scale_**2, len(mean), 1
    return scaler


def majority(run: Run, encoder: str | None) -> tuple[Any, bool]:
    from ..baseline import MajorityModel

    return _constant(MajorityModel.load(run.model_folder).prior, run), False


def _constant(prior: np.ndarray, run: Run) -> Any:
    """Whatever the text, these probabilities (k,)."""
    from sklearn.dummy import DummyClassifier

    given = [[""]] * len(run.class_names)
    return DummyClassifier(strategy="prior").fit(given, list(run.class_names), sample_weight=prior.astype(np.float64))


def tfidf(run: Run, encoder: str | None) -> tuple[Any, bool]:
    """Vectorizers side by side and the regression; a model without terms is the majority class."""
    from sklearn.compose import ColumnTransformer
    from sklearn.pipeline import FeatureUnion, Pipeline

    from ..tfidf.model import TfidfModel

    model = TfidfModel.load(run.model_folder)
    if not model.terms:
        return _constant(model.proba([("",)])[0], run), False
    steps = [(f"{each.analyzer} {each.side + 1}", each.vectorizer(), each.side) for each in model.terms]
    if texts_a_row(run) == 2:
        counted: Any = ColumnTransformer(steps).fit([("", "")] * 2)
        counted.transformers_ = steps  # it has fitted copies
    else:
        counted = FeatureUnion([step[:2] for step in steps])
    return Pipeline([("tfidf", counted), ("classifier", _regression(model.W, model.b, run))]), False


def probe(run: Run, encoder: str | None) -> tuple[Any, bool]:
    from sklearn.pipeline import Pipeline

    from ..predict.models import head_of
    from ..transformer import FrozenEncoder

    parts: Parts = parts_of(run, encoder)
    model, settings = head_of(run), parts.run.settings
    frozen = FrozenEncoder(
        settings["encoder"],
        pooling=parts.pooling,
        max_length=parts.max_length,
        revision=settings.get("revision"),
        prompt=f"={settings['prompt']}" if settings.get("prompt") else "none",
        cache_dir=None,
    )
    rows = [("", "")] if parts.pairs else [""]
    frozen.fit(rows)
    top = _top(model, run)
    return Pipeline([("encoder", frozen), ("scaler", _scaler(model.mean, model.scale)), ("classifier", top)]), True


def stacked(run: Run, encoder: str | None) -> tuple[Any, bool]:
    """The parts' columns side by side and one regression: products of softmax's are a softmax of sums."""
    from sklearn.pipeline import FeatureUnion, Pipeline

    from ..stack import StackModel, part_runs

    weights, columns, W, b, needs = StackModel.load(run.model_folder).weights, [], list[Any](), 0.0, False
    for part, weight in zip(part_runs(run), weights.astype(np.float64), strict=True):
        made = kinds.kind_row(part.kind).sklearn
        model, imports = kinds.load(made)(part, encoder) if made else (None, False)
        top: Any = model.named_steps["classifier"] if isinstance(model, Pipeline) else None
        if model is None or not hasattr(top, "coef_"):
            raise UserError(f"--format joblib: {run.folder} joins a {part.kind} run, which is no linear model here")
        if weight > 0:  # the others say nothing
            columns.append((part.kind, Pipeline(model.steps[:-1])))
            W.append(weight * top.coef_)
            b, needs = b + weight * top.intercept_, needs or imports
    order = _sorted(run)[1]
    joined = np.concatenate(W, axis=1), np.broadcast_to(b, (len(W[0]),))
    if len(order) == 2:  # one row, of the second name
        joined = np.concatenate([np.zeros_like(joined[0]), joined[0]]), np.concatenate([[0.0], joined[1]])
    back = np.argsort(order)
    return Pipeline(
        [("parts", FeatureUnion(columns)), ("classifier", _regression(joined[0][back], joined[1][back], run))]
    ), needs


def _top(model: Any, run: Run) -> Any:
    """What stands on standardised vectors: a logistic regression, or a network with one hidden layer."""
    if hasattr(model, "W"):
        cold = 1 / model.temperature
        return _regression(model.W.astype(np.float64) * cold, model.b.astype(np.float64) * cold, run)
    import warnings

    from sklearn.neural_network import MLPClassifier

    names, order = _sorted(run)
    network = MLPClassifier((len(model.a),), max_iter=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it has not converged, and need not: what it learnt is replaced
        network.fit(np.zeros((len(names), len(model.mean))), names)
    B, b = model.B[order].astype(np.float64), model.b[order].astype(np.float64)
    if len(names) == 2:
        B, b = B[1:] - B[:1], b[1:] - b[:1]
    network.coefs_, network.intercepts_ = [model.A.T.astype(np.float64), B.T], [model.a.astype(np.float64), b]
    return network


def _by_threshold(model: Any, run: Run) -> Any:
    """The same model, which answers the run's second class from its threshold on."""
    from sklearn.frozen import FrozenEstimator
    from sklearn.model_selection import FixedThresholdClassifier

    fixed = FixedThresholdClassifier(
        FrozenEstimator(model), threshold=run.threshold, pos_label=run.class_names[1], response_method="predict_proba"
    )
    return fixed.fit([""] * 2, list(run.class_names))


# ── the consumer ────────────────────────────────────────────────────────────────────────────────────────────────────


def reload(folder: Path, class_names: tuple[str, ...]) -> Any:
    """texts → probabilities (n, k), by `joblib.load`; vectors in float32."""
    import joblib

    with installed_name():
        return answering(joblib.load(folder / FILE), class_names)  # written a moment ago, by this process


def answering(model: Any, class_names: tuple[str, ...]) -> Any:
    """texts → probabilities (n, k) of a loaded pipeline, in the run's order of classes; vectors in float32."""
    inner = model.estimator_.estimator if hasattr(model, "estimator_") else model
    encoders = [name for name in inner.get_params() if name.endswith("encoder__precision")]
    inner.set_params(**dict.fromkeys(encoders, "fp32"))
    columns = [model.classes_.tolist().index(name) for name in class_names]

    def proba(texts: Any) -> np.ndarray:
        given = [t if len(t) == 2 else t[0] for t in texts]
        return np.asarray(model.predict_proba(given))[:, columns]

    return proba
