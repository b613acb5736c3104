"""Ranks that move their bytes through MPI: the bits of Gloo, under the mpirun of each MPI and under Slurm; worlds that
MPI was not told of; what a dead rank leaves behind."""
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import time

import pytest

import reprise as rp

ENV = {"OMP_NUM_THREADS": "1", "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
MPIRUN = {"mpich": ["mpirun.mpich"], "openmpi": ["mpirun.openmpi", "--oversubscribe", "--bind-to", "none"]}
NAMES = {"mpich": "MPICH", "openmpi": "Open MPI"}
BUILD = pathlib.Path(rp.PROGRAM).resolve().parent
MPI = ["--set", "resources.comm=mpi"]
# Few steps: ranks that wait for each other in an MPI spin, and there may be more of them than processors.
SPEC = rp.DIGITS_MLP.replace("for: 4 epochs", "for: 7 steps").replace("every: 1 epoch", "every: 4 steps")


@pytest.fixture(params=list(MPIRUN))
def mpi(request):
    if not (BUILD / f"reprise_mpi_{request.param}.so").exists():
        pytest.skip(f"this build has no module reprise_mpi_{request.param} (lib{request.param}-dev was not there)")
    if not shutil.which(MPIRUN[request.param][0]):
        pytest.skip(f"no {MPIRUN[request.param][0]} here")
    return request.param


@pytest.fixture(scope="module")
def spec(tmp_path_factory):
    return rp.write(tmp_path_factory.mktemp("spec"), SPEC)


@pytest.fixture(scope="module")
def gloo(spec, tmp_path_factory):
    """The digest of two ranks of Gloo; of one where this build has none."""
    more = ["--set", "resources.ranks=2", "--set", "resources.comm=gloo"] if (BUILD / "reprise_gloo.so").exists() else []
    return rp.run(spec, tmp_path_factory.mktemp("gloo") / "run", *more, env=ENV)


def start(starter, out, spec, *args, env=None):
    """mpirun never ends by itself in some failures, so it gets a time."""
    return subprocess.Popen(["timeout", "-k", "3", "120", *map(str, starter), rp.PROGRAM, "run", str(spec), "--out", str(out), *MPI,
                             "--json", *args], env={**os.environ, **ENV, **(env or {})}, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            stdin=subprocess.DEVNULL, text=True, start_new_session=True)


def under(mpi, n):
    return [*MPIRUN[mpi], "-n", str(n)]


def run(starter, out, spec, *args, expect=0, env=None):
    process = start(starter, out, spec, *args, env=env)
    text, err = process.communicate(timeout=150)
    assert process.returncode == expect, f"exit {process.returncode}\n{text}\n{err}"
    return rp.manifest(out) if expect == 0 else err


@pytest.mark.parametrize("n", [1, 2, 4])
def test_equal_bits(mpi, n, spec, gloo, tmp_path):
    manifest = run(under(mpi, n), tmp_path / "run", spec)
    assert manifest["digests"]["final"] == gloo
    segment = manifest["segments"][0]
    assert segment["ranks"] == n
    assert n == 1 or segment["comm"].startswith(f"reprise_mpi_{mpi}, {NAMES[mpi]}"), segment["comm"]


def test_control_other_numbers_differ(mpi, spec, gloo, tmp_path):
    assert run(under(mpi, 4), tmp_path / "run", spec, "--set", "seed=99")["digests"]["final"] != gloo


def test_a_text_model(mpi, tmp_path):
    rp.write_texts(tmp_path)
    spec = rp.write(tmp_path, rp.TEXT_MODELS["gpt2"].replace("for: 10 steps", "for: 4 steps"))
    want = rp.run(spec, tmp_path / "one")
    assert run(under(mpi, 4), tmp_path / "run", spec)["digests"]["final"] == want


# ---- worlds of one -------------------------------------------------------------------------------------------


def test_mpi_was_not_told(mpi, spec, tmp_path):
    """Ranks that we start ourselves, which no MPI knows of."""
    only(mpi, tmp_path)
    _, err = rp.call("run", spec, "--out", tmp_path / "run", *MPI, "--set", "resources.ranks=2",
                     env={**ENV, "REPRISE_MODULES": str(tmp_path / "modules")}, expect=2)
    assert "reprise started 2 ranks, but " + NAMES[mpi] in err and "has a world of 1" in err and "mpirun" in err


def only(mpi, folder):
    """A folder of modules with this MPI's alone."""
    (folder / "modules").mkdir()
    (folder / "modules" / f"reprise_mpi_{mpi}.so").symlink_to(BUILD / f"reprise_mpi_{mpi}.so")


def test_the_launcher_of_another_mpi(mpi, spec, tmp_path):
    other = next(name for name in MPIRUN if name != mpi)
    if not shutil.which(MPIRUN[other][0]):
        pytest.skip(f"no {MPIRUN[other][0]} here")
    only(mpi, tmp_path)
    process = start(under(other, 4), tmp_path / "run", spec, env={"REPRISE_MODULES": str(tmp_path / "modules")})
    text, err = process.communicate(timeout=150)
    assert process.returncode != 0
    assert f"{NAMES[other]} started 4 ranks, but {NAMES[mpi]}" in text + err and "has a world of 1" in text + err


def test_a_build_without_mpi(spec, tmp_path):
    (tmp_path / "modules").mkdir()
    _, err = rp.call("run", spec, "--out", tmp_path / "run", *MPI, "--set", "resources.ranks=2",
                     env={**ENV, "REPRISE_MODULES": str(tmp_path / "modules")}, expect=3)
    assert "reprise_mpi_mpich.so" in err and "libmpich-dev or libopenmpi-dev" in err
    assert not (tmp_path / "run").exists()


# ---- a dead rank ---------------------------------------------------------------------------------------------


def wait_for(condition, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.01)


def ranks_of(out):
    """Process ids by rank: of the children, which are the ranks, not of those that the launcher started."""
    found, parents = {}, {}
    for process in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().split(b"\0")
            variables = dict(line.split(b"=", 1) for line in (process / "environ").read_bytes().split(b"\0") if b"=" in line)
            parent = int((process / "stat").read_text().rsplit(")", 1)[1].split()[1])
        except OSError:
            continue
        number = variables.get(b"PMI_RANK") or variables.get(b"OMPI_COMM_WORLD_RANK") or variables.get(b"SLURM_PROCID")
        if words[0] == rp.PROGRAM.encode() and str(out).encode() in words and number:
            found[int(process.name)], parents[int(process.name)] = int(number), parent
    return {number: pid for pid, number in found.items() if parents[pid] in found}


def parent_of(pid):
    return int(pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])


