"""Two hosts behind ssh on loopback, a chatty third, and addresses where nothing good happens."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.world.machine import MARK, USERS, Machine, free_port, listens, must_run, program, unavailable

CHATTER = "chatter from the login shell"
# Addresses of their own, so that no shared connection to alpha opens what must not open.
STRANGE, REFUSED = "127.0.0.3", "127.0.0.4"
BANNER = "banner of the noisy host"


@dataclass(frozen=True)
class Host:
    alias: str
    host: str
    port: int
    user: str
    identity: Path
    known_hosts: Path


@dataclass(frozen=True)
class Marker:
    banner: str = BANNER
    chatter: str = CHATTER


@dataclass(frozen=True)
class SshWorld:
    config: Path
    identity: Path
    known_hosts: Path
    alpha: Host
    beta: Host
    noisy: Host
    folder: Path
    marker: Marker = Marker()

    def config_of(self, user: str) -> Path:
        """The same aliases for a test user on the hosts."""
        return self.folder / user / "config"


def start(machine: Machine) -> Iterator[SshWorld]:
    sshd = program("sshd", "openssh-server")
    program("ssh", "openssh-client")
    for user in USERS:
        if not has_user(user):
            unavailable(f"no user {user}: run 'make world'")
    folder = machine.make_folder("ssh")
    identity = make_key(folder / "id")
    make_key(folder / "refused_id")
    Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    shutil.copy(folder / "id.pub", folder / "authorized_keys")
    (folder / "banner").write_text(BANNER + "\n")
    # Held for the whole run, so that nobody else gets these ports.
    with socket.socket() as closed, socket.socket() as silent:
        closed.bind(("127.0.0.1", 0))
        silent.bind(("127.0.0.1", 0))
        silent.listen(64)
        world = SshWorld(
            config=folder / "root" / "config",
            identity=identity,
            known_hosts=folder / "known_hosts",
            alpha=start_host(machine, sshd, folder, "alpha", "outrider-a"),
            beta=start_host(machine, sshd, folder, "beta", "outrider-b"),
            noisy=start_host(machine, sshd, folder, "noisy", "outrider-c"),
            folder=folder,
        )
        write_known_hosts(folder, (world.alpha, world.beta, world.noisy))
        for user in ("root", *USERS):
            write_user(world, user, closed.getsockname()[1], silent.getsockname()[1])
        write_chatter()
        yield world
        for name in ("alpha", "beta", "noisy"):
            machine.stop(name)


def has_user(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


def make_key(path: Path) -> Path:
    must_run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "outrider test", "-f", path])
    return path


def start_host(machine: Machine, sshd: str, folder: Path, alias: str, user: str) -> Host:
    key = make_key(folder / f"{alias}_host_key")
    port = free_port()
    config = folder / f"sshd_{alias}.conf"
    config.write_text(sshd_config(machine, folder, alias, key, port))
    machine.serve(alias, [sshd, "-D", "-e", "-f", config], ready=lambda: listens(port))
    return Host(alias, "127.0.0.1", port, user, folder / "id", folder / "known_hosts")


def sshd_config(machine: Machine, folder: Path, alias: str, key: Path, port: int) -> str:
    lines = [
        *(f"ListenAddress {address}" for address in ("127.0.0.1", STRANGE, REFUSED)),
        f"Port {port}",
        f"HostKey {key}",
        f"AuthorizedKeysFile {folder}/authorized_keys",
        "AllowUsers " + " ".join(USERS),
        "AuthenticationMethods publickey",
        "UsePAM no",
        "UseDNS no",
        "StrictModes no",
        "PidFile none",
        "PrintMotd no",
        "MaxStartups 500:30:1000",
        "MaxSessions 500",
        "AcceptEnv LANG LC_*",
        "Subsystem sftp internal-sftp",
        "SetEnv " + " ".join(f"{name}={value}" for name, value in carried(machine).items()),
    ]
    if alias == "noisy":
        lines.append(f"Banner {folder}/banner")
    return "\n".join(lines) + "\n"


def carried(machine: Machine) -> dict[str, str]:
    """What a login gets in its environment so that the other fixtures work there, too."""
    names = {MARK: machine.mark, "CONTAINERS_STORAGE_CONF": str(machine.folder / "storage.conf")}
    slurm = Path("/etc/slurm/slurm.conf")
    # Somebody else's cluster is the machine's default: ours must be named.
    if slurm.exists() and not str(slurm.resolve()).startswith(f"{machine.folder}/"):
        names["SLURM_CONF"] = str(machine.folder / "slurm" / "slurm.conf")
    return names


def write_known_hosts(folder: Path, hosts: tuple[Host, ...]) -> None:
    keys = {host.alias: (folder / f"{host.alias}_host_key.pub").read_text() for host in hosts}
    lines = [f"[127.0.0.1]:{host.port},[{REFUSED}]:{host.port} {keys[host.alias]}" for host in hosts]
    (folder / "known_hosts").write_text("".join(lines))
    (folder / "strange_known_hosts").write_text(f"[{STRANGE}]:{hosts[0].port} {keys['beta']}")
    for name in ("known_hosts", "strange_known_hosts"):
        (folder / name).chmod(0o644)


def write_user(world: SshWorld, user: str, closed: int, silent: int) -> None:
    """The client's side for one user: keys of its own, aliases, and (not for root) ~/.ssh/config."""
    entry = pwd.getpwnam(user)
    folder = world.folder / user
    folder.mkdir(mode=0o700)
    for name in ("id", "refused_id"):
        shutil.copy(world.folder / name, folder / name)
        (folder / name).chmod(0o600)
    alpha = world.alpha
    hosts = (alpha, world.beta, world.noisy)
    stanzas = [stanza(host.alias, host.user, host.port, folder / "id") for host in hosts]
    stanzas += [
        stanza("closed", "outrider-a", closed, folder / "id"),
        stanza("silent", "outrider-a", silent, folder / "id"),
        stanza("refused", "outrider-a", alpha.port, folder / "refused_id", REFUSED),
        f"Host strange\n    UserKnownHostsFile {world.folder}/strange_known_hosts\n",
        stanza("strange", "outrider-a", alpha.port, folder / "id", STRANGE),
        f"Host *\n    UserKnownHostsFile {world.known_hosts}\n    GlobalKnownHostsFile /dev/null\n",
        "    StrictHostKeyChecking yes\n    IdentitiesOnly yes\n",
    ]
    (folder / "config").write_text("".join(stanzas))
    for path in (folder, *folder.iterdir()):
        os.chown(path, entry.pw_uid, entry.pw_gid)
    if user != "root":
        include(world, entry)


def stanza(alias: str, user: str, port: int, identity: Path, host: str = "127.0.0.1") -> str:
    lines = (
        f"Host {alias}",
        f"HostName {host}",
        f"Port {port}",
        f"User {user}",
        f"IdentityFile {identity}",
    )
    return "\n    ".join(lines) + "\n"


def include(world: SshWorld, entry: pwd.struct_passwd) -> None:
    # One file a test run, so that two runs do not take each other's away.
    home = Path(entry.pw_dir) / ".ssh"
    (home / "config.d").mkdir(mode=0o700, parents=True, exist_ok=True)
    name = f"{world.folder.parent.name}.conf"
    shutil.copy(world.folder / entry.pw_name / "config", home / "config.d" / name)
    (home / "config").write_text("Include config.d/*.conf\n")
    (home / "config").chmod(0o600)
    for path in (home, home / "config", home / "config.d", home / "config.d" / name):  # others' may just go
        os.chown(path, entry.pw_uid, entry.pw_gid)


def write_chatter() -> None:
    bashrc = Path("/home/outrider-c/.bashrc")
    bashrc.write_text(f"echo '{CHATTER}'\necho '{CHATTER}' >&2\n")
    bashrc.chmod(0o644)
