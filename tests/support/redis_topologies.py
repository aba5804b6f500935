"""A real Redis Cluster, and a real Sentinel with its master and replica, on loopback."""

from __future__ import annotations

import shutil
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from redis_server import RedisServer, free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

SENTINEL = shutil.which("redis-sentinel")
_PATIENCE = 15.0
_SLOTS = 16384


def wait_until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _PATIENCE
    while not is_so():
        assert time.monotonic() < deadline, "the servers did not get there in time"
        time.sleep(0.05)


@contextmanager
def redis_cluster() -> Iterator[list[RedisServer]]:
    """Run three masters and a replica of the first; yields them in this order."""
    buses = [free_port() for _ in range(4)]
    options = ["--cluster-enabled", "yes", "--cluster-node-timeout", "500"]
    nodes = [RedisServer(*options, "--cluster-port", str(bus)) for bus in buses]
    try:
        for number, node in enumerate(nodes[:3]):
            first, last = number * _SLOTS // 3, (number + 1) * _SLOTS // 3 - 1
            node.command("CLUSTER", "ADDSLOTSRANGE", str(first), str(last))
            node.command("CLUSTER", "SET-CONFIG-EPOCH", str(number + 1))
        for node, bus in zip(nodes[1:], buses[1:], strict=True):
            nodes[0].command("CLUSTER", "MEET", "127.0.0.1", str(node.port), str(bus))
        wait_until(lambda: all("known_nodes:4" in _state(node) for node in nodes))
        nodes[3].command("CLUSTER", "REPLICATE", nodes[0].command("CLUSTER", "MYID"))
        wait_until(lambda: all("cluster_state:ok" in _state(node) for node in nodes))
        wait_until(lambda: "master_link_status:up" in nodes[3].command("INFO", "replication"))
        yield nodes
    finally:
        for node in nodes:
            node.kill()


def _state(node: RedisServer) -> str:
    return node.command("CLUSTER", "INFO")


@contextmanager
def redis_sentinel(folder: Path) -> Iterator[tuple[RedisServer, RedisServer, RedisServer]]:
    """Run a master, its replica, and a Sentinel that watches them as `gate`."""
    master = RedisServer()
    replica = RedisServer("--replicaof", "127.0.0.1", str(master.port))
    file = folder / "sentinel.conf"
    file.write_text(
        f"sentinel monitor gate 127.0.0.1 {master.port} 1\n"
        "sentinel down-after-milliseconds gate 300\n"
        "sentinel failover-timeout gate 2000\n"
    )
    sentinel = RedisServer(str(file), binary=SENTINEL)
    try:
        wait_until(lambda: "master_link_status:up" in replica.command("INFO", "replication"))
        wait_until(lambda: "slaves=1" in sentinel.command("INFO", "sentinel"))
        yield master, replica, sentinel
    finally:
        for server in (sentinel, replica, master):
            server.kill()
