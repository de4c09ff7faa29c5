"""A selector in a folder: JSON for the config, safetensors for the weights, Markdown for the card.

No pickle is ever read and no code of a folder is ever run. Files are read by their names, whatever else is there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tsporec._internal.files import leftovers, remove_leftovers, write_together
from tsporec._internal.types import expect
from tsporec.selector.card import PLACEHOLDER, find_name, model_card
from tsporec.selector.config import NETWORK, SavedSelector, SelectorConfig
from tsporec.selector.item_weights import ItemWeights
from tsporec.selector.network import SIGNALS, ScoringNetwork

CONFIG, WEIGHTS, ITEM_WEIGHTS, CARD = "config.json", "model.safetensors", "item_weights.safetensors", "README.md"
LARGEST = {CONFIG: 1 << 24, CARD: 1 << 24, WEIGHTS: 1 << 30, ITEM_WEIGHTS: 1 << 32}
"""Bytes of the largest file of each name that is read."""
PACKED = {"idf.values", "idf.others", "idf.codes"}
"""The names of the tensors that hold the packed table of document frequencies."""


def save(
    folder: str | Path,
    config: SelectorConfig,
    weights: dict[str, Tensor],
    item_weights: ItemWeights | None = None,
    card: str | None = None,
    fitted_texts: int = 0,
) -> SavedSelector:
    """Write a selector to ``folder``, over an older one.

    A selector whose network gives 0 is a rule, and is saved without the network's weights. A disk that fills up leaves
    the folder as it was. All files are written beside their places and then renamed. The config has the checksums of
    the weights and gets its name before them. So a save that is killed before that moment leaves the older selector,
    and one that is killed after it leaves the new one, which :func:`read_whole` puts together.

    ``weights`` has the tensors of a :class:`tsporec.TokenSelector`, item weights left out. Default of ``card``: one is
    made, unless the folder has a card that somebody has edited.
    """
    expect("folder", folder, str | Path, "a text or a Path, such as 'run/selector'")
    folder = Path(folder)
    saved, parts = to_bytes(config, weights, item_weights, fitted_texts)
    if card is None:
        before = []
        for path in (folder / CONFIG, *leftovers(folder / CONFIG)):  # a killed save may have left its card
            with suppress(ValueError):  # none, or a damaged one, which this replaces
                before.append(read_config(path))
        card = renewed_card(folder, saved, *before)
    cards = {} if card is None else {folder / CARD: card.encode()}
    write_together({**cards, folder / CONFIG: saved.to_json(), **{folder / name: parts[name] for name in parts}})
    if item_weights is None:
        (folder / ITEM_WEIGHTS).unlink(missing_ok=True)
    for name in (CONFIG, WEIGHTS, ITEM_WEIGHTS, CARD):
        remove_leftovers(folder / name)
    return saved


def to_bytes(
    config: SelectorConfig, weights: dict[str, Tensor], item_weights: ItemWeights | None = None, fitted_texts: int = 0
) -> tuple[SavedSelector, dict[str, bytes]]:
    """Return what :func:`save` writes: the config, and the bytes of each file of weights by its name."""
    from safetensors.torch import save

    has_network = bool(weights[NETWORK + "out.weight"].any())
    kept = {name: part.detach().cpu().contiguous() for name, part in weights.items()}
    kept = {name: part for name, part in kept.items() if has_network or not name.startswith(NETWORK)}
    kept |= _packed(kept.pop("idf"))
    parts, items = {WEIGHTS: save(kept)}, None
    if item_weights is not None:
        parts[ITEM_WEIGHTS] = save({name: part.cpu() for name, part in item_weights.state_dict().items()})
        items = {"sha256": _sha256(parts[ITEM_WEIGHTS]), "items": len(item_weights)}
    return SavedSelector(config, _sha256(parts[WEIGHTS]), has_network, items, fitted_texts), parts


def load(find: Callable[[str], Path]) -> tuple[SavedSelector, dict[str, Tensor], ItemWeights | None]:
    """Read and check a saved selector: what its config says, its weights, its item weights.

    ``find`` maps a file name to its path. It is asked for the config first, and then only for the files that the config
    names. A file that is missing, damaged, of a newer format or of another config is a ValueError. A rule has no
    weights of the network.
    """
    saved = read_config(find(CONFIG))
    try:
        return saved, *_load_weights(saved, find)
    except ValueError:
        if read_config(find(CONFIG)) == saved:
            raise
    return load(find)  # another process has saved meanwhile


def _load_weights(saved: SavedSelector, find: Callable[[str], Path]) -> tuple[dict[str, Tensor], ItemWeights | None]:
    path = find(WEIGHTS)
    weights, items = from_bytes(saved, read_whole(path, saved.weights_sha256), path), None
    if (known := saved.item_weights) is not None:
        path = find(ITEM_WEIGHTS)
        tensors = _read_tensors(read_whole(path, known["sha256"]), path)
        try:
            items = ItemWeights(tensors)
            if len(items) != known["items"]:
                raise ValueError(f"it has {len(items)} items, but its config says {known['items']}")
        except ValueError as error:
            raise ValueError(f"{path} does not hold item weights: {error}") from error
    return weights, items


def from_bytes(saved: SavedSelector, data: bytes, path: Path) -> dict[str, Tensor]:
    """Read and check the tensors of a selector, item weights left out; errors name the ``path`` of the ``data``."""
    weights = _read_tensors(data, path)
    if packed := {name: weights.pop(name) for name in PACKED & weights.keys()}:
        weights["idf"] = _unpacked(packed, saved.config.surface_buckets, path)
    _check_weights(saved, weights, path)
    return weights


def read_config(path: Path) -> SavedSelector:
    """Read a config.json; a ValueError names the path and says what is wrong with it."""
    data = _present(path).read_bytes()
    try:
        return SavedSelector.from_json(data)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def describe(folder: str | Path, training: dict[str, Any]) -> bool:
    """Add facts about the training to a selector that :func:`save` wrote, and make its card anew. The weights stay.

    The keys of ``training`` are those of :data:`tsporec.selector.card.TRAINING`. Returns whether the card was made: a
    card that somebody has edited is kept.
    """
    folder = Path(folder)
    before = read_config(folder / CONFIG)
    saved = replace(before, config=replace(before.config, training={**before.config.training, **training}))
    card = renewed_card(folder, saved, before)
    cards = {} if card is None else {folder / CARD: card.encode()}
    write_together({**cards, folder / CONFIG: saved.to_json()})
    return card is not None


def read_card(folder: Path) -> str | None:
    """Read the card in ``folder``; None if there is none."""
    path = folder / CARD
    return _present(path).read_text(encoding="utf-8", errors="replace") if path.is_file() else None


def renewed_card(folder: Path, saved: SavedSelector, *before: SavedSelector) -> str | None:
    """Make the card of ``saved`` with the name that stands on the card in ``folder``; None if that card was edited.

    A card was edited if :func:`model_card` makes another one of ``saved`` and of each selector in ``before``.
    """
    card = read_card(folder)
    if card is None:
        return model_card(saved)
    name = find_name(card) or PLACEHOLDER
    made = any(card == model_card(one, name) for one in (*before, saved))
    return model_card(saved, name) if made else None


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _present(path: Path) -> Path:
    if not path.is_file():
        inside = path.parent / "selector"  # of a folder that tsporec train wrote
        raise ValueError(
            f"{path.parent} has no {path.name}; expected the files that TokenSelector.save_pretrained writes, "
            f"{CONFIG} and {WEIGHTS} among them.{f' Give {inside}.' if (inside / CONFIG).is_file() else ''}"
        )
    return _bounded(path)


def _bounded(path: Path) -> Path:
    """Refuse a file that is larger than any that is saved under its name."""
    most = next(size for name, size in LARGEST.items() if name in path.name)  # or what a save has left of it
    if (size := path.stat().st_size) > most:
        raise ValueError(f"{path} has {size} bytes; expected at most {most}.")
    return path


def read_whole(path: Path, sha256: str) -> bytes:
    """Read the file with this checksum: ``path``, or what a save has not yet given that name. None is a ValueError."""
    found = ""
    # The path twice: a save at work may have renamed it in between. Only files: a pipe or a device has no end.
    for part in filter(Path.is_file, (path, *leftovers(path), path)):
        with suppress(FileNotFoundError):
            data = _bounded(part).read_bytes()
            if _sha256(data) == sha256:
                return data
            found = _sha256(data) if part == path else found
    _present(path)
    raise ValueError(
        f"{path} has sha256 {found}, but its config says {sha256}; it is damaged or of another save. Save it "
        "again, or fetch it again from the Hub with force_download=True."
    )


def _read_tensors(data: bytes, path: Path) -> dict[str, Tensor]:
    from safetensors.torch import load

    try:
        return load(data)
    except Exception as error:
        raise ValueError(f"{path} is not a safetensors file ({error}); pickled weights are refused.") from error


def _check_weights(saved: SavedSelector, weights: dict[str, Tensor], path: Path) -> None:
    """Refuse a missing, unexpected or misshapen tensor, or one that holds no floats, with a ValueError."""
    config = saved.config
    shapes = {"blend": [len(SIGNALS)], "idf": [config.surface_buckets]}
    if saved.has_network:
        with torch.device("meta"):
            network = ScoringNetwork(config.dim, config.hidden, config.gram_buckets)
        shapes |= {NETWORK + name: list(part.shape) for name, part in network.state_dict().items()}
    wrong = [f"missing {name}" for name in sorted(shapes.keys() - weights.keys())]
    wrong += [f"unexpected {name}" for name in sorted(weights.keys() - shapes.keys())]
    for name in sorted(shapes.keys() & weights.keys()):
        found = weights[name]
        if list(found.shape) != shapes[name] or not found.is_floating_point():
            wrong.append(f"{name} is {list(found.shape)} of {found.dtype}, expected {shapes[name]} of floats")
        elif not found.float().isfinite().all():
            wrong.append(f"{name} has values that are not finite")
    if wrong:
        raise ValueError(f"{path}: the weights do not fit the config: {'; '.join(wrong)}.")


def _packed(idf: Tensor) -> dict[str, Tensor]:
    """Pack the inverse document frequencies: there are few values, and most buckets have the one of an unknown word.

    [9, 9, 4, 9] -> values [9, 4], the commonest first; others 0b0010; the codes of the others [1]
    """
    values, codes, counts = np.unique(idf.numpy(), return_inverse=True, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    codes = np.argsort(order)[codes]
    others = codes != 0
    narrow = codes[others].astype(np.int16 if len(values) < 2**15 else np.int32)
    arrays = {"values": values[order], "others": np.packbits(others), "codes": narrow}
    return {f"idf.{name}": torch.from_numpy(array) for name, array in arrays.items()}


def _unpacked(parts: dict[str, Tensor], buckets: int, path: Path) -> Tensor:
    """Unpack :func:`_packed`: float32 ``[buckets]``."""
    try:
        values, others, codes = (parts[f"idf.{name}"].numpy() for name in ("values", "others", "codes"))
        if others.shape != (-(-buckets // 8),) or values.ndim != 1 or codes.min(initial=0) < 0:
            raise ValueError(f"it has bits {others.shape}, values {values.shape} and codes {codes.shape}")
        found = np.full(buckets, values[0], dtype=np.float32)
        found[np.unpackbits(others, count=buckets).astype(bool)] = values[codes]
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: the idf table does not fit the config of {buckets} buckets ({error}).") from error
    return torch.from_numpy(found)
