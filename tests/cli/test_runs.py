"""show, list, verify, compare: what they say of whole, damaged, lost and foreign runs, and that they only read."""
import hashlib
import json
import os
import pathlib
import shutil
import signal
import stat
import struct
import subprocess
import time

import pytest

import reprise as rp


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Four runs of one spec: a, again (the same), seed (another seed), lr (another learning rate)."""
    folder = tmp_path_factory.mktemp("runs")
    spec = rp.write(folder, rp.DIGITS_MLP)
    for name, more in {"a": [], "again": ["--set", "resources.threads=1"], "seed": ["--set", "seed=8"],
                       "lr": ["--set", "train.optimizer.lr=1.001e-3"]}.items():
        rp.run(spec, folder / "runs" / name, *more)
    return folder / "runs"


@pytest.fixture()
def copy(runs, tmp_path):
    """A copy of run a that a test may damage."""
    shutil.copytree(runs / "a", tmp_path / "a")
    return tmp_path / "a"


def flip(path, at):
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def last_checkpoint(run):
    return sorted((run / "checkpoints").iterdir())[-1]


def snapshot(folder):
    """Every path with type, mode, times and content: what must not change."""
    seen = {}
    for path in sorted([folder, *folder.rglob("*")]):
        info = path.lstat()
        content = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        seen[str(path)] = (info.st_mode, info.st_mtime_ns, info.st_ctime_ns, info.st_size, content)
    return seen


# ---- verify -----------------------------------------------------------------------------------------------


def test_verify_whole(runs):
    out, _ = rp.call("verify", runs / "a")
    final = rp.manifest(runs / "a")["digests"]["final"]
    assert "every hash is right" in out and final in out
    result = rp.call_json("verify", runs / "a")
    assert result["problems"] == 0 and result["final"] == final and result["exit_code"] == 0


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors", "state.json", "COMMITTED"])
def test_verify_finds_a_flipped_bit_in_a_checkpoint(copy, name):
    path = last_checkpoint(copy) / name
    flip(path, path.stat().st_size // 2)
    _, err = rp.call("verify", copy, expect=7)
    assert last_checkpoint(copy).name in err


def test_verify_finds_a_checkpoint_without_its_marker(copy):
    (last_checkpoint(copy) / "COMMITTED").unlink()
    for checkpoint in sorted((copy / "checkpoints").iterdir())[:-2]:
        shutil.rmtree(checkpoint)
    _, err = rp.call("verify", copy, expect=7)  # one whole one is left, so not 8
    assert last_checkpoint(copy).name in err


def test_verify_without_a_whole_checkpoint(copy):
    for checkpoint in (copy / "checkpoints").iterdir():
        flip(checkpoint / "model.safetensors", 5000)
    _, err = rp.call("verify", copy, expect=8)
    assert "no whole checkpoint is left" in err


@pytest.mark.parametrize("key", ["loss", "params", "chain", "step"])
def test_verify_finds_a_changed_line(copy, key):
    path = copy / "digests.jsonl"
    lines = path.read_text().splitlines()
    line = json.loads(lines[6])
    if key == "step":
        line["step"] += 1
    else:
        line[key] = ("0" if line[key][0] != "0" else "1") + line[key][1:]
    lines[6] = json.dumps(line)
    path.write_text("\n".join(lines) + "\n")
    _, err = rp.call("verify", copy, expect=7)
    assert "digests.jsonl:7" in err


def test_verify_finds_a_changed_tensor_digest(copy):
    path = copy / "digests.jsonl"
    lines = path.read_text().splitlines()
    number = [i for i, line in enumerate(lines) if "tensors" in line][1]
    line = json.loads(lines[number])
    name = next(iter(line["tensors"]))
    line["tensors"][name] = "0123456789abcdef"
    lines[number] = json.dumps(line)
    path.write_text("\n".join(lines) + "\n")
    _, err = rp.call("verify", copy, expect=7)
    assert f"digests.jsonl:{number + 1}" in err


def test_verify_names_the_line_of_a_damaged_log(copy):
    path = copy / "digests.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:9], "{]", *lines[10:]]) + "\n")
    _, err = rp.call("verify", copy, expect=7)
    assert "digests.jsonl:10" in err and "1 thing wrong" in err


def test_verify_while_the_run_goes_on(tmp_path):
    """Nothing is blamed on a run that writes and prunes meanwhile."""
    spec = rp.write(tmp_path, rp.DIGITS_MLP.replace("4 epochs", "100M steps").replace("every: 5 steps, keep: {last: 3}",
                                                                                      "every: 1 step, keep: {last: 1}"))
    process = rp.start("run", spec, "--out", tmp_path / "run")
    try:
        while not list(tmp_path.glob("run/checkpoints/step-*")):
            assert process.poll() is None
            time.sleep(0.01)
        for _ in range(20):
            rp.call("verify", tmp_path / "run")
    finally:
        process.kill()
        process.communicate()
    rp.call("verify", tmp_path / "run")


def test_verify_finds_a_wrong_final(copy):
    manifest = rp.manifest(copy)
    manifest["digests"]["final"] = "0" * 64
    (copy / "manifest.json").write_text(json.dumps(manifest))
    _, err = rp.call("verify", copy, expect=7)
    assert "final digest" in err


def test_verify_finds_a_checkpoint_of_another_run(copy, runs):
    theirs = last_checkpoint(runs / "lr")
    shutil.rmtree(copy / "checkpoints" / theirs.name)
    shutil.copytree(theirs, copy / "checkpoints" / theirs.name)
    _, err = rp.call("verify", copy, expect=7)
    assert "not those of digests.jsonl" in err and "final digest" in err


def test_verify_recomputes_what_python_recomputes(runs):
    """The chain and the final digest, from their definition, without a line of the program's."""
    chain = bytes(32)
    for line in rp.digest_lines(runs / "a"):
        chain = hashlib.sha256(chain + struct.pack("<Q", line["step"]) + struct.pack("<I", int(line["loss"], 16)) +
                               struct.pack("<Q", int(line["params"], 16))).digest()
        assert chain.hex() == line["chain"]
    tensors = hashlib.sha256()
    for name in ["model", "optimizer"]:
        data = (last_checkpoint(runs / "a") / f"{name}.safetensors").read_bytes()
        length, = struct.unpack("<Q", data[:8])
        header = json.loads(data[8:8 + length])
        header.pop("__metadata__")
        for entry in header.values():
            begin, end = entry["data_offsets"]
            tensors.update(hashlib.sha256(data[8 + length + begin:8 + length + end]).digest())
    final = hashlib.sha256(chain + tensors.digest()).hexdigest()
    assert final == rp.manifest(runs / "a")["digests"]["final"]


