"""A Hub on loopback for the real huggingface_hub client: it answers the calls it knows in the real API's shapes.

    with HubStandIn() as hub:
        HF_ENDPOINT=hub.endpoint HF_TOKEN=hub.token HF_HUB_DISABLE_XET=1 python ...

Every other call is answered with 501 and recorded in `refused`. Repositories, private ones included, are there for
`token` alone. While `outage` is "503" or "down" nothing else is answered; "down" closes the connection.
"""

import base64
import hashlib
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock, Thread
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

LFS_SUFFIXES = (".safetensors", ".parquet", ".pt", ".pth", ".bin", ".arrow")


@dataclass
class Repository:
    """A git repository as far as its API shows: commits are {path: content}, refs name them."""

    repo_id: str
    kind: str
    private: bool
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)

    def find(self, revision: str) -> str | None:
        """The commit that a branch, a tag or its own hash names."""
        commit = self.branches.get(revision) or self.tags.get(revision) or revision
        return commit if commit in self.commits else None

    def commit(self, branch: str, files: dict[str, bytes], message: str) -> str:
        name = hashlib.sha1(f"{self.repo_id}{len(self.commits)}{message}".encode()).hexdigest()
        self.commits[name] = files
        self.branches[branch] = name
        self.messages.append(message)
        return name

    @property
    def files(self) -> dict[str, bytes]:
        """What stands on main, without the .gitattributes that every repository begins with."""
        return {path: text for path, text in self.commits[self.branches["main"]].items() if path != ".gitattributes"}


