"""kill -9 at random instants, several times per run, and resume: the digest of the run that nobody disturbed."""
import pathlib
import random
import signal
import time

import pytest

import reprise as rp

SLOWER = "\n".join(line for line in rp.DIGITS_MLP.splitlines())


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kill")
    spec = rp.write(folder, SLOWER.replace("4 epochs", "20 epochs"))
    started = time.monotonic()
    final = rp.run(spec, folder / "plain")
    return spec, final, time.monotonic() - started


def test_kill_at_random_instants(undisturbed, tmp_path):
    spec, final, seconds = undisturbed
    chance = random.Random(2026)
    kills = 0
    for attempt in range(40):
        out = tmp_path / f"run-{attempt}"
        for _ in range(12):
            process = rp.start("run", spec, "--out", out, "--set", "checkpoint.every=1 step")
            until = time.monotonic() + chance.uniform(0.0, 1.1 * seconds)
            code = rp.kill_when(process, lambda: time.monotonic() >= until)
            if code == 0:
                break
            assert code == -signal.SIGKILL
            kills += 1
        assert rp.run(spec, out) == final, f"attempt {attempt}"
        if kills >= 30:
            break
    assert kills >= 30


def test_kill_during_saves(undisturbed, tmp_path):
    """Aimed at the instants between the files of a checkpoint."""
    spec, final, _ = undisturbed
    out = tmp_path / "run"
    folder = out / "checkpoints"
    for attempt in range(8):
        process = rp.start("run", spec, "--out", out, "--set", "checkpoint.every=1 step")

        def saving():
            return folder.exists() and any(not (p / "COMMITTED").exists() for p in folder.iterdir())

        if rp.kill_when(process, saving) == 0:
            break
    assert rp.run(spec, out) == final


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP])
def test_signals_save_and_stop(undisturbed, tmp_path, number):
    spec, final, _ = undisturbed
    out = tmp_path / "run"
    process = rp.start("run", spec, "--out", out)
    code = rp.kill_when(process, lambda: (out / "digests.jsonl").exists() and (out / "digests.jsonl").stat().st_size > 500, number)
    assert code == 20
    assert rp.manifest(out)["status"] == "stopped"
    assert rp.run(spec, out) == final


def test_interrupt_saves_and_ends_by_sigint(undisturbed, tmp_path):
    spec, final, _ = undisturbed
    out = tmp_path / "run"
    process = rp.start("run", spec, "--out", out)
    code = rp.kill_when(process, lambda: (out / "digests.jsonl").exists() and (out / "digests.jsonl").stat().st_size > 500, signal.SIGINT)
    assert code == -signal.SIGINT
    assert rp.manifest(out)["status"] == "stopped"
    assert rp.run(spec, out) == final


def test_usr2_saves_and_goes_on(undisturbed, tmp_path):
    spec, final, _ = undisturbed
    out = tmp_path / "run"
    process = rp.start("run", spec, "--out", out, "--set", "checkpoint.every=1M steps")
    code = rp.kill_when(process, lambda: (out / "digests.jsonl").exists() and (out / "digests.jsonl").stat().st_size > 500, signal.SIGUSR2)
    assert code == 0
    assert len(list((out / "checkpoints").iterdir())) == 2
    assert rp.manifest(out)["digests"]["final"] == final


def test_stop_after(undisturbed, tmp_path):
    spec, final, seconds = undisturbed
    out = tmp_path / "run"
    rp.call("run", spec, "--out", out, "--stop-after", f"{seconds / 4:.3f}s", expect=20)
    assert rp.manifest(out)["segments"][0]["why"] == "stop-after"
    assert rp.run(spec, out) == final


def test_control_a_dropped_state_item_differs(undisturbed, tmp_path):
    """The resumed run must depend on everything the checkpoint holds: zeroing one optimizer tensor is noticed."""
    spec, final, _ = undisturbed
    out = tmp_path / "run"
    process = rp.start("run", spec, "--out", out)
    rp.kill_when(process, lambda: len(list((out / "checkpoints").glob("*/COMMITTED"))) >= 2 if (out / "checkpoints").exists() else False)
    newest = sorted((out / "checkpoints").glob("step-*"))[-1]
    file = newest / "optimizer.safetensors"
    blob = bytearray(file.read_bytes())
    blob[-64:] = bytes(64)
    file.write_bytes(blob)
    # A damaged file is named and skipped; the run goes on from the one before and still ends in the same bits.
    _, err = rp.call("run", spec, "--out", out)
    assert newest.name in err
    assert rp.manifest(out)["digests"]["final"] == final
