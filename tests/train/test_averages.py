"""train.ema, train.optimizer.no_decay: what they compute, that evaluations use them, and that no place changes a bit of them."""
import pathlib
import re
import signal

import numpy as np
import pytest

import reprise as rp

DECAY = 0.9
SPEC = rp.DIGITS_MLP.replace("  clip_norm: 1.0\n", f"  clip_norm: 1.0\n  ema: {{decay: {DECAY}}}\n").replace(
    "checkpoint: {every: 5 steps, keep: {last: 3}}", "checkpoint: {every: 1 step, keep: {last: 100}}")
BATCH_NORM = rp.RESNET.replace("checkpoint: {every: 3 steps}", "checkpoint: {every: 1 step, keep: {last: 100}}").replace(
    "  shards: 4\n", f"  shards: 4\n  ema: {{decay: {DECAY}}}\n")
MUON = SPEC.replace("{kind: adamw, lr: 1.0e-3, weight_decay: 0.05}", "{kind: muon, lr: 0.01, adamw_lr: 1.0e-3, weight_decay: 0.05}")
GPT = rp.TINY_GPT2.replace("{kind: adamw, lr: 3.0e-3, betas: [0.9, 0.95], weight_decay: 0.1, decay: matrices}",
                           "{kind: muon, lr: 0.02, adamw_lr: 3.0e-3, weight_decay: 0.1, no_decay: [wte.*, wpe.*]}").replace(
    "  clip_norm: 1.0\n", f"  clip_norm: 1.0\n  ema: {{decay: {DECAY}}}\n").replace("{every: 3 steps, keep: {last: 4,", "{every: 1 step, keep: {last: 100,")
SPECS = {"mlp": SPEC, "batch norm": BATCH_NORM, "muon": MUON, "gpt": GPT}


def write(folder, text):
    """The spec, and beside it the text that a language model learns from."""
    rp.write_texts(folder)
    return rp.write(folder, text)


