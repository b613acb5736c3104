#!/usr/bin/python3
"""ranges - what a profiler is told of a run: phases, and in them ops, by names.

    ranges.py --modules DIR --recorder FILE

The recorder (tests/cuda/nvtx_recorder.c) stands in the place of a profiler. Its record is compared with the table of
`run --profile`, which counts for itself. Needs Python alone.
"""
import argparse
import collections
import os
import pathlib
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
import reprise as rp  # noqa: E402
from runs import Checks  # noqa: E402

STEPS = 6
GPU = ("--set", "resources.device=cuda", "--set", f"train.for={STEPS} steps", "--set", "eval.every=3 steps",
       "--set", "checkpoint.every=2 steps")
PHASES = {"data", "model", "reduce", "update", "record", "evaluate", "save"}


def record(folder, recorder, spec, *more):
    """Of a run: its final digest; (phase, op) of every op; the phases one after another."""
    log = folder / "ranges.txt"
    final = rp.run(spec, folder / "run", *GPU, *more, env={"NVTX_INJECTION64_PATH": str(recorder), "RP_NVTX_LOG": str(log)})
    stack, ops, phases = [], [], []
    for line in log.read_text().splitlines():
        word, _, name = line.partition(" ")
        if word == "push":
            if name in PHASES:
                assert not stack, f"the phase {name} begins in {stack}"
                phases.append(name)
            else:
                assert len(stack) <= 1, f"the op {name} begins in {stack}"
                ops.append((stack[0] if stack else None, name))
            stack.append(name)
        elif word == "pop":
            stack.pop()
    assert line == "end" and not stack, f"left open: {stack}"
    return final, ops, phases


def calls(folder, spec):
    """Op by op, as --profile counts them."""
    out, _ = rp.call("run", spec, "--out", folder / "run", *GPU, "--profile")
    table = out.split("GFLOP/s")[1].split("\n\n")[0].splitlines()[1:]
    return {row.split()[0]: int(row.split()[1]) for row in table}


def every_op_once(folder, recorder, spec):
    """Without graphs each step launches: as many ranges as --profile counts calls, each within its phase."""
    _, ops, phases = record(folder(), recorder, spec, "--no-graph")
    counted = collections.Counter(name for phase, name in ops if phase)
    want = calls(folder(), spec)
    assert counted == want, f"{counted} {want}"
    assert {phase for phase, _ in ops} - {None} == {"model", "update", "evaluate"}, set(ops)
    for name in ("adam", "clip", "grad_norm"):
        assert {phase for phase, op in ops if op == name} == {"update"}, name
    return f"{sum(want.values())} ops of {len(want)} kinds, {len(phases)} phases"


def phases_of_each_step(phases):
    count = collections.Counter(phases)
    for phase in ("data", "model", "update", "record"):
        assert count[phase] == STEPS, count
    assert count["evaluate"] == 2 and count["save"] >= 3, count


def graphs(folder, recorder, spec):
    """Of steps: the first runs, the second is captured; those after saves run; the rest are replays without ops."""
    plain, ops, _ = record(folder(), recorder, spec, "--no-graph")
    final, replayed, phases = record(folder(), recorder, spec)
    assert final == plain
    phases_of_each_step(phases)
    assert 0 < len(replayed) < len(ops), (len(replayed), len(ops))
    updates = [sum(phase == "update" for phase, _ in some) for some in (ops, replayed)]
    of_step = updates[0] // STEPS
    # Steps 1 and 2; 3 and 5 after the saves of 2 and 4: kernel by kernel.
    assert updates[1] == 4 * of_step, (updates, of_step)
    return f"ops in {updates[1] // of_step} of {STEPS} steps"


def nobody_listens(folder, recorder, spec):
    """The same digest, and nothing opened."""
    final, _, _ = record(folder(), recorder, spec)
    there = folder()
    trace = there / "libraries"
    env = {"LD_DEBUG": "files", "LD_DEBUG_OUTPUT": str(trace)}
    assert rp.run(spec, there / "run", *GPU, env=env) == final
    opened = "".join(file.read_text() for file in there.glob("libraries*"))
    assert "reprise_cuda.so" in opened and "nvtx" not in opened.lower() and str(recorder) not in opened
    heard = folder()
    trace = heard / "libraries"
    rp.run(spec, heard / "run", *GPU, env={"LD_DEBUG": "files", "LD_DEBUG_OUTPUT": str(trace), "NVTX_INJECTION64_PATH": str(recorder),
                                           "RP_NVTX_LOG": str(heard / "log")})
    assert str(recorder) in "".join(file.read_text() for file in heard.glob("libraries*")), "the control: it was opened"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--modules", required=True)
    parser.add_argument("--recorder", required=True)
    args = parser.parse_args()
    os.environ["REPRISE_MODULES"] = args.modules
    checks = Checks([], 1e9)
    with tempfile.TemporaryDirectory() as top:
        top = pathlib.Path(top)
        spec = rp.write(top, rp.DIGITS_MLP, "mlp.yaml")

        def folder():
            return pathlib.Path(tempfile.mkdtemp(dir=top))

        checks.check("every op once, in its phase", every_op_once, folder, args.recorder, spec)
        checks.check("with graphs", graphs, folder, args.recorder, spec)
        checks.check("control: nobody listens", nobody_listens, folder, args.recorder, spec)
    print(f"{checks.done} checks, {checks.failed} failed")
    return checks.failed != 0


if __name__ == "__main__":
    sys.exit(main())
