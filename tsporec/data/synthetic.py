"""A generated catalogue in which the truth is known: which words of a text carry what users like.

Every text is a shuffled row of two-word phrases. The second word of a phrase comes from a pool in which every taste has
a few words; the first is a *cue* or a *decoy*. After a cue, the word is of the item's own taste: it is
*planted*. After a decoy, it is any word of the pool, a distractor. So planted words and distractors are the
same words, equally frequent, equally spread over the text, and spelled alike; the same word carries taste in one
phrase and none in another, and only the word before it tells. A user has a taste or two and mostly touches items of it.

Everything follows from the seed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tsporec.data.items import Interactions, Item

_ONSETS, _VOWELS = ["b", "d", "f", "g", "k", "l", "m", "n", "p", "r", "s", "t", "v", "z"], ["a", "e", "i", "o", "u"]


@dataclass(frozen=True)
class CatalogueConfig:
    """Size and make-up of a generated catalogue.

    Parameters
    ----------
    items, users, tastes : int
    words_per_taste : int
        All of them are planted in each item of the taste.
    phrases : int
        Two-word phrases a text.
    sequence : int
        Items a user touches, the last of them the test target.
    loyalty : float
        Chance that a touched item is of the user's taste.
    seed : int
    """

    items: int = 600
    users: int = 900
    tastes: int = 30
    words_per_taste: int = 4
    phrases: int = 24
    sequence: int = 8
    loyalty: float = 0.9
    seed: int = 0

    def __post_init__(self) -> None:
        pool = self.tastes * self.words_per_taste
        if not self.words_per_taste < self.phrases <= pool:
            raise ValueError(
                "expected words_per_taste < phrases <= tastes * words_per_taste, for the words of a text differ; found "
                f"{self.words_per_taste}, {self.phrases} and {pool}. Give fewer phrases or more tastes."
            )


@dataclass(frozen=True, eq=False)
class PlantedCatalogue:
    """A generated catalogue, its users, its tokenizer, and which tokens are planted.

    Parameters
    ----------
    items : list of Item
        With one field, ``description``.
    train, test : list of Interactions
        Each user's sequence without its last item; the whole sequence, the last item being the target.
    planted : bool ``[T]``
        Over the tokens of all items in order (a word is a token).
    tokenizer : a Hugging Face tokenizer
        One token a word.
    """

    items: list[Item]
    train: list[Interactions]
    test: list[Interactions]
    planted: NDArray[np.bool_]
    tokenizer: Any


def generate(config: CatalogueConfig | None = None) -> PlantedCatalogue:
    """The catalogue that ``config`` describes."""
    config = config or CatalogueConfig()
    rng = np.random.default_rng(config.seed)
    pool = config.tastes * config.words_per_taste
    cues = round(pool * config.words_per_taste / config.phrases)
    words = _words(rng, 2 * pool)
    # As many first words as second words, and as many cues among them as planted words among phrases: all words
    # are then equally frequent.
    second, first = np.array(words[:pool]), np.array(words[pool:])
    own = second.reshape(config.tastes, config.words_per_taste)
    taste_of = rng.permutation(np.arange(config.items) % config.tastes)
    items, flags = [], []
    for number, taste in enumerate(taste_of):
        is_planted = rng.permutation(config.phrases) < config.words_per_taste
        seconds = rng.choice(second, size=config.phrases, replace=False)
        seconds[is_planted] = rng.permutation(own[taste])
        firsts = np.where(
            is_planted, rng.choice(first[:cues], size=config.phrases), rng.choice(first[cues:], size=config.phrases)
        )
        text = " ".join(f"{a} {b}" for a, b in zip(firsts, seconds, strict=True))
        items.append(Item(str(number), {"description": text}))
        flags.append(np.stack([np.zeros_like(is_planted), is_planted], axis=1).reshape(-1))
    sequences = [_user(rng, user, taste_of, config) for user in range(config.users)]
    train = [Interactions(s.user_id, s.item_ids[:-1]) for s in sequences]
    return PlantedCatalogue(items, train, sequences, np.concatenate(flags), word_tokenizer(words))


def _user(rng: np.random.Generator, user: int, taste_of: NDArray[np.int64], config: CatalogueConfig) -> Interactions:
    taste = rng.integers(config.tastes)
    chance = np.where(taste_of == taste, config.loyalty / (taste_of == taste).sum(), 0.0)
    chance += (1 - config.loyalty) / config.items
    touched = rng.choice(config.items, size=config.sequence, replace=False, p=chance / chance.sum())
    return Interactions(str(user), tuple(map(str, touched)))


def _words(rng: np.random.Generator, count: int) -> list[str]:
    words: dict[str, None] = {}
    while len(words) < count:
        words["".join(rng.choice(_ONSETS) + rng.choice(_VOWELS) for _ in range(rng.integers(2, 4)))] = None
    return list(words)


def word_tokenizer(words: list[str]) -> Any:
    """A tokenizer with one token a word, spelled as byte-level BPE spells them (``Ġword``)."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    special = ["<pad>", "<s>", "</s>", "<unk>"]
    vocabulary = {entry: i for i, entry in enumerate([*special, *(f"Ġ{word}" for word in words)])}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True, use_regex=True)
    core.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="<pad>", bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )


def planted_recall(
    planted: NDArray[np.bool_], kept: NDArray[np.int64], segment: NDArray[np.int64], budget: int
) -> float:
    """Share of the planted tokens that fit the budget which are among the ``kept`` positions.

    Parameters
    ----------
    planted : bool ``[T]``
    kept : int64 ``[K]``
    segment : int64 ``[T]``
        Each token's text.
    budget : int
        Of each text: at most so many of its planted tokens fit.
    """
    fit = np.minimum(np.bincount(segment[planted]), budget).sum()
    return float(planted[kept].sum() / max(int(fit), 1))
