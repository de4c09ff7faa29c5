"""What a build did, and when it has paid for itself."""

from __future__ import annotations

from dataclasses import dataclass, replace

from tsporec.catalog.store.compress import Compressed


@dataclass(frozen=True)
class BuildReport:
    """What a build or update did.

    Parameters
    ----------
    items, empty : int
        Items compressed, and those of them that have no token.
    resumed : int
        Items that an earlier, unfinished run had compressed; they are not in ``items``.
    unchanged : int
        Items of an update whose text is what the store has; they are not in ``items``.
    tokens_before, tokens_after : int
        Of the items compressed.
    seconds : float
        From start to end, by the clock.
    tokenise_seconds, select_seconds : float
        Summed over workers: tokenising; scoring and selecting.
    """

    items: int = 0
    empty: int = 0
    resumed: int = 0
    unchanged: int = 0
    tokens_before: int = 0
    tokens_after: int = 0
    seconds: float = 0.0
    tokenise_seconds: float = 0.0
    select_seconds: float = 0.0

    def plus(self, done: Compressed) -> BuildReport:
        """With one more chunk."""
        return replace(
            self,
            items=self.items + len(done.kept),
            empty=self.empty + int((done.kept.lengths == 0).sum()),
            tokens_before=self.tokens_before + done.kept.tokens_before,
            tokens_after=self.tokens_after + len(done.kept.ids),
            tokenise_seconds=self.tokenise_seconds + done.tokenise_seconds,
            select_seconds=self.select_seconds + done.select_seconds,
        )

    @property
    def items_per_second(self) -> float:
        """Items compressed in a second of the clock."""
        return self.items / self.seconds if self.seconds else 0.0

    def break_even(self, tokens_per_second: float, items_per_request: int = 10) -> float:
        """Requests after which the recommender has saved the time that the build took.

        Parameters
        ----------
        tokens_per_second : float
            Text tokens the recommender reads in a second. Its time is taken to grow with the tokens, which leaves out
            attention's growth with their square: the true number is lower.
        items_per_request : int
            Items whose texts a request reads: the history, and recommendation candidates if they are read as text.

        Returns
        -------
        float
            ``inf`` if selection drops nothing.
        """
        if tokens_per_second <= 0 or items_per_request < 1:
            raise ValueError(
                "tokens_per_second must be above 0 and items_per_request at least 1; "
                f"found {tokens_per_second} and {items_per_request}."
            )
        saved = (self.tokens_before - self.tokens_after) / max(self.items, 1) * items_per_request / tokens_per_second
        return self.seconds / saved if saved > 0 else float("inf")
