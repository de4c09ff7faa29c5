"""Learn which tokens to keep from preferences between token subsets of equal size.

``pipeline`` runs the three stages in a row. A round samples ``candidates``, rates them by a reward of ``rewards/``,
writes preferences with ``dataset`` and trains on them with ``trainer``. ``steps`` makes every stage resumable.
"""
