"""A run on frozen vectors predicts without torch, transformers or scikit-learn, once its encoder is converted."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
HEAVY = "{'torch', 'transformers', 'sklearn', 'scipy', 'pandas', 'datasets', 'pyarrow'}"
CODE = f"""
import sys, cli
code = cli.main(sys.argv[1:])
print(sorted({HEAVY} & set(sys.modules)), file=sys.stderr)
sys.exit(code)
"""


@pytest.mark.parametrize("kind", ["lr", "majority"])
def test_predicting_imports_nothing_heavy(kind, tmp_path, tiny_distilbert):
    pytest.importorskip("openvino")
    from pipeline.baseline import majority_fit
    from pipeline.contenders import linear_runs
    from pipeline.data import SourceOptions, read
    from pipeline.encoder import EncoderSpec
    from pipeline.task import Task

    data = read(SourceOptions("sms-spam", rows="first:200"))
    spec = EncoderSpec(str(tiny_distilbert), engine="openvino", precision="fp32")
    task = Task(data, encoders=(spec,), cache=tmp_path / "cache", runs=tmp_path / "runs")
    run = linear_runs(task)[0] if kind == "lr" else majority_fit(data, tmp_path / "runs").run()
    words = ["predict", str(run.folder), "win a prize", "--cache", str(tmp_path / "cache"), "--device", "cpu"]
    done = subprocess.run([sys.executable, "-c", CODE, *words], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert '"label": ' in done.stdout
    assert done.stderr.splitlines()[-1] == "[]"


def test_counting_words_needs_no_scikit_learn(tmp_path):
    from pipeline.data import SourceOptions, read
    from pipeline.tfidf import TfidfSettings, tfidf_fit

    data = read(SourceOptions("sms-spam", rows="first:200"))
    run = tfidf_fit(data, TfidfSettings(), tmp_path / "runs").run()
    words = ["predict", str(run.folder), "win a prize"]
    done = subprocess.run([sys.executable, "-c", CODE, *words], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[-1] == "['scipy']"
