"""Simulated machines for ranks: network namespaces of this machine, connected by a switch. Needs root and
iproute2.

The addresses are in 10.77.0.0/24, visible only in these namespaces.
"""

import contextlib
import os
import signal
import subprocess
import tempfile
from pathlib import Path

NETWORK = "10.77.0"


def ip(*words):
    result = subprocess.run(["ip", *map(str, words)], capture_output=True, text=True)
    if result.returncode:
        raise OSError(f"ip {' '.join(map(str, words))} failed: {result.stderr.strip() or result.stdout.strip()}")


class Machines:
    """`count` of them, each on a cable of `gigabits` Gbit/s in both directions; None: as fast as this machine is."""

    def __init__(self, count, gigabits=None):
        self.mark = f"lnfree{os.getpid()}"
        self.names = [f"{self.mark}n{i}" for i in range(count)]
        self.addresses = [f"{NETWORK}.{i + 1}" for i in range(count)]
        self.folder = tempfile.TemporaryDirectory(prefix="lnfree-machines-")
        self.switch = f"{self.mark}s"
        try:
            ip("netns", "add", self.switch)
            ip("-n", self.switch, "link", "add", "switch", "type", "bridge")
            ip("-n", self.switch, "link", "set", "switch", "up")
            for i, (name, address) in enumerate(zip(self.names, self.addresses, strict=True)):
                ip("netns", "add", name)
                ip("-n", name, "link", "add", "cable", "type", "veth", "peer", "name", f"port{i}", "netns", self.switch)
                ip("-n", self.switch, "link", "set", f"port{i}", "master", "switch", "up")
                ip("-n", name, "addr", "add", f"{address}/24", "dev", "cable")
                for link in ("lo", "cable"):
                    ip("-n", name, "link", "set", link, "up")
                if gigabits:
                    for namespace, link in ((name, "cable"), (self.switch, f"port{i}")):
                        shape = ["tc", "qdisc", "add", "dev", link, "root", "tbf", "rate", f"{gigabits}gbit", "burst", "2mb",
                                 "latency", "20ms"]  # fmt: skip
                        subprocess.run(["ip", "netns", "exec", namespace, *shape], check=True)
        except BaseException:
            self.remove()
            raise
        # Used by mpirun instead of ssh: enters the namespace with that address.
        self.agent = Path(self.folder.name) / "agent"
        self.agent.write_text(
            "#!/bin/bash\n"
            "while [[ $1 == -* ]]; do shift; done\n"
            f"exec ip netns exec {self.mark}n$((${{1##*.}} - 1)) unshare --uts bash -c 'hostname \"machine-$1\"; shift; eval \"$*\"' agent \"$@\"\n"
        )
        self.agent.chmod(0o755)

    def mpirun(self, mpirun, ranks, *, launch=()):
        """The beginning of a command: Open MPI over TCP, as many ranks on each machine."""
        each = ranks // len(self.names)
        return ["ip", "netns", "exec", self.names[0], "unshare", "--uts", "bash", "-c",
                f'hostname machine-{self.addresses[0]}; exec "$@"', "mpirun", str(mpirun), "--allow-run-as-root",
                "--host", ",".join(f"{address}:{each}" for address in self.addresses), "-n", str(ranks),
                "--mca", "plm_rsh_agent", str(self.agent), "--mca", "btl", "tcp,self,vader", "--mca", "pml", "ob1",
                "--mca", "btl_tcp_if_include", f"{NETWORK}.0/24", "--mca", "oob_tcp_if_include", f"{NETWORK}.0/24",
                "--mca", "hwloc_base_binding_policy", "none", *launch]  # fmt: skip

    def cut(self, machine):
        """Disconnects a machine."""
        ip("-n", self.switch, "link", "set", f"port{machine}", "down")

    def remove(self):
        for name in [*self.names, self.switch]:
            # Processes that a disconnected machine still runs.
            for process in subprocess.run(["ip", "netns", "pids", name], capture_output=True, text=True).stdout.split():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(process), signal.SIGKILL)
            with contextlib.suppress(OSError):
                ip("netns", "del", name)
        self.folder.cleanup()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.remove()
