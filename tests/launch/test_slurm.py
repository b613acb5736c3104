"""What `launch --on slurm` writes, on a real Slurm: it completes, comes back with the same bits after a request to
stop, a preemption and a killed rank, and stays away after scancel. Two nodes on the loopback (cluster.sh)."""
import os
import pathlib
import re
import shutil
import signal
import subprocess
import time

import pytest

import reprise as rp

CLUSTER = pathlib.Path(__file__).with_name("cluster.sh")
PATH = os.environ["PATH"] + ":/usr/sbin:/sbin"
SITE = """slurm:
  partition: batch
  time: "00:10:00"
  ranks_per_node: 2
  before:
    - export REPRISE_ADDRESS=127.0.0.1   # the names of the nodes lead nowhere here
    - export REPRISE_PORT=$((PORT + SLURM_JOB_ID))   # the first jobs of two clusters would take the same
    - export OMP_NUM_THREADS=1
""".replace("PORT +", f"{21000 + os.getpid() % 10000} +")
if rp.SLOW:  # whatever the machine: 40 steps a second, so that a job is there when something happens to it
    SITE += "    - export " + " ".join(f"{name}={value}" for name, value in rp.slowly(100).items()) + "\n"
SPEC = rp.DIGITS_MLP.replace("4 epochs", "300 steps").replace("every: 1 epoch", "every: 100 steps").replace(
    "every: 5 steps", "every: 20 steps").replace("every: 3 steps", "every: 4 steps")
MISSING = [tool for tool in ("munged", "slurmctld", "slurmd", "sbatch") if not shutil.which(tool, path=PATH)]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    if MISSING:
        pytest.skip(f"no {', '.join(MISSING)} here (Debian: slurm-wlm slurm-wlm-basic-plugins munge)")
    if os.getuid() != 0:
        pytest.skip("the daemons of Slurm need root")
    if not (pathlib.Path(rp.PROGRAM).parent / "reprise_gloo.so").exists():
        pytest.skip("this build has no module reprise_gloo")
    state = tmp_path_factory.mktemp("slurm")
    started = subprocess.run([CLUSTER, "start", state], capture_output=True, text=True, timeout=100)
    if started.returncode:
        pytest.fail(started.stderr)
    yield {"SLURM_CONF": started.stdout.strip(), "PATH": PATH}
    subprocess.run([CLUSTER, "stop", state], timeout=100, check=True)


@pytest.fixture(scope="module", autouse=True)
def limited(cluster, tmp_path_factory):
    """A job with a limit of one minute: it is looked at when the others are done."""
    return Job(cluster, tmp_path_factory.mktemp("limited"), "--time", "1:00", spec=SPEC.replace("300 steps", "10M steps"), ranks=1)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    return rp.run(rp.write(folder, SPEC), folder / "run")


