"""list over many runs: groups, filters, order, speed; show: best values, curves in small, what to do next."""
import json
import math
import pathlib
import resource
import statistics
import subprocess

import pytest

import reprise as rp


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Three seeds of two learning rates; one of them stopped early, one failed."""
    folder = tmp_path_factory.mktemp("list")
    spec = rp.write(folder, rp.DIGITS_MLP)
    for lr in ["1e-3", "3e-3"]:
        for seed in [1, 2, 3]:
            rp.run(spec, folder / "runs" / f"lr{lr}-{seed}", "--set", f"seed={seed}", "--set", f"train.optimizer.lr={lr}")
    rp.call("run", spec, "--out", folder / "runs" / "stopped", "--set", "train.batch=32", "--set", "train.for=100k epochs",
            "--stop-after", "1s", expect=20)
    rp.call("run", spec, "--out", folder / "runs" / "failed", "--set", "train.optimizer.kind=sgd", "--set",
            "train.optimizer.lr=1e6", "--set", "train.schedule.warmup=0 steps", "--set", "train.clip_norm=1e9", expect=6)
    return folder / "runs"


def names(result):
    return [pathlib.Path(row["run"]).name for row in result["runs"]]


def value(run, key):
    split, name = key.split("/")
    return [line["metrics"][name] for line in rp.metric_lines(run) if line["split"] == split][-1]


def test_groups_have_mean_and_spread(runs):
    result = rp.call_json("list", runs)
    assert len(result["runs"]) == 8 and len(result["groups"]) == 4
    for group in result["groups"]:
        if len(group["runs"]) == 1:
            assert "mean" not in group and group["seeds_finished"] == 0
            continue
        values = [value(run, "valid/accuracy") for run in group["runs"]]
        assert group["metric"] == "valid/accuracy" and group["seeds_finished"] == 3
        assert math.isclose(group["mean"], statistics.mean(values), rel_tol=1e-12)
        assert math.isclose(group["deviation"], statistics.stdev(values), rel_tol=1e-9) and group["deviation"] > 0
        assert (group["low"], group["high"]) == (min(values), max(values))
    out, _ = rp.call("list", runs, env={"LC_ALL": "C"})
    assert out.count("over 3 seeds") == 2 and out.isascii()


def test_equal_seeds_count_once(runs, tmp_path):
    spec = rp.write(tmp_path, rp.DIGITS_MLP)
    for name, seed in [("a", 1), ("b", 1), ("c", 2)]:
        rp.run(spec, tmp_path / "runs" / name, "--set", f"seed={seed}")
    group = rp.call_json("list", tmp_path / "runs")["groups"][0]
    assert len(group["runs"]) == 3 and group["seeds_finished"] == 2


@pytest.mark.parametrize("where,expected", [
    (["train.optimizer.lr>1e-3"], {"lr3e-3-1", "lr3e-3-2", "lr3e-3-3", "failed"}),
    (["train.optimizer.lr>=1e-3", "seed=2"], {"lr1e-3-2", "lr3e-3-2"}),
    (["train.optimizer.lr<=0.001", "status=finished"], {"lr1e-3-1", "lr1e-3-2", "lr1e-3-3"}),
    (["status!=finished"], {"stopped", "failed"}),
    (["train.optimizer.kind=sgd"], {"failed"}),
    (["exit_code=6"], {"failed"}),
    (["train.for > 4 epochs"], {"stopped"}),
    (["train.for>3"], {"lr1e-3-1", "lr1e-3-2", "lr1e-3-3", "lr3e-3-1", "lr3e-3-2", "lr3e-3-3", "stopped", "failed"}),
    (["train.for>3 steps"], set()),  # another unit is no number to compare with
    (["train.shards=8", "data.train.samples=640", "seed=3"], {"lr1e-3-3", "lr3e-3-3"}),
    (["eval.early_stop.patience>1"], set()),  # a key that no run has
    (["valid/loss>0"], {"lr1e-3-1", "lr1e-3-2", "lr1e-3-3", "lr3e-3-1", "lr3e-3-2", "lr3e-3-3"}),
])
def test_where(runs, where, expected):
    args = [arg for text in where for arg in ("--where", text)]
    got = set(names(rp.call_json("list", runs, *args)))
    assert got - ({"stopped"} if "valid/loss" in where[0] else set()) == expected
    out, _ = rp.call("list", runs, *args)
    assert all(name in out for name in expected) and ("that fit" in out) == (not got)


def test_where_metric_is_the_newest_value(runs):
    values = {run.name: value(run, "valid/loss") for run in runs.glob("lr*")}
    middle = statistics.median(values.values())
    assert set(names(rp.call_json("list", runs, "--where", f"valid/loss<{middle!r}", "--where", "status=finished"))) == {
        name for name, v in values.items() if v < middle}


def test_sort(runs):
    only = ["--where", "status=finished"]
    result = rp.call_json("list", runs, *only, "--sort", "valid/loss")
    got = [row["metrics"]["valid/loss"] for row in result["runs"]]
    assert got == sorted(got) and len(set(got)) == 6 and result["groups"] == []
    down = rp.call_json("list", runs, *only, "--sort", "-valid/loss")
    assert names(down) == names(result)[::-1]
    rates = [float(row["keys"]["train.optimizer.lr"]) for row in rp.call_json("list", runs, "--sort", "train.optimizer.lr")["runs"]]
    assert rates == sorted(rates) and len(set(rates)) == 3
    out, _ = rp.call("list", runs, "--sort", "train.optimizer.lr")
    assert "train.optimizer.lr" in out.splitlines()[0] and "0.003" in out


@pytest.mark.parametrize("args,words", [
    (["--where", "lr>1"], "train.optimizer.lr"),
    (["--where", "train.optimiser.lr>1"], "there is no key"),
    (["--where", "valid/none>1"], "valid/loss"),
    (["--where", "train.batch"], "expected KEY"),
    (["--where", ">1"], "expected KEY"),
    (["--where", "name>x"], "no number"),
    (["--sort", "epochs"], "for"),
])
def test_what_is_refused(runs, args, words):
    _, err = rp.call("list", runs, *args, expect=2)
    assert words in err and err.count("error:") == 1


def test_a_thousand_runs(runs, tmp_path):
    """Well under a second of work, with logs long enough that reading them whole would take many."""
    source = runs / "lr1e-3-1"
    manifest, resolved = rp.manifest(source), (source / "resolved.yaml").read_text()
    metrics, digests = (source / "metrics.jsonl").read_text(), (source / "digests.jsonl").read_bytes()
    long = metrics.splitlines(keepends=True)[0] * 4000 + metrics
    for i in range(1000):
        run = tmp_path / f"run-{i:04}"
        run.mkdir()
        manifest["digests"]["numeric_without_seed"] = f"{i // 4:064}"
        (run / "manifest.json").write_text(json.dumps(manifest))
        (run / "resolved.yaml").write_text(resolved.replace("seed: 1", f"seed: {i % 4}"))
        (run / "metrics.jsonl").write_text(long)
        (run / "digests.jsonl").write_bytes(digests)
    for args in [[], ["--where", "train.optimizer.lr>1e-4", "--sort", "valid/loss"]]:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        result = rp.call_json("list", tmp_path, *args)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert len(result["runs"]) == 1000
        seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        assert seconds < 1.0, seconds  # 0.2 s on the machine of tests/README.md; whatever else it does


def test_show_best_and_next(runs):
    run = runs / "lr3e-3-1"
    result = rp.call_json("show", run)
    losses = [(line["metrics"]["loss"], line["step"]) for line in rp.metric_lines(run) if line["split"] == "valid"]
    best = min(losses)
    assert (result["best_metrics"]["valid/loss"]["value"], result["best_metrics"]["valid/loss"]["step"]) == best
    assert "train/lr" not in result["best_metrics"]
    out, _ = rp.call("show", run, env={"LC_ALL": "C.UTF-8"})
    line = next(line for line in out.splitlines() if line.startswith("valid/loss "))
    assert any("▁" <= c <= "█" for c in line) and f"{best[0]:.6g} at step {best[1]}" in line
    assert "reprise eval" in out and "reprise predict" in out
    out, _ = rp.call("show", runs / "stopped")
    assert "stopped (stop-after)" in out and "exit code    20" in out and "run me again" in out and "next: reprise run" in out
    out, _ = rp.call("show", runs / "failed")
    assert "exit code    6" in out and "SMALLER" in out


def test_show_of_a_damaged_last_line(runs, tmp_path):
    """A torn last line of the metrics, as a kill leaves it, is left out."""
    subprocess.run(["cp", "-r", runs / "lr1e-3-1", tmp_path / "run"], check=True)
    with open(tmp_path / "run" / "metrics.jsonl", "a") as file:
        file.write('{"step": 99, "split": "tra')
    assert rp.call_json("show", tmp_path / "run")["metrics"] == rp.call_json("show", runs / "lr1e-3-1")["metrics"]
    assert rp.call_json("list", tmp_path)["runs"][0]["metrics"]["valid/loss"] == value(runs / "lr1e-3-1", "valid/loss")
