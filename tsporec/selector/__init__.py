"""The learned scorer, :class:`tsporec.TokenSelector`: its weights, its files and its model card.

``model`` holds it, with the settings of ``config``. ``vocabulary`` describes every vocabulary id by its spelling,
``text_rows`` adds the signals of a token in its text, and ``network`` turns both into scores. ``item_weights`` adds
the scores of known items, which ``item_index`` finds, and ``distinct_items`` makes their selections differ.
``compress_text`` shortens texts. ``files`` reads and writes folders, ``card`` makes the model card, ``hub`` finds and
shares selectors by name, and ``resolve`` finds the one that an argument names; ``base/`` is the bundled one.
"""
