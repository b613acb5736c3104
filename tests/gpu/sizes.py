#!/usr/bin/python3
"""sizes - language models of full width on the simulated device, whose launches are looked at and not run: what a GPU
would refuse of them (grids, shared memory, parameters, with $RP_SIM_LIMITS registers too), and whether plan counted the
scratch that they ask for. Blocks are all alike, so one or two stand for all. The numbers mean nothing.

    sizes.py --modules DIR [NAME...]
"""
import argparse
import array
import os
import pathlib
import random
import signal
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
import reprise as rp  # noqa: E402
from runs import GPU, Checks  # noqa: E402

JOB = """reprise: 1
name: sizes
seed: 1
data:
  train: {{format: tokens, files: [tokens.bin], vocab: {vocab}}}
  valid: {{fraction: 0.05}}
model: {{kind: gpt, preset: {preset}, layers: 1}}
train:
  for: 20 steps
  batch: {batch}
  micro_batch: {micro}
  optimizer: {{kind: {optimizer}}}
  on_nonfinite: skip_step
  clip_norm: 1.0
eval: {{every: 2 steps}}
"""
# preset, vocabulary, batch, micro_batch, optimizer
ADAMW, MUON = "adamw, lr: 1.0e-3", "muon, lr: 0.02, adamw_lr: 1.0e-3"
JOBS = [("gpt2", 50257, 64, 32, ADAMW), ("gpt2", 50257, 64, 4, MUON), ("gpt2-xl", 50257, 16, 8, ADAMW), ("llama-1b", 32000, 8, 4, ADAMW)]
DRY = {"RP_SIM_RUN": "300", "RP_SIM_MEMORY": str(100 << 30)}


def looked_at(folder, spec):
    """Three steps: one run, one captured, one replayed; and evaluations."""
    log = folder / "run" / "digests.jsonl"
    process = rp.start("run", spec, "--out", folder / "run", *GPU, env=DRY)
    code = rp.kill_when(process, lambda: log.exists() and log.read_text().count("\n") >= 4, signal.SIGKILL, timeout=900)
    assert code == -signal.SIGKILL, (code, process.communicate())


def control(folder, spec):
    """The scratch of the device is smaller than what plan counted: predicted, before anything is taken."""
    rp.call("run", spec, "--out", folder / "run", *GPU, env=dict(DRY, RP_SIM_MEMORY=str(1 << 28)), expect=5)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--modules", required=True)
    parser.add_argument("names", nargs="*")
    args = parser.parse_args()
    os.environ["REPRISE_MODULES"] = args.modules
    checks = Checks(args.names, 1e9)
    with tempfile.TemporaryDirectory() as top:
        top = pathlib.Path(top)
        draw = random.Random(3)
        (top / "tokens.bin").write_bytes(array.array("H", (draw.randrange(32000) for _ in range(400000))).tobytes())
        spec = None
        for number, (preset, vocab, batch, micro, optimizer) in enumerate(JOBS):
            text = JOB.format(preset=preset, vocab=vocab, batch=batch, micro=micro, optimizer=optimizer)
            folder = pathlib.Path(tempfile.mkdtemp(dir=top))
            spec = rp.write(top, text, f"job{number}.yaml")
            checks.check(f"{preset}, {micro} windows, {optimizer}", looked_at, folder, spec)
        checks.check("control: too little memory", control, pathlib.Path(tempfile.mkdtemp(dir=top)), spec)
    print(f"{checks.done} checks, {checks.failed} failed")
    return checks.failed != 0


if __name__ == "__main__":
    sys.exit(main())
