#!/usr/bin/python3
"""Reference curves of language models for tests/train/test_torch_gpt.py, by PyTorch in fp64 from the papers' formulas.

    scripts/reference/torch_gpt.py [FOLDER]        default: tests/ref/torch_gpt

For each case: a spec, its initial weights and every gradient of the first step (safetensors), and curves.json with the loss
of 100 steps and a bound for each number that comes from precision alone, made as in torch_curves.py: the same training in fp64 with every
tensor that fp32 would round disturbed by a random relative error (each output and each gradient by 2^-24 times the square
root of the longest sum behind it, each parameter by 2^-24 after each update), four times the largest deviation over eight
such trainings. A control with one ingredient wrong must lie outside. The text (tokens.bin) is drawn from a chain in which
each token depends on the two before. Which window a step sees, and from which token, is rp-num-1's (kernels/README.md
chapter 4), written once more here.
"""
import json
import math
import pathlib
import struct
import sys

import numpy as np
import torch
import torch.nn.functional as F

import torch_curves as base

STEPS, TRIALS, BATCH, SEED = 100, 8, 8, 777
VOCAB, CONTEXT, TOKENS = 61, 12, 1500
WARMUP, FINAL, CLIP = 10, 0.1, 1.0
UNIT = 2.0 ** -24
WATCHED = "h.0.mlp.c_fc.weight"  # the gradient in which a control shows

GPT2 = dict(layers=2, heads=4, kv_heads=4, width=24, mlp_width=96, mlp="gelu_tanh", norm="layernorm", eps=1e-5, position="learned",
            base=10000.0, bias=True, tied=True, qk_norm=False)
LLAMA = dict(layers=2, heads=4, kv_heads=2, width=24, mlp_width=40, mlp="swiglu", norm="rmsnorm", eps=1e-6, position="rope",
             base=10000.0, bias=False, tied=False, qk_norm=False)
CASES = {
    # name: (model, what the control does wrong)
    "gpt2": (GPT2, dict(mlp="gelu")),
    "llama": (LLAMA, dict(base=500.0)),
    "llama-qk": (dict(LLAMA, heads=6, kv_heads=2, tied=True, qk_norm=True), dict(eps=1e-3)),
}


# ---- the model -------------------------------------------------------------------------------------

