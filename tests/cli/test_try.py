"""`reprise run --try`: it tells what a run will do, leaves nothing behind, and fails as the run would."""
import os
import pathlib
import signal
import time

import pytest

from reprise import DIGITS_MLP, LENET, MODELS, RESNET, SLOW, call, call_json, kill_when, manifest, run, start, write

MEBIBYTE = 1 << 20


def left_behind(folder):
    return [str(p.relative_to(folder)) for p in pathlib.Path(folder).rglob("*") if ".try-" in str(p)]


def processes_of(folder):
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and str(folder).encode() in (entry / "cmdline").read_bytes():
                found.append(entry.name)
        except OSError:
            pass
    return found


@pytest.mark.parametrize("name", MODELS)
def test_it_tells_and_leaves_nothing(tmp_path, name):
    spec = write(tmp_path, MODELS[name])
    told = call_json("run", spec, "--try", "--out", tmp_path / "runs" / "a")
    assert told["steps_tried"] == 3 and told["steps_compared"] == 1
    assert told["step_seconds"] > 0 and told["save_seconds"] > 0 and told["eval_seconds"] > 0 and told["stop_seconds"] > 0
    assert told["total_seconds"] > told["steps"] * told["step_seconds"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["job.yaml"]
    plan = call_json("plan", spec)
    assert told["steps"] == plan["steps"] and told["plan_bytes"] == plan["memory_bytes"]
    assert abs(told["peak_bytes"] - told["plan_bytes"]) <= max(0.05 * told["plan_bytes"], 8 * MEBIBYTE)


def test_the_run_after_it_is_untouched(tmp_path):
    """Equal digests with and without a trial before; the disk estimate holds; a trial of a stopped run too."""
    spec = write(tmp_path, DIGITS_MLP)
    told = call_json("run", spec, "--try", "--out", tmp_path / "a")
    final = run(spec, tmp_path / "a")
    assert run(spec, tmp_path / "b") == final
    size = sum(p.stat().st_size for p in (tmp_path / "a").rglob("*") if p.is_file())
    assert size <= told["disk_bytes"] <= size * 3 + MEBIBYTE
    evaluations = sum('"valid"' in line for line in (tmp_path / "a" / "metrics.jsonl").read_text().splitlines())
    assert evaluations <= told["evaluations"] <= evaluations + 1
    _, err = call("run", spec, "--try", "--out", tmp_path / "a")
    assert "finished already" in err
    process = start("run", spec, "--out", tmp_path / "c", "--set", "train.for=1M steps")
    code = kill_when(process, lambda: (tmp_path / "c" / "checkpoints" / "step-00000010" / "COMMITTED").exists(), signal.SIGTERM)
    assert code == 20
    before = {p: p.read_bytes() for p in (tmp_path / "c").rglob("*") if p.is_file()}
    call("run", spec, "--try", "--out", tmp_path / "c", "--set", "train.for=1M steps")
    assert before == {p: p.read_bytes() for p in (tmp_path / "c").rglob("*") if p.is_file()}
    assert not left_behind(tmp_path)


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_short_runs(tmp_path, steps):
    spec = write(tmp_path, LENET)
    told = call_json("run", spec, "--try", "--out", tmp_path / "a", "--set", f"train.for={steps} steps",
                     "--set", "train.schedule.warmup=0 steps")
    assert told["steps_tried"] == steps and told["steps_compared"] == 1


QUOTA = os.environ.get("FAKE_QUOTA_MODULE", "")


@pytest.mark.skipif(not QUOTA, reason="no module that fakes a quota")
@pytest.mark.parametrize("fake, said, left", [(0, "no quota", None), (8 * 1024 * 1024, "8192 MiB are left of your quota", 8 << 30),
                                              (100, "your quota will not do: the run would end with code 9", 100 << 10),
                                              (-3, "no quota", None), (-1, "your quota cannot be read (Operation not permitted)", "unknown")])
def test_quota(tmp_path, fake, said, left):
    spec, env = write(tmp_path, DIGITS_MLP), {"LD_PRELOAD": QUOTA, "FAKE_QUOTA": str(fake)}
    out, err = call("run", spec, "--try", "--out", tmp_path / "a", env=env)
    assert said in out + err and "MiB are free, " in out, out + err
    assert call_json("run", spec, "--try", "--out", tmp_path / "a", env=env)["quota_bytes"] == left


def test_fails_as_the_run_would(tmp_path):
    """2, 4, 5, 6, 8, 9, 24: each the code and the words of the real run, each leaving nothing."""
    spec = write(tmp_path, DIGITS_MLP)
    run(spec, tmp_path / "other")

    def fails(code, what, *args, out="x"):
        _, err = call("run", spec, "--try", "--out", tmp_path / out, *args, expect=code)
        assert what in err, err
        assert not left_behind(tmp_path)

    fails(2, "holds a run of another spec", "--set", "seed=8", out="other")
    fails(2, "--set", "--set", "train.batch=none")
    fails(2, "--try goes without --stop-after", "--stop-after", "1h")
    fails(5, "optimizer state", "--set", "model.hidden=[1000000, 1000000]")
    fails(6, "the loss is", "--set", "train.optimizer.lr=1e6", "--set", "model.activation=relu",
          "--set", "train.schedule.warmup=0 steps", "--set", "data.transform=[{normalize: {mean: 0, std: 1.0e-38}}]")
    (tmp_path / "file").write_text("")
    fails(9, "", out="file/run")

    data = DIGITS_MLP.replace("{format: synthetic, task: digits, samples: 640}", "{format: csv, file: t.csv, label: k}")
    data = data.replace(", {random_crop: {padding: 2}}", "")
    (tmp_path / "t.csv").write_text("a,k\n" + "".join(f"{i},{i % 3}\n" for i in range(300)))
    (tmp_path / "csv").mkdir()
    (tmp_path / "csv" / "t.csv").write_text((tmp_path / "t.csv").read_text())
    spec = write(tmp_path / "csv", data)
    fails(4, "there is no file", "--data", tmp_path / "other")
    process = start("run", spec, "--out", tmp_path / "c", "--set", "train.for=1M steps")
    assert kill_when(process, lambda: (tmp_path / "c" / "checkpoints" / "step-00000010" / "COMMITTED").exists(), signal.SIGTERM) == 20
    more = ("--set", "train.for=1M steps")
    call("run", spec, "--try", "--out", tmp_path / "c", *more)
    for checkpoint in (tmp_path / "c" / "checkpoints").iterdir():
        (checkpoint / "model.safetensors").write_bytes(b"damaged")
    call("run", spec, "--out", tmp_path / "c", *more, expect=8)
    fails(8, "checkpoint", *more, out="c")
    (tmp_path / "csv" / "t.csv").write_text("a,k\n" + "".join(f"{i},{i % 2}\n" for i in range(300)))
    fails(4, "not those that the run", *more, out="c")


def test_busy_folder(tmp_path):
    spec = write(tmp_path, DIGITS_MLP)
    process = start("run", spec, "--out", tmp_path / "a", "--set", "train.for=1M steps")
    while not (tmp_path / "a" / "digests.jsonl").exists():
        time.sleep(0.01)
    _, err = call("run", spec, "--try", "--out", tmp_path / "a", "--set", "train.for=1M steps", expect=24)
    assert "in use" in err
    process.kill()
    process.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly(tmp_path, number):
    spec = write(tmp_path, RESNET.replace("samples: 200", "samples: 20000").replace("fraction: 0.2", "fraction: 0.9"))
    process = start("run", spec, "--try", "--out", tmp_path / "a")
    assert kill_when(process, lambda: left_behind(tmp_path), number) == 20
    assert not left_behind(tmp_path) and not processes_of(tmp_path)


def test_nobody_outlives_it(tmp_path):
    spec = write(tmp_path, RESNET.replace("samples: 200", "samples: 20000").replace("fraction: 0.2", "fraction: 0.9"))
    process = start("run", spec, "--try", "--out", tmp_path / "a")
    kill_when(process, lambda: left_behind(tmp_path))
    end = time.monotonic() + 100
    while processes_of(tmp_path) and time.monotonic() < end:
        time.sleep(0.05)
    assert not processes_of(tmp_path)


@pytest.mark.skipif(not SLOW, reason="this build has no slow reads (tests/tools/slow_read.c)")
def test_other_bits_are_found(tmp_path):
    """The control: a record that was changed between kill and resume."""
    import hashlib
    import json
    import struct
    spec = write(tmp_path, RESNET.replace("samples: 200", "samples: 20000").replace("fraction: 0.2", "fraction: 0.001"))
    # The step is computed again after what a slow disk takes to give the checkpoint.
    process = start("run", spec, "--try", "--out", tmp_path / "a", env={"LD_PRELOAD": SLOW, "SLOW_READ": "safetensors", "SLOW_READ_MS": "300"})
    changed = False
    while process.poll() is None and not changed:
        for path in tmp_path.glob(".try-*/digests.jsonl"):
            text = path.read_text()
            if text.count("\n") < 3:
                continue
            lines = [json.loads(line) for line in text.splitlines()]
            last = lines[2]
            last["params"] = f"{int(last['params'], 16) ^ 1:016x}"
            link = struct.pack("<QIQ", 3, int(last["loss"], 16), int(last["params"], 16))
            last["chain"] = hashlib.sha256(bytes.fromhex(lines[1]["chain"]) + link).hexdigest()
            path.write_text("".join(json.dumps(line, separators=(", ", ": ")) + "\n" for line in lines))
            changed = True
        time.sleep(0.001)
    _, err = process.communicate(timeout=300)
    assert changed and process.returncode == 7, err
    assert not left_behind(tmp_path)
