"""A Hub on loopback: as much of its HTTP API as fetching and committing files asks for, with faults on demand."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

TOKEN = "hf_write"


@dataclass
class Repo:
    """Branches -> commit, and commits -> files."""

    private: bool = False
    branches: dict[str, str] = field(default_factory=lambda: {"main": "0" * 40})
    commits: dict[str, dict[str, bytes]] = field(default_factory=lambda: {"0" * 40: {}})
    messages: list[str] = field(default_factory=list)

    def commit(self, files: dict[str, bytes], branch: str = "main", message: str = "") -> str:
        whole = {**self.commits[self.branches.get(branch, self.branches["main"])], **files}
        parts = [
            f"{len(self.commits)}{branch}".encode(),
            *(v for pair in sorted(whole.items()) for v in map(_bytes, pair)),
        ]
        oid = hashlib.sha1(b"\0".join(parts)).hexdigest()
        self.commits[oid], self.branches[branch] = whole, oid
        self.messages.append(message)
        return oid


class HubServer(ThreadingHTTPServer):
    """Use it as a context manager; ``url`` is what HF_ENDPOINT takes."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.repos: dict[str, Repo] = {}
        self.lfs: dict[str, bytes] = {}
        self.cuts = 0  # so many downloads of weights break off in the middle
        self.requests: list[str] = []

    def __enter__(self) -> HubServer:
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: HubServer

    def log_message(self, *_: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self._route()

    def do_GET(self) -> None:
        self._route()

    def do_PUT(self) -> None:
        self._route()

    def do_POST(self) -> None:
        self._route()

    def _route(self) -> None:
        split = urlsplit(self.path)
        self.query, self.body = parse_qs(split.query), self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.requests.append(f"{self.command} {unquote(split.path)}")
        for pattern, method in _ROUTES:
            found = re.fullmatch(pattern, f"{self.command} {split.path}")
            if found:
                return method(self, *map(unquote, found.groups()))
        return self._json({"error": f"no such route: {self.command} {self.path}"}, 404)

    def _json(self, value: Any, status: int = 200, **headers: str) -> None:
        self._send(json.dumps(value).encode(), status, **headers)

    def _send(self, data: bytes, status: int = 200, cut: bool = False, **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data[: len(data) // 2] if cut else data)
        if cut:
            self.close_connection = True

    def _writes(self) -> bool:
        if self.headers.get("Authorization") == f"Bearer {TOKEN}":
            return True
        self._json({"error": "Invalid credentials"}, 401)
        return False

    # -- fetching

    def resolve(self, name: str, revision: str, path: str) -> None:
        repo = self.server.repos.get(name)
        if repo is None or (repo.private and self.headers.get("Authorization") != f"Bearer {TOKEN}"):
            return self._json({"error": "Repository not found"}, 401 if repo else 404, X_Error_Code="RepoNotFound")
        oid = repo.branches.get(revision, revision)
        if oid not in repo.commits:
            return self._json({"error": "Invalid rev id"}, 404, X_Error_Code="RevisionNotFound")
        data = repo.commits[oid].get(path)
        if data is None:
            return self._json({"error": "Entry not found"}, 404, X_Error_Code="EntryNotFound", X_Repo_Commit=oid)
        headers = {"X_Repo_Commit": oid, "ETag": f'"{hashlib.sha256(data).hexdigest()}"'}
        cut = self.command == "GET" and path.endswith(".safetensors") and self.server.cuts > 0
        self.server.cuts -= cut
        return self._send(data, cut=cut, **headers)

    # -- committing

    def create(self) -> None:
        if self._writes():
            asked = json.loads(self.body)
            name = "/".join(part for part in (asked.get("organization"), asked["name"]) if part)
            name = name if "/" in name else f"me/{name}"
            status = 409 if name in self.server.repos else 200
            self.server.repos.setdefault(
                name, Repo(asked.get("private") is True or asked.get("visibility") == "private")
            )
            self._json({"url": f"{self.server.url}/{name}"}, status)

    def branch(self, name: str, branch: str) -> None:
        if self._writes():
            repo = self.server.repos[name]
            status = 400 if branch.startswith("refs/") else 409 if branch in repo.branches else 201
            if status == 201:
                repo.branches[branch] = repo.branches["main"]
            self._json({}, status)

    def validate(self) -> None:
        self._json({"errors": [], "warnings": []})

    def preupload(self, name: str, revision: str) -> None:
        if self._writes():
            modes = [
                {"path": f["path"], "shouldIgnore": False,
                 "uploadMode": "lfs" if f["path"].endswith(".safetensors") else "regular"}
                for f in json.loads(self.body)["files"]
            ]  # fmt: skip
            self._json({"files": modes})

    def batch(self, name: str) -> None:
        if self._writes():
            objects = [
                {**wanted, "actions": {"upload": {"href": f"{self.server.url}/lfs/{wanted['oid']}"}}}
                for wanted in json.loads(self.body)["objects"]
            ]
            self._json({"transfer": "basic", "objects": objects})

    def upload(self, oid: str) -> None:
        self.server.lfs[oid] = self.body
        self._json({}, 200 if hashlib.sha256(self.body).hexdigest() == oid else 400)

    def commit(self, name: str, revision: str) -> None:
        if not self._writes():
            return
        files, message = {}, ""
        for line in map(json.loads, self.body.splitlines()):
            value = line["value"]
            if line["key"] == "header":
                message = value["summary"]
            elif line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            else:
                files[value["path"]] = self.server.lfs[value["oid"]]
        pull = "create_pr" in self.query
        oid = self.server.repos[name].commit(files, "refs/pr/1" if pull else revision, message)
        url = f"{self.server.url}/{name}"
        self._json({
            "commitUrl": f"{url}/commit/{oid}", "commitOid": oid,
            "pullRequestUrl": f"{url}/discussions/1" if pull else None,
        })  # fmt: skip


_NAME = r"([^/]+/[^/]+?)"
_ROUTES = [
    (rf"(?:GET|HEAD) /{_NAME}/resolve/([^/]+)/(.+)", _Handler.resolve),
    (r"POST /api/repos/create", _Handler.create),
    (r"POST /api/validate-yaml", _Handler.validate),
    (rf"POST /api/models/{_NAME}/branch/([^/]+)", _Handler.branch),
    (rf"POST /api/models/{_NAME}/preupload/([^/]+)", _Handler.preupload),
    (rf"POST /{_NAME}\.git/info/lfs/objects/batch", _Handler.batch),
    (r"PUT /lfs/(\w+)", _Handler.upload),
    (rf"POST /api/models/{_NAME}/commit/([^/]+)", _Handler.commit),
]


def _bytes(value: str | bytes) -> bytes:
    return value.encode() if isinstance(value, str) else value
