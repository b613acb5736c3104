"""The kept jobs give the digests of specs/digests.json and learn what they must; the long one wholly with $REPRISE_LONG."""
import json
import os

import pytest

import reprise as rp

GOLDENS = json.loads((rp.SOURCE / "specs" / "digests.json").read_text())["jobs"]
ACCURACY = {"digits-lenet": 0.97, "digits-mlp": 0.95, "spirals-mlp": 0.9, "table-csv": 0.8, "images-mix": 0.9, "mnist-lenet": 0.98}


def data_of(job):
    if job != "mnist-lenet":
        return []
    if not rp.SHARED.exists():
        pytest.skip("MNIST's 10,000 test images are not in ../shared/data")
    return ["--data", rp.SHARED]


LONG = os.environ.get("REPRISE_LONG")


@pytest.mark.parametrize("job", list(GOLDENS))
def test_job(job, tmp_path):
    """The whole job; of one that is too long for scripts/test the first steps."""
    want, spec, more = GOLDENS[job], rp.SOURCE / "specs" / f"{job}.yaml", data_of(job)
    final = want["final"]
    if "first_steps" in want and not LONG:
        more += ["--set", f"train.for={want['first_steps']} steps"]
        final = want["final_of_first_steps"]
    assert rp.run(spec, tmp_path / "run", *more) == final
    if "first_steps" in want and not LONG:
        return
    last = [line["metrics"] for line in rp.metric_lines(tmp_path / "run") if line["split"] == "valid"][-1]
    assert last.get("accuracy", 1) >= ACCURACY.get(job, 0)


def test_control_another_seed(tmp_path):
    assert rp.run(rp.SOURCE / "specs" / "digits-mlp.yaml", tmp_path / "run", "--set", "seed=999") != GOLDENS["digits-mlp"]["final"]
