"""The peers, each used the way that its own documentation shows for speed. What one cannot do it says in words."""

from __future__ import annotations

import shlex
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from bench import far_side


class Peer:
    """A target is told as plain data: {"ssh": {"alias", "config"}, "sudo": user, "docker": container}, None if not gone
    through, and "packages", a folder of Python packages that everybody at the far end can read.
    """

    def prepare(self, target: dict[str, Any]) -> None:
        self.ssh, self.sudo, self.docker = target["ssh"], target["sudo"], target["docker"]
        self.packages = target["packages"]
        started = time.perf_counter()
        self.load()
        self.loading = time.perf_counter() - started

    def inner(self, argv: list[str]) -> list[str]:
        """The command for all hops after ssh."""
        if self.docker:
            argv = ["docker", "exec", "-i", self.docker, *argv]
        return ["sudo", "-n", "-u", self.sudo, *argv] if self.sudo else argv

    def command(self, argv: list[str]) -> list[str]:
        argv = self.inner(argv)
        if self.ssh:
            return ["ssh", "-F", self.ssh["config"], self.ssh["alias"], shlex.join(argv)]
        return argv

    def only_ssh(self) -> None:
        if not self.ssh or self.sudo or self.docker:
            raise NotImplementedError("speaks ssh and nothing else")

    def cold(self) -> dict[str, float]:
        started = time.perf_counter()
        self.open()
        self.call()
        seconds = time.perf_counter() - started
        self.close()
        whole = time.perf_counter() - started
        return {"first": seconds, "whole": whole, "loading": self.loading}

    def warm(self, count: int) -> list[float]:
        self.call()
        times = []
        for _ in range(count):
            started = time.perf_counter()
            self.call()
            times.append(time.perf_counter() - started)
        return times

    def open_many(self, count: int) -> dict[str, Any]:
        """Seconds until that many far ends, opened from as many threads, have each given a result."""
        held = [type(self)() for _ in range(count)]

        def start(one: Peer) -> None:
            one.__dict__.update(self.__dict__)
            one.open()
            one.call()

        started = time.perf_counter()
        with ThreadPoolExecutor(count) as threads:
            list(threads.map(start, held))
        self.held = held
        return {"seconds": time.perf_counter() - started, "pids": [one.pid() for one in held]}

    def pid(self) -> int:
        """The far end's process, if it is none of our descendants; else 0."""
        return 0

    def load(self) -> None: ...
    def open(self) -> None: ...
    def call(self) -> None: ...
    def close(self) -> None: ...


class Execnet(Peer):
    """Calls go to a loop at the far end that reads an open channel: several times faster than a remote_exec each."""

    ADD = "while True: channel.send(sum(channel.receive()))"
    COUNT = "while True: channel.send(len(channel.receive()))"
    SOURCE = "import os\ndata = os.urandom(1 << 20) * (channel.receive() >> 20)\nchannel.receive()\nchannel.send(data)"
    PEAK = "channel.send(next(l.split()[1] for l in open('/proc/self/status') if l.startswith('VmHWM')))"

    def load(self) -> None:
        import execnet

        self.execnet = execnet

    def spec(self) -> str:
        python = shlex.join(self.inner(["python3"]))
        if self.ssh:
            return f"ssh={self.ssh['alias']}//ssh_config={self.ssh['config']}//python={python}"
        return f"popen//python={python}"

    def open(self) -> None:
        self.group = self.execnet.Group()
        self.gateway = self.group.makegateway(self.spec())
        self.channel = self.gateway.remote_exec(self.ADD)

    def call(self) -> None:
        self.channel.send((3, 7))
        assert self.channel.receive() == 10

    def close(self) -> None:
        self.group.terminate(timeout=1.0)

    def hundred(self) -> float:
        sleep = "import time; time.sleep(0.01); channel.send(1)"
        started = time.perf_counter()
        channels = [self.gateway.remote_exec(sleep) for _ in range(100)]
        assert sum(channel.receive() for channel in channels) == 100
        return time.perf_counter() - started

    def put(self, source: str, goal: str) -> float:
        started = time.perf_counter()
        copying = self.execnet.RSync(source, verbose=False)
        copying.add_target(self.gateway, goal)
        copying.send()
        return time.perf_counter() - started

    def send(self, kind: str, size: int) -> dict[str, Any]:
        payload = self._plain(kind, size)
        channel = self.gateway.remote_exec(self.COUNT)
        channel.send(b"warm")
        channel.receive()
        started = time.perf_counter()
        channel.send(payload)
        assert channel.receive() == size
        return self._payload(started)

    def receive(self, kind: str, size: int) -> dict[str, Any]:
        self._plain(kind, 0)
        channel = self.gateway.remote_exec(self.SOURCE)
        channel.send(size)
        time.sleep(0.1 + size / 1e9)
        started = time.perf_counter()
        channel.send(None)
        assert len(channel.receive()) == size
        return self._payload(started)

    def _plain(self, kind: str, size: int) -> Any:
        if kind != "bytes":
            raise NotImplementedError("carries plain data only, no arrays")
        return far_side.make(kind, size)

    def _payload(self, started: float) -> dict[str, Any]:
        seconds = time.perf_counter() - started
        far = int(self.gateway.remote_exec(self.PEAK).receive()) * 1024
        return {"seconds": seconds, "near": far_side.peak(), "far": far}


