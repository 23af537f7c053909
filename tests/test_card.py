"""The model card: what Hugging Face reads in it is the comparison's, and what people wrote stays text."""

from dataclasses import replace

import page_example as example
import pytest

from pipeline import UserError
from pipeline.export.model_card import card, code, safe, write_card


@pytest.fixture(scope="module")
def told():
    runs = example.runs()
    return runs, example.comparison(runs)


def read(path):
    from huggingface_hub import ModelCard

    return ModelCard.load(path)


def test_the_header_is_what_the_hub_reads(told, tmp_path):
    runs, comparison = told
    run = next(run for run in runs if run.kind == "fine-tune")
    found = read_back(run, comparison, tmp_path)
    data = found.data
    me = next(c for c in comparison.contenders if c.name == "fine-tune")
    assert (data.library_name, data.pipeline_tag, data.datasets) == ("transformers", "text-classification", ["emotion"])
    assert data.metrics == ["accuracy", "f1", "precision", "recall", "roc_auc", "log_loss"]
    values = {result.metric_name: result.metric_value for result in data.eval_results}
    assert values["accuracy"] == pytest.approx(me.metrics["accuracy"].value, abs=1e-6)
    assert values["macro F1"] == pytest.approx(me.metrics["macro_f1"].value, abs=1e-6)
    assert {result.dataset_split for result in data.eval_results} == {"test"}
    for part in ("## Verdict", "## Intended use", "## How it was made", "## Limits", safe(comparison.recommendation)):
        assert part in found.text
    best = f"{100 * me.metrics['accuracy'].value:.1f} % ({100 * me.metrics['accuracy'].low:.1f} to "
    assert best in found.text
    assert "| **fine-tune** |" in found.text
    assert "| may lose up to |" in found.text
    assert all(f"| {comparison.may_lose(c.name)} |" in found.text for c in comparison.contenders)
    assert "for these trained models" in found.text
    folded = card(run, replace(comparison, cv={"folds": 10}))
    assert "each judged by a model of its kind that had not seen it" in folded
    assert "for these trained models" not in folded
    assert "`sadness`" in found.text


def read_back(run, comparison, tmp_path):
    here = replace(run, folder=tmp_path)
    mine = [replace(c, run=str(tmp_path)) if c.run == str(run.folder) else c for c in comparison.contenders]
    path = write_card(here, replace(comparison, contenders=tuple(mine)))
    assert path == tmp_path / "README.md"
    assert [file.name for file in tmp_path.iterdir()] == ["README.md"]
    return read(path)


def test_odd_names_stay_text(tmp_path):
    runs = example.hostile_runs()
    run = runs[1]
    names = ("a|b`c", "---\nlibrary_name: taken", "<img src=x onerror=alert(1)>", *run.class_names[3:])
    with example.hostile_kinds():
        comparison = replace(example.comparison(runs), recommendation=example.HOSTILE[1], left_out=example.HOSTILE[:8])
        found = read_back(replace(run, class_names=names), replace(comparison, class_names=names), tmp_path)
    assert found.data.library_name == "probe-or-tune"
    assert found.data.eval_results[0].dataset_name == "<b>set</b>"
    assert "<script" not in found.text
    assert "<img" not in found.text
    assert "\n---\n" not in found.text
    assert "<b>" not in found.text


def test_a_path_of_this_machine_is_not_published(told):
    runs, comparison = told
    run = replace(runs[2], checkpoint_digest="c" * 32, settings={"encoder": "/home/me/secret/tiny", "init_head": "/x"})
    text = card(run, comparison)
    assert "`tiny`" in text
    assert "/home" not in text
    assert "base_model" not in text
    public = replace(run, settings={"encoder": "FacebookAI/roberta-base"})
    assert "base_model: FacebookAI/roberta-base" in card(public, comparison)


def test_escapes():
    assert safe("a *b* [c](d) <e> | `f`\n# g") == r"a \*b\* \[c\](d) &lt;e&gt; \| \`f\` \# g"
    assert code("a`b|c\n<d>\u202e") == "aˋb¦c ‹d›"
    assert code("\n") == " "


def test_a_folder_that_is_gone_is_an_error(told, tmp_path):
    runs, comparison = told
    with pytest.raises(UserError, match="cannot write the model card"):
        write_card(runs[0], comparison)
