"""Items and interactions: reading, cleaning, tokenising and splitting them.

A reader of ``readers/`` turns a file into ``Item`` and ``Interactions`` objects; ``cleaning`` and ``stored_lists`` make
plain text of raw fields. ``items`` tokenises the texts, and ``splits`` makes training, validation and test sets.
``synthetic`` generates a catalogue in which the informative words are known.
"""
