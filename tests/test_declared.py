"""What a folder of sentence-transformers' declares is what is read, number by number; what cannot be is said."""

import json
import logging
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import DIM, SENTENCES

from pipeline import FrozenEncoder, UserError
from pipeline.encoder import EncoderSpec, Runtime, locate
from pipeline.encoder.checkpoint import Variant, vectors_digest
from pipeline.encoder.declared import cls_is_last
from pipeline.extract.extractor import Extractor
from pipeline.store import text_keys

TEXTS = [text for text in SENTENCES if text]
OLD, NEW = "sentence_transformers.models.", "sentence_transformers.sentence_transformer.modules.pooling."


@pytest.fixture
def folder(tmp_path, tiny_bert) -> Path:
    """A copy of the tiny BERT that declares nothing yet."""
    return Path(shutil.copytree(tiny_bert, tmp_path / "encoder"))


def write(file: Path, value) -> None:
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(value), "utf-8")


def declare(folder: Path, pooling, *more: str, prompts=None, default=None, **lengths) -> Path:
    """The files of a model whose pooling has this config, followed by modules `more`."""
    kinds = ["Transformer", "Pooling", *more]
    places = ["", *(f"{number}_{kind}" for number, kind in enumerate(kinds) if number)]
    write(folder / "modules.json", [{"path": p, "type": OLD + k} for p, k in zip(places, kinds, strict=True)])
    write(folder / "1_Pooling" / "config.json", {"word_embedding_dimension": DIM} | pooling)
    if prompts is not None:
        write(folder / "config_sentence_transformers.json", {"prompts": prompts, "default_prompt_name": default})
    if lengths:
        write(folder / "sentence_bert_config.json", lengths)
    return folder


def hidden(folder: Path, texts: list[str], limit: int = 512):
    """Token vectors (t, d) of each text alone, as transformers has them."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    model, tokenizer = AutoModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    with torch.inference_mode():
        ids = [tokenizer(text, truncation=True, max_length=limit, return_tensors="pt") for text in texts]
        return [model(**one).last_hidden_state[0].numpy() for one in ids]


def vectors(folder: Path, cache: Path, texts=TEXTS, **wishes) -> np.ndarray:
    encoder = FrozenEncoder(folder, engine="torch", precision="fp32", cache_dir=cache, **wishes)
    return encoder.fit_transform(texts)


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


POOLED = {
    "mean": lambda rows: rows.mean(0),
    "cls": lambda rows: rows[0],
    "max": lambda rows: rows.max(0),
    "last": lambda rows: rows[-1],
    "weightedmean": lambda rows: (rows * np.arange(1, len(rows) + 1)[:, None]).sum(0) / np.arange(len(rows) + 1).sum(),
    "mean_sqrt_len_tokens": lambda rows: rows.sum(0) / len(rows) ** 0.5,
}
WRITTEN = {
    "mean": {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False},
    "cls": {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False},
    "max": {"pooling_mode": "max"},
    "last": {"pooling_mode_lasttoken": True},
    "weightedmean": {"pooling_mode": ["weightedmean"]},
    "mean_sqrt_len_tokens": {"pooling_mode_mean_sqrt_len_tokens": True},
}


@pytest.mark.parametrize("more", [(), ("Normalize",), ("Dropout", "Normalize")], ids="+".join)
@pytest.mark.parametrize("pooling", POOLED)
def test_the_declared_pooling_is_what_is_read(folder, tmp_path, pooling, more):
    declare(folder, WRITTEN[pooling], *more)
    expected = np.stack([POOLED[pooling](rows) for rows in hidden(folder, TEXTS)])
    expected = unit(expected) if more else expected
    assert np.abs(vectors(folder, tmp_path / "cache") - expected).max() < 1e-5
    assert locate(EncoderSpec(str(folder))).pooling("declared") == pooling + ("-normalized" if more else "")


def test_several_poolings_stand_side_by_side(folder, tmp_path):
    declare(folder, {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": True})
    expected = np.stack([np.concatenate([rows[0], rows.mean(0)]) for rows in hidden(folder, TEXTS)])
    assert np.abs(vectors(folder, tmp_path / "cache") - expected).max() < 1e-5


def test_an_encoder_in_a_folder_of_its_own_is_the_same_encoder(folder, tmp_path):
    declare(folder, {"pooling_mode_mean_tokens": True}, max_seq_length=9)
    flat, digest = vectors(folder, tmp_path / "flat"), locate(EncoderSpec(str(folder))).digest
    for file in [file for file in folder.iterdir() if file.is_file() and file.name != "modules.json"]:
        (folder / "0_Transformer").mkdir(exist_ok=True)
        shutil.move(file, folder / "0_Transformer")
    places = [{"path": "0_Transformer", "type": OLD + "Transformer"}, {"path": "1_Pooling", "type": OLD + "Pooling"}]
    write(folder / "modules.json", places)
    moved = locate(EncoderSpec(str(folder)))
    assert (moved.digest, moved.max_length) == (digest, 9)
    assert np.array_equal(vectors(folder, tmp_path / "moved"), flat)
    config = folder / "0_Transformer" / "config.json"
    write(config, json.loads(config.read_text("utf-8")) | {"auto_map": {"AutoModel": "modeling.Evil"}})
    with pytest.raises(UserError, match=r"config\.json names 'auto_map'"):
        locate(EncoderSpec(str(folder)))


def test_a_pooling_config_without_a_list_of_modules_counts(folder):
    declare(folder, WRITTEN["max"])
    (folder / "modules.json").unlink()
    assert locate(EncoderSpec(str(folder))).pooling("declared") == "max"


def test_what_declares_nothing_is_read_at_cls_and_found_again(folder, tmp_path):
    expected = np.stack([rows[0] for rows in hidden(folder, TEXTS)])
    assert np.abs(vectors(folder, tmp_path / "cache") - expected).max() < 1e-5
    plain, asked = locate(EncoderSpec(str(folder))), locate(EncoderSpec(str(folder), pooling=("cls",)))
    assert plain.checkpoint_digest("declared") == asked.checkpoint_digest("cls")


def test_vectors_of_earlier_versions_are_found_again(tiny_bert, monkeypatch):
    """The folder's name as the version without declarations had it, digest by digest."""
    from pipeline.encoder.checkpoint import FORMAT, digest_of

    here = locate(EncoderSpec(str(tiny_bert)))
    former = digest_of(["checkpoint", here.digest, "cls", "last layer"])
    assert here.checkpoint_digest("declared") == former
    folder = digest_of(["vectors", FORMAT, former, "openvino", "fp32", None, "float32", False])
    assert vectors_digest(here, "declared", Variant("openvino", "fp32")) == folder


