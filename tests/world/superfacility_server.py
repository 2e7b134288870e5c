"""A server of five endpoints as https://api.nersc.gov/api/v1.2/openapi.json describes them, in front of a host behind ssh.

A program of its own. Arguments: a port, and a folder with `public.json` (the one client's key, as a JWK), `client_id`, and
`command` (JSON, the words that run one command line there). What it cannot be is NERSC: how long a task takes there, and
what its login nodes forbid, shows only there.
"""

from __future__ import annotations

import base64
import email.parser
import email.policy
import json
import secrets
import subprocess
import sys
import threading
import time
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from joserfc import jwk, jwt

API = "/api/v1.2/"
TOKEN_LIFE = 600


class Tasks:
    """Commands under way and done, each by its id."""

    def __init__(self, command: list[str]) -> None:
        self.command = command
        self.results: dict[str, dict[str, Any] | None] = {}

    def start(self, line: str) -> str:
        name = secrets.token_hex(8)
        self.results[name] = None
        threading.Thread(target=self._run, args=(name, line), daemon=True).start()
        return name

    def _run(self, name: str, line: str) -> None:
        done = subprocess.run(
            [*self.command, line], stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace"
        )
        error = done.stderr if done.returncode else None
        self.results[name] = {
            "status": "error" if error else "ok",
            "output": done.stdout,
            "error": error,
        }


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    folder: Path
    tasks: Tasks
    tokens: dict[str, float]

    def do_POST(self) -> None:
        form = {
            name: values[0]
            for name, values in urllib.parse.parse_qs(self.body().decode(), keep_blank_values=True).items()
        }
        if self.path == "/token":
            self.give_token(form)
        elif self.allowed() and self.path == API + "utilities/command/perlmutter":
            self.answer({"task_id": self.tasks.start(form["executable"]), "status": "OK", "error": None})

    def do_GET(self) -> None:
        if self.path == API + "status/perlmutter":
            about = {"name": "perlmutter", "full_name": "Perlmutter", "status": "active", "notes": []}
            self.answer(about)
        elif self.allowed() and self.path.startswith(API + "tasks/"):
            name = self.path.rpartition("/")[2]
            result = self.tasks.results[name]
            told = None if result is None else json.dumps(result)
            self.answer({"id": name, "status": "new" if told is None else "completed", "result": told})

    def do_PUT(self) -> None:
        data = self.body()
        if self.allowed():
            path = urllib.parse.unquote(self.path.removeprefix(API + "utilities/upload/perlmutter/"))
            words = f"base64 -d > '{path}'"
            done = subprocess.run([*self.tasks.command, words], input=base64.b64encode(self.file_in(data)))
            self.answer({"status": "ERROR" if done.returncode else "OK", "output": "", "error": None})

    def body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def file_in(self, data: bytes) -> bytes:
        """The one file of a multipart form."""
        head = f"Content-Type: {self.headers['Content-Type']}\r\n\r\n".encode()
        form = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(head + data)
        part = next(form.iter_parts())  # type: ignore[attr-defined]
        found: bytes = part.get_payload(decode=True)
        return found

    def give_token(self, form: dict[str, str]) -> None:
        """For a word signed with the client's private key, as RFC 7523 says."""
        key = jwk.import_key(json.loads((self.folder / "public.json").read_text()))
        claims = jwt.decode(form["client_assertion"], key).claims
        good = claims["iss"] == (self.folder / "client_id").read_text() and claims["exp"] > time.time()
        if not good or form["grant_type"] != "client_credentials":
            self.answer({"error": "invalid_client"}, 401)
            return
        token = secrets.token_hex(16)
        self.tokens[token] = time.time() + TOKEN_LIFE
        self.answer({"access_token": token, "token_type": "Bearer", "expires_in": TOKEN_LIFE})

    def allowed(self) -> bool:
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if self.tokens.get(token, 0) > time.time() and not (self.folder / "revoked").exists():
            return True
        self.answer({"detail": "the token is not valid"}, 403)
        return False

    def answer(self, told: dict[str, Any], status: int = 200) -> None:
        data = json.dumps(told).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def main() -> None:
    Handler.folder = Path(sys.argv[2])
    Handler.tasks = Tasks(json.loads((Handler.folder / "command").read_text()))
    Handler.tokens = {}
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()


if __name__ == "__main__":
    main()
