"""Learn which tokens to keep from preferences between token subsets of equal size.

``pipeline`` runs the three stages: ``warm_up`` fits recommenders, ``rounds`` learns the selector, and the last adapts a
recommender to it. A round samples ``candidates``, rates them with a reward of ``rewards/``, writes a preference
``preferences`` and trains on it with ``trainer``. ``resume`` makes each of them resumable.
"""