def test_files_have_the_hashes_that_state_json_gives(runs):
    folder = last_checkpoint(runs / "a")
    state = json.loads((folder / "state.json").read_text())
    assert (folder / "COMMITTED").read_text().strip() == hashlib.sha256((folder / "state.json").read_bytes()).hexdigest()
    for name, entry in state["files"].items():
        data = (folder / name).read_bytes()
        assert entry["size"] == len(data) and entry["sha256"] == hashlib.sha256(data).hexdigest()
    for key in ["beta1_power", "beta2_power", "seconds"]:
        assert float.fromhex(state[key]["hex"]) == state[key]["decimal"]


def test_damaged_checkpoint_is_skipped_and_the_run_goes_on(runs, tmp_path):
    spec = rp.write(tmp_path, rp.DIGITS_MLP)
    out = tmp_path / "run"
    process = rp.start("run", spec, "--out", out, "--set", "checkpoint.every=2 steps", env=rp.slowly())
    rp.kill_when(process, lambda: len(list(out.glob("checkpoints/step-*/COMMITTED"))) >= 2)
    newest = last_checkpoint(out)
    if (newest / "COMMITTED").exists():
        flip(newest / "model.safetensors", 3000)
    result, err = rp.call("run", spec, "--out", out)
    assert newest.name in err and "damaged" in err
    assert rp.manifest(out)["digests"]["final"] == rp.manifest(runs / "a")["digests"]["final"]


# ---- compare ------------------------------------------------------------------------------------------------


def test_compare_equal(runs):
    result = rp.call_json("compare", runs / "a", runs / "again")
    assert result["equal"] and result["final"] == rp.manifest(runs / "a")["digests"]["final"]
    assert any("resources.threads" in fact for fact in result["facts"])
    out, _ = rp.call("compare", runs / "a", runs / "again")
    assert "equal" in out and result["final"] in out


