"""The Superfacility API in front of the host alpha, and a key for it."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.world.machine import HERE, Machine, free_port, listens, unavailable
from tests.world.ssh import SshWorld

CLIENT = "outridertests"  # of 13 letters, as theirs


@dataclass(frozen=True)
class SuperfacilityWorld:
    api_url: str
    token_url: str
    key: Path
    folder: Path


def start(machine: Machine, sshd: SshWorld) -> Iterator[SuperfacilityWorld]:
    if importlib.util.find_spec("sfapi_client") is None:
        unavailable("no sfapi_client: 'make test' installs it")
    from joserfc import jwk

    folder = machine.make_folder("superfacility")
    key = jwk.RSAKey.generate_key(2048)
    (folder / "public.json").write_text(json.dumps(key.as_dict(private=False)))
    (folder / "client_id").write_text(CLIENT)
    command = ["ssh", "-F", str(sshd.config), "alpha"]
    (folder / "command").write_text(json.dumps(command))
    secret = folder / "key.json"
    secret.write_text(json.dumps({"client_id": CLIENT, "secret": key.as_dict(private=True)}))
    secret.chmod(0o600)
    port = free_port()
    machine.serve(
        "superfacility",
        [sys.executable, HERE / "superfacility_server.py", str(port), folder],
        ready=lambda: listens(port),
    )
    base = f"http://127.0.0.1:{port}"
    yield SuperfacilityWorld(f"{base}/api/v1.2", f"{base}/token", secret, folder)
    machine.stop("superfacility")
