"""Hosts that cannot reach each other any more: every rank on both sides ends within seconds with 21 or 22 and says who is lost,
where, when and in what; and the run goes on afterwards with the same bits. The hosts are network namespaces (hosts.py); all
jobs run side by side, behind links slow enough to be caught in the middle."""
import os
import pathlib
import re
import signal
import time

import pytest

import hosts
import reprise as rp
from ranks.test_ranks import OTHERS_WAIT, PLACE

PEER, STEP = 3, 5  # seconds of resources.timeout
UNWIND = 30        # 3 for the main thread to end by itself, and what a busy machine takes; without an end: as long as connections live
LONGEST = 200      # that all of it takes
# Hosts of one kernel could share memory: hosts of their own cannot.
SET = ["--set", "resources.comm=gloo", "--set", f"resources.timeout.peer={PEER} s", "--set", f"resources.timeout.step={STEP} s", "--set", "train.for=120 steps",
       "--set", "eval.every=120 steps", "--set", "checkpoint.every=10 steps"]


class Job:
    """A process per host as an indexed job of Kubernetes starts them, each of which starts its ranks."""

    def __init__(self, folder, n, local, rate="20mbit", before=None):
        folder.mkdir()
        self.folder, self.run, self.n, self.local = folder, folder / "run", n, local
        self.hosts, self.errors = hosts.Hosts(n), None
        self.began, self.took = None, [None] * n
        self.spec = rp.write(folder, rp.DIGITS_MLP)
        for i in range(n):
            self.hosts.slow(i, rate)
        if before:  # it is there from the beginning, and no steps will be
            before(self.hosts)
            self.began = time.monotonic()
        args = [rp.PROGRAM, "run", self.spec, "--out", self.run, "--set", f"resources.ranks={n * local}", *SET]
        self.processes = [rp.start_words(self.hosts.command(i, *args), env={
            "OMP_NUM_THREADS": "1", "REPRISE_NODES": str(n), "JOB_COMPLETION_INDEX": str(i), "REPRISE_PORT": "29500",
            "REPRISE_ADDRESS": self.hosts.address(0), **({"REPRISE_WAIT": str(WAIT)} if before else {}), "REPRISE_TERMINATION_LOG": str(self.reason(i))}) for i in range(n)]

    def reason(self, i):
        return self.folder / f"reason-{i}"

    def fail(self, fault):
        """As soon as there are some steps. From the fault to the end, for each host: seconds."""
        file = self.run / "digests.jsonl"
        if self.began is None and file.exists() and file.read_bytes().count(b"\n") >= 15:
            fault(self.hosts)
            self.began = time.monotonic()

    def ended(self):
        for i, process in enumerate(self.processes):
            if self.took[i] is None and process.poll() is not None:
                self.took[i] = time.monotonic() - (self.began or time.monotonic())
        return None not in self.took

    def end(self):
        if self.errors is not None:
            return
        for process in self.processes:
            if process.poll() is None:
                process.kill()
        self.errors = [p.communicate(timeout=60)[1] for p in self.processes]
        self.codes = [p.returncode for p in self.processes]
        try:
            self.left, self.listening = self.hosts.processes(), self.hosts.sockets()
        finally:
            self.hosts.close()


class Pulses:
    """Host 1 stands still for most of the time, in pieces shorter than timeout.peer."""

    def __init__(self, host):
        self.pids = host.pids(1)
        self.next, self.stopped = 0, False

    def beat(self):
        if time.monotonic() < self.next:
            return
        self.stopped = not self.stopped
        self.next = time.monotonic() + (0.3 if self.stopped else 0.1)
        for pid in self.pids:
            try:
                os.kill(pid, signal.SIGSTOP if self.stopped else signal.SIGCONT)
            except ProcessLookupError:
                pass


FAULTS = {
    "a host": (4, 1, lambda h: h.cut(2)),
    "rank 0": (4, 1, lambda h: h.cut(0)),
    "a cable": (2, 2, lambda h: h.unplug(1)),
    "two of four": (4, 1, lambda h: h.cut_between(1, 3)),
}
SLOW = "a slow host"
NEVER = "two of four from the beginning"
WAIT = 20  # REPRISE_WAIT


@pytest.fixture(scope="module")
def jobs(tmp_path_factory):
    if not (pathlib.Path(rp.PROGRAM).parent / "reprise_gloo.so").exists():
        pytest.skip("this build has no module reprise_gloo (libgloo-dev was not there)")
    if hosts.missing():
        pytest.skip(hosts.missing())
    folder, made = tmp_path_factory.mktemp("jobs"), {}
    try:
        for name, (n, local, _) in FAULTS.items():
            made[name] = Job(folder / name.replace(" ", "-"), n, local)
        made[SLOW] = Job(folder / "slow", 2, 1, "60mbit")
        made[NEVER] = Job(folder / "never", 4, 1, before=lambda h: h.cut_between(1, 3))
        pulses, latest = [], time.monotonic() + LONGEST
        while not all([job.ended() for job in made.values()]) and time.monotonic() < latest:
            for name, job in made.items():  # at once: none waits for another to have its steps
                job.fail(FAULTS[name][2] if name in FAULTS else lambda host: pulses.append(Pulses(host)))  # NEVER has begun
            for pulse in pulses:
                pulse.beat()
            time.sleep(0.01)
    finally:
        for job in made.values():
            job.end()
    return made


