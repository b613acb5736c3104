"""Which weights a run begins with: what `at`, `skip`, `sha256` and `freeze` choose, and what is told when they are not to be had."""
import hashlib
import json

import pytest

import reprise as rp

PLAIN = rp.DIGITS_MLP.replace("  schedule: {kind: cosine, warmup: 4 steps, final_ratio: 0.1}\n", "")
BASE = PLAIN.replace("keep: {last: 3}", "keep: {last: 20, best: valid/loss}").replace("every: 1 epoch", "every: 5 steps")


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A run with a best checkpoint that is not its last: the learning rate rises too far."""
    folder = tmp_path_factory.mktemp("base")
    rp.run(rp.write(folder, BASE), folder / "base", "--set", "train.optimizer.lr=1", "--set", "train.schedule.warmup=40 steps", "--set", "train.for=40 steps")
    return folder


def job(folder, where, name="job.yaml", more=""):
    text = PLAIN.replace("model: {", f"model: {{init_from: {{{where}}}, {more}")
    return rp.write(folder, text.replace("4 epochs", "5 steps"), name)


def begun(folder, where, tmp_path, more=""):
    """Weights after steps that change nothing: a learning rate of almost zero."""
    out = tmp_path / hashlib.sha256((where + more).encode()).hexdigest()[:8]
    rp.run(job(folder, where, more=more), out, "--set", "train.optimizer.lr=1e-30", "--set", "train.optimizer.weight_decay=0")
    return rp.safetensors(out / "checkpoints" / "step-00000005" / "model.safetensors")


def test_at(base, tmp_path):
    best = rp.manifest(base / "base")["best"]["step"]
    assert best not in (0, 40)
    at = {"run: base": 40, "run: base, at: last": 40, "run: base, at: best": best, "run: base, at: 10": 10}
    found = {where: begun(base, where, tmp_path) for where in at}
    for where, step in at.items():
        assert found[where] == rp.safetensors(base / "base" / "checkpoints" / f"step-{step:08}" / "model.safetensors"), where
    assert found["run: base"] != found["run: base, at: best"] != found["run: base, at: 10"]


def test_skip_and_sha256(base, tmp_path):
    file = base / "base" / "checkpoints" / "step-00000040" / "model.safetensors"
    kept = rp.safetensors(file)
    got = begun(base, f"run: base, sha256: {hashlib.sha256(file.read_bytes()).hexdigest()}, skip: ['layers.5.*']", tmp_path)
    assert {name for name in kept if got[name] != kept[name]} == {"layers.5.weight", "layers.5.bias"}


def test_freeze(base, tmp_path):
    rp.run(job(base, "run: base", more="freeze: ['layers.1.*'], "), tmp_path / "run")
    before = rp.safetensors(base / "base" / "checkpoints" / "step-00000040" / "model.safetensors")
    after = rp.safetensors(tmp_path / "run" / "checkpoints" / "step-00000005" / "model.safetensors")
    assert {name for name in before if after[name] == before[name]} == {"layers.1.weight", "layers.1.bias"}


@pytest.mark.parametrize("where, code, says", [
    ("run: nothing", 4, "nothing is no run"),
    ("run: base, at: 7", 4, "keeps no checkpoint of step 7; it has: 5, 10, 15, 20, 25, 30, 35, 40"),
    ("run: plain, at: best", 4, "has no best checkpoint"),
    ("run: empty", 4, "holds no checkpoint yet"),
    ("path: nothing.safetensors", 4, "there is no "),
    ("run: base, sha256: " + 64 * "0", 4, "has SHA-256 "),
    ("run: base, skip: ['head.*']", 2, "skip: `head.*` matches no tensor of the model"),
])
def test_what_is_not_to_be_had(base, tmp_path, where, code, says):
    (base / "empty").mkdir(exist_ok=True)
    if "plain" in where:
        rp.run(rp.write(base, rp.DIGITS_MLP, "plain.yaml"), base / "plain")
    spec = job(base, where)
    _, err = rp.call("run", spec, "--out", tmp_path / "run", expect=code)
    excerpt = err[err.index("error:"):].splitlines()[1]
    assert says in err and f"{spec}:8:" in err and "init_from" in excerpt and err.count("error:") == 1
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_validate_says_that_it_has_not_read_them(base):
    assert "the weights of model.init_from" in json.dumps(rp.call_json("validate", job(base, "run: nothing")))
    assert "init_from" not in json.dumps(rp.call_json("validate", rp.write(base, BASE, "base.yaml")))
