"""run --against: a digest, a run or its digests.jsonl; equal ones pass, and the first different step is named."""
import json

import pytest

import reprise as rp


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A spec and a finished run of it."""
    folder = tmp_path_factory.mktemp("against")
    spec = rp.write(folder, rp.DIGITS_MLP)
    final = rp.run(spec, folder / "published")
    return folder, spec, folder / "published", final


def change(path, to, step):
    """A copy of digests.jsonl in which one step's digest, and so every chain from there on, is another."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for line in lines[step - 1:]:
        line["chain"] = line["chain"][::-1]
    lines[step - 1]["params"] = lines[step - 1]["params"][::-1]
    to.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return to


def test_equal_run_file_and_digest(made, tmp_path):
    _, spec, published, final = made
    steps = len(rp.digest_lines(published))
    for name, what, compared in [("run", published, steps), ("file", published / "digests.jsonl", steps), ("digest", final, 0)]:
        result = rp.call_json("run", spec, "--out", tmp_path / name, "--against", what)
        assert result["equal"] is True and result["compared"] == compared and result["against"] == str(what)
        assert result["digests"]["final"] == final
    out, _ = rp.call("run", spec, "--out", tmp_path / "people", "--against", published / "digests.jsonl")
    assert f"{steps} steps compared" in out and "all equal" in out
    _, err = rp.call("run", spec, "--out", tmp_path / "digest2", "--against", final)
    assert "compared at the end" in err


@pytest.mark.parametrize("step", [1, 7, 28])
def test_stops_at_the_first_different_step(made, tmp_path, step):
    folder, spec, published, _ = made
    other = change(published / "digests.jsonl", tmp_path / "other.jsonl", step)
    _, err = rp.call("run", spec, "--out", tmp_path / "run", "--against", other, expect=7)
    assert f"step {step} is the first that differs" in err
    assert len(rp.digest_lines(tmp_path / "run")) == step  # it stopped there
    assert rp.manifest(tmp_path / "run")["exit_code"] == 7


def test_another_seed_and_another_rate_differ(made, tmp_path):
    _, spec, published, final = made
    _, err = rp.call("run", spec, "--out", tmp_path / "seed", "--set", "seed=8", "--against", published, expect=7)
    assert "step 1 is the first that differs" in err
    rp.call("run", spec, "--out", tmp_path / "end", "--set", "seed=8", "--against", final, expect=7)
    assert rp.manifest(tmp_path / "end")["status"] == "finished"  # a digest is compared at the end only


def test_finished_and_resumed_runs_are_compared_too(made, tmp_path):
    _, spec, published, final = made
    other = change(published / "digests.jsonl", tmp_path / "other.jsonl", 3)
    rp.call("run", spec, "--out", published, "--against", published / "digests.jsonl")
    _, err = rp.call("run", spec, "--out", published, "--against", other, expect=7)
    assert "step 3 is the first that differs" in err
    rp.call("run", spec, "--out", published, "--against", final)
    _, err = rp.call("run", spec, "--out", published, "--against", "0" * 64, expect=7)
    assert final in err
    longer = rp.write(tmp_path, rp.DIGITS_MLP.replace("4 epochs", "100M steps"))
    process = rp.start("run", longer, "--out", tmp_path / "long")
    rp.kill_when(process, lambda: (tmp_path / "long/checkpoints/step-00000010/COMMITTED").exists())
    # Step 3 lies before the checkpoint: nothing is computed, and the difference is still found.
    other = change(tmp_path / "long" / "digests.jsonl", tmp_path / "long.jsonl", 3)
    _, err = rp.call("run", longer, "--out", tmp_path / "long", "--against", other, expect=7)
    assert "step 3 is the first that differs" in err


def test_lengths(made, tmp_path):
    _, spec, published, _ = made
    lines = (published / "digests.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "part.jsonl").write_text("".join(lines[:9]))
    result = rp.call_json("run", spec, "--out", tmp_path / "run", "--against", tmp_path / "part.jsonl")
    assert result["equal"] and result["compared"] == 9
    shorter = rp.write(tmp_path, rp.DIGITS_MLP.replace("  schedule: {kind: cosine, warmup: 4 steps, final_ratio: 0.1}\n", ""))
    rp.run(shorter, tmp_path / "full")
    _, err = rp.call("run", shorter, "--set", "train.for=2 epochs", "--out", tmp_path / "short", "--against", tmp_path / "full",
                     expect=7)
    assert "all equal so far" in err and "goes on to step" in err


def test_bad_input(made, tmp_path):
    _, spec, _, _ = made
    (tmp_path / "empty.jsonl").write_text("")
    (tmp_path / "bad.jsonl").write_text("{}\n")
    for what, code in [("nothing-of-this-name", 2), ("ab", 2), (tmp_path / "empty.jsonl", 4), (tmp_path / "bad.jsonl", 4)]:
        _, err = rp.call("run", spec, "--out", tmp_path / "run", "--against", what, expect=code)
        assert err.count("error:") == 1
    assert not (tmp_path / "run").exists()
