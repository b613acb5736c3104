"""`reprise plan`: what it prints, what it refuses, and memory against the measured peak."""
import pathlib
import time

from reprise import DIGITS_MLP, LENET, RESNET, call, call_json, start

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
        peak = peak_of(start("run", spec, "--out", out, "--set", change))
        differences.append(plan["memory_bytes"] - peak)
        assert abs(differences[-1]) <= max(0.02 * peak, 4 * MEBIBYTE), (change, plan["memory"], peak)
    larger = call_json("plan", spec, "--set", change, "--set", "train.batch=96")
    assert larger["memory_bytes"] - peak > 4 * MEBIBYTE
