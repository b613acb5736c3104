"""The promise: equal final digests whatever the place, and another digest when anything numeric differs."""
import os
import shutil

import pytest

import reprise as rp


@pytest.fixture(scope="module", params=list(rp.MODELS))
def model(request, tmp_path_factory):
    """A model's spec, its folder, and the digest of a plain run."""
    folder = tmp_path_factory.mktemp(request.param)
    spec = rp.write(folder, rp.MODELS[request.param])
    return request.param, folder, spec, rp.run(spec, folder / "plain")


def test_rerun_is_equal(model):
    _, folder, _, final = model
    result = rp.call_json("rerun", folder / "plain", "--out", folder / "again")
    assert result["equal"] is True and result["digests"]["final"] == final


@pytest.mark.parametrize("threads", [1, 2, 7])
def test_threads(model, threads, tmp_path):
    _, _, spec, final = model
    assert rp.run(spec, tmp_path / "run", "--set", f"resources.threads={threads}") == final


def test_micro_batches(model, tmp_path):
    name, _, spec, final = model
    legal = {"mlp": [64, 32, 16, 8, 4, 2, 1], "lenet": [48, 24, 12, 6, 3, 2, 1], "resnet": [32, 16, 8]}[name]
    for micro in legal:
        assert rp.run(spec, tmp_path / str(micro), "--set", f"train.micro_batch={micro}") == final, micro


def test_instruction_sets(model, tmp_path):
    _, _, spec, final = model
    for path in ["avx2", "avx512", "wide", "neon", "scalar"]:
        process = rp.start("run", spec, "--out", tmp_path / path, "--json", env={"REPRISE_CPU_PATH": path})
        out, err = process.communicate()
        if process.returncode == 3 and path in err and path not in ("scalar",):
            continue
        assert process.returncode == 0, err
        assert final in out, path


def test_policy_and_place_cannot_change_a_bit(model, tmp_path):
    _, _, spec, final = model
    settings = ["eval.every=2 steps", "checkpoint.every=1 step", "checkpoint.keep.last=1", "log.every=1 step", "resources.device=cpu"]
    for i, setting in enumerate(settings):
        assert rp.run(spec, tmp_path / str(i), "--set", setting) == final, setting


def test_another_folder_locale_and_time_zone(model, tmp_path):
    _, _, spec, final = model
    elsewhere = tmp_path / "else where"
    elsewhere.mkdir()
    shutil.copy(spec, elsewhere / "other.yaml")
    env = {"LC_ALL": "de_DE.UTF-8", "LANG": "tr_TR.UTF-8", "TZ": "Pacific/Kiritimati", "HOME": "/nonexistent", "OMP_NUM_THREADS": "1"}
    assert rp.run("other.yaml", "run", cwd=elsewhere, env=env) == final


@pytest.mark.parametrize("setting", ["seed=8888", "train.shards=2", "train.optimizer.lr=0.0011", "data.train.samples=641"])
def test_control_numeric_keys_change_the_digest(model, setting, tmp_path):
    name, _, spec, final = model
    if name == "lenet" and setting == "train.shards=2":
        setting = "train.shards=4"
    assert rp.run(spec, tmp_path / "run", "--set", setting) != final


def test_control_swapped_additions_differ(tmp_path):
    """Another number of shards is another order of the same additions: the loss agrees closely, not the bits."""
    spec = rp.write(tmp_path, rp.DIGITS_MLP)
    a, b = rp.run(spec, tmp_path / "a"), rp.run(spec, tmp_path / "b", "--set", "train.shards=1")
    assert a != b
    losses = [rp.metric_lines(tmp_path / run)[0]["metrics"]["loss"] for run in "ab"]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_a_second_run_says_finished(model):
    _, folder, spec, final = model
    before = sorted((p, p.stat().st_mtime_ns) for p in (folder / "plain").rglob("*"))
    _, err = rp.call("run", spec, "--out", folder / "plain")
    assert "finished already" in err
    assert rp.call_json("run", spec, "--out", folder / "plain")["digests"]["final"] == final
    assert before == sorted((p, p.stat().st_mtime_ns) for p in (folder / "plain").rglob("*"))


def test_another_spec_in_the_folder_is_refused(model):
    _, folder, spec, _ = model
    _, err = rp.call("run", spec, "--out", folder / "plain", "--set", "train.optimizer.lr=0.5", expect=2)
    assert "train.optimizer.lr" in err and "0.5" in err and "--fresh" in err and "init_from" in err
    assert os.path.exists(folder / "plain" / "manifest.json")
