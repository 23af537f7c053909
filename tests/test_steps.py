"""Steps of like length, the calls they are computed in, and cheap dropout: every row once, the gradient the same."""

from itertools import pairwise

import numpy as np
import pytest

from pipeline.encoder.batches import padding_share
from pipeline.finetune.batches import HeldOut, LengthSampler, calls
from pipeline.finetune.dropout import attention, cheapen, drop


def lengths(rows: int) -> np.ndarray:
    """As of short messages: most of them short, a few ten times as long."""
    return np.minimum(np.random.default_rng(rows).lognormal(3.0, 0.7, rows).astype(int) + 3, 256)


def steps(sampler: LengthSampler) -> list[np.ndarray]:
    order = np.array(list(sampler))
    return [order[i : i + sampler.rows] for i in range(0, len(order), sampler.rows)]


def batch(token_counts):
    import torch

    mask = torch.tensor([[1] * n + [0] * (max(token_counts) - n) for n in token_counts])
    return {"input_ids": mask * 7, "attention_mask": mask, "labels": torch.arange(len(token_counts))}


@pytest.mark.parametrize("rows", [1, 5, 32, 33, 1000, 1601, 4000])
def test_every_row_is_once_in_an_epoch(rows):
    assert sorted(LengthSampler(lengths(rows), 32, seed=1)) == list(range(rows))


def test_steps_hold_texts_of_like_length_in_random_order():
    token_counts = lengths(1000)
    epoch = steps(LengthSampler(token_counts, 32, seed=1))
    longest = [token_counts[step].max() for step in epoch[:-1]]
    assert longest not in (sorted(longest), sorted(longest, reverse=True))
    ranges = sorted((token_counts[step].min(), token_counts[step].max()) for step in epoch[:-1])
    assert all(high <= low for (_, high), (low, _) in pairwise(ranges))  # no two overlap
    assert len(epoch[-1]) == 1000 % 32


def test_the_short_step_is_not_always_of_the_shortest_texts():
    token_counts = np.arange(100)
    last = {steps(LengthSampler(token_counts, 32, seed))[-1].max() for seed in range(20)}
    assert last == {99, 67, 35, 3}


def test_an_epoch_has_its_own_order_and_always_the_same():
    sampler, again = LengthSampler(lengths(200), 16, seed=1), LengthSampler(lengths(200), 16, seed=1)
    first = list(sampler)
    assert first == list(again)
    sampler.set_epoch(1)
    again.set_epoch(1)
    assert first != list(sampler) == list(again)
    assert list(LengthSampler(lengths(200), 16, seed=2)) != first


def test_rows_that_are_held_out_are_replaced_until_they_are_not():
    sampler = LengthSampler(lengths(50), 16, seed=1, held=HeldOut(np.arange(0, 50, 5), epochs=1))
    first = list(sampler)
    assert len(first) == 50
    assert set(first) == set(range(50)) - set(range(0, 50, 5))
    sampler.set_epoch(1)
    assert sorted(sampler) == list(range(50))


def test_calls_hold_every_row_once_and_hardly_any_padding():
    token_counts = lengths(1000)
    called = []
    for step in steps(LengthSampler(token_counts, 32, seed=1)):
        parts = calls(batch(token_counts[step].tolist()))
        called += [part["attention_mask"].sum(1).numpy() for part in parts]
        assert sorted(int(i) for part in parts for i in part["labels"]) == list(range(len(step)))
        assert all(part["input_ids"].numel() <= 2048 for part in parts)
    counts = np.concatenate(called)
    ends = np.split(np.arange(len(counts)), np.cumsum([len(call) for call in called])[:-1])
    assert padding_share(counts, ends) < 0.05


def test_a_step_of_equal_texts_is_one_call():
    assert len(calls(batch([9] * 32))) == 1
    assert [tuple(call["input_ids"].shape) for call in calls(batch([500, 4, 4, 4]))] == [(1, 500), (3, 4)]


# ── dropout ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_dropout_keeps_the_mean_and_drops_its_share(share):
    import torch

    torch.manual_seed(0)
    ones = torch.ones(1001, 333, requires_grad=True)  # no multiple of eight
    dropped = drop(ones, share)
    assert float((dropped.detach() == 0).float().mean()) == pytest.approx(round(256 * share) / 256, abs=2e-3)
    assert float(dropped.detach().mean()) == pytest.approx(1, abs=4e-3)
    dropped.sum().backward()
    assert torch.equal(ones.grad, dropped.detach())  # what was dropped learns nothing


def test_cheap_dropout_is_none_when_a_model_predicts(tiny_bert):
    import torch
    from transformers import AutoModel

    model = AutoModel.from_pretrained(tiny_bert).eval()
    names, filled = list(model.state_dict()), batch([9, 4])
    words = {name: filled[name] for name in ("input_ids", "attention_mask")}
    before = model(**words)[0]
    cheapen(model, model)
    assert torch.equal(model(**words)[0], before)
    assert list(model.state_dict()) == names
    model.train()
    assert not torch.equal(model(**words)[0], model(**words)[0])


@pytest.mark.parametrize("masked", [True, False])
def test_attention_under_dropout_is_attention_on_average(masked):
    import torch

    torch.manual_seed(0)
    query, key, value = (torch.randn(2, 3, 5, 4) for _ in range(3))
    some = torch.ones(2, 1, 5, 5, dtype=torch.bool)
    some[0, :, :, 3:] = False
    mask = some if masked else None
    module = torch.nn.Module()
    plain = torch.nn.functional.scaled_dot_product_attention(query, key, value, mask).transpose(1, 2)
    own = attention(module, query, key, value, mask, dropout=1e-9, is_causal=False)[0]  # rounded to nothing
    torch.testing.assert_close(own, plain)
    many = [attention(module, query, key, value, mask, dropout=0.1, is_causal=False)[0] for _ in range(3000)]
    torch.testing.assert_close(torch.stack(many).mean(0), plain, atol=0.04, rtol=0)
    assert not torch.equal(many[0], many[1])


def test_a_row_that_may_look_at_nothing_is_still_a_number():
    import torch

    query = torch.randn(1, 1, 2, 4)
    mask = torch.zeros(1, 1, 2, 2, dtype=torch.bool)
    assert torch.isfinite(
        attention(torch.nn.Module(), query, query, query, mask, dropout=0.1, is_causal=False)[0]
    ).all()
