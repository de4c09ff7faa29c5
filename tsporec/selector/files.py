"""A selector in a folder: JSON for the config, safetensors for the weights, Markdown for the card.

No pickle is ever read and no code of a folder is ever run. Files are read by their names, whatever else is there.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tsporec._internal.files import remove_leftovers, write_together
from tsporec.selector.card import PLACEHOLDER, find_name, model_card
from tsporec.selector.config import NETWORK, SavedSelector, SelectorConfig
from tsporec.selector.item_weights import ItemWeights

CONFIG, WEIGHTS, ITEM_WEIGHTS, CARD = "config.json", "model.safetensors", "item_weights.safetensors", "README.md"

_MOST = 2**27  # weights of a network that are made where none are saved: a config alone must not fill the memory


def save(
    folder: Path,
    config: SelectorConfig,
    weights: dict[str, Tensor],
    item_weights: ItemWeights | None = None,
    card: str | None = None,
) -> SavedSelector:
    """Write a selector to ``folder``, over an older one.

    A selector whose network gives 0 is a rule, and is saved without the network's weights. A disk that fills up leaves
    the folder as it was. The config is renamed last and has the checksums of the weights: if a save over an older
    selector is killed between two renames, the folder is refused when it is read. The files are never mixed.

    Parameters
    ----------
    folder : Path
        Made if it does not exist.
    config : SelectorConfig
    weights : dict
        The tensors that ``config.shapes()`` names.
    item_weights : ItemWeights, optional
        Default: none; those of an older selector are deleted.
    card : str, optional
        The model card. Default: one is made, unless the folder has a card that somebody has edited.
    """
    from safetensors.torch import save as to_bytes

    has_network = bool(weights["network.out.weight"].any())
    kept = {name: part for name, part in weights.items() if has_network or not name.startswith(NETWORK)}
    parts = {folder / WEIGHTS: to_bytes({name: part.detach().cpu().contiguous() for name, part in kept.items()})}
    items = None
    if item_weights is not None:
        data = to_bytes({name: part.cpu() for name, part in item_weights.state_dict().items()})
        parts[folder / ITEM_WEIGHTS] = data
        items = {"sha256": _sha256(data), "items": len(item_weights)}
    saved = SavedSelector(config, _sha256(parts[folder / WEIGHTS]), has_network, items)
    if card is None:
        try:
            before = [read_config(folder / CONFIG)]
        except ValueError:  # none, or a damaged one, which this replaces
            before = []
        card = renewed_card(folder, saved, *before)
    cards = {} if card is None else {folder / CARD: card.encode()}
    write_together({**parts, **cards, folder / CONFIG: saved.to_json()})
    if item_weights is None:
        (folder / ITEM_WEIGHTS).unlink(missing_ok=True)
    for name in (CONFIG, WEIGHTS, ITEM_WEIGHTS, CARD):
        remove_leftovers(folder / name)
    return saved


def load(find: Callable[[str], Path]) -> tuple[SavedSelector, dict[str, Tensor], ItemWeights | None]:
    """Read and check a saved selector: what its config says, its weights, its item weights.

    Parameters
    ----------
    find : callable
        File name -> path. It is asked for the config first, and then only for the files that the config names.

    Raises
    ------
    ValueError
        If a file is missing, is not what it should be, has another checksum or a newer format, or if the weights do
        not fit the config. Nothing of the size that the config names is allocated before that is known.
    """
    saved = read_config(find(CONFIG))
    path = find(WEIGHTS)
    weights = _read_tensors(path, saved.weights_sha256)
    network = {name: shape for name, shape in saved.config.shapes().items() if name.startswith(NETWORK)}
    unsaved = {} if saved.has_network else network
    _check_weights({k: v for k, v in saved.config.shapes().items() if k not in unsaved}, weights, path)
    weights |= _untrained(unsaved, path)
    items = None
    if (known := saved.item_weights) is not None:
        path = find(ITEM_WEIGHTS)
        tensors = _read_tensors(path, known["sha256"])
        try:
            items = ItemWeights(tensors)
        except ValueError as error:
            raise ValueError(f"{path} does not hold item weights: {error}") from error
    return saved, weights, items


def read_config(path: Path) -> SavedSelector:
    """Read a config.json; a ValueError names the path and says what is wrong with it."""
    data = _present(path).read_bytes()
    try:
        return SavedSelector.from_json(data)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def describe(folder: str | Path, training: dict[str, Any]) -> bool:
    """Add facts about the training to a saved selector, and make its card anew. The weights stay.

    Parameters
    ----------
    folder : path
        A folder that :func:`save` wrote.
    training : dict
        Keys of :data:`tsporec.selector.card.TRAINING`.

    Returns
    -------
    bool
        Whether the card was made. A card that somebody has edited is kept.
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
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else None


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
        raise ValueError(
            f"{path.parent} has no {path.name}; expected the files that TokenSelector.save_pretrained writes, "
            f"{CONFIG} and {WEIGHTS} among them."
        )
    return path


def _read_tensors(path: Path, sha256: str) -> dict[str, Tensor]:
    from safetensors.torch import load as from_bytes

    data = _present(path).read_bytes()
    if (found := _sha256(data)) != sha256:
        raise ValueError(
            f"{path} has sha256 {found}, but its config says {sha256}; it is damaged or of another save. Save it "
            "again, or fetch it again from the Hub with force_download=True."
        )
    try:
        return from_bytes(data)
    except Exception as error:
        raise ValueError(f"{path} is not a safetensors file ({error}); pickled weights are refused.") from error


def _check_weights(shapes: dict[str, tuple[int, ...]], weights: dict[str, Tensor], path: Path) -> None:
    """Refuse a missing, unexpected or misshapen tensor, or one that holds no floats, with a ValueError."""
    wrong = [f"missing {name}" for name in sorted(shapes.keys() - weights.keys())]
    wrong += [f"unexpected {name}" for name in sorted(weights.keys() - shapes.keys())]
    for name in sorted(shapes.keys() & weights.keys()):
        found, shape = weights[name], list(shapes[name])
        if list(found.shape) != shape or not found.is_floating_point():
            wrong.append(f"{name} is {list(found.shape)} of {found.dtype}, expected {shape} of floats")
    if wrong:
        raise ValueError(f"{path}: the weights do not fit the config: {'; '.join(wrong)}.")


def _untrained(shapes: dict[str, tuple[int, ...]], path: Path) -> dict[str, Tensor]:
    """Make the weights that a rule is saved without, spread as torch spreads new ones: the same at every load."""
    if sum(map(math.prod, shapes.values())) > _MOST:
        raise ValueError(f"{path}: its config asks for a network of more than {_MOST} weights; it is damaged.")
    rng, found = np.random.default_rng(0), {}
    for name, shape in shapes.items():
        zero = name == NETWORK + "out.weight" or len(shape) == 1
        scale = 0.0 if zero else 0.5 if name == NETWORK + "grams.weight" else (3 * shape[-1]) ** -0.5
        found[name] = torch.from_numpy((scale * rng.standard_normal(shape)).astype(np.float32))
    return found