def test_cls_stays_and_mean_is_encoded_once_for_both_lengths(folder, tmp_path, monkeypatch):
    from pipeline.encoder import Encoder

    declare(folder, WRITTEN["mean"], "Normalize")
    mean = vectors(folder, tmp_path / "cache", pooling="mean")
    monkeypatch.setattr(Encoder, "push", None)  # nothing more is encoded
    assert np.abs(vectors(folder, tmp_path / "cache") - unit(mean)).max() < 1e-6
    monkeypatch.undo()
    cls = np.stack([rows[0] for rows in hidden(folder, TEXTS)])
    assert np.abs(vectors(folder, tmp_path / "cache", pooling="cls") - cls).max() < 1e-5


# ── prompts and lengths ─────────────────────────────────────────────────────────────────────────────────────────────

PROMPTS = {"query": "i want ", "document": ""}


@pytest.mark.parametrize(
    ("default", "asked", "prompt"),
    [
        (None, "auto", ""),
        ("query", "auto", "i want "),
        ("query", "none", ""),
        ("query", "document", ""),
        (None, "query", "i want "),
        (None, "the film: ", "the film: "),
        (None, "=query", "query"),
    ],
)
def test_a_prompt_stands_before_every_text(folder, tmp_path, default, asked, prompt):
    declare(folder, WRITTEN["mean"], prompts=PROMPTS, default=default)
    expected = np.stack([rows.mean(0) for rows in hidden(folder, [prompt + text for text in TEXTS])])
    assert np.abs(vectors(folder, tmp_path / "cache", prompt=asked) - expected).max() < 1e-5


def test_each_prompt_has_vectors_of_its_own(folder):
    declare(folder, WRITTEN["mean"], prompts=PROMPTS)
    digests = {
        p: locate(EncoderSpec(str(folder), prompt=p)).checkpoint_digest("mean") for p in ("auto", "none", "query")
    }
    assert digests["auto"] == digests["none"] != digests["query"]


