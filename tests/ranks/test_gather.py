"""Hosts of one run start at different times: who is there waits for the others longer than timeout.peer, hears a request to
stop meanwhile, and lets in again whoever went away before all had come."""
import os
import re
import signal
import socket
import time

import pytest

import reprise as rp
from test_ranks import ENV, free_port, wait_for

SET = ["--set", "resources.timeout.peer=2 s", "--set", "train.for=20 steps"]


class Hosts:
    """A process per host, as an indexed job of Kubernetes starts them, with one rank each."""

    def __init__(self, folder, n, address="127.0.0.1"):
        self.address = address
        self.folder, self.n, self.port, self.spec = folder, n, free_port(), rp.write(folder, rp.DIGITS_MLP)

    def start(self, i, *args, **env):
        return rp.start("run", self.spec, "--out", self.folder / "run", "--set", f"resources.ranks={self.n}", *SET, *args, env={
            **ENV, "REPRISE_NODES": str(self.n), "JOB_COMPLETION_INDEX": str(i), "REPRISE_ADDRESS": self.address,
            "REPRISE_PORT": str(self.port), **env})

    def waits(self, process):
        """Connected to rank 0 at this end."""
        links = []
        for fd in os.listdir(f"/proc/{process.pid}/fd"):
            try:
                links.append(os.readlink(f"/proc/{process.pid}/fd/{fd}"))
            except OSError:
                pass
        with open(f"/proc/{process.pid}/net/tcp") as file:
            there = {f"socket:[{line.split()[9]}]" for line in file if re.search(rf" \S+:{self.port:04X} 01 ", line)}
        return any(link in there for link in links)


def catches(process, number):
    with open(f"/proc/{process.pid}/status") as file:
        caught = next(int(line.split()[1], 16) for line in file if line.startswith("SigCgt:"))
    return caught >> (number - 1) & 1


def end(*processes):
    results = [process.communicate(timeout=100) for process in processes]
    return [process.returncode for process in processes], [err for _, err in results]


@pytest.fixture(scope="module")
def want(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plain")
    return rp.run(rp.write(folder, rp.DIGITS_MLP), folder / "run", *SET, env=ENV)


def test_the_last_comes_late(tmp_path, want):
    hosts = Hosts(tmp_path, 4)
    early = [hosts.start(i) for i in (2, 0, 1)]
    wait_for(lambda: hosts.waits(early[0]) and hosts.waits(early[2]))
    time.sleep(4)  # twice timeout.peer
    codes, errors = end(*early, hosts.start(3))
    assert codes == [0] * 4, errors
    assert rp.manifest(tmp_path / "run")["digests"]["final"] == want


def test_one_that_went_away_comes_again(tmp_path, want):
    hosts = Hosts(tmp_path, 4)
    others = [hosts.start(i) for i in (0, 1)]
    lost = hosts.start(2)
    wait_for(lambda: hosts.waits(lost))
    lost.kill()
    lost.communicate()
    time.sleep(0.5)
    codes, errors = end(*others, hosts.start(2), hosts.start(3))
    assert codes == [0] * 4, errors
    assert "rank 2 (" in errors[0] and "went away before all had come" in errors[0]
    assert rp.manifest(tmp_path / "run")["digests"]["final"] == want


@pytest.mark.parametrize("asked", [0, 1, 2])
def test_asked_to_stop_while_it_waits(tmp_path, asked):
    """Of rank 0 and another that is there; or one that does not find rank 0. All that are there stop, and nothing has begun."""
    hosts = Hosts(tmp_path, 4)
    there = [hosts.start(i) for i in ((0, 1) if asked < 2 else (2,))]
    if asked < 2:
        wait_for(lambda: hosts.waits(there[1]))
    wait_for(lambda: all(catches(process, signal.SIGTERM) for process in there))
    time.sleep(0.5)
    there[asked % 2].send_signal(signal.SIGTERM)
    codes, errors = end(*there)  # in a part of the time for which they would wait
    assert codes == [20] * len(there), (codes, errors)
    said = [err for err in errors if err]
    assert all("nothing is lost; run the same command again" in err for err in said), errors
    assert len(said) == (1 if asked < 2 else 0)  # rank 0 speaks for all
    assert not (tmp_path / "run").exists()


def test_who_comes_after_an_end_hears_of_it(tmp_path):
    """Rank 1 cannot go on; the others are a second late, and would look for rank 0 for minutes."""
    hosts = Hosts(tmp_path, 4)
    there = [hosts.start(0), hosts.start(1, "--set", "model.hidden=[1000000, 1000000]")]
    time.sleep(1)
    codes, errors = end(hosts.start(2), hosts.start(3), *there)
    assert codes == [5, 5, 5, 5], (codes, errors)
    assert "rank 1 (" in errors[2] and "ended before all had come" in errors[2], errors


def test_addresses_of_the_sixth_kind(tmp_path, want):
    """As pods of some clusters have them and no other; Gloo is given them too."""
    with socket.socket(socket.AF_INET6) as probe:
        try:
            probe.bind(("::1", 0))
        except OSError:
            pytest.skip("this host has no IPv6")
    hosts = Hosts(tmp_path, 2, "::1")
    codes, errors = end(*[hosts.start(i) for i in range(2)])
    assert codes == [0, 0] and rp.manifest(tmp_path / "run")["digests"]["final"] == want, errors
    codes, errors = end(*[hosts.start(i, "--fresh", "--set", "resources.comm=gloo") for i in range(2)])
    assert codes == [0, 0] and rp.manifest(tmp_path / "run")["digests"]["final"] == want, errors


def test_control_nobody_waits_for_ever(tmp_path):
    hosts = Hosts(tmp_path, 2)
    codes, errors = end(hosts.start(0, REPRISE_WAIT="1"))
    assert codes == [21] and "1 of 2 ranks did not come to 127.0.0.1 port" in errors[0] and "in 1 s: rank 1." in errors[0]
    codes, errors = end(hosts.start(1, REPRISE_WAIT="1"))
    assert codes == [21] and "cannot be reached at 127.0.0.1" in errors[0]