def test_compare_names_step_tensor_element(runs):
    process = rp.start("compare", runs / "a", runs / "lr", "--json")
    out, err = process.communicate()
    assert process.returncode == 7
    result = json.loads(out.splitlines()[-1])
    a, b = rp.digest_lines(runs / "a"), rp.digest_lines(runs / "lr")
    first = next(x["step"] for x, y in zip(a, b) if (x["loss"], x["params"]) != (y["loss"], y["params"]))
    assert result["first_step"] == first and not result["equal"]
    assert any(fact.startswith("spec (numeric) train.optimizer.lr") for fact in result["facts"])
    # The element, found again from the two files.
    name = f"checkpoints/step-{result['checkpoint']:08d}/model.safetensors"
    x, y = (read_tensor(runs / run / name, result["tensor"]) for run in ["a", "lr"])
    index = next(i for i, (p, q) in enumerate(zip(x[1], y[1])) if p != q)
    flat = 0
    for size, place in zip(x[0], result["element"]):
        flat = flat * size + place
    assert flat == index
    bits = [struct.pack(">f", value[1][index]).hex() for value in (x, y)]
    assert result["value_bits"] == bits
    assert result["ulps"] == abs(int(bits[0], 16) - int(bits[1], 16))
    assert str(result["ulps"]) in rp.start("compare", runs / "a", runs / "lr").communicate()[0]


def test_compare_replay_names_the_element_of_that_step(runs, tmp_path):
    """What two runs computed again tell is what checkpoints of that very step tell."""
    def compare(*args):
        out, _ = rp.call("compare", *args, "--json", expect=7)
        return json.loads(out.splitlines()[-1])

    replayed, kept = compare(runs / "a", runs / "lr", "--replay"), compare(runs / "a", runs / "lr")
    assert replayed["checkpoint"] == replayed["first_step"] != kept["checkpoint"]
    for name in ["a", "lr"]:
        more = ("--set", "train.optimizer.lr=1.001e-3") if name == "lr" else ()
        rp.run(runs.parent / "job.yaml", tmp_path / name, "--set", "checkpoint.every=1 step", "--set", "checkpoint.keep.last=100", *more)
    saved = compare(tmp_path / "a", tmp_path / "lr")
    for key in ["checkpoint", "tensor", "element", "value_bits", "ulps"]:
        assert replayed[key] == saved[key], key
    _, err = rp.call("compare", runs / "a", runs / "lr" / "digests.jsonl", "--replay", expect=2)
    assert "two run folders" in err


def read_tensor(path, name):
    data = path.read_bytes()
    length, = struct.unpack("<Q", data[:8])
    entry = json.loads(data[8:8 + length])[name]
    begin, end = entry["data_offsets"]
    raw = data[8 + length + begin:8 + length + end]
    return entry["shape"], struct.unpack(f"<{len(raw) // 4}f", raw)


def test_compare_files_and_lengths(runs, tmp_path):
    whole = runs / "a" / "digests.jsonl"
    out, _ = rp.call("compare", whole, runs / "again" / "digests.jsonl")
    assert "equal" in out
    lines = whole.read_text().splitlines(keepends=True)
    (tmp_path / "short.jsonl").write_text("".join(lines[:5]))
    _, err = rp.call("compare", whole, tmp_path / "short.jsonl", expect=7)
    assert "at step 5" in err and "nothing differs before" in err
    (tmp_path / "torn.jsonl").write_text("".join(lines)[:-10])
    rp.call("compare", whole, tmp_path / "torn.jsonl", expect=7)
    (tmp_path / "bad.jsonl").write_text("".join(lines[:5]) + "nonsense\n")
    _, err = rp.call("compare", whole, tmp_path / "bad.jsonl", expect=4)
    assert "bad.jsonl:6" in err
    (tmp_path / "empty.jsonl").write_text("")
    rp.call("compare", whole, tmp_path / "empty.jsonl", expect=7)


def test_compare_names_missing_runs(runs, tmp_path):
    _, err = rp.call("compare", runs / "a", tmp_path / "none", expect=2)
    assert "none is no run" in err
    rp.call("compare", runs / "a", expect=2)


# ---- show and list -------------------------------------------------------------------------------------------


def test_show_json(runs):
    result = rp.call_json("show", runs / "a")
    manifest = rp.manifest(runs / "a")
    lines = rp.digest_lines(runs / "a")
    assert result["status"] == "finished" and result["exit_code"] == 0
    assert result["digests"]["final"] == manifest["digests"]["final"]
    assert result["digests"]["chain"] == lines[-1]["chain"]
    assert result["step"] == len(lines) == result["steps"]
    newest = {}
    for line in rp.metric_lines(runs / "a"):
        for name, value in line["metrics"].items():
            newest[f"{line['split']}/{name}"] = value
    assert result["metrics"] == newest


