"""`reprise plan --ranks`: what it prints for times at hand, what it refuses, and that it measures what it says."""
import json
import os
import pathlib

import pytest

import reprise as rp

NET = ["--network", "400Gb/s,5us"]
PARAMETERS = {"mlp": 784 * 33 + 33 + 33 * 20 + 20 + 20 * 10 + 10}


def write_times(folder, per_node=1, **change):
    """A table as --save-times writes it: a step that halves, an update that does not."""
    table = {"reprise_times": 1, "where": "a made machine", "batch": 64, "shards": 8, "parameters": PARAMETERS["mlp"],
             "times": [{"ranks": r, "beside": min(r, per_node), "threads": 2, "compute_seconds": 0.08 / r + 0.01, "update_seconds": 0.005,
                        "add_seconds": 0.00002} for r in (1, 2, 4, 8)]}
    table.update(change)
    path = folder / "times.json"
    path.write_text(json.dumps(table))
    return path


@pytest.fixture
def spec(tmp_path):
    return rp.write(tmp_path, rp.DIGITS_MLP)


GOLDEN = """a step of 64 samples in 8 shards, 26795 parameters; times of a made machine
network: 50 GB/s, 5 us between nodes of 1 rank
milliseconds; exposed is what of the exchange nothing hides

ranks nodes threads    compute    update  exchange   exposed       step   samples/s speed-up MiB a rank
"""


def test_text(spec, tmp_path):
    times = write_times(tmp_path)
    out, err = rp.call("plan", spec, "--ranks", 4096, *NET, "--times", times)
    assert out.startswith(GOLDEN) and err == ""
    lines = out[len(GOLDEN):].splitlines()
    # All but the memory, which test_plan.py measures.
    assert [line[:-11] for line in lines[:4]] == [
        "    1     1       2     90.000     5.000     0.000     0.000     95.000         674     1.00",
        "    2     2       2     50.000     5.000     0.047     0.047     55.047        1163     1.73",
        "    4     4       2     30.000     5.000     0.123     0.123     35.123        1822     2.70",
        "    8     8       2     20.000     5.000     0.266     0.266     25.266        2533     3.76"], lines
    assert lines[4] == "16 and more ranks cannot share 8 shards: raise train.shards (other bits) to use more"
    assert lines[5].startswith("stop        1.05 s from a request") and "two steps as predicted and a second" in lines[5] and len(lines) == 6
    fewer, _ = rp.call("plan", spec, "--ranks", 4, *NET, "--times", times)
    assert fewer.splitlines()[5:-1] == lines[:3]
    one_more, _ = rp.call("plan", spec, "--ranks", 16, *NET, "--times", times)
    assert one_more.splitlines()[-2].startswith("16 ranks cannot share 8 shards")


def test_json_is_the_formulas(spec, tmp_path):
    plan = rp.call_json("plan", spec, "--ranks", 32, *NET, "--times", write_times(tmp_path))
    assert [row["ranks"] for row in plan["scaling"]] == [1, 2, 4, 8] and plan["not_possible"] == [16, 32]
    assert plan["network"] == pytest.approx({"bytes_per_second": 5e10, "latency_seconds": 5e-6}) and plan["per_node"] == 1
    sums = rp.call_json("plan", spec)["memory"]["gradients"]
    for row in plan["scaling"]:
        r = row["ranks"]
        alone = rp.call_json("plan", spec, "--set", f"resources.ranks={r}", "--set", "resources.threads=2", "--set", "resources.comm=gloo")
        assert row["memory_bytes"] == alone["memory_bytes"] and row["passes"] == alone["passes"]
        assert row["scatter_seconds"] == pytest.approx((r - 1) * (2 * 5e-6 + sums / r / 5e10), rel=1e-12)
        assert row["join_seconds"] == pytest.approx((r - 1) / r * 0.00002, rel=1e-12)
        assert row["step_seconds"] == pytest.approx(row["compute_seconds"] + row["update_seconds"] + row["exposed_seconds"], rel=1e-12)
        assert row["speed_up"] == pytest.approx(plan["scaling"][0]["step_seconds"] / row["step_seconds"], rel=1e-12)


