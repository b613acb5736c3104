"""What the whole-program tests share: run the program under test, read what it leaves."""
import json
import os
import pathlib
import random
import signal
import struct
import subprocess
import time

PROGRAM = os.environ.get("REPRISE", "reprise")
SOURCE = pathlib.Path(os.environ.get("REPRISE_SOURCE", pathlib.Path(__file__).resolve().parents[1]))
SHARED = SOURCE / "data" if (SOURCE / "data").is_dir() else SOURCE.parent / "shared" / "data"


def start(*args, **more):
    """A process of the program, output captured."""
    return start_words([PROGRAM, *args], **more)


def start_words(words, cwd=None, env=None, **more):
    """The same of any program."""
    full = dict(os.environ)
    full.update(env or {})
    return subprocess.Popen([*map(str, words)], cwd=cwd, env=full, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True, **more)


def call(*args, expect=0, **more):
    """Runs to the end and checks the exit code; returns (stdout, stderr)."""
    process = start(*args, **more)
    out, err = process.communicate(timeout=7000 if os.environ.get("REPRISE_LONG") else 600)
    assert process.returncode == expect, f"exit {process.returncode}, expected {expect}\n{out}\n{err}"
    assert "no graph of a step" not in err, err  # a GPU's runs go on without, and no slower way shall pass unseen
    return out, err


def call_json(*args, **more):
    """The object on the last line of standard output."""
    out, _ = call(*args, "--json", **more)
    return json.loads(out.strip().splitlines()[-1])


def run(spec, out, *args, **more):
    """A run to its end; returns its final digest."""
    return call_json("run", spec, "--out", out, *args, **more)["digests"]["final"]


def manifest(run_folder):
    return json.loads((pathlib.Path(run_folder) / "manifest.json").read_text())


def digest_lines(run_folder):
    with open(pathlib.Path(run_folder) / "digests.jsonl") as file:
        return [json.loads(line) for line in file]


def metric_lines(run_folder):
    with open(pathlib.Path(run_folder) / "metrics.jsonl") as file:
        return [json.loads(line) for line in file]


def safetensors(path):
    """Name to its numbers, fp32."""
    blob = pathlib.Path(path).read_bytes()
    length = struct.unpack("<Q", blob[:8])[0]
    tensors = {}
    for name, entry in json.loads(blob[8:8 + length]).items():
        if name == "__metadata__":
            continue
        begin, end = entry["data_offsets"]
        tensors[name] = struct.unpack(f"<{(end - begin) // 4}f", blob[8 + length + begin:8 + length + end])
    return tensors


SLOW = os.environ.get("SLOW_READ_MODULE")  # tests/tools/slow_read.c


def slowly(ms=20):
    """Variables with which a run takes long on any machine, and ends in the same bits: the file of its digests is on a slow disk."""
    return {"LD_PRELOAD": SLOW, "SLOW_WRITE": "/digests.jsonl", "SLOW_WRITE_MS": str(ms)} if SLOW else {}


# For a run that is to be there until it is stopped.
ENDLESS = ["--set", "train.for=100M steps", "--set", "eval.every=50M steps"]