@pytest.fixture(scope="module")
def want(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plain")
    return rp.run(rp.write(folder, rp.DIGITS_MLP), folder / "run", *SET, env={"OMP_NUM_THREADS": "1"})


@pytest.mark.parametrize("name", list(FAULTS))
def test_every_rank_ends_in_time_and_leaves_nothing(jobs, name):
    job = jobs[name]
    code = 22 if name == "two of four" else 21
    assert job.codes == [code] * job.n, job.errors
    assert max(job.took) < (STEP if code == 22 else PEER) + UNWIND, job.took
    assert not job.left and not job.listening
    manifest = rp.manifest(job.run)
    assert manifest["exit_code"] == code and manifest["status"] == "failed"


def test_a_lost_host_is_named(jobs):
    job = jobs["a host"]
    # Of which step and place a rank was last heard is as old as its last heartbeat.
    said = re.search(rf"rank 2 \(node2, process \d+\) is lost: silent for longer than timeout.peer at step \d+, in {PLACE}; {OTHERS_WAIT}", job.errors[0])
    assert said and set(re.findall(r"\d+", said[1])) == {"0", "1", "3"}, job.errors
    # The other side says it, too, and the rest only where a scheduler looks.
    own = re.search(r"\[rank 2 node2\] reprise: error: rank 0 \(node0, at 10.99.0.1 port 29500\) is lost: silent for longer than "
                    rf"timeout.peer; last heard at step (\d+), in {PLACE}, while rank 2 waits at step (\d+), in {PLACE}\n", job.errors[2])
    assert own and int(own[1]) <= int(own[2]) + 1, job.errors  # one may be a step ahead
    assert job.errors[1] == job.errors[3] == ""
    assert all("rank 2 (node2, process" in job.reason(i).read_text() for i in (0, 1, 3)), job.errors
    assert "rank 0 (node0" in job.reason(2).read_text()


def test_rank_0_alone_on_its_side(jobs):
    job = jobs["rank 0"]
    assert "is lost, and so is every other rank: this host may be cut off" in job.errors[0], job.errors
    for i in (1, 2, 3):
        assert f"[rank {i} node{i}] reprise: error: rank 0 (node0, at 10.99.0.1 port 29500) is lost" in job.errors[i], job.errors


def test_an_unplugged_host_with_two_ranks(jobs):
    job = jobs["a cable"]
    assert re.search(r"rank [23] \(node1, process \d+\) is lost", job.errors[0]), job.errors
    assert "rank 0 (node0" in job.errors[1] and job.reason(1).read_text()


def test_two_that_do_not_reach_each_other(jobs):
    """Rank 0 hears both: only the clock of the step finds it."""
    job = jobs["two of four"]
    assert re.search(r"rank \d \(node\d, process \d+\) makes no progress, and nobody does, though all are heard: a connection between "
                     rf"two ranks may be cut; at step \d+, in {PLACE}; {OTHERS_WAIT}", job.errors[0]), job.errors


def test_two_that_never_reached_each_other(jobs):
    """A firewall that lets through the port of rank 0 alone: the start ends, too, and says what to look at."""
    job = jobs[NEVER]
    assert job.codes == [22] * 4 and not job.left and not job.listening, job.errors
    assert re.search(r"rank [013] \(node[013], process \d+\) does not come into connection with the others, though all are heard: other "
                     rf"ports than rank 0's may be closed between the hosts.*; at step 0, in connect; {OTHERS_WAIT}", job.errors[0]), job.errors
    assert max(job.took) < LONGEST, job.took


def test_it_goes_on_with_the_same_bits(jobs, want):
    before = {name: rp.digest_lines(jobs[name].run)[-1]["step"] for name in FAULTS}
    again = {name: rp.start("run", jobs[name].spec, "--out", jobs[name].run, *SET, env={"OMP_NUM_THREADS": "1"}) for name in FAULTS}
    for name, process in again.items():
        _, err = process.communicate(timeout=300)
        manifest = rp.manifest(jobs[name].run)
        assert process.returncode == 0 and manifest["digests"]["final"] == want, (name, err)
        assert before[name] < 120 and len(manifest["segments"]) == 2


def test_control_slow_is_not_lost(jobs, want):
    job = jobs[SLOW]
    assert job.codes == [0, 0], job.errors
    assert rp.manifest(job.run)["digests"]["final"] == want and min(job.took) > PEER and not job.left


def test_control_a_port_in_use_is_seen():
    """Of `left` and `listening`: what they would tell."""
    import subprocess
    host = hosts.Hosts(1)
    try:
        process = subprocess.Popen(host.command(0, "python3", "-c", "import socket, time; s = socket.socket(); s.bind(('', 29500)); "
                                                "s.listen(); time.sleep(600)"))
        end = time.monotonic() + 60
        while not host.sockets() and time.monotonic() < end:
            time.sleep(0.05)
        assert len(host.sockets()) == 1 and host.processes() == [process.pid]
        process.kill()
        process.wait()
        assert not host.sockets() and not host.processes()
    finally:
        host.close()
