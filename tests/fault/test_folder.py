"""The run folder: who holds it, what a second run does, moved and read-only folders, tampered records, damaged data."""
import gzip
import hashlib
import json
import os
import resource
import shutil
import struct
import subprocess
import time

import pytest

import reprise as rp

LONG = rp.DIGITS_MLP.replace("4 epochs", "100M steps")
NOTE = os.environ.get("NOTE_DISK_MODULE")
needs_modules = pytest.mark.skipif(not (rp.SLOW and NOTE), reason="this build has nothing to preload (tests/tools)")
TOKENS = """reprise: 1
name: tokens
seed: 5
data: {train: {format: tokens, files: [train.bin], vocab: 32}}
model: {kind: gpt, layers: 1, heads: 2, width: 16, context: 8}
train: {for: 40k steps, batch: 8, optimizer: {kind: adamw, lr: 0.01}}
checkpoint: {every: 10 steps, keep: {last: 1000}}
"""


def idx_files(folder, n=200, seed=1):
    """A tiny image set in IDX form."""
    import random
    chance = random.Random(seed)
    images = bytes(chance.randrange(256) for _ in range(n * 64))
    labels = bytes(chance.randrange(4) for _ in range(n))
    (folder / "images.gz").write_bytes(gzip.compress(struct.pack(">4i", 0x803, n, 8, 8) + images, mtime=0))
    (folder / "labels").write_bytes(struct.pack(">2i", 0x801, n) + labels)


IDX = """reprise: 1
name: tiny
seed: 3
data:
  train: {format: idx, images: images.gz, labels: labels}
model: {kind: mlp, hidden: [8]}
train: {for: 30 steps, batch: 16, optimizer: {kind: sgd, lr: 0.1}}
checkpoint: {every: 7 steps}
"""


@pytest.fixture
def tiny(tmp_path):
    """A finished run on files."""
    home = tmp_path / "home"
    home.mkdir()
    idx_files(home)
    spec = rp.write(home, IDX)
    return home, spec, rp.run(spec, home / "run")


def test_twice_at_once_is_busy(tmp_path):
    spec = rp.write(tmp_path, LONG)
    first = rp.start("run", spec, "--out", tmp_path / "run")
    try:
        while not (tmp_path / "run" / "digests.jsonl").exists():
            assert first.poll() is None
            time.sleep(0.01)
        _, err = rp.call("run", spec, "--out", tmp_path / "run", expect=24)
        assert str(first.pid) in err
        assert rp.call_json("show", tmp_path / "run")["status"] == "running"
    finally:
        first.kill()
        first.communicate()
    assert rp.call_json("show", tmp_path / "run")["status"] == "lost"
    rp.call("run", spec, "--out", tmp_path / "run", "--stop-after", "0.2s", expect=20)  # nobody has to clean up


def chain_after(before, record):
    """chain = SHA-256(previous chain, step, loss bits, params): DESIGN 4, so that a tampered record can be a consistent one."""
    numbers = struct.pack("<QIQ", record["step"], int(record["loss"], 16), int(record["params"], 16))
    return hashlib.sha256(bytes.fromhex(before) + numbers).hexdigest()


def forged(spec, out):
    """A run killed after step 15 whose record of step 14 is another, and whose newest checkpoint is of step 10; the record's bytes."""
    process = rp.start("run", spec, "--out", out, env=rp.slowly(50))
    lines, saved = out / "digests.jsonl", out / "checkpoints" / "step-00000010"
    rp.kill_when(process, lambda: saved.exists() and len(lines.read_bytes().splitlines()) > 15)
    text = [line for line in lines.read_text().splitlines() if line.endswith("}")]
    records = [json.loads(line) for line in text]
    records[13]["params"] = "%016x" % (int(records[13]["params"], 16) ^ 1)
    for i in range(13, len(records)):
        records[i]["chain"] = chain_after(records[i - 1]["chain"], records[i])
        for key in ("params", "chain"):
            text[i] = text[i].replace(json.loads(text[i])[key], records[i][key])
    lines.write_text("".join(line + "\n" for line in text))
    for folder in (out / "checkpoints").glob("step-*"):
        if folder.name > saved.name:
            shutil.rmtree(folder)
    return lines.read_bytes()


