"""One training job in PyTorch, for scripts/bench: the peer of a reprise run of the same shapes, batch and optimizer.

    torch_train.py MODEL THREADS SECONDS [BATCH]     prints one JSON object

$BENCH_DEVICE is cpu or cuda; there fp32 means fp32, without TF32.
"""
import json
import os
import resource
import sys
import time

import torch
import torch.nn as nn
import torch.nn.functional as F

model, threads, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
device = os.environ.get("BENCH_DEVICE", "cpu")
torch.set_num_threads(threads)
torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
torch.manual_seed(1)


class Block(nn.Module):
    def __init__(self, inner, outer, stride):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(inner, outer, 3, stride, 1, bias=False), nn.BatchNorm2d(outer)
        self.conv2, self.bn2 = nn.Conv2d(outer, outer, 3, 1, 1, bias=False), nn.BatchNorm2d(outer)
        self.side = nn.Identity()
        if stride != 1 or inner != outer:
            self.side = nn.Sequential(nn.Conv2d(inner, outer, 1, stride, bias=False), nn.BatchNorm2d(outer))

    def forward(self, x):
        return F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))) + self.side(x))


def resnet18():
    layers, inner = [nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64), nn.ReLU()], 64
    for outer, stride in ((64, 1), (128, 2), (256, 2), (512, 2)):
        layers += [Block(inner, outer, stride), Block(outer, outer, 1)]
        inner = outer
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 10))


def mlp():
    return nn.Sequential(nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 256), nn.ReLU(), nn.Linear(256, 10))


def cnn():
    return nn.Sequential(nn.Conv2d(1, 32, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(32, 64, 5, padding=2), nn.ReLU(),
                         nn.MaxPool2d(2), nn.Flatten(), nn.Linear(3136, 128), nn.ReLU(), nn.Linear(128, 10))


class GptBlock(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads, self.ln1, self.ln2 = heads, nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x, later):
        n, t, c = x.shape
        q, k, v = self.qkv(self.ln1(x)).view(n, t, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        if device == "cuda":  # what PyTorch has for it, which keeps no weights
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        else:
            y = (q @ k.transpose(-2, -1) * (c // self.heads) ** -0.5).masked_fill(later, float("-inf")).softmax(-1) @ v
        x = x + self.out(y.transpose(1, 2).reshape(n, t, c))
        return x + self.down(F.gelu(self.up(self.ln2(x)), approximate="tanh"))


class Gpt(nn.Module):
    """GPT-2's shape with a tied head: logits of all tokens in one row each."""

    def __init__(self, layers, heads, width, context, vocab):
        super().__init__()
        self.tokens, self.places = nn.Embedding(vocab, width), nn.Embedding(context, width)
        self.blocks, self.norm = nn.ModuleList(GptBlock(width, heads) for _ in range(layers)), nn.LayerNorm(width)
        nn.init.normal_(self.tokens.weight, 0, 0.02)
        self.register_buffer("later", torch.triu(torch.ones(context, context, dtype=torch.bool), 1))

    def forward(self, x):
        h = self.tokens(x) + self.places.weight
        for block in self.blocks:
            h = block(h, self.later)
        return F.linear(self.norm(h), self.tokens.weight).flatten(0, 1)


def gpt(layers, heads, width, context, vocab):
    return lambda: Gpt(layers, heads, width, context, vocab)


# layers, heads, width, context, vocabulary; batch
LANGUAGE = {"char-gpt": ((6, 6, 384, 256, 256), 12), "gpt2-B4-T64": ((12, 12, 768, 64, 50257), 4), "gpt2-B1-T256": ((12, 12, 768, 256, 50257), 1),
            "gpt2-B4-T256": ((12, 12, 768, 256, 50257), 4), "gpt2": ((12, 12, 768, 1024, 50257), 8)}

# A learning rate of almost nothing: memorised data would drive gradients into subnormals and distort the times.
SHAPES = {"mlp": (mlp, 128, (784,), torch.optim.AdamW, {}), "cnn": (cnn, 64, (1, 28, 28), torch.optim.SGD, {"momentum": 0.9}),
          "resnet18": (resnet18, 32, (3, 32, 32), torch.optim.SGD, {"momentum": 0.9})}
for name, (sizes, windows) in LANGUAGE.items():
    SHAPES[name] = (gpt(*sizes), windows, sizes[3:], torch.optim.AdamW, {})
build, batch, shape, optimizer, options = SHAPES[model]
batch = int(sys.argv[4]) if len(sys.argv) > 4 else batch
net = build().to(device)
update = optimizer(net.parameters(), lr=1e-6, **options)
if model in LANGUAGE:
    context, vocab = shape
    inputs, labels = torch.randint(0, vocab, (8, batch, context)), torch.randint(0, vocab, (8, batch * context))
else:
    inputs, labels = torch.randn(8, batch, *shape), torch.randint(0, 10, (8, batch))
inputs, labels = inputs.to(device), labels.to(device)


def step(i):
    loss = F.cross_entropy(net(inputs[i % 8]), labels[i % 8])
    loss.backward()
    update.step()
    update.zero_grad(set_to_none=True)
    return loss.item()


step(0)
first = time.time() - float(os.environ.get("BENCH_START", time.time()))
step(1)
times, begin = [], time.perf_counter()
while len(times) < 5 or time.perf_counter() - begin < seconds:
    start = time.perf_counter()
    step(len(times))
    times.append(time.perf_counter() - start)
times.sort()
print(json.dumps({"samples_per_second": batch / times[len(times) // 2], "first_step": first, "version": torch.__version__,
                  "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 if device == "cpu" else
                  torch.cuda.max_memory_allocated() / (1 << 20)}))