class Mitogen(Peer):
    def load(self) -> None:
        import mitogen.core
        import mitogen.master
        import mitogen.utils

        self.mitogen = mitogen

    def open_many(self, count: int) -> dict[str, Any]:
        self.open()  # all of them share its router, as its users do
        return super().open_many(count)

    def open(self) -> None:
        if not hasattr(self, "router"):
            self.broker = self.mitogen.master.Broker()
            self.router = self.mitogen.master.Router(self.broker)
        router, python, via = self.router, "python3", None
        if self.ssh:
            via = router.ssh(
                hostname=self.ssh["alias"], ssh_args=["-F", self.ssh["config"]], python_path=python
            )
        if self.sudo:
            via = router.sudo(username=self.sudo, python_path=python, via=via)
        if self.docker:
            via = router.docker(container=self.docker, python_path=python, via=via)
        self.context = via or router.local(python_path=python)

    def call(self) -> None:
        assert self.context.call(max, 3, 7) == 7

    def pid(self) -> int:
        found: int = self.context.call(far_side.pid)
        return found

    def close(self) -> None:
        self.broker.shutdown()
        self.broker.join()
        del self.router

    def hundred(self) -> float:
        started = time.perf_counter()
        answers = [self.context.call_async(time.sleep, 0.01) for _ in range(100)]
        for answer in answers:
            answer.get()
        return time.perf_counter() - started

    def send(self, kind: str, size: int) -> dict[str, Any]:
        if kind != "bytes":
            raise NotImplementedError("carries plain data only, no arrays")
        payload = self.mitogen.core.Blob(far_side.make(kind, size))
        self.context.call(far_side.peak)
        started = time.perf_counter()
        assert self.context.call(len, payload) == size
        return self._payload(started)

    def receive(self, kind: str, size: int) -> dict[str, Any]:
        if kind != "bytes":
            raise NotImplementedError("carries plain data only, no arrays")
        self.context.call(far_side.hold, kind, size)
        started = time.perf_counter()
        assert len(self.context.call(far_side.held)) == size
        return self._payload(started)

    def _payload(self, started: float) -> dict[str, Any]:
        seconds = time.perf_counter() - started
        return {"seconds": seconds, "near": far_side.peak(), "far": self.context.call(far_side.peak)}


