#!/usr/bin/python3
"""Reference curves for tests/train/test_torch.py, computed by PyTorch in fp64 from the formulas of its own layers.

    scripts/reference/torch_curves.py [FOLDER]        default: tests/ref/torch

For each case: a spec, its data (npz), its initial weights (safetensors), and curves.json with the loss of 50 steps and
the parameters after one step, in fp64, and a bound for each that comes from precision alone: the same training in fp64
with every tensor that fp32 would round disturbed by a random relative error of that size (each layer's output and each
gradient by 2^-24 times the square root of the longest sum behind it, each parameter by 2^-24 after each update). The
bound is four times the largest deviation over eight such trainings. Controls (one ingredient wrong) are stored too; they
must lie outside the bound. Shuffling is rp-num-1's, written once more here from kernels/README.md chapter 4.
"""
import json
import math
import pathlib
import struct
import sys

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

SAMPLES, STEPS, TRIALS = 72, 50, 8
SIDE, CHANNELS, CLASSES = 8, 2, 5
MASK = 0xFFFFFFFF


# ---- order: Philox4x32-10 and the Feistel permutation ----------------------------------------------

def philox(counter, key):
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        p0, p1 = 0xD2511F53 * c0, 0xCD9E8D57 * c2
        c0, c1, c2, c3 = (p1 >> 32) ^ c1 ^ k0, p1 & MASK, (p0 >> 32) ^ c3 ^ k1, p0 & MASK
        k0, k1 = (k0 + 0x9E3779B9) & MASK, (k1 + 0xBB67AE85) & MASK
    return c0


def permute(seed, epoch, n, i, purpose=2, rounds=8):
    half = 1
    while half < 32 and (n - 1) >> (2 * half):
        half += 1
    mask = (1 << half) - 1
    while True:
        left, right = i >> half, i & mask
        for r in range(rounds):
            word = philox((right, epoch & MASK, epoch >> 32, purpose << 24 | r), (seed & MASK, seed >> 32))
            left, right = right, left ^ (word & mask)
        i = left << half | right
        if i < n:
            return i


