"""Gradients move between ranks while backward goes on: the bits of one rank whatever the buckets are, and an end in seconds when a rank
is lost in the midst of it. That a bucket which leaves too early is seen: tests/unit/test_overlap.c."""
import os
import pathlib
import re
import signal
import time

import pytest

import hosts
import reprise as rp
from ranks.test_owners import SPECS
from ranks.test_ranks import ALL_MODELS, ENV, OTHERS_WAIT, PLACE, QUIET, ended, free_port, launch, long_run, ranks, shards_of, torchrun, wait_for


@pytest.fixture(autouse=True, scope="module")
def gloo_is_there():
    if not (pathlib.Path(rp.PROGRAM).parent / "reprise_gloo.so").exists():
        pytest.skip("this build has no module reprise_gloo (libgloo-dev was not there)")


SMALL, EACH = "30000", "1"  # a few buckets; one for each parameter


def cut(size):
    return {**ENV, "REPRISE_BUCKET_BYTES": size}


@pytest.mark.parametrize("name", list(ALL_MODELS))
def test_equal_bits(name, tmp_path):
    """Also several passes of a step: a bucket leaves in the last one, the tree over passes behind it."""
    rp.write_texts(tmp_path)
    spec = rp.write(tmp_path, ALL_MODELS[name])
    want = rp.run(spec, tmp_path / "one")
    micro = {"mlp": 4, "lenet": 6, "resnet": 8, "gpt2": 2, "llama": 1}[name]
    ways = {"a": (2, SMALL, []), "b": (shards_of(name), EACH, []), "c": (2, EACH, ["--set", f"train.micro_batch={micro}"])}
    for out, (n, size, args) in ways.items():
        assert rp.run(spec, tmp_path / out, *ranks(n), *args, env=cut(size)) == want, (n, size, args)
        assert (tmp_path / out / "digests.jsonl").read_bytes() == (tmp_path / "one/digests.jsonl").read_bytes()


@pytest.mark.parametrize("name", list(SPECS))
def test_equal_bits_of_optimizers(name, tmp_path):
    rp.write_texts(tmp_path)
    spec = rp.write(tmp_path, SPECS[name])
    want = rp.run(spec, tmp_path / "one")
    for n, size in ((2, EACH), (4, SMALL)):
        assert rp.run(spec, tmp_path / str(n), *ranks(n), env=cut(size)) == want, (n, size)


def test_a_checkpoint_is_read_under_other_buckets(tmp_path):
    """Other numbers of ranks and sizes of buckets, killed in the midst; and what a tool reads is whole."""
    spec = rp.write(tmp_path, SPECS["averages"])
    want = rp.run(spec, tmp_path / "plain")
    out, every = tmp_path / "run", ["--set", "checkpoint.every=3 steps"]
    digests = out / "digests.jsonl"
    for n, size, steps in ((4, EACH, 7), (2, SMALL, 14), (1, EACH, 20)):
        process = rp.start("run", spec, "--out", out, *ranks(n), *every, env={**cut(size), **rp.slowly()})
        rp.kill_when(process, lambda: digests.exists() and len(digests.read_bytes().splitlines()) >= steps)
    assert rp.run(spec, out, *ranks(8), *every, env=cut(SMALL)) == want
    rp.call("verify", out)
    assert "equal" in rp.call("compare", tmp_path / "plain", out)[0]


def test_memory_for_what_others_send_falls(tmp_path):
    spec = rp.write(tmp_path, rp.DIGITS_MLP)
    whole, cut_up = (rp.call_json("plan", spec, *ranks(4), "--set", "resources.comm=gloo", env={"REPRISE_BUCKET_BYTES": size})["memory"]
                     for size in ("", EACH))
    assert cut_up["sums of other ranks"] < whole["sums of other ranks"]
    assert cut_up["gradients"] == whole["gradients"] and cut_up["parameters"] == whole["parameters"]


def test_not_beside_backward(tmp_path):
    """REPRISE_OVERLAP=0, also on one of two ranks alone: only when bytes move is another."""
    spec = rp.write(tmp_path, rp.DIGITS_MLP.replace("for: 4 epochs", "for: 8 steps"))
    want = rp.run(spec, tmp_path / "one")
    assert rp.run(spec, tmp_path / "off", *ranks(4), env={**cut(EACH), "REPRISE_OVERLAP": "0"}) == want
    port = free_port()
    codes, results = launch(spec, tmp_path / "half", 2, lambda r: {**torchrun(port, 2)(r), **cut(EACH), "REPRISE_OVERLAP": "10"[r]})
    assert codes == [0, 0] and rp.manifest(tmp_path / "half")["digests"]["final"] == want, results


