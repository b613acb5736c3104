"""What the whole-program tests share: run the program under test, read what it leaves."""
import json
import os
import pathlib
import signal
import struct
import subprocess

PROGRAM = os.environ.get("REPRISE", "reprise")
SOURCE = pathlib.Path(os.environ.get("REPRISE_SOURCE", pathlib.Path(__file__).resolve().parents[1]))
SHARED = SOURCE / "data" if (SOURCE / "data").is_dir() else SOURCE.parent / "shared" / "data"


def start(*args, cwd=None, env=None, **more):
    """A process of the program, output captured."""
    full = dict(os.environ)
    full.update(env or {})
    return subprocess.Popen([PROGRAM, *map(str, args)], cwd=cwd, env=full, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True, **more)


def call(*args, expect=0, **more):
    """Runs to the end and checks the exit code; returns (stdout, stderr)."""
    process = start(*args, **more)
    out, err = process.communicate(timeout=600)
    assert process.returncode == expect, f"exit {process.returncode}, expected {expect}\n{out}\n{err}"
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


def kill_when(process, condition, number=signal.SIGKILL, timeout=60):
    """Sends a signal as soon as condition() holds; returns the exit code."""
    import time
    end = time.monotonic() + timeout
    while process.poll() is None and not condition() and time.monotonic() < end:
        time.sleep(0.002)
    if process.poll() is None:
        process.send_signal(number)
    process.communicate(timeout=60)
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

MODELS = {"mlp": DIGITS_MLP, "lenet": LENET, "resnet": RESNET}


def write(folder, text, name="job.yaml"):
    path = pathlib.Path(folder) / name
    path.write_text(text)
    return path