def test_recomputed_steps_are_checked(tmp_path):
    """A record that says something else is told (7), keeps its bytes, and gives way only to --allow-drift."""
    spec = rp.write(tmp_path, rp.DIGITS_MLP.replace("every: 5 steps", "every: 10 steps"))
    out = tmp_path / "run"
    final = rp.run(spec, tmp_path / "plain")
    before = forged(spec, out)
    _, err = rp.call("run", spec, "--out", out, expect=7)
    assert "step 14" in err and "twice" in err
    assert (out / "digests.jsonl").read_bytes() == before
    assert rp.run(spec, out, "--allow-drift") == final


@needs_modules
def test_two_computations_that_differ(tmp_path):
    """Bits that change while a step that differs is computed once more: the machine is suspected (23), nothing is overwritten."""
    tokens = bytes(byte for i in range(4000) for byte in (i * i * 7 % 31, 0))
    (tmp_path / "train.bin").write_bytes(tokens)
    spec, out, note = rp.write(tmp_path, TOKENS), tmp_path / "run", tmp_path / "note"
    before = forged(spec, out)

    def opened():
        return sum(line.startswith("open ") and line.endswith("/model.safetensors") for line in note.read_text().splitlines())

    env = {"LD_PRELOAD": NOTE, "NOTE_DISK": str(note)}
    _, err = rp.call("run", spec, "--out", out, env=env, expect=7)  # control: the same twice
    assert "twice" in err
    openings = opened()  # the last of them to compute once more
    note.write_text("")
    env = {"LD_PRELOAD": f"{NOTE}:{rp.SLOW}", "NOTE_DISK": str(note), "SLOW_READ": "model.safetensors", "SLOW_READ_MS": "300"}
    process = rp.start("run", spec, "--out", out, env=env)
    while process.poll() is None and opened() < openings:
        time.sleep(0.005)
    with open(tmp_path / "train.bin", "r+b") as file:
        file.write(bytes(byte for i in range(4000) for byte in (i % 29, 0)))
    _, err = process.communicate()
    assert process.returncode == 23 and "suspect this machine" in err
    assert (out / "digests.jsonl").read_bytes() == before


@needs_modules
def test_order_of_durability(tmp_path):
    """Logs, tensor files, state.json, the marker and its folder, the rename, the folder above: in every checkpoint."""
    spec, note, run = rp.write(tmp_path, rp.DIGITS_MLP), tmp_path / "note", tmp_path / "run"
    rp.run(spec, run, env={"LD_PRELOAD": NOTE, "NOTE_DISK": str(note)})
    lines = note.read_text().replace(f"{run}/", "").splitlines()
    steps = [line.split()[2] for line in lines if line.startswith("rename checkpoints/saving-")]
    assert len(steps) >= 5
    at = -1
    for step in steps:
        saving = step.replace("step-", "saving-step-")
        files = ["model.safetensors", "optimizer.safetensors", "state.json", "COMMITTED"]
        for line in ["sync metrics.jsonl", "sync digests.jsonl", *(f"sync {saving}/{file}" for file in files), f"sync {saving}",
                     f"rename {saving} {step}", "sync checkpoints"]:
            at = lines.index(line, at + 1)


def test_changed_data_is_told(tiny):
    home, spec, final = tiny
    blob = bytearray((home / "labels").read_bytes())
    blob[-1] ^= 1
    (home / "labels").write_bytes(blob)
    # In its own folder: another digest, because no sha256 in the spec pins the file.
    assert rp.run(spec, home / "other") != final
    _, err = rp.call("rerun", home / "run", "--out", home / "again", expect=7)
    assert "step 1" in err
    # A run that is not finished refuses to go on with other data.
    rp.call("run", spec, "--out", home / "part", "--stop-after", "0.000001s", expect=20)
    blob[-1] ^= 2
    (home / "labels").write_bytes(blob)
    _, err = rp.call("run", spec, "--out", home / "part", expect=4)
    assert "data" in err


def test_rehash_sees_what_size_and_times_do_not_tell(tiny):
    """Later starts know a file by size, mtime and inode, and take its hash from the manifest; --rehash reads it again."""
    home, spec, _ = tiny
    rp.call("run", spec, "--out", home / "part", "--stop-after", "0.000001s", expect=20)
    labels = home / "labels"
    before, blob = labels.stat(), bytearray(labels.read_bytes())
    blob[-1] ^= 1
    with open(labels, "r+b") as file:
        file.write(blob)
    os.utime(labels, ns=(before.st_atime_ns, before.st_mtime_ns))
    _, err = rp.call("run", spec, "--out", home / "part", "--rehash", expect=4)
    assert "data" in err
    rp.call("run", spec, "--out", home / "part")  # the control: nobody looked


