"""An evaluation divided among ranks: the same numbers to the last bit, requests and losses in the middle of it."""
import os
import pathlib
import signal
import time

import pytest

import reprise as rp
from test_ranks import ENV, children_of, ended, ranks, wait_for

MLP = rp.DIGITS_MLP.replace("{fraction: 0.2}", "{format: synthetic, task: digits, samples: 601, seed: 5}")
JOBS = {"mlp": MLP.replace("for: 4 epochs", "for: 6 steps").replace("every: 1 epoch", "every: 3 steps"),
        "gpt2": rp.TINY_GPT2.replace("{fraction: 0.1}", "{format: text, files: [other.txt]}")}
# What is measured, how a spec without the last sample differs, and samples of a small pass.
METRICS = {"mlp": ["loss", "accuracy", "top5_accuracy"], "gpt2": ["loss", "perplexity", "bits_per_byte", "accuracy", "top5_accuracy"]}
LESS = {"mlp": ("samples: 601", "samples: 600"), "gpt2": ("other.txt", "less.txt")}
MICRO = {"mlp": 4, "gpt2": 2}


def measured(run):
    """What a run has measured, without when."""
    return [(line["step"], line["metrics"]) for line in rp.metric_lines(run) if line["split"] == "valid"]


@pytest.fixture(scope="module", params=list(JOBS))
def job(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    rp.write_texts(folder)
    (folder / "less.txt").write_text((folder / "other.txt").read_text()[:-2])
    spec = rp.write(folder, JOBS[request.param])
    return request.param, spec, rp.run(spec, folder / "one", env=ENV), measured(folder / "one")


@pytest.mark.parametrize("n", [2, 4])
@pytest.mark.parametrize("small", [False, True])
def test_equal_metrics(job, tmp_path, n, small):
    name, spec, final, want = job
    assert len(want) == 2 and [list(metrics) for _, metrics in want] == 2 * [METRICS[name]]
    more = ["--set", f"train.micro_batch={MICRO[name]}"] if small else []
    assert rp.run(spec, tmp_path / "run", *ranks(n), *more, env=ENV) == final
    assert measured(tmp_path / "run") == want


def test_control_a_sample_is_left_out(job, tmp_path):
    """The same weights, and other metrics."""
    name, spec, final, want = job
    other = rp.write(spec.parent, JOBS[name].replace(*LESS[name]), "less.yaml")
    assert rp.run(other, tmp_path / "run", *ranks(4), env=ENV) == final
    got = measured(tmp_path / "run")
    assert len(got) == len(want) and all(a["loss"] != b["loss"] for (_, a), (_, b) in zip(got, want))


LONG = """reprise: 1
name: long-evaluation
seed: 7
data:
  train: {format: synthetic, task: digits, samples: 60000}
  valid: {fraction: 0.99}
model: {kind: mlp, hidden: [3000, 3000], activation: gelu}
train: {for: 100 steps, batch: 32, optimizer: {kind: sgd, lr: 1.0e-3}}
eval: {every: 2 steps}
checkpoint: {every: 1 step}
"""


def in_evaluation(folder, n):
    """A run of n ranks in its first evaluation, which takes seconds where a step takes none; its other ranks."""
    spec = rp.write(folder, LONG)
    process = rp.start("run", spec, "--out", folder / "run", *ranks(n), "--set", "resources.timeout.peer=2 s", env=ENV)
    wait_for((folder / "run/checkpoints/step-00000001/COMMITTED").exists)
    time.sleep(1)  # one step, and two heartbeats
    return process, children_of(process)


def test_a_request_in_an_evaluation(tmp_path):
    """Any rank's: all leave it at the end of a round, which is about a second."""
    process, others = in_evaluation(tmp_path, 4)
    asked = time.monotonic()
    os.kill(others[1], signal.SIGTERM)
    code, err = ended(process)
    print(f"{time.monotonic() - asked:.1f} s from the signal to the end")
    assert code == 20, err
    assert len(rp.digest_lines(tmp_path / "run")) == 2 and measured(tmp_path / "run") == []
    manifest = rp.manifest(tmp_path / "run")
    assert manifest["status"] == "stopped" and 0 < manifest["segments"][0]["stop_seconds"] < time.monotonic() - asked


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_rank_is_lost_in_an_evaluation(tmp_path, number):
    process, others = in_evaluation(tmp_path, 4)
    os.kill(others[2], number)
    code, err = ended(process)
    assert code == 21 and "rank 3 (" in err and "in evaluate" in err, err
    assert not [pid for pid in others if rp.is_alive(pid)]
