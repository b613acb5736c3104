"""`resources.device` without a GPU: what is said of a missing, broken or empty-handed module. $REPRISE_SIM is the folder of
the simulated one, built with the tests."""
import os
import pathlib
import shutil

import pytest

import reprise as rp

SIM = os.environ.get("REPRISE_SIM", "")
needs_sim = pytest.mark.skipif(not SIM, reason="no simulated device: $REPRISE_SIM")
CUDA = ("--set", "resources.device=cuda", "--set", "train.for=5 steps")
AUTO = ("--set", "train.for=5 steps")


@pytest.fixture
def spec(tmp_path):
    return rp.write(tmp_path, rp.DIGITS_MLP)


def modules(folder, content=None):
    folder = folder / "modules"
    folder.mkdir()
    if content is not None:
        (folder / "reprise_cuda.so").write_bytes(content)
    return {"REPRISE_MODULES": str(folder)}


def refused(spec, out, env, *more, expect=3):
    _, err = rp.call("run", spec, "--out", out, *CUDA, *more, env=env, expect=expect)
    assert err.count("reprise: error:") == 1 and not out.exists(), err
    return err


def test_no_module(spec, tmp_path):
    env = modules(tmp_path)
    err = refused(spec, tmp_path / "run", env)
    assert env["REPRISE_MODULES"] in err and "reprise_cuda" in err and "device: cpu" in err
    _, err = rp.call("run", spec, "--out", tmp_path / "run", *AUTO, env=env)
    assert "auto" not in err  # a machine without the module is told nothing


def test_no_object(spec, tmp_path):
    env = modules(tmp_path, b"no object")
    assert "reprise_cuda" in refused(spec, tmp_path / "run", env)
    _, err = rp.call("run", spec, "--out", tmp_path / "run", *AUTO, env=env)
    assert err.count("device: auto") == 1 and "CPU" in err


def test_another_library(spec, tmp_path):
    env = modules(tmp_path)
    library = next(pathlib.Path("/lib").glob("*/libm.so.6"), None)
    if not library:
        pytest.skip("no library to take for a module")
    shutil.copy(library, tmp_path / "modules" / "reprise_cuda.so")
    assert "no module" in refused(spec, tmp_path / "run", env)


@needs_sim
def test_no_device(spec, tmp_path):
    env = {"REPRISE_MODULES": SIM, "RP_SIM_DEVICES": "0"}
    err = refused(spec, tmp_path / "run", env)
    assert "no usable NVIDIA GPU" in err and "CUDA_VISIBLE_DEVICES" in err and "device: cpu" in err
    plain = rp.run(spec, tmp_path / "plain", *AUTO, "--set", "resources.device=cpu")
    out, err = rp.call("run", spec, "--out", tmp_path / "run", *AUTO, env=env)
    assert err.count("device: auto") == 1 and plain in out


@needs_sim
def test_auto_takes_the_gpu(spec, tmp_path):
    rp.run(spec, tmp_path / "run", *AUTO, env={"REPRISE_MODULES": SIM})
    assert rp.manifest(tmp_path / "run")["environment"]["device"]["kind"] == "cuda"


@needs_sim
def test_out_of_memory(spec, tmp_path):
    """Predicted from the GPU's free memory, with the plan's table."""
    env = {"REPRISE_MODULES": SIM, "RP_SIM_MEMORY": str(300 << 10)}
    err = refused(spec, tmp_path / "run", env, expect=5)
    assert "the GPU gives" in err and "activations" in err and "in all, on the GPU of a rank" in err
    # The tensors would fit, and what the driver takes beside them does not.
    env["RP_SIM_MEMORY"] = str(200 << 20)
    assert "code, local memory" in refused(spec, tmp_path / "run", env, expect=5)
    rp.run(spec, tmp_path / "run", "--set", "resources.device=cuda", env=dict(env, RP_SIM_MEMORY=str(500 << 20)))


@needs_sim
def test_plan_counts_the_gpu(spec):
    here = rp.call_json("plan", spec)
    there = rp.call_json("plan", spec, "--set", "resources.device=cuda", env={"REPRISE_MODULES": SIM, "RP_SIM_DEVICES": "0"})
    assert here["device_memory_bytes"] == 0 < there["device_memory_bytes"]
    assert there["memory"]["parameters"] == here["memory"]["parameters"]
    taken = ["context of the driver, at most", "code, local memory, at most", "NCCL's buffers, at most"]
    assert not any(what in here["memory"] for what in taken) and sum(there["memory"].get(what, 0) for what in taken) == 1 << 30
    four = rp.call_json("plan", spec, "--set", "resources.device=cuda", "--set", "resources.ranks=4", env={"REPRISE_MODULES": SIM, "RP_SIM_DEVICES": "0"})
    assert four["memory"][taken[2]] > 1 << 30
    assert there["digests"]["numeric"] == here["digests"]["numeric"]


@needs_sim
def test_lock_and_env_name_the_gpu(spec, tmp_path):
    env = {"REPRISE_MODULES": SIM}
    device = rp.call_json("env", env=env)["environment"]["device"]
    assert device["kind"] == "cuda" and device["model"] == "simulated device" and device["processors"] > 0 and device["id"].startswith("GPU-")
    rp.call("lock", spec, "--set", "resources.device=cuda", env=env)
    locked = spec.read_text() + "environment: {lock: job.lock.json}\n"
    spec.write_text(locked)
    files = list(tmp_path.glob("*.lock.json"))
    assert len(files) == 1
    spec.write_text(locked.replace("job.lock.json", files[0].name))
    rp.run(spec, tmp_path / "there", *AUTO, env=env)
    rp.run(spec, tmp_path / "here", *AUTO, "--set", "resources.device=cpu")  # another device touches no bit at portable


def test_tiers_above_portable(spec, tmp_path):
    _, err = rp.call("run", spec, "--out", tmp_path / "run", *CUDA, "--set", "determinism=pinned", expect=3)
    assert "reprise_cudalib" in err and "portable" in err
