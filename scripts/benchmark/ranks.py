"""ranks.py - the parts of `scripts/bench ranks`: several processes on this machine.

reduce   reduce, update and gather of 124M fp32 parameters beside an all-reduce and a full update by Gloo and MPI
plan     steps that `reprise plan --ranks` predicts beside steps measured
"""
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
WIDTH = 10749  # 784 x W + W x W + W x 10 and biases: 124.1M numbers
REDUCE_N = 784 * WIDTH + WIDTH + WIDTH * WIDTH + WIDTH + 10 * WIDTH + 10
PHASES = ("reduce", "update", "gather")  # whatever of these a build has; the rest of a step is not compared
SPEC = """reprise: 1
name: bench-ranks
seed: 1
data:
  train: {{format: synthetic, task: digits, samples: 4096}}
model: {{kind: mlp, hidden: [{width}, {width}], activation: relu}}
train:
  for: {steps} steps
  batch: {batch}
  shards: {shards}
  optimizer: {{kind: adamw, lr: 1.0e-6}}
checkpoint: {{every: [1M steps]}}
log: {{every: 1M steps}}
"""
# Jobs to predict: width, samples of a step.
PLAN_JOBS = {"mlp 3.4M, batch 256": (1500, 256), "mlp 3.4M, batch 1024": (1500, 1024), "mlp 11M, batch 512": (3000, 512)}
MOST_ERROR = 0.15
NEEDS = {"Gloo": "g++ and libgloo-dev", "MPICH": "mpich and libmpich-dev", "Open": "openmpi-bin and libopenmpi-dev"}


def run(command, **more):
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, **more)
    if done.returncode:
        sys.exit(f"bench: {' '.join(map(str, command))} failed with code {done.returncode}\n{done.stderr}")
    return done.stdout


# ---- peers: built here, where their compilers are ------------------------------------------------------------


def build(folder, name, compiler, source, *flags):
    """The program, or None and a word where it cannot be had."""
    target = folder / name
    if not shutil.which(compiler):
        return None
    done = subprocess.run([compiler, "-O3", "-march=native", "-fno-math-errno", HERE / source, "-o", target, *flags], capture_output=True, text=True)
    return target if done.returncode == 0 else None


def rounds_of(text):
    """(seconds of the all-reduce, of the update) of each round but the first, which warms up."""
    return [tuple(map(float, line.split())) for line in text.splitlines()][1:]


def run_gloo(program, folder, ranks, *what):
    store = folder / "store"
    shutil.rmtree(store, ignore_errors=True)
    store.mkdir()
    processes = [subprocess.Popen(list(map(str, (program, store, r, ranks, *what))), stdout=subprocess.PIPE, text=True) for r in range(ranks)]
    outputs = [process.communicate()[0] for process in processes]
    if any(process.returncode for process in processes):
        sys.exit("bench: peer_gloo failed")
    return rounds_of("".join(outputs))


def run_mpi(program, launcher, ranks, *what):
    more = ("--oversubscribe", "--allow-run-as-root") if "openmpi" in launcher else ()
    return rounds_of(run([launcher, *more, "-n", ranks, program, *what]))


def peers(folder):
    """name: a function of (ranks, rounds) that gives times; None where it is not installed."""
    gloo = build(folder, "peer_gloo", "g++", "peer_gloo.cc", "-std=c++17", "-lgloo", "-lpthread")
    found = {"Gloo all-reduce": gloo and (lambda ranks, rounds: run_gloo(gloo, folder, ranks, "allreduce", REDUCE_N, rounds))}
    for name, kind in (("MPICH", "mpich"), ("Open MPI", "openmpi")):
        program = build(folder, f"peer_{kind}", f"mpicc.{kind}", "peer_mpi.c", "-lm")
        launcher = f"mpirun.{kind}"
        found[f"{name} MPI_Allreduce"] = program and shutil.which(launcher) and (
            lambda ranks, rounds, program=program, launcher=launcher: run_mpi(program, launcher, ranks, REDUCE_N, rounds))
    return found


