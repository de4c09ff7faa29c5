"""``tsporec doctor``: what is installed, what would be used, and why."""

from __future__ import annotations

import importlib.metadata as metadata
import os
import re
from importlib.util import find_spec

import typer

from tsporec._internal.extras import install_line

_HUB = ("HF_HUB_OFFLINE", "HF_HOME", "HF_ENDPOINT")


def doctor() -> None:
    """Print what is installed, what the commands would use, and how to install what is missing."""
    import torch

    from tsporec._version import __version__
    from tsporec.evaluation.results_file import environment

    found = environment(seed=0)
    hardware, versions = found["hardware"], found["versions"]
    typer.echo(f"tsporec {__version__} ({found['commit']})")
    typer.echo(", ".join(f"{name} {version}" for name, version in versions.items() if name != "tsporec"))
    typer.echo(f"{hardware['cpu']}: {hardware['cores']} cores, {hardware['threads']} threads")
    typer.echo(f"GPU: {hardware['gpu'] or 'none'}\n")
    for extra, missing in _extras().items():
        typer.echo(f"extra {extra}: " + (f"no {', '.join(missing)}; {install_line(extra)}" if missing else "yes"))
    typer.echo("")
    gpu = torch.cuda.is_available()
    typer.echo(f"models run on cpu; --device cuda runs them on the GPU{'' if gpu else ', but torch finds none'}")
    if gpu and find_spec("cuda") is not None:
        typer.echo("top-k of GPU tensors: the CUDA kernel")
    else:
        reason = "cuda-core is not installed" if gpu else "there is no GPU"
        typer.echo(f"top-k: numpy on the CPU; no CUDA kernel, because {reason}")
    settings = [f"{name}={os.environ[name]}" for name in _HUB if name in os.environ]
    typer.echo(f"models and selectors: folders, then the Hub ({', '.join(settings) or 'as huggingface_hub is set'})")
    typer.echo("selector without --selector: tsporec/base, bundled, with the word frequencies of --items")


def _extras() -> dict[str, list[str]]:
    """Return the packages of each extra that are not installed; the extras of developers are left out."""
    extras: dict[str, list[str]] = {}
    for requirement in metadata.requires("tsporec") or ():
        found = re.fullmatch(r"""([\w.-]+).*;.*extra == ['"]([\w-]+)['"]""", requirement)
        if found and found[2] not in ("dev", "docs"):
            missing = extras.setdefault(found[2], [])
            try:
                metadata.version(found[1])
            except metadata.PackageNotFoundError:
                missing.append(found[1])
    return extras
