"""Initial weights that take long to read: rank 0 reads them once, and a request to stop to any rank meanwhile is heard by all."""
import os
import signal
import time

import pytest

import reprise as rp
from test_ranks import ENV, children_of, ended, ranks, wait_for

SLOW, NOTE = os.environ.get("SLOW_READ_MODULE"), os.environ.get("NOTE_DISK_MODULE")
QUIET = ["--set", "resources.timeout.peer=300 s"]
pytestmark = pytest.mark.skipif(not (SLOW and NOTE), reason="this build has no slow reads (tests/tools)")


def begins_with(spec, where, name):
    return rp.write(spec.parent, spec.read_text().replace("model: {", f"model: {{init_from: {{{where}}}, "), name)


@pytest.fixture(scope="module")
def origin(tmp_path_factory):
    """A run, and its weights as a file."""
    folder = tmp_path_factory.mktemp("origin")
    spec = rp.write(folder, rp.DIGITS_MLP)
    rp.run(spec, folder / "one", env=ENV)
    rp.run(spec, folder / "two", *ranks(2), env=ENV)
    rp.call("export", folder / "one", "--to", "safetensors", "--out", folder / "far.safetensors")
    return folder, spec


WHERE = {"file": "path: {0}/far.safetensors", "checkpoint": "run: {0}/one, load: all", "shards": "run: {0}/two, load: all"}


@pytest.mark.parametrize("what", WHERE)
def test_each_file_is_read_once(what, origin, tmp_path):
    """Opened once, as what is loaded is what was hashed; and a start that goes on from a checkpoint hashes them again."""
    folder, spec = origin
    job, note, run = begins_with(spec, WHERE[what].format(folder), f"{what}.yaml"), tmp_path / "note", tmp_path / "run"
    env = {**ENV, "LD_PRELOAD": NOTE, "NOTE_DISK": str(note)}

    def opened():
        lines = [line.split(" ", 1)[1] for line in note.read_text().splitlines() if line.startswith("open ")]
        note.unlink()
        return sorted(line for line in lines if line.startswith(str(folder)) and line.endswith(".safetensors"))

    rp.call("run", job, "--out", run, *ranks(2), "--stop-after", "0.000001s", env=env, expect=20)
    first = opened()
    assert len(first) == len(set(first)) == {"file": 1, "checkpoint": 2, "shards": 4}[what], first
    want = rp.run(job, tmp_path / "whole", *ranks(2), env=env)
    assert opened() == first
    assert rp.run(job, run, *ranks(2), env=env) == want and opened() == first


@pytest.mark.parametrize("rank", [0, 1])
def test_a_request_while_they_are_read(rank, origin, tmp_path):
    """Each of three reads takes 1.5 s: all end before the last, with 20, nothing begun, and the same command goes on."""
    folder, spec = origin
    job, run = begins_with(spec, WHERE["file"].format(folder), "slow.yaml"), tmp_path / "run"
    slow = {**ENV, "LD_PRELOAD": f"{NOTE}:{SLOW}", "NOTE_DISK": str(tmp_path / "note"), "SLOW_READ": "far.safetensors", "SLOW_READ_MS": "1500"}
    process = rp.start("run", job, "--out", run, *ranks(2), *QUIET, env=slow)
    wait_for(lambda: len(children_of(process)) == 1 and (tmp_path / "note").exists() and "far.safetensors" in (tmp_path / "note").read_text(), 100)
    os.kill(process.pid if rank == 0 else children_of(process)[0], signal.SIGTERM)
    asked = time.monotonic()
    code, err = ended(process, 200)
    assert code == 20 and "nothing is lost; run the same command again" in err and err.count("error:") == 1, (code, err)
    assert not (run / "manifest.json").exists()
    assert rp.run(job, run, *ranks(2), *QUIET, env=ENV) == rp.run(job, tmp_path / "plain", env=ENV)


def test_another_file_is_refused_before_any_step(origin, tmp_path):
    folder, spec = origin
    job = begins_with(spec, WHERE["file"].format(folder) + f", sha256: {'0' * 64}", "other.yaml")
    _, err = rp.call("run", job, "--out", tmp_path / "run", *ranks(2), env=ENV, expect=4)
    assert "not the one in the spec" in err and not (tmp_path / "run").exists()
