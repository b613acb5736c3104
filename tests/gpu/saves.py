#!/usr/bin/python3
"""saves - checkpoints of a GPU, which are copied beside the steps, against those of the CPU. Needs Python alone.

    saves.py [--modules DIR] [--seconds N]

With --modules the device is the simulated one, whose streams are as late as they may be, and whose writer waits for
each copy while steps go on: an update that did not wait for the copy would be in it, and the control shows that. Ranks
share the GPU and are connected by the stand-in for NCCL that lies there too. After N seconds nothing new begins; exit 1
when a check failed, 77 without a GPU.
"""
import argparse
import json
import os
import pathlib
import signal
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
import reprise as rp  # noqa: E402
from runs import CPU, GPU, Checks  # noqa: E402

OFTEN = ("--set", "checkpoint.every=2 steps", "--set", "checkpoint.keep.last=100", "--set", "train.for=12 steps")
LATE = {"RP_SIM_SEED": "0", "RP_SIM_LATE": "150"}
SAVE_STREAM = "3"  # of kernels/cuda: steps, input, saves


def tensors(run):
    """Name to bytes, of every file of tensors in every checkpoint."""
    files = sorted((run / "checkpoints").glob("step-*/*.safetensors"))
    return {f"{file.parent.name}/{file.name}": file.read_bytes() for file in files}


def numbers(run):
    """Name to bytes, of every tensor in every checkpoint, whatever file it lies in: several ranks write one each."""
    found = {}
    for name, blob in tensors(run).items():
        length = int.from_bytes(blob[:8], "little")
        for tensor, entry in json.loads(blob[8:8 + length]).items():
            if tensor != "__metadata__":
                begin, end = (8 + length + offset for offset in entry["data_offsets"])
                found[f"{name.split('/')[0]}/{tensor}"] = blob[begin:end]
    return found


def differing(a, b):
    assert a.keys() == b.keys() and len(a) >= 12, (sorted(a), sorted(b))
    return [name for name in a if a[name] != b[name]]


def ranks(n):
    return ("--set", f"resources.ranks={n}")


def equal_checkpoints(folder, spec, env, n=1):
    """Of one rank each file, byte by byte; of several each tensor."""
    finals = [rp.run(spec, folder / "cpu", *CPU, *OFTEN), rp.run(spec, folder / "gpu", *GPU, *OFTEN, *ranks(n), env=env)]
    read = tensors if n == 1 else numbers
    cpu, gpu = read(folder / "cpu"), read(folder / "gpu")
    assert not differing(cpu, gpu), differing(cpu, gpu)
    assert finals[0] == finals[1] and len(tensors(folder / "gpu")) == n * len(tensors(folder / "cpu"))
    return f"{len(cpu)} {'files' if n == 1 else 'tensors'}"


def control(folder, spec, n, env):
    """No update waits for the copy: checkpoints hold later states, and the steps are what they were."""
    rp.run(spec, folder / "cpu", *CPU, *OFTEN)
    rp.run(spec, folder / "gpu", *GPU, *OFTEN, *ranks(n), env=dict(env, RP_SIM_DEAF=SAVE_STREAM))
    wrong = differing(numbers(folder / "cpu"), numbers(folder / "gpu"))
    lines = [[line["params"] for line in rp.digest_lines(folder / run)] for run in ("cpu", "gpu")]
    assert wrong and lines[0] == lines[1], (wrong, lines)
    return f"{len(wrong)} tensors differ"


def killed(folder, spec, env, n=1):
    """kill -9 while a copy is under way, more than once."""
    plain = rp.run(spec, folder / "plain", *CPU, *OFTEN)
    for lines in (3, 7):
        log = folder / "gpu" / "digests.jsonl"
        process = rp.start("run", spec, "--out", folder / "gpu", *GPU, *OFTEN, *ranks(n), env=env)
        code = rp.kill_when(process, lambda: log.exists() and log.read_text().count("\n") >= lines, signal.SIGKILL)
        assert code == -signal.SIGKILL, code
    assert rp.run(spec, folder / "gpu", *GPU, *OFTEN, *ranks(n), env=env) == plain
    return f"{len(rp.manifest(folder / 'gpu')['segments'])} segments"


def counted(spec):
    plan = rp.call("plan", spec, *GPU)[0]
    assert "checkpoint copy, pinned" in plan, plan
    assert "pinned" not in rp.call("plan", spec, *CPU)[0]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--modules")
    parser.add_argument("--seconds", type=float, default=1e9)
    args = parser.parse_args()
    simulated = args.modules is not None
    if simulated:
        os.environ["REPRISE_MODULES"] = args.modules
    checks = Checks([], args.seconds)
    with tempfile.TemporaryDirectory() as top:
        top = pathlib.Path(top)
        rp.write_texts(top)
        specs = {name: rp.write(top, text, f"{name}.yaml") for name, text in (rp.MODELS | rp.TEXT_MODELS).items()}

        _, err = (probe := rp.start("run", specs["mlp"], "--out", top / "probe", *GPU, "--set", "train.for=1 step")).communicate()
        if probe.returncode == 3:
            print(f"skipped: {err.strip()}")
            return 77

        def folder():
            return pathlib.Path(tempfile.mkdtemp(dir=top))

        for name in ("mlp", "lenet", "gpt2"):
            checks.check(f"{name}: every checkpoint", equal_checkpoints, folder(), specs[name], LATE)
        checks.check("mlp: killed twice", killed, folder(), specs["mlp"], LATE)
        checks.check("mlp: plan counts the copy", counted, specs["mlp"])
        if simulated:
            for seed in ("1", "5"):
                checks.check(f"lenet: order {seed}", equal_checkpoints, folder(), specs["lenet"], dict(LATE, RP_SIM_SEED=seed))
            for pinned in ("0", "500000"):
                checks.check(f"lenet: {pinned} bytes may be pinned", equal_checkpoints, folder(), specs["lenet"],
                             dict(LATE, RP_SIM_PINNED=pinned))
            checks.check("control: no update waits", control, folder(), specs["mlp"], 1, LATE)
            several = dict(LATE, REPRISE_NCCL=f"{args.modules}/libnccl.so.2", REPRISE_SHARE_GPU="1", OMP_NUM_THREADS="1")
            for name, n in (("mlp", 2), ("mlp", 4), ("lenet", 2), ("lenet", 8), ("gpt2", 4)):
                checks.check(f"{name}: every checkpoint of {n} ranks", equal_checkpoints, folder(), specs[name], several, n)
            for seed, pinned in (("1", None), ("5", "50000")):
                more = dict(several, RP_SIM_SEED=seed, **({"RP_SIM_PINNED": pinned} if pinned else {}))
                checks.check(f"lenet: 4 ranks, order {seed}, {pinned or 'all'} bytes pinned", equal_checkpoints, folder(), specs["lenet"], more, 4)
            checks.check("mlp: 2 ranks killed twice", killed, folder(), specs["mlp"], several, 2)
            checks.check("control: no update of 2 ranks waits", control, folder(), specs["mlp"], 2, several)
    print(f"{checks.done} checks, {checks.failed} failed")
    return checks.failed != 0


if __name__ == "__main__":
    sys.exit(main())