def test_show_text(runs):
    out, _ = rp.call("show", runs / "a", env={"LC_ALL": "C.UTF-8"})
    assert "finished" in out and "reprise rerun" in out and "train/loss" in out
    assert any(0x2800 <= ord(c) < 0x2900 for c in out)
    for more, env in [(["--ascii"], {"LC_ALL": "C.UTF-8"}), ([], {"LC_ALL": "C"}), ([], {"LC_ALL": "", "LC_CTYPE": "", "LANG": ""})]:
        plain, _ = rp.call("show", runs / "a", *more, env=env)
        assert plain.isascii() and "*" in plain


def test_show_one_metric(runs):
    out, _ = rp.call("show", runs / "a", "--metric", "train/lr")
    assert "train/lr:" in out and "valid/loss:" not in out
    _, err = rp.call("show", runs / "a", "--metric", "train/none", expect=2)
    assert "train/loss" in err


def test_show_lost_and_stopped(tmp_path):
    spec = rp.write(tmp_path, rp.DIGITS_MLP.replace("4 epochs", "100M steps"))
    out = tmp_path / "run"
    process = rp.start("run", spec, "--out", out)
    rp.kill_when(process, lambda: (out / "digests.jsonl").exists() and (out / "digests.jsonl").stat().st_size > 2000)
    result = rp.call_json("show", out)
    assert result["status"] == "lost" and result["step"] > 0 and result["digests"]["final"] is None
    text, _ = rp.call("show", out)
    assert "nobody holds" in text and "reprise run" in text
    started = rp.manifest(out)["segments"]
    process = rp.start("run", spec, "--out", out)
    rp.kill_when(process, lambda: len(rp.manifest(out)["segments"]) > len(started), signal.SIGTERM)
    assert rp.call_json("show", out)["status"] == "stopped"
    text, _ = rp.call("show", out)
    assert "segments" in text and "lost" in text and "stopped" in text


def test_list_groups_by_all_but_the_seed(runs):
    out, _ = rp.call("list", env={"REPRISE_RUNS": str(runs)})
    rows = [line for line in out.splitlines()[1:]]
    groups = "\n".join(rows).split("\n\n")
    assert len(groups) == 2
    names = [{pathlib.Path(line.split()[0]).name for line in group.splitlines()} for group in groups]
    assert {"a", "again", "seed"} in names and {"lr"} in names
    result = rp.call_json("list", runs)
    assert {pathlib.Path(row["run"]).name: row["seed"] for row in result["runs"]} == {
        "a": "7", "again": "7", "seed": "8", "lr": "7"}


def test_list_of_nothing(tmp_path):
    out, _ = rp.call("list", tmp_path)
    assert "no runs" in out
    out, err = rp.call("list", tmp_path / "none", expect=2)
    assert out == "" and "there is no folder" in err and "REPRISE_RUNS" in err
    assert "no folder runs;" in rp.call("list", cwd=tmp_path, env={"REPRISE_RUNS": ""}, expect=2)[1]
    assert rp.call_json("list", tmp_path)["runs"] == []


def test_list_names_what_is_damaged(runs, tmp_path):
    shutil.copytree(runs, tmp_path / "runs")
    (tmp_path / "runs" / "lr" / "manifest.json").write_text("{")
    (tmp_path / "runs" / "notes").mkdir()
    out, err = rp.call("list", tmp_path / "runs")
    assert "lr" in err and "damaged" in err and "again" in out and "notes" not in out


def test_terminal_escapes_do_not_get_through(runs, tmp_path):
    shutil.copytree(runs / "a", tmp_path / "runs" / "evil\033[31m")
    manifest = rp.manifest(tmp_path / "runs" / "evil\033[31m")
    manifest["error"] = "bell\007"
    manifest["segments"][0]["why"] = "\033]0;title\007"
    (tmp_path / "runs" / "evil\033[31m" / "manifest.json").write_text(json.dumps(manifest))
    for args in [["list", tmp_path / "runs"], ["show", tmp_path / "runs" / "evil\033[31m"],
                 ["compare", tmp_path / "runs" / "evil\033[31m", runs / "lr"], ["verify", tmp_path / "runs" / "evil\033[31m"]]:
        out, err = rp.start(*args).communicate()
        assert "\033" not in out + err and "\007" not in out + err, args


# ---- RUN as a person writes it --------------------------------------------------------------------------------


