#!/usr/bin/python3
"""ranks - ranks on one GPU (or the simulated one) through NCCL against the CPU: equal final digests; a killed rank.

    ranks.py [--modules DIR] [--nccl FILE] [--seconds N] [NAME...]

$REPRISE is the program; DIR holds modules to use in place of its own, FILE is libnccl.so.2, looked for where the system,
CUDA and PyTorch keep it. All ranks share the GPU (REPRISE_SHARE_GPU), so this says nothing of speed. A line a check; exit
1 when one failed, 77 without a GPU or NCCL.
"""
import argparse
import ctypes
import os
import pathlib
import signal
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import reprise as rp  # noqa: E402
from runs import CPU, GPU, Checks, same  # noqa: E402

SHARE = {"REPRISE_SHARE_GPU": "1"}
EACH = {"REPRISE_BUCKET_BYTES": "1"}  # a bucket for each parameter: gradients leave at every turn of backward


def find_nccl():
    places = [pathlib.Path(path) / "nvidia/nccl/lib/libnccl.so.2" for path in sys.path]
    places += [pathlib.Path("/usr/local/cuda") / lib / "libnccl.so.2" for lib in ("lib64", "lib")]
    try:
        ctypes.CDLL("libnccl.so.2")
        return ""
    except OSError:
        return next((str(place) for place in places if place.exists()), None)


def ranks(n):
    return (*GPU, "--set", f"resources.ranks={n}")


def equal(folder, spec, n, *more, env=None):
    want = rp.run(spec, folder / "cpu", *CPU, *more)
    found = same(want, rp.run(spec, folder / "gpu", *ranks(n), *more, env={**SHARE, **(env or {})}))
    segment = rp.manifest(folder / "gpu")["segments"][0]
    assert segment["ranks"] == n and (n == 1 or "reprise_nccl, NCCL 2." in segment["comm"]), segment
    return f"{found} {segment['comm']}"


def another_seed(folder, spec):
    a = rp.run(spec, folder / "a", *ranks(2), env=SHARE)
    b = rp.run(spec, folder / "b", *ranks(2), "--set", "seed=4321", env=SHARE)
    assert a != b, "another seed gave the same digest"


def other_numbers_of_ranks(folder, spec):
    """Begun on 4, ended on 1."""
    want = rp.run(spec, folder / "plain", *CPU)
    log = folder / "run" / "digests.jsonl"
    process = rp.start("run", spec, "--out", folder / "run", *ranks(4), env=SHARE)
    code = rp.kill_when(process, lambda: log.exists() and log.read_text().count("\n") >= 7, signal.SIGTERM)
    assert code == 20, f"the first part ended with {code}"
    return same(want, rp.run(spec, folder / "run", *ranks(1)))


def beside_backward(folder, spec, n, *more, **env):
    return equal(folder, spec, n, *more, env={**EACH, **env})


def not_beside(folder, spec, n):
    return beside_backward(folder, spec, n, REPRISE_OVERLAP="0")


def killed(folder, spec, number):
    process = rp.start("run", spec, "--out", folder / "run", *ranks(4), *rp.ENDLESS, "--set", "resources.timeout.peer=2 s", env={**SHARE, **EACH})
    log, end = folder / "run" / "digests.jsonl", time.monotonic() + 300
    while process.poll() is None and not (log.exists() and log.read_text().count("\n") > 10) and time.monotonic() < end:
        time.sleep(0.01)
    others = pathlib.Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    assert len(others) == 3, process.communicate()
    os.kill(int(others[1]), number)
    began = time.monotonic()
    _, err = process.communicate(timeout=200)
    assert process.returncode == 21 and f"process {others[1]}) is lost" in err, f"exit {process.returncode}: {err}"
    return f"ended {time.monotonic() - began:.1f} s later"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--modules")
    parser.add_argument("--nccl")
    parser.add_argument("--seconds", type=float, default=1e9)
    parser.add_argument("names", nargs="*")
    args = parser.parse_args()
    nccl = args.nccl or os.environ.get("REPRISE_NCCL") or find_nccl()
    if nccl is None:
        print("skipped: no libnccl.so.2 (the package libnccl2, or a folder of PyTorch); --nccl names one")
        return 77
    os.environ["REPRISE_NCCL"] = nccl
    os.environ.setdefault("OMP_NUM_THREADS", "2")
    if args.modules:
        os.environ["REPRISE_MODULES"] = args.modules
    checks = Checks(args.names, args.seconds)
    with tempfile.TemporaryDirectory() as top:
        top = pathlib.Path(top)
        rp.write_texts(top)
        mlp = rp.write(top, rp.DIGITS_MLP.replace("for: 4 epochs", "for: 12 steps"), "mlp.yaml")
        _, err = (probe := rp.start("run", mlp, "--out", top / "probe", *GPU, "--set", "train.for=1 step")).communicate()
        if probe.returncode == 3:
            print(f"skipped: {err.strip()}")
            return 77
        gpt = rp.write(top, rp.TEXT_MODELS["gpt2"], "gpt2.yaml")
        resnet = rp.write(top, rp.MODELS["resnet"], "resnet.yaml")

        def folder():
            return pathlib.Path(tempfile.mkdtemp(dir=top))

        for n in (1, 2, 4):
            checks.check(f"mlp: {n} ranks", equal, folder(), mlp, n)
        checks.check("gpt2: 4 ranks", equal, folder(), gpt, 4)
        checks.check("resnet: 2 ranks", equal, folder(), resnet, 2)
        checks.check("mlp: 2 ranks, several passes", equal, folder(), mlp, 2, "--set", "train.micro_batch=4")
        checks.check("mlp: 4 ranks without graphs", equal, folder(), mlp, 4, "--no-graph")
        checks.check("gpt2: 2 ranks, many buckets", beside_backward, folder(), gpt, 2)
        checks.check("resnet: 4 ranks, many buckets, several passes", beside_backward, folder(), resnet, 4, "--set", "train.micro_batch=8")
        checks.check("mlp: 4 ranks, many buckets, without graphs", beside_backward, folder(), mlp, 4, "--no-graph")
        checks.check("mlp: 4 ranks, many buckets, none beside backward", not_beside, folder(), mlp, 4)
        checks.check("control: another seed", another_seed, folder(), mlp)
        checks.check("mlp: 4 ranks, then 1", other_numbers_of_ranks, folder(), mlp)
        for number in (signal.SIGKILL, signal.SIGSTOP):
            checks.check(f"{number.name} to a rank", killed, folder(), mlp, number)
    print(f"{checks.done} checks, {checks.failed} failed")
    return checks.failed != 0


if __name__ == "__main__":
    sys.exit(main())
