"""A Ray cluster in a process of its own, that does what it is told over stdin.

Started by `harness.FaultCluster`. It has a token and a temporary folder of its own, so that nobody
else joins it, and `--address auto` of other tests does not find it. It ends with its stdin, also
when the tests are killed. One command a line, one answer a line:

    add CPUS               a node joins; answers with its id
    leave ID               it is told to go (SIGTERM), as when a machine is shut down
    crash ID               its raylet and all of its workers are killed at once (SIGKILL)
    crash_workers_first ID the same; the driver may hear of the workers before of the node
    lose_raylet ID         only its raylet is killed; its workers find out by themselves
    freeze ID              all of it falls silent (SIGSTOP), as when power or network are gone
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from ray.cluster_utils import Cluster


def family(pid: int) -> list[int]:
    """A process and all that it has started."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
    return [pid, *(member for child in children for member in family(int(child)))]


def victims(command: str, raylet: int) -> list[int]:
    """The processes to kill, in this order."""
    if command == "crash":
        return family(raylet)
    if command == "crash_workers_first":
        return family(raylet)[::-1]
    return [raylet] if command == "lose_raylet" else []


def answer(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main() -> None:
    cluster = Cluster(
        initialize_head=True,
        head_node_args={
            "num_cpus": int(sys.argv[1]),
            "include_dashboard": False,
            "include_log_monitor": False,
            "no_monitor": True,
        },
    )
    frozen = []
    nodes = {cluster.head_node.node_id: cluster.head_node}
    answer(cluster.address)
    for line in sys.stdin:
        command, argument = line.split()
        if command == "add":
            node = cluster.add_node(num_cpus=int(argument))
            nodes[node.node_id] = node
            answer(node.node_id)
            continue
        node = nodes.pop(argument, None)
        if node is None:
            answer("gone")
            continue
        raylet = node.all_processes["raylet"][0].process.pid
        if command == "freeze":
            frozen.append(node)
            for pid in family(raylet):
                os.kill(pid, signal.SIGSTOP)
        else:
            for pid in victims(command, raylet):
                os.kill(pid, signal.SIGKILL)
            cluster.remove_node(node, allow_graceful=command == "leave")
        answer("gone")
    for node in frozen:
        for pid in family(node.all_processes["raylet"][0].process.pid):
            os.kill(pid, signal.SIGKILL)
    cluster.shutdown()


if __name__ == "__main__":
    main()
