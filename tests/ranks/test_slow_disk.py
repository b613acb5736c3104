"""A disk that is slower than a step may be: the update waits until a large state has been read, and nobody is taken for stuck."""
import pytest

import reprise as rp


@pytest.mark.skipif(not rp.SLOW, reason="no slow disk here (tests/tools/slow_read.c)")
def test_a_save_takes_longer_than_timeout_step(tmp_path):
    body = rp.DIGITS_MLP.replace("[33, 20]", "[15000, 64]").replace("4 epochs", "3 steps").replace("every: 5 steps", "every: 2 steps").replace(
        "warmup: 4", "warmup: 1")
    spec = rp.write(tmp_path, body)
    args = ["--set", "resources.ranks=2", "--set", "resources.timeout.step=2 s"]
    assert "checkpoint copy" not in rp.call_json("plan", spec, *args)["memory"]  # it is written from where it lies
    slow = {"LD_PRELOAD": rp.SLOW, "SLOW_WRITE": "step-00000002", "SLOW_WRITE_MS": "24"}  # some 170 writes a rank
    final = rp.run(spec, tmp_path / "run", *args, env={**slow, "OMP_NUM_THREADS": "1"})
    longest = rp.manifest(tmp_path / "run")["segments"][0]["longest"]
    assert longest["save_seconds"] > 2.5, longest  # control: it did outlast timeout.step
    assert final == rp.run(spec, tmp_path / "one", env={"OMP_NUM_THREADS": "1"})
