#!/usr/bin/python3
"""runs - whole runs on a GPU (or on the simulated one) against the CPU: equal final digests. Needs Python alone.

    runs.py [--modules DIR] [--quick] [--seconds N] [NAME...]

$REPRISE is the program; DIR holds the module to use in place of the program's own. --quick leaves out what takes long on
the simulated device. After N seconds nothing new begins. A line a check; exit 1 when one failed, 77 without a GPU.
"""
import argparse
import json
import os
import pathlib
import signal
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
import reprise as rp  # noqa: E402

RESNET20 = """reprise: 1
name: resnet20
seed: 11
data:
  train: {format: synthetic, task: digits, samples: 512}
  transform: [{random_crop: {padding: 4}}, random_flip]
model: {kind: resnet, depth: 20}
train:
  for: 4 steps
  batch: 64
  shards: 4
  optimizer: {kind: sgd, lr: 0.1, momentum: 0.9, weight_decay: 1.0e-4}
  schedule: {kind: cosine, warmup: 2 steps}
checkpoint: {every: 2 steps}
"""
REGRESSION = """reprise: 1
name: regression
seed: 12
data:
  train: {format: npy, x: x.npy, y: y.npy, target: values}
  valid: {fraction: 0.1}
model: {kind: mlp, hidden: [64, 48], activation: silu}
train:
  for: 60 steps
  batch: 64
  loss: mse
  optimizer: {kind: lion, lr: 3.0e-4, weight_decay: 0.1}
  clip_norm: 1.0
eval: {every: 20 steps}
checkpoint: {every: 20 steps}
"""
MUON = """reprise: 1
name: muon
seed: 13
data:
  train: {format: synthetic, task: digits, samples: 100}
  valid: {fraction: 0.2}
model: {kind: mlp, hidden: [40, 24, 30], activation: gelu}
train:
  for: 4 steps
  batch: 16
  optimizer: {kind: muon, lr: 0.02, adamw_lr: 1.0e-3, weight_decay: 0.1}
  ema: {decay: 0.9}
checkpoint: {every: 2 steps}
"""
MIXES = """reprise: 1
name: mixes
seed: 13
data:
  train: {format: synthetic, task: digits, samples: 400}
  valid: {fraction: 0.1}
  transform: [{random_crop: {padding: 2}}, {mixup: {alpha: 0.4}}, {cutmix: {p: 0.8}}]
model: {kind: mlp, hidden: [48]}
train:
  for: 12 steps
  batch: 32
  loss: {cross_entropy: {label_smoothing: 0.1}}
  optimizer: {kind: adamw, lr: 1.0e-3}
eval: {every: 6 steps}
checkpoint: {every: 6 steps}
"""
GPU, CPU = ("--set", "resources.device=cuda"), ("--set", "resources.device=cpu")


class Checks:
    """Runs functions, prints a line for each, counts."""

    def __init__(self, names, seconds):
        self.names, self.end, self.failed, self.done = names, time.monotonic() + seconds, 0, 0

    def check(self, name, function, *args):
        if self.names and not any(part in name for part in self.names):
            return
        if time.monotonic() > self.end:
            print(f"LEFT OUT  {name}: no time", flush=True)
            return
        began = time.monotonic()
        try:
            found, what = function(*args), "ok"
        except Exception as why:  # a failing program is a failed check, not the end of the others
            found, what = f"{type(why).__name__}: {why}", "FAILED"
            self.failed += 1
        self.done += 1
        print(f"{what:8s}  {name} ({time.monotonic() - began:.1f} s) {found or ''}", flush=True)


def same(a, b):
    assert a == b, f"digests differ: {a} {b}"
    return a[:16]


def equal_on_both(folder, spec, *more):
    return same(rp.run(spec, folder / "cpu", *CPU, *more), rp.run(spec, folder / "gpu", *GPU, *more))


def equal_and_speaks(folder, spec):
    """Each of the two runs is sampled on the device that it ran on: token after token over a cache."""
    digest = equal_on_both(folder, spec)
    said = [rp.call_json("sample", folder / where, "--tokens", "12", "--seed", "3")["tokens"] for where in ("cpu", "gpu")]
    assert said[0] == said[1] and len(set(said[0])) > 1, said
    return f"{digest}, {len(said[0])} tokens"


def first_difference(folder):
    """Not a check: what `compare` says of two runs that should be equal."""
    process = rp.start("compare", folder / "cpu", folder / "gpu")
    return process.communicate()[0]


