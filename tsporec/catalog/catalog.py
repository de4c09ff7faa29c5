"""``ItemCatalog``: item ids in, kept tokens out, from an LMDB environment on the local disk."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tsporec._internal.digest import fingerprint_of
from tsporec._internal.types import expect, is_whole
from tsporec.budget import Budget
from tsporec.catalog.changes import Build, Update, files_of
from tsporec.catalog.compress import Compressor, load_selector, make_compressor
from tsporec.catalog.integrity import DATA, check_pages, damage_named, damaged
from tsporec.catalog.records import ItemId, Recipe, decode_ids, decode_records, encode_ids, is_intact, type_of_ids
from tsporec.catalog.sources import Items, check_again, read_chunks
from tsporec.catalog.store import State, View, open_store, writer_lock
from tsporec.catalog.writer import BuildReport, Work, Writer, same_texts
from tsporec.data.items import FIELDS
from tsporec.selector.model import TokenSelector
from tsporec.selector.resolve import bound_selector
from tsporec.tokens.fingerprint import tokenizer_fingerprint
from tsporec.tokens.ragged import RaggedTokens


class ItemCatalog:
    """A read-only view of a catalogue. Nothing is loaded until it is looked up.

    :meth:`build` and :meth:`open` make it. It shows the state that it opened, also while others update the catalogue.
    Threads may share it. It pickles. A copy in another process shows the newest state when it is first used there, and
    so does a forked child. ``report`` counts the build or update that made it.

    Examples
    --------
    >>> import tempfile
    >>> from tsporec.data.synthetic import word_tokenizer
    >>> tokenizer, items = word_tokenizer("blue gel pen".split()), [{"id": "B01", "title": "blue gel pen"}]
    >>> path = tempfile.mkdtemp() + "/catalog"
    >>> catalog = ItemCatalog.build(items, tokenizer=tokenizer, budget=2, path=path)
    >>> catalog.lookup(["B01"]).lengths.tolist(), catalog.recipe.frequencies
    ([2], 'counted from 1 texts')
    """

    def __init__(self, path: str | Path, tokenizer: Any = None, report: BuildReport | None = None) -> None:
        self.path, self.tokenizer, self.report = Path(path), tokenizer, report
        self._view = View(open_store(self.path))
        self._loaded: tuple[State | None, TokenSelector | None] = (None, None)
        if tokenizer is not None:
            self._check("tokenizer", tokenizer_fingerprint(tokenizer), self.recipe.tokenizer)

    @classmethod
    def build(
        cls,
        items: Items,
        *,
        tokenizer: Any,
        selector: Any = None,
        budget: Budget | int,
        path: str | Path,
        fields: Sequence[str] = FIELDS,
        id_field: str | None = None,
        granularity: str = "token",
        keep: Sequence[str] = (),
        resume: bool = True,
        overwrite: bool = False,
        **work: Any,
    ) -> ItemCatalog:
        """Compress the text of every item into a new catalogue. Its ``report`` counts the work.

        Parameters
        ----------
        items : iterable of Item, mapping or Chunk; or path
            See :func:`~tsporec.catalog.sources.read_chunks`. Ids are all integers or all strings of at most 510 bytes.
        tokenizer : a Hugging Face tokenizer
        selector : Scorer, or str or path, optional
            A scorer, which is bound to ``tokenizer`` and used as it is; or a name, folder or Hub id. Default: the
            bundled selector, fitted to ``items``. They are then read twice: first all words are counted.
        budget : Budget or int
            Number of tokens kept of each item, or a ratio. A ``total`` belongs to a user's history and is refused.
        path : path
            A folder on a local disk. It is made if it is missing.
        fields : list of str
            Text fields to join. Default: title and description.
        id_field : str, optional
            Name of the column of ids. Default: ``item_id`` or ``id``.
        granularity : "token" or "word"
            Keep exactly the best tokens (default), or whole words that are no more than the budget. Special tokens that
            are written in a text are always kept.
        keep : list of str
            Patterns of what is kept first, within the budget; see :class:`~tsporec.scorers.patterns.Keeping`.
        resume : bool
            Go on with a build that was cut off (default), or drop it.
        overwrite : bool
            Replace a catalogue that is there. Default False. Readers keep the old one until they open it again.
        **work
            How the work is done; see :class:`~tsporec.catalog.writer.Work`.

        Raises
        ------
        ValueError
            If an id is missing, repeated or of another kind than the first; a catalogue, an unfinished build of
            something else or another writer is there; no item has a token; or ``items`` can be read only once, as a
            generator, and no selector is given.
        OSError
            If a file cannot be written. The same call goes on from what was committed.
        """
        how = Work.of(work)
        if selector is None:
            check_again(items)
        read = partial(read_chunks, items, fields, id_field, how.chunk_items)
        chunks = read()
        first = next(chunks, None)
        if first is None:
            raise ValueError(f"there are no items to build a catalogue of; found {items!s:.80}.")
        compressor = make_compressor(tokenizer, selector, budget, type_of_ids(first.ids), fields, granularity, keep)
        chunks = chain([first], chunks)
        counts = None if selector is not None else how.map(compressor.count, read())
        with writer_lock(path):
            store = open_store(path, create=True)
            table = Build(store, resume=resume, overwrite=overwrite)
            compressor = table.start(compressor, counts)
            with Writer(store, table, how) as writer:
                todo = writer.changed(chunks) if table.resumed else chunks
                writer.fill(how.map(compressor, todo))
        return cls(path, tokenizer, writer.report)

    @classmethod
    def open(
        cls, path: str | Path, *, tokenizer: Any = None, selector: Any = None, verify: bool = False
    ) -> ItemCatalog:
        """Open a catalogue; a ``ValueError`` if there is none, or it is unfinished or damaged.

        A tokenizer or selector is refused unless it is the one that the catalogue was built with. ``verify=True``
        checks the whole file before LMDB reads it, then every record. LMDB trusts its file, so verify one that comes
        from elsewhere.
        """
        expect("path", path, str | Path, "a text or a Path, such as 'catalog/'")
        if verify and (Path(path) / DATA).is_file():
            check_pages(Path(path))
        catalog = cls(path, tokenizer)
        if verify:
            catalog.verify()
        if selector is not None:
            catalog._check("selector", fingerprint_of(bound_selector(selector, tokenizer)), catalog.recipe.selector)
        return catalog

    def update(
        self,
        items: Items = (),
        *,
        delete: Sequence[ItemId] = (),
        tokenizer: Any,
        selector: Any = None,
        id_field: str | None = None,
        **work: Any,
    ) -> ItemCatalog:
        """Add new items, replace those whose text has changed, delete some; all in one transaction.

        Items with the stored text are skipped. This view stays as it is; one of the new state is returned. Default of
        ``selector``: the one in the catalogue, with the word frequencies that were counted for the build. Another
        tokenizer or selector, an id to delete that is not there, or an id that comes twice is a ``ValueError``. The
        budget, the fields and what is kept first stay those of the build.
        """
        mine, how = self.recipe, Work.of(work)
        if selector is None and (selector := self.selector) is None:
            raise ValueError(f"the build of {self.path} was given a selector; give the same one: selector=….")
        compressor = Compressor(tokenizer, None, replace(mine, tokenizer=tokenizer_fingerprint(tokenizer)))
        compressor = compressor.with_selector(bound_selector(selector, tokenizer))
        with writer_lock(self.path):
            store = open_store(self.path)
            with Writer(store, Update(store, compressor.recipe, delete), how) as writer:
                todo = writer.changed(read_chunks(items, mine.fields, id_field, how.chunk_items))
                writer.fill(how.map(compressor, todo))
        return type(self)(self.path, tokenizer, writer.report)

    @property
    def recipe(self) -> Recipe:
        """The fingerprints, the budget and the fields that it was built with."""
        return self._view.state.recipe

    @property
    def selector(self) -> TokenSelector | None:
        """The selector that the build fitted to the items, unbound; None if it was given one.

        It gives other texts the same frequencies: in a collator, or for a new item (``selector.compress_text``). It is
        loaded once; to fit it to other texts, copy it first (``copy.deepcopy``).
        """
        return self._view.read(self._load_selector)

    def _load_selector(self, txn: Any) -> TokenSelector | None:
        state = self._view.state
        if self._loaded[0] is not state:
            with damage_named(self.path):
                self._loaded = state, load_selector(files_of(txn, state))
        return self._loaded[1]

    def __len__(self) -> int:
        return self._view.read(lambda _: self._view.state.count)

    def __contains__(self, item_id: object) -> bool:
        kind = str if self.recipe.id_type == "str" else (int, np.integer)
        return isinstance(item_id, kind) and bool(self._view.get(encode_ids([item_id], self.recipe.id_type))[0])

    def __iter__(self) -> Iterator[Any]:
        """Yield every id in ascending order; strings by their UTF-8 bytes."""
        for part in self._view.scan():
            with damage_named(self.path):
                ids = decode_ids([key for key, _ in part], self.recipe.id_type)
            yield from ids

    def __getitem__(self, item_id: ItemId) -> NDArray[np.int32]:
        """Return the kept token ids of one item in text order: int32 ``[k]``."""
        return self.lookup([item_id]).ids

    def lookup(self, ids: Any, k: int | None = None, *, missing: str = "error") -> RaggedTokens:
        """Return the kept tokens of a batch of items.

        Parameters
        ----------
        ids : list of int or str, or an integer array or tensor ``[M]``
            Repeats are allowed. Ids of the wrong kind are a ``ValueError``.
        k : int, optional
            Return only the best ``k`` tokens of each, in text order: what a budget of ``k`` tokens would have kept.
        missing : str
            What to do about an id that is not in the catalogue: ``"error"`` (default) is a ``KeyError``, ``"empty"``
            gives an empty segment.

        Returns
        -------
        RaggedTokens
            Segment ``i`` is ``ids[i]``. ``.to_padded(pad_id, side)`` is the padded batch with its attention mask.
        """
        if k is not None and self.recipe.granularity == "word":
            raise ValueError(
                f"{self.path} keeps whole words, which a smaller number of tokens could split; leave out k (--budget), "
                "or build a catalogue with that budget."
            )
        most = self.recipe.budget.tokens
        if k is not None and (not is_whole(k) or k < 1 or (most is not None and k > most)):
            raise ValueError(f"k=… (--budget) must be from 1 to {most or 'any number'}, an item's tokens; found {k!r}.")
        return self._tokens(ids, k, missing)[0]

    def ranks(self, item_id: ItemId) -> NDArray[np.int32]:
        """Return the rank of each kept token of an item, 0 for the best: int32 ``[k]``."""
        return self._tokens([item_id], None, "error")[1].astype(np.int32)

    def text(self, item_id: ItemId, k: int | None = None) -> str:
        """Return the kept tokens of an item as text; a catalogue opened without its tokenizer is a ``ValueError``.

        Where a line end between two kept words was dropped, they touch: "blue" and "Brand" give "blueBrand".
        """
        if self.tokenizer is None:
            raise ValueError("text needs the tokenizer: ItemCatalog.open(path, tokenizer=…).")
        return str(self.tokenizer.decode(self.lookup([item_id], k).ids.tolist()))

    def changed(self, items: Items, *, id_field: str | None = None) -> Iterator[ItemId]:
        """Yield the ids of ``items`` that the catalogue lacks, or holds with another text."""
        for chunk in read_chunks(items, self.recipe.fields, id_field, Work.chunk_items):
            same = same_texts(self._view.get(encode_ids(chunk.ids, self.recipe.id_type)), chunk)
            yield from (chunk.ids[place] for place in np.flatnonzero(~same).tolist())

    def verify(self) -> None:
        """Check the structure of the file and the checksum of every record; a ``ValueError`` says what differs."""
        check_pages(self.path)
        self._loaded = None, None
        _ = self.selector  # loading it anew checks its weights
        count = 0
        for part in self._view.scan():
            bad = [key for key, record in part if not is_intact(key, record)]
            if bad:
                raise damaged(self.path, f"the checksum of the record of {bad[0]!r} differs")
            with damage_named(self.path):
                decode_records([record for _, record in part], self.recipe)
            count += len(part)
        if count != len(self):
            raise damaged(self.path, f"it holds {count} items, expected {len(self)}")

    def describe(self) -> dict[str, Any]:
        """Return counts, sizes and the recipe, for people to read."""
        report = BuildReport()
        for part in self._view.scan():
            report = report.plus([record for _, record in part], self.recipe)
        found = {"path": str(self.path), "items": report.items, "empty_items": report.empty,
                 "tokens_before": report.tokens_before, "kept_tokens": report.tokens_after}  # fmt: skip
        return {**found, "bytes": (self.path / DATA).stat().st_size, **asdict(self.recipe)}

    def _tokens(self, ids: Any, k: int | None, missing: str) -> tuple[RaggedTokens, NDArray[np.integer]]:
        if missing not in ("error", "empty"):
            raise ValueError(f"missing must be 'error' or 'empty'; found {missing!r}.")
        keys = encode_ids(ids, self.recipe.id_type)
        records = self._view.get(keys)
        if missing == "error" and not all(records):
            lacking = [key for key, record in zip(keys, records, strict=True) if not record]
            names = ", ".join(map(repr, decode_ids(lacking[:3], self.recipe.id_type)))
            raise KeyError(
                f"{len(lacking)} of {len(keys)} item ids are not in the catalogue at {self.path}, among them {names}. "
                "Add them with update, or pass missing='empty'."
            )
        with damage_named(self.path):
            return decode_records(records, self.recipe, k)

    def _check(self, what: str, found: str, expected: str) -> None:
        if found != expected:
            raise ValueError(
                f"{self.path} was built with another {what} (fingerprint {expected}, found {found}). Give the one it "
                f"was built with, or build the catalogue anew with this one: overwrite=True."
            )

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "tokenizer": self.tokenizer, "report": self.report}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _view=View(open_store(state["path"])), _loaded=(None, None))
