"""The learned scorer: a small network that says which tokens of a text to keep."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeAlias, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tsporec._internal.digest import digest
from tsporec._internal.seeds import seeded
from tsporec.budget import Budget
from tsporec.scorers.base import Corpus, Scores, read_corpus
from tsporec.selection import Selection, select
from tsporec.selector import files, hub
from tsporec.selector.compress_text import TextLike, compress_ids, compress_text
from tsporec.selector.config import NETWORK, RULES, SavedSelector, SelectorConfig
from tsporec.selector.distinct_items import STRENGTH, make_distinct
from tsporec.selector.item_weights import ItemWeights
from tsporec.selector.network import SIGNALS, FrozenSelector, Scoring, ScoringNetwork, check_precision
from tsporec.selector.text_rows import lay_out
from tsporec.selector.vocabulary import Counted, Vocabulary, count_texts, inverse_frequencies, is_pair, read_vocabulary
from tsporec.tokens.ragged import RaggedTokens, check_ragged

Bools: TypeAlias = NDArray[np.bool_]
__all__ = ["SelectorConfig", "TokenSelector"]


class TokenSelector(nn.Module):
    """A scorer with learned weights that serves any tokenizer.

    Untrained it is the rule ``config.weighting``, once :meth:`fit` has counted words. A repeated term counts at its
    first place; repeats rank below all first places, the earlier first among equals.
    :class:`tsporec.PreferenceTrainer` trains it. ``vocabulary`` has the spelling of a tokenizer's ids, from
    :meth:`for_tokenizer`; ``item_weights`` those of known items, from :meth:`with_item_weights`. Else they are None.

    >>> from tsporec.data.synthetic import word_tokenizer
    >>> tokenizer = word_tokenizer("blue gel pen the a".split())
    >>> texts = ["the blue gel pen", "the blue pen", "a pen the pen"]
    >>> selector = TokenSelector().for_tokenizer(tokenizer).fit(texts)
    >>> selector.compress_text(texts, 2, tokenizer)  # the two rarest words of each text
    ['blue gel', 'the blue', 'a pen']
    """

    idf: Tensor
    fitted_texts: Tensor
    item_weights: ItemWeights | None
    name = "selector"

    @torch.inference_mode(mode=False)  # what is made in inference mode could neither be scored with nor trained
    def __init__(self, config: SelectorConfig | None = None) -> None:
        super().__init__()
        self.config = config or SelectorConfig()
        if not isinstance(self.config, SelectorConfig):
            raise TypeError(
                f"config must be a SelectorConfig, found {type(config).__name__}; a selector is loaded by its name or "
                "folder with TokenSelector.from_pretrained(name)."
            )
        self.vocabulary: Vocabulary | None = None
        self.tokenizer: Any = None  # reads the texts that `fit` is given; it is not pickled
        self.network = ScoringNetwork(self.config.dim, self.config.hidden, self.config.gram_buckets)
        self.register_module("item_weights", None)
        rule = RULES[self.config.weighting]
        self.blend = nn.Parameter(torch.tensor([rule.get(signal, 0.0) for signal in SIGNALS]))
        self.register_buffer("idf", torch.zeros(self.config.surface_buckets))
        self.register_buffer("fitted_texts", torch.tensor(0), persistent=False)  # it decides no score
        self._lookup: tuple[tuple[tuple[int, int], ...], Scoring] | None = None
        super().train(False)

    def train(self, mode: bool = True) -> TokenSelector:
        """Set the mode of this selector, not of its shared parts. In training mode :meth:`forward` has dropout."""
        self.training = mode
        return self

    def _sharing(self, **changes: Any) -> TokenSelector:
        """Make a copy with changed attributes that shares all weights; parts set on the copy are not set here."""
        other = copy.copy(self)
        other._modules, other._lookup, other.tokenizer = dict(self._modules), self._lookup, self.tokenizer
        for name, value in changes.items():
            setattr(other, name, value)
        return other

    # -- saving and sharing

    @classmethod
    @torch.inference_mode(mode=False)
    def from_pretrained(cls, name_or_path: str | Path = hub.DEFAULT, **options: Any) -> TokenSelector:
        """Load all that was trained, unbound, from a bundled selector, a folder or a Hub id.

        Options (``revision``, ``token`` ...): :func:`tsporec.selector.hub.load`.

        >>> TokenSelector.from_pretrained("tsporec/base").config.weighting
        'placed'
        """
        return cls.from_saved(*hub.load(name_or_path, **options))

    @classmethod
    @torch.inference_mode(mode=False)
    def from_saved(
        cls, saved: SavedSelector, weights: dict[str, Tensor], item_weights: ItemWeights | None = None
    ) -> TokenSelector:
        """Make a selector of what :func:`tsporec.selector.hub.load` returns. A rule's network is always the same."""
        with seeded(0):
            selector = cls(saved.config)
        selector.load_state_dict(weights, strict=False)  # they are checked
        selector.item_weights = item_weights
        selector.fitted_texts.fill_(saved.fitted_texts)
        return selector

    def save_pretrained(self, folder: str | Path, *, card: str | None = None) -> Path:
        """Write config, weights, item weights and a model card to ``folder``, which is made if needed; returns it.

        An older selector in it is replaced, or kept whole if the save fails. Default of ``card``: one is made from the
        config, unless the folder has a card that somebody has edited.
        """
        weights = {name: part for name, part in self.state_dict().items() if not name.startswith("item_weights.")}
        files.save(folder, self.config, weights, self.item_weights, card, int(self.fitted_texts))
        return Path(folder)

    def push_to_hub(self, repo_id: str, *, card: str | None = None, **options: Any) -> str:
        """Save and upload to the Hub; returns the address of the commit. Options: :func:`tsporec.selector.hub.push`."""
        with tempfile.TemporaryDirectory() as folder:
            return hub.push(self.save_pretrained(folder, card=card), repo_id, **options)

    # -- binding and fitting

    def for_tokenizer(self, tokenizer: Any) -> TokenSelector:
        """Bind to ``tokenizer``: a selector for its ids that shares the weights of this one."""
        return self._sharing(vocabulary=self._read(tokenizer), tokenizer=tokenizer, _lookup=None)

    @property
    def tokenizer_fingerprint(self) -> str | None:
        """The fingerprint of the tokenizer that this selector is bound to; None if it is unbound."""
        return None if self.vocabulary is None else self.vocabulary.fingerprint

    @property
    def special_token_ids(self) -> list[int] | None:
        """The ids of the special tokens that are always kept; None if this selector is unbound."""
        return None if self.vocabulary is None else np.flatnonzero(self.vocabulary.pieces.protected).tolist()

    def fit(self, corpus: Corpus | Sequence[tuple[Any, Corpus]], *, prior: float = 1.0) -> TokenSelector:
        """Set the inverse document frequencies from the texts of ``corpus``; returns this selector.

        ``corpus`` is a list of items or texts, or their token ids: :class:`RaggedTokens`, one text a segment.
        ``idf = log((prior + N) / (prior + df)) + 1``; with a prior of 1 this is scikit-learn's smoothed form. ``df`` is
        counted by spelling, so it serves every tokenizer. ``corpus`` may also be pairs (tokenizer, texts or ids); N
        then counts, for each spelling, the texts of the tokenizers that have it. A larger prior makes rare and unknown
        words count less: for texts of another kind than those that are scored.
        """
        if isinstance(corpus, list | tuple) and corpus and all(map(is_pair, corpus)):
            pairs: Any = corpus
            parts = [(self._read(tokenizer), read_corpus(texts, tokenizer)) for tokenizer, texts in pairs]
        else:
            parts = [(self._bound(), read_corpus(corpus, self.tokenizer))]
        buckets = self.config.surface_buckets
        return self.fit_counts(((one, count_texts(one, tokens, buckets), len(tokens)) for one, tokens in parts), prior)

    def fit_counts(self, counts: Iterable[Counted], prior: float = 1.0) -> TokenSelector:
        """Do as :meth:`fit`, given :func:`~tsporec.selector.vocabulary.count_texts` of the parts of a corpus."""
        idf, texts = inverse_frequencies(counts, self.config.surface_buckets, prior)
        self.idf.copy_(torch.from_numpy(idf))
        self.fitted_texts.fill_(texts)
        return self

    @property
    def frequencies(self) -> str:
        """Where the word frequencies are from, in words."""
        texts = int(self.fitted_texts)
        return f"counted from {texts:,} texts" if texts else "as shipped" if self.idf.any() else "none"

    def _read(self, tokenizer: Any) -> Vocabulary:
        return read_vocabulary(tokenizer, self.config.gram_buckets, self.config.surface_buckets)

    def _bound(self) -> Vocabulary:
        if self.vocabulary is None:
            raise ValueError(
                "this selector is not bound to a tokenizer, so ids mean nothing to it; "
                "call selector.for_tokenizer(tokenizer) first."
            )
        return self.vocabulary

    # -- item weights

    @torch.inference_mode(mode=False)
    def with_item_weights(self, corpus: RaggedTokens) -> TokenSelector:
        """Add weights, zero at first, for each word piece of each item: a copy that shares all other weights.

        Each segment of ``corpus`` is the text of an item; equal texts are one item. An item is found again by its id,
        if ``corpus`` has ids (:meth:`~tsporec.RaggedTokens.with_items`), else by the letters of its text: in quotes,
        behind a list number, cut at its end. While a selector has item weights only they learn, and the network has
        no dropout.

        >>> from tsporec.data.synthetic import word_tokenizer
        >>> text = RaggedTokens.from_lists([[4, 5]])
        >>> selector = TokenSelector().for_tokenizer(word_tokenizer(["gel", "pen"])).fit(text)
        >>> known = selector.with_item_weights(text).set_item_scores(text, np.float32([1, 2]))
        >>> known.score(text).tolist()
        [1.0, 2.0]
        """
        return self._sharing(item_weights=ItemWeights.zeros(corpus, self._bound().pieces))

    def without_item_weights(self) -> TokenSelector:
        """Leave the item weights out: a copy that shares all other weights."""
        return self._sharing(item_weights=None)

    def set_item_scores(self, tokens: RaggedTokens, scores: Scores) -> TokenSelector:
        """Set the item weights so that tokens of known texts get ``scores`` float32 ``[T]``; returns this selector."""
        if self.item_weights is None:
            raise ValueError("this selector has no item weights; call selector.with_item_weights(corpus) first.")
        if np.shape(scores) != (tokens.num_tokens,):
            raise ValueError(f"expected one score for each of {tokens.num_tokens} tokens; found {np.shape(scores)}.")
        differences = scores - self.without_item_weights().score(tokens)
        self.item_weights.set_differences(tokens, differences, self._bound().pieces)
        return self

    def make_distinct(
        self, corpus: RaggedTokens, budgets: Sequence[Budget | int], strength: float = STRENGTH, unchanged: int = 0
    ) -> TokenSelector:
        """Let the items of a catalogue keep tokens that tell them apart, as item weights; texts alone decide.

        See :func:`tsporec.selector.distinct_items.make_distinct` for the arguments, and for an example.
        """
        return cast(TokenSelector, make_distinct(self, corpus, budgets, strength, unchanged))

    # -- scoring

    def forward(self, ids: Tensor, cu_seqlens: Tensor) -> Tensor:
        """Compute logits float32 ``[T]`` of segments ``ids [T]``, ``cu_seqlens [N + 1]``; dropout in training mode.

        They are differentiable in all weights or, where there are some, in the item weights alone.
        """
        if cu_seqlens.shape[0] < 2:
            return self.blend.new_zeros(0)
        if self.item_weights is None:
            return self._logits(ids, cu_seqlens, self.config.dropout if self.training else 0.0)
        with torch.no_grad():
            found = self._logits(ids, cu_seqlens)
        tokens = RaggedTokens(ids.cpu().numpy(), cu_seqlens.cpu().numpy())
        known: Tensor = self.item_weights(found, tokens, self._bound().pieces)
        return known

    def _logits(self, ids: Tensor, cu_seqlens: Tensor, dropout: float = 0.0) -> Tensor:
        unique, inverse = torch.unique(ids, return_inverse=True)
        scoring = self._make_scoring(self.network, self.blend, unique.cpu().numpy())
        return scoring.logits(lay_out(inverse, scoring.terms[inverse], cu_seqlens, scoring.absent), dropout)

    @torch.inference_mode()
    def score(self, tokens: RaggedTokens) -> Scores:
        """Score every token: float32 ``[T]``, the logits of :meth:`forward` without dropout.

        Scores are computed in float64 and rounded. So a segment's scores have the same bits whatever else is in the
        batch, with any number of threads.
        """
        vocabulary = self._bound()
        check_ragged(tokens)
        vocabulary.check(tokens.ids)
        scores = self._scoring().score(tokens)
        if self.item_weights is not None:
            self.item_weights.add_to(scores, tokens, vocabulary.pieces)
        return scores

    def select(
        self, tokens: RaggedTokens, budget: Budget | int, *, granularity: str = "token", protected: Bools | None = None
    ) -> Selection:
        """Keep the best tokens, or whole words, of each segment; see :func:`tsporec.select`."""
        return select(self, tokens, budget, granularity=granularity, protected=protected)

    def compress_text(self, text: TextLike, budget: Budget | int, tokenizer: Any, granularity: str = "word") -> Any:
        """Shorten a text or an item, or each of a list; see :func:`tsporec.selector.compress_text.compress_text`."""
        return compress_text(self, tokenizer, text, budget, granularity)

    def compress_ids(self, text: TextLike, budget: Budget | int, tokenizer: Any, granularity: str = "word") -> Any:
        """Shorten texts or items to token ids: for engines that take them, such as vLLM."""
        return compress_ids(self, tokenizer, text, budget, granularity)

    def _make_scoring(self, network: ScoringNetwork, blend: Tensor, ids: NDArray[np.int64]) -> Scoring:
        """Make the scoring of vocabulary ids ``[M]``, in the dtype of ``blend``."""
        check_precision(self.blend)
        return network.scoring(blend, self.idf, self.config.weighting, self._bound(), ids)

    @torch.no_grad()
    def _scoring(self) -> Scoring:
        """Return the scoring of the whole vocabulary in float64; made again when the weights change."""
        made_of = (*self.network.parameters(), self.blend, self.idf)
        state = tuple((weight._version, weight.data_ptr()) for weight in made_of)
        if self._lookup is None or self._lookup[0] != state:
            network, blend = copy.deepcopy(self.network).double(), self.blend.double()
            self._lookup = state, self._make_scoring(network, blend, np.arange(len(self._bound())))
        return self._lookup[1]

    @torch.inference_mode(mode=False)
    @torch.no_grad()
    def frozen(self) -> FrozenSelector:
        """Copy the scoring into a module of tensors alone, ``forward(ids, cu_seqlens) -> logits``.

        With torch 2.13 and newer it compiles with ``fullgraph=True`` and exports with dynamic lengths; an older one is
        refused. Ids are not checked. Item weights are refused: a compiled graph cannot look up texts.
        """
        if self.item_weights is not None:
            raise ValueError("a frozen selector cannot look up item weights: selector.without_item_weights().frozen().")
        return FrozenSelector(self._make_scoring(self.network, self.blend, np.arange(len(self._bound()))))

    @property
    def fingerprint(self) -> str:
        """Digest of all that decides the scores: shape, weights and, where bound, the tokenizer."""
        check_precision(self.blend)
        rule = not self.network.out.weight.any()  # its network gives 0, whatever the other weights are
        weights = {k: v.cpu() for k, v in self.state_dict().items() if not (rule and k.startswith(NETWORK))}
        shape = {key: value for key, value in vars(self.config).items() if key != "training"}
        parts = [part for key, value in sorted(weights.items()) for part in (key, value.numpy())]
        return digest(self.name, shape, self.tokenizer_fingerprint or "", *parts)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_lookup": None, "tokenizer": None}  # workers make the table again, and fit nothing
