"""Generate a catalogue in which the truth is known: which words of a text carry what users like.

Every text is a shuffled row of two-word phrases. The second word of a phrase comes from a pool in which every taste has
a few words. The first word is a *cue* or a *decoy*. After a cue, the second word belongs to the item's taste: it is
*planted*. After a decoy, it is any word of the pool: a distractor. So planted words and distractors are the same words,
equally frequent, equally spread over the text and spelled alike. Only the word before shows whether a word carries
taste. A user mostly touches items of one taste. The seed decides everything.
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
    """Size and composition of a generated catalogue."""

    items: int = 600
    users: int = 900
    tastes: int = 30
    words_per_taste: int = 4  # all of them are planted in each item of the taste
    phrases: int = 24  # two-word phrases in a text
    sequence: int = 8  # items that a user touches; the last one is the test target
    loyalty: float = 0.9  # probability that a touched item has the user's taste
    seed: int = 0

    def __post_init__(self) -> None:
        pool = self.tastes * self.words_per_taste
        if not self.words_per_taste < self.phrases <= pool:
            raise ValueError(
                "expected words_per_taste < phrases <= tastes * words_per_taste, so that the words of a text differ; "
                f"found {self.words_per_taste}, {self.phrases} and {pool}. Give fewer phrases or more tastes."
            )


@dataclass(frozen=True, eq=False)
class PlantedCatalogue:
    """A generated catalogue, its users, its tokenizer, and its planted tokens."""

    items: list[Item]  # with one field, "description"
    train: list[Interactions]  # each user's sequence without its last item
    test: list[Interactions]  # the whole sequences
    planted: NDArray[np.bool_]  # [T], over the tokens of all items in order
    tokenizer: Any  # every word is a token


def generate(config: CatalogueConfig | None = None) -> PlantedCatalogue:
    """Generate the catalogue that ``config`` describes.

    >>> catalogue = generate(CatalogueConfig(items=20, users=10, tastes=8))
    >>> len(catalogue.items), len(catalogue.test), int(catalogue.planted.sum())
    (20, 10, 80)
    """
    config = config or CatalogueConfig()
    rng = np.random.default_rng(config.seed)
    pool = config.tastes * config.words_per_taste
    cues = round(pool * config.words_per_taste / config.phrases)
    words = _words(rng, 2 * pool)
    # All words are equally frequent: there are as many first words as second words, and the share of cues among them is
    # the share of planted phrases.
    second, first = np.array(words[:pool]), np.array(words[pool:])
    taste_words = second.reshape(config.tastes, config.words_per_taste)
    taste_of = rng.permutation(np.arange(config.items) % config.tastes)
    items, flags = [], []
    for number, taste in enumerate(taste_of):
        is_planted = rng.permutation(config.phrases) < config.words_per_taste
        seconds = rng.choice(second, size=config.phrases, replace=False)
        seconds[is_planted] = rng.permutation(taste_words[taste])
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
    """Make a tokenizer in which every word is a token, spelled as byte-level BPE spells it (``Ġword``).

    >>> word_tokenizer(["blue", "gel", "pen"])("gel pen")["input_ids"]
    [5, 6]
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    special = ["<pad>", "<s>", "</s>", "<unk>"]
    vocabulary = {token: i for i, token in enumerate([*special, *(f"Ġ{word}" for word in words)])}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True, use_regex=True)
    core.decoder = decoders.ByteLevel()
    names = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    # transformers 4 sets the option of the pre-tokenizer again.
    return PreTrainedTokenizerFast(tokenizer_object=core, add_prefix_space=True, **names)


def planted_recall(
    planted: NDArray[np.bool_], kept: NDArray[np.int64], segment: NDArray[np.int64], budget: int
) -> float:
    """Compute the share of planted tokens ``[T]`` at the ``kept`` positions, among those that fit the budget.

    ``segment [T]`` is the text of each token. At most ``budget`` of a text's planted tokens fit.

    >>> planted_recall(np.array([True, False, True]), kept=np.array([0]), segment=np.zeros(3, np.int64), budget=2)
    0.5
    """
    fit = np.minimum(np.bincount(segment[planted]), budget).sum()
    return float(planted[kept].sum() / max(int(fit), 1))
