"""A rank whose sums are not those of the others: all end with 23 at that step, and the run goes on elsewhere."""
import hashlib
import json
import os
import shutil
import struct

import pytest

import reprise as rp
from test_ranks import ENV, ended, free_port, ranks, torchrun

FLIP = os.environ.get("FLIP_VOTE_MODULE")
needs_flip = pytest.mark.skipif(not FLIP, reason="this build has no bits to turn (tests/tools/flip_vote.c)")


def run_with_a_turned_bit(spec, run, step):
    """Four ranks, of which rank 2 says one wrong bit after a step; exit codes and what each said."""
    variables = torchrun(free_port(), 4)
    wrong = {"LD_PRELOAD": FLIP, "FLIP_VOTE": str(step)}
    processes = [rp.start("run", spec, "--out", run, env={**ENV, **variables(r), **(wrong if r == 2 else {})}) for r in range(4)]
    results = [ended(process, 100) for process in processes]
    return [code for code, _ in results], [err for _, err in results]


@needs_flip
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


@needs_flip
def test_control_a_bit_of_no_step(tmp_path):
    spec = rp.write(tmp_path, rp.DIGITS_MLP)
    codes, errors = run_with_a_turned_bit(spec, tmp_path / "run", 1000000)
    assert codes == [0] * 4, (codes, errors)
    assert rp.manifest(tmp_path / "run")["status"] == "finished"


def forge(run, step):
    """The record of a step, and the chain from there on, say something else; the run goes on from step 25, as if it had been killed."""
    lines, chain = rp.digest_lines(run), None
    for line in lines:
        if line["step"] == step:
            line["params"] = f"{int(line['params'], 16) ^ 1:016x}"
        if line["step"] >= step:
            numbers = struct.pack("<QIQ", line["step"], int(line["loss"], 16), int(line["params"], 16))
            line["chain"] = hashlib.sha256(bytes.fromhex(chain) + numbers).hexdigest()
        chain = line["chain"]
    (run / "digests.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    for later in (30, 32):
        shutil.rmtree(run / f"checkpoints/step-{later:08d}")
    text = (run / "manifest.json").read_text()
    (run / "manifest.json").write_text(text.replace('"status": "finished"', '"status": "running"'))


@pytest.mark.parametrize("forged", [True, False])
def test_a_step_that_differs_from_the_record(forged, tmp_path):
    """Is told (7), with who computes it once more; control: a record that is as it was."""
    spec, run = rp.write(tmp_path, rp.DIGITS_MLP), tmp_path / "run"
    want = rp.run(spec, run, *ranks(2), env=ENV)
    forge(run, 27 if forged else 1000)
    before = (run / "digests.jsonl").read_bytes()
    if not forged:
        assert rp.run(spec, run, *ranks(2), env=ENV) == want
        return
    _, err = rp.call("run", spec, "--out", run, *ranks(2), env=ENV, expect=7)
    assert "step 27 computed again differs" in err and f"`reprise rerun {run} --steps 27:27`" in err and err.count("error:") == 1, err
    assert (run / "digests.jsonl").read_bytes() == before
    rp.call("rerun", run, "--steps", "27:27", env=ENV, expect=7)
    rp.call("rerun", run, "--steps", "26:26", env=ENV)