class Job:
    """A submitted job, and what Slurm says of it."""

    def __init__(self, cluster, folder, *args, spec=SPEC, ranks=4):
        self.env, self.folder = cluster, folder
        rp.write(folder, SITE, "site.yaml")
        result, out = rp.call("launch", rp.write(folder, spec), "--on", "slurm", "--site", folder / "site.yaml", "--submit",
                              "--set", f"resources.ranks={ranks}", *args, cwd=folder, env={**cluster, "REPRISE_RUNS": "runs"})
        self.id = re.search(r"Submitted batch job (\d+)", result)[1]
        self.runs = sorted((folder / "runs").glob("*"))

    @property
    def run(self):
        self.wait(lambda: list((self.folder / "runs").glob("*")))
        return next((self.folder / "runs").iterdir())

    def runs_of(self, n):
        """The run folders of an array, when each has begun."""
        self.wait(lambda: len(list(self.folder.glob("runs/*/logs/slurm-*.txt"))) == n)
        return list((self.folder / "runs").iterdir())

    def tool(self, *args):
        return subprocess.run(args, env={**os.environ, **self.env}, capture_output=True, text=True, timeout=30).stdout

    def fact(self, name):
        found = re.search(rf"\b{name}=(\S+)", self.tool("scontrol", "-o", "show", "job", self.id))
        return found[1] if found else ""

    def log(self):
        return "".join(path.read_text() for path in self.folder.glob("runs/*/logs/slurm-*.txt"))

    def wait(self, condition, seconds=200):
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, self.tool("scontrol", "show", "job", self.id) + self.log()
            time.sleep(0.05)

    def wait_for_steps(self, n):
        self.wait(lambda: self.folder.glob("runs/*/digests.jsonl") and sum(
            path.read_text().count("\n") for path in self.folder.glob("runs/*/digests.jsonl")) >= n)

    def wait_for_end(self):
        """A preempted job passes through states that are no end."""
        seen = []
        self.wait(lambda: seen.append(self.fact("JobState")) or seen[-1] in ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL"))
        return seen[-1]

    def finished_with(self, digest):
        assert self.wait_for_end() == "COMPLETED", self.log()
        assert rp.manifest(self.run)["digests"]["final"] == digest
        return True


def test_completes(cluster, undisturbed, tmp_path):
    job = Job(cluster, tmp_path)
    assert job.finished_with(undisturbed) and job.fact("Restarts") == "0"
    assert job.fact("NumNodes") == "2" and job.fact("NumTasks") == "4"
    assert {segment["ranks"] for segment in rp.manifest(job.run)["segments"]} == {4}
    assert "launch: srun ended with 0, the run with 0" in job.log()


def test_asked_to_stop_it_comes_back(cluster, undisturbed, tmp_path):
    """The signal of --signal=B:USR1: to the batch shell alone."""
    job = Job(cluster, tmp_path)
    job.wait_for_steps(60)
    job.tool("scancel", "--signal=USR1", "--batch", job.id)
    assert job.finished_with(undisturbed) and job.fact("Restarts") == "1"
    log = job.log()
    assert "the run with 20\nlaunch: requeued\n" in log and log.count("launch: srun ended") == 2
    assert len(rp.manifest(job.run)["segments"]) == 2


def rank_of(job, rank):
    for folder in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            variables = (folder / "environ").read_bytes().split(b"\0")
            if (folder / "comm").read_text() == "reprise\n" and f"SLURM_JOB_ID={job.id}".encode() in variables and \
                    f"SLURM_PROCID={rank}".encode() in variables:
                return int(folder.name)
        except OSError:
            continue
    raise AssertionError(f"no rank {rank}")


def test_a_killed_rank_ends_the_job_and_it_comes_back(cluster, undisturbed, tmp_path):
    job = Job(cluster, tmp_path)
    job.wait_for_steps(60)
    os.kill(rank_of(job, 2), signal.SIGKILL)
    job.wait(lambda: "launch: srun ended" in job.log())
    assert "the run with 21\nlaunch: requeued\n" in job.log() and "rank 2 (" in job.log()
    assert job.finished_with(undisturbed) and job.fact("Restarts") == "1"


def test_cancelled_it_has_saved_and_stays_away(cluster, tmp_path):
    job = Job(cluster, tmp_path, spec=SPEC.replace("300 steps", "1M steps"))
    job.wait_for_steps(60)
    job.tool("scancel", job.id)
    assert job.wait_for_end() == "CANCELLED"
    job.wait(lambda: "not requeued" in job.log())
    manifest = rp.manifest(job.run)
    assert manifest["status"] == "stopped" and manifest["exit_code"] == 20
    time.sleep(6)  # longer than a requeued job would wait
    assert job.fact("JobState") == "CANCELLED" and job.fact("Restarts") == "0"


def test_a_mistake_is_not_tried_again(cluster, tmp_path):
    """Control: only 20 to 24 come back."""
    job = Job(cluster, tmp_path, "--set", "train.optimizer.lr=1e6")
    assert job.wait_for_end() == "FAILED" and job.fact("ExitCode") == "6:0" and job.fact("Restarts") == "0"


def test_an_array(cluster, tmp_path):
    short = SPEC.replace("300 steps", "20 steps")
    job = Job(cluster, tmp_path, "--sweep", "seed=1..3", spec=short, ranks=1)
    job.wait(lambda: len([1 for path in tmp_path.glob("runs/*/manifest.json") if '"status": "finished"' in path.read_text()]) == 3)
    finals = {rp.manifest(run)["digests"]["final"] for run in (tmp_path / "runs").iterdir()}
    assert len(finals) == 3
    assert rp.run(tmp_path / "job.yaml", tmp_path / "alone", "--set", "seed=2") in finals
    assert all(list(run.glob("logs/slurm-*.txt")) for run in (tmp_path / "runs").iterdir())


def test_a_member_asked_to_stop_comes_back_alone(cluster, tmp_path):
    """The last one, whose number is that of the whole array: the others go on, and one that is done stays done."""
    job = Job(cluster, tmp_path, "--sweep", "seed=1..3", spec=SPEC.replace("300 steps", "400 steps"), ranks=1)
    last = next(run for run in job.runs_of(3) if list(run.glob(f"logs/slurm-{job.id}.txt")))
    job.wait(lambda: (last / "digests.jsonl").exists() and (last / "digests.jsonl").read_text().count("\n") > 60)
    job.tool("scancel", "--signal=USR1", "--batch", f"{job.id}_2")
    job.wait(lambda: len([1 for path in tmp_path.glob("runs/*/manifest.json") if '"status": "finished"' in path.read_text()]) == 3)
    segments = {run.name: len(rp.manifest(run)["segments"]) for run in (tmp_path / "runs").iterdir()}
    assert sorted(segments.values()) == [1, 1, 2] and segments[last.name] == 2, segments


def test_hostile_folder(cluster, tmp_path):
    """What sbatch reads of a name: quotes, patterns, comments."""
    folder = tmp_path / "it's \"%j\" #1 $(touch x) ü -n"
    folder.mkdir()
    job = Job(cluster, folder, spec=SPEC.replace("300 steps", "10 steps"), ranks=1)
    assert job.wait_for_end() == "COMPLETED", job.log()
    assert rp.manifest(job.run)["status"] == "finished" and not list(folder.rglob("x"))
    assert list(folder.glob(f"launch/*/slurm-{job.id}.txt"))


def test_out_of_time_it_comes_back(limited):
    """Slurm's own signal before the limit, which comes to the batch shell alone, when its sweep comes by."""
    job = limited
    job.wait(lambda: "launch: requeued" in job.log(), 200)
    job.wait(lambda: len(rp.manifest(job.run)["segments"]) >= 2)
    assert "the run with 20\nlaunch: requeued\n" in job.log() and "CANCELLED" not in job.log()
    first, second = rp.manifest(job.run)["segments"][:2]
    assert second["step_first"] == first["step_last"] > 0
    job.tool("scancel", job.id)
    assert job.wait_for_end() == "CANCELLED"


def test_preempted_it_comes_back(cluster, tmp_path):
    """Also ten seconds later and more: so long Slurm may take to see who is more urgent."""
    longer = SPEC.replace("300 steps", "800 steps")
    undisturbed = rp.run(rp.write(tmp_path, longer), tmp_path / "undisturbed")
    job = Job(cluster, tmp_path, spec=longer)
    job.wait_for_steps(60)
    job.tool("sbatch", "--partition=urgent", "--nodes=2", "--ntasks-per-node=4", "--output=/dev/null", "--wrap=true")
    assert job.finished_with(undisturbed) and job.fact("Restarts") == "1"
    assert "the run with 20\nlaunch: requeued\n" in job.log()
