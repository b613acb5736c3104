"""`reprise plan`: what it prints, what it refuses, and memory against the measured peak."""
import json
import math
import pathlib
import time

from reprise import DIGITS_MLP, LENET, RESNET, call, call_json, slowly, start

MEBIBYTE = 1 << 20


def write(folder, text, name="job.yaml"):
    path = pathlib.Path(folder) / name
    path.write_text(text)
    return path


def peak_of(process):
    """The largest resident anonymous memory seen, looked at every millisecond."""
    peak = 0
    status = pathlib.Path(f"/proc/{process.pid}/status")
    while process.poll() is None:
        try:
            lines = status.read_text().splitlines()
        except OSError:
            break
        for line in lines:
            if line.startswith("RssAnon:"):
                peak = max(peak, int(line.split()[1]) * 1024)
        time.sleep(0.001)
    process.communicate()
    return peak


def test_text_and_json_agree(tmp_path):
    spec = write(tmp_path, LENET)
    out, _ = call("plan", spec)
    plan = call_json("plan", spec)
    assert f"{plan['parameters']:,} parameters" in out
    assert plan["parameters"] == sum(layer["parameters"] for layer in plan["layers"])
    assert plan["memory_bytes"] == sum(plan["memory"].values())
    assert plan["steps"] == 12 and plan["max_ranks"] == 8
    assert f"{plan['memory_bytes'] / MEBIBYTE:.1f} MiB" in out
    other = call_json("plan", spec, "--set", "train.micro_batch=6")
    assert other["memory"]["activations"] < plan["memory"]["activations"]
    assert other["digests"]["numeric"] == plan["digests"]["numeric"]
    assert call_json("plan", spec, "--set", "seed=9")["digests"]["numeric"] != plan["digests"]["numeric"]


def test_errors_have_their_line(tmp_path):
    spec = write(tmp_path, LENET.replace("linear: {out: 10}", "linear: {out: 11}"))
    _, err = call("plan", spec, expect=2)
    line = 1 + LENET.splitlines().index("    - linear: {out: 10}")
    assert f"job.yaml:{line}:" in err and "10 classes" in err
    spec = write(tmp_path, LENET.replace("    - flatten\n", ""))
    _, err = call("plan", spec, expect=2)
    assert "linear needs a row of features" in err


def test_too_large_is_exit_5(tmp_path):
    spec = write(tmp_path, DIGITS_MLP.replace("[33, 20]", "[1000000, 1000000]"))
    out, err = call("plan", spec, expect=5)
    assert "optimizer state" in err and "in all, on a rank" in out


def test_memory_is_right(tmp_path):
    """Within 2 % or 4 MiB of the measured peak; twice the batch is a control: it must not fit both."""
    differences = []
    for text, change in ((DIGITS_MLP, "train.batch=64"), (LENET, "train.batch=48"),
                         (RESNET, "train.for=3 steps"),
                         (LENET, "model.layers=[{conv2d: {out: 64, kernel: 5, padding: 2}}, relu, flatten, "
                                 "{linear: {out: 10}}]")):
        spec = write(tmp_path, text)
        plan = call_json("plan", spec, "--set", change)
        out = tmp_path / f"run-{len(differences)}"
        peak = peak_of(start("run", spec, "--out", out, "--set", change, env=slowly()))
        differences.append(plan["memory_bytes"] - peak)
        assert abs(differences[-1]) <= max(0.02 * peak, 4 * MEBIBYTE), (change, plan["memory"], peak)
    larger = call_json("plan", spec, "--set", change, "--set", "train.batch=96")
    assert larger["memory_bytes"] - peak > 4 * MEBIBYTE


def test_memory_of_ranks_is_what_auto_will_take(tmp_path):
    """On one host ranks share memory and hold no sums of others; between hosts, and through Gloo, they do. `run --try` measures it:
    tests/ranks/test_try_ranks.py."""
    spec = write(tmp_path, DIGITS_MLP.replace("[33, 20]", "[2000, 2000]"))
    four = ["--set", "resources.ranks=4"]

    def plan(*args, **env):
        return call_json("plan", spec, *args, env={"OMP_NUM_THREADS": "1", **env})

    here, gloo = plan(*four), plan(*four, "--set", "resources.comm=gloo")
    sums, shared = gloo["memory"]["sums of other ranks"], here["memory"]["part of the shared memory"]
    assert sums > 5 * MEBIBYTE and "sums of other ranks" not in here["memory"] and "part of the shared memory" not in gloo["memory"]
    assert here["memory_bytes"] - shared == gloo["memory_bytes"] - sums and here["more_between_hosts_bytes"] == sums - shared
    assert f"{(sums - shared) / MEBIBYTE:.1f} MiB more" in call("plan", spec, *four)[0]
    assert " more" not in call("plan", spec, *four, "--set", "resources.comm=gloo")[0]
    assert plan(*four, "--set", "resources.comm=shm")["memory_bytes"] == here["memory_bytes"]
    torchrun = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "4", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "2000"}
    for local, want in (("4", here), ("2", gloo)):
        assert plan(*four, **torchrun, LOCAL_WORLD_SIZE=local)["memory_bytes"] == want["memory_bytes"], local
    one = plan()
    assert one["more_between_hosts_bytes"] == 0 and not {"part of the shared memory", "sums of other ranks"} & one["memory"].keys()


