"""What becomes of positions when tokens are dropped."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tsporec.collators.positions import policy


def test_position_policies():
    positions, kept = np.arange(5, 11), np.array([0, 2, 5])
    assert policy("renumber")(positions, kept).tolist() == [5, 6, 7]
    assert policy("right_align")(positions, kept).tolist() == [8, 9, 10]
    for name in ("left", "keep"):
        with pytest.raises(ValueError, match=f"there is no position policy '{name}'"):
            policy(name)


@given(lengths=st.lists(st.integers(1, 6), min_size=1, max_size=4), data=st.data())
def test_positions_of_packed_runs_go_on_run_by_run(lengths, data):
    positions = np.concatenate([np.arange(n) + 3 for n in lengths])
    kept = np.array(sorted(data.draw(st.sets(st.integers(0, len(positions) - 1)))), dtype=np.int64)
    run = np.repeat(np.arange(len(lengths)), lengths)[kept]
    renumbered, aligned = policy("renumber")(positions, kept), policy("right_align")(positions, kept)
    for r, n in enumerate(lengths):
        count = (run == r).sum()
        assert renumbered[run == r].tolist() == list(range(3, 3 + count))
        assert aligned[run == r].tolist() == list(range(3 + n - count, 3 + n))
    everything = np.arange(len(positions))
    assert policy("renumber")(positions, everything).tolist() == positions.tolist()
