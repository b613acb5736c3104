"""Ranks on simulated GPUs, their bytes moved by a stand-in for NCCL (tests/cuda/sim_nccl.c): the bits of the CPU, and a
clear error for every GPU or library that is not there. tests/gpu/ranks.py asks more, of real GPUs too."""
import os
import pathlib
import re
import subprocess
import sys

import pytest

import reprise as rp
from ranks.test_ranks import free_port, launch, torchrun

SIM = os.environ.get("REPRISE_SIM", "")
ENV = {"REPRISE_MODULES": SIM, "REPRISE_NCCL": f"{SIM}/libnccl.so.2", "RP_SIM_DEVICES": "4", "OMP_NUM_THREADS": "1"}
GPU = ["--set", "resources.device=cuda"]
SPEC = rp.DIGITS_MLP.replace("for: 4 epochs", "for: 8 steps")
pytestmark = pytest.mark.skipif(not SIM, reason="this build has no simulated device")


@pytest.fixture(scope="module")
def spec(tmp_path_factory):
    return rp.write(tmp_path_factory.mktemp("spec"), SPEC)


@pytest.fixture(scope="module")
def cpu(spec, tmp_path_factory):
    return rp.run(spec, tmp_path_factory.mktemp("cpu") / "run", "--set", "resources.device=cpu")


def ranks(n):
    return [*GPU, "--set", f"resources.ranks={n}"]


def refused(spec, out, *args, code=3, **env):
    _, err = rp.call("run", spec, "--out", out, *args, env={**ENV, **env}, expect=code)
    return err


