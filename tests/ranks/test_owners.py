"""Owners: each rank updates and saves its part, and the bits are those of a single rank."""
import json
import os
import random
import re
import resource
import signal
import time

import pytest

import reprise as rp
from ranks.test_ranks import ENV, children_of, ranks, wait_for

AVERAGED = "  ema: {decay: 0.9}\n"


def with_optimizer(text, optimizer):
    changed = re.sub(r"optimizer: \{[^}]*\}", f"optimizer: {optimizer}", text)
    assert changed != text
    return changed


def with_averages(text):
    return text.replace("eval:", AVERAGED + "eval:") if "\neval:" in text else text.replace("checkpoint:", AVERAGED + "checkpoint:")


def clipped(text):
    changed = re.sub(r"\n  clip_norm: .*", "", text)
    return re.sub(r"\n(  optimizer:.*)", r"\n\1\n  clip_norm: 0.05", changed)


MUON = "{kind: muon, lr: 0.01, adamw_lr: 1.0e-3, weight_decay: 0.05}"
SPECS = {
    "clipped": clipped(rp.DIGITS_MLP),
    "averages": with_averages(rp.DIGITS_MLP),
    "averages of statistics": with_averages(rp.RESNET),
    "muon": with_optimizer(rp.DIGITS_MLP, MUON),
    "muon, filters": clipped(with_optimizer(rp.LENET, MUON)),
    "muon, tied": with_averages(with_optimizer(rp.TINY_GPT2, MUON)),
    "muon, split": with_optimizer(rp.TINY_LLAMA, MUON.replace("}", ", split: true}")),
    "momentum": with_optimizer(rp.LENET, "{kind: sgd, lr: 0.01, momentum: 0.9}"),
    "no state": with_optimizer(rp.LENET, "{kind: sgd, lr: 0.01, momentum: 0}"),
    "lion": with_optimizer(rp.DIGITS_MLP, "{kind: lion, lr: 1.0e-4, weight_decay: 0.1}"),
}


def lines_without_time(run):
    return [(line["step"], line["split"], {k: v for k, v in line["metrics"].items() if "per_second" not in k}) for line in rp.metric_lines(run)]


@pytest.mark.parametrize("name", list(SPECS))
def test_equal_bits(name, tmp_path):
    rp.write_texts(tmp_path)
    spec = rp.write(tmp_path, SPECS[name])
    shards = 4 if name in ("averages of statistics", "muon, tied", "muon, split") else 8
    want = rp.run(spec, tmp_path / "one")
    for n in (2, shards):
        out = tmp_path / str(n)
        assert rp.run(spec, out, *ranks(n), env=ENV) == want, n
        assert (out / "digests.jsonl").read_bytes() == (tmp_path / "one/digests.jsonl").read_bytes()
        assert lines_without_time(out) == lines_without_time(tmp_path / "one")


def test_control_clipping_counts(tmp_path):
    finals = {rp.run(rp.write(tmp_path, text, f"{i}.yaml"), tmp_path / str(i), *ranks(4), env=ENV)
              for i, text in enumerate([clipped(rp.DIGITS_MLP), rp.DIGITS_MLP, with_averages(rp.DIGITS_MLP)])}
    assert len(finals) == 3


def test_memory_of_a_rank_falls(tmp_path):
    spec = rp.write(tmp_path, with_averages(rp.DIGITS_MLP))
    one, four = (rp.call_json("plan", spec, *ranks(n))["memory"] for n in (1, 4))
    for what in ("optimizer state", "averages of the weights"):
        assert four[what] < 0.5 * one[what]
    assert four["parameters"] == one["parameters"]


# ---- checkpoints of several ranks ----------------------------------------------------------------


def newest(run):
    return sorted((run / "checkpoints").glob("step-*"))[-1]


@pytest.fixture(scope="module")
def two_ways(tmp_path_factory):
    """The same run by one rank and by four."""
    folder = tmp_path_factory.mktemp("two-ways")
    spec = rp.write(folder, with_averages(rp.LENET))
    assert rp.run(spec, folder / "one") == rp.run(spec, folder / "four", *ranks(4), env=ENV)
    return folder, spec


