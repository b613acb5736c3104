"""`run --try` and `rerun --steps` of a run of several ranks: they use as many, tell what those take, and find what differs."""
import hashlib
import json
import os
import pathlib
import shutil
import signal
import struct
import time

import pytest

import reprise as rp
from test_ranks import ENV, QUIET, children_of, free_port, launch, ranks, torchrun, wait_for

MEBIBYTE = 1 << 20
LATER = ["--set", "train.for=1M steps"]


def left_behind(folder):
    return [path.name for path in folder.rglob(".try-*")]


def processes_of(folder):
    found = []
    for entry in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if str(folder).encode() in entry.read_bytes():
                found.append(entry.parent.name)
        except OSError:
            pass
    return found


def clean(folder):
    assert not left_behind(folder)
    wait_for(lambda: not processes_of(folder))


# ---- run --try --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [2, 4])
def test_it_tells_what_a_rank_takes(n, tmp_path):
    spec = rp.write(tmp_path, rp.DIGITS_MLP)
    told = rp.call_json("run", spec, "--try", "--out", tmp_path / "runs/a", *ranks(n), *QUIET, env=ENV)
    assert told["ranks"] == n and told["steps_tried"] == 3 and told["steps_compared"] == 1
    assert min(told[key] for key in ("step_seconds", "eval_seconds", "save_seconds", "stop_seconds")) > 0
    plan = rp.call_json("plan", spec, *ranks(n), env=ENV)
    assert told["plan_bytes"] == plan["memory_bytes"] != rp.call_json("plan", spec, env=ENV)["memory_bytes"]
    assert abs(told["peak_bytes"] - told["plan_bytes"]) <= max(0.05 * told["plan_bytes"], 8 * MEBIBYTE)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["job.yaml"]
    clean(tmp_path)


def test_control_one_rank(tmp_path):
    spec = rp.write(tmp_path, rp.DIGITS_MLP)
    assert rp.call_json("run", spec, "--try", "--out", tmp_path / "a", env=ENV)["ranks"] == 1
    out, _ = rp.call("run", spec, "--try", "--out", tmp_path / "a", env=ENV)
    two, _ = rp.call("run", spec, "--try", "--out", tmp_path / "a", *ranks(2), *QUIET, env=ENV)
    assert "on 2 ranks" in two and "for a rank" in two and "rank" not in out


