"""run --sweep: the grid, each member in its own folder with the bits of a run alone; killed, stopped, failing ones."""
import json
import os
import pathlib
import signal
import subprocess
import time

import pytest

import reprise as rp

SHORT = rp.DIGITS_MLP.replace("4 epochs", "12 steps")


@pytest.fixture()
def spec(tmp_path):
    return rp.write(tmp_path, SHORT)


def env(tmp_path):
    return {"REPRISE_RUNS": str(tmp_path / "runs")}


def test_members_are_the_runs_they_would_be_alone(spec, tmp_path):
    result = rp.call_json("run", spec, "--sweep", "train.optimizer.lr=1e-3,3e-3", "--sweep", "seed=1..3", env=env(tmp_path))
    members = result["members"]
    assert [(m["set"]["train.optimizer.lr"], m["set"]["seed"]) for m in members] == [
        (lr, seed) for lr in ["1e-3", "3e-3"] for seed in "123"]
    assert len({m["run"] for m in members}) == len({m["final"] for m in members}) == 6
    assert all(m["status"] == "finished" and m["exit_code"] == 0 and m["metrics"]["valid/loss"] for m in members)
    for m in (members[0], members[4]):
        alone = rp.run(spec, tmp_path / "alone" / m["set"]["seed"], "--set", f"seed={m['set']['seed']}", "--set",
                       f"train.optimizer.lr={m['set']['train.optimizer.lr']}")
        assert alone == m["final"]
    # The same folder that `run --set` would take.
    again = rp.call_json("run", spec, "--set", "train.optimizer.lr=3e-3", "--set", "seed=2", env=env(tmp_path))
    assert again["run"] == members[4]["run"] and again["digests"]["final"] == members[4]["final"]
    out, err = rp.call("run", spec, "--sweep", "train.optimizer.lr=1e-3,3e-3", "--sweep", "seed=1..3", env={**env(tmp_path), "LC_ALL": "C"})
    assert err.count("finished already") == 6
    assert len(out.splitlines()) == 9 and out.count("over 3 seeds") == 2 and out.isascii()