def test_files_of_ranks(two_ways):
    folder, _ = two_ways
    files = sorted(path.name for path in newest(folder / "four").iterdir())
    kinds = [f"{kind}-0000{r}-of-00004.safetensors" for kind in ("model", "optimizer") for r in range(1, 5)]
    assert files == sorted(["COMMITTED", "state.json", "model.safetensors.index.json", *kinds])
    for kind in ("model", "optimizer"):
        whole = rp.safetensors(newest(folder / "one") / f"{kind}.safetensors")
        parts = [rp.safetensors(newest(folder / "four") / f"{kind}-0000{r}-of-00004.safetensors") for r in range(1, 5)]
        assert sum(len(part) for part in parts) == len(whole)
        assert {name: values for part in parts for name, values in part.items()} == whole
        assert len([part for part in parts if part]) > 1
    index = json.loads((newest(folder / "four") / "model.safetensors.index.json").read_text())
    for name, file in index["weight_map"].items():
        assert name in rp.safetensors(newest(folder / "four") / file)


def test_whoever_reads_them(two_ways, tmp_path):
    folder, _ = two_ways
    one, four = folder / "one", folder / "four"
    rp.call("verify", four)
    assert "equal" in rp.call("compare", one, four)[0]
    rp.call("show", four)
    results = [rp.call_json("eval", run, "--split", "valid") for run in (one, four)]
    assert results[0]["metrics"] == results[1]["metrics"]
    for run in (one, four):
        rp.call("export", run, "--to", "safetensors", "--out", tmp_path / f"{run.name}.safetensors")
    assert rp.safetensors(tmp_path / "one.safetensors") == rp.safetensors(tmp_path / "four.safetensors")
    rp.call("rerun", four, "--steps", "8:11")


@pytest.mark.parametrize("load", ["weights", "all"])
def test_a_run_begins_with_them(two_ways, load, tmp_path):
    """The same content in other files is the same start, and the same numeric digest."""
    folder, spec = two_ways
    results = []
    for source in ("one", "four"):
        text = spec.read_text().replace("model:\n", f"model:\n  init_from: {{run: {folder / source}, load: {load}}}\n")
        result = rp.call_json("run", rp.write(tmp_path, text, f"{source}.yaml"), "--out", tmp_path / source, *ranks(2), env=ENV)
        results.append(result["digests"])
    assert results[0] == results[1]


@pytest.mark.parametrize("file", ["model-00003-of-00004.safetensors", "optimizer-00001-of-00004.safetensors", "model.safetensors.index.json",
                                  "state.json"])
def test_damage_is_found(file, tmp_path):
    spec = rp.write(tmp_path, rp.DIGITS_MLP)
    want = rp.run(spec, tmp_path / "run", *ranks(4), env=ENV)
    path = newest(tmp_path / "run") / file
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    _, err = rp.call("verify", tmp_path / "run", expect=7)
    assert newest(tmp_path / "run").name in err
    (tmp_path / "run/manifest.json").write_text((tmp_path / "run/manifest.json").read_text().replace('"finished"', '"running"'))
    process = rp.start("run", spec, "--out", tmp_path / "run", *ranks(2), "--json", env=ENV)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0 and want in out and "a damaged checkpoint is not used" in err, err


def test_a_lost_file_is_no_checkpoint(tmp_path):
    spec = rp.write(tmp_path, rp.DIGITS_MLP)
    rp.run(spec, tmp_path / "run", *ranks(2), "--set", "checkpoint.keep.last=1", env=ENV)
    (newest(tmp_path / "run") / "optimizer-00002-of-00002.safetensors").unlink()
    _, err = rp.call("eval", tmp_path / "run", "--split", "valid", expect=8)
    assert "optimizer-00002-of-00002.safetensors" in err


