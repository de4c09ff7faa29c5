"""The learned scorer, :class:`tsporec.TokenSelector`: its weights, its files and its model card.

``vocabulary`` describes every vocabulary id by its spelling. ``text_rows`` adds the signals of a token in its text, and
``network`` turns both into scores; ``item_weights`` adds what was learned of known texts. ``files`` reads and writes
folders, ``card`` makes the model card, and ``hub`` finds and shares selectors by name; ``base/`` is the bundled one.
"""
