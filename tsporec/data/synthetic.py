"""Generate a catalogue in which the truth is known: which words of a text carry what users like.

Every text reads like a product page. It opens with brand, kind, number and size, which say nothing about taste. Deeper
in the text stand sentences that mention words of some tastes. "Made for tents and trails." holds *planted* words: they
belong to the item's taste. "Not meant for ovens or icing." holds words of any other taste. Both lists take the same
words equally often, so counts cannot tell them apart; the words around them can. A user mostly touches items of one
taste. The seed decides everything.

>>> import textwrap
>>> made = generate(CatalogueConfig(items=2, users=1, tastes=3, sequence=2))
>>> print(textwrap.fill(made.items[0].fields["description"], 112))
Ridgeton ceramic stand in amber, model 1081. Measures 16 by 11 cm, weighs 25 g. Checked and packed by hand.
Brand new in the original box. Never used near sketches, portraits or pastries. Free returns within thirty days.
Not meant for icing, muffins or sourdough. Never used near cupcakes, canvases or easels. Never used near
watercolours, pigments or ovens. Made for trails, lanterns and rucksacks. Made for tents, bivouacs and
campfires.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tsporec.data.items import Interactions, Item

_TASTES = [
    row.split()
    for row in """
campfires tents trails lanterns rucksacks bivouacs
pastries muffins sourdough ovens icing cupcakes
watercolours easels pigments sketches canvases portraits
saddles pedals commutes velodromes handlebars spokes
trout rivers lures anglers reels tackle
seedlings allotments compost orchards hedges pruning
yarn crochet looms cardigans needles quilts
telescopes planets comets eclipses galaxies stargazing
pawns openings gambits endgames checkmates tournaments
violins orchestras sonatas rehearsals cellos quartets
espresso baristas grinders lattes roasters cappuccino
puppies kennels leashes terriers spaniels beagles
kittens scratching litter whiskers catnip tabbies
classrooms teachers homework lessons pupils blackboards
nurses wards clinics stethoscopes bandages hospitals
yoga meditation stretches pilates breathing mantras
sailing harbours regattas keels anchors yachts
skiing slopes chairlifts blizzards chalets snowboards
weddings bouquets bridesmaids confetti vows banquets
toddlers nurseries prams lullabies bibs cradles
carpentry chisels dovetails lathes sawdust workbenches
sushi noodles wasabi chopsticks dumplings ramen
beehives honey pollen apiaries meadows nectar
robots circuits solder sensors firmware drones
surfing waves wetsuits lagoons tides longboards
stamps coins auctions antiques albums collectors
marathons sprints treadmills joggers hurdles relays
dinosaurs fossils museums excavations quarries skeletons
vineyards corks merlot decanters vintages sommeliers
calligraphy inkwells nibs parchment alphabets penmanship
""".strip().splitlines()
]
_BRANDS, _MATERIALS, _KINDS, _COLOURS = (
    row.split()
    for row in """
