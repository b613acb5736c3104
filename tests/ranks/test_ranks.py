"""Several ranks on CPUs: the same bits as one, whoever starts them, and an end in seconds when one is lost."""
import os
import pathlib
import random
import signal
import socket
import time

import pytest

import reprise as rp

ENV = {"OMP_NUM_THREADS": "1"}


@pytest.fixture(params=["shm", "gloo"])
def comm(request):
    """Through memory of the host, which `auto` takes here, and through Gloo."""
    if request.param == "gloo" and not (pathlib.Path(rp.PROGRAM).parent / "reprise_gloo.so").exists():
        pytest.skip("this build has no module reprise_gloo (libgloo-dev was not there)")
    return ["--set", f"resources.comm={request.param}"]


ALL_MODELS = {**rp.MODELS, **rp.TEXT_MODELS}


@pytest.fixture(scope="module", params=list(ALL_MODELS))
def model(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    rp.write_texts(folder)
    spec = rp.write(folder, ALL_MODELS[request.param])
    return request.param, spec, rp.run(spec, folder / "one")


def shards_of(name):
    return {"mlp": 8, "lenet": 8, "resnet": 4, "gpt2": 4, "llama": 4}[name]


def ranks(n):
    return ["--set", f"resources.ranks={n}"]


def test_equal_bits(model, tmp_path):
    name, spec, final = model
    for n in (2, 4, 8):
        if n <= shards_of(name):
            assert rp.run(spec, tmp_path / str(n), *ranks(n), env=ENV) == final, n


def test_equal_bits_by_name(model, comm, tmp_path):
    name, spec, final = model
    n = min(4, shards_of(name))
    assert rp.run(spec, tmp_path / "run", *ranks(n), *comm, env=ENV) == final
    assert comm[1].split("=")[1] in rp.manifest(tmp_path / "run")["segments"][0]["comm"]


def test_eight_ranks(tmp_path):
    """Of those that have four shards above: batch norm, and a language model."""
    rp.write_texts(tmp_path)
    for name in ("resnet", "gpt2"):
        spec = rp.write(tmp_path, ALL_MODELS[name].replace("shards: 4", "shards: 8"), f"{name}.yaml")
        final = rp.run(spec, tmp_path / f"{name}-1")
        for n, threads in ((8, 1), (8, 2), (2, 1)):
            out = tmp_path / f"{name}-{n}-{threads}"
            assert rp.run(spec, out, *ranks(n), "--set", f"resources.threads={threads}") == final, (name, n, threads)
        four = rp.write(tmp_path, ALL_MODELS[name], f"{name}-four.yaml")
        assert rp.run(four, tmp_path / f"{name}-four", *ranks(4), env=ENV) != final  # control: the shards decide


def test_threads_and_micro_batches_beside_ranks(model, tmp_path):
    name, spec, final = model
    for n in (1, 2, 4, 8):
        if n <= shards_of(name):
            assert rp.run(spec, tmp_path / f"a{n}", *ranks(n), "--set", "resources.threads=2") == final, n
    micro = {"mlp": 4, "lenet": 6, "resnet": 8, "gpt2": 2, "llama": 1}[name]
    assert rp.run(spec, tmp_path / "b", *ranks(2), "--set", f"train.micro_batch={micro}", env=ENV) == final


def test_control_other_numbers_differ(model, tmp_path):
    _, spec, final = model
    assert rp.run(spec, tmp_path / "run", *ranks(2), "--set", "seed=99", env=ENV) != final


def children_of(process):
    found = []
    for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
        try:
            pid, rest = int(stat.parent.name), stat.read_text().rsplit(")", 1)[1].split()
        except (OSError, IndexError):
            continue
        if int(rest[1]) == process.pid and rest[0] != "Z":
            found.append(pid)
    return sorted(found)


def wait_for(condition, seconds=200):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.01)


QUIET = ["--set", "resources.timeout.peer=300 s"]  # nobody is lost, however slow


