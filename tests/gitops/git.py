"""A Git server, and repositories on it that somebody commits to."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import yaml

Manifest = Mapping[str, Any]


class GitServer:
    """Bare repositories over smart HTTP on localhost; a context manager.

    Args:
        folder: where the repositories are.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()

    def __enter__(self) -> GitServer:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_GitHandler,), {"folder": self.folder}))
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


class _GitHandler(BaseHTTPRequestHandler):
    """``git http-backend`` is a CGI program."""

    protocol_version = "HTTP/1.1"
    folder: Path

    def _answer(self) -> None:
        path, _, query = self.path.partition("?")
        environment = {
            "GIT_PROJECT_ROOT": str(self.folder),
            "GIT_HTTP_EXPORT_ALL": "1",
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "REQUEST_METHOD": self.command,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
        }
        body = self._body()
        environment["CONTENT_LENGTH"] = str(len(body))
        done = subprocess.run(
            ["git", "http-backend"], input=body, env=os.environ | environment, capture_output=True, check=False
        )
        head, _, content = done.stdout.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n") if line)
        self.send_response(int(headers.pop("Status", "200").split()[0]))
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = _answer

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def log_message(self, *_: object) -> None:
        pass


class Repository:
    """A repository on the server, and a clone of it that somebody commits to."""

    def __init__(self, server: GitServer, name: str) -> None:
        self.url = f"{server.url}/{name}.git"
        self._clone = server.folder / name
        self._git("init", "--quiet", "--bare", "--initial-branch=main", f"{name}.git", folder=server.folder)
        self._git("clone", "--quiet", f"{name}.git", name, folder=server.folder)

    def commit(self, files: Mapping[str, Manifest | None]) -> str:
        """Write manifests, by name of the file; ``None`` removes one. Returns the revision."""
        for name, manifest in files.items():
            path = self._clone / name
            path.unlink() if manifest is None else path.write_text(yaml.safe_dump(manifest))
        self._git("add", "--all")
        self._git("commit", "--quiet", "--allow-empty", "--message", ", ".join(files) or "nothing")
        return self._push()

    def revert(self) -> str:
        """Take the last commit back, by another one. Returns the revision."""
        self._git("revert", "--no-edit", "HEAD")
        return self._push()

    def _push(self) -> str:
        self._git("push", "--quiet", "origin", "HEAD:main")
        return self._git("rev-parse", "HEAD").strip()

    def _git(self, *arguments: str, folder: Path | None = None) -> str:
        identity = {
            f"GIT_{who}_{what}": "test@localhost" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")
        }
        return subprocess.run(
            ["git", *arguments],
            cwd=folder or self._clone,
            env=os.environ | identity | {"GIT_CONFIG_GLOBAL": os.devnull},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