def killed(starter, out, spec, rank, number=signal.SIGKILL, env=None, shield=False):
    """A long run, one rank of which gets a signal: what the launcher ends with, and what was said."""
    process = start(starter, out, spec, *rp.ENDLESS, "--set", "resources.timeout.peer=2 s", env=env)
    digests = out / "digests.jsonl"
    wait_for(lambda: process.poll() is not None or digests.exists() and digests.read_text().count("\n") > 5)
    pids = ranks_of(out)
    assert len(pids) == 4, process.communicate()
    os.kill(parent_of(pids[rank]) if shield else pids[rank], number)
    text, err = process.communicate(timeout=150)
    wait_for(lambda: not [pid for pid in pids.values() if rp.is_alive(pid)])
    return process.returncode, pids[rank], text + err


def logs(out):
    return "".join(path.read_text() for path in sorted((out / "logs").iterdir()))


@pytest.mark.parametrize("rank, number", [(2, signal.SIGKILL), (0, signal.SIGKILL), (2, signal.SIGSTOP)])
def test_a_lost_rank_is_named_in_the_run_folder(mpi, rank, number, spec, tmp_path):
    code, pid, said = killed(under(mpi, 4), tmp_path / "run", spec, rank, number)
    assert code not in (0, 124), said
    assert re.search(r"rank 0 \(.*\) is lost" if rank == 0 else rf"process {pid}\) is lost", logs(tmp_path / "run")), said
    if rank != 0:
        manifest = rp.manifest(tmp_path / "run")
        assert manifest["exit_code"] == 21 and f"process {pid}) is lost" in manifest["error"], (manifest["error"], said)


