"""A Mosquitto of a test's own: a free port, no limit on what it keeps for a client that is away, all in one folder."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from pathlib import Path

import pytest
from running import PATIENCE, free_port, wait_for

CONFIG = """
listener {port} 127.0.0.1
allow_anonymous true
max_queued_messages 0
max_inflight_messages {inflight}
persistence true
persistence_location {folder}/
autosave_interval 1
"""


def program() -> str:
    """Where Mosquitto is; the test is skipped by name without it, and fails in CI."""
    found = shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if found is None:
        assert os.environ.get("CI") != "true", "Mosquitto is missing"
        pytest.skip("no Mosquitto; install it (Debian: apt-get install mosquitto)")
    return found


class Broker:
    """A running broker."""

    def __init__(self, folder: Path, inflight: int = 100) -> None:
        folder.mkdir()
        self.port = free_port()
        file = folder / "mosquitto.conf"
        file.write_text(CONFIG.format(port=self.port, folder=folder, inflight=inflight))
        folder.chmod(0o777)  # as root it changes to a user of its own
        self.log = folder / "log.txt"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [program(), "-c", str(file), "-v"], stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            )
        wait_for("the broker", self.answers)

    def answers(self) -> bool:
        """Whether somebody listens."""
        assert self.process.poll() is None, self.log.read_text()[-2000:]
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        except OSError:
            return False
        return True

    def stop(self) -> None:
        """End it."""
        self.process.terminate()
        self.process.wait(PATIENCE)