def test_a_prompt_that_is_no_name_is_refused_with_the_names(folder):
    declare(folder, WRITTEN["mean"], prompts=PROMPTS)
    with pytest.raises(UserError, match=r"--prompt qurey: .*it has query, document; pass one of them, none"):
        locate(EncoderSpec(str(folder), prompt="qurey"))


def test_the_declared_length_cuts_and_a_longer_one_may_be_asked_for(folder, tmp_path):
    declare(folder, WRITTEN["mean"], max_seq_length=16, do_lower_case=True)
    expected = np.stack([rows.mean(0) for rows in hidden(folder, TEXTS, 16)])
    assert np.abs(vectors(folder, tmp_path / "cache") - expected).max() < 1e-5
    assert locate(EncoderSpec(str(folder))).max_length == 16
    assert locate(EncoderSpec(str(folder), max_length=64)).max_length == 64


def test_a_tokenizer_that_tells_case_apart_is_not_read_in_lower_case_silently(tmp_path, tiny_roberta):
    folder = shutil.copytree(tiny_roberta, tmp_path / "roberta")
    declare(folder, WRITTEN["mean"], do_lower_case=True)
    with pytest.raises(UserError, match="do_lower_case"):
        vectors(folder, tmp_path / "cache")


# ── what is refused, or said ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("Dense", "has a module Dense"),
        ("LayerNorm", "has a module LayerNorm"),
        ("WeightedLayerPooling", "has a module WeightedLayerPooling"),
    ],
)
def test_a_module_that_is_not_computed_is_refused_and_read_without_only_if_asked(
    folder, tmp_path, caplog, kind, reason
):
    declare(folder, WRITTEN["mean"], kind)
    with pytest.raises(UserError, match=f'{reason}, which is not computed here; pass pooling="mean"'):
        vectors(folder, tmp_path / "cache")
    with caplog.at_level(logging.INFO, "pipeline"):
        spec = EncoderSpec(str(folder), pooling=("mean",), engine="torch", precision="fp32")
        Extractor(locate(spec), spec, Runtime(), tmp_path / "cache", keys=text_keys([("a",)]))
        from pipeline.encoder.declared import note_pooling

        note_pooling(locate(spec).declared, spec.pooling, spec.name)
    assert f"declares what is not computed here (it {reason})" in caplog.text


def test_code_that_a_list_of_modules_names_never_runs(folder, tmp_path):
    declare(folder, WRITTEN["mean"])
    write(
        folder / "modules.json",
        [{"path": "", "type": "custom_st.Transformer"}, {"path": "1_Pooling", "type": OLD + "Pooling"}],
    )
    (folder / "custom_st.py").write_text("raise SystemExit('ran')")
    with pytest.raises(UserError, match=r"has a module of its own code \(custom_st\.Transformer\)"):
        vectors(folder, tmp_path / "cache")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (
            {"pooling": {"include_prompt": False, "pooling_mode": "mean"}, "default": "query"},
            "leaves its prompt's tokens out",
        ),
        ({"pooling": WRITTEN["cls"], "model_args": {"is_causal": False}}, "passes is_causal to transformers"),
        ({"pooling": WRITTEN["cls"], "transformer_task": "text-generation"}, "is used for text-generation"),
        ({"pooling": {"pooling_mode": "attention"}}, "declares the pooling 'attention'"),
        ({"pooling": WRITTEN["mean"], "default": "absent"}, "the default prompt 'absent', which it does not have"),
        ({"pooling": WRITTEN["mean"], "prompts": {"query": 3}}, "prompts in .* that are no texts"),
    ],
)
def test_declarations_that_cannot_be_followed(folder, tmp_path, change, reason):
    change = {"prompts": PROMPTS} | change
    declare(folder, change.pop("pooling"), **change)
    with pytest.raises(UserError, match=reason):
        vectors(folder, tmp_path / "cache")


def test_normalizing_several_poolings_together_is_refused(folder, tmp_path):
    declare(folder, {"pooling_mode": ["cls", "mean"]}, "Normalize")
    with pytest.raises(UserError, match=r"normalizes cls\+mean together"):
        vectors(folder, tmp_path / "cache")


