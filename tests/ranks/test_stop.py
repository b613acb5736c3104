"""Requests to stop a run of several ranks, to any of them and in every phase: all end in seconds, at the same step, and the
manifest says how long it took. An evaluation: test_evaluation.py."""
import os
import shutil
import signal
import struct
import time

import pytest

import reprise as rp
from test_ranks import ENV, QUIET, children_of, ended, free_port, ranks, torchrun, wait_for


def ask(process, rank, number=signal.SIGTERM):
    """The request; the seconds from it to the end, the exit code, what was said."""
    pid = process.pid if rank == 0 else children_of(process)[rank - 1]
    asked = time.monotonic()
    os.kill(pid, number)
    code, err = ended(process, 300)
    return time.monotonic() - asked, code, err


LARGE = """reprise: 1
name: large
seed: 7
data:
  train: {format: synthetic, task: digits, samples: 256}
model: {kind: mlp, hidden: [1500, 1500], activation: gelu}
train: {for: 12 steps, batch: 32, optimizer: {kind: adamw, lr: 1.0e-3}}
checkpoint: {every: 6 steps}
"""


@pytest.mark.parametrize("rank", [0, 3])
def test_in_a_checkpoint(rank, tmp_path):
    """While all write it: that save is committed, and one of the step where all stopped."""
    spec = rp.write(tmp_path, LARGE)
    want = rp.run(spec, tmp_path / "plain", env=ENV)
    run = tmp_path / "run"
    process = rp.start("run", spec, "--out", run, *ranks(4), *QUIET, "--set", "checkpoint.every=1 step", env=ENV)
    wait_for(lambda: list((run / "checkpoints").glob("saving-*")), 120)
    seconds, code, err = ask(process, rank)
    manifest = rp.manifest(run)
    assert code == 20, err
    assert manifest["status"] == "stopped" and (run / f"checkpoints/step-{manifest['step']:08d}/COMMITTED").exists()
    assert len(rp.digest_lines(run)) == manifest["step"] < 12
    segment = manifest["segments"][0]
    assert 0 < segment["stop_seconds"] <= seconds, (segment, seconds)
    assert segment["longest"]["step_seconds"] > 0 and segment["longest"]["save_seconds"] > 0
    assert rp.run(spec, run, *ranks(2), *QUIET, env=ENV) == want


def test_control_a_finished_run_has_not_stopped(tmp_path):
    spec = rp.write(tmp_path, rp.DIGITS_MLP)
    rp.run(spec, tmp_path / "run", *ranks(2), env=ENV)
    segment = rp.manifest(tmp_path / "run")["segments"][0]
    assert "stop_seconds" not in segment and segment["longest"].keys() == {"step_seconds", "evaluation_seconds", "save_seconds"}


def test_stop_after(tmp_path):
    """Rank 0's clock; what it took counts from the time that was given."""
    spec = rp.write(tmp_path, rp.DIGITS_MLP)
    began = time.monotonic()
    rp.call("run", spec, "--out", tmp_path / "run", *ranks(4), *rp.ENDLESS, "--stop-after", "0.5s", env=ENV, expect=20)
    segment = rp.manifest(tmp_path / "run")["segments"][0]
    assert segment["why"] == "stop-after" and 0 < segment["stop_seconds"] < time.monotonic() - began


# ---- in the start: a disk that takes long -----------------------------------------------------------------------


IMAGES = """reprise: 1
name: slow-start
seed: 7
data:
  train: {format: idx, images: slow-images.idx, labels: labels.idx}
model: {kind: mlp, hidden: [100], activation: gelu}
train: {for: 20 steps, batch: 32, optimizer: {kind: adamw, lr: 1.0e-3}}
checkpoint: {every: 5 steps, keep: {last: 100}}
"""
N, READS = 3000, 36  # reads of the images: 64 KiB each


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    pixels = bytes(i * i * 31 % 251 for i in range(N * 784))
    (folder / "slow-images.idx").write_bytes(struct.pack(">IIII", 0x803, N, 28, 28) + pixels)
    (folder / "labels.idx").write_bytes(struct.pack(">II", 0x801, N) + bytes(i % 10 for i in range(N)))
    spec = rp.write(folder, IMAGES)
    return spec, rp.run(spec, folder / "plain", env=ENV)


def slow(what, ms, note=None):
    return {**ENV, "LD_PRELOAD": rp.SLOW, "SLOW_READ": what, "SLOW_READ_MS": str(ms), **({"SLOW_NOTE": str(note)} if note else {})}


def reads(note):
    """How many reads of what is slow each process has begun."""
    pids = note.read_text().split() if note.exists() else []
    return {pid: pids.count(pid) for pid in set(pids)}


