"""Keep the tokens of an item's text that an LLM recommender recommends best with."""

__version__ = "0.1.0"
