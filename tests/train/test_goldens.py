"""The kept jobs give the digests of specs/digests.json and learn what they must; the long one wholly with $REPRISE_LONG."""
import json
import os

import pytest

import reprise as rp

GOLDENS = json.loads((rp.SOURCE / "specs" / "digests.json").read_text())["jobs"]
LOSS = {"shakespeare-char-cpu": 1.75, "answers-jsonl": 0.25}
ACCURACY = {"digits-lenet": 0.97, "digits-mlp": 0.95, "spirals-mlp": 0.9, "table-csv": 0.8, "images-mix": 0.9, "mnist-lenet": 0.98}


LONG = os.environ.get("REPRISE_LONG")


@pytest.mark.parametrize("job", list(GOLDENS))
def test_job(job, tmp_path):
    """The whole job; of one that is too long for scripts/test the first steps, and of one too long for a CPU a smaller batch."""
    want, spec, more = GOLDENS[job], rp.SOURCE / "specs" / f"{job}.yaml", rp.data_for(job, tmp_path)
    if more is None:
        pytest.skip("its data is not in ../shared/data")
    first = "first_steps" in want and not (LONG and "final" in want)
    if first:
        more += [word for setting in rp.first_steps(want) for word in ("--set", setting)]
    assert rp.run(spec, tmp_path / "run", *more) == want["final_of_first_steps" if first else "final"]
    if first:
        return
    last = [line["metrics"] for line in rp.metric_lines(tmp_path / "run") if line["split"] == "valid"][-1]
    assert last.get("accuracy", 1) >= ACCURACY.get(job, 0)
    assert last["loss"] <= LOSS.get(job, 1e9)


def test_control_another_seed(tmp_path):
    assert rp.run(rp.SOURCE / "specs" / "digits-mlp.yaml", tmp_path / "run", "--set", "seed=999") != GOLDENS["digits-mlp"]["final"]
