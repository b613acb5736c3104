"""Weights of transformers' folders in and out: logits beside a reference in fp64, the same numbers back,
and folders that are not what they should be."""
import hashlib
import json
import os
import pathlib
import subprocess

import numpy as np
import pytest

import huggingface as hf
from reprise import call, call_json, manifest, write

GPT2 = {"model_type": "gpt2", "n_layer": 2, "n_head": 4, "n_embd": 32, "n_positions": 24, "vocab_size": 256,
        "layer_norm_epsilon": 1e-3, "activation_function": "gelu_new"}
GPT2_KEYS = "layers: 2, heads: 4, width: 32, context: 24, vocab: 256, norm_eps: 1.0e-3"
LLAMA = {"model_type": "llama", "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
         "hidden_size": 32, "intermediate_size": 40, "max_position_embeddings": 64, "vocab_size": 260,
         "hidden_act": "silu", "rms_norm_eps": 1e-5, "rope_theta": 500.0}
LLAMA_KEYS = ("layers: 2, heads: 4, kv_heads: 2, width: 32, context: 24, vocab: 260, mlp: swiglu, mlp_width: 40, "
              "norm: rmsnorm, norm_eps: 1.0e-5, position: rope, rope_base: 500, bias: false, tied: false")

# An update too small to change a weight that is not zero: the checkpoint is what was read.
SPEC = """reprise: 1
name: imported
seed: 1
data:
  train: {{format: text, files: [text.txt]}}
model: {{kind: gpt, {keys}, init_from: {{path: weights{more}}}}}
train:
  for: 1 steps
  batch: 2
  optimizer: {{kind: sgd, lr: 1.0e-30}}
"""