def test_the_launcher_kills_at_once(mpi, spec, tmp_path):
    """Its own process is killed: perhaps nobody comes to say why, but all end, and `show` says that the run is lost."""
    code, _, said = killed(under(mpi, 4), tmp_path / "run", spec, 2, shield=True)
    assert code not in (0, 124), said
    out, _ = rp.call("show", tmp_path / "run")
    assert "lost" in out or "failed" in out


def test_a_request_to_stop(mpi, spec, gloo, tmp_path):
    """To what the launcher started: it hands it on, all save and stop, and the same command goes on to the same bits."""
    process = start(under(mpi, 4), tmp_path / "run", spec, *rp.ENDLESS)
    digests = tmp_path / "run" / "digests.jsonl"
    wait_for(lambda: process.poll() is not None or digests.exists() and digests.read_text().count("\n") > 5)
    os.kill(parent_of(ranks_of(tmp_path / "run")[1]), signal.SIGTERM)
    _, err = process.communicate(timeout=150)
    assert rp.manifest(tmp_path / "run")["status"] == "stopped", err


# ---- Slurm ---------------------------------------------------------------------------------------------------

CLUSTER = pathlib.Path(__file__).parents[1] / "launch" / "cluster.sh"
PATH = os.environ["PATH"] + ":/usr/sbin:/sbin"


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    missing = [tool for tool in ("munged", "slurmctld", "slurmd", "srun") if not shutil.which(tool, path=PATH)]
    if missing or os.getuid() != 0:
        pytest.skip(f"no Slurm here: {', '.join(missing) or 'its daemons need root'}")
    state = tmp_path_factory.mktemp("slurm")
    # Not the ports of the cluster that another test may have at the same time.
    env = {**os.environ, "CLUSTER_PORT": str(random.randrange(17000, 19000))}
    started = subprocess.run([CLUSTER, "start", state], capture_output=True, text=True, timeout=100, env=env)
    if started.returncode:
        pytest.fail(started.stderr)
    yield {"SLURM_CONF": started.stdout.strip(), "PATH": PATH, "REPRISE_ADDRESS": "127.0.0.1",
           "REPRISE_PORT": str(random.randrange(20000, 32000))}
    subprocess.run([CLUSTER, "stop", state], timeout=100, check=True, env=env)


SRUN = ["srun", "--partition=batch", "-N1", "-n4", "--overcommit"]


def srun(mpi):
    return [*SRUN, "--mpi=" + {"mpich": "pmi2", "openmpi": "pmix"}[mpi]]


def test_equal_bits_under_slurm(mpi, slurm, spec, gloo, tmp_path):
    assert run(srun(mpi), tmp_path / "run", spec, env=slurm)["digests"]["final"] == gloo


def test_srun_without_mpi(mpi, slurm, spec, tmp_path):
    only(mpi, tmp_path)
    err = run([*SRUN, "--mpi=none"], tmp_path / "run", spec, expect=2,
              env={**slurm, "REPRISE_MODULES": str(tmp_path / "modules")})
    assert f"Slurm started 4 ranks, but {NAMES[mpi]}" in err and "a world of 1" in err and "--mpi=pmi" in err


def test_a_dead_rank_under_slurm(mpi, slurm, spec, tmp_path):
    code, pid, said = killed(srun(mpi), tmp_path / "run", spec, 2, env=slurm)
    assert code not in (0, 124), said
    assert f"process {pid}) is lost" in logs(tmp_path / "run"), said
