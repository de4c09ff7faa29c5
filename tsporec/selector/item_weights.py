"""A selector that knows a catalogue: a network for any text, and an offset for every token of the texts it has met.

What the network reads from surfaces serves any text and any tokenizer, but much of what a reward says about the tokens
of one item does not follow from how they look: it is about that item and those who touched it. Recommenders serve the
items they were trained on, so that is worth keeping: each token of a known text has an offset to its logit, learned
from preferences as the network is. A text that is not known is scored by the network alone.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tsporec._internal.digest import digest, short_digests
from tsporec._internal.files import write_whole
from tsporec.scorers.base import Scores
from tsporec.selector.hub import CONFIG, find_local, read_config
from tsporec.selector.model import SelectorConfig, TokenSelector
from tsporec.selector.vocabulary import Vocabulary
from tsporec.tokens.ragged import RaggedTokens, lengths_to_offsets, ranges

OFFSETS = "catalogue.safetensors"
_GAIN = 20.0  # offsets are stored in units of this: an optimiser's step suits a weight that all texts share


class CatalogueSelector(nn.Module):
    """A :class:`TokenSelector` with an offset for every token of the texts of ``corpus``, all 0 at first.

    Its network stays as it is: only offsets are learned.

    Parameters
    ----------
    selector : TokenSelector
        Bound to the tokenizer of the corpus.
    corpus : RaggedTokens
        The texts to know, a segment each. Equal texts share their offsets.

    Attributes
    ----------
    max_tokens : int or None
        The texts of the corpus were cut to so many tokens: longer ones are known by these, and have no offsets behind.
    """

    texts: Tensor
    starts: Tensor
    max_tokens: int | None = None
    name = "catalogue selector"

    @torch.inference_mode(mode=False)
    def __init__(self, selector: TokenSelector, corpus: RaggedTokens) -> None:
        super().__init__()
        self.selector = selector
        texts, first = np.unique(_digests(corpus), return_index=True)
        lengths = corpus.lengths[first].astype(np.int64)
        self.register_buffer("texts", torch.from_numpy(texts))
        self.register_buffer("starts", torch.from_numpy(np.append(0, lengths.cumsum())))
        self.offsets = nn.Parameter(torch.zeros(int(lengths.sum())))
        self.eval()

    @property
    def vocabulary(self) -> Vocabulary | None:
        """The selector's."""
        return self.selector.vocabulary

    @property
    def tokenizer_fingerprint(self) -> str | None:
        """Fingerprint of the tokenizer that the selector is bound to; None if it is unbound."""
        return self.selector.tokenizer_fingerprint

    @property
    def fingerprint(self) -> str:
        """Digest of the selector and the offsets."""
        weights = (part.detach().cpu().numpy() for part in (self.texts, self.starts, self.offsets))
        return digest(self.name, self.selector.fingerprint, self.max_tokens, *weights)

    def train(self, mode: bool = True) -> CatalogueSelector:
        """The offsets' mode; the network does not learn, so nothing of it is dropped."""
        super().train(mode)
        self.selector.eval()
        return self

    def forward(self, ids: Tensor, cu_seqlens: Tensor) -> Tensor:
        """Logits float32 ``[T]``, differentiable in the offsets; arguments as those of :class:`TokenSelector`."""
        with torch.no_grad():
            logits: Tensor = self.selector(ids, cu_seqlens)
        tokens = RaggedTokens(ids.cpu().numpy().astype(np.int32), cu_seqlens.cpu().numpy())
        where, places = (torch.from_numpy(part).to(logits.device) for part in self._known(tokens))
        return logits.index_add(0, where, _GAIN * self.offsets.index_select(0, places))

    @torch.inference_mode()
    def score(self, tokens: RaggedTokens) -> Scores:
        """float32 ``[T]``: the selector's scores, and the offsets where a text is known."""
        scores = self.selector.score(tokens)
        where, places = self._known(tokens)
        scores[where] += np.float32(_GAIN) * self.offsets.cpu().numpy()[places]
        return scores

    def with_scores(self, tokens: RaggedTokens, scores: Scores) -> CatalogueSelector:
        """The same selector, its offsets set so that tokens of known texts have these scores ``[T]``."""
        where, places = self._known(tokens)
        wanted = (scores - self.selector.score(tokens))[where] / _GAIN
        with torch.no_grad():
            self.offsets[torch.from_numpy(places)] = torch.from_numpy(wanted.astype(np.float32))
        return self

    def _known(self, tokens: RaggedTokens) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(the tokens of known texts, int64 ``[K]`` into ``[T]``; where the offset of each is)."""
        texts, starts = self.texts.cpu().numpy(), self.starts.cpu().numpy()
        read = tokens.lengths.astype(np.int64)
        if self.max_tokens is not None:
            read = np.minimum(read, self.max_tokens)
            cut = ranges(tokens.cu_seqlens[:-1].astype(np.int64), read)
            wanted = _digests(RaggedTokens(tokens.ids[cut], lengths_to_offsets(read)))
        else:
            wanted = _digests(tokens)
        entry = np.searchsorted(texts, wanted)
        segments = np.flatnonzero(entry < len(texts))
        segments = segments[texts[entry[segments]] == wanted[segments]]
        entry, lengths = entry[segments], read[segments]
        same = starts[entry + 1] - starts[entry] == lengths
        first = tokens.cu_seqlens[segments].astype(np.int64)
        return ranges(first[same], lengths[same]), ranges(starts[entry][same], lengths[same])

    def save_pretrained(self, folder: str | Path) -> Path:
        """Write the offsets, and beside them the selector as :meth:`TokenSelector.save_pretrained` does."""
        from safetensors.torch import save as to_bytes

        assert self.vocabulary is not None
        weights = {name: getattr(self, name).detach().cpu() for name in ("texts", "starts", "offsets")}
        known = {"tokenizer": self.vocabulary.fingerprint, "selector": self.selector.fingerprint}
        if self.max_tokens is not None:
            known["max_tokens"] = str(self.max_tokens)
        write_whole(Path(folder) / OFFSETS, to_bytes(weights, known))
        return self.selector.save_pretrained(folder)

    @classmethod
    @torch.inference_mode(mode=False)
    def from_pretrained(
        cls, folder: str | Path, tokenizer: Any, *, embeddings: Tensor | None = None
    ) -> CatalogueSelector:
        """What :meth:`save_pretrained` wrote, bound as by :meth:`TokenSelector.for_tokenizer`.

        Raises
        ------
        ValueError
            If there are no offsets in the folder, or they are of another tokenizer's tokens or another selector.
        """
        from safetensors import safe_open

        path = Path(folder) / OFFSETS
        if not path.is_file():
            raise ValueError(f"{folder} has no {OFFSETS}; load it with TokenSelector.from_pretrained.")
        selector = TokenSelector.from_pretrained(folder).for_tokenizer(tokenizer, embeddings=embeddings)
        loaded = cls(selector, RaggedTokens.from_lists([]))
        with safe_open(path, "pt") as file:
            known = file.metadata() or {}
            assert loaded.vocabulary is not None
            if known.get("tokenizer") != loaded.vocabulary.fingerprint:
                raise ValueError(
                    f"the offsets in {folder} are of the tokens of another tokenizer ({known.get('tokenizer')}) than "
                    f"the one given ({loaded.vocabulary.fingerprint}); give that one, or load the selector without "
                    "them: TokenSelector.from_pretrained."
                )
            if known.get("selector") != loaded.selector.fingerprint:
                raise ValueError(
                    f"{path} was learned with other weights than those beside it; delete it, or save both again."
                )
            loaded.texts, loaded.starts = file.get_tensor("texts"), file.get_tensor("starts")
            loaded.offsets = nn.Parameter(file.get_tensor("offsets"))
            loaded.max_tokens = int(known["max_tokens"]) if "max_tokens" in known else None
        return loaded


def load_selector(
    name_or_path: str | Path, tokenizer: Any, embeddings: Callable[[], Tensor] | None = None
) -> TokenSelector | CatalogueSelector:
    """What :meth:`TokenSelector.from_pretrained` finds, bound to ``tokenizer``, with its offsets where it has some.

    ``embeddings`` gives a language model's input embeddings ``[V, W]``; it is asked only where the selector reads them.
    """

    def read(config: SelectorConfig) -> Tensor | None:
        return embeddings() if embeddings is not None and config.table == "embeddings" else None

    folder = find_local(name_or_path)
    if folder is not None and (folder / OFFSETS).is_file():
        return CatalogueSelector.from_pretrained(folder, tokenizer, embeddings=read(read_config(folder / CONFIG)))
    selector = TokenSelector.from_pretrained(name_or_path)
    return selector.for_tokenizer(tokenizer, embeddings=read(selector.config))


def same_texts(tokens: RaggedTokens) -> NDArray[np.int64]:
    """int64 ``[N]``: a number for each segment, the same for equal texts."""
    return np.unique(_digests(tokens), return_inverse=True)[1].reshape(-1).astype(np.int64)


def _digests(tokens: RaggedTokens) -> NDArray[np.int64]:
    """int64 ``[N]``: a hash of the ids of each segment."""
    return short_digests(segment.tobytes() for segment in tokens).view(np.int64)