def test_a_pinned_hash_refuses_other_data(tiny, tmp_path):
    home, _, _ = tiny
    hashes = [hashlib.sha256((home / name).read_bytes()).hexdigest() for name in ("images.gz", "labels")]
    spec = rp.write(home, IDX.replace("labels: labels}", f"labels: labels, sha256: [{hashes[0]}, {hashes[1]}]}}"), "pinned.yaml")
    rp.call("run", spec, "--out", tmp_path / "good")
    blob = bytearray((home / "labels").read_bytes())
    blob[-1] ^= 1
    (home / "labels").write_bytes(blob)
    _, err = rp.call("run", spec, "--out", tmp_path / "bad", expect=4)
    assert hashes[1] in err and "labels" in err
    assert not (tmp_path / "bad").exists()


def test_moved_and_read_only(tiny, tmp_path):
    home, _, final = tiny
    moved = tmp_path / "archive" / "somewhere"
    moved.parent.mkdir()
    shutil.move(home / "run", moved)
    shutil.move(home, tmp_path / "data elsewhere")
    for path in [moved, *moved.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    demote = {} if os.getuid() else {"user": 65534, "group": 65534}
    work = tmp_path / "work"
    work.mkdir()
    work.chmod(0o777)
    for parent in [tmp_path, *list(tmp_path.parents)[:2]]:
        os.chmod(parent, 0o755)
    for command in (["verify", moved], ["show", moved], ["rerun", moved, "--out", work / "again", "--data", tmp_path / "data elsewhere"],
                    ["compare", moved, work / "again"], ["rerun", moved, "--steps", "9:20", "--data", tmp_path / "data elsewhere"]):
        rp.call(*command, cwd=work, env={"HOME": "/nonexistent"}, **demote)
    assert rp.manifest(work / "again")["digests"]["final"] == final
    # Without --data the message says what to do.
    _, err = rp.call("rerun", moved, "--out", work / "more", cwd=work, expect=4, **demote)
    assert "--data" in err


def test_replayed_steps_and_their_control(tiny):
    home, _, _ = tiny
    out, _ = rp.call("rerun", home / "run", "--steps", "9:20")
    assert "equal" in out
    lines = (home / "run" / "digests.jsonl").read_text().splitlines(keepends=True)
    record = json.loads((home / "run" / "digests.jsonl").read_text().splitlines()[15])
    record["params"] = "0" * 16
    lines[15] = json.dumps(record, separators=(",", ":")) + "\n"
    (home / "run" / "digests.jsonl").write_text("".join(lines))
    _, err = rp.call("rerun", home / "run", "--steps", "9:20", expect=7)
    assert "step 16" in err
    _, err = rp.call("verify", home / "run", expect=7)


@pytest.mark.parametrize("limit_kib", [1, 30, 60])
def test_full_disk_loses_nothing(tiny, limit_kib, tmp_path):
    """No more than so many bytes fit into a file: exit 9, and the run goes on from its last save afterwards."""
    home, spec, final = tiny

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit_kib * 64, resource.RLIM_INFINITY))

    process = subprocess.run([rp.PROGRAM, "run", spec, "--out", tmp_path / "run"], preexec_fn=limit, capture_output=True, text=True)
    assert process.returncode == 9, process.stderr
    assert "run" in process.stderr
    assert rp.run(spec, tmp_path / "run") == final


def test_damaged_checkpoints_are_skipped(tiny):
    home, spec, final = tiny
    out = home / "part"
    rp.run(spec, out)
    shutil.copytree(out, home / "copy")
    for damage in ("flip", "cut", "no state", "all"):
        shutil.rmtree(out)
        shutil.copytree(home / "copy", out)
        manifest = rp.manifest(out)
        manifest["status"] = "running"
        (out / "manifest.json").write_text(json.dumps(manifest))
        steps = sorted((out / "checkpoints").glob("step-*"))
        file = steps[-1] / "model.safetensors"
        if damage == "flip":
            blob = bytearray(file.read_bytes())
            blob[-5] ^= 0x40
            file.write_bytes(blob)
        elif damage == "cut":
            file.write_bytes(file.read_bytes()[:-8])
        elif damage == "no state":
            (steps[-1] / "state.json").unlink()
        else:
            for step in steps:
                (step / "model.safetensors").write_bytes(b"nothing")
            rp.call("run", spec, "--out", out, expect=8)
            continue
        _, err = rp.call("run", spec, "--out", out)
        assert steps[-1].name in err, damage
        assert rp.manifest(out)["digests"]["final"] == final


