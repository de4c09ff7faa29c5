"""Measure what a selection does to recommendations.

``task`` holds the texts and the rows, ``evaluator`` runs scorers at budgets, ``report`` prints tables and plots, and
``results`` writes results files.
"""