def test_other_numbers_of_ranks_and_many_kills(tmp_path):
    """4, 1, 8, 2 ranks, each killed in the midst; all state goes from one form of checkpoint to the other."""
    spec = rp.write(tmp_path, with_averages(with_optimizer(rp.DIGITS_MLP, MUON)))
    want = rp.run(spec, tmp_path / "plain")
    out, every = tmp_path / "run", ["--set", "checkpoint.every=3 steps"]
    for n, steps in ((4, 7), (1, 14), (8, 20)):
        process = rp.start("run", spec, "--out", out, *ranks(n), *every, env={**ENV, **rp.slowly()})
        rp.kill_when(process, lambda: (out / "digests.jsonl").exists() and len((out / "digests.jsonl").read_bytes().splitlines()) >= steps)
    assert rp.run(spec, out, *ranks(2), *every, env=ENV) == want
    rp.call("verify", out)
    assert "equal" in rp.call("compare", tmp_path / "plain", out)[0]


@pytest.mark.parametrize("victim", range(4))
def test_killed_during_a_save(victim, tmp_path):
    """Any rank, at a random moment while the files of a save are written: what is there is whole."""
    spec = rp.write(tmp_path, rp.DIGITS_MLP.replace("hidden: [33, 20]", "hidden: [512, 512]"))
    args, out = ["--set", "checkpoint.every=1 steps", "--set", "resources.timeout.peer=20 s"], tmp_path / "run"
    chance = random.Random(victim)
    for _ in range(3):
        process = rp.start("run", spec, "--out", out, *ranks(4), *args, env=ENV)
        wait_for(lambda: list(out.glob("checkpoints/saving-*")) or process.poll() is not None)
        time.sleep(chance.random() * 0.05)
        pids = [process.pid, *children_of(process)]
        if process.poll() is None and victim < len(pids):
            try:
                os.kill(pids[victim], signal.SIGKILL)
            except ProcessLookupError:
                pass
        process.communicate(timeout=300)
        for folder in out.glob("checkpoints/step-*"):
            assert (folder / "COMMITTED").exists()
        rp.call("verify", out)
    want = rp.run(spec, tmp_path / "plain")
    assert rp.run(spec, out, *ranks(2), env=ENV) == want


def test_a_failing_write_of_any_rank_is_told(tmp_path):
    """Files of one rank that cannot be written: the run ends with 9, the checkpoint before stays."""
    spec = rp.write(tmp_path, rp.DIGITS_MLP)
    process = rp.start("run", spec, "--out", tmp_path / "run", *ranks(2), *rp.ENDLESS, "--set", "checkpoint.every=20 steps", env=ENV)
    wait_for(lambda: list((tmp_path / "run/checkpoints").glob("step-*")))
    resource.prlimit(children_of(process)[0], resource.RLIMIT_FSIZE, (4096, 4096))
    _, err = process.communicate(timeout=300)
    assert process.returncode == 9 and "rank 1" in err, err
    rp.call("verify", tmp_path / "run")


def test_a_save_that_a_rank_is_asked_for(tmp_path):
    """SIGUSR2 to any rank, where an evaluation follows every step: asked once, saved once."""
    spec = rp.write(tmp_path, rp.DIGITS_MLP)
    process = rp.start("run", spec, "--out", tmp_path / "run", *ranks(2), *rp.ENDLESS, "--set", "eval.every=1 steps", "--set",
                       "checkpoint.every=100M steps", env=ENV)
    digests = tmp_path / "run/digests.jsonl"
    wait_for(lambda: digests.exists() and digests.read_text().count("\n") > 5)
    assert not list((tmp_path / "run").glob("checkpoints/step-*"))
    os.kill(children_of(process)[0], signal.SIGUSR2)
    wait_for(lambda: list((tmp_path / "run").glob("checkpoints/step-*")))
    process.terminate()
    process.communicate(timeout=300)
    assert process.returncode == 20 and len(list((tmp_path / "run").glob("checkpoints/step-*"))) == 2
