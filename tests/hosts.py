"""Hosts of one machine: network namespaces with a name and an address each, all on one bridge. Needs root and iproute2."""
import os
import pathlib
import shutil
import subprocess
import uuid


def missing():
    """Why there can be none here, or None."""
    if os.getuid() != 0:
        return "network namespaces need root"
    if not shutil.which("ip") or not shutil.which("unshare"):
        return "no ip or no unshare here (Debian: iproute2, util-linux)"
    name = f"rp-{uuid.uuid4().hex[:6]}"
    tried = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True)
    if tried.returncode == 0:
        tried = subprocess.run(["ip", "-n", name, "link", "add", "bridge", "type", "bridge"], capture_output=True, text=True)
        subprocess.run(["ip", "netns", "delete", name], check=True)
    return None if tried.returncode == 0 else f"no network namespaces here: {tried.stderr.strip()}"


class Hosts:
    """n hosts "node0" .. on a bridge that lies in a namespace of its own: nothing of this machine's network is touched."""

    def __init__(self, n):
        self.tag = f"rp{uuid.uuid4().hex[:6]}"
        self.n, self.switch = n, f"{self.tag}-switch"
        self.ip("netns", "add", self.switch)
        self.ip("-n", self.switch, "link", "add", "bridge", "type", "bridge")
        self.ip("-n", self.switch, "link", "set", "bridge", "up")
        for i in range(n):
            self.ip("netns", "add", self.name(i))
            self.ip("-n", self.name(i), "link", "add", "eth0", "type", "veth", "peer", "name", f"port{i}", "netns", self.switch)
            self.ip("-n", self.name(i), "addr", "add", f"{self.address(i)}/24", "dev", "eth0")
            for link in ("lo", "eth0"):
                self.ip("-n", self.name(i), "link", "set", link, "up")
            self.ip("-n", self.switch, "link", "set", f"port{i}", "master", "bridge", "up")

    @staticmethod
    def ip(*args):
        return subprocess.run(["ip", *args], check=True, capture_output=True, text=True).stdout

    def name(self, i):
        return f"{self.tag}-node{i}"

    @staticmethod
    def address(i):
        return f"10.99.0.{i + 1}"

    def command(self, i, program, *args):
        """Words that run a program there, under the name of the host."""
        return ["ip", "netns", "exec", self.name(i), "unshare", "--uts", "sh", "-c", f'hostname node{i}; exec "$@"', "sh", program, *args]

    def cut(self, *some):
        """These hosts reach nobody, and nobody them; their links stay up, so nothing tells them."""
        for i in some:
            self.ip("-n", self.switch, "link", "set", f"port{i}", "nomaster")

    def unplug(self, i):
        """The host's own link goes down."""
        self.ip("-n", self.name(i), "link", "set", "eth0", "down")

    def cut_between(self, i, j):
        """Only these two do not reach each other: each takes a wrong card for the other's."""
        for a, b in ((i, j), (j, i)):
            self.ip("-n", self.name(a), "neigh", "replace", self.address(b), "lladdr", "02:00:00:00:00:77", "dev", "eth0")

    def slow(self, i, rate):
        """What host i sends takes its time."""
        subprocess.run(["ip", "netns", "exec", self.name(i), "tc", "qdisc", "replace", "dev", "eth0", "root", "tbf", "rate", rate,
                        "burst", "16kb", "latency", "400ms"], check=True, capture_output=True)

    def pids(self, i):
        """As `ip netns pids`, which fails when a process ends while it looks."""
        own, found = os.stat(f"/run/netns/{self.name(i)}").st_ino, []
        for process in pathlib.Path("/proc").glob("[0-9]*"):
            try:
                if os.stat(process / "ns/net").st_ino == own:
                    found.append(int(process.name))
            except OSError:
                continue
        return sorted(found)

    def processes(self):
        return [pid for i in range(self.n) for pid in self.pids(i)]

    def sockets(self):
        """Ports that are listened on, over all hosts."""
        found = []
        for i in range(self.n):
            lines = subprocess.run(["ip", "netns", "exec", self.name(i), "cat", "/proc/net/tcp", "/proc/net/tcp6"], check=True,
                                   capture_output=True, text=True).stdout.splitlines()
            found += [line for line in lines if " 0A 00000000:" in line]
        return found

    def close(self):
        for name in [self.name(i) for i in range(self.n)] + [self.switch]:
            subprocess.run(["ip", "netns", "delete", name], capture_output=True)