def test_nodes(spec, tmp_path):
    times = write_times(tmp_path, per_node=4)
    args = ["plan", spec, "--ranks", 8, "--per-node", 4, "--times", times, "--network", "1Gb/s,50us"]
    fast, slow = rp.call_json(*args, "--node-network", "300GB/s,1us"), rp.call_json(*args)
    assert [row["nodes"] for row in fast["scaling"]] == [1, 1, 1, 2]
    assert all(a["scatter_seconds"] < b["scatter_seconds"] for a, b in zip(fast["scaling"][1:], slow["scaling"][1:]))
    out, _ = rp.call(*args, "--node-network", "300GB/s,1us")
    assert "between nodes of 4 ranks; 300 GB/s, 1 us within" in out


@pytest.mark.parametrize("args, why", [
    (["--ranks", "8"], "--ranks needs the network"),
    (NET, "--network is for `plan SPEC --ranks N`"),
    (["--ranks", "6", *NET], "--ranks is '6', and must be a power of two"),
    (["--ranks", "0", *NET], "--ranks is '0'"),
    (["--ranks", "-4", *NET], "--ranks is '-4'"),
    (["--ranks", "8192", *NET], "from 1 to 4096"),
    (["--ranks", "many", *NET], "--ranks is 'many'"),
    (["--ranks", "8", "--network", "400,5"], "--network is '400,5', and must be a bandwidth and a latency, each with its unit"),
    (["--ranks", "8", "--network", "400Gb/s"], "each with its unit"),
    (["--ranks", "8", "--network", "0Gb/s,5us"], "must be above zero"),
    (["--ranks", "8", "--network", "400Gb/s,-5us"], "must be above zero"),
    (["--ranks", "8", *NET, "--node-network", "fast"], "--node-network is 'fast'"),
    (["--ranks", "8", *NET, "--per-node", "3"], "--per-node is '3', and must be a power of two"),
    (["--ranks", "8", *NET, "--times", "absent.json"], "absent.json"),
    (["--ranks", "8", "--network", "local", "--per-node", "2"], "--network local is this machine alone"),
    (["--ranks", "8", *NET, "--times", "a", "--save-times", "b"], "give one of them"),
])
def test_bad_input(spec, tmp_path, args, why):
    out, err = rp.call("plan", spec, *args, expect=2, cwd=tmp_path)
    assert out == "" and err.count("error") == 1 and why in err, err


@pytest.mark.parametrize("change, why", [
    ({"reprise_times": 2}, "reprise_times is not 1"), ({"times": 3}, "no list of at most 13 rows"), ({"batch": "64"}, "a key is missing"),
    ({"times": [{"ranks": 1}]}, "a row lacks a number"), ({"batch": 32}, "is of another job: batch 32 in 8 shards"),
    ({"parameters": 1}, "1 parameters; this one has"), ({"times": []}, "has no times of 1 rank with 1 on a node")])
def test_bad_tables(spec, tmp_path, change, why):
    _, err = rp.call("plan", spec, "--ranks", 8, *NET, "--times", write_times(tmp_path, **change), expect=2)
    assert why in err and "times.json" in err, err


def test_tables_of_other_nodes_are_refused(spec, tmp_path):
    _, err = rp.call("plan", spec, "--ranks", 8, "--per-node", 2, *NET, "--times", write_times(tmp_path), expect=2)
    assert "no times of 2 ranks with 2 on a node" in err
    (tmp_path / "times.json").write_text("no")
    _, err = rp.call("plan", spec, "--ranks", 8, *NET, "--times", tmp_path / "times.json", expect=2)
    assert "it is not JSON" in err