def goes_on(folder, spec, first, second, lines):
    """Begun on one device, killed, ended on the other."""
    plain = rp.run(spec, folder / "plain", *CPU)
    log = folder / "moved" / "digests.jsonl"
    process = rp.start("run", spec, "--out", folder / "moved", *first)
    code = rp.kill_when(process, lambda: log.exists() and log.read_text().count("\n") >= lines, signal.SIGTERM)
    done = log.read_text().count("\n") if log.exists() else 0
    same(plain, rp.run(spec, folder / "moved", *second))
    segments = rp.manifest(folder / "moved")["segments"]
    assert code == 20 and len(segments) == 2, f"the first part ended with {code} after {done} steps: not moved"
    return f"after {done} steps"


def golden(folder, job, want):
    more = rp.data_for(job, folder)
    for setting in rp.first_steps(want) if "first_steps" in want else []:
        more += ["--set", setting]
    final = want["final_of_first_steps" if "first_steps" in want else "final"]
    return same(rp.run(rp.SOURCE / "specs" / f"{job}.yaml", folder / "run", *GPU, *more), final)


def another_seed(folder, spec):
    a, b = rp.run(spec, folder / "a", *GPU), rp.run(spec, folder / "b", *GPU, "--set", "seed=4321")
    assert a != b, "another seed gave the same digest"


def records_the_gpu(folder, spec):
    rp.run(spec, folder / "run", *GPU)
    manifest = rp.manifest(folder / "run")
    device = manifest["environment"]["device"]
    assert device["kind"] == "cuda" and device["id"] and device["processors"] and device["driver"], device
    assert any(library["name"] == "reprise_cuda.so" for library in manifest["environment"]["libraries"])
    assert manifest["segments"][0]["device"], manifest["segments"]
    return manifest["segments"][0]["device"]


def out_of_memory(folder, spec):
    """Predicted: exit 5 with the table, and no run folder."""
    _, err = rp.call("run", spec, "--out", folder / "run", *GPU, "--set", "model.hidden=[4000000, 100000]", expect=5)
    assert "activations" in err and "GPU" in err, err
    assert not (folder / "run").exists()


def jobs(quick):
    yield from rp.MODELS.items()
    yield from rp.TEXT_MODELS.items()
    yield "regression", REGRESSION
    yield "muon", MUON
    yield "mixes", MIXES
    if not quick:
        yield "resnet20", RESNET20


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--modules")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--seconds", type=float, default=1e9)
    parser.add_argument("names", nargs="*")
    args = parser.parse_args()
    if args.modules:
        os.environ["REPRISE_MODULES"] = args.modules
    checks = Checks(args.names, args.seconds)
    with tempfile.TemporaryDirectory() as top:
        top = pathlib.Path(top)
        for file in ("x.npy", "y.npy"):
            (top / file).write_bytes((rp.SOURCE / "specs" / file).read_bytes())
        rp.write_texts(top)
        probe = rp.start("run", rp.write(top, rp.DIGITS_MLP, "probe.yaml"), "--out", top / "probe", *GPU, "--set", "train.for=1 step")
        _, err = probe.communicate()
        if probe.returncode == 3:
            print(f"skipped: {err.strip()}")
            return 77
        specs = {name: rp.write(top, text, f"{name}.yaml") for name, text in jobs(args.quick)}
        long = rp.write(top, rp.DIGITS_MLP.replace("for: 4 epochs", "for: 60 steps" if args.quick else "for: 3000 steps"), "long.yaml")

        def folder():
            return pathlib.Path(tempfile.mkdtemp(dir=top))

        for name, spec in specs.items():
            checks.check(f"{name}: CPU and GPU", equal_and_speaks if name in rp.TEXT_MODELS else equal_on_both, folder(), spec)
        for micro in (16, 4, 2) if not args.quick else (4,):
            checks.check(f"mlp: micro_batch {micro}", equal_on_both, folder(), specs["mlp"], "--set", f"train.micro_batch={micro}")
        checks.check("resnet: micro_batch 8", equal_on_both, folder(), specs["resnet"], "--set", "train.micro_batch=8")
        checks.check("mlp: without graphs", equal_on_both, folder(), specs["mlp"], "--no-graph")
        checks.check("mlp: CPU, then GPU", goes_on, folder(), long, CPU, GPU, 12)
        checks.check("mlp: GPU, then CPU", goes_on, folder(), long, GPU, CPU, 12)
        checks.check("mlp: the manifest names the GPU", records_the_gpu, folder(), specs["mlp"])
        checks.check("mlp: out of memory", out_of_memory, folder(), specs["mlp"])
        checks.check("control: another seed", another_seed, folder(), specs["mlp"])
        if not args.quick:
            for job, want in json.loads((rp.SOURCE / "specs" / "digests.json").read_text())["jobs"].items():
                if rp.data_for(job, folder()) is None:
                    continue
                checks.check(f"{job}: the kept digest", golden, folder(), job, want)
    print(f"{checks.done} checks, {checks.failed} failed")
    return checks.failed != 0


if __name__ == "__main__":
    sys.exit(main())
