"""Data collators that shorten item texts before a recommender reads them.

``selector`` wraps any collator, and ``mixed`` chooses a collator for each feature. ``spans`` finds the item texts in a
feature, ``columns`` and ``packed_items`` cut the per-token columns, and ``positions`` renumbers them. ``in_model``
selects between the batch and the model, and ``catalog`` makes batches from item ids.
"""