@pytest.mark.parametrize("place", ["../outside", "/tmp", "1_Pooling/../../outside", "C:\\outside", "link"])
def test_nothing_outside_of_the_folder_is_read(folder, tmp_path, place):
    declare(folder, WRITTEN["mean"])
    write(tmp_path / "outside" / "config.json", WRITTEN["max"])
    os.symlink(tmp_path / "outside", folder / "link")
    write(
        folder / "modules.json", [{"path": "", "type": OLD + "Transformer"}, {"path": place, "type": OLD + "Pooling"}]
    )
    with pytest.raises(UserError, match="outside of the checkpoint's folder"):
        locate(EncoderSpec(str(folder)))


@pytest.mark.parametrize("file", ["modules.json", "1_Pooling/config.json", "config_sentence_transformers.json"])
@pytest.mark.parametrize("content", ["{", "[1]", "3", '"x"', "[" * 100_000])
def test_a_damaged_file_is_one_line(folder, file, content):
    declare(folder, WRITTEN["mean"], prompts={})
    (folder / file).write_text(content)
    with pytest.raises(UserError, match=r"^--encoder [^\n]*$"):
        locate(EncoderSpec(str(folder)))


def test_a_pooling_that_is_named_and_missing(folder):
    declare(folder, WRITTEN["mean"])
    shutil.rmtree(folder / "1_Pooling")
    with pytest.raises(UserError, match=r"names 1_Pooling, which is not there"):
        locate(EncoderSpec(str(folder)))


# ── decoders, and a [CLS] that stands last ──────────────────────────────────────────────────────────────────────────


@pytest.fixture
def decoder(tmp_path, tiny_bert) -> Path:
    """A tiny Qwen3, whose tokens see nothing of what follows them."""
    import torch
    from transformers import Qwen3Config, Qwen3Model

    size = json.loads((tiny_bert / "config.json").read_text())["vocab_size"]
    shape = {"hidden_size": DIM, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    torch.manual_seed(0)
    model = Qwen3Model(Qwen3Config(vocab_size=size, num_key_value_heads=2, head_dim=8, pad_token_id=0, **shape))
    model.save_pretrained(tmp_path / "decoder")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tiny_bert / name, tmp_path / "decoder" / name)
    return tmp_path / "decoder"


def test_a_decoder_is_read_at_its_last_token(decoder, tmp_path):
    with pytest.raises(
        UserError, match=r'is a decoder, not a \[CLS\] encoder: pass pooling="last", pooling="mean", or'
    ):
        vectors(decoder, tmp_path / "cache")
    last = np.stack([rows[-1] for rows in hidden(decoder, TEXTS)])
    assert np.abs(vectors(decoder, tmp_path / "cache", pooling="last") - last).max() < 1e-5
    declare(decoder, WRITTEN["last"], "Normalize")
    assert np.abs(vectors(decoder, tmp_path / "cache") - unit(last)).max() < 1e-5
    pytest.importorskip("openvino")
    encoder = FrozenEncoder(decoder, engine="openvino", precision="fp32", cache_dir=tmp_path / "cache")
    assert np.abs(encoder.fit_transform(TEXTS) - unit(last)).max() < 1e-5


def test_a_tokenizer_that_does_not_end_texts_as_its_settings_say_is_refused(decoder, tmp_path):
    settings = json.loads((decoder / "tokenizer_config.json").read_text())
    write(decoder / "tokenizer_config.json", settings | {"add_eos_token": True, "eos_token": "[MASK]"})
    with pytest.raises(UserError, match=r"says add_eos_token and tokenizer\.json does not add it"):
        vectors(decoder, tmp_path / "cache", pooling="last")


@pytest.mark.parametrize("piece", [{"SpecialToken": None}, {"SpecialToken": 5}, {"SpecialToken": {}}, None, 3, [], {}])
def test_a_template_of_something_else_says_nothing_of_where_cls_is(piece, folder):
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["post_processor"] = {"type": "TemplateProcessing", "single": [piece, piece]}
    write(folder / "tokenizer.json", tokenizer)
    assert not cls_is_last(folder, {})


def test_cls_is_last_where_the_tokenizer_puts_it_there(folder):
    config = json.loads((folder / "config.json").read_text())
    write(folder / "config.json", config | {"model_type": "xlnet"})
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    write(folder / "tokenizer.json", tokenizer | {"post_processor": None})  # it does not say: the architecture does
    here = locate(EncoderSpec(str(folder)))
    assert here.pooling("declared") == here.pooling("cls") == "last"
    assert here.poolings(("cls+mean",)) == ("mean", "last")