# ---- how long a run takes to stop, beside what a site leaves it ------------------------------------------------

SLURM = """slurm:
  time: "04:00:00"
  grace: {grace}
  sbatch: ['--signal=B:USR1@{signal}']
"""
KUBERNETES = """kubernetes:
  image: "r/reprise:0"
  runs: {{claim: runs, path: /runs}}
  grace: {grace}
  patch: patch.yaml
"""


def env(folder):
    return {"REPRISE_RUNS": str(folder / "runs"), "HOME": str(folder), "REPRISE_SITE": ""}


def test_stop_is_an_estimate_until_a_run_has_measured_it(tmp_path):
    spec = write(tmp_path, DIGITS_MLP)
    before = call_json("plan", spec, env=env(tmp_path))["stop"]
    assert not before["measured"] and before["allowance_seconds"] == 60 and "an estimate" in before["source"] and before["graces"] == []
    assert "an estimate: a minute" in call("plan", spec, env=env(tmp_path))[0]
    run = call_json("run", spec, env=env(tmp_path))["run"]
    manifest = json.loads((pathlib.Path(run) / "manifest.json").read_text())
    longest = manifest["segments"][0]["longest"]
    after = call_json("plan", spec, env=env(tmp_path))["stop"]
    work = longest["step_seconds"] + longest["evaluation_seconds"]
    assert after["measured"] and after["work_seconds"] == work and after["save_seconds"] == longest["save_seconds"]
    assert after["allowance_seconds"] == math.ceil(2 * (work + longest["save_seconds"]) + 5) and run in after["source"]
    # A stop that took longer than its parts counts, and so does the newest start alone.
    manifest["segments"][0]["stop_seconds"] = 100.0
    (pathlib.Path(run) / "manifest.json").write_text(json.dumps(manifest))
    assert call_json("plan", spec, env=env(tmp_path))["stop"]["allowance_seconds"] == 205
    manifest["segments"].append({"segment": 1, "longest": {"step_seconds": 1.0, "save_seconds": 2.0}})
    manifest["segments"].append({"segment": 2, "longest": {}})
    (pathlib.Path(run) / "manifest.json").write_text(json.dumps(manifest))
    stop = call_json("plan", spec, env=env(tmp_path))["stop"]
    assert stop["allowance_seconds"] == 11 and stop["source"].endswith("segment 1")
    # Control: another experiment has its own folder, which nobody has measured.
    assert not call_json("plan", spec, "--set", "seed=99", env=env(tmp_path))["stop"]["measured"]


def test_stop_beside_what_the_site_leaves(tmp_path):
    spec = write(tmp_path, DIGITS_MLP)
    site = write(tmp_path, SLURM.format(grace=59, signal=300) + KUBERNETES.format(grace=61), "site.yaml")
    write(tmp_path, "spec:\n  template:\n    spec:\n      terminationGracePeriodSeconds: 10\n", "patch.yaml")
    out, err = call("plan", spec, "--site", site, env=env(tmp_path))
    lines = [line for line in out.splitlines() if line.startswith("grace")]
    assert [(line.split()[1], line.rsplit(": ", 1)[1]) for line in lines] == [
        ("120", "enough"), ("59", "too short"), ("300", "enough"), ("10", "too short"), ("61", "enough")], out
    assert err.count("warning") == 2 and "slurm.grace of the site leaves 59 s" in err and "terminationGracePeriodSeconds of the site's patch" in err
    graces = call_json("plan", spec, "--site", site, env=env(tmp_path))["stop"]["graces"]
    assert [(g["target"], g["seconds"], g["enough"]) for g in graces] == [
        ("slurm", 120, True), ("slurm", 59, False), ("slurm", 300, True), ("kubernetes", 10, False), ("kubernetes", 61, True)]
    # Control: the same limits do for a run that has measured less.
    call_json("run", spec, env=env(tmp_path))
    _, err = call("plan", spec, "--site", site, env=env(tmp_path))
    assert err == ""
    # `launch` says the same of the same site.
    _, err = call("launch", spec, "--on", "slurm", "--site", site, "--out", tmp_path / "job", env=env(tmp_path))
    assert err == ""
    _, err = call("launch", spec, "--on", "slurm", "--site", site, "--set", "seed=9", "--out", tmp_path / "other", env=env(tmp_path))
    assert "slurm.grace of the site leaves 59 s" in err and err.count("leaves") == 1


def test_a_site_that_is_wrong_is_told(tmp_path):
    spec = write(tmp_path, DIGITS_MLP)
    _, err = call("plan", spec, "--site", write(tmp_path, "slurm: {tme: 1}", "site.yaml"), env=env(tmp_path), expect=2)
    assert "site.yaml:1" in err and "time" in err