class Rpyc(Peer):
    """Its server is started through the hops, from a folder of packages put there beforehand: it cannot send itself."""

    SERVER = "import sys; sys.path.append({!r})\nimport rpyc; rpyc.classic.connect_stdpipes().serve_all()"

    def load(self) -> None:
        import rpyc

        self.rpyc = rpyc

    def open(self) -> None:
        argv = self.command(["python3", "-c", self.SERVER.format(self.packages)])
        self.process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.connection = self.rpyc.classic.connect_pipes(self.process.stdout, self.process.stdin)
        self.max = self.connection.builtins.max

    def call(self) -> None:
        assert self.max(3, 7) == 7

    def close(self) -> None:
        self.connection.close()
        self.process.wait()

    def hundred(self) -> float:
        sleep = self.rpyc.async_(self.connection.modules.time.sleep)
        started = time.perf_counter()
        for answer in [sleep(0.01) for _ in range(100)]:
            answer.wait()
        return time.perf_counter() - started

    def send(self, kind: str, size: int) -> dict[str, Any]:
        if kind != "bytes":
            raise NotImplementedError("gives a proxy of an array, not the array")
        payload, length = far_side.make(kind, size), self.connection.builtins.len
        started = time.perf_counter()
        assert length(payload) == size
        return self._payload(started)

    def receive(self, kind: str, size: int) -> dict[str, Any]:
        if kind != "bytes":
            raise NotImplementedError("gives a proxy of an array, not the array")
        self.connection.execute(f"import os; data = os.urandom(1 << 20) * {size >> 20}")
        started = time.perf_counter()
        assert len(self.connection.namespace["data"]) == size
        return self._payload(started)

    def _payload(self, started: float) -> dict[str, Any]:
        seconds = time.perf_counter() - started
        peak = "next(l.split()[1] for l in open('/proc/self/status') if l.startswith('VmHWM'))"
        far = int(self.connection.eval(peak)) * 1024
        return {"seconds": seconds, "near": far_side.peak(), "far": far}


class Asyncssh(Peer):
    """Starts commands; what stands for a call is a line to a loop in Python there, and back."""

    LOOP = ("python3", "-uc", "import sys\nfor line in sys.stdin: print(sum(map(int, line.split())))")

    def load(self) -> None:
        import asyncio

        import asyncssh

        self.only_ssh()
        self.asyncssh, self.loop = asyncssh, asyncio.new_event_loop()

    def open(self) -> None:
        async def opened() -> None:
            self.connection = await self.asyncssh.connect(self.ssh["alias"], config=[self.ssh["config"]])
            self.process = await self.connection.create_process(shlex.join(self.LOOP))

        self.loop.run_until_complete(opened())

    def call(self) -> None:
        self.loop.run_until_complete(self._call())

    async def _call(self) -> None:
        self.process.stdin.write("3 7\n")
        assert await self.process.stdout.readline() == "10\n"

    def hundred(self) -> float:
        async def all_of_them() -> None:
            import asyncio

            await asyncio.gather(*(self.connection.run("sleep 0.01", check=True) for _ in range(100)))

        started = time.perf_counter()
        self.loop.run_until_complete(all_of_them())
        return time.perf_counter() - started

    def put(self, source: str, goal: str) -> float:
        return self._copied("put", source, goal)

    def get(self, source: str, goal: str) -> float:
        return self._copied("get", source, goal)

    def _copied(self, method: str, source: str, goal: str) -> float:
        async def copy() -> None:
            async with self.connection.start_sftp_client() as sftp:
                await getattr(sftp, method)(source, goal, recurse=True)

        started = time.perf_counter()
        self.loop.run_until_complete(copy())
        return time.perf_counter() - started

    def close(self) -> None:
        self.connection.close()
        self.loop.run_until_complete(self.connection.wait_closed())


class CommandsOnly(Peer):
    """Runs commands, so that its first result is what an interpreter prints there."""

    COMMAND = ("python3", "-c", "print(max(3, 7))")

    def load(self) -> None:
        self.only_ssh()

    def warm(self, count: int) -> list[float]:
        raise NotImplementedError("runs commands, not functions")


class Fabric(CommandsOnly):
    def load(self) -> None:
        super().load()
        import fabric

        self.fabric = fabric

    def open(self) -> None:
        config = self.fabric.Config(runtime_ssh_path=self.ssh["config"])
        self.connection = self.fabric.Connection(self.ssh["alias"], config=config)

    def call(self) -> None:
        done = self.connection.run(shlex.join(self.COMMAND), hide=True)
        assert done.stdout == "7\n"

    def close(self) -> None:
        self.connection.close()


class Plumbum(CommandsOnly):
    def load(self) -> None:
        super().load()
        from plumbum import SshMachine

        self.machine = SshMachine

    def open(self) -> None:
        options = ["-F", self.ssh["config"]]
        self.connection = self.machine(self.ssh["alias"], ssh_opts=options, scp_opts=options)

    def call(self) -> None:
        python, *arguments = self.COMMAND
        assert self.connection[python](*arguments) == "7\n"

    def close(self) -> None:
        self.connection.close()
