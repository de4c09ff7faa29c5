"""Random features for the tests of collators."""

from __future__ import annotations

import numpy as np


def make_features(rng, count, vocab=390, as_type=list):
    """Features with spans, labels (some of them in spans), positions, a scalar and a string."""
    features = []
    for _ in range(count):
        length = int(rng.integers(1, 30))
        bounds = np.sort(rng.choice(length + 1, size=2 * int(rng.integers(0, 3)), replace=True)).reshape(-1, 2)
        ids = rng.integers(0, vocab, size=length)
        labels = np.where(rng.random(length) < 0.2, ids, -100)
        as_is = {
            "input_ids": ids,
            "attention_mask": np.ones(length, dtype=np.int64),
            "labels": labels,
            "position_ids": np.arange(length) + 3,
        }
        feature = {name: value.tolist() if as_type is list else as_type(value) for name, value in as_is.items()}
        features.append({**feature, "user": 7, "item_spans": [tuple(map(int, b)) for b in bounds]})
    return features