def batch_of(seed, step, batch):
    positions = [step * batch + slot for slot in range(batch)]
    return [permute(seed, p // SAMPLES, SAMPLES, p % SAMPLES) for p in positions]


# ---- models: (name, PyTorch layer) so that parameters have the names of the spec's layers -------------

class Residual(nn.Module):
    def __init__(self, body, shortcut):
        super().__init__()
        self.body, self.shortcut = body, shortcut

    def forward(self, x):
        return self.body(x) + self.shortcut(x)


class ShardedNorm(nn.BatchNorm2d):
    """Batch norm over each of `shards` equal parts of the batch; running statistics take the mean of the parts."""
    shards = 1

    def forward(self, x):
        out, means, variances = [], [], []
        for part in x.chunk(self.shards):
            n = part.numel() // part.shape[1]
            mean, var = part.mean((0, 2, 3)), part.var((0, 2, 3), unbiased=False)
            out.append((part - mean[:, None, None]) / torch.sqrt(var + self.eps)[:, None, None] * self.weight[:, None, None]
                       + self.bias[:, None, None])
            means.append(mean.detach())
            variances.append(var.detach() * n / (n - 1))
        with torch.no_grad():
            self.running_mean.lerp_(torch.stack(means).mean(0), self.momentum)
            self.running_var.lerp_(torch.stack(variances).mean(0), self.momentum)
        return torch.cat(out)


def mlp():
    return nn.Sequential(nn.Flatten(), nn.Linear(SIDE * SIDE * CHANNELS, 24), nn.ReLU(), nn.Linear(24, 16), nn.ReLU(),
                         nn.Linear(16, CLASSES))


def lenet():
    return nn.Sequential(nn.Conv2d(CHANNELS, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 8, 3, padding=1), nn.GELU(),
                         nn.AvgPool2d(2), nn.Flatten(), nn.Linear(32, 20), nn.Tanh(), nn.LayerNorm(20), nn.Linear(20, CLASSES))


def resnet():
    def conv(i, o, k, s):
        return nn.Conv2d(i, o, k, s, k // 2, bias=False)
    body = nn.Sequential(conv(6, 8, 3, 2), ShardedNorm(8), nn.ReLU(), conv(8, 8, 3, 1), ShardedNorm(8))
    shortcut = nn.Sequential(conv(6, 8, 1, 2), ShardedNorm(8))

    class Pool(nn.Module):
        def forward(self, x):
            return x.mean((2, 3))
    return nn.Sequential(conv(CHANNELS, 6, 3, 1), ShardedNorm(6), nn.ReLU(), Residual(body, shortcut), nn.ReLU(), Pool(),
                         nn.Linear(8, CLASSES))


LAYERS = {
    "mlp": "  kind: mlp\n  hidden: [24, 16]\n  activation: relu\n",
    "lenet": """  kind: sequential
  layers: [conv2d: {out: 6, kernel: 5, padding: 2}, relu, maxpool2d: {kernel: 2}, conv2d: {out: 8, kernel: 3, padding: 1}, gelu,
           avgpool2d: {kernel: 2}, flatten, linear: {out: 20}, tanh, layer_norm, linear: {out: 5}]
""",
    "resnet": """  kind: sequential
  layers:
    - conv2d: {out: 6, kernel: 3, padding: 1, bias: false}
    - batch_norm
    - relu
    - residual:
        body: [conv2d: {out: 8, kernel: 3, padding: 1, stride: 2, bias: false}, batch_norm, relu,
               conv2d: {out: 8, kernel: 3, padding: 1, bias: false}, batch_norm]
        shortcut: [conv2d: {out: 8, kernel: 1, stride: 2, bias: false}, batch_norm]
    - relu
    - global_avgpool
    - linear: {out: 5}
""",
}

SGD = "{kind: sgd, lr: 0.05, momentum: 0.9, nesterov: %s, weight_decay: 0.01}"
CASES = {
    # name: (model, batch, shards, loss, optimizer, clip, wrong settings to control with)
    "mlp-adamw": (mlp, 16, 8, 0.0, dict(kind="adamw", lr=3e-3, weight_decay=0.1), 0.0, dict(weight_decay=0.0)),
    "mlp-adam": (mlp, 24, 4, 0.0, dict(kind="adam", lr=3e-3, weight_decay=0.01), 0.5, dict(weight_decay=0.0)),
    "mlp-lion": (mlp, 18, 2, 0.0, dict(kind="lion", lr=3e-4, weight_decay=0.1), 0.0, dict(weight_decay=0.0)),
    "lenet-sgd": (lenet, 16, 8, 0.1, dict(kind="sgd", lr=0.05, momentum=0.9, nesterov=True, weight_decay=0.01), 0.0, dict(nesterov=False)),
    "resnet-1": (resnet, 24, 1, 0.0, dict(kind="sgd", lr=0.02, momentum=0.9, weight_decay=0.01), 0.0, dict(shards=3)),
    "resnet-4": (resnet, 24, 4, 0.0, dict(kind="sgd", lr=0.02, momentum=0.9, weight_decay=0.01), 1.0, dict(shards=1)),
    "mlp-muon": (mlp, 16, 8, 0.0, dict(kind="muon", lr=0.01, adamw_lr=2e-3, weight_decay=0.1), 0.0, dict(nesterov=False)),
    "lenet-muon": (lenet, 16, 4, 0.0, dict(kind="muon", lr=2e-3, adamw_lr=2e-3, weight_decay=0.1, scale="rms"), 1.0, dict(scale="spectral")),
}
WARMUP, FINAL = 5, 0.1


def lr_at(step, base):
    if step < WARMUP:
        return base * (step + 1) / WARMUP
    return base * (FINAL + (1 - FINAL) * 0.5 * (1 + math.cos(math.pi * (step - WARMUP) / (STEPS - WARMUP))))


class Lion(torch.optim.Optimizer):
    """Chen et al. 2023, algorithm 2."""
    def __init__(self, params, lr, weight_decay):
        super().__init__(params, dict(lr=lr, weight_decay=weight_decay))

    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                m = self.state[p].setdefault("m", torch.zeros_like(p))
                p.data.mul_(1 - group["lr"] * group["weight_decay"]).add_(torch.sign(0.9 * m + 0.1 * p.grad), alpha=-group["lr"])
                m.mul_(0.99).add_(p.grad, alpha=0.01)


class Muon(torch.optim.Optimizer):
    """Jordan et al. 2024 for every matrix but the last, which with the vectors is left to AdamW; scale `rms` is that of arXiv 2502.16982."""
    def __init__(self, params, lr, adamw_lr, weight_decay, momentum=0.95, nesterov=True, scale="spectral", noise=None, size=0.0):
        params = list(params)
        matrices = [p for p in params if p.ndim >= 2][:-1]
        rest = [p for p in params if not any(p is m for m in matrices)]
        super().__init__(matrices, dict(lr=lr, base=lr, weight_decay=weight_decay, momentum=momentum, nesterov=nesterov))
        self.rest = torch.optim.AdamW(rest, lr=adamw_lr, betas=(0.9, 0.95), eps=1e-10, weight_decay=weight_decay)
        self.rest.param_groups[0]["base"] = adamw_lr
        self.param_groups += self.rest.param_groups
        self.scale, self.noise, self.size = scale, noise, size

    def rounded(self, x):
        return x if self.noise is None else x * (1 + self.size * (2 * torch.rand(x.shape, generator=self.noise, dtype=x.dtype) - 1))

    def orthogonal(self, u):
        x = self.rounded(u / (u.norm() + 1e-7))
        if x.shape[0] > x.shape[1]:
            x = x.T
        for _ in range(5):
            a = self.rounded(x @ x.T)
            b = self.rounded(-4.7750 * a + 2.0315 * self.rounded(a @ a))
            x = self.rounded(3.4445 * x + self.rounded(b @ x))
        return x if x.shape == u.shape else x.T

    def step(self):
        group = self.param_groups[0]
        for p in group["params"]:
            buf = self.state[p].setdefault("momentum", torch.zeros_like(p))
            buf.lerp_(p.grad, 1 - group["momentum"])
            u = p.grad.lerp(buf, group["momentum"]) if group["nesterov"] else buf
            rows, columns = p.shape[0], p[0].numel()
            scale = max(1, rows / columns) ** 0.5 if self.scale == "spectral" else 0.2 * max(rows, columns) ** 0.5
            p.data.mul_(1 - group["lr"] * group["weight_decay"])
            p.data.add_(self.orthogonal(u.reshape(rows, columns)).reshape(p.shape), alpha=-group["lr"] * scale)
        self.rest.step()


def optimizer(params, kind, lr, noise, size, **more):
    if kind == "muon":
        return Muon(params, lr, noise=noise, size=size, **more)
    return {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam, "lion": Lion, "sgd": torch.optim.SGD}[kind](params, lr=lr, **more)


class Rounding(torch.autograd.Function):
    """A relative error of the given size, in the value and in the gradient."""
    @staticmethod
    def forward(ctx, x, size, noise):
        ctx.size, ctx.noise = size, noise
        return x * (1 + size * (2 * torch.rand(x.shape, generator=noise, dtype=x.dtype) - 1))

    @staticmethod
    def backward(ctx, g):
        return g * (1 + ctx.size * (2 * torch.rand(g.shape, generator=ctx.noise, dtype=g.dtype) - 1)), None, None


def train(case, initial, x, y, noise=None, wrong=None):
    build, batch, shards, smoothing, settings, clip, _ = CASES[case]
    settings = dict(settings)
    for key, value in (wrong or {}).items():
        if key == "shards":
            shards = value
        else:
            settings[key] = value
    net = build().double()
    for module in net.modules():
        if isinstance(module, ShardedNorm):
            module.shards = shards
    net.load_state_dict({k: torch.from_numpy(v).double() for k, v in initial.items()}, strict=False)
    unit = 2.0 ** -24
    if noise is not None:
        longest = SIDE * SIDE * batch  # the longest sum behind any number here: a weight gradient of a convolution
        for module in net.modules():
            if not list(module.children()):
                module.register_forward_hook(lambda m, i, o: Rounding.apply(o, unit * math.sqrt(longest), noise))
    opt = optimizer(net.parameters(), noise=noise, size=unit * math.sqrt(SIDE * SIDE * batch), **settings)
    losses, first = [], None
    for step in range(STEPS):
        rows = batch_of(SEED, step, batch)
        for group in opt.param_groups:
            group["lr"] = lr_at(step, group.get("base", settings["lr"]))
        opt.zero_grad()
        loss = F.cross_entropy(net(x[rows]), y[rows], label_smoothing=smoothing)
        loss.backward()
        if clip:
            norm = math.sqrt(sum(float((p.grad ** 2).sum()) for p in net.parameters()))
            for p in net.parameters():
                p.grad.mul_(min(1.0, clip / norm))
        opt.step()
        if noise is not None:
            for p in net.parameters():
                p.data.mul_(1 + unit * (2 * torch.rand(p.shape, generator=noise, dtype=p.dtype) - 1))
        losses.append(float(loss))
        if first is None:
            first = {k: v.detach().numpy().copy() for k, v in net.state_dict().items() if not k.endswith("num_batches_tracked")}
    return np.array(losses), first


def write_safetensors(path, tensors):
    header, blob = {}, b""
    for name, value in tensors.items():
        data = np.ascontiguousarray(value, dtype="<f4").tobytes()
        header["layers." + name] = {"dtype": "F32", "shape": list(value.shape), "data_offsets": [len(blob), len(blob) + len(data)]}
        blob += data
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + blob)


SEED = 4242


def spec_text(case):
    build, batch, shards, smoothing, settings, clip, _ = CASES[case]
    options = ", ".join(f"{k}: {str(v).lower() if isinstance(v, bool) else v}" for k, v in settings.items())
    loss = f"{{cross_entropy: {{label_smoothing: {smoothing}}}}}" if smoothing else "cross_entropy"
    return f"""reprise: 1
name: {case}
seed: {SEED}
data:
  train: {{format: npz, file: data.npz, x: x, y: y, target: classes}}
model:
{LAYERS[build.__name__]}  init_from: {{path: {case}.safetensors}}
train:
  for: {STEPS} steps
  batch: {batch}
  shards: {shards}
  loss: {loss}
  optimizer: {{{options}}}
  schedule: {{kind: cosine, warmup: {WARMUP} steps, final_ratio: {FINAL}}}
{f'  clip_norm: {clip}' if clip else ''}
checkpoint: {{every: [1 step], keep: {{last: 60}}}}
log: {{every: 1 step}}
"""


def main():
    folder = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).resolve().parents[2] / "tests/ref/torch")
    folder.mkdir(parents=True, exist_ok=True)
    chance = np.random.RandomState(1)
    centres = chance.randn(CLASSES, SIDE, SIDE, CHANNELS)
    labels = chance.randint(0, CLASSES, SAMPLES)
    images = (0.5 * centres[labels] + chance.randn(SAMPLES, SIDE, SIDE, CHANNELS)).astype("<f4")
    np.savez(folder / "data.npz", x=images, y=labels.astype("<i4"))
    x = torch.from_numpy(images).permute(0, 3, 1, 2).double().contiguous()
    y = torch.from_numpy(labels).long()
    curves = {}
    for number, case in enumerate(CASES):
        torch.manual_seed(number)
        net = CASES[case][0]()
        initial = {k: v.detach().numpy().astype("<f4") for k, v in net.state_dict().items() if not k.endswith("num_batches_tracked")}
        write_safetensors(folder / f"{case}.safetensors", initial)
        (folder / f"{case}.yaml").write_text(spec_text(case))
        losses, first = train(case, initial, x, y)
        disturbed = [train(case, initial, x, y, torch.Generator().manual_seed(trial)) for trial in range(TRIALS)]
        wrong, wrong_first = train(case, initial, x, y, wrong=CASES[case][6])
        rounded = np.abs(losses) * 2.0 ** -24  # the loss itself is stored in fp32
        bound = 4 * np.maximum.accumulate(np.max([np.abs(d[0] - losses) for d in disturbed], axis=0)) + rounded
        curves[case] = {
            "torch": torch.__version__,
            "loss": losses.tolist(), "loss_bound": bound.tolist(), "wrong_loss": wrong.tolist(),
            "wrong": {k: str(v) for k, v in CASES[case][6].items()},
            "first": {"layers." + k: [float(f"{value:.10g}") for value in v.ravel()] for k, v in first.items()},
            "first_bound": {"layers." + k: float(4 * max(np.abs(d[1][k] - first[k]).max() for d in disturbed) + np.abs(first[k]).max() * 2.0 ** -24) for k in first},
        }
        worst = np.max(np.abs(wrong - losses) / bound)
        print(f"{case}: loss {losses[0]:.4f} -> {losses[-1]:.4f}, bound {bound[0]:.2e} -> {bound[-1]:.2e}, control at {worst:.0f} times the bound")
    (folder / "curves.json").write_text(json.dumps(curves))


if __name__ == "__main__":
    if sys.argv[1:2] in (["-h"], ["--help"]):
        print(__doc__.strip())
    else:
        main()
