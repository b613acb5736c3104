"""A rank whose sums are not those of the others: all end with 23 at that step, and the run goes on elsewhere."""
import os

import pytest

import reprise as rp
from test_ranks import ENV, ended, free_port, ranks, torchrun

FLIP = os.environ.get("FLIP_VOTE_MODULE")
pytestmark = pytest.mark.skipif(not FLIP, reason="this build has no bits to turn (tests/tools/flip_vote.c)")


def run_with_a_turned_bit(spec, run, step):
    """Four ranks, of which rank 2 says one wrong bit after a step; exit codes and what each said."""
    variables = torchrun(free_port(), 4)
    wrong = {"LD_PRELOAD": FLIP, "FLIP_VOTE": str(step)}
    processes = [rp.start("run", spec, "--out", run, env={**ENV, **variables(r), **(wrong if r == 2 else {})}) for r in range(4)]
    results = [ended(process, 100) for process in processes]
    return [code for code, _ in results], [err for _, err in results]


def test_other_sums_end_all(tmp_path):
    spec, run = rp.write(tmp_path, rp.DIGITS_MLP), tmp_path / "run"
    want = rp.run(spec, tmp_path / "plain", env=ENV)
    codes, errors = run_with_a_turned_bit(spec, run, 7)
    assert codes == [23] * 4, (codes, errors)
    assert "rank 2 (" in errors[0] and "has other sums than rank 0 after step 7" in errors[0], errors
    manifest = rp.manifest(run)
    assert (manifest["status"], manifest["exit_code"]) == ("failed", 23)
    assert [line["step"] for line in rp.digest_lines(run)] == list(range(1, 7))  # nothing is recorded of that step
    assert rp.run(spec, run, *ranks(4), env=ENV) == want


def test_control_a_bit_of_no_step(tmp_path):
    spec = rp.write(tmp_path, rp.DIGITS_MLP)
    codes, errors = run_with_a_turned_bit(spec, tmp_path / "run", 1000000)
    assert codes == [0] * 4, (codes, errors)
    assert rp.manifest(tmp_path / "run")["status"] == "finished"
