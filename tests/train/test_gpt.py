"""The promise for language models: a GPT-2 and a Llama of little size give equal bits whatever the place, and with activations
kept or computed again; and other bits when anything numeric differs."""
import signal

import pytest

import reprise as rp

@pytest.fixture(scope="module", params=list(rp.TEXT_MODELS))
def model(request, tmp_path_factory):
    """A model's spec, its folder, and the digest of a plain run."""
    folder = tmp_path_factory.mktemp(request.param)
    rp.write_texts(folder)
    spec = rp.write(folder, rp.TEXT_MODELS[request.param])
    return request.param, folder, spec, rp.run(spec, folder / "plain")


def test_rerun_is_equal(model):
    _, folder, _, final = model
    result = rp.call_json("rerun", folder / "plain", "--out", folder / "again")
    assert result["equal"] is True and result["digests"]["final"] == final


@pytest.mark.parametrize("settings", [["resources.threads=1"], ["resources.threads=2"], ["resources.threads=5"]]
                         + [[f"train.micro_batch={n}"] for n in (16, 8, 4, 2, 1)]
                         + [["train.recompute=block"], ["train.recompute=block", "train.micro_batch=2", "resources.threads=3"],
                            ["eval.every=1 step"], ["checkpoint.every=1 step"]], ids=" ".join)
def test_place_and_policy(model, settings, tmp_path):
    _, _, spec, final = model
    assert rp.run(spec, tmp_path / "run", *(word for setting in settings for word in ("--set", setting))) == final


def test_instruction_sets(model, tmp_path):
    _, _, spec, final = model
    n = 0
    for path in ["avx2", "avx512", "wide", "neon", "scalar"]:
        process = rp.start("run", spec, "--out", tmp_path / path, "--json", env={"REPRISE_CPU_PATH": path})
        out, err = process.communicate()
        if process.returncode == 3 and path in err and path != "scalar":
            continue
        assert process.returncode == 0, err
        assert final in out, path
        n += 1
    assert n >= 2


@pytest.mark.parametrize("recompute", ["none", "block"])
def test_killed_and_resumed(model, recompute, tmp_path):
    """kill -9 once a checkpoint is there; the rest, with activations kept or not, ends in the same bits."""
    _, _, spec, final = model
    out = tmp_path / "run"
    process = rp.start("run", spec, "--out", out, env=rp.slowly())
    code = rp.kill_when(process, lambda: any(out.glob("checkpoints/step-*/COMMITTED")))
    assert code == -signal.SIGKILL
    assert rp.run(spec, out, "--set", f"train.recompute={recompute}") == final


CONTROLS = ["seed=8888", "train.shards=2", "train.optimizer.lr=0.29"]
KEYS = {
    "gpt2": ["data.valid.fraction=0.2", "model.dropout.attention=0.11", "model.dropout.embedding=0", "model.tied=false", "model.bias=false", "model.mlp=gelu",
             "model.norm_eps=1.0e-6", "train.loss.cross_entropy.label_smoothing=0", "model.position=none", "model.vocab=257"],
    "llama": ["model.rope_base=10000", "model.qk_norm=false", "model.kv_heads=6", "model.mlp_width=71", "model.norm=layernorm",
              "model.context=32", "train.for=12 steps"],
}


def test_control_numeric_keys_change_the_digest(model, tmp_path):
    name, _, spec, final = model
    finals = {final}
    for number, key in enumerate(CONTROLS + KEYS[name]):
        finals.add(rp.run(spec, tmp_path / str(number), "--set", key))
        assert len(finals) == number + 2, key


def test_recompute_takes_less_memory(model):
    _, _, spec, _ = model
    big = ["--set", "model.layers=8", "--set", "train.micro_batch=16"]
    kept = rp.call_json("plan", spec, *big)
    again = rp.call_json("plan", spec, *big, "--set", "train.recompute=block")
    assert again["memory"]["activations"] < 0.5 * kept["memory"]["activations"]
    assert again["flops_per_step"] > 1.15 * kept["flops_per_step"]
    assert again["parameters"] == kept["parameters"]


def test_a_tied_head_adds_to_one_sum(model):
    """In one pass on one rank the table's gradient lies once; in several its uses have sums of their own. test_place_and_policy: the same bits."""
    name, _, spec, _ = model
    def gradients(*more):
        memory = rp.call_json("plan", spec, *more)["memory"]
        return memory["gradients"] - memory["parameters"]
    apart = ["--set", "train.micro_batch=2"]
    if name == "gpt2":
        assert gradients() < 64 * 256 < gradients(*apart)
    assert gradients("--set", "model.tied=false") == gradients(*apart, "--set", "model.tied=false")


def test_metrics_and_eval(model):
    """Of a text of bytes: perplexity is e^loss, bits per byte loss / ln 2; `eval` measures what the run did."""
    import math
    name, folder, _, _ = model
    last = [line["metrics"] for line in rp.metric_lines(folder / "plain") if line["split"] == "valid"][-1]
    assert last["perplexity"] == pytest.approx(math.exp(last["loss"]), rel=1e-12)
    assert last["bits_per_byte"] == pytest.approx(last["loss"] / math.log(2), rel=1e-12)
    assert 0 <= last["accuracy"] <= last["top5_accuracy"] <= 1
    result = rp.call_json("eval", folder / "plain")
    assert {key: result["metrics"][key] for key in last} == last
    text = (folder / ("text.txt" if name == "gpt2" else "other.txt")).read_bytes()
    n = round(0.1 * len(text)) if name == "gpt2" else len(text)
    assert result["tokens"] == n - 1
    _, err = rp.call("predict", folder / "plain", "--data", folder / "text.txt", expect=2)
    assert "reprise sample" in err
