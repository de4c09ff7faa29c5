"""Proxy rewards: a number for a token subset, cheaper than a recommendation metric.

Each reward is one file: ``recommendation``, ``identity``, ``coconsumption`` and ``label``; ``weighted`` adds several. A
reward of your own is an object with ``fingerprint`` and ``__call__``; see ``base``.
"""