# ---- reduce, update, gather -----------------------------------------------------------------------------------


def phase_seconds(trace, steps):
    """name: the median over steps, the first left out, of what a phase took in a step."""
    seconds = {name: [] for name in PHASES}
    for event in json.loads(trace.read_text())["traceEvents"]:
        if event["tid"] == 1 and event["name"] in seconds:
            seconds[event["name"]].append(1e-6 * event["dur"])
    result = {}
    for name, all_of_it in seconds.items():
        each = max(1, len(all_of_it) // steps)  # a phase may come several times in a step
        of_steps = [sum(all_of_it[i:i + each]) for i in range(0, each * steps, each)]
        if all_of_it:
            result[name] = statistics.median(of_steps[1:])
    return result


def ours(reprise, folder, ranks, rounds, comm):
    spec, out = folder / "reduce.yaml", folder / "run"
    spec.write_text(SPEC.format(width=WIDTH, batch=4, shards=4, steps=rounds))
    shutil.rmtree(out, ignore_errors=True)
    run([reprise, "run", spec, "--out", out, "--profile", "--quiet", "--set", f"resources.ranks={ranks}", "--set", "resources.timeout.peer=120 s",
         "--set", f"resources.comm={comm}"])
    phases = phase_seconds(out / "trace.json", rounds)
    shutil.rmtree(out, ignore_errors=True)
    return phases


def bench_reduce(reprise, folder, bandwidth, args, say):
    rounds = args.pairs + 1
    size, found = 4 * REDUCE_N, peers(folder)
    say(f"reduce, update and gather of {REDUCE_N / 1e6:.1f}M fp32 parameters on one machine: seconds, median of {args.pairs}; AdamW")
    say(f"floor at {bandwidth / 1e9:.1f} GB/s, read or written, of the whole machine: every sum is read once and every root written, every updated")
    say("parameter read once and written by all others; updating reads four and writes three numbers a parameter, at its owner alone or at all ranks")
    say(f"{'':24} {'ranks':>5} {'reduce':>8} {'update':>8} {'gather':>8} {'sum':>8} {'theirs/ours':>11}")
    for ranks in (2, 4):
        for comm in ("gloo", "shm"):
            phases = ours(reprise, folder, ranks, rounds, comm)
            total = sum(phases.values())
            say(f"{'reprise, ' + comm:24} {ranks:5} " + " ".join(f"{phases.get(name, 0):8.3f}" for name in PHASES) + f" {total:8.3f}")
        for name, measure in found.items():
            if not measure:
                say(f"{name:24} {ranks:5} is not here: it needs {NEEDS[name.split()[0]]}")
                continue
            times = measure(ranks, rounds)
            reduce, update = (statistics.median(column) for column in zip(*times))
            say(f"{name:24} {ranks:5} {reduce:8.3f} {update:8.3f} {0:8.3f} {reduce + update:8.3f} {(reduce + update) / total:11.2f}")
        moved, updated = (2 * ranks + 1) * size / bandwidth, 7 * size / bandwidth
        say(f"{'floor':24} {ranks:5} {moved:8.3f} {updated:8.3f} {'':8} {moved + updated:8.3f}   (a full update on every rank: {ranks * updated:.3f})")


# ---- prediction -----------------------------------------------------------------------------------------------


def loopback(program, folder, ranks, rounds):
    """Bytes a second and seconds of a message, of each rank while all exchange in pairs."""
    large = 8 << 20
    times = {size: statistics.median(seconds for seconds, _ in run_gloo(program, folder, ranks, "exchange", size, n)) / (ranks - 1)
             for size, n in ((64, 200), (large, rounds))}
    return large / max(times[large] - times[64], 1e-9), times[64]


def processor_seconds():
    """Of the whole machine, and of what this program has started and waited for."""
    user, nice, system, _, _, irq, softirq = map(int, pathlib.Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:8])
    own = os.times()
    return ((user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK"), own.user + own.system + own.children_user + own.children_system)


def measured_step(reprise, folder, spec, ranks, batch, steps):
    """Seconds of a step, those of the first quarter, which warm up, left out."""
    out = folder / "run"
    shutil.rmtree(out, ignore_errors=True)
    run([reprise, "run", spec, "--out", out, "--quiet", "--set", f"resources.ranks={ranks}", "--set", "resources.timeout.peer=120 s",
         "--set", f"log.every={max(1, steps // 4)} steps", "--set", "resources.comm=gloo"])  # the network of the prediction is the loopback
    with open(out / "metrics.jsonl") as file:
        lines = [line for line in map(json.loads, file) if line["split"] == "train"]
    (first, warm), (last, all_of_it) = ((line["step"], line["step"] * batch / line["metrics"]["samples_per_second"]) for line in (lines[0], lines[-1]))
    return (all_of_it - warm) / (last - first)


def bench_plan(reprise, folder, args, say):
    program = build(folder, "peer_gloo", "g++", "peer_gloo.cc", "-std=c++17", "-lgloo", "-lpthread")
    cores = len(os.sched_getaffinity(0))
    if not program:
        say("prediction: Gloo (libgloo-dev) or g++ is not installed, so the loopback cannot be measured")
        return
    say(f"\nsteps predicted by `reprise plan --ranks R` and measured, milliseconds, on {cores} cores; wanted within {100 * MOST_ERROR:.0f} %. By the formulas")
    say("with the loopback as Gloo's exchanges measure it (--per-node R --network BANDWIDTH,LATENCY), and by whole steps of ranks connected (--network local)")
    say(f"{'job':22} {'ranks':>5} {'loopback GB/s':>13} {'us':>7} {'compute':>8} {'update':>8} {'exchange':>8} {'predicted':>9} {'measured':>9} {'error':>7} "
        f"{'local':>9} {'error':>7}")
    for name, (width, batch) in PLAN_JOBS.items():
        spec = folder / "plan.yaml"
        for ranks in (1, 2, 4):
            predicted, local, measured = [], [], []
            began, (busy, own) = time.monotonic(), processor_seconds()
            for _ in range(args.pairs):
                bandwidth, latency = loopback(program, folder, ranks, 20) if ranks > 1 else (1e10, 1e-5)
                links = ("--per-node", ranks, "--network", f"{bandwidth / 1e9:.6f}GB/s,{1e6 * latency:.6f}us")
                spec.write_text(SPEC.format(width=width, batch=batch, shards=8, steps=3))
                row, here = ([json.loads(run([reprise, "plan", spec, "--json", "--ranks", ranks, *how]).splitlines()[-1])["scaling"][-1]
                              for how in (links, ("--network", "local", "--set", "resources.comm=gloo"))])
                predicted.append(row["step_seconds"])
                local.append(here["step_seconds"])
                steps = max(8, int(args.seconds / 2 / row["step_seconds"]))
                spec.write_text(SPEC.format(width=width, batch=batch, shards=8, steps=steps))
                measured.append(measured_step(reprise, folder, spec, ranks, batch, steps))
            now_busy, now_own = processor_seconds()
            others = ((now_busy - busy) - (now_own - own)) / ((time.monotonic() - began) * os.cpu_count())
            errors = [100 * statistics.median(p / m - 1 for p, m in zip(guess, measured)) for guess in (predicted, local)]
            say(f"{name:22} {ranks:5} {bandwidth / 1e9:13.2f} {1e6 * latency:7.1f} {1e3 * row['compute_seconds']:8.2f} {1e3 * row['update_seconds']:8.2f} "
                f"{1e3 * row['exchange_seconds']:8.2f} {1e3 * statistics.median(predicted):9.2f} {1e3 * statistics.median(measured):9.2f} {errors[0]:+6.1f}% "
                f"{1e3 * statistics.median(local):9.2f} {errors[1]:+6.1f}%" + (" more ranks than cores: they take turns" if ranks > cores else "")
                + (f" (not a quiet machine: others took {100 * others:.0f} % of it)" if others > 0.05 else ""))
