"""The learned scorer, :class:`TokenSelector`: its weights, its files and its model card.

``vocabulary`` describes every vocabulary id by its spelling. ``layout`` adds the signals of a token in its text, and
``network`` turns both into scores. ``hub`` saves, loads and shares the weights; ``base/`` holds the bundled selector.
"""