def long_run(folder, n, *args):
    """A run of n ranks without an end, some steps old; the pids of its other ranks."""
    spec = rp.write(folder, rp.DIGITS_MLP)
    process = rp.start("run", spec, "--out", folder / "run", *ranks(n), *rp.ENDLESS, "--set", "resources.timeout.peer=2 s", *args, env=ENV)
    digests = folder / "run/digests.jsonl"
    wait_for(lambda: digests.exists() and digests.read_text().count("\n") > 20)
    return process, children_of(process)


# Wherever a rank can be when it is lost, as rp_comm_note names it; and where all others are.
PLACE = "(?:connect|start|agree|step|reduce|gather|evaluate|save)"
OTHERS_WAIT = rf"the others wait in ({PLACE}:(?: \d+)+(?:; {PLACE}:(?: \d+)+)*)"


def ended(process, seconds=200):
    _, err = process.communicate(timeout=seconds)
    return process.returncode, err


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_lost_rank_ends_the_run(tmp_path, number, comm):
    process, others = long_run(tmp_path, 4, *comm)
    assert len(others) == 3
    os.kill(others[1], number)
    code, err = ended(process)
    assert code == 21
    assert f"process {others[1]})" in err and "is lost" in err and "rank 2 (" in err
    assert rp.manifest(tmp_path / "run")["exit_code"] == 21
    assert not [pid for pid in others if rp.is_alive(pid)]


def test_rank_0_is_lost(tmp_path, comm):
    process, others = long_run(tmp_path, 4, *comm)
    process.kill()
    process.communicate()
    wait_for(lambda: not [pid for pid in others if rp.is_alive(pid)])


def test_a_request_to_any_rank_stops_all(tmp_path):
    process, others = long_run(tmp_path, 4, *QUIET)
    os.kill(others[2], signal.SIGTERM)
    code, err = ended(process)
    assert code == 20 and err.count("run the same command again") == 1
    assert rp.manifest(tmp_path / "run")["status"] == "stopped"


def test_control_a_slow_rank_is_not_lost(tmp_path, comm):
    """Stopped for less than the timeout, again and again, and for longer all in all: slow, and the run goes on."""
    process, others = long_run(tmp_path, 2, *comm, "--set", "resources.timeout.peer=3 s")
    before = len(rp.digest_lines(tmp_path / "run"))
    for _ in range(8):
        os.kill(others[0], signal.SIGSTOP)
        time.sleep(0.4)
        os.kill(others[0], signal.SIGCONT)
        time.sleep(0.1)
    wait_for(lambda: (tmp_path / "run/digests.jsonl").read_text().count("\n") > before + 5)
    process.terminate()
    assert ended(process)[0] == 20


def test_a_run_goes_on_with_another_number_of_ranks(tmp_path):
    spec = rp.write(tmp_path, rp.DIGITS_MLP)
    want = rp.run(spec, tmp_path / "plain")
    out, every = tmp_path / "run", ["--set", "checkpoint.every=3 steps"]
    for n, steps in ((4, 7), (1, 15), (8, 24)):
        process = rp.start("run", spec, "--out", out, *ranks(n), *every, env={**ENV, **rp.slowly()})
        rp.kill_when(process, lambda: (out / "digests.jsonl").exists() and len((out / "digests.jsonl").read_bytes().splitlines()) >= steps)
    assert rp.run(spec, out, *ranks(2), *every, env=ENV) == want


# ---- launchers -----------------------------------------------------------------------------------------------


def free_port():
    """A port that is free and whose next is, which torchrun's ranks take: below those that the kernel gives to connections."""
    for port in random.sample(range(20000, 32000), 100):
        with socket.socket() as a, socket.socket() as b:
            try:
                a.bind(("127.0.0.1", port))
                b.bind(("127.0.0.1", port + 1))
                return port
            except OSError:
                continue
    raise OSError("no two free ports side by side")


def launch(spec, out, n, variables, *args):
    """n processes as a launcher would start them: (exit codes, outputs) in order of rank."""
    processes = [rp.start("run", spec, "--out", out, "--json", *args, env={**ENV, **variables(r)}) for r in range(n)]
    results = [p.communicate(timeout=300) for p in processes]
    return [p.returncode for p in processes], results


