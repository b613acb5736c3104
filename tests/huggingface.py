"""Folders as transformers saves them, made with NumPy alone, and what GPT-2 and Llama say in fp64:
the architectures once more, from their papers, weights by transformers' names."""
import json
import pathlib
import struct

import numpy as np


def write_safetensors(path, tensors, dtype="F32"):
    """float32 arrays as F32, F16 or BF16 (cut to what it holds); returns what a reader gets."""
    header, data, read = {"__metadata__": {"format": "pt"}}, b"", {}
    for name, values in tensors.items():
        values = np.ascontiguousarray(values, np.float32)
        if dtype == "BF16":
            bits = (values.view(np.uint32) >> 16).astype(np.uint16)
            read[name] = (bits.astype(np.uint32) << 16).view(np.float32)
            raw = bits.tobytes()
        elif dtype == "F16":
            read[name] = values.astype(np.float16).astype(np.float32)
            raw = values.astype(np.float16).tobytes()
        else:
            read[name] = values
            raw = values.tobytes()
        header[name] = {"dtype": dtype, "shape": list(values.shape),
                        "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    pathlib.Path(path).write_bytes(struct.pack("<Q", len(text)) + text + data)
    return read


def read_safetensors(path):
    raw = pathlib.Path(path).read_bytes()
    n = struct.unpack("<Q", raw[:8])[0]
    header = json.loads(raw[8:8 + n])
    out = {}
    for name, row in header.items():
        if name == "__metadata__":
            continue
        assert row["dtype"] == "F32"
        begin, end = row["data_offsets"]
        out[name] = np.frombuffer(raw[8 + n + begin:8 + n + end], "<f4").reshape(row["shape"])
    return out


def make_gpt2(config, seed=1):
    """Random weights of a GPT-2 with this config, by name without a prefix."""
    draw = np.random.default_rng(seed)
    c, v, t = config["n_embd"], config["vocab_size"], config["n_positions"]
    f = config.get("n_inner") or 4 * c

    def matrix(*shape):
        return draw.normal(0, 0.3, shape).astype(np.float32)

    w = {"wte.weight": matrix(v, c), "wpe.weight": matrix(t, c)}
    for i in range(config["n_layer"]):
        for norm in ("ln_1", "ln_2"):
            w[f"h.{i}.{norm}.weight"], w[f"h.{i}.{norm}.bias"] = 1 + matrix(c), matrix(c)
        for name, a, b in (("attn.c_attn", c, 3 * c), ("attn.c_proj", c, c), ("mlp.c_fc", c, f),
                           ("mlp.c_proj", f, c)):
            w[f"h.{i}.{name}.weight"], w[f"h.{i}.{name}.bias"] = matrix(a, b), matrix(b)
    w["ln_f.weight"], w["ln_f.bias"] = 1 + matrix(c), matrix(c)
    if not config.get("tie_word_embeddings", True):
        w["lm_head.weight"] = matrix(v, c)
    return w


def make_llama(config, seed=2):
    draw = np.random.default_rng(seed)
    c, v, f = config["hidden_size"], config["vocab_size"], config["intermediate_size"]
    d = c // config["num_attention_heads"]
    kv = d * config.get("num_key_value_heads", config["num_attention_heads"])

    def matrix(*shape):
        return draw.normal(0, 0.3, shape).astype(np.float32)

    w = {"model.embed_tokens.weight": matrix(v, c)}
    for i in range(config["num_hidden_layers"]):
        p = f"model.layers.{i}."
        w[p + "input_layernorm.weight"] = 1 + matrix(c)
        w[p + "post_attention_layernorm.weight"] = 1 + matrix(c)
        if config["model_type"] == "qwen3":
            w[p + "self_attn.q_norm.weight"] = 1 + matrix(d)
            w[p + "self_attn.k_norm.weight"] = 1 + matrix(d)
        for name, a, b in (("self_attn.q_proj", c, c), ("self_attn.k_proj", kv, c),
                           ("self_attn.v_proj", kv, c), ("self_attn.o_proj", c, c),
                           ("mlp.gate_proj", f, c), ("mlp.up_proj", f, c), ("mlp.down_proj", c, f)):
            w[p + name + ".weight"] = matrix(a, b)
            if config.get("attention_bias"):
                w[p + name + ".bias"] = matrix(a)
    w["model.norm.weight"] = 1 + matrix(c)
    if not config.get("tie_word_embeddings"):
        w["lm_head.weight"] = matrix(v, c)
    return w


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def attention(q, k, v):
    """(H, T, D) of each, causal."""
    t = q.shape[1]
    scores = q @ k.transpose(0, 2, 1) / np.sqrt(q.shape[2])
    scores[:, np.triu(np.ones((t, t), bool), 1)] = -np.inf
    y = softmax(scores) @ v
    return y.transpose(1, 0, 2).reshape(t, -1)


def heads(x, n):
    return x.reshape(len(x), n, -1).transpose(1, 0, 2)


def gpt2_logits(config, weights, tokens):
    w = {name: values.astype(np.float64) for name, values in weights.items()}
    eps = config.get("layer_norm_epsilon", 1e-5)

    def norm(x, name):
        d = x - x.mean(-1, keepdims=True)
        return d / np.sqrt((d * d).mean(-1, keepdims=True) + eps) * w[name + ".weight"] + w[name + ".bias"]

    def linear(x, name):
        return x @ w[name + ".weight"] + w[name + ".bias"]

    def gelu(x):
        if config.get("activation_function", "gelu_new") == "gelu":
            from math import erf
            return 0.5 * x * (1 + np.vectorize(erf)(x / np.sqrt(2)))
        return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x ** 3)))

    x = w["wte.weight"][tokens] + w["wpe.weight"][:len(tokens)]
    for i in range(config["n_layer"]):
        p, n = f"h.{i}.", config["n_head"]
        q, k, v = np.split(linear(norm(x, p + "ln_1"), p + "attn.c_attn"), 3, -1)
        x = x + linear(attention(heads(q, n), heads(k, n), heads(v, n)), p + "attn.c_proj")
        x = x + linear(gelu(linear(norm(x, p + "ln_2"), p + "mlp.c_fc")), p + "mlp.c_proj")
    return norm(x, "ln_f") @ w.get("lm_head.weight", w["wte.weight"]).T


