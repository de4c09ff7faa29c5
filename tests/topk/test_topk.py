from __future__ import annotations

import math
import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tsporec.tokens.ragged import lengths_to_offsets
from tsporec.topk import cpu, pad_kept, reference, topk_gather, topk_mask, topk_select

SPECIALS = [math.nan, math.inf, -math.inf, 0.0, -0.0, 1.0, -1.0, 1e-40]


@st.composite
def cases(draw):
    """(scores, cu_seqlens, k, protected, forbidden): ties, specials, masks, empty segments, k beyond the length."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    longest = draw(st.sampled_from([1, 5, 40, 400]))
    lengths = rng.integers(0, longest + 1, size=draw(st.integers(0, 12)))
    total = int(lengths.sum())
    kind = draw(st.sampled_from(["normal", "few", "equal", "special"]))
    scores = {
        "normal": lambda: rng.normal(size=total),
        "few": lambda: rng.integers(0, 3, total).astype(float),
        "equal": lambda: np.zeros(total),
        "special": lambda: rng.choice(SPECIALS, total),
    }[kind]()
    k = (
        rng.integers(0, longest + 3, size=len(lengths))
        if draw(st.booleans())
        else np.full(len(lengths), draw(st.integers(0, 9)))
    )
    masks = [
        rng.random(total) < p if p is not None else None
        for p in (draw(st.sampled_from([None, 0.1, 0.9])), draw(st.sampled_from([None, 0.1, 1.0])))
    ]
    dtype = draw(st.sampled_from([np.float32, np.float16]))
    return scores.astype(dtype), lengths_to_offsets(lengths), k.astype(np.int32), *masks


def brute_force(scores, cu, k, protected, forbidden):
    """The definition, one segment at a time, in Python."""
    kept = []
    for i in range(len(cu) - 1):
        allowed = [t for t in range(cu[i], cu[i + 1]) if forbidden is None or not forbidden[t]]
        fixed = {t for t in allowed if protected is not None and protected[t]}
        value = {
            t: (t in fixed, not math.isnan(scores[t]), 0.0 if math.isnan(scores[t]) else float(scores[t]))
            for t in allowed
        }
        best = sorted(allowed, key=lambda t: value[t], reverse=True)  # stable also in reverse: earlier first
        kept += sorted(best[: min(max(int(k[i]), len(fixed)), len(allowed))])
    return kept


@given(cases())
@settings(max_examples=200)
def test_cpu_and_reference_are_the_definition(case):
    expected = brute_force(*case)
    kept, new_cu = cpu.select(*case)
    assert kept.tolist() == expected
    assert kept.dtype == np.int64
    assert new_cu.dtype == np.int32
    assert new_cu.tolist() == np.searchsorted(kept, case[1]).tolist()
    tensors = [None if a is None else torch.from_numpy(a) for a in case]
    oracle, oracle_cu = reference.select(*tensors)
    assert oracle.tolist() == expected
    assert oracle_cu.tolist() == new_cu.tolist()


@given(cases())
def test_ops_agree_with_cpu(case):
    kept, new_cu = cpu.select(*case)
    tensors = [None if a is None else torch.from_numpy(a) for a in case]
    found, found_cu = topk_select(*tensors)
    assert found.tolist() == kept.tolist()
    assert found_cu.tolist() == new_cu.tolist()
    assert topk_mask(*tensors).nonzero().flatten().tolist() == kept.tolist()
    payload = torch.arange(2 * len(case[0])).view(-1, 2)
    cut, cut_cu = topk_gather(*tensors[:3], [payload], *tensors[3:])
    assert torch.equal(cut, payload[found])
    assert torch.equal(cut_cu, found_cu)


@given(cases())
def test_a_segment_alone_keeps_the_same(case):
    scores, cu, k, protected, forbidden = case
    kept, new_cu = cpu.select(*case)
    for i in range(len(k)):
        part = slice(cu[i], cu[i + 1])
        masks = [None if m is None else m[part] for m in (protected, forbidden)]
        alone, _ = cpu.select(scores[part], np.int32([0, cu[i + 1] - cu[i]]), k[i : i + 1], *masks)
        assert (alone + cu[i]).tolist() == kept[new_cu[i] : new_cu[i + 1]].tolist()


@given(st.integers(0, 2**32 - 1))
def test_bfloat16_ties_as_it_rounds(seed):
    rng = np.random.default_rng(seed)
    scores = torch.from_numpy(rng.normal(size=60).astype(np.float32)).bfloat16()
    cu, k = torch.tensor([0, 20, 20, 60], dtype=torch.int32), torch.tensor([3, 1, 9], dtype=torch.int32)
    assert torch.equal(topk_select(scores, cu, k)[0], reference.select(scores, cu, k)[0])
    assert torch.equal(topk_select(scores, cu, k)[0], topk_select(scores.float(), cu, k)[0])


@given(cases(), st.sampled_from(["left", "right"]))
def test_padded_agrees_with_packed(case, side):
    kept, new_cu = cpu.select(*case)
    tensors = [None if a is None else torch.from_numpy(a) for a in case]
    width = int(np.diff(new_cu).max(initial=0)) + 2
    payloads = [torch.arange(len(case[0])), torch.arange(2.0 * len(case[0])).view(-1, 2)]
    padded, mask = pad_kept(topk_mask(*tensors), tensors[1], payloads, width, fill=[-1, 0.5], side=side)
    assert mask.shape == (len(case[2]), width)
    assert padded[0][mask.bool()].tolist() == kept.tolist()
    assert torch.equal(padded[1][mask.bool()], payloads[1][torch.from_numpy(kept)])
    assert (padded[0][~mask.bool()] == -1).all()
    assert (padded[1][~mask.bool()] == 0.5).all()
    assert mask.sum(1).tolist() == np.diff(new_cu).tolist()
    assert torch.equal(mask, mask.sort(dim=1, descending=side == "right").values)


def test_padded_refuses_to_drop_what_does_not_fit():
    scores, cu = torch.randn(10), torch.tensor([0, 4, 10], dtype=torch.int32)
    kept = topk_mask(scores, cu, 3)
    with pytest.raises(RuntimeError, match="raise it"):
        pad_kept(kept, cu, [scores], 2)
    with pytest.raises(ValueError, match="expected 'right' or 'left'"):
        pad_kept(kept, cu, [scores], 3, side="middle")
    with pytest.raises(ValueError, match="fill has 2 values"):
        pad_kept(kept, cu, [scores], 3, fill=[0, 0])


def test_blocks_do_not_change_results(monkeypatch):
    rng = np.random.default_rng(0)
    lengths = rng.integers(0, 300, 200)
    scores, cu = rng.normal(size=lengths.sum()).astype(np.float32), lengths_to_offsets(lengths)
    expected = cpu.select(scores, cu, 7)[0]
    for block in (1, 100, 5000):
        monkeypatch.setattr(cpu, "BLOCK_TOKENS", block)
        np.testing.assert_array_equal(cpu.select(scores, cu, 7)[0], expected)


@pytest.mark.parametrize("scores", ["distinct", "equal"])
def test_memory_is_below_three_times_the_input(scores):
    rng = np.random.default_rng(0)
    lengths = rng.integers(64, 193, 20_000)
    values = rng.random(lengths.sum(), np.float32) if scores == "distinct" else np.zeros(lengths.sum(), np.float32)
    cu = lengths_to_offsets(lengths)
    tracemalloc.start()
    cpu.select(values, cu, 32)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3 * (values.nbytes + cu.nbytes)


def test_strided_scores():
    scores = np.random.default_rng(0).normal(size=100).astype(np.float32)
    cu = np.int32([0, 30, 100])
    for view in (scores[::-1], np.repeat(scores, 2)[::2]):
        np.testing.assert_array_equal(cpu.select(view, cu, 7)[0], cpu.select(view.copy(), cu, 7)[0])


def test_rows_much_shorter_than_their_group():
    """Of a group as wide as 128, 256 or 288 tokens, with the shortest and the longest row at both ends of a block."""
    for low, high in ((65, 128), (129, 192), (193, 256), (257, 288), (1025, 1152)):
        for lengths in ([low, high], [high, low], [low, high, low], [low + 1, low, high - 1]):
            rng = np.random.default_rng(low)
            scores, cu = rng.normal(size=sum(lengths)).astype(np.float32), lengths_to_offsets(lengths)
            kept = reference.select(torch.from_numpy(scores), torch.from_numpy(cu), torch.tensor([20] * len(lengths)))[
                0
            ]
            np.testing.assert_array_equal(cpu.select(scores, cu, 20)[0], kept.numpy())


def test_opcheck():
    scores = torch.randn(10)
    cu, k = torch.tensor([0, 4, 10], dtype=torch.int32), torch.tensor([2, 3], dtype=torch.int32)
    for name, args in (
        ("topk_mask", (scores, cu, k)),
        ("topk_select", (scores, cu, k)),
    ):
        torch.library.opcheck(getattr(torch.ops.tsporec, name).default, args)


def test_mask_compiles_whole():
    scores = torch.randn(10)
    cu, k = torch.tensor([0, 4, 10], dtype=torch.int32), torch.tensor([2, 3], dtype=torch.int32)
    compiled = torch.compile(lambda s: topk_mask(s, cu, k), fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(scores), topk_mask(scores, cu, k))
    padded = torch.compile(lambda s: pad_kept(topk_mask(s, cu, k), cu, [s], 3), fullgraph=True, backend="aot_eager")
    found, expected = (pad_kept(topk_mask(scores, cu, k), cu, [scores], 3), padded(scores))
    assert torch.equal(found[0][0], expected[0][0])
    assert torch.equal(found[1], expected[1])


def test_select_and_gather_compile_whole_with_dynamic_shapes():
    scores = torch.randn(10)
    cu, k = torch.tensor([0, 4, 10], dtype=torch.int32), torch.tensor([2, 3], dtype=torch.int32)
    with torch._dynamo.config.patch(capture_dynamic_output_shape_ops=True):
        select = torch.compile(lambda s: topk_select(s, cu, k), fullgraph=True, backend="aot_eager")
        gather = torch.compile(lambda s: topk_gather(s, cu, k, [s]), fullgraph=True, backend="aot_eager")
        assert torch.equal(select(scores)[0], topk_select(scores, cu, k)[0])
        assert torch.equal(gather(scores)[0], topk_gather(scores, cu, k, [scores])[0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scores": np.zeros((2, 2), np.float32)}, "expected one axis"),
        ({"scores": np.zeros(4)}, "scores is float64"),
        ({"cu": np.int64([0, 4])}, "cu_seqlens is int64"),
        ({"cu": np.int32([0, 3])}, "runs from 0 to 3"),
        ({"cu": np.int32([0, 3, 2, 4]), "k": np.int32([1, 1, 1])}, "falls from 3 to 2 at segment 1"),
        ({"k": np.int32([1, 1])}, "k has shape"),
        ({"k": np.int64([1])}, "k is int64"),
        ({"k": -1}, "k is -1"),
        ({"k": 2.5}, "k is 2.5, expected a whole number"),
        ({"k": [1]}, r"k is \[1\], expected a whole number"),
        ({"protected": np.zeros(3, bool)}, "protected has shape"),
        ({"protected": np.zeros(4, np.int32)}, "protected is int32"),
    ],
)
def test_bad_input_is_named(change, message):
    given_ = {
        "scores": np.zeros(4, np.float32),
        "cu": np.int32([0, 4]),
        "k": np.int32([1]),
        "protected": None,
        **change,
    }
    with pytest.raises(ValueError, match=message):
        cpu.select(given_["scores"], given_["cu"], given_["k"], given_["protected"])


@pytest.mark.parametrize("count", [2.5, -1, 2**31, None, "2"])
def test_counts_must_be_whole_numbers_on_every_path(count):
    scores, cu = torch.randn(4), torch.tensor([0, 4], dtype=torch.int32)
    for operation in (topk_mask, topk_select, lambda *given: topk_gather(*given, [scores])):
        with pytest.raises(ValueError, match=r"k is .*, expected a whole number of tokens from 0"):
            operation(scores, cu, count)
    with pytest.raises(ValueError, match=r"width is .*, expected a whole number"):
        pad_kept(scores > 0, cu, [scores], count)
    assert topk_select(scores, cu, np.int64(2))[1].tolist() == [0, 2]


def test_more_tokens_than_int32_counts_are_refused():
    """Without the memory: one score seen 2**31 times."""
    scores = torch.zeros(1).expand(2**31)
    cu = torch.tensor([0, 2**31 - 1], dtype=torch.int32)
    k = torch.ones(1, dtype=torch.int32)
    for operation in (topk_mask, topk_select, lambda *given: topk_gather(*given, [])):
        with pytest.raises(ValueError, match="scores has 2147483648 tokens, more than int32 offsets can address"):
            operation(scores, cu, k)
    with pytest.raises(ValueError, match="select in several calls of whole segments"):
        cpu.select(np.broadcast_to(np.float32(0), 2**31), cu.numpy(), 1)