def torchrun(port, n):
    return lambda r: {"RANK": str(r), "LOCAL_RANK": str(r), "WORLD_SIZE": str(n), "LOCAL_WORLD_SIZE": str(n),
                      "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}


def open_mpi(port, n):
    return lambda r: {"OMPI_COMM_WORLD_RANK": str(r), "OMPI_COMM_WORLD_SIZE": str(n), "OMPI_COMM_WORLD_LOCAL_RANK": str(r),
                      "OMPI_COMM_WORLD_LOCAL_SIZE": str(n), "REPRISE_PORT": str(port)}


def slurm(port, n):
    return lambda r: {"SLURM_PROCID": str(r), "SLURM_LOCALID": str(r), "SLURM_STEP_NUM_TASKS": str(n), "SLURM_STEP_ID": "0",
                      "SLURM_JOB_ID": "77", "SLURM_STEP_NODELIST": "127.0.0.[1-1]", "REPRISE_PORT": str(port)}


def test_nodes_start_their_ranks(tmp_path):
    """Two nodes of Kubeflow's kind, two ranks on each."""
    spec = rp.write(tmp_path, rp.DIGITS_MLP)
    want, port = rp.run(spec, tmp_path / "plain"), free_port()
    codes, results = launch(spec, tmp_path / "run", 2, lambda r: {
        "PET_NNODES": "2", "PET_NODE_RANK": str(r), "PET_NPROC_PER_NODE": "2", "PET_MASTER_ADDR": "127.0.0.1", "PET_MASTER_PORT": str(port)})
    assert codes == [0, 0] and want in results[0][0] and results[1] == ("", ""), results
    assert rp.manifest(tmp_path / "run")["segments"][0]["ranks"] == 4


@pytest.mark.parametrize("launcher", [torchrun, open_mpi, slurm])
def test_launchers(launcher, tmp_path):
    spec = rp.write(tmp_path, rp.DIGITS_MLP)
    want = rp.run(spec, tmp_path / "plain")
    codes, results = launch(spec, tmp_path / "run", 4, launcher(free_port(), 4))
    assert codes == [0, 0, 0, 0], results
    assert want in results[0][0]
    assert all(out == "" and err == "" for out, err in results[1:]), results[1:]


def test_finished_runs_say_so_once(tmp_path):
    spec = rp.write(tmp_path, rp.DIGITS_MLP)
    want = rp.run(spec, tmp_path / "run")
    codes, results = launch(spec, tmp_path / "run", 2, torchrun(free_port(), 2))
    assert codes == [0, 0] and want in results[0][0] and results[1] == ("", "")


def test_ranks_of_another_spec_are_refused(tmp_path):
    spec = rp.write(tmp_path, rp.DIGITS_MLP)
    variables = torchrun(free_port(), 2)
    processes = [rp.start("run", spec, "--out", tmp_path / "run", "--set", f"seed={r}", env={**ENV, **variables(r)}) for r in range(2)]
    results = [p.communicate(timeout=300) for p in processes]
    assert processes[0].returncode == 4 and "rank 1 (" in results[0][1] and "numeric digest" in results[0][1]
    assert processes[1].returncode != 0


def test_wrong_numbers(tmp_path):
    spec = rp.write(tmp_path, rp.DIGITS_MLP)
    _, err = rp.call("run", spec, "--out", tmp_path / "run", *ranks(4), env={**ENV, **torchrun(free_port(), 2)(0)}, expect=2)
    assert "resources.ranks is 4, but torchrun started 2" in err
    _, err = rp.call("run", spec, "--out", tmp_path / "run", env={**ENV, **torchrun(1, 2)(2)}, expect=2)
    assert "RANK is 2, but WORLD_SIZE is 2" in err
    _, err = rp.call("run", spec, "--out", tmp_path / "run", env={**ENV, **torchrun(1, 3)(0)}, expect=2)
    assert "3 ranks cannot share 8 shards" in err and "the next lower number is 2" in err
    four = {"PMI_RANK": "0", "PMI_SIZE": "1", "SLURM_PROCID": "0", "SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "4"}
    _, err = rp.call("run", spec, "--out", tmp_path / "run", env=four, expect=2)
    assert "PMI_SIZE is 1, but SLURM_STEP_NUM_TASKS is 4" in err
    assert not (tmp_path / "run").exists()