def is_alive(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


def kill_when(process, condition, number=signal.SIGKILL, timeout=300):
    """Sends a signal as soon as condition() holds; returns the exit code."""
    end = time.monotonic() + timeout
    while process.poll() is None and not condition() and time.monotonic() < end:
        time.sleep(0.002)
    if process.poll() is None:
        process.send_signal(number)
    process.communicate(timeout=300)
    return process.returncode


DIGITS_MLP = """reprise: 1
name: small-mlp
seed: 7
data:
  train: {format: synthetic, task: digits, samples: 640}
  valid: {fraction: 0.2}
  transform: [{normalize: {mean: 0.1307, std: 0.3081}}, {random_crop: {padding: 2}}]
model: {kind: mlp, hidden: [33, 20], activation: gelu}
train:
  for: 4 epochs
  batch: 64
  optimizer: {kind: adamw, lr: 1.0e-3, weight_decay: 0.05}
  schedule: {kind: cosine, warmup: 4 steps, final_ratio: 0.1}
  clip_norm: 1.0
eval: {every: 1 epoch}
checkpoint: {every: 5 steps, keep: {last: 3}}
log: {every: 3 steps}
"""

LENET = """reprise: 1
name: small-lenet
seed: 8
data:
  train: {format: synthetic, task: digits, samples: 320}
  valid: {fraction: 0.2}
model:
  kind: sequential
  layers:
    - conv2d: {out: 6, kernel: 5, padding: 2}
    - relu
    - maxpool2d: {kernel: 2}
    - conv2d: {out: 10, kernel: 3, stride: 2, groups: 2}
    - silu
    - flatten
    - dropout: {p: 0.25}
    - linear: {out: 24}
    - layer_norm
    - tanh
    - linear: {out: 10}
train:
  for: 12 steps
  batch: 48
  optimizer: {kind: sgd, lr: 0.05, momentum: 0.9, nesterov: true, weight_decay: 1.0e-4}
  schedule: {kind: linear, warmup: 2 steps}
checkpoint: {every: 4 steps}
log: {every: 2 steps}
"""

RESNET = """reprise: 1
name: small-resnet
seed: 9
data:
  train: {format: synthetic, task: digits, samples: 200}
  valid: {fraction: 0.2}
  transform: [{random_flip: {p: 0.5}}]
model:
  kind: sequential
  layers:
    - conv2d: {out: 8, kernel: 3, padding: 1, stride: 2, bias: false}
    - batch_norm
    - relu
    - residual:
        body:
          - conv2d: {out: 16, kernel: 3, padding: 1, stride: 2, bias: false}
          - batch_norm
          - relu
          - conv2d: {out: 16, kernel: 3, padding: 1, bias: false}
          - batch_norm
        shortcut:
          - conv2d: {out: 16, kernel: 1, stride: 2, bias: false}
          - batch_norm
    - relu
    - global_avgpool
    - linear: {out: 10}
train:
  for: 8 steps
  batch: 32
  shards: 4
  optimizer: {kind: lion, lr: 1.0e-3, weight_decay: 0.1}
checkpoint: {every: 3 steps}
log: {every: 2 steps}
"""

TINY_GPT2 = """reprise: 1
name: tiny-gpt2
seed: 21
data:
  train: {format: text, files: [text.txt]}
  valid: {fraction: 0.1}
model: {kind: gpt, layers: 2, heads: 4, width: 36, context: 21, dropout: {attention: 0.1, residual: 0.2, embedding: 0.05}}
train:
  for: 10 steps
  batch: 16
  shards: 4
  loss: {cross_entropy: {label_smoothing: 0.05}}
  optimizer: {kind: adamw, lr: 3.0e-3, betas: [0.9, 0.95], weight_decay: 0.1, decay: matrices}
  schedule: {kind: cosine, warmup: 3 steps, final_ratio: 0.1}
  clip_norm: 1.0
eval: {every: 5 steps}
checkpoint: {every: 3 steps, keep: {last: 4, best: valid/loss}}
log: {every: 2 steps}
"""

TINY_LLAMA = """reprise: 1
name: tiny-llama
seed: 22
data:
  train: {format: text, files: [text.txt]}
  valid: {format: text, files: [other.txt]}
model: {kind: gpt, layers: 2, heads: 6, kv_heads: 2, width: 48, context: 33, vocab: 260, mlp: swiglu, mlp_width: 70,
        norm: rmsnorm, position: rope, rope_base: 5000, bias: false, tied: false, qk_norm: true}
train:
  for: 4k tokens
  batch: 16
  shards: 4
  optimizer: {kind: sgd, lr: 0.3, momentum: 0.9}
eval: {every: 2k tokens}
checkpoint: {every: 4 steps}
log: {every: 2 steps}
"""

# These two learn from the files of write_texts.
TEXT_MODELS = {"gpt2": TINY_GPT2, "llama": TINY_LLAMA}
MODELS = {"mlp": DIGITS_MLP, "lenet": LENET, "resnet": RESNET}


def write(folder, text, name="job.yaml"):
    path = pathlib.Path(folder) / name
    path.write_text(text)
    return path


def write_texts(folder):
    """Sentences of a few words, the same on every machine."""
    chance = random.Random(7)
    words = ["".join(chance.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(chance.randint(2, 7))) for _ in range(40)]
    for name, n in [("text.txt", 900), ("other.txt", 60)]:
        (folder / name).write_text(" ".join(chance.choice(words) + chance.choice(["", "", ",", ".\n"]) for _ in range(n)))


def data_for(job, folder):
    """What gives a kept job its data: arguments for `run`; None when the data is not here."""
    text = "tinyshakespeare.txt"
    files = {"mnist-lenet": "mnist-10k-images-idx3-ubyte.gz", "shakespeare-char-cpu": text, "shakespeare-char": text}
    if job == "gpt2-124m":  # any tokens do
        for name, n in [("train.bin", 2000), ("val.bin", 40)]:
            (pathlib.Path(folder) / name).write_bytes(b"".join((i * i * 31 % 50257).to_bytes(2, "little") for i in range(n)))
        return ["--data", folder]
    if job not in files:
        return []
    return ["--data", SHARED] if (SHARED / files[job]).exists() else None


def first_steps(want):
    """Settings for the first steps of a kept job."""
    return [f"train.for={want['first_steps']} steps", *want.get("set", [])]
