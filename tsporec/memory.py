"""A selector that knows a catalogue: a network for any text, and an offset for every token of the texts it has met.

What the network reads from surfaces serves any text and any tokenizer, but much of what a reward says about the tokens
of one item does not follow from how they look: it is about that item and those who touched it. Recommenders serve the
items they were trained on, so that is worth keeping: each token of a known text has an offset to its logit, learned
from preferences as the network is. A text that is not known is scored by the network alone.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - as the torch documentation writes it

from tsporec.features import Vocabulary
from tsporec.files import write_whole
from tsporec.fingerprint import digest
from tsporec.hub import find_local
from tsporec.ragged import RaggedTokens, ranges
from tsporec.scorers.base import Scores
from tsporec.selector import TokenSelector

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
    """

    texts: Tensor
    starts: Tensor
    name = "catalogue selector"

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
    def fingerprint(self) -> str:
        """Digest of the selector and the offsets."""
        weights = (part.detach().cpu().numpy() for part in (self.texts, self.starts, self.offsets))
        return digest(self.name, self.selector.fingerprint, *weights)

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
        places = torch.from_numpy(self._places(tokens)).to(self.offsets.device)
        return logits + _GAIN * F.pad(self.offsets, (0, 1)).index_select(0, places)

    @torch.inference_mode()
    def score(self, tokens: RaggedTokens) -> Scores:
        """float32 ``[T]``: the selector's scores, and the offsets where a text is known."""
        offsets = np.append(self.offsets.cpu().numpy(), np.float32(0))
        change: Scores = (_GAIN * offsets[self._places(tokens)]).astype(np.float32)
        return self.selector.score(tokens) + change

    def _places(self, tokens: RaggedTokens) -> NDArray[np.int64]:
        """int64 ``[T]``: where each token's offset is; one past the last for those of unknown texts."""
        texts, starts = self.texts.cpu().numpy(), self.starts.cpu().numpy()
        wanted = _digests(tokens)
        found = np.searchsorted(texts, wanted)
        lengths = tokens.lengths.astype(np.int64)
        known = np.append(texts, 0)[found] == wanted
        known[known] = np.diff(starts)[found[known]] == lengths[known]
        places = np.full(tokens.num_tokens, len(self.offsets), dtype=np.int64)
        places[np.repeat(known, lengths)] = ranges(starts[:-1][found[known]], lengths[known])
        return places

    def save_pretrained(self, folder: str | Path) -> Path:
        """Write the selector as :meth:`TokenSelector.save_pretrained` does, and the offsets beside it."""
        from safetensors.torch import save as to_bytes

        assert self.vocabulary is not None
        weights = {name: getattr(self, name).detach().cpu() for name in ("texts", "starts", "offsets")}
        data = to_bytes(weights, {"tokenizer": self.vocabulary.fingerprint})
        folder = self.selector.save_pretrained(folder)
        write_whole(folder / OFFSETS, data)
        return folder

    @classmethod
    def from_pretrained(cls, folder: str | Path, tokenizer: Any) -> CatalogueSelector:
        """What :meth:`save_pretrained` wrote.

        Raises
        ------
        ValueError
            If there are no offsets in the folder, or they are of another tokenizer's tokens.
        """
        from safetensors import safe_open

        path = Path(folder) / OFFSETS
        if not path.is_file():
            raise ValueError(f"{folder} has no {OFFSETS}; load it with TokenSelector.from_pretrained.")
        loaded = cls(TokenSelector.from_pretrained(folder).for_tokenizer(tokenizer), RaggedTokens.from_lists([]))
        with safe_open(path, "pt") as file:
            made_with = (file.metadata() or {}).get("tokenizer")
            assert loaded.vocabulary is not None
            if made_with != loaded.vocabulary.fingerprint:
                raise ValueError(
                    f"the offsets in {folder} are of the tokens of another tokenizer ({made_with}) than the one given "
                    f"({loaded.vocabulary.fingerprint}); give that one, or TokenSelector.from_pretrained without them."
                )
            loaded.texts, loaded.starts = file.get_tensor("texts"), file.get_tensor("starts")
            loaded.offsets = nn.Parameter(file.get_tensor("offsets"))
        return loaded


def load_selector(name_or_path: str | Path, tokenizer: Any) -> TokenSelector | CatalogueSelector:
    """What :meth:`TokenSelector.from_pretrained` finds, bound to ``tokenizer``, with its offsets where it has some."""
    folder = find_local(name_or_path)
    if folder is not None and (folder / OFFSETS).is_file():
        return CatalogueSelector.from_pretrained(folder, tokenizer)
    return TokenSelector.from_pretrained(name_or_path).for_tokenizer(tokenizer)


def _digests(tokens: RaggedTokens) -> NDArray[np.int64]:
    """int64 ``[N]``: a hash of the ids of each segment."""
    joined = b"".join(hashlib.blake2b(segment.tobytes(), digest_size=8).digest() for segment in tokens)
    return np.frombuffer(joined, dtype="<i8")