def test_run_by_name_digest_or_nothing(runs):
    env = {"REPRISE_RUNS": str(runs)}
    manifest = rp.manifest(runs / "lr")
    newest = max(runs.iterdir(), key=lambda run: rp.manifest(run)["segments"][-1]["start"])
    assert rp.call_json("show", "seed", env=env)["run"] == str(runs / "seed")
    assert rp.call_json("show", manifest["digests"]["final"][:10], env=env)["run"] == str(runs / "lr")
    assert rp.call_json("show", manifest["digests"]["numeric"][:12], env=env)["run"] == str(runs / "lr")
    assert rp.call_json("show", "small-mlp", env=env)["run"] == str(newest)
    assert rp.call_json("show", env=env)["run"] == str(newest)
    assert rp.call_json("show", "lr", cwd=runs)["run"] == "lr"
    _, err = rp.call("show", rp.manifest(runs / "a")["digests"]["numeric"][:12], env=env, expect=2)
    assert "again" in err and "2 runs" in err
    rp.call("show", "nothing-like-it", env=env, expect=2)
    rp.call("show", env={"REPRISE_RUNS": str(runs / "none")}, expect=2)


# ---- reading commands only read ------------------------------------------------------------------------------


def test_reading_commands_write_nothing(runs, tmp_path):
    before = snapshot(runs)
    for args in [["show", runs / "a"], ["list", runs], ["verify", runs / "a"], ["compare", runs / "a", runs / "lr"],
                 ["show", runs / "lr", "--json"], ["verify", runs / "lr", "--json"]]:
        rp.start(*args, cwd=tmp_path).communicate()
    assert snapshot(runs) == before
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(os.getuid() == 0 and not shutil.which("unshare"), reason="root writes anywhere")
def test_moved_and_read_only(runs, tmp_path):
    moved = tmp_path / "elsewhere" / "moved"
    shutil.copytree(runs / "a", moved)
    for path in [*moved.rglob("*"), moved]:
        path.chmod(path.stat().st_mode & ~(stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH))
    prefix = []
    if os.getuid() == 0:
        mount = f"mount --bind {moved} {moved} && mount -o remount,ro,bind {moved} {moved} && exec \"$@\""
        prefix = ["unshare", "-m", "sh", "-c", mount, "sh"]
        if subprocess.run([*prefix, "true"], capture_output=True).returncode:
            pytest.skip("no mounts here")
    try:
        for args in [["verify", moved], ["show", moved], ["compare", moved, runs / "again"],
                     ["rerun", moved, "--out", tmp_path / "rerun"]]:
            done = subprocess.run([*prefix, rp.PROGRAM, *map(str, args)], capture_output=True, text=True)
            assert done.returncode == 0, (args, done.stdout, done.stderr)
        probe = subprocess.run([*prefix, "touch", str(moved / "x")], capture_output=True)
        assert probe.returncode != 0  # control: it is read-only
    finally:
        for path in [moved, *moved.rglob("*")]:
            path.chmod(path.stat().st_mode | stat.S_IWUSR)


def test_absolute_paths_are_found_by_name(tmp_path):
    """In --data DIR, by every command that reads data; the absolute path goes first, and another hash is told."""
    there, elsewhere = tmp_path / "there", tmp_path / "elsewhere"
    there.mkdir()
    for name in ("x.npy", "y.npy"):
        shutil.copy(rp.SOURCE / "specs" / name, there)
    text = (rp.SOURCE / "specs" / "values-npy.yaml").read_text().replace("x: x.npy, y: y.npy", f"x: {there}/x.npy, y: {there}/y.npy")
    text = text.replace("for: 3k steps", "for: 400 steps").replace("every: 1k steps", "every: 200 steps")
    assert str(there) in text
    spec = rp.write(tmp_path, text)
    final = rp.run(spec, tmp_path / "a")
    there.rename(elsewhere)
    _, err = rp.call("run", spec, "--out", tmp_path / "x", expect=4)
    assert "with --data DIR it is looked for by its name" in err
    for command in ("validate", "plan"):
        rp.call(command, spec, "--data", elsewhere)
    assert rp.run(spec, tmp_path / "b", "--data", elsewhere) == final
    assert rp.call_json("rerun", tmp_path / "a", "--data", elsewhere, "--out", tmp_path / "c")["equal"]
    assert rp.call_json("rerun", tmp_path / "b", "--out", tmp_path / "d")["equal"]
    assert rp.call_json("eval", tmp_path / "a", "--data", elsewhere) == {
        **rp.call_json("eval", tmp_path / "b"), "run": str(tmp_path / "a")}
    there.mkdir()
    for name in ("x.npy", "y.npy"):
        (there / name).write_bytes((elsewhere / name).read_bytes()[:-4] + b"\0\0\0\0")
    _, err = rp.call("rerun", tmp_path / "a", "--data", elsewhere, "--out", tmp_path / "e", expect=7)
    assert "is not the data.train.x of this run: SHA-256" in err and "first that differs" in err
