"""The first steps of the kept jobs give the digests of specs/digests.json; with $REPRISE_LONG whole jobs do, and learn what they must."""
import json
import os

import pytest

import reprise as rp

GOLDENS = json.loads((rp.SOURCE / "specs" / "digests.json").read_text())["jobs"]
ACCURACY = {"digits-lenet": 0.97, "digits-mlp": 0.95, "spirals-mlp": 0.9, "table-csv": 0.8, "mnist-lenet": 0.98}


def data_of(job):
    if job != "mnist-lenet":
        return []
    if not rp.SHARED.exists():
        pytest.skip("MNIST's 10,000 test images are not in ../shared/data")
    return ["--data", rp.SHARED]


@pytest.mark.parametrize("job", list(GOLDENS))
def test_first_steps(job, tmp_path):
    want, spec = GOLDENS[job], rp.SOURCE / "specs" / f"{job}.yaml"
    steps = f"train.for={want['first_steps']} steps"
    assert rp.run(spec, tmp_path / "run", "--set", steps, *data_of(job)) == want["final_of_first_steps"]
    assert rp.run(spec, tmp_path / "control", "--set", steps, "--set", "seed=999", *data_of(job)) != want["final_of_first_steps"]


@pytest.mark.skipif(not os.environ.get("REPRISE_LONG"), reason="whole jobs: scripts/test --long")
@pytest.mark.parametrize("job", list(GOLDENS))
def test_whole_jobs(job, tmp_path):
    spec = rp.SOURCE / "specs" / f"{job}.yaml"
    assert rp.run(spec, tmp_path / "run", *data_of(job)) == GOLDENS[job]["final"]
    last = [line["metrics"] for line in rp.metric_lines(tmp_path / "run") if line["split"] == "valid"][-1]
    assert last.get("accuracy", 1) >= ACCURACY.get(job, 0)