def tensors(run, step, file):
    import json
    import struct
    blob = (pathlib.Path(run) / f"checkpoints/step-{step:08d}/{file}.safetensors").read_bytes()
    length = struct.unpack("<Q", blob[:8])[0]
    header = json.loads(blob[8:8 + length])
    return {name: np.frombuffer(blob[8 + length:], "<f4")[e["data_offsets"][0] // 4:e["data_offsets"][1] // 4]
            for name, e in header.items() if name != "__metadata__"}


@pytest.fixture(scope="module", params=list(SPECS))
def averaged(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("averaged")
    spec = write(folder, SPECS[request.param])
    return spec, folder / "run", rp.run(spec, folder / "run")


def chain(run, steps, decay):
    """The averages after `steps`, from those of step 1: fp64 rounded once is the fma but for a rare tie."""
    rest = np.float32(1 - decay)
    average = {name[:-4]: value for name, value in tensors(run, 1, "optimizer").items() if name.endswith(".ema")}
    for step in range(2, steps + 1):
        model = tensors(run, step, "model")
        assert set(model) == set(average)
        for name, e in average.items():
            average[name] = (np.float64(rest) * np.float64(model[name] - e) + np.float64(e)).astype(np.float32)
    return average


def test_chain(averaged):
    _, run, _ = averaged
    got = tensors(run, 8, "optimizer")
    for decay, equal in ((DECAY, True), (0.91, False)):
        want = chain(run, 8, decay)
        near = all(np.all(np.abs(got[name + ".ema"] - e) <= np.spacing(np.abs(e))) for name, e in want.items())
        assert near == equal, decay


def test_it_touches_nothing_else(averaged, tmp_path):
    """The weights are those of a run without averages; the digests are not."""
    spec, run, final = averaged
    text = "".join(line for line in spec.read_text().splitlines(True) if "ema:" not in line)
    plain = write(tmp_path, text)
    assert rp.run(plain, tmp_path / "run") != final
    a, b = tensors(run, 8, "model"), tensors(tmp_path / "run", 8, "model")
    assert all(np.array_equal(a[name], b[name]) for name in a)
    lines = [rp.digest_lines(folder) for folder in (run, tmp_path / "run")]
    assert all(x["loss"] == y["loss"] and x["params"] != y["params"] for x, y in zip(*lines))


@pytest.mark.parametrize("setting", ["resources.threads=1", "resources.threads=3", "train.micro_batch=8"])
def test_places(averaged, setting, tmp_path):
    spec, _, final = averaged
    assert rp.run(spec, tmp_path / "run", "--set", setting) == final


def test_killed_and_resumed(averaged, tmp_path):
    spec, _, final = averaged
    out = tmp_path / "run"
    process = rp.start("run", spec, "--out", out, env=rp.slowly())
    assert rp.kill_when(process, lambda: (out / "checkpoints/step-00000003/COMMITTED").exists()) == -signal.SIGKILL
    assert rp.run(spec, out) == final


def test_evaluations_use_the_averages(averaged, tmp_path):
    spec, run, _ = averaged
    last = [line["metrics"]["loss"] for line in rp.metric_lines(run) if line["split"] == "valid"][-1]
    assert rp.call_json("eval", run)["metrics"]["loss"] == last
    text = "".join(line for line in spec.read_text().splitlines(True) if "ema:" not in line)
    plain = tmp_path / "run"
    rp.run(write(tmp_path, text), plain)
    trained = rp.call_json("eval", plain)["metrics"]["loss"]
    assert trained != last
    assert rp.call_json("eval", run, "--weights", "ema")["metrics"]["loss"] == last
    result = rp.call_json("eval", run, "--weights", "trained")
    assert result["metrics"]["loss"] == trained and result["weights"] == "trained"
    assert rp.call_json("eval", plain, "--weights", "trained")["metrics"]["loss"] == trained
    for folder, weights, words in ((plain, "ema", "train.ema"), (run, "model", "trained")):
        _, err = rp.call("eval", folder, "--weights", weights, expect=2)
        assert words in err


def test_training_longer_goes_on_with_the_averages(averaged, tmp_path):
    spec, run, _ = averaged
    steps = max(int(p.name[5:]) for p in (run / "checkpoints").iterdir() if p.name.startswith("step-"))
    origin = f"init_from: {{run: {run}, load: all}}"
    text = spec.read_text().replace("model: {", f"model: {{{origin}, ").replace("model:\n", f"model:\n  {origin}\n")
    assert origin in text
    rp.run(write(tmp_path, text), tmp_path / "run", "--set", "train.for=5 steps")
    before = tensors(run, steps, "optimizer")
    after, model = tensors(tmp_path / "run", 1, "optimizer"), tensors(tmp_path / "run", 1, "model")
    for name, value in model.items():
        e = before[name + ".ema"]
        want = (np.float64(np.float32(1 - DECAY)) * np.float64(value - e) + np.float64(e)).astype(np.float32)
        assert np.all(np.abs(after[name + ".ema"] - want) <= np.spacing(np.abs(want))), name


def test_who_is_under_muon(tmp_path):
    """The last matrix and every bias have adamw's two states; `adamw_for` moves another one there, and changes its bits."""
    spec = write(tmp_path, MUON)
    states = {}
    for name, more in {"plain": [], "moved": ["--set", "train.optimizer.adamw_for=[layers.1.*]"],
                       "scale": ["--set", "train.optimizer.scale=rms"]}.items():
        rp.run(spec, tmp_path / name, "--set", "train.for=5 steps", *more)
        states[name] = {key for key in tensors(tmp_path / name, 5, "optimizer") if not key.endswith(".ema")}
    matrices = {"layers.1.weight", "layers.3.weight"}
    rest = {"layers.1.bias", "layers.3.bias", "layers.5.weight", "layers.5.bias"}
    def both(names):
        return {f"{name}.{state}" for name in names for state in "mv"}
    assert states["plain"] == states["scale"] == {name + ".momentum" for name in matrices} | both(rest)
    assert states["moved"] == {"layers.3.weight.momentum"} | both(rest | {"layers.1.weight"})
    model = {name: tensors(tmp_path / name, 5, "model") for name in states}
    assert not np.array_equal(model["plain"]["layers.1.weight"], model["moved"]["layers.1.weight"])
    assert not np.array_equal(model["plain"]["layers.1.weight"], model["scale"]["layers.1.weight"])
    first = {name: tensors(tmp_path / name, 1, "model") for name in states}  # before any difference has come round
    assert all(np.array_equal(first["plain"][name], first["scale"][name]) for name in rest)


def orthogonal(x):
    """Five steps of muon's iteration, in fp64."""
    x = x / (np.linalg.norm(x) + 1e-7)
    m = x.T if x.shape[0] > x.shape[1] else x
    for _ in range(5):
        a = m @ m.T
        m = 3.4445 * m + (-4.7750 * a + 2.0315 * a @ a) @ m
    return m.T if x.shape[0] > x.shape[1] else m


@pytest.mark.parametrize("split", [False, True])
def test_matrices_that_lie_in_one(split, tmp_path):
    """q, k, v and the halves of swiglu under muon: each made orthogonal by itself, or all in one."""
    text = re.sub(r"optimizer: \{[^}]*\}", "optimizer: {kind: muon, lr: 0.02, adamw_lr: 1.0e-3, nesterov: false, split: SPLIT}", rp.TINY_LLAMA)
    text = text.replace("SPLIT", str(split).lower()).replace("{every: 4 steps}", "{every: 1 step, keep: {last: 9}}")
    rp.run(write(tmp_path, text), tmp_path / "run", "--set", "train.for=2 steps")
    before, after = tensors(tmp_path / "run", 1, "model"), tensors(tmp_path / "run", 2, "model")
    momentum = tensors(tmp_path / "run", 2, "optimizer")
    # binary32 in chains of at most 70 terms, three in each of five steps, of which each lets a difference grow by 3.4445 at most
    bound = 3 * 70 * 2.0 ** -24 * sum(3.4445 ** k for k in range(1, 6))
    for name, cuts in {"h.1.attn.c_attn.weight": [48, 64], "h.0.mlp.c_fc.weight": [70], "h.0.mlp.c_proj.weight": []}.items():
        columns = 70 if "mlp.c_proj" in name else 48
        def wanted(cuts):
            parts = [orthogonal(part) * max(1, part.shape[0] / part.shape[1]) ** 0.5
                     for part in np.split(momentum[name + ".momentum"].astype(np.float64).reshape(-1, columns), cuts)]
            return np.concatenate(parts)
        step = (before[name].astype(np.float64) - after[name]).reshape(-1, columns) / 0.02
        away = {apart: np.abs(step - wanted(cuts if apart else [])).max() for apart in (False, True)}
        assert away[split] < bound, (name, away)
        assert not cuts or away[not split] > 10 * bound, (name, away)


def test_no_decay(tmp_path):
    spec = write(tmp_path, rp.DIGITS_MLP)
    runs = {}
    for name, value in {"all": "[]", "none": "[layers.*]", "some": "[layers.1.weight]"}.items():
        runs[name] = tmp_path / name
        rp.run(spec, runs[name], "--set", f"train.optimizer.no_decay={value}", "--set", "train.for=5 steps")
    rp.run(spec, tmp_path / "zero", "--set", "train.optimizer.weight_decay=0", "--set", "train.for=5 steps")
    last = {name: tensors(folder, 5, "model") for name, folder in {**runs, "zero": tmp_path / "zero"}.items()}
    names = sorted(last["all"])
    assert all(np.array_equal(last["none"][n], last["zero"][n]) for n in names)
    assert not any(np.array_equal(last["all"][n], last["zero"][n]) for n in names if n.endswith("weight"))
    assert not np.array_equal(last["some"]["layers.1.weight"], last["all"]["layers.1.weight"])
    _, err = rp.call("run", spec, "--out", tmp_path / "no", "--set", "train.optimizer.no_decay=[wte.*]", expect=2)
    assert "no_decay" in err and "wte.*" in err and "layers." in err
