"""Measure what a selection does to recommendations.

``task`` holds the texts and the users' rows, and fits a recommender to a selection. ``evaluator`` runs scorers at
budgets on it, ``report`` draws tables, plots and highlighted texts, and ``results_file`` writes results files.
"""
