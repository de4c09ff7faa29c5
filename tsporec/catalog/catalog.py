"""A catalogue compressed once: item ids in, kept tokens out, from a memory-mapped store.

Item texts change rarely, so most users should pay nothing for selection when they train or serve:
:meth:`ItemCatalog.build` selects every item's tokens once and :meth:`ItemCatalog.lookup` finds them by id. The parts
are in :mod:`tsporec.catalog.store`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tsporec.budget import Budget
from tsporec.catalog.store.build import Work, build
from tsporec.catalog.store.commit import prune
from tsporec.catalog.store.compress import Chunk, Compressor
from tsporec.catalog.store.keys import ItemId, Keys
from tsporec.catalog.store.layout import Recipe, budget_fields, read_manifest
from tsporec.catalog.store.reader import Snapshot
from tsporec.catalog.store.report import BuildReport
from tsporec.catalog.store.sources import read_chunks
from tsporec.catalog.store.update import update
from tsporec.data.items import FIELDS, Item
from tsporec.tokens.fingerprint import tokenizer_fingerprint
from tsporec.tokens.ragged import RaggedTokens

Items = str | Path | Iterable[Item] | Iterable[Mapping[str, Any]] | Iterable[Chunk]


class ItemCatalog:
    """One snapshot of a catalogue of kept tokens, read through mappings: nothing is loaded until it is looked up.

    It is a read-only view: writers make new snapshots and never touch the files of this one. It pickles (a worker opens
    the same snapshot again) and may be used across ``fork``.

    Parameters
    ----------
    path : path
        The store's folder; see :meth:`build` and :meth:`open`.
    snapshot : int, optional
        An older snapshot than the current one.
    tokenizer : optional
        The tokenizer it was built with; :meth:`text` needs it.

    Examples
    --------
    >>> catalog = ItemCatalog.build(items, tokenizer=tokenizer, selector=selector,
    ...                             budget=Budget(tokens=16), path="catalog/")           # doctest: +SKIP
    >>> catalog.lookup(["B01", "B02"]).to_padded(tokenizer.pad_token_id, "left")         # doctest: +SKIP
    >>> catalog.lookup(["B01", "B02"], k=8)          # the best 8 of each, in text order   # doctest: +SKIP
    """

    def __init__(self, path: str | Path, snapshot: int | None = None, tokenizer: Any = None) -> None:
        self.path = Path(path)
        self._snapshot = Snapshot(self.path, read_manifest(self.path, snapshot))
        self.tokenizer = tokenizer
        self.report: BuildReport | None = None
        if tokenizer is not None:
            self._check("tokenizer", tokenizer_fingerprint(tokenizer), self.recipe.tokenizer)

    @classmethod
    def build(
        cls,
        items: Items,
        *,
        tokenizer: Any,
        selector: Any,
        budget: Budget,
        path: str | Path,
        fields: Sequence[str] = FIELDS,
        id_field: str = "id",
        max_tokens: int | None = None,
        resume: bool = True,
        overwrite: bool = False,
        **work: Any,
    ) -> ItemCatalog:
        """Compress every item's text into a new store, or a new snapshot of one.

        Parameters
        ----------
        items : iterable of Item, mapping or Chunk; or path
            Read once, as a stream: a list, a generator, a ``datasets.Dataset``, a json lines or parquet file, a folder
            of those. Mappings have ``id_field`` and text fields. Ids are all integers or all strings. A
            :class:`~tsporec.catalog.store.compress.Chunk` brings items that are tokenised already.
        tokenizer : a Hugging Face tokenizer
        selector : Scorer
            With a ``fingerprint``; bound to ``tokenizer`` where it needs to be.
        budget : Budget
            Tokens kept of an item, or a ratio. (A total belongs to a user's history, not to an item.)
        path : path
            A folder; made where it is missing.
        fields : names of the text fields to join
        id_field : str
        max_tokens : int, optional
            Consider only the first ``max_tokens`` tokens of a text.
        resume : bool
            Go on with a build that was cut off; False drops it.
        overwrite : bool
            Make a new snapshot of a store that exists, sharing nothing with the one before.
        **work
            How it is done: ``num_proc``, ``chunk_items``, ``shard_items``, ``shard_bytes``, ``start_method``; see
            :class:`~tsporec.catalog.store.build.Work`.

        Returns
        -------
        ItemCatalog
            With a :class:`~tsporec.catalog.store.report.BuildReport` as ``report``.

        Raises
        ------
        ValueError
            If an id is missing, repeated or of another kind than the first; the store exists; another writer holds it
            (who is said); an unfinished build of something else is there; or no item has text.
        OSError
            If a file cannot be written. The store is as it was, and the same call goes on where this one stopped.
        """
        chunks = read_chunks(items, fields, id_field, Work(**work).chunk_items)
        first = next(chunks, None)
        if first is None:
            raise ValueError("there are no items to build a catalogue of.")
        id_type = Keys.from_ids(first.ids).id_type
        recipe = make_recipe(tokenizer, selector, budget, fields, max_tokens, id_type)
        compressor = Compressor.of(tokenizer, selector, recipe)
        manifest, report = build(
            Path(path), chain([first], chunks), compressor, recipe, Work(**work), resume=resume, overwrite=overwrite
        )
        catalog = cls(path, manifest.snapshot, tokenizer)
        catalog.report = report
        return catalog

    @classmethod
    def open(
        cls, path: str | Path, *, snapshot: int | None = None, tokenizer: Any = None, selector: Any = None
    ) -> ItemCatalog:
        """Open the current snapshot of a store, or an older one.

        File sizes are checked; :meth:`verify` checks every byte.

        Parameters
        ----------
        path : path
        snapshot : int, optional
        tokenizer, selector : optional
            Refused unless they are what the store was built with.

        Raises
        ------
        ValueError
            If there is no store, a file is missing or cut short (it is named), the format is newer than this library,
            or the tokenizer or selector is another.
        """
        catalog = cls(path, snapshot, tokenizer)
        if selector is not None:
            catalog._check("selector", _fingerprint(selector), catalog.recipe.selector)
        return catalog

    def update(
        self,
        items: Items = (),
        *,
        delete: Sequence[ItemId] = (),
        tokenizer: Any,
        selector: Any,
        id_field: str = "id",
        **work: Any,
    ) -> ItemCatalog:
        """Make the next snapshot: add new items, replace those whose text has changed, delete some.

        Items whose text is what the store holds cost a digest and are left where they are. This view stays as it is;
        the new snapshot, made from the store's current one, is returned (or that one, if nothing has changed).

        Raises
        ------
        ValueError
            If the tokenizer or selector is not the store's, an id to delete is not there, or an id comes twice.
        """
        mine = self.recipe
        recipe = make_recipe(tokenizer, selector, mine.to_budget(), mine.fields, mine.max_tokens, mine.id_type)
        options = Work(**work)
        manifest, report = update(
            self.path,
            read_chunks(items, mine.fields, id_field, options.chunk_items),
            delete,
            Compressor.of(tokenizer, selector, recipe),
            recipe,
            options,
        )
        catalog = type(self)(self.path, manifest.snapshot, tokenizer)
        catalog.report = report
        return catalog

    @staticmethod
    def prune(path: str | Path, keep: int = 1) -> list[str]:
        """Remove all but the last ``keep`` snapshots of a store and the files only they need; returns the names."""
        return prune(Path(path), keep)

    # -- looking up

    @property
    def recipe(self) -> Recipe:
        """What it was built with: fingerprints, budget, fields."""
        return self._snapshot.manifest.recipe

    @property
    def snapshot(self) -> int:
        """The number of this snapshot, from 1 on."""
        return self._snapshot.manifest.snapshot

    def __len__(self) -> int:
        return self._snapshot.manifest.items

    def __contains__(self, item_id: object) -> bool:
        kind = str if self.recipe.id_type == "str" else (int, np.integer)
        return isinstance(item_id, kind) and bool(self._snapshot.locate(self._keys([item_id]))[0] >= 0)

    def __iter__(self) -> Iterator[Any]:
        """Every id, in the order in which the items were added."""
        rows = self._snapshot.live_rows()
        for start in range(0, len(rows), 1 << 14):
            yield from self._snapshot.rows.keys(rows[start : start + (1 << 14)]).to_ids()

    def __getitem__(self, item_id: ItemId) -> NDArray[np.int32]:
        """int32 ``[k]``: the kept token ids of one item, in text order."""
        return self.lookup([item_id]).ids

    def lookup(self, ids: Any, k: int | None = None, *, missing: str = "error") -> RaggedTokens:
        """The kept tokens of a batch of items.

        Parameters
        ----------
        ids : list of int or str, or an integer array or tensor ``[M]``
            Repeats are allowed.
        k : int, optional
            The best ``k`` tokens of each, in text order: what a store built with ``Budget(tokens=k)`` would hold.
        missing : str
            ``"error"``, or ``"empty"`` for an empty segment where an id is not in the catalogue.

        Returns
        -------
        RaggedTokens
            Segment ``i`` is ``ids[i]``. ``.to_padded(pad_id, side)`` is the padded batch with its attention mask.

        Raises
        ------
        KeyError
            If an id is not in the catalogue.
        ValueError
            If the ids are of the wrong kind, or ``k`` is more than was kept.
        """
        rows = self._locate(ids, missing)
        self._check_k(k)
        found = rows >= 0
        if found.all():
            return self._snapshot.rows.tokens(rows, k)
        # One more segment, empty, for all that are missing.
        tokens = self._snapshot.rows.tokens(rows[found], k)
        padded = RaggedTokens(tokens.ids, np.append(tokens.cu_seqlens, tokens.cu_seqlens[-1]))
        return padded.take(np.where(found, np.cumsum(found) - 1, len(tokens)))

    def ranks(self, item_id: ItemId) -> NDArray[np.int32]:
        """int32 ``[k]``: the rank of each kept token of an item, 0 for the best."""
        return self._snapshot.rows.ranks(self._locate([item_id], "error"))

    def text(self, item_id: ItemId, k: int | None = None) -> str:
        """The kept tokens of an item as text.

        Raises
        ------
        ValueError
            If the catalogue was opened without its tokenizer.
        """
        if self.tokenizer is None:
            raise ValueError("text needs the tokenizer: ItemCatalog.open(path, tokenizer=…).")
        return str(self.tokenizer.decode(self.lookup([item_id], k).ids.tolist()))

    # -- checking

    def changed(self, items: Items, *, id_field: str = "id") -> Iterator[ItemId]:
        """The ids of ``items`` whose text is not what this snapshot was made of, or that it lacks."""
        for chunk in read_chunks(items, self.recipe.fields, id_field, Work.chunk_items):
            rows = self._snapshot.locate(self._keys(chunk.ids))
            known = np.flatnonzero(rows >= 0)
            same = np.zeros(len(chunk), dtype=bool)
            same[known] = self._snapshot.rows.digests(rows[known]) == chunk.digests()[known]
            yield from (chunk.ids[place] for place in np.flatnonzero(~same).tolist())

    def verify(self) -> None:
        """Read every file and compare its checksum; a ``ValueError`` names those that differ."""
        self._snapshot.verify()

    def describe(self) -> dict[str, Any]:
        """Counts, sizes and what it was built with, for people to read."""
        manifest = self._snapshot.manifest
        return {
            "path": str(self.path),
            "snapshot": manifest.snapshot,
            "items": manifest.items,
            "empty_items": manifest.empty,
            "kept_tokens": manifest.tokens,
            "rows": sum(entry.rows for entry in manifest.shards),
            "tokens_before": sum(entry.tokens_before for entry in manifest.shards),
            "tokens_after": sum(entry.tokens for entry in manifest.shards),
            "shards": len(manifest.shards),
            "bytes": manifest.index.size + sum(entry.file.size for entry in manifest.shards),
            **vars(manifest.recipe),
        }

    def _keys(self, ids: Any) -> Keys:
        return Keys.from_ids(ids, self.recipe.id_type)

    def _locate(self, ids: Any, missing: str) -> NDArray[np.int64]:
        if missing not in ("error", "empty"):
            raise ValueError(f"missing must be 'error' or 'empty'; found {missing!r}.")
        keys = self._keys(ids)
        rows = self._snapshot.locate(keys)
        if missing == "error" and (rows < 0).any():
            names = keys.take(np.flatnonzero(rows < 0)[:3]).to_ids()
            raise KeyError(
                f"{int((rows < 0).sum())} of {len(keys)} item ids are not in the catalogue at {self.path}, among "
                f"them {', '.join(map(repr, names))}. Add them with update, or pass missing='empty'."
            )
        return rows

    def _check_k(self, k: int | None) -> None:
        most = self.recipe.budget.get("tokens")
        if k is not None and (k < 1 or (most is not None and k > most)):
            raise ValueError(f"k must be from 1 to the {most or 'any number of'} tokens kept of an item; found {k}.")

    def _check(self, what: str, found: str, expected: str) -> None:
        if found != expected:
            raise ValueError(
                f"{self.path} was built with another {what} (fingerprint {expected}, found {found}). Give the one it "
                f"was built with, or build the catalogue anew with this one: overwrite=True."
            )

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "snapshot": self.snapshot, "tokenizer": self.tokenizer, "report": self.report}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.path, self.tokenizer, self.report = state["path"], state["tokenizer"], state["report"]
        self._snapshot = Snapshot(self.path, read_manifest(self.path, state["snapshot"]))


def make_recipe(
    tokenizer: Any,
    selector: Any,
    budget: Budget,
    fields: Sequence[str],
    max_tokens: int | None,
    id_type: str,
) -> Recipe:
    """The recipe of a build, checked.

    Raises
    ------
    ValueError
        If the budget is a total, the selector has no fingerprint or is bound to another tokenizer, or
        ``max_tokens`` is below 1.
    """
    if budget.total is not None:
        raise ValueError(
            "a total is shared by the items of a user's history, and a catalogue's items have no user; give "
            "Budget(tokens=…) or Budget(keep_ratio=…)."
        )
    if max_tokens is not None and max_tokens < 1:
        raise ValueError(f"max_tokens must be at least 1; found {max_tokens}.")
    if isinstance(fields, str):
        raise ValueError(f"fields must be a list of names; found {fields!r}.")
    fingerprint = tokenizer_fingerprint(tokenizer)
    bound = getattr(getattr(selector, "vocabulary", None), "fingerprint", fingerprint)
    if bound != fingerprint:
        raise ValueError(
            f"the selector is bound to another tokenizer (fingerprint {bound}, found {fingerprint}); "
            "bind it to this one: selector.for_tokenizer(tokenizer)."
        )
    size = max(tokenizer.get_vocab().values(), default=-1) + 1
    return Recipe(fingerprint, _fingerprint(selector), size, budget_fields(budget), tuple(fields), id_type, max_tokens)


def _fingerprint(selector: Any) -> str:
    found = getattr(selector, "fingerprint", None)
    if not isinstance(found, str):
        raise ValueError(
            f"{type(selector).__name__} has no fingerprint, and a store must know what chose its tokens; derive it "
            "from tsporec.scorers.BaseScorer."
        )
    return found