CASES = {
    "gpt2": (GPT2, GPT2_KEYS, "F32", "transformer."),
    "gpt2-untied": ({**GPT2, "activation_function": "gelu", "n_inner": 40, "tie_word_embeddings": False},
                    GPT2_KEYS + ", mlp: gelu, mlp_width: 40, tied: false", "F16", ""),
    "llama": (LLAMA, LLAMA_KEYS, "BF16", "model."),
    "llama-biases": ({**LLAMA, "attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True},
                     LLAMA_KEYS.replace("bias: false, tied: false", "bias: true, tied: true"), "F32", ""),
    "qwen3": ({**LLAMA, "model_type": "qwen3", "head_dim": 8}, LLAMA_KEYS + ", qk_norm: true", "F32", "model."),
}


def make(folder, config, keys, dtype="F32", prefix=None, shards=0, more=""):
    """A folder of weights and a spec that begins with them; returns (spec, weights by usual name)."""
    folder = pathlib.Path(folder)
    weights = folder / "weights"
    weights.mkdir()
    (weights / "config.json").write_text(json.dumps(config))
    gpt2 = config["model_type"] == "gpt2"
    tensors = hf.make_gpt2(config) if gpt2 else hf.make_llama(config)

    def stored(name):
        bare = name[len("model."):] if name.startswith("model.") else name
        return bare if prefix is None or bare == "lm_head.weight" else prefix + bare

    named = {stored(name): values for name, values in tensors.items()}
    if gpt2:  # a buffer that old versions saved
        named[stored("h.0.attn.bias")] = np.tril(np.ones((1, 1, 4, 4), np.float32))
    if shards:
        names, index, read = list(named), {}, {}
        for i in range(shards):
            file = f"model-{i + 1:05d}-of-{shards:05d}.safetensors"
            part = {name: named[name] for name in names[i::shards]}
            read.update(hf.write_safetensors(weights / file, part, dtype))
            index.update({name: file for name in part})
        (weights / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    else:
        read = hf.write_safetensors(weights / "model.safetensors", named, dtype)
    (folder / "text.txt").write_bytes(bytes(range(32, 127)) * 8)
    spec = write(folder, SPEC.format(keys=keys, more=more))
    return spec, {name: read[stored(name)] for name in tensors}


def logits_of(run, tokens):
    out = subprocess.run([os.environ["LOGITS"], run, *map(str, tokens)], capture_output=True, text=True, check=True)
    return np.array([[float.fromhex(x) for x in line.split()] for line in out.stdout.splitlines()])


def reference(config, weights, tokens):
    return (hf.gpt2_logits if config["model_type"] == "gpt2" else hf.llama_logits)(config, weights, tokens)


@pytest.mark.parametrize("name", CASES)
def test_logits(name, tmp_path):
    config, keys, dtype, prefix = CASES[name]
    spec, weights = make(tmp_path, config, keys, dtype, prefix, shards=3 if name == "llama" else 0)
    call("run", spec, "--out", tmp_path / "run")
    tokens = [7, 3, 250, 3, 99, 0, 255, 12, 8, 8, 31, 77, 64, 201, 5, 9]
    got, want = logits_of(tmp_path / "run", tokens), reference(config, weights, tokens)
    # A logit is the end of a path of 12 products of at most 128 terms each, norms between them: in the
    # worst case each term of a chain rounds by 2^-24 of what it adds to.
    bound = 12 * 128 * 2.0 ** -24 * np.abs(want).max()
    assert np.abs(got - want).max() < bound
    other = dict(weights)
    last = [n for n in weights if n.endswith(("mlp.c_proj.weight", "mlp.up_proj.weight"))][-1]
    other[last] = np.roll(weights[last], 1, 0)
    assert np.abs(got - reference(config, other, tokens)).max() > 100 * bound

    # Out again: the same numbers under the same names, and a config that says the same.
    done = call_json("export", tmp_path / "run", "--to", "huggingface", "--out", tmp_path / "out")
    assert done["step"] == 1
    back = hf.read_safetensors(tmp_path / "out" / "model.safetensors")
    prefix = "transformer." if config["model_type"] == "gpt2" else ""
    usual = {n if n == "lm_head.weight" else prefix + n: v for n, v in weights.items()}
    assert set(back) == set(usual)
    for n, values in usual.items():
        if n.endswith("wpe.weight"):  # rows that no window reaches get no gradient, the others a tiny one
            values = values[:24]
        assert np.array_equal(back[n], values), n
    again = json.loads((tmp_path / "out" / "config.json").read_text())
    for key, value in config.items():
        if key not in ("max_position_embeddings", "n_positions", "tie_word_embeddings"):
            assert again[key] == (np.float32(value) if isinstance(value, float) else value), key
    # And in again from there: the same digest of the model.
    weights_out = tmp_path / "second"
    weights_out.mkdir()
    (tmp_path / "out").rename(weights_out / "weights")
    (weights_out / "text.txt").write_bytes((tmp_path / "text.txt").read_bytes())
    second = write(weights_out, spec.read_text())
    call("run", second, "--out", weights_out / "run")
    assert np.array_equal(logits_of(weights_out / "run", tokens), got)


@pytest.mark.parametrize("name", ["gpt2", "gpt2-untied", "llama", "llama-biases"])
def test_transformers(name, tmp_path):
    """What it loads says the same, where it is installed."""
    transformers, torch = pytest.importorskip("transformers"), pytest.importorskip("torch")
    config, keys, dtype, prefix = CASES[name]
    spec, _ = make(tmp_path, config, keys, dtype, prefix)
    call("run", spec, "--out", tmp_path / "run")
    call("export", tmp_path / "run", "--to", "huggingface", "--out", tmp_path / "out")
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out").eval()
    tokens = [7, 3, 250, 3, 99, 0, 255, 12]
    with torch.no_grad():
        want = model(torch.tensor([tokens])).logits[0].double().numpy()
    got, bound = logits_of(tmp_path / "run", tokens), 2 * 12 * 128 * 2.0 ** -24 * np.abs(want).max()
    assert np.abs(got - want).max() < bound  # both round
    assert np.abs(got[1:] - want[:-1]).max() > 100 * bound


def test_no_biases_go_out_as_zeros(tmp_path):
    spec, _ = make(tmp_path, GPT2, GPT2_KEYS)
    text = spec.read_text().replace(", init_from: {path: weights}", ", bias: false")
    write(tmp_path, text)
    call("run", spec, "--out", tmp_path / "run")
    call("export", tmp_path / "run", "--to", "huggingface", "--out", tmp_path / "out")
    back = hf.read_safetensors(tmp_path / "out" / "model.safetensors")
    assert not back["transformer.h.1.mlp.c_fc.bias"].any() and back["transformer.h.1.mlp.c_fc.weight"].any()
    bare = {n[len("transformer."):]: v for n, v in back.items()}
    tokens = [5, 100, 3, 3]
    want = hf.gpt2_logits(GPT2, bare, tokens)
    got = logits_of(tmp_path / "run", tokens)
    assert np.abs(got - want).max() < 12 * 128 * 2.0 ** -24 * np.abs(want).max()
    assert np.abs(got - want[::-1]).max() > 0.01 * np.abs(want).max()


def test_content_not_path(tmp_path):
    """The numeric digest takes the content of the weight files; a given hash is checked."""
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()
    spec, _ = make(one, LLAMA, LLAMA_KEYS, shards=2)
    make(two, LLAMA, LLAMA_KEYS, shards=2)
    (two / "weights").rename(two / "elsewhere")
    write(two, spec.read_text().replace("path: weights", "path: elsewhere"))
    call("run", spec, "--out", tmp_path / "a")
    call("run", two / "job.yaml", "--out", tmp_path / "b")
    assert manifest(tmp_path / "a")["digests"] | {"place": 0} == manifest(tmp_path / "b")["digests"] | {"place": 0}
    files = sorted((one / "weights").glob("model*.safetensors"))
    whole = hashlib.sha256(b"".join(f.read_bytes() for f in files)).hexdigest()
    text = spec.read_text()
    write(one, text.replace("path: weights", f"path: weights, sha256: {whole}"))
    call("run", spec, "--out", tmp_path / "c")
    assert manifest(tmp_path / "c")["digests"]["final"] == manifest(tmp_path / "a")["digests"]["final"]
    write(one, text.replace("path: weights", f"path: weights, sha256: {'0' * 64}"))
    _, err = call("run", spec, "--out", tmp_path / "d", expect=4)
    assert whole in err and not (tmp_path / "d").exists()
    raw = bytearray(files[1].read_bytes())
    raw[-1] ^= 1
    files[1].write_bytes(raw)
    write(one, text)
    call("run", spec, "--out", tmp_path / "e")
    assert manifest(tmp_path / "e")["digests"]["numeric"] != manifest(tmp_path / "a")["digests"]["numeric"]


def test_other_model(tmp_path):
    """Every key that must be another, with the line to write, before the run folder is made."""
    spec, _ = make(tmp_path, GPT2, "layers: 3, heads: 2, width: 32, context: 30, vocab: 300, norm: rmsnorm, bias: false, norm_eps: 1.0e-6")
    _, err = call("run", spec, "--out", tmp_path / "run", expect=4)
    for line in ("layers: 2 ", "heads: 4 ", "context: 24 ", "vocab: 256 ", "norm: layernorm ", "norm_eps: 0.001 "):
        assert f"\n    {line}" in err, err
    assert "norm_eps: 0.001 # 1e-06 in the spec" in " ".join(err.split())
    assert "width: 32" not in err.split("model:\n")[1].split("\n    6 |")[0]
    assert not (tmp_path / "run").exists()
    for command in ("validate", "plan"):
        _, again = call(command, spec, expect=4)
        assert "\n    layers: 2 " in again
    text = spec.read_text()
    write(tmp_path, text[:text.index("model:")] + "model: {kind: mlp, hidden: [4], init_from: {path: weights}}\n" +
          text[text.index("train:\n  for"):].replace("batch", "loss: cross_entropy\n  batch"))
    write(tmp_path, spec.read_text().replace("{format: text, files: [text.txt]}",
                                             "{format: synthetic, task: digits, samples: 64}"))
    _, err = call("run", spec, "--out", tmp_path / "run", expect=2)
    assert "that of a language model is for `kind: gpt`" in err


def spoil_shard(weights):
    (weights / "model-00002-of-00002.safetensors").unlink()


def spoil_bytes(weights):
    path = weights / "model-00001-of-00002.safetensors"
    path.write_bytes(path.read_bytes()[:-4])


def spoil_index(weights):
    path = weights / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    index["weight_map"]["model.norm.weight"] = "model-00001-of-00002.safetensors"
    index["weight_map"]["model.embed_tokens.weight"] = "model-00002-of-00002.safetensors"
    path.write_text(json.dumps(index))


def spoil_config(weights):
    (weights / "config.json").unlink()


def spoil_rope(weights):
    config = json.loads((weights / "config.json").read_text())
    config["rope_scaling"] = {"rope_type": "llama3", "factor": 8.0}
    (weights / "config.json").write_text(json.dumps(config))


def spoil_tensor(weights):
    """Another name of the same length, in its shard and in the index."""
    old, new = b"layers.0.self_attn.q_proj.", b"layers.0.self_attn.q_prok."
    for path in weights.glob("model*"):
        path.write_bytes(path.read_bytes().replace(old, new))


def spoil_shape(weights):
    """As many numbers, in other rows."""
    for path in weights.glob("*.safetensors"):
        path.write_bytes(path.read_bytes().replace(b'"shape":[40,32]', b'"shape":[80,16]').replace(b'"shape": [40, 32]', b'"shape": [80, 16]'))


def test_vocabulary_of_other_weights(tmp_path):
    """No advice that leads to the next refusal: the tokenizer is the wrong one."""
    spec, _ = make(tmp_path, {**GPT2, "vocab_size": 100}, GPT2_KEYS.replace("256", "100"))
    _, err = call("run", spec, "--out", tmp_path / "run", expect=4)
    assert "tokens 0 to 255" in err and "the tokenizer of these weights" in err and "write `vocab" not in err


@pytest.mark.parametrize("spoil, says", [
    (spoil_shape, "is 80 x 16, but this model needs 40 x 32"),
    (spoil_shard, "model-00002-of-00002.safetensors is missing"), (spoil_bytes, "behind the end"),
    (spoil_index, "is not in model-0000"), (spoil_config, "config.json is missing"),
    (spoil_rope, "`rope_scaling` of type llama3"), (spoil_tensor, "1 of its tensors are missing: model.layers.0.self_attn.q_proj.weight")])
def test_damaged(spoil, says, tmp_path):
    spec, _ = make(tmp_path, LLAMA, LLAMA_KEYS, prefix="model.", shards=2)
    spoil(tmp_path / "weights")
    _, err = call("run", spec, "--out", tmp_path / "run", expect=4)
    assert says in err
    assert not (tmp_path / "run").exists()


def test_skip(tmp_path):
    """Tensors drawn anew may be missing in the folder."""
    spec, weights = make(tmp_path, LLAMA, LLAMA_KEYS, prefix="model.", more=", skip: [lm_head.weight]")
    named = {n: v for n, v in weights.items() if n != "lm_head.weight"}
    hf.write_safetensors(tmp_path / "weights" / "model.safetensors", named)
    call("run", spec, "--out", tmp_path / "run")
    call("export", tmp_path / "run", "--to", "safetensors", "--out", tmp_path / "x.safetensors")
    back = hf.read_safetensors(tmp_path / "x.safetensors")
    assert np.array_equal(back["wte.weight"], weights["model.embed_tokens.weight"])
    assert not np.array_equal(back["lm_head.weight"], weights["lm_head.weight"])
    assert np.array_equal(back["h.1.attn.c_attn.weight"][32:48], weights["model.layers.1.self_attn.k_proj.weight"])


def test_export_refuses(tmp_path):
    spec, _ = make(tmp_path, GPT2, GPT2_KEYS)
    write(tmp_path, spec.read_text().replace(", init_from: {path: weights}", ", qk_norm: true"))
    call("run", spec, "--out", tmp_path / "run")
    _, err = call("export", tmp_path / "run", "--to", "huggingface", "--out", tmp_path / "out", expect=2)
    assert "`qk_norm: true`" in err and not (tmp_path / "out").exists()
    call("export", tmp_path / "run", "--to", "safetensors", "--out", tmp_path / "deep" / "x.safetensors")
    _, err = call("export", tmp_path / "run", "--to", "safetensors", "--out", tmp_path / "deep" / "x.safetensors",
                  expect=2)
    assert "exists already" in err
    call("export", tmp_path / "run", "--to", "onnx", "--out", tmp_path / "out", expect=2)
    call("export", tmp_path / "run", "--to", "huggingface", expect=2)
    assert sorted(p.name for p in (tmp_path / "deep").iterdir()) == ["x.safetensors"]