def test_one_gpu_that_all_share(tmp_path):
    """Models, several passes, no graphs, numbers of ranks that change, lost ranks."""
    script = pathlib.Path(__file__).parents[1] / "gpu" / "ranks.py"
    done = subprocess.run([sys.executable, script], env={**os.environ, **ENV, "RP_SIM_DEVICES": "1"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("seed", ["0", "1", "7"])
def test_equal_bits(seed, spec, cpu, tmp_path):
    """A GPU for each rank; work done as late as it may be, at once, and in between."""
    for n in (2, 4):
        assert rp.run(spec, tmp_path / str(n), *ranks(n), env={**ENV, "RP_SIM_SEED": seed}) == cpu, n


EACH = {"REPRISE_BUCKET_BYTES": "1"}  # a bucket for each parameter: exchanges begin at every turn of backward
COMPUTES, BESIDE = 1, 4  # streams of the device, numbered as they are made


@pytest.mark.parametrize("seed", ["0", "1", "7"])
def test_equal_bits_beside_backward(seed, spec, cpu, tmp_path):
    """Gradients leave on the second stream; a step in graphs, kernel by kernel, of several passes; and not beside it."""
    env = {**ENV, **EACH, "RP_SIM_SEED": seed}
    micro = ["--set", "train.micro_batch=4"]
    ways = {"graphs": (2, [], {}), "kernels": (2, ["--no-graph"], {}), "passes": (4, micro, {}), "off": (2, [], {"REPRISE_OVERLAP": "0"})}
    for out, (n, args, more) in ways.items():
        assert rp.run(spec, tmp_path / out, *ranks(n), *args, env={**env, **more}) == cpu, out


def test_control_a_bucket_that_does_not_wait_for_its_gradients(spec, cpu, tmp_path):
    """The second stream is deaf to the first: as late as may be, buckets leave before backward has made them, and the ranks find that
    they have other sums."""
    env = {**ENV, **EACH, "RP_SIM_SEED": "0", "RP_SIM_DEAF": f"{COMPUTES}:{BESIDE}"}
    process = rp.start("run", spec, "--out", tmp_path / "run", *ranks(2), "--json", env=env)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 23 and "has other sums than rank 0 after step 1" in err, (process.returncode, out, err)
    env["RP_SIM_DEAF"] = f"{COMPUTES}:{BESIDE + 1}"  # there is none
    assert rp.run(spec, tmp_path / "other", *ranks(2), env=env) == cpu


def test_an_overlap_that_is_no_number(spec, tmp_path):
    assert 'REPRISE_OVERLAP is "off"' in refused(spec, tmp_path / "run", *ranks(2), code=2, REPRISE_OVERLAP="off")


def test_a_rank_for_each_gpu(spec, cpu, tmp_path):
    assert rp.run(spec, tmp_path / "run", *GPU, env={**ENV, "RP_SIM_DEVICES": "3"}) == cpu
    segment = rp.manifest(tmp_path / "run")["segments"][0]
    assert segment["ranks"] == 2 and segment["comm"] == "reprise_nccl, NCCL 2.28.9"


def test_a_trial_a_replay_and_weights_from_rank_0(spec, cpu, tmp_path):
    """As many ranks as there are GPUs, counted before any process opens one; states and averages that rank 0 has read."""
    three = {**ENV, "RP_SIM_DEVICES": "3"}
    told = rp.call_json("run", spec, "--try", "--out", tmp_path / "a", *GPU, env=three)
    assert told["ranks"] == 2 and told["steps_compared"] == 1
    rp.run(spec, tmp_path / "a", "--set", "resources.device=cpu", "--set", "checkpoint.every=3 steps")
    assert rp.call_json("rerun", tmp_path / "a", "--steps", "5:7", *ranks(4), env=ENV)["compared"] == 3
    text = spec.read_text().replace("model: {", f"model: {{init_from: {{run: {tmp_path / 'a'}, load: all}}, ")
    begun = rp.write(tmp_path, text, "begun.yaml")
    assert rp.run(begun, tmp_path / "b", *ranks(4), env=ENV) == rp.run(begun, tmp_path / "c", "--set", "resources.device=cpu") != cpu


def test_without_nccl_one_of_two_gpus(spec, cpu, tmp_path):
    process = rp.start("run", spec, "--out", tmp_path / "run", *GPU, "--json", env={**ENV, "RP_SIM_DEVICES": "2", "REPRISE_NCCL": "/no/lib"})
    out, err = process.communicate()
    assert process.returncode == 0 and cpu in out and "2 GPUs are here and one is used" in err and "/no/lib" in err


def test_gpus_that_are_not_there(spec, tmp_path):
    assert "GPU number 2 was asked for and 2 are visible" in refused(spec, tmp_path / "run", *ranks(4), RP_SIM_DEVICES="2")
    assert "are both on the GPU" in refused(spec, tmp_path / "run", *ranks(2), RP_SIM_DEVICES="1")


def test_libraries_that_are_not_there(spec, tmp_path):
    err = refused(spec, tmp_path / "run", *ranks(2), REPRISE_NCCL="/no/libnccl.so.2")
    assert "looked for /no/libnccl.so.2" in err and "libnccl2" in err
    assert "is NCCL 2.8.4: version 2.14 is the least" in refused(spec, tmp_path / "run", *ranks(2), RP_SIM_NCCL_VERSION="20804")
    assert "is NCCL ?, without nccl" in refused(spec, tmp_path / "run", *ranks(2), REPRISE_NCCL="libz.so.1")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("group", ["9", "20", "21", "22", "33"])
def test_an_error_of_nccl_ends_the_run(group, spec, tmp_path):
    """Wherever it comes: in a call, beside backward or beside the updates."""
    err = refused(spec, tmp_path / "run", *ranks(2), code=21, RP_SIM_NCCL_FAIL=group, **EACH)
    assert "NCCL, all-" in err and "remote process exited" in err and "RP_SIM_NCCL_FAIL says so; NCCL_DEBUG=INFO tells more" in err
    assert rp.manifest(tmp_path / "run")["exit_code"] == 21


def test_an_error_of_cuda_points_at_what_ranks_see(spec, tmp_path):
    """NCCL's first contact where Slurm lets each task see its own GPU alone: it has no word for it."""
    err = refused(spec, tmp_path / "run", *ranks(2), code=21, RP_SIM_NCCL_FAIL="1", RP_SIM_NCCL_CODE="1")
    assert "sees one GPU alone (srun --gpus-per-task), let it see all" in err


def test_an_error_of_one_rank_ends_all(spec, tmp_path):
    """The other one has bytes on the way by then, which nobody takes."""
    port = free_port()
    codes, results = launch(spec, tmp_path / "run", 2, lambda r: {
        **torchrun(port, 2)(r), **ENV, **EACH, "RP_SIM_NCCL_FAIL": ("", "21")[r]}, *GPU)
    assert codes == [21, 21], results
    assert "RP_SIM_NCCL_FAIL says so" in results[1][1] and "rank 1 (" in results[0][1], results


def test_hosts_that_only_the_control_channel_connects(spec, tmp_path):
    """All are heard, and NCCL waits for ever: a firewall lets nothing through but rank 0's port."""
    err = refused(spec, tmp_path / "run", *ranks(2), "--set", "resources.timeout.step=1 s", code=22, REPRISE_WAIT="1", RP_SIM_NCCL_CUT="1")
    assert re.search(r"rank [01] \(\S+, process \d+\) does not come into connection with the others, though all are heard: .*NCCL_SOCKET_IFNAME"
                     r".* at step 0, in connect; the others wait in connect: [01]", err), err


def test_comm_and_device_that_do_not_fit(spec, tmp_path):
    err = refused(spec, tmp_path / "run", *ranks(2), "--set", "resources.comm=gloo", code=2)
    assert "`comm: gloo` moves bytes between CPUs, and `device` is `cuda`" in err
    err = refused(spec, tmp_path / "run", "--set", "resources.ranks=2", "--set", "resources.comm=nccl", code=2, RP_SIM_DEVICES="0")
    assert "resources.comm is nccl" in err and "the device is cpu" in err
