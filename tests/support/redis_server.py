# SPDX-License-Identifier: GPL-2.0-or-later
"""A server of redis in the calling thread's network namespace."""

import shutil
import signal
from pathlib import Path
from typing import Self

import redis
from netns import TIMEOUT
from programs import Program

# Debian's redis-tools has the server as redis-check-rdb, without the service of redis-server's.
NAMES = ("redis-server", "redis-check-rdb", "valkey-server")
OPTIONS = ["--save", "", "--protected-mode", "no"]


class RedisServer:
    """Listens at the usual port, and forgets all when it ends."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._directory.mkdir()
        found = [path for name in NAMES if (path := shutil.which(name))]
        assert found, "there is no server of redis: apt install redis-tools"
        self._path = directory / "redis-server"  # what it does, it takes from its name
        self._path.symlink_to(found[0])
        self.client = redis.Redis(socket_timeout=TIMEOUT)
        self.start()

    def start(self) -> None:
        self._program = Program(self._directory, [self._path, *OPTIONS, "--dir", self._directory])
        self._program.wait_for("eady to accept connections")

    def pause(self) -> None:
        """It answers nobody, and keeps connections."""
        self._program.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._program.process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """Its connections end, and nobody listens any more."""
        self._program.kill()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.client.close()
        self.kill()