def test_ranks_with_other_buckets_are_refused(tmp_path):
    spec = rp.write(tmp_path, rp.DIGITS_MLP)
    port = free_port()
    codes, results = launch(spec, tmp_path / "run", 2, lambda r: {**torchrun(port, 2)(r), "REPRISE_BUCKET_BYTES": ("", EACH)[r]})
    assert codes == [3, 3] and "rank 1 (" in results[0][1] and "REPRISE_BUCKET_BYTES" in results[0][1], results
    for wrong in ("0", "-1", "1 MiB", "x"):
        _, err = rp.call("run", spec, "--out", tmp_path / "run", *ranks(2), env=cut(wrong), expect=2)
        assert f'REPRISE_BUCKET_BYTES is "{wrong}"' in err


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
@pytest.mark.parametrize("victim", [0, 2])
def test_a_lost_rank_ends_the_run(tmp_path, number, victim, monkeypatch):
    monkeypatch.setenv("REPRISE_BUCKET_BYTES", EACH)
    process, others = long_run(tmp_path, 4)
    os.kill(others[victim], number)
    code, err = ended(process)
    assert code == 21 and f"process {others[victim]})" in err and "is lost" in err
    assert not [pid for pid in others if rp.is_alive(pid)]


def test_a_request_to_stop_is_seen(tmp_path, monkeypatch):
    monkeypatch.setenv("REPRISE_BUCKET_BYTES", EACH)
    process, others = long_run(tmp_path, 4, *QUIET)
    os.kill(others[1], signal.SIGTERM)
    assert ended(process)[0] == 20


def test_the_profile_shows_the_wait(tmp_path):
    """Of the time of a step, `reduce` is what nothing hides."""
    spec = rp.write(tmp_path, rp.DIGITS_MLP)
    out, _ = rp.call("run", spec, "--out", tmp_path / "run", *ranks(2), "--profile", env=cut(SMALL))
    assert re.search(r"^reduce +\d", out, re.M) and re.search(r"^gather +\d", out, re.M), out


# ---- behind a slow link --------------------------------------------------------------------------

WIDE = rp.DIGITS_MLP.replace("hidden: [33, 20]", "hidden: [256, 256, 256, 256]")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_lost_in_the_midst_of_an_exchange(number, tmp_path):
    """A step is nearly all exchange here, so that is where the rank is; the other one is named as waiting in it."""
    if hosts.missing():
        pytest.skip(hosts.missing())
    spec, two = rp.write(tmp_path, WIDE), hosts.Hosts(2)
    try:
        for i in range(2):
            two.slow(i, "6mbit")
        processes = [rp.start_words(two.command(
            i, rp.PROGRAM, "run", spec, "--out", tmp_path / "run", *rp.ENDLESS, "--set", "resources.ranks=2", "--set",
            "resources.timeout.peer=2 s", "--set", "resources.comm=gloo",  # hosts of one kernel would share memory
            "--set", "checkpoint.every=50M steps"), env={
                **cut("100000"), "REPRISE_NODES": "2", "JOB_COMPLETION_INDEX": str(i), "REPRISE_PORT": "29500",
                "REPRISE_ADDRESS": two.address(0)}) for i in range(2)]
        digests = tmp_path / "run/digests.jsonl"
        wait_for(lambda: digests.exists() and digests.read_bytes().count(b"\n") > 1)
        time.sleep(0.8)  # heartbeats have said that the next reduction, of a second, has begun
        for pid in two.pids(1):
            os.kill(pid, number)
        _, err = processes[0].communicate(timeout=60)  # bytes for a rank that is silent would be waited for much longer
        processes[1].kill()
        processes[1].communicate(timeout=60)
        left = two.processes()
    finally:
        two.close()
    assert processes[0].returncode == 21, err
    assert re.search(rf"rank 1 \(node1, process \d+\) is lost: .* at step \d+, in {PLACE}; {OTHERS_WAIT}", err), err
    assert not left