class HubStandIn:
    """The server. `repositories` and `refused` are for tests to read, `outage` to set."""

    token = "hf_" + "StandInTokenOfNobody"
    user = "ada"

    def __init__(self):
        self.repositories: dict[tuple[str, str], Repository] = {}
        self.blobs: dict[str, bytes] = {}
        self.calls: list[str] = []
        self.refused: list[str] = []
        self.outage: str | None = None
        self.fail_when: Callable[[str], bool] = lambda call: False  # calls to answer with 503
        self.lock = Lock()
        handler = type("Handler", (_Handler,), {"hub": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> "HubStandIn":
        Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def environment(self, home: object) -> dict[str, str]:
        """What a process needs to take this for the Hub. `home` is its cache folder."""
        return {
            "HF_ENDPOINT": self.endpoint,
            "HF_HUB_OFFLINE": "0",  # whoever runs the tests may be offline; this Hub is here
            "HF_DATASETS_OFFLINE": "0",
            "HF_TOKEN": self.token,
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HOME": str(home),
            "NO_PROXY": "127.0.0.1",
        }

    def model(self, name: str) -> Repository:
        return self.repositories["model", f"{self.user}/{name}"]

    def dataset(self, name: str) -> Repository:
        return self.repositories["dataset", f"{self.user}/{name}"]


class _Handler(BaseHTTPRequestHandler):
    hub: HubStandIn
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: object) -> None:
        pass

    def _dispatch(self) -> None:
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = unquote(urlsplit(self.path).path)
        call = f"{self.command} {path}"
        self.hub.calls.append(call)
        if self.hub.outage == "down":
            self.close_connection = True
            return
        if self.hub.outage == "503" or self.hub.fail_when(call):
            return self._json(503, {"error": "Service Unavailable"})
        with self.hub.lock:
            for pattern, answer in ROUTES:
                if match := re.fullmatch(pattern, call):
                    return answer(self, **match.groupdict())
        self.hub.refused.append(call)
        self._json(501, {"error": f"the stand-in does not know {call}"})

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_PATCH = _dispatch

    # ---- answers

    def _send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _json(self, status: int, content: object, **headers: str) -> None:
        self._send(status, json.dumps(content).encode(), {"Content-Type": "application/json", **headers})

    def _error(self, status: int, code: str) -> None:
        self._send(status, b"", {"X-Error-Code": code, "X-Error-Message": code})

    def _is_known(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {self.hub.token}"

    def _find(self, kind: str, repo_id: str, revision: str | None = None) -> tuple[Repository, str] | None:
        """The repository and a commit of it, or None after the answer that it is not there."""
        repository = self.hub.repositories.get((kind, repo_id))
        if repository is None or (repository.private and not self._is_known()):
            self._error(401 if not self._is_known() else 404, "RepoNotFound")
            return None
        commit = repository.find(revision or "main")
        if commit is None:
            self._error(404, "RevisionNotFound")
            return None
        return repository, commit

    # ---- calls

    def whoami(self) -> None:
        if not self._is_known():
            return self._json(401, {"error": "Invalid credentials in Authorization header"})
        access = {"type": "access_token", "accessToken": {"displayName": "stand-in", "role": "write"}}
        self._json(200, {"type": "user", "id": "1", "name": self.hub.user, "orgs": [], "auth": access})

    def create(self) -> None:
        if not self._is_known():
            return self._json(401, {"error": "Invalid credentials in Authorization header"})
        asked = json.loads(self.body)
        kind = asked.get("type", "model")
        repo_id = f"{asked.get('organization') or self.hub.user}/{asked['name']}"
        url = f"{self.hub.endpoint}/{'datasets/' if kind == 'dataset' else ''}{repo_id}"
        if (kind, repo_id) in self.hub.repositories:
            return self._json(409, {"error": f"You already created this {kind} repo", "url": url})
        private = asked.get("visibility") == "private" or asked.get("private") is True
        repository = self.hub.repositories[kind, repo_id] = Repository(repo_id, kind, private)
        repository.commit("main", {".gitattributes": b"*.safetensors filter=lfs\n"}, "initial commit")
        self._json(200, {"url": url, "name": repo_id, "id": "1"})

    def validate_yaml(self) -> None:
        self._json(200, {"errors": [], "warnings": []})

    def preupload(self, kind: str, repo: str, revision: str) -> None:
        if found := self._find(kind, repo, revision):
            files = [
                {
                    "path": file["path"],
                    "uploadMode": "lfs" if file["path"].endswith(LFS_SUFFIXES) else "regular",
                    "shouldIgnore": False,
                    "oid": _oid(found[0].commits[found[1]].get(file["path"])),
                }
                for file in json.loads(self.body)["files"]
            ]
            self._json(200, {"files": files, "commitOid": found[1]})

    def lfs_batch(self, prefix: str | None, repo: str) -> None:
        if not self._find("dataset" if prefix else "model", repo):
            return
        objects = []
        for wanted in json.loads(self.body)["objects"]:
            entry = {"oid": wanted["oid"], "size": wanted["size"]}
            if wanted["oid"] not in self.hub.blobs:
                href = f"{self.hub.endpoint}/lfs/{wanted['oid']}"
                entry["actions"] = {"upload": {"href": href, "header": {}}}
            objects.append(entry)
        self._json(200, {"transfer": "basic", "objects": objects})

    def lfs_put(self, oid: str) -> None:
        if hashlib.sha256(self.body).hexdigest() != oid:
            return self._json(400, {"error": "sha256 mismatch"})
        self.hub.blobs[oid] = self.body
        self._json(200, {})

    def commit(self, kind: str, repo: str, revision: str) -> None:
        found = self._find(kind, repo, revision)
        if not found:
            return
        repository, parent = found
        files = dict(repository.commits[parent])
        message = ""
        for line in self.body.splitlines():
            item = json.loads(line)
            value = item["value"]
            if item["key"] == "header":
                message = value["summary"]
            elif item["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif item["key"] == "lfsFile":
                if value["oid"] not in self.hub.blobs:
                    return self._json(400, {"error": f"LFS object {value['oid']} was not uploaded"})
                files[value["path"]] = self.hub.blobs[value["oid"]]
            else:
                self.hub.refused.append(f"commit operation {item['key']}")
                return self._json(501, {"error": f"the stand-in does not know {item['key']}"})
        name = repository.commit(revision, files, message)
        url = f"{self.hub.endpoint}/{repo}/commit/{name}"
        self._json(200, {"success": True, "commitOid": name, "commitUrl": url, "hookOutput": ""})

    def tag(self, kind: str, repo: str, revision: str) -> None:
        if found := self._find(kind, repo, revision):
            name = json.loads(self.body)["tag"]
            if name in found[0].tags:
                return self._json(409, {"error": "Tag reference exists already"})
            found[0].tags[name] = found[1]
            self._json(200, {})

    def branch(self, kind: str, repo: str, name: str) -> None:
        if found := self._find(kind, repo):
            if name in found[0].branches:
                return self._json(409, {"error": "Reference already exists"})
            found[0].branches[name] = found[1]
            self._json(200, {})

    def info(self, kind: str, repo: str, revision: str | None = None) -> None:
        if found := self._find(kind, repo, revision):
            repository, commit = found
            siblings = [{"rfilename": path} for path in repository.commits[commit]]
            facts = {"_id": "1", "id": repo, "author": self.hub.user, "sha": commit, "private": repository.private}
            facts |= {"gated": False, "disabled": False, "downloads": 0, "likes": 0, "tags": [], "siblings": siblings}
            self._json(200, facts | {"modelId": repo} if kind == "model" else facts)

    def tree(self, kind: str, repo: str, revision: str, folder: str | None = None) -> None:
        if found := self._find(kind, repo, revision):
            folder = (folder or "").strip("/")
            prefix = f"{folder}/" if folder else ""
            recursive = parse_qs(urlsplit(self.path).query).get("recursive", ["false"])[0].lower() == "true"
            below = {path: text for path, text in found[0].commits[found[1]].items() if path.startswith(prefix)}
            if prefix and not below:
                return self._error(404, "EntryNotFound")
            names = {path.removeprefix(prefix) for path in below}
            folders = {prefix + name.split("/")[0] for name in names if "/" in name}
            entries = [{"type": "directory", "path": path, "oid": "0" * 40, "size": 0} for path in sorted(folders)]
            entries += [
                _entry(path, text) for path, text in below.items() if recursive or "/" not in path.removeprefix(prefix)
            ]
            self._json(200, entries)

    def paths_info(self, kind: str, repo: str, revision: str) -> None:
        if found := self._find(kind, repo, revision):
            asked = parse_qs(self.body.decode())["paths"] if b"paths=" in self.body else json.loads(self.body)["paths"]
            files = found[0].commits[found[1]]
            self._json(200, [_entry(path, files[path]) for path in asked if path in files])

    def resolve(self, prefix: str | None, repo: str, revision: str, path: str) -> None:
        found = self._find("dataset" if prefix else "model", repo, revision)
        if not found:
            return
        content = found[0].commits[found[1]].get(path)
        if content is None:
            headers = {"X-Error-Code": "EntryNotFound", "X-Error-Message": "EntryNotFound", "X-Repo-Commit": found[1]}
            return self._send(404, b"", headers)
        headers = {"X-Repo-Commit": found[1], "ETag": f'"{_oid(content)}"', "Accept-Ranges": "bytes"}
        part = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        if part:
            first, last = int(part[1]), int(part[2] or len(content) - 1)
            headers["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
            return self._send(206, content[first : last + 1], headers)
        self._send(200, content, headers)


def _oid(content: bytes | None) -> str | None:
    """git's own hash of a file."""
    return None if content is None else hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _entry(path: str, content: bytes) -> dict:
    entry = {"type": "file", "path": path, "oid": _oid(content), "size": len(content)}
    if path.endswith(LFS_SUFFIXES):
        entry["lfs"] = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 134}
    return entry


_REPO = r"(?P<repo>[\w.-]+/[\w.-]+)"


def _api(method: str, rest: str, answer: str) -> list[tuple[str, Callable]]:
    def of_kind(kind: str) -> Callable:
        return lambda self, **words: getattr(self, answer)(kind, **words)

    return [(rf"{method} /api/{kind}s/{_REPO}{rest}", of_kind(kind)) for kind in ("model", "dataset")]


ROUTES: list[tuple[str, Callable]] = [
    (r"GET /api/whoami-v2", _Handler.whoami),
    (r"POST /api/repos/create", _Handler.create),
    (r"POST /api/validate-yaml", _Handler.validate_yaml),
    *_api("POST", r"/preupload/(?P<revision>[^/]+)", "preupload"),
    (rf"POST /(?P<prefix>datasets/)?{_REPO}\.git/info/lfs/objects/batch", _Handler.lfs_batch),
    (r"PUT /lfs/(?P<oid>[0-9a-f]{64})", _Handler.lfs_put),
    *_api("POST", r"/commit/(?P<revision>[^/]+)", "commit"),
    *_api("POST", r"/tag/(?P<revision>[^/]+)", "tag"),
    *_api("POST", r"/branch/(?P<name>[^/]+)", "branch"),
    *_api("GET", "", "info"),
    *_api("GET", r"/revision/(?P<revision>[^/]+)", "info"),
    *_api("GET", r"/tree/(?P<revision>[^/]+)(?P<folder>/.*)?", "tree"),
    *_api("POST", r"/paths-info/(?P<revision>[^/]+)", "paths_info"),
    (rf"(?:GET|HEAD) /(?P<prefix>datasets/)?{_REPO}/resolve/(?P<revision>[^/]+)/(?P<path>.+)", _Handler.resolve),
]


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[HubStandIn]:
    """A stand-in that this process, and those it starts, take for the Hub; between two tries hardly a pause."""
    with HubStandIn() as stand_in:
        for name, value in stand_in.environment(tmp_path / "hf").items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", stand_in.endpoint)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_TELEMETRY", True)
        monkeypatch.setattr("turkbert.hub.PAUSES", (0.02, 0.05))
        yield stand_in
