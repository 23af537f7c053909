import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.encoder.batches import TokenBatch, pad, padding_share, plan

lengths_of = st.lists(st.integers(0, 600), max_size=200).map(lambda values: np.array(values, np.int64))


@given(lengths_of, st.integers(1, 3000), st.integers(1, 64))
def test_every_text_is_in_one_batch_that_fits_the_budget(lengths, budget, max_rows):
    batches = plan(lengths, budget, max_rows=max_rows)
    assert sorted(np.concatenate(batches).tolist() if batches else []) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) <= max_rows
        assert len(batch) == 1 or len(batch) * lengths[batch].max() <= budget


@given(lengths_of, st.integers(1, 3000))
def test_the_longest_come_first(lengths, budget):
    longest = [max(1, int(lengths[batch].max())) for batch in plan(lengths, budget)]  # no tokens cost as one
    assert longest == sorted(longest, reverse=True)


def test_widths_count_in_multiples():
    lengths = np.array([17, 9, 8, 3])
    batches = plan(lengths, 32, multiple=8, call_cost=0)
    assert [sorted(batch.tolist()) for batch in batches] == [[0], [1], [2, 3]]  # widths 24, 16, 8, and 2 x 16 fits


def test_a_batch_ends_where_padding_would_cost_more_than_a_call():
    lengths = np.array([10, 9, 2, 2])
    assert [batch.tolist() for batch in plan(lengths, 100, call_cost=4)] == [[0, 1], [2, 3]]
    assert [batch.tolist() for batch in plan(lengths, 100, call_cost=100)] == [[0, 1, 2, 3]]
    assert [batch.tolist() for batch in plan(lengths, 100, call_cost=0)] == [[0], [1], [2, 3]]


def test_a_text_longer_than_the_budget_is_a_batch_of_its_own():
    assert [batch.tolist() for batch in plan(np.array([5, 500, 5]), 10, call_cost=0)] == [[1], [0, 2]]


def test_equal_lengths_keep_their_order():
    assert [batch.tolist() for batch in plan(np.full(5, 4), 8)] == [[0, 1], [2, 3], [4]]


def test_short_texts_like_tweets_are_padded_by_less_than_a_hundredth():
    random = np.random.default_rng(0)
    lengths = np.clip(random.lognormal(2.95, 0.55, 4096).astype(int), 3, 90)  # 22 tokens on average
    batches = plan(lengths)
    assert padding_share(lengths, batches) < 0.01
    assert len(batches) < 100


def test_no_texts_no_batches():
    assert plan(np.array([], np.int64)) == []
    assert padding_share(np.array([], np.int64), []) == 0.0


def test_pad_fills_on_the_right():
    batch = pad(np.array([7, 3]), [np.array([1, 2, 3]), np.array([4])], [np.array([0, 0, 1]), np.array([0])], pad_id=9)
    assert batch.rows.tolist() == [7, 3]
    assert batch.ids.tolist() == [[1, 2, 3], [4, 9, 9]]
    assert batch.mask.tolist() == [[1, 1, 1], [1, 0, 0]]
    assert batch.types is not None
    assert batch.types.tolist() == [[0, 0, 1], [0, 0, 0]]
    assert batch.lengths.tolist() == [3, 1]
    assert {array.dtype for array in (batch.rows, batch.ids, batch.mask, batch.types)} == {np.dtype(np.int64)}


def test_padding_share_is_what_is_padded_of_all():
    assert padding_share(np.array([4, 2, 2]), [np.array([0, 1]), np.array([2])]) == pytest.approx(1 - 8 / 10)


def test_halves_are_as_narrow_as_they_can_be():
    batch = pad(np.arange(3), [np.array([1, 2, 3]), np.array([4]), np.array([5])])
    first, second = batch.halves()
    assert first.ids.tolist() == [[1, 2, 3]]
    assert second.ids.tolist() == [[4], [5]]
    assert second.rows.tolist() == [1, 2]
    assert second.types is None
    assert isinstance(first, TokenBatch)
