"""The learned scorer: a small network that says which tokens of a text to keep."""

from __future__ import annotations

import copy
import math
import tempfile
from collections.abc import Iterable, Sequence
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
from tsporec.selector import hub
from tsporec.selector.compress_text import compress_ids, compress_text
from tsporec.selector.config import RULES, SPREAD, SelectorConfig
from tsporec.selector.layout import Texts, groups, lay_out, lay_out_numpy
from tsporec.selector.lexicon import Units, frequent_words
from tsporec.selector.network import SIGNALS, Entries, FrozenSelector, ScoringNetwork, logits, make_entries
from tsporec.selector.vocabulary import CLASSES, Vocabulary, read_vocabulary, with_embeddings
from tsporec.tokens.ragged import RaggedTokens, ranges

__all__ = ["SelectorConfig", "TokenSelector"]

_TABLE_KEYS = ("table", "embedding_width", "embedding_fingerprint")


class TokenSelector(nn.Module):
    """A scorer with learned weights, for any tokenizer.

    Untrained it is the rule ``config.weighting`` (once :meth:`fit` has seen a corpus): a repeated token counts at its
    first place, the others come behind all first ones, the earlier first among equals.
    :class:`tsporec.PreferenceTrainer` trains it.

    Parameters
    ----------
    config : SelectorConfig, optional

    Examples
    --------
    >>> selector = TokenSelector().for_tokenizer(tokenizer).fit(corpus)       # doctest: +SKIP
    >>> selection = selector.select(corpus, Budget(tokens=16))                # doctest: +SKIP
    >>> selector.save_pretrained("my-selector")                               # doctest: +SKIP
    """

    idf: Tensor
    lexicon: Tensor
    name = "selector"

    @torch.inference_mode(mode=False)  # what is made in inference mode could neither be scored with nor trained
    def __init__(self, config: SelectorConfig | None = None) -> None:
        super().__init__()
        self.config = config or SelectorConfig()
        self.vocabulary: Vocabulary | None = None
        if self.config.table == "surface":
            self.grams = nn.Embedding(self.config.gram_buckets, self.config.dim)
            nn.init.normal_(self.grams.weight, std=0.5)
        else:
            self.projection = nn.Linear(self.config.embedding_width, self.config.dim, bias=False)
            nn.init.normal_(self.projection.weight, std=0.5 / self.config.embedding_width**0.5)
        self.classes = nn.Linear(len(CLASSES), self.config.dim, bias=False)
        self.network = ScoringNetwork(self.config.dim, self.config.hidden)
        self.blend = nn.Parameter(torch.zeros(len(SIGNALS)))
        self.register_buffer("idf", torch.zeros(self.config.surface_buckets))
        self._know(torch.zeros(0, dtype=torch.uint8))
        with torch.no_grad():
            for signal, weight in RULES[self.config.weighting].items():
                self.blend[SIGNALS.index(signal)] = weight
        self._lookup: tuple[tuple[tuple[int, int], ...], tuple[Entries, ScoringNetwork, Tensor]] | None = None
        self._has_served = False  # a tokenizer
        self.eval()

    # -- binding and fitting

    def for_tokenizer(self, tokenizer: Any, *, embeddings: Tensor | None = None) -> TokenSelector:
        """A selector for ids of ``tokenizer`` that shares the weights of this one.

        Parameters
        ----------
        tokenizer : a Hugging Face tokenizer
        embeddings : Tensor ``[V, W]``, optional
            ``model.get_input_embeddings().weight``: asked for where ``config.table`` is "embeddings", and there only;
            left out, they are those of the selector that is bound to this tokenizer already.
        """
        self._has_served = True
        bound = copy.copy(self)
        bound.vocabulary = self._read(tokenizer)
        if self.config.table == "embeddings" or embeddings is not None:
            known = self.config.embedding_width, self.config.embedding_fingerprint
            bound.vocabulary = with_embeddings(bound.vocabulary, embeddings, *known, self.vocabulary)
        bound._lookup = None
        return bound

    def fit(self, corpus: RaggedTokens | Sequence[tuple[Any, RaggedTokens]], *, prior: float = 1.0) -> TokenSelector:
        """Set the inverse document frequencies from the texts of ``corpus`` (a segment a document).

        ``idf = log((prior + N) / (prior + df)) + 1``, for a prior of 1 the smoothed form of scikit-learn; df is counted
        by surface: entries that spell the same share it, and it serves every tokenizer.

        Parameters
        ----------
        corpus : RaggedTokens, or pairs (tokenizer, RaggedTokens)
            Of the tokenizer this is bound to; or of several, and then N counts, for each surface, the texts of those
            tokenizers that have it.
        prior : float
            Texts that every surface is taken to be in beforehand; above 0. A larger one holds what is rare or unknown
            here to be less rare: for texts of another kind than those that are scored.
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
            if vocabulary.words is not None:
                tokens = RaggedTokens(*vocabulary.words.units(tokens.ids, tokens.cu_seqlens)[:2])
            pairs = tokens.segment_ids() * buckets + vocabulary.surface[tokens.ids]
            df += np.bincount(np.unique(pairs) % buckets, minlength=buckets)
            texts[np.unique(vocabulary.surface)] += len(tokens)
        texts[texts == 0] = sum(len(tokens) for _, tokens in parts)
        idf = np.log((prior + texts) / (prior + df)) + 1
        with torch.no_grad():
            self.idf.copy_(torch.from_numpy(idf))
        return self

    def fit_words(self, texts: Iterable[str], count: int = 32768) -> TokenSelector:
        """Know the ``count`` most frequent words of ``texts``, in place of those known so far.

        The tokens that spell a known word are scored as one and get its score, so that what is learned with one
        tokenizer serves others that split words elsewhere. To be called before binding, fitting and learning.

        Raises
        ------
        ValueError
            If this is bound to a tokenizer or has been, since the bound ones share its weights but would not follow; if
            it was fitted or has learned, which it did without these words; if it reads a language model's embeddings,
            of which words have none; or if there is no word in ``texts``, or it is one string.
        """
        found = (
            "is bound to a tokenizer" if self._has_served
            else "reads embeddings" if self.config.table != "surface"
            else "is fitted or has learned" if bool(self.idf.any()) or bool(self.network.out.weight.any())
            else ""
        )  # fmt: skip
        if found:
            raise ValueError(
                f'this selector {found}; call fit_words on a new one with a table of "surface", '
                "TokenSelector().fit_words(texts), before for_tokenizer and fit."
            )
        self._know(torch.frombuffer(bytearray(frequent_words(texts, count)), dtype=torch.uint8))
        return self

    def _know(self, lexicon: Tensor) -> None:
        # Saved only where there are words: without, weights and fingerprint are what they were before there were any.
        self.register_buffer("lexicon", lexicon, persistent=len(lexicon) > 0)

    def _read(self, tokenizer: Any) -> Vocabulary:
        lexicon = self.lexicon.cpu().numpy().tobytes()
        return read_vocabulary(tokenizer, self.config.gram_buckets, self.config.surface_buckets, lexicon)

    def _bound(self) -> Vocabulary:
        if self.vocabulary is None:
            raise ValueError(
                "this selector is not bound to a tokenizer, so ids mean nothing to it; "
                "call selector.for_tokenizer(tokenizer) first."
            )
        return self.vocabulary

    # -- scoring

    def forward(self, ids: Tensor, cu_seqlens: Tensor) -> Tensor:
        """Differentiable logits; in training mode, its own, with dropout.

        Parameters
        ----------
        ids : int ``[T]``
        cu_seqlens : int ``[N + 1]``

        Returns
        -------
        Tensor
            float32 ``[T]``.
        """
        if cu_seqlens.shape[0] < 2:
            return self.blend.new_zeros(0)
        words, of_token = self._bound().words, None
        if words is not None:
            units = words.units(ids.cpu().numpy().astype(np.int32), cu_seqlens.cpu().numpy())
            ids, cu_seqlens, of_token = (torch.from_numpy(part).to(ids.device) for part in units)
        unique, inverse = torch.unique(ids, return_inverse=True)
        entries = self._entries(unique)
        dropout = self.config.dropout if self.training else 0.0
        texts = lay_out(inverse, cu_seqlens, entries.absent)
        found = logits(self.network, self.blend, entries, texts, dropout=dropout)
        return found if of_token is None else found.index_select(0, of_token)

    @torch.inference_mode()
    def score(self, tokens: RaggedTokens) -> Scores:
        """float32 ``[T]``: the logits of :meth:`forward` without dropout, whatever mode this is in.

        Computed in float64 and rounded: the bits of a segment's scores are the same whatever else is in the batch,
        with any number of threads.
        """
        vocabulary = self._bound()
        vocabulary.check(tokens.ids)
        scores = np.empty(tokens.num_tokens, dtype=np.float32)
        (table, network, blend), device, words = self._table(), self.blend.device, vocabulary.words
        for first, last in groups(tokens.cu_seqlens):
            start, end = tokens.cu_seqlens[first], tokens.cu_seqlens[last]
            units = Units(tokens.ids[start:end], tokens.cu_seqlens[first : last + 1] - start, slice(None))
            if words is not None:
                units = words.units(units.ids, units.cu_seqlens)
            texts = lay_out_numpy(units.ids, units.cu_seqlens, table.absent)
            if device.type != "cpu":
                texts = Texts(*(part.to(device) for part in texts))
            found = logits(network, blend, table, texts).cpu().numpy()
            scores[start:end] = found[units.of_token]
        return scores

    def select(self, tokens: RaggedTokens, budget: Budget, *, protected: NDArray[np.bool_] | None = None) -> Selection:
        """The best tokens of each segment; see :func:`tsporec.selection.select`."""
        return select(self, tokens, budget, protected=protected)

    def compress_text(
        self, text: str | Sequence[str], budget: Budget | int, tokenizer: Any, granularity: str = "word"
    ) -> Any:
        """What of ``text`` is worth keeping, in order: for models behind an API.

        Parameters
        ----------
        text : str or list of str
        budget : Budget or int
            In tokens of ``tokenizer``.
        tokenizer : the tokenizer this selector is bound to
        granularity : "word" or "token"
            Whole words, or the very best tokens; see :func:`tsporec.selector.compress_text.compress_ids`.
        """
        return compress_text(self, tokenizer, text, budget, granularity)

    def compress_ids(
        self, text: str | Sequence[str], budget: Budget | int, tokenizer: Any, granularity: str = "word"
    ) -> Any:
        """As :meth:`compress_text`, but the kept ids: for engines that take them, as vLLM's ``prompt_token_ids``."""
        return compress_ids(self, tokenizer, text, budget, granularity)

    def _entries(self, entries: Tensor, dtype: torch.dtype = torch.float32, only_rule: bool = False) -> Entries:
        """What scoring looks up of vocabulary entries ``[M]``, computed in ``dtype``; slots are stored in float32."""
        vocabulary, device = self._bound(), self.blend.device
        self._check_precision()
        chosen = entries.cpu().numpy()
        classes = torch.from_numpy(vocabulary.classes[chosen]).to(device, dtype)
        if self.config.table == "surface":
            counts = np.diff(vocabulary.gram_offsets)[chosen]
            grams = torch.from_numpy(vocabulary.grams[ranges(vocabulary.gram_offsets[:-1][chosen], counts)]).to(device)
            offsets = torch.from_numpy(np.cumsum(counts) - counts).to(device)
            spelling = F.embedding_bag(grams, self.grams.weight.to(dtype), offsets, mode="mean")
        else:
            read = vocabulary.embedded(entries).to(device, dtype)
            spelling = F.linear(F.layer_norm(read, read.shape[1:]), self.projection.weight.to(dtype))
        idf = self.idf[torch.from_numpy(vocabulary.surface[chosen]).to(device)].to(dtype)
        if self.config.weighting != "idf":
            idf = SPREAD * idf.clamp(min=1).log()
        features = spelling + F.linear(classes, self.classes.weight.to(dtype))
        network = self.network if dtype == torch.float32 else copy.deepcopy(self.network).to(dtype)
        return make_entries(network, self.blend.to(dtype), features, idf, classes, only_rule)

    def _check_precision(self) -> None:
        if self.blend.dtype != torch.float32:
            raise ValueError(
                f"this selector's weights are {self.blend.dtype}, and it scores in torch.float32; call "
                "selector.float(), and leave it out where a model around it is converted."
            )

    def _table(self) -> tuple[Entries, ScoringNetwork, Tensor]:
        """:meth:`_entries` of the whole vocabulary, network and blend in float64; remade when the weights change."""
        spelling, first, out = (
            self.grams if self.config.table == "surface" else self.projection,
            self.network.first,
            self.network.out,
        )
        made_of = (spelling.weight, self.classes.weight, first.weight, first.bias, out.weight, self.blend, self.idf)
        state = tuple((weight._version, weight.data_ptr()) for weight in made_of)
        if self._lookup is None or self._lookup[0] != state:
            untrained = not out.weight.any()
            entries = self._entries(torch.arange(len(self._bound().surface)), torch.float64, only_rule=untrained)
            if entries.slots is not None:
                entries = entries._replace(slots=entries.slots.float())
            self._lookup = state, (entries, copy.deepcopy(self.network).double(), self.blend.double())
        return self._lookup[1]

    @torch.inference_mode(mode=False)
    def frozen(self) -> FrozenSelector:
        """A copy of its scoring as a module of tensors alone, ``forward(ids, cu_seqlens) -> logits``.

        It compiles with ``fullgraph=True`` and exports with dynamic lengths; ids are not checked.
        """
        vocabulary = self._bound()
        entries = self._entries(torch.arange(len(vocabulary.surface)))
        return FrozenSelector(self.network, self.blend, entries, vocabulary.words)

    # -- identity and sharing

    @property
    def tokenizer_fingerprint(self) -> str | None:
        """Fingerprint of the tokenizer that the selector is bound to; None if it is unbound."""
        return None if self.vocabulary is None else self.vocabulary.fingerprint

    @property
    def special_token_ids(self) -> list[int] | None:
        """Ids of the special tokens of the tokenizer that the selector is bound to; None if it is unbound."""
        if self.vocabulary is None:
            return None
        special: list[int] = np.flatnonzero(self.vocabulary.classes[:, CLASSES.index("special")]).tolist()
        return special

    @property
    def fingerprint(self) -> str:
        """Digest of shape, weights and, where bound, the tokenizer."""
        self._check_precision()
        weights = [part for key, value in sorted(self.state_dict().items()) for part in (key, value.cpu().numpy())]
        shape = {key: value for key, value in asdict(self.config).items() if key != "training"}
        # As they were when there was no other table, and no other weighting.
        plain = _TABLE_KEYS if self.config.table == "surface" else ()
        plain = (*plain, "weighting") if self.config.weighting == "idf" else plain
        shape = {key: value for key, value in shape.items() if key not in plain}
        return digest(self.name, shape, self.vocabulary.fingerprint if self.vocabulary else "", *weights)

    def save_pretrained(self, folder: str | Path, *, card: str | None = None) -> Path:
        """Write config, weights and a model card (by default :func:`tsporec.selector.card.model_card`'s) to ``folder``.

        Without ``card``, one that is there and was edited is kept.
        """
        return hub.save(Path(folder), self.config, self.state_dict(), card)

    def push_to_hub(self, repo_id: str, *, card: str | None = None, **options: Any) -> str:
        """Save and upload to the Hub, and return the commit's address; options: :func:`tsporec.selector.hub.push`."""
        with tempfile.TemporaryDirectory() as folder:
            return hub.push(self.save_pretrained(folder, card=card), repo_id, **options)

    @classmethod
    @torch.inference_mode(mode=False)
    def from_pretrained(cls, name_or_path: str | Path = hub.DEFAULT, **options: Any) -> TokenSelector:
        """A saved selector: one in the box, a folder, or a Hub id; options as in :func:`tsporec.selector.hub.load`.

        The options (``revision``, ``token``, ``force_download`` ...) are the Hub's: ignored for the first two.
        """
        config, weights = hub.load(name_or_path, **options)
        selector = cls(config)
        if hub.LEXICON in weights:
            selector._know(weights[hub.LEXICON])
        selector.load_state_dict(weights)
        return selector

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_lookup": None}  # workers rebuild the table instead of unpickling it
