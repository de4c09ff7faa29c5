"""Learn which tokens to keep from preferences between token subsets of equal size.

``pipeline`` runs the three stages with the arguments of ``config``: ``warm_up`` fits recommenders, ``rounds`` learns
the selector, and the last adapts a recommender to it. A round samples ``candidates``, rates them with a reward of
``rewards/``, writes them as ``preferences``, makes ``batches`` of these and trains on them with ``trainer`` and a loss
of ``losses``. ``resume`` lets work that was cut off go on.
"""
