"""Progress is a bar on a terminal and lines of the logger elsewhere."""

from __future__ import annotations

import logging

from tsporec._internal import progress as module
from tsporec._internal.progress import progress


def test_a_log_has_a_line_a_minute(monkeypatch, caplog):
    minutes = iter(range(0, 1000, 25))
    monkeypatch.setattr(module.time, "monotonic", lambda: next(minutes))
    monkeypatch.setattr("sys.stderr.isatty", lambda: False, raising=False)
    caplog.set_level(logging.INFO, "tsporec")
    assert list(progress("abcdef", "encode")) == list("abcdef")
    assert "encode: 2 of 6, about 3 minutes left" in caplog.messages  # 75 seconds for two
    assert 1 <= len(caplog.messages) < 6
    caplog.clear()
    chunks = iter([["text"] * 1024] * 6)
    assert sum(map(len, progress(chunks, "compress items", len))) == 6144
    assert "compress items: 2,048" in caplog.messages


def test_a_terminal_has_a_bar(monkeypatch, capsys):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    assert list(progress(iter("abc"), "encode")) == list("abc")
    assert "encode" in capsys.readouterr().err
    assert list(progress(["abc"], "encode", len)) == ["abc"]
    assert "0/1" in capsys.readouterr().err