class Net:
    """A model with tensors of GPT-2's names; `noise`: disturb what fp32 would round."""
    def __init__(self, m, tensors, noise):
        self.m, self.w, self.noise = m, tensors, noise

    def r(self, x):
        if self.noise is None:
            return x
        longest = max(BATCH * CONTEXT, VOCAB, self.m["mlp_width"])
        return base.Rounding.apply(x, UNIT * math.sqrt(longest), self.noise)

    def linear(self, x, name):
        return self.r(F.linear(x, self.w[name + ".weight"], self.w.get(name + ".bias")))

    def scale(self, x, name):
        return self.r(x / torch.sqrt((x * x).mean(-1, keepdim=True) + self.m["eps"]) * self.w[name])

    def norm(self, x, name):
        if self.m["norm"] == "rmsnorm":
            return self.scale(x, name + ".weight")
        return self.r(F.layer_norm(x, (self.m["width"],), self.w[name + ".weight"], self.w[name + ".bias"], self.m["eps"]))

    def rope(self, x):
        """Pairs (i, i + D/2), as Hugging Face's Llama has them; x (N, heads, T, D)."""
        half = x.shape[-1] // 2
        turn = torch.arange(CONTEXT, dtype=torch.float64)[:, None] * self.m["base"] ** (-torch.arange(half, dtype=torch.float64) / half)
        a, b = x[..., :half], x[..., half:]
        return self.r(torch.cat([a * turn.cos() - b * turn.sin(), b * turn.cos() + a * turn.sin()], -1))

    def attention(self, x, name):
        m, d = self.m, self.m["width"] // self.m["heads"]
        n = len(x)
        parts = self.linear(x, name + ".c_attn").split([m["heads"] * d, m["kv_heads"] * d, m["kv_heads"] * d], -1)
        q, k, v = (p.view(n, CONTEXT, -1, d).transpose(1, 2) for p in parts)
        if m["qk_norm"]:
            q, k = self.scale(q, name + ".q_norm.weight"), self.scale(k, name + ".k_norm.weight")
        if m["position"] == "rope":
            q, k = self.rope(q), self.rope(k)
        k, v = (t.repeat_interleave(m["heads"] // m["kv_heads"], 1) for t in (k, v))
        scores = self.r(q @ k.transpose(2, 3)) / math.sqrt(d)
        later = torch.ones(CONTEXT, CONTEXT, dtype=torch.bool).triu(1)
        weights = self.r(scores.masked_fill(later, -math.inf).softmax(-1))
        y = self.r(weights @ v).transpose(1, 2).reshape(n, CONTEXT, m["heads"] * d)
        return self.linear(y, name + ".c_proj")

    def mlp(self, x, name):
        h = self.linear(x, name + ".c_fc")
        if self.m["mlp"] == "swiglu":
            gate, up = h.chunk(2, -1)
            h = F.silu(gate) * up
        else:
            h = F.gelu(h, approximate="tanh" if self.m["mlp"] == "gelu_tanh" else "none")
        return self.linear(self.r(h), name + ".c_proj")

    def loss(self, x, y):
        h = self.w["wte.weight"][x]
        if self.m["position"] == "learned":
            h = self.r(h + self.w["wpe.weight"])
        for i in range(self.m["layers"]):
            h = self.r(h + self.attention(self.norm(h, f"h.{i}.ln_1"), f"h.{i}.attn"))
            h = self.r(h + self.mlp(self.norm(h, f"h.{i}.ln_2"), f"h.{i}.mlp"))
        head = self.w["wte.weight" if self.m["tied"] else "lm_head.weight"]
        logits = self.r(F.linear(self.norm(h, "ln_f"), head))
        return F.cross_entropy(logits.reshape(-1, VOCAB), y.reshape(-1))


def shapes(m):
    d, c = m["width"] // m["heads"], m["width"]
    out = {"wte.weight": (VOCAB, c)}
    if m["position"] == "learned":
        out["wpe.weight"] = (CONTEXT, c)

    def norm(name):
        out[name + ".weight"] = (c,)
        if m["bias"]:
            out[name + ".bias"] = (c,)

    def linear(name, o, i):
        out[name + ".weight"] = (o, i)
        if m["bias"]:
            out[name + ".bias"] = (o,)
    for i in range(m["layers"]):
        norm(f"h.{i}.ln_1")
        linear(f"h.{i}.attn.c_attn", (m["heads"] + 2 * m["kv_heads"]) * d, c)
        if m["qk_norm"]:
            out[f"h.{i}.attn.q_norm.weight"] = out[f"h.{i}.attn.k_norm.weight"] = (d,)
        linear(f"h.{i}.attn.c_proj", c, c)
        norm(f"h.{i}.ln_2")
        linear(f"h.{i}.mlp.c_fc", m["mlp_width"] * (2 if m["mlp"] == "swiglu" else 1), c)
        linear(f"h.{i}.mlp.c_proj", c, m["mlp_width"])
    norm("ln_f")
    if not m["tied"]:
        out["lm_head.weight"] = (VOCAB, c)
    return out


def draw(m, chance):
    """Larger than a real start, and no vector all ones or zeros, so that a mistake anywhere can be seen."""
    out = {}
    for name, shape in shapes(m).items():
        value = chance.randn(*shape) * (0.15 if len(shape) == 2 else 0.1)
        out[name] = (value + (len(shape) == 1 and name.endswith("weight"))).astype("<f4")
    return out


# ---- data ------------------------------------------------------------------------------------------

def text(chance):
    table = chance.dirichlet(np.full(VOCAB, 0.05), (VOCAB, VOCAB))
    out = [0, 1]
    while len(out) < TOKENS:
        out.append(int(chance.choice(VOCAB, p=table[out[-2], out[-1]])))
    return np.array(out, "<u2")


def offset(epoch, windows):
    """Every token comes first in a window in turn: the windows of an epoch begin at a drawn token below the context."""
    word = base.philox((0, epoch & base.MASK, epoch >> 32, 2 << 24 | 8), (SEED & base.MASK, SEED >> 32))
    return word * min(CONTEXT, TOKENS - CONTEXT * windows) >> 32


def batch_of(tokens, step):
    windows = max(1, (len(tokens) - CONTEXT) // CONTEXT)
    rows = []
    for position in range(step * BATCH, (step + 1) * BATCH):
        epoch, place = divmod(position, windows)
        first = offset(epoch, windows) + base.permute(SEED, epoch, windows, place) * CONTEXT
        rows.append(tokens[first:first + CONTEXT + 1])
    rows = torch.tensor(np.array(rows, "int64"))
    return rows[:, :-1], rows[:, 1:]


# ---- training --------------------------------------------------------------------------------------

def lr_at(step, top):
    if step < WARMUP:
        return top * (step + 1) / WARMUP
    return top * (FINAL + (1 - FINAL) * 0.5 * (1 + math.cos(math.pi * (step - WARMUP) / (STEPS - WARMUP))))


ADAMW = dict(lr=3e-3, betas=(0.9, 0.95), weight_decay=0.1)


def train(m, initial, tokens, noise=None, wrong=None):
    w = {k: torch.from_numpy(v).double().requires_grad_() for k, v in initial.items()}
    net = Net(dict(m, **(wrong or {})), w, noise)
    decays = [{"params": [p for p in w.values() if p.dim() == 2]},
              {"params": [p for p in w.values() if p.dim() == 1], "weight_decay": 0.0}]
    opt = torch.optim.AdamW(decays, **ADAMW)
    losses, first = [], None
    for step in range(STEPS):
        for group in opt.param_groups:
            group["lr"] = lr_at(step, ADAMW["lr"])
        opt.zero_grad()
        loss = net.loss(*batch_of(tokens, step))
        loss.backward()
        if first is None:
            first = {k: p.grad.numpy().copy() for k, p in w.items()}
        norm = math.sqrt(sum(float((p.grad ** 2).sum()) for p in w.values()))
        for p in w.values():
            p.grad.mul_(min(1.0, CLIP / norm))
        opt.step()
        if noise is not None:
            for p in w.values():
                p.data.mul_(1 + UNIT * (2 * torch.rand(p.shape, generator=noise, dtype=p.dtype) - 1))
        losses.append(float(loss))
    return np.array(losses), first


def spec_text(case, m):
    return f"""reprise: 1
name: {case}
seed: {SEED}
data:
  train: {{format: tokens, files: [tokens.bin], vocab: {VOCAB}}}
model:
  kind: gpt
  layers: {m['layers']}
  heads: {m['heads']}
  kv_heads: {m['kv_heads']}
  width: {m['width']}
  context: {CONTEXT}
  vocab: {VOCAB}
  mlp: {m['mlp']}
  mlp_width: {m['mlp_width']}
  norm: {m['norm']}
  norm_eps: {m['eps']}
  position: {m['position']}
  bias: {str(m['bias']).lower()}
  tied: {str(m['tied']).lower()}
  qk_norm: {str(m['qk_norm']).lower()}
  init_from: {{path: {case}.safetensors}}
train:
  for: {STEPS} steps
  batch: {BATCH}
  optimizer: {{kind: adamw, lr: {ADAMW['lr']}, betas: [{ADAMW['betas'][0]}, {ADAMW['betas'][1]}], weight_decay: {ADAMW['weight_decay']}, decay: matrices}}
  schedule: {{kind: cosine, warmup: {WARMUP} steps, final_ratio: {FINAL}}}
  clip_norm: {CLIP}
checkpoint: {{every: [1 step], keep: {{last: 110}}}}
log: {{every: 1 step}}
"""


def write_safetensors(path, tensors):
    header, blob = {}, b""
    for name, value in tensors.items():
        header[name] = {"dtype": "F32", "shape": list(value.shape), "data_offsets": [len(blob), len(blob) + value.nbytes]}
        blob += value.tobytes()
    data = json.dumps(header).encode()
    data += b" " * (-len(data) % 8)
    path.write_bytes(struct.pack("<Q", len(data)) + data + blob)


def digits(values):
    return [float(f"{value:.9g}") for value in np.ravel(values)]


def main():
    folder = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).resolve().parents[2] / "tests/ref/torch_gpt")
    folder.mkdir(parents=True, exist_ok=True)
    chance = np.random.RandomState(2)
    tokens = text(chance)
    (folder / "tokens.bin").write_bytes(tokens.tobytes())
    curves = {}
    for case, (m, wrong) in CASES.items():
        initial = draw(m, chance)
        write_safetensors(folder / f"{case}.safetensors", initial)
        (folder / f"{case}.yaml").write_text(spec_text(case, m))
        losses, first = train(m, initial, tokens)
        disturbed = [train(m, initial, tokens, torch.Generator().manual_seed(trial)) for trial in range(TRIALS)]
        other, other_first = train(m, initial, tokens, wrong=wrong)
        bound = 4 * np.maximum.accumulate(np.max([np.abs(d[0] - losses) for d in disturbed], axis=0)) + np.abs(losses) * UNIT
        grad_bound = {k: float(4 * max(np.abs(d[1][k] - v).max() for d in disturbed) + 2 * np.abs(v).max() * UNIT) for k, v in first.items()}
        curves[case] = {
            "torch": torch.__version__, "wrong": {k: str(v) for k, v in wrong.items()},
            "loss": digits(losses), "loss_bound": digits(bound), "wrong_loss": digits(other),
            "clipped": min(1.0, CLIP / math.sqrt(sum(float((g ** 2).sum()) for g in first.values()))),
            "gradient_bound": grad_bound,
        }
        write_safetensors(folder / f"{case}.gradients.safetensors", {k: v.astype("<f4") for k, v in first.items()})
        write_safetensors(folder / f"{case}.wrong.safetensors", {WATCHED: other_first[WATCHED].astype("<f4")})
        worst = np.max(np.abs(other - losses) / bound)
        print(f"{case}: loss {losses[0]:.4f} -> {losses[-1]:.4f}, bound {bound[0]:.2e} -> {bound[-1]:.2e}, control at {worst:.0f} times the bound")
    (folder / "curves.json").write_text(json.dumps(curves))


if __name__ == "__main__":
    if sys.argv[1:2] in (["-h"], ["--help"]):
        print(__doc__.strip())
    else:
        main()