def test_the_list_runs_as_it_stands(spec, tmp_path):
    args = ["run", spec, "--sweep", "model.hidden=[20],[20, 10]", "--sweep", "seed=5,7..8", "--set", "name=it's", "--out",
            tmp_path / "grid of runs"]
    rp.call(*args, "--sweep-list", expect=2)  # the name is none
    args[args.index("name=it's")] = "name=grid"
    out, _ = rp.call(*args, "--sweep-list")
    lines = out.splitlines()
    assert len(lines) == 6 and not (tmp_path / "grid of runs").exists()
    assert rp.call_json(*args, "--sweep-list")["commands"] == lines
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "reprise").symlink_to(rp.PROGRAM)
    path = {**os.environ, "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}
    for line in (lines[0], lines[4]):
        subprocess.run(["sh", "-c", line], check=True, env=path, capture_output=True)
    assert len(list((tmp_path / "grid of runs").iterdir())) == 2
    out, err = rp.call(*args)
    assert err.count("finished already") == 2 and len(list((tmp_path / "grid of runs").iterdir())) == 6
    assert "[20, 10]" in out


def test_killed_and_taken_up_again(tmp_path):
    spec = rp.write(tmp_path, rp.DIGITS_MLP.replace("4 epochs", "60 steps"))
    sweep = ["--sweep", "seed=1..3", "--sweep", "train.batch=64,32"]
    want = [m["final"] for m in rp.call_json("run", spec, *sweep, env={"REPRISE_RUNS": str(tmp_path / "whole")})["members"]]
    assert len(set(want)) == 6
    for number in [signal.SIGKILL, signal.SIGTERM]:
        runs = tmp_path / number.name
        process = rp.start("run", spec, *sweep, env={"REPRISE_RUNS": str(runs), **rp.slowly()})
        code = rp.kill_when(process, lambda: len(list(runs.glob("*/checkpoints/step-*"))) >= 4, number)
        assert code in (-9, 20)
        result = rp.call_json("run", spec, *sweep, env={"REPRISE_RUNS": str(runs)})
        assert [m["final"] for m in result["members"]] == want


def test_stopping_stops_the_whole(spec, tmp_path):
    args = ["run", spec, "--set", "train.for=100M steps", "--sweep", "seed=1..50"]
    _, err = rp.call(*args, "--stop-after", "2s", env=env(tmp_path), expect=20)
    assert "run the same command again" in err
    assert 1 <= len(list((tmp_path / "runs").iterdir())) < 50
    result = json.loads(rp.start(*args, "--stop-after", "0.1s", "--json", env=env(tmp_path)).communicate()[0].splitlines()[-1])
    assert result["exit_code"] == 20 and result["members"][49]["status"] == "not begun"
    process = rp.start(*args, env=env(tmp_path))
    assert rp.kill_when(process, lambda: len(list((tmp_path / "runs").glob("*/digests.jsonl"))) >= 1, signal.SIGINT) == -signal.SIGINT


def test_a_failing_member_does_not_stop_the_others(spec, tmp_path):
    args = ["run", spec, "--set", "train.optimizer={kind: sgd, lr: 0.1}", "--set", "train.clip_norm=1e9", "--set",
            "train.schedule.warmup=0 steps", "--sweep", "train.optimizer.lr=0.01,1e6,0.02"]
    out, err = rp.call(*args, env=env(tmp_path), expect=6)
    assert "1 of 3 members failed" in err and "train.optimizer.lr=1e6" in err
    assert [line.split()[1] for line in out.splitlines()[1:4]] == ["finished", "failed", "finished"]
    process = rp.start(*args, "--json", env=env(tmp_path))
    result = json.loads(process.communicate()[0].splitlines()[-1])
    assert result["exit_code"] == 6 and [m["exit_code"] for m in result["members"]] == [0, 6, 0]


def test_a_busy_member_is_passed_over(tmp_path):
    spec = rp.write(tmp_path, SHORT.replace("12 steps", "100M steps"))
    process = rp.start("run", spec, "--set", "seed=1", env=env(tmp_path))
    try:
        while not list((tmp_path / "runs").glob("*/digests.jsonl")):
            assert process.poll() is None
            time.sleep(0.01)
        out, _ = rp.call("run", spec, "--set", "train.for=100M steps", "--sweep", "seed=1,2", "--stop-after", "3s", env=env(tmp_path),
                         expect=20)
        assert [line.split()[1] for line in out.splitlines()[1:3]] == ["running", "stopped"]
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("args,words", [
    (["--sweep", "seed"], "expected KEY=VALUES"),
    (["--sweep", "seed="], "expected KEY=VALUES"),
    (["--sweep", "seed=1,,2"], "empty value"),
    (["--sweep", "seed=5..1"], "from the larger to the smaller"),
    (["--sweep", "seed=1", "--sweep", "seed=2"], "twice"),
    (["--sweep", "seed=1..100000"], "more than 10000"),
    (["--sweep", "seed=1..200", "--sweep", "train.optimizer.lr=0.1,0.2", "--sweep", "train.batch=1..64"], "more than 10000"),
    (["--sweep", "seed=1,1"], "same experiment"),
    (["--sweep", "log.every=1 step,2 steps"], "changes no bit"),
    (["--sweep", "seed=1,2", "--sweep", "train.optimizer.lr=0.1,fast"], "fast"),  # of the last member, before the first runs
    (["--sweep", "train.lr=1"], "lr"),
    (["--sweep-list"], "--sweep KEY=VALUES"),
    (["--sweep", "seed=1,2", "--against", "0" * 64], "--against"),
])
def test_mistakes_start_nothing(spec, tmp_path, args, words):
    _, err = rp.call("run", spec, *args, env=env(tmp_path), expect=2)
    assert words in err and err.count("error:") == 1
    assert [path.name for path in pathlib.Path(tmp_path).iterdir()] == ["job.yaml"]


HAS_GLOO = (pathlib.Path(rp.PROGRAM).parent / "reprise_gloo.so").exists()


@pytest.mark.skipif(not HAS_GLOO, reason="this build has no module reprise_gloo")
def test_members_of_several_ranks(spec, tmp_path):
    """Each with the ranks that its spec asks for, its own ranks knowing only of it; stopped, and taken up again."""
    one = [m["final"] for m in rp.call_json("run", spec, "--sweep", "seed=1..2", env=env(tmp_path))["members"]]
    sweep = ["run", spec, "--sweep", "seed=1..2", "--sweep", "resources.ranks=2", "--set", "resources.threads=1", "--data", tmp_path]
    two = {"REPRISE_RUNS": str(tmp_path / "two")}
    assert [m["final"] for m in rp.call_json(*sweep, env=two)["members"]] == one and one[0] != one[1]
    assert [rp.manifest(run)["segments"][0]["ranks"] for run in (tmp_path / "two").iterdir()] == [2, 2]
    out = ["--out", tmp_path / "grid"]
    process = rp.start(*sweep, *out, "--set", "train.for=100M steps")
    code = rp.kill_when(process, lambda: any(d.read_text().count("\n") > 5 for d in (tmp_path / "grid").glob("*/digests.jsonl")), signal.SIGTERM)
    assert code == 20 and len(list((tmp_path / "grid").iterdir())) == 1
    lines = rp.call(*sweep, *out, "--sweep-list")[0].splitlines()
    assert len(lines) == 2 and all("resources.ranks=2" in line and "--data" in line for line in lines)


@pytest.mark.skipif(not HAS_GLOO, reason="this build has no module reprise_gloo")
def test_a_member_of_several_ranks_that_fails_stops_no_other(spec, tmp_path):
    args = ["run", spec, "--set", "train.optimizer={kind: sgd, lr: 0.1}", "--set", "train.clip_norm=1e9", "--set",
            "train.schedule.warmup=0 steps", "--sweep", "train.optimizer.lr=1e6,0.02", "--sweep", "resources.ranks=2"]
    out, err = rp.call(*args, env=env(tmp_path), expect=6)
    assert "1 of 2 members failed" in err
    assert [line.split()[2] for line in out.splitlines()[1:3]] == ["failed", "finished"]


def test_ranks_that_a_launcher_has_started_are_refused(spec, tmp_path):
    launcher = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "28123"}
    _, err = rp.call("run", spec, "--sweep", "seed=1..2", env={**env(tmp_path), **launcher}, expect=2)
    assert "torchrun has started several" in err and not (tmp_path / "runs").exists()
    # Control: the list is for such launchers, and a world of one is none.
    assert len(rp.call("run", spec, "--sweep", "seed=1..2", "--sweep-list", env={**env(tmp_path), **launcher})[0].splitlines()) == 2
    rp.call("run", spec, "--sweep", "seed=1..2", env={**env(tmp_path), **launcher, "WORLD_SIZE": "1", "LOCAL_WORLD_SIZE": "1"})
