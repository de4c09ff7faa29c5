"""Measure what a selection does to recommendations.

``task`` holds the texts and the users' rows, and fits a recommender to a selection. ``evaluator`` runs scorers at
budgets on it, and ``measures`` computes the figures. ``report`` draws tables, plots and highlighted texts, ``page`` and
``picture`` show texts as HTML and SVG, ``verdict`` says in a sentence what was found, and ``results_file`` writes
results files.
"""
