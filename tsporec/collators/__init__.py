"""Data collators that shorten item texts before a recommender reads them.

``selector`` wraps any collator. ``spans`` finds the item texts in a feature, ``columns`` and ``packed_items`` cut the
per-token columns, and ``positions`` renumbers them. ``in_model`` selects inside a model, ``catalog`` makes batches from
item ids.
"""