Norvik Haldor Brightwell Oakmere Tessaly Corvane Lindvast Marlune Penhusk Ridgeton Solvane Tarnby Umbrel Veldane Wexcomb
oak steel linen bamboo cotton ceramic walnut leather glass wool
bag mug lamp tray box stand basket cushion blanket poster notebook bottle towel clock shelf apron stool mat pouch rack
slate ivory teal amber crimson charcoal olive navy coral sand plum mint
""".strip().splitlines()
)
_BOILERPLATE = (
    "Brand new in the original box .",
    "Free returns within thirty days .",
    "Ships within two working days .",
    "Wipe clean with a damp cloth .",
    "Contact us with any questions .",
    "Rated five stars by our customers .",
    "Two year warranty on every order .",
    "Makes a lovely gift .",
    "Checked and packed by hand .",
    "Thank you for supporting our shop .",
)
_LIKED = ("Made for", "Perfect for", "A favourite for", "Designed around")  # then "a, b and c"
_OTHER = ("Not meant for", "Sold without", "Never used near", "Unlike our range for")  # then "a, b or c"
_LIST = 3  # words that a sentence lists


@dataclass(frozen=True)
class CatalogueConfig:
    """Size and composition of a generated catalogue."""

    items: int = 600
    users: int = 900
    tastes: int = 30
    words_per_taste: int = 6  # all of them are planted in each item of the taste
    mentions: int = 18  # words of some taste that a text mentions, the planted ones among them
    sequence: int = 8  # items that a user touches; the last one is the test target
    loyalty: float = 0.9  # probability that a touched item has the user's taste
    seed: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.tastes <= len(_TASTES) or not 1 <= self.words_per_taste <= len(_TASTES[0]):
            raise ValueError(
                f"there are {len(_TASTES)} tastes of {len(_TASTES[0])} words; found tastes={self.tastes} and "
                f"words_per_taste={self.words_per_taste}. Give fewer."
            )
        pool = self.tastes * self.words_per_taste
        if not self.words_per_taste < self.mentions <= pool:
            raise ValueError(
                "expected words_per_taste < mentions <= tastes * words_per_taste, so that the words mentioned differ; "
                f"found {self.words_per_taste}, {self.mentions} and {pool}. Give fewer mentions or more tastes."
            )


@dataclass(frozen=True, eq=False)
class PlantedCatalogue:
    """A generated catalogue, its users, its tokenizer, and its planted tokens."""

    items: list[Item]  # with one field, "description"
    train: list[Interactions]  # each user's sequence without its last item
    test: list[Interactions]  # the whole sequences
    planted: NDArray[np.bool_]  # [T], over the tokens of all items in order
    tokenizer: Any  # every word is a token, and so is every punctuation mark


def generate(config: CatalogueConfig | None = None) -> PlantedCatalogue:
    """Generate the catalogue that ``config`` describes.

    >>> catalogue = generate(CatalogueConfig(items=20, users=10, tastes=8))
    >>> len(catalogue.items), len(catalogue.test), int(catalogue.planted.sum())
    (20, 10, 120)
    """
    config = config or CatalogueConfig()
    rng = np.random.default_rng(config.seed)
    tastes = np.array(_TASTES)[: config.tastes, : config.words_per_taste]
    taste_of = rng.permutation(np.arange(config.items) % config.tastes)
    texts = [_text(rng, tastes, taste, config.mentions) for taste in taste_of]
    items = [
        Item(str(number), {"description": " ".join(words).replace(" ,", ",").replace(" .", ".")})
        for number, words in enumerate(texts)
    ]
    planted = [np.isin(words, tastes[taste]) for words, taste in zip(texts, taste_of, strict=True)]
    sequences = [_user(rng, user, taste_of, config) for user in range(config.users)]
    train = [Interactions(s.user_id, s.item_ids[:-1]) for s in sequences]
    vocabulary = list(dict.fromkeys(word for words in texts for word in words))
    return PlantedCatalogue(items, train, sequences, np.concatenate(planted), word_tokenizer(vocabulary))


def _text(rng: np.random.Generator, tastes: NDArray[np.str_], taste: int, mentions: int) -> list[str]:
    """Write a text as words and punctuation marks: those of a page's start in order, then sentences in any order."""
    brand, material, kind, colour = (rng.choice(part) for part in (_BRANDS, _MATERIALS, _KINDS, _COLOURS))
    number, (width, height, weight) = rng.integers(1000, 3000), rng.integers(10, 100, size=3)
    others = rng.choice(np.delete(tastes, taste, axis=0).ravel(), mentions - tastes.shape[1], replace=False)
    first, *more = rng.choice(_BOILERPLATE, 3, replace=False)
    deep = [*_sentences(rng, _LIKED, rng.permutation(tastes[taste]), "and"), *_sentences(rng, _OTHER, others, "or")]
    deep = [str(sentence) for sentence in rng.permutation([*deep, *more])]
    return " ".join(
        [
            f"{brand} {material} {kind} in {colour} , model {number} .",
            f"Measures {width} by {height} cm , weighs {weight} g .",
            first,
            *deep,
        ]
    ).split()


def _sentences(rng: np.random.Generator, starts: Sequence[str], words: NDArray[np.str_], joint: str) -> list[str]:
    """Make sentences that list words: "Made for", ["a", "b", "c"], "and" -> ["Made for a , b and c ."]."""
    found = []
    for begin in range(0, len(words), _LIST):
        *before, last = words[begin : begin + _LIST]
        listed = f"{' , '.join(before)} {joint} {last}" if before else last
        found.append(f"{rng.choice(starts)} {listed} .")
    return found


def _user(rng: np.random.Generator, user: int, taste_of: NDArray[np.int64], config: CatalogueConfig) -> Interactions:
    taste = rng.integers(config.tastes)
    chance = np.where(taste_of == taste, config.loyalty / max((taste_of == taste).sum(), 1), 0.0)
    chance += (1 - config.loyalty) / config.items
    touched = rng.choice(config.items, size=config.sequence, replace=False, p=chance / chance.sum())
    return Interactions(str(user), tuple(map(str, touched)))


def word_tokenizer(words: list[str]) -> Any:
    """Make a tokenizer in which every word is a token, spelled as byte-level BPE spells it (``Ġword``).

    The marks "," and "." are tokens without a space.

    >>> word_tokenizer(["blue", "gel", "pen"])("gel pen")["input_ids"]
    [5, 6]
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    special = ["<pad>", "<s>", "</s>", "<unk>"]
    vocabulary = {
        token: i for i, token in enumerate([*special, *(word if word in ",." else f"Ġ{word}" for word in words)])
    }
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
