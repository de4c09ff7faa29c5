"""The learned scorer: a small network that says which tokens of a text to keep."""

from __future__ import annotations

import copy
import math
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - as the torch documentation writes it

from tsporec._internal.digest import digest
from tsporec.budget import Budget
from tsporec.scorers.base import Scores
from tsporec.selection import Selection, select
from tsporec.selector import files, hub
from tsporec.selector.compress_text import compress_ids, compress_text
from tsporec.selector.config import RULE_WEIGHTS, RULES, SPREAD, SelectorConfig
from tsporec.selector.item_weights import ItemWeights
from tsporec.selector.layout import Texts, groups, lay_out, lay_out_numpy
from tsporec.selector.network import SIGNALS, FrozenSelector, ScoringNetwork, Table, logits, make_table
from tsporec.selector.vocabulary import CLASSES, Vocabulary, read_vocabulary
from tsporec.tokens.ragged import RaggedTokens, ranges

__all__ = ["SelectorConfig", "TokenSelector"]

_ITEM_WEIGHTS = "item_weights."  # the prefix of their tensors in a state dict


class TokenSelector(nn.Module):
    """A scorer with learned weights that serves any tokenizer.

    Untrained it is the rule ``config.weighting``, once :meth:`fit` has counted words. A repeated token counts at its
    first place; repeats rank below all first places, the earlier first among equals.
    :class:`tsporec.PreferenceTrainer` trains it.

    Parameters
    ----------
    config : SelectorConfig, optional
        Default: ``SelectorConfig()``.

    Attributes
    ----------
    config : SelectorConfig
    vocabulary : Vocabulary or None
        What the tokenizer's ids spell; None until :meth:`for_tokenizer`.
    item_weights : ItemWeights or None
        Learned weights for the tokens of known texts; None without :meth:`with_item_weights`.

    Examples
    --------
    >>> from tsporec import RaggedTokens, TokenSelector
    >>> from tsporec.data.synthetic import word_tokenizer
    >>> tokenizer = word_tokenizer("blue gel pen the a".split())
    >>> texts = ["the blue gel pen", "the blue pen", "a pen the pen"]
    >>> tokens = RaggedTokens.from_lists(tokenizer(texts, add_special_tokens=False)["input_ids"])
    >>> selector = TokenSelector().for_tokenizer(tokenizer).fit(tokens)
    >>> kept = selector.select(tokens, 2).apply(tokens)  # the two rarest words of each text
    >>> [tokenizer.decode(text).strip() for text in kept]
    ['blue gel', 'the blue', 'a pen']
    """

    idf: Tensor
    item_weights: ItemWeights | None
    name = "selector"

    @torch.inference_mode(mode=False)  # what is made in inference mode could neither be scored with nor trained
    def __init__(self, config: SelectorConfig | None = None) -> None:
        super().__init__()
        self.config = config or SelectorConfig()
        self.vocabulary: Vocabulary | None = None
        self.grams = nn.Embedding(self.config.gram_buckets, self.config.dim)
        nn.init.normal_(self.grams.weight, std=0.5)
        self.classes = nn.Linear(len(CLASSES), self.config.dim, bias=False)
        self.network = ScoringNetwork(self.config.dim, self.config.hidden)
        self.register_module("item_weights", None)
        self.blend = nn.Parameter(torch.zeros(len(SIGNALS)))
        self.register_buffer("idf", torch.zeros(self.config.surface_buckets))
        with torch.no_grad():
            for signal, weight in RULES[self.config.weighting].items():
                self.blend[SIGNALS.index(signal)] = weight
        self._lookup: tuple[tuple[tuple[int, int], ...], tuple[Table, ScoringNetwork, Tensor]] | None = None
        super().train(False)

    def train(self, mode: bool = True) -> TokenSelector:
        """Set the mode of this selector alone: in training mode :meth:`forward` has dropout.

        Selectors that :meth:`for_tokenizer` makes share their parts, so the parts have no mode.
        """
        self.training = mode
        return self

    def _sharing(self) -> TokenSelector:
        """A copy that shares all weights; a part added to it is not added to this one."""
        other = copy.copy(self)
        other._modules, other._lookup = dict(self._modules), self._lookup
        return other

    # -- binding and fitting

    def for_tokenizer(self, tokenizer: Any) -> TokenSelector:
        """Bind to ``tokenizer``: a selector for its ids that shares the weights of this one.

        Raises
        ------
        ValueError
            If this selector has item weights that were learned with another tokenizer.
        """
        vocabulary = self._read(tokenizer)
        known = self.item_weights
        if known is not None and known.tokenizer_fingerprint != vocabulary.fingerprint:
            raise ValueError(
                f"this selector has item weights for ids of another tokenizer ({known.tokenizer_fingerprint}) than the "
                f"one given ({vocabulary.fingerprint}); give that one, or score without them: "
                "selector.without_item_weights().for_tokenizer(tokenizer)."
            )
        bound = self._sharing()
        bound.vocabulary, bound._lookup = vocabulary, None
        return bound

    @property
    def tokenizer_fingerprint(self) -> str | None:
        """The fingerprint of the tokenizer that this selector is bound to; None if it is unbound."""
        return None if self.vocabulary is None else self.vocabulary.fingerprint

    @property
    def special_token_ids(self) -> list[int] | None:
        """The ids of the tokenizer's special tokens; None if this selector is unbound."""
        if self.vocabulary is None:
            return None
        special: list[int] = np.flatnonzero(self.vocabulary.classes[:, CLASSES.index("special")]).tolist()
        return special

    def fit(self, corpus: RaggedTokens | Sequence[tuple[Any, RaggedTokens]], *, prior: float = 1.0) -> TokenSelector:
        """Set the inverse document frequencies from the texts of ``corpus``; returns this selector.

        ``idf = log((prior + N) / (prior + df)) + 1``; with a prior of 1 this is scikit-learn's smoothed form. ``df`` is
        counted by spelling, so it serves every tokenizer.

        Parameters
        ----------
        corpus : RaggedTokens, or pairs (tokenizer, RaggedTokens)
            The texts, one a segment, in ids of the tokenizer this is bound to. Or the texts in ids of several
            tokenizers; N then counts, for each spelling, the texts of the tokenizers that have it.
        prior : float
            Texts that every spelling is assumed to be in beforehand, above 0. Default: 1. A larger prior makes rare
            and unknown words count less: for texts of another kind than those that are scored.

        Raises
        ------
        ValueError
            If the prior is not above 0, or an id is outside the vocabulary.
        """
        if not 0 < prior < math.inf:
            raise ValueError(f"prior is a number of texts above 0; found {prior}.")
        parts = [(self._bound(), corpus)] if isinstance(corpus, RaggedTokens) else [
            (self._read(tokenizer), tokens) for tokenizer, tokens in corpus
        ]  # fmt: skip
        buckets = self.config.surface_buckets
        texts, df = np.zeros((2, buckets), dtype=np.int64)
        for vocabulary, tokens in parts:
            vocabulary.check(tokens.ids)
            # (segment, bucket) of each token, each pair once -> texts of each bucket.
            pairs = tokens.segment_ids() * buckets + vocabulary.surface[tokens.ids]
            df += np.bincount(np.unique(pairs) % buckets, minlength=buckets)
            texts[np.unique(vocabulary.surface)] += len(tokens)
        texts[texts == 0] = sum(len(tokens) for _, tokens in parts)
        idf = np.log((prior + texts) / (prior + df)) + 1
        with torch.no_grad():
            self.idf.copy_(torch.from_numpy(idf))
        return self

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
    def with_item_weights(self, corpus: RaggedTokens, max_tokens: int | None = None) -> TokenSelector:
        """Add weights, zero at first, for each token of the texts of ``corpus``.

        While a selector has item weights only they learn, and the network has no dropout.

        Parameters
        ----------
        corpus : RaggedTokens
            The texts to know, one a segment. Equal texts share their weights.
        max_tokens : int, optional
            The texts were cut to this many tokens; longer texts are found by them. Default: texts are found whole.

        Returns
        -------
        TokenSelector
            Shares all other weights with this one, which must be bound.

        Examples
        --------
        >>> from tsporec.data.synthetic import word_tokenizer
        >>> text = RaggedTokens.from_lists([[4, 5]])
        >>> selector = TokenSelector().for_tokenizer(word_tokenizer(["gel", "pen"])).fit(text)
        >>> known = selector.with_item_weights(text).set_item_scores(text, np.float32([1, 2]))
        >>> known.score(text).tolist(), bool(selector.score(text)[0] == known.score(text)[0])
        ([1.0, 2.0], False)
        """
        other = self._sharing()
        other.item_weights = ItemWeights.zeros(corpus, self._bound().fingerprint, max_tokens)
        return other

    def without_item_weights(self) -> TokenSelector:
        """Leave the item weights out: a copy that shares all other weights."""
        other = self._sharing()
        other.item_weights = None
        return other

    def set_item_scores(self, tokens: RaggedTokens, scores: Scores) -> TokenSelector:
        """Set the item weights so that the tokens of known texts get ``scores`` float32 ``[T]``; returns this selector.

        Other texts keep their scores.

        Raises
        ------
        ValueError
            If this selector has no item weights, or there is not one score a token.
        """
        if self.item_weights is None:
            raise ValueError("this selector has no item weights; call selector.with_item_weights(corpus) first.")
        if np.shape(scores) != (tokens.num_tokens,):
            raise ValueError(f"expected one score for each of {tokens.num_tokens} tokens; found {np.shape(scores)}.")
        self.item_weights.set_differences(tokens, scores - self._network_scores(tokens))
        return self

    # -- scoring

    def forward(self, ids: Tensor, cu_seqlens: Tensor) -> Tensor:
        """Compute differentiable logits; in training mode with dropout.

        Parameters
        ----------
        ids : int ``[T]``
        cu_seqlens : int ``[N + 1]``

        Returns
        -------
        Tensor
            float32 ``[T]``. With item weights it is differentiable in these alone.
        """
        if cu_seqlens.shape[0] < 2:
            return self.blend.new_zeros(0)
        if self.item_weights is None:
            return self._logits(ids, cu_seqlens, self.config.dropout if self.training else 0.0)
        with torch.no_grad():
            found = self._logits(ids, cu_seqlens)
        known: Tensor = self.item_weights(found, RaggedTokens(ids.cpu().numpy(), cu_seqlens.cpu().numpy()))
        return known

    def _logits(self, ids: Tensor, cu_seqlens: Tensor, dropout: float = 0.0) -> Tensor:
        unique, inverse = torch.unique(ids, return_inverse=True)
        table = self._make_table(unique)
        return logits(self.network, self.blend, table, lay_out(inverse, cu_seqlens, table.absent), dropout)

    @torch.inference_mode()
    def score(self, tokens: RaggedTokens) -> Scores:
        """Score every token: float32 ``[T]``, the logits of :meth:`forward` without dropout.

        Scores are computed in float64 and rounded. So a segment's scores have the same bits whatever else is in the
        batch, with any number of threads.
        """
        scores = self._network_scores(tokens)
        if self.item_weights is not None:
            self.item_weights.add_to(scores, tokens)
        return scores

    @torch.inference_mode()
    def _network_scores(self, tokens: RaggedTokens) -> Scores:
        self._bound().check(tokens.ids)
        scores = np.empty(tokens.num_tokens, dtype=np.float32)
        (table, network, blend), device = self._table(), self.blend.device
        for first, last in groups(tokens.cu_seqlens):
            start, end = tokens.cu_seqlens[first], tokens.cu_seqlens[last]
            texts = lay_out_numpy(tokens.ids[start:end], tokens.cu_seqlens[first : last + 1] - start, table.absent)
            if device.type != "cpu":
                texts = Texts(*(part.to(device) for part in texts))
            scores[start:end] = logits(network, blend, table, texts).cpu().numpy()
        return scores

    def select(self, tokens: RaggedTokens, budget: Budget, *, protected: NDArray[np.bool_] | None = None) -> Selection:
        """Keep the best tokens of each segment; see :func:`tsporec.select`."""
        return select(self, tokens, budget, protected=protected)

    def compress_text(
        self, text: str | Sequence[str], budget: Budget | int, tokenizer: Any, granularity: str = "word"
    ) -> Any:
        """Keep the best of ``text``, in order: for models behind an API.

        Parameters
        ----------
        text : str or list of str
            One text, or several; a list gives a list.
        budget : Budget or int
            In tokens of ``tokenizer``.
        tokenizer : the tokenizer this selector is bound to
        granularity : "word" or "token"
            Whole words, or exactly the best tokens; see :func:`tsporec.selector.compress_text.compress_ids`.
        """
        return compress_text(self, tokenizer, text, budget, granularity)

    def compress_ids(
        self, text: str | Sequence[str], budget: Budget | int, tokenizer: Any, granularity: str = "word"
    ) -> Any:
        """Keep the best of ``text`` as :meth:`compress_text` does, as ids: for vLLM's ``prompt_token_ids``."""
        return compress_ids(self, tokenizer, text, budget, granularity)

    def _make_table(self, ids: Tensor, dtype: torch.dtype = torch.float32, only_rule: bool = False) -> Table:
        """The :class:`Table` of vocabulary ids ``[M]``, computed in ``dtype``."""
        vocabulary, device = self._bound(), self.blend.device
        self._check_precision()
        chosen = ids.cpu().numpy()
        classes = torch.from_numpy(vocabulary.classes[chosen]).to(device, dtype)
        # Mean of the n-gram weights of each id: packed [G'] buckets -> [M, dim].
        counts = np.diff(vocabulary.gram_offsets)[chosen]
        grams = torch.from_numpy(vocabulary.grams[ranges(vocabulary.gram_offsets[:-1][chosen], counts)]).to(device)
        offsets = torch.from_numpy(np.cumsum(counts) - counts).to(device)
        spelling = F.embedding_bag(grams, self.grams.weight.to(dtype), offsets, mode="mean")
        idf = self.idf[torch.from_numpy(vocabulary.surface[chosen]).to(device)].to(dtype)
        if self.config.weighting != "idf":
            idf = SPREAD * idf.clamp(min=1).log()
        features = spelling + F.linear(classes, self.classes.weight.to(dtype))
        network = self.network if dtype == torch.float32 else copy.deepcopy(self.network).to(dtype)
        return make_table(network, self.blend.to(dtype), features, idf, classes, only_rule)

    def _check_precision(self) -> None:
        if self.blend.dtype != torch.float32:
            raise ValueError(
                f"this selector's weights are {self.blend.dtype}, and it scores in torch.float32; call "
                "selector.float(), and leave it out where a model around it is converted."
            )

    def _table(self) -> tuple[Table, ScoringNetwork, Tensor]:
        """The table of the whole vocabulary, network and blend in float64; made again when the weights change."""
        made_of = (self.grams.weight, self.classes.weight, *self.network.parameters(), self.blend, self.idf)
        state = tuple((weight._version, weight.data_ptr()) for weight in made_of)
        if self._lookup is None or self._lookup[0] != state:
            ids = torch.arange(len(self._bound()))
            table = self._make_table(ids, torch.float64, only_rule=not self.network.out.weight.any())
            if table.slots is not None:
                table = table._replace(slots=table.slots.float())
            self._lookup = state, (table, copy.deepcopy(self.network).double(), self.blend.double())
        return self._lookup[1]

    @torch.inference_mode(mode=False)
    def frozen(self) -> FrozenSelector:
        """Copy the scoring into a module of tensors alone, ``forward(ids, cu_seqlens) -> logits``.

        It compiles with ``fullgraph=True`` and exports with dynamic lengths; ids are not checked.

        Raises
        ------
        ValueError
            If this selector has item weights: texts cannot be looked up in a compiled graph.
        """
        if self.item_weights is not None:
            raise ValueError(
                "a frozen selector cannot look up item weights; leave them out: "
                "selector.without_item_weights().frozen()."
            )
        return FrozenSelector(self.network, self.blend, self._make_table(torch.arange(len(self._bound()))))

    # -- identity and sharing

    @property
    def fingerprint(self) -> str:
        """Digest of all that decides the scores: shape, weights and, where bound, the tokenizer.

        A rule, whose network gives 0, has the same fingerprint whatever the network's other weights are.
        """
        self._check_precision()
        weights = self.state_dict()
        if not self.network.out.weight.any():
            weights = {k: v for k, v in weights.items() if k in RULE_WEIGHTS or k.startswith(_ITEM_WEIGHTS)}
        shape = {key: value for key, value in asdict(self.config).items() if key != "training"}
        limit = None if self.item_weights is None else self.item_weights.max_tokens
        parts = [part for key, value in sorted(weights.items()) for part in (key, value.cpu().numpy())]
        return digest(self.name, shape, self.tokenizer_fingerprint or "", limit, *parts)

    def save_pretrained(self, folder: str | Path, *, card: str | None = None) -> Path:
        """Write config, weights, item weights and a model card to ``folder``; returns it.

        Parameters
        ----------
        folder : path
            Made if it does not exist. An older selector in it is replaced, or kept whole if the save fails.
        card : str, optional
            The card. Default: one is made from the config, unless the folder has a card that somebody has edited.
        """
        weights = {key: part for key, part in self.state_dict().items() if not key.startswith(_ITEM_WEIGHTS)}
        files.save(Path(folder), self.config, weights, self.item_weights, card)
        return Path(folder)

    def push_to_hub(self, repo_id: str, *, card: str | None = None, **options: Any) -> str:
        """Save and upload to the Hub; returns the address of the commit. Options: :func:`tsporec.selector.hub.push`."""
        with tempfile.TemporaryDirectory() as folder:
            return hub.push(self.save_pretrained(folder, card=card), repo_id, **options)

    @classmethod
    @torch.inference_mode(mode=False)
    def from_pretrained(cls, name_or_path: str | Path = hub.DEFAULT, **options: Any) -> TokenSelector:
        """Load all that was trained: a bundled selector, a folder, or a Hub id; unbound.

        Parameters
        ----------
        name_or_path : str or Path
            Default: the bundled selector, "tsporec/base".
        **options
            The Hub's: ``revision``, ``token``, ``force_download`` ...; see :func:`tsporec.selector.hub.load`.

        Examples
        --------
        >>> from tsporec.data.synthetic import word_tokenizer
        >>> selector = TokenSelector.from_pretrained().for_tokenizer(word_tokenizer("blue gel pen".split()))
        >>> selector.score(RaggedTokens.from_lists([[4, 5, 6]])).shape
        (3,)
        """
        saved, weights, item_weights = hub.load(name_or_path, **options)
        selector = cls(saved.config)
        selector.load_state_dict(weights)
        selector.item_weights = item_weights
        return selector

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_lookup": None}  # workers make the table again instead of unpickling it