needs_slow = pytest.mark.skipif(not rp.SLOW, reason="this build has no slow reads (tests/tools/slow_read.c)")


@needs_slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("rank", [0, 2])
def test_while_data_is_read(rank, number, images, tmp_path):
    """All end before anyone has read the whole, nothing is begun, and the same command goes on."""
    spec, want = images
    run, note = tmp_path / "run", tmp_path / "note"
    process = rp.start("run", spec, "--out", run, *ranks(4), *QUIET, env=slow("slow-images", 1000, note))
    wait_for(lambda: len(reads(note)) == 4)
    _, code, err = ask(process, rank, number)
    assert code == (-signal.SIGINT if rank == 0 and number == signal.SIGINT else 20), (code, err)
    assert max(reads(note).values()) < READS and "nothing is lost; run the same command again" in err and err.count("error:") == 1, (reads(note), err)
    assert not (run / "manifest.json").exists()
    assert rp.run(spec, run, *ranks(4), *QUIET, env=ENV) == want


@needs_slow
def test_stop_after_counts_the_start_too(images, tmp_path):
    """The reads take longer than the time that is given, the steps do not: a job's time is counted from its command."""
    spec, want = images
    for seconds, code in (("1s", 20), ("600s", 0)):
        run = tmp_path / seconds
        rp.call("run", spec, "--out", run, *ranks(2), *QUIET, "--stop-after", seconds, env=slow("slow-images", 40), expect=code)
        assert rp.manifest(run)["step"] == (0 if code else 20)
    assert rp.run(spec, tmp_path / "1s", *ranks(2), *QUIET, env=ENV) == want


@needs_slow
@pytest.mark.parametrize("rank", [0, 1])
def test_while_it_waits_for_one_that_reads(rank, images, tmp_path):
    """The other has a slow disk: who is done, and waits to compare what was read, hears the request too."""
    spec, want = images
    run, notes, variables = tmp_path / "run", [tmp_path / "note-0", tmp_path / "note-1"], torchrun(free_port(), 2)
    both = [rp.start("run", spec, "--out", run, *QUIET, env={**slow("slow-images", 0 if r == rank else 1000, notes[r]), **variables(r)})
            for r in range(2)]
    wait_for(lambda: sum(reads(notes[rank]).values()) >= READS and reads(notes[1 - rank]))
    time.sleep(0.5)  # what lies between the last read and the wait
    both[rank].terminate()
    results = [ended(process) for process in both]
    assert [code for code, _ in results] == [20, 20] and sum(reads(notes[1 - rank]).values()) < READS, results
    assert "nothing is lost" in results[0][1] and not (run / "manifest.json").exists()
    assert rp.run(spec, run, *ranks(2), *QUIET, env=ENV) == want


@needs_slow
@pytest.mark.parametrize("rank", [0, 1])
def test_while_a_checkpoint_is_read(rank, images, tmp_path):
    spec, want = images
    run, note = tmp_path / "run", tmp_path / "note"
    rp.run(spec, run, env=ENV)
    shutil.rmtree(run / "checkpoints/step-00000020")
    text = (run / "manifest.json").read_text().replace('"status": "finished"', '"status": "running"')
    (run / "manifest.json").write_text(text)
    process = rp.start("run", spec, "--out", run, *ranks(2), *QUIET, env=slow("safetensors", 1500, note))
    wait_for(lambda: len(reads(note)) == 2)
    _, code, err = ask(process, rank)
    assert code == 20 and "nothing is lost" in err and err.count("error:") == 1, (code, err)
    assert (run / "manifest.json").read_text() == text
    assert rp.run(spec, run, *ranks(2), *QUIET, env=ENV) == want
    assert [segment["step_first"] for segment in rp.manifest(run)["segments"]] == [0, 15]


@needs_slow
def test_control_without_a_request_all_is_read(images, tmp_path):
    spec, want = images
    assert rp.run(spec, tmp_path / "run", *ranks(2), *QUIET, env=slow("slow-images", 20, tmp_path / "note")) == want
    assert len(reads(tmp_path / "note")) == 2 and min(reads(tmp_path / "note").values()) >= READS


@needs_slow
def test_one_rank_alone(images, tmp_path):
    spec, _ = images
    note = tmp_path / "note"
    process = rp.start("run", spec, "--out", tmp_path / "run", env=slow("slow-images", 1000, note))
    wait_for(lambda: reads(note))
    process.terminate()
    code, err = ended(process)
    assert code == 20 and max(reads(note).values()) < READS and "nothing is lost" in err, (code, err)
