"""Items and interactions: reading, cleaning, tokenising and splitting them.

A reader of ``readers/`` turns a file into ``Item`` and ``Interactions`` objects. ``cleaning`` makes plain text of raw
fields, ``splits`` says what to train on and what to report on, and ``synthetic`` generates a catalogue.
"""
