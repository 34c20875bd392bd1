"""Hosts on one machine: network namespaces, each with a cable to one switch. Linux, as root.

``python -m tests.support.network ADDRESS PORT`` lets others reach what listens on the loopback of
its host only.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Self


@dataclass(frozen=True)
class Host:
    """One host; what `command` starts runs there."""

    name: str
    address: str
    cable: str

    def command(self, command: Sequence[str]) -> list[str]:
        """Run a command on this host; the process is the command itself."""
        return ["ip", "netns", "exec", self.name, *command]

    def unplug(self) -> None:
        """Nothing comes in or goes out, and nobody is told."""
        _ip("link", "set", self.cable, "down")

    def plug(self) -> None:
        _ip("link", "set", self.cable, "up")

    def lose(self, *others: Host) -> None:
        """What this host sends to others is lost; what they send still comes in."""
        for other in others:
            _ip("-n", self.name, "route", "add", "blackhole", other.address)

    def find(self, *others: Host) -> None:
        """End `lose`."""
        for other in others:
            _ip("-n", self.name, "route", "del", "blackhole", other.address)


@dataclass
class Network:
    """A switch that the tests are plugged into as well. Use it as a context manager."""

    hosts: list[Host] = field(default_factory=list)

    def __post_init__(self) -> None:
        number = os.getpid()
        self._switch = f"dl{number % 100_000}"
        self._subnet = f"10.{77 + number // 250 % 100}.{number % 250}"

    def host(self, name: str) -> Host:
        """Add a host."""
        number = len(self.hosts) + 1
        cable, inside = f"{self._switch}h{number}", f"{self._switch}i{number}"
        made = Host(f"{self._switch}-{name}", f"{self._subnet}.{number}", cable)
        _ip("netns", "add", made.name)
        self.hosts.append(made)
        _ip("link", "add", cable, "type", "veth", "peer", "name", inside, "netns", made.name)
        _ip("link", "set", cable, "master", self._switch, "up")
        _ip("-n", made.name, "address", "add", f"{made.address}/24", "dev", inside)
        _ip("-n", made.name, "link", "set", inside, "up")
        _ip("-n", made.name, "link", "set", "lo", "up")
        return made

    def __enter__(self) -> Self:
        _ip("link", "add", self._switch, "type", "bridge")
        _ip("address", "add", f"{self._subnet}.254/24", "dev", self._switch)
        _ip("link", "set", self._switch, "up")
        return self

    def __exit__(self, *_: object) -> None:
        for host in self.hosts:
            # Connections of killed processes keep a namespace, and with it its cable.
            for part in (("link", "del", host.cable), ("netns", "del", host.name)):
                with suppress(RuntimeError):
                    _ip(*part)
        _ip("link", "del", self._switch)


def no_network() -> str | None:
    """Why there can be no hosts on this machine; None when there can."""
    if shutil.which("ip") is None:
        return "ip (iproute2) is not on the PATH"
    try:
        with Network() as network:
            network.host("try")
    except RuntimeError as error:
        return f"no network namespaces: {error}; run as root"
    return None


def _ip(*arguments: str) -> None:
    done = subprocess.run(
        ["ip", *arguments], capture_output=True, text=True, timeout=20, check=False
    )
    if done.returncode:
        raise RuntimeError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")


async def _relay(address: str, port: int) -> None:
    async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await source.read(1 << 16):
                sink.write(data)
                await sink.drain()
        sink.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            inner, outer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            writer.transport.abort()
            return
        await asyncio.gather(pump(reader, outer), pump(inner, writer))

    server = await asyncio.start_server(serve, address, port)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_relay(sys.argv[1], int(sys.argv[2])))
