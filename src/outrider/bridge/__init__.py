"""The bridge: code inside a container runs commands on its host."""

from __future__ import annotations

from pathlib import Path

HERE = Path(__file__).parent


def script() -> str:
    """The host's end as one bash script, for a host where nothing may be installed: server and client in one file."""
    client = (HERE / "client.sh").read_text()
    server = (HERE / "server.sh").read_text()
    mark = "OUTRIDER_BRIDGE_CLIENT"
    start, end = server.rsplit('main "$@"\n', 1)
    return f"{start}IFS= read -r -d '' client_text <<'{mark}'\n{client}{mark}\nmain \"$@\"\n{end}"
