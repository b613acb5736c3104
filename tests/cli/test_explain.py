"""explain: everything that a run leaves, measures or ends with has its words."""
import json
import re

import pytest

import reprise as rp


PROFILE = {}  # what the run printed


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("explain")
    spec = rp.write(folder, rp.DIGITS_MLP)
    PROFILE["table"] = rp.call("run", spec, "--out", folder / "run", "--set", "seed=9", "--profile")[0]
    return folder / "run"


def test_the_trace_is_what_a_viewer_reads(run):
    """Complete events of the Trace Event Format (Perfetto, chrome://tracing), one of each op as often as the table counts it."""
    trace = json.loads((run / "trace.json").read_text())
    events = trace["traceEvents"]
    assert events and trace["displayTimeUnit"] in ("ms", "ns")
    spans = [event for event in events if event["ph"] == "X"]
    for span in spans:
        assert isinstance(span["name"], str) and span["ts"] >= 0 and span["dur"] >= 0 and {"pid", "tid"} <= set(span)
    counted = {line.split()[0]: int(line.split()[1]) for line in PROFILE["table"].splitlines() if re.match(r"\w+ +\d+ +\d+\.\d+ +\d", line)}
    assert counted["linear"] > 0 and counted["adam"] > 0
    traced = {name: sum(span["name"] == name for span in spans) for name in counted}
    assert traced == counted


def explain(word):
    return rp.call("explain", word)[0]


def test_every_file_of_a_run(run):
    paths = [path.relative_to(run) for path in run.rglob("*")]
    assert {"lock", "overrides.txt", "trace.json", "COMMITTED"} <= {path.name for path in paths}
    for path in paths:
        assert "in a run folder" in explain(path.name), path
    whole = explain("run-folder")
    assert all(name in whole for name in ["lock", "overrides.txt", "trace.json", "rank-", "step-"])
    rp.call("explain", "no-such-file.txt", expect=2)


def test_every_metric(run):
    names = {f"{line['split']}/{name}" for line in rp.metric_lines(run) for name in line["metrics"]}
    assert {"train/loss", "train/grad_norm", "valid/top5_accuracy"} <= names
    result = rp.call_json("eval", run)
    names |= set(result["metrics"]) | (set(result["classes"][0]) - {"class"}) | {"confusion", "mean", "undecided"}
    names |= {"mse", "mae", "r2", "test/accuracy"}
    whole = explain("metrics")
    for name in names:
        assert "a metric" in explain(name), name
        assert re.search(rf"^{name.split('/')[-1]} ", whole, re.M), name
    rp.call("explain", "valid/none", expect=2)


def test_every_exit_code(run):
    for code in [0, 2, 3, 4, 5, 6, 7, 8, 9, 10, 20, 21, 22, 23, 24]:
        text = explain(str(code))
        assert "what to do" in text and ("scheduler" in text) == (code >= 20)
    rp.call("explain", "11", expect=2)


def test_every_digest(run):
    for name in [*rp.manifest(run)["digests"], *rp.digest_lines(run)[0]]:
        if name in ("numeric", "policy", "place", "final", "chain", "params"):
            assert "a digest" in explain(name)
    # A word that is a metric and a key is explained as both.
    assert "a metric" in explain("lr") and "train.optimizer.lr" in explain("lr")
    out, _ = rp.call("explain")
    assert all(word in out for word in ["metrics", "run-folder", "exit-codes", "digests"])


def test_every_command_is_in_help_and_completion():
    out, _ = rp.call("--help")
    script, _ = rp.call("completion", "bash")
    for command, options in [("eval", ["--split", "--at", "--data"]), ("predict", ["--out", "--overwrite", "--data"]),
                             ("run", ["--against", "--sweep", "--sweep-list"]), ("list", ["--where", "--sort"])]:
        text, _ = rp.call(command, "--help")
        assert f"\n  {command} " in out
        for option in options:
            assert option in text and option in script
