"""Proxy rewards: a number for a token subset, from a frozen recommender. One file each; yours is one more."""