def llama_logits(config, weights, tokens):
    w = {name: values.astype(np.float64) for name, values in weights.items()}
    eps, n = config.get("rms_norm_eps", 1e-6), config["num_attention_heads"]
    kv = config.get("num_key_value_heads", n)

    def norm(x, name):
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + eps) * w[name + ".weight"]

    def linear(x, name):
        y = x @ w[name + ".weight"].T
        return y + w[name + ".bias"] if name + ".bias" in w else y

    def rope(x):
        d = x.shape[2]
        angle = np.arange(len(tokens))[:, None] * config.get("rope_theta", 10000.0) ** (-np.arange(0, d, 2) / d)
        a, b, cos, sin = x[..., :d // 2], x[..., d // 2:], np.cos(angle), np.sin(angle)
        return np.concatenate([a * cos - b * sin, b * cos + a * sin], -1)

    x = w["model.embed_tokens.weight"][tokens]
    for i in range(config["num_hidden_layers"]):
        p = f"model.layers.{i}."
        h = norm(x, p + "input_layernorm")
        q, k, v = (heads(linear(h, p + f"self_attn.{c}_proj"), m) for c, m in (("q", n), ("k", kv), ("v", kv)))
        if config["model_type"] == "qwen3":
            q, k = norm(q, p + "self_attn.q_norm"), norm(k, p + "self_attn.k_norm")
        k, v = np.repeat(rope(k), n // kv, 0), np.repeat(v, n // kv, 0)
        x = x + linear(attention(rope(q), k, v), p + "self_attn.o_proj")
        h = norm(x, p + "post_attention_layernorm")
        gate = linear(h, p + "mlp.gate_proj")
        x = x + linear(gate / (1 + np.exp(-gate)) * linear(h, p + "mlp.up_proj"), p + "mlp.down_proj")
    return norm(x, "model.norm") @ w.get("lm_head.weight", w["model.embed_tokens.weight"]).T