def test_a_run_that_others_have_begun(tmp_path):
    """Its checkpoint is read by as many ranks; nothing of it changes, and it goes on as without a trial. And --fresh."""
    spec = rp.write(tmp_path, rp.DIGITS_MLP)
    run = tmp_path / "run"
    process = rp.start("run", spec, "--out", run, *ranks(2), *QUIET, *LATER, env=ENV)
    assert rp.kill_when(process, lambda: (run / "checkpoints/step-00000010/COMMITTED").exists(), signal.SIGTERM) == 20
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    for more in ([], ["--fresh"]):
        told = rp.call_json("run", spec, "--try", "--out", run, *ranks(4), *QUIET, *LATER, *more, env=ENV)
        assert told["ranks"] == 4 and told["steps_compared"] == 1
        assert before == {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    for checkpoint in (run / "checkpoints").iterdir():
        (checkpoint / "optimizer-00001-of-00002.safetensors").write_bytes(b"damaged")
    _, err = rp.call("run", spec, "--try", "--out", run, *ranks(4), *QUIET, *LATER, env=ENV, expect=8)
    assert "checkpoint" in err and err.count("error:") == 1, err
    clean(tmp_path)


def test_it_fails_as_the_run_would(tmp_path):
    spec = rp.write(tmp_path, rp.DIGITS_MLP)
    rp.run(spec, tmp_path / "done", env=ENV)

    def fails(code, what, *args, out="x", n=4, env=ENV):
        _, err = rp.call("run", spec, "--try", "--out", tmp_path / out, *ranks(n), *QUIET, *args, env=env, expect=code)
        assert what in err and err.count("error:") == (code > 0), err
        clean(tmp_path)

    fails(0, "finished already", out="done")
    fails(2, "holds a run of another spec", "--set", "seed=8", out="done")
    fails(2, "lower", n=16)
    fails(2, "REPRISE_BUCKET_BYTES", env={**ENV, "REPRISE_BUCKET_BYTES": "x"})
    fails(6, "the loss is", "--set", "train.optimizer.lr=1e6", "--set", "model.activation=relu", "--set", "train.schedule.warmup=0 steps",
          "--set", "data.transform=[{normalize: {mean: 0, std: 1.0e-38}}]")
    process = rp.start("run", spec, "--out", tmp_path / "busy", *LATER, "--set", "seed=3", env=ENV)
    try:
        wait_for(lambda: (tmp_path / "busy/digests.jsonl").exists())
        _, err = rp.call("run", spec, "--try", "--out", tmp_path / "busy", *ranks(2), *LATER, "--set", "seed=3", env=ENV, expect=24)
        assert "in use" in err
    finally:
        process.kill()
        process.communicate()


SLOWLY = rp.RESNET.replace("samples: 200", "samples: 20000").replace("fraction: 0.2", "fraction: 0.9").replace("out: 8,", "out: 32,")


@pytest.mark.parametrize("who, number, code", [("parent", signal.SIGTERM, 20), ("parent", signal.SIGKILL, -9), ("rank 1", signal.SIGKILL, 5),
                                               ("rank 0", signal.SIGKILL, 5)])
def test_nobody_outlives_it(who, number, code, tmp_path):
    """A signal to the whole, and ranks that are killed in the midst of an evaluation."""
    spec = rp.write(tmp_path, SLOWLY)
    process = rp.start("run", spec, "--try", "--out", tmp_path / "a", *ranks(2), env=ENV)
    wait_for(lambda: len(children_of(process)) == 2 and any(path.read_text().count("\n") for path in tmp_path.glob(".try-*/digests.jsonl")))
    os.kill(process.pid if who == "parent" else children_of(process)[int(who[-1])], number)
    _, err = process.communicate(timeout=300)
    assert process.returncode == code, err
    assert who == "parent" or f"its {who}, was killed" in err and err.count("error:") == 1, err
    wait_for(lambda: not processes_of(tmp_path))
    assert number == signal.SIGKILL and who == "parent" or not left_behind(tmp_path)


def change_last(path):
    """Another digest of step 3, in a chain that fits it."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    lines[2]["params"] = f"{int(lines[2]['params'], 16) ^ 1:016x}"
    link = struct.pack("<QIQ", 3, int(lines[2]["loss"], 16), int(lines[2]["params"], 16))
    lines[2]["chain"] = hashlib.sha256(bytes.fromhex(lines[1]["chain"]) + link).hexdigest()
    path.write_text("".join(json.dumps(line, separators=(", ", ": ")) + "\n" for line in lines))


@pytest.mark.skipif(not rp.SLOW, reason="this build has no slow reads (tests/tools/slow_read.c)")
def test_control_other_bits_are_found(tmp_path):
    spec = rp.write(tmp_path, rp.RESNET.replace("samples: 200", "samples: 4000").replace("fraction: 0.2", "fraction: 0.001"))
    # The step is computed again after what a slow disk takes to give the checkpoint.
    slow = {"LD_PRELOAD": rp.SLOW, "SLOW_READ": "safetensors", "SLOW_READ_MS": "300"}
    process = rp.start("run", spec, "--try", "--out", tmp_path / "a", *ranks(2), *QUIET, env={**ENV, **slow})
    changed = False
    while process.poll() is None and not changed:
        for path in tmp_path.glob(".try-*/digests.jsonl"):
            if path.read_text().count("\n") == 3:
                change_last(path)
                changed = True
        time.sleep(0.001)
    _, err = process.communicate(timeout=300)
    assert changed and process.returncode == 7 and err.count("error:") == 1, err
    clean(tmp_path)


def test_under_a_launcher(tmp_path):
    """Each of its processes tries one rank; rank 0's speaks."""
    spec = rp.write(tmp_path, rp.DIGITS_MLP)
    codes, results = launch(spec, tmp_path / "run", 2, torchrun(free_port(), 2), "--try", *QUIET)
    assert codes == [0, 0] and results[1] == ("", ""), results
    told = json.loads(results[0][0].splitlines()[-1])
    assert told["ranks"] == 2 and told["steps_compared"] == 1
    rp.run(spec, tmp_path / "run", env=ENV)
    codes, results = launch(spec, tmp_path / "run", 2, torchrun(free_port(), 2), "--try", *QUIET)
    assert codes == [0, 0] and "finished already" in results[0][1], results
    codes, results = launch(spec, tmp_path / "run", 2, torchrun(free_port(), 2), "--try", "--set", "seed=8", *QUIET)
    assert codes == [2, 2] and results[1][1].count("error:") == 0 and results[0][1].count("error:") == 1, results
    codes, results = launch(spec, tmp_path / "x", 2, torchrun(free_port(), 2), "--try", "--set", "resources.comm=mpi")
    assert codes == [2, 2] and "MPI begins once" in results[0][1], results
    clean(tmp_path)


def test_nodes_try_their_ranks(tmp_path):
    """Two nodes of Kubeflow's kind, two ranks on each."""
    spec, port = rp.write(tmp_path, rp.DIGITS_MLP), free_port()
    codes, results = launch(spec, tmp_path / "run", 2, lambda r: {
        "PET_NNODES": "2", "PET_NODE_RANK": str(r), "PET_NPROC_PER_NODE": "2", "PET_MASTER_ADDR": "127.0.0.1", "PET_MASTER_PORT": str(port)},
        "--try", *QUIET)
    assert codes == [0, 0] and results[1] == ("", ""), results
    told = json.loads(results[0][0].splitlines()[-1])
    assert told["ranks"] == 4 and told["steps_compared"] == 1
    clean(tmp_path)


# ---- rerun --steps ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    spec = rp.write(folder, rp.DIGITS_MLP.replace("  clip_norm: 1.0", "  clip_norm: 1.0\n  ema: {decay: 0.9}"))
    rp.run(spec, folder / "run", *ranks(2), "--set", "checkpoint.every=7 steps", "--set", "checkpoint.keep.last=100", env=ENV)
    return folder / "run"


@pytest.mark.parametrize("n", [1, 2, 4])
@pytest.mark.parametrize("steps", ["1:3", "9:16"])
def test_steps_again(steps, n, made):
    """From the beginning and from a checkpoint, by the two ranks of the run, by one and by more; nothing is written."""
    before = {path: path.read_bytes() for path in made.rglob("*") if path.is_file()}
    more = [] if n == 2 else ranks(n)  # the spec as it was resolved has the two
    first, last = map(int, steps.split(":"))
    told = rp.call_json("rerun", made, "--steps", steps, *more, env=ENV)
    assert told["status"] == "equal" and told["compared"] == last - first + 1
    assert before == {path: path.read_bytes() for path in made.rglob("*") if path.is_file()}
    # Only several ranks cut gradients into buckets.
    rp.call("rerun", made, "--steps", "1:1", *more, env={**ENV, "REPRISE_BUCKET_BYTES": "x"}, expect=2 if n > 1 else 0)


def test_control_a_step_that_differs(made, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(made, run)
    path = run / "digests.jsonl"
    text = path.read_text().splitlines(keepends=True)
    other = json.loads(text[11])["params"]
    path.write_text("".join(text).replace(other, f"{int(other, 16) ^ 1:016x}"))
    for n in (1, 4):
        _, err = rp.call("rerun", run, "--steps", "9:16", *ranks(n), env=ENV, expect=7)
        assert "step 12 differs" in err and err.count("error:") == 1, err
        rp.call("rerun", run, "--steps", "13:16", *ranks(n), env=ENV)
    assert not (run / "logs/rank-00001.txt").exists()


def test_a_request_stops_all(made):
    slow = {"LD_PRELOAD": rp.SLOW, "SLOW_READ": "safetensors", "SLOW_READ_MS": "1000"} if rp.SLOW else {}
    process = rp.start("rerun", made, "--steps", "15:30", *ranks(4), env={**ENV, **slow, "REPRISE_BUCKET_BYTES": "1"})
    wait_for(lambda: len(children_of(process)) == 3)
    os.kill(process.pid, signal.SIGTERM)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 20 and err.count("error:") == 1, err