def test_measured(spec, tmp_path):
    """Measures here, writes nothing but the table, and the table gives the same plan."""
    before = sorted(path.name for path in tmp_path.iterdir())
    args = ["plan", spec, "--ranks", 4, "--per-node", 2, *NET]
    plan = rp.call_json(*args, "--save-times", "times.json", cwd=tmp_path, env={"OMP_NUM_THREADS": "1"})
    assert sorted(path.name for path in tmp_path.iterdir()) == before + ["times.json"]
    assert rp.call_json(*args, "--times", "times.json", cwd=tmp_path) == plan
    table = json.loads((tmp_path / "times.json").read_text())
    assert [(row["ranks"], row["beside"], row["threads"]) for row in table["times"]] == [(1, 1, 1), (2, 2, 1), (4, 2, 1)]
    assert all(0 < row["compute_seconds"] < 60 and row["update_seconds"] > 0 and row["add_seconds"] > 0 for row in table["times"])


@pytest.mark.skipif(not (pathlib.Path(rp.PROGRAM).parent / "reprise_gloo.so").exists(), reason="this build has no module reprise_gloo")
def test_on_this_machine(spec, tmp_path):
    """`--network local` connects the ranks and measures whole steps, and what of them is exchange."""
    args = ["plan", spec, "--ranks", 4, "--network", "local"]
    plan = rp.call_json(*args, "--save-times", "times.json", cwd=tmp_path, env={"OMP_NUM_THREADS": "1"})
    assert plan["network"] == "local" and plan["per_node"] == 4 and [row["ranks"] for row in plan["scaling"]] == [1, 2, 4]
    rows = json.loads((tmp_path / "times.json").read_text())["times"]
    assert "step_seconds" not in rows[0]
    for row, time in zip(plan["scaling"][1:], rows[1:]):
        assert row["step_seconds"] == time["step_seconds"] >= time["reduce_seconds"] + time["gather_seconds"] > 0
        assert row["exposed_seconds"] == pytest.approx(max(0, row["step_seconds"] - row["compute_seconds"] - row["update_seconds"]), abs=1e-12)
    assert rp.call_json(*args, "--times", "times.json", cwd=tmp_path) == plan
    out, _ = rp.call(*args, "--times", "times.json", cwd=tmp_path)
    assert "network: this machine, its ranks connected and measured" in out
    # Control: a table without them is no answer, nor is another network's the same.
    _, err = rp.call(*args, "--times", write_times(tmp_path, per_node=4), expect=2)
    assert "no steps of ranks connected" in err
    other = rp.call_json(*args[:-1], "1Mb/s,1ms", "--per-node", 4, "--times", write_times(tmp_path, per_node=4))
    assert other["scaling"][2]["step_seconds"] != plan["scaling"][2]["step_seconds"]


def test_measuring_refuses_what_a_run_would(tmp_path):
    spec = rp.write(tmp_path, rp.DIGITS_MLP.replace("{format: synthetic, task: digits, samples: 640}", "{format: idx, images: a, labels: b}"))
    _, err = rp.call("plan", spec, "--ranks", 2, *NET, expect=4)
    assert "error" in err
    spec = rp.write(tmp_path, rp.DIGITS_MLP.replace("[33, 20]", "[1000000, 1000000]"))
    _, err = rp.call("plan", spec, "--ranks", 2, *NET, expect=5)
    assert "in all, on a rank" in err


@pytest.mark.skipif(not os.environ.get("REPRISE_SIM"), reason="no simulated device: $REPRISE_SIM")
def test_measured_on_a_gpu(spec):
    """By one copy: the others of a node have GPUs of their own."""
    plan = rp.call_json("plan", spec, "--ranks", 2, "--per-node", 2, *NET, "--set", "resources.device=cuda", "--set", "train.batch=16",
                        env={"REPRISE_MODULES": os.environ["REPRISE_SIM"]})
    assert plan["times_of"] == "simulated device" and all(row["device_memory_bytes"] > 0 for row in plan["scaling"])
    assert plan["scaling"][1]["scatter_seconds"] > 0 and plan["scaling"][1]["join_seconds"] > 0
