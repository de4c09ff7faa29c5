"""Recommenders that rewards and evaluations run on; a user's own recommender can take their place.

``encoder`` turns item texts into vectors. ``embedding`` ranks items by their vectors, as HLLM does, and ``training``
fits it; ``ridge`` is fitted in closed form. ``generative`` ranks items by the likelihood of their titles after a
prompt.
"""