def test_early_stop_resumes_with_its_memory(tmp_path):
    text = rp.DIGITS_MLP.replace("eval: {every: 1 epoch}", "eval: {every: 2 steps, early_stop: {metric: valid/loss, patience: 2}}")
    text = text.replace("lr: 1.0e-3", "lr: 0.3").replace("4 epochs", "60 epochs")
    spec = rp.write(tmp_path, text)
    final = rp.run(spec, tmp_path / "plain")
    steps = rp.manifest(tmp_path / "plain")["step"]
    assert steps < 480
    assert rp.manifest(tmp_path / "plain")["segments"][-1]["why"] == "early stop"
    out = tmp_path / "run"
    for _ in range(6):
        process = rp.start("run", spec, "--out", out, "--set", "checkpoint.every=1 step")
        have = len(list((out / "checkpoints").glob("*"))) if (out / "checkpoints").exists() else 0
        lines = out / "digests.jsonl"
        size = lines.stat().st_size if lines.exists() else 0
        if rp.kill_when(process, lambda: lines.exists() and lines.stat().st_size > size + 200 * (have + 1)) == 0:
            break
    assert rp.run(spec, out) == final and rp.manifest(out)["step"] == steps


def test_metrics_are_cut_and_whole(tmp_path):
    """After kills the metrics hold each step once, in order, as in the run that nobody disturbed."""
    spec = rp.write(tmp_path, rp.DIGITS_MLP)
    rp.run(spec, tmp_path / "plain")
    out = tmp_path / "run"
    process = rp.start("run", spec, "--out", out, env=rp.slowly())
    rp.kill_when(process, lambda: (out / "digests.jsonl").exists() and (out / "digests.jsonl").stat().st_size > 3000)
    rp.run(spec, out)

    def stable(folder):
        return [(m["step"], m["split"], {k: v for k, v in m["metrics"].items() if k != "samples_per_second"}) for m in rp.metric_lines(folder)]

    assert stable(out) == stable(tmp_path / "plain")
    strip = lambda folder: [{k: v for k, v in line.items()} for line in rp.digest_lines(folder)]
    assert strip(out) == strip(tmp_path / "plain")


def test_nonfinite_stops_and_skips(tmp_path):
    text = rp.DIGITS_MLP.replace("kind: adamw, lr: 1.0e-3, weight_decay: 0.05", "kind: sgd, lr: 1.0e6").replace("  clip_norm: 1.0\n", "")
    text = text.replace("  schedule: {kind: cosine, warmup: 4 steps, final_ratio: 0.1}\n", "")
    spec = rp.write(tmp_path, text)
    _, err = rp.call("run", spec, "--out", tmp_path / "stop", expect=6)
    assert "learning rate" in err
    rp.call("run", spec, "--out", tmp_path / "skip", "--set", "train.on_nonfinite=skip_step")
    lines = rp.digest_lines(tmp_path / "skip")
    assert lines[-1]["params"] == lines[-2]["params"]


def test_canary_appears_in_no_file(tmp_path):
    canary = "canary-7d1f"
    names = ["API_TOKEN", "AWS_SECRET_ACCESS_KEY", "MLFLOW_TRACKING_PASSWORD", "HF_TOKEN", "GITHUB_TOKEN", "MY_PASSWORD", "DATABASE_URL",
             "SLURM_JWT", "KUBECONFIG_DATA", "OMP_SECRET"]
    env = {name: canary for name in names}
    env["HTTPS_PROXY"] = env["https_proxy"] = f"http://user:{canary}@proxy.example:3128/?{canary}"
    spec = rp.write(tmp_path, rp.DIGITS_MLP)
    texts = []
    for command in (["run", spec, "--out", tmp_path / "run"], ["env"], ["env", "--json"], ["lock", spec, "--out", tmp_path / "l.json"], ["show", tmp_path / "run", "--json"]):
        process = rp.start(*command, env=env, cwd=tmp_path)
        texts += process.communicate()
        assert process.returncode == 0, texts[-1]
    texts += [p.read_bytes().decode("latin-1") for p in tmp_path.rglob("*") if p.is_file()]
    assert not any(canary in text for text in texts)
