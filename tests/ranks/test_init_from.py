"""Initial weights for several ranks: rank 0 reads them, the others get them from it and need not see the files."""
import json

import pytest

import reprise as rp
from test_ranks import ENV, free_port, ranks, torchrun

AVERAGES = "  ema: {decay: 0.9}\n"
# Running statistics, convolutions, two states of the optimizer, averages; what is owned falls into several buckets.
SPEC = rp.RESNET.replace("  transform: [{random_flip: {p: 0.5}}]\n", "").replace("\ntrain:\n", "\ntrain:\n" + AVERAGES).replace(
    "{kind: lion, lr: 1.0e-3, weight_decay: 0.1}", "{kind: adamw, lr: 1.0e-3, weight_decay: 0.1}")
BUCKETS = {**ENV, "REPRISE_BUCKET_BYTES": "20000"}


def begins_with(spec, where, more="", name="job.yaml"):
    text = spec.read_text().replace("model:\n", f"model:\n  init_from: {{{where}{more}}}\n").replace("model: {", f"model: {{init_from: {{{where}{more}}}, ")
    return rp.write(spec.parent, text, name)


@pytest.fixture(scope="module")
def origin(tmp_path_factory):
    """A run of one rank, and of two the same; its weights as a file."""
    folder = tmp_path_factory.mktemp("origin")
    spec = rp.write(folder, SPEC)
    assert rp.run(spec, folder / "one", env=ENV) == rp.run(spec, folder / "two", *ranks(2), env=BUCKETS)
    rp.call("export", folder / "one", "--to", "safetensors", "--out", folder / "weights.safetensors")
    return folder, spec


def digests(spec, out, *more, env=BUCKETS):
    return rp.call_json("run", spec, "--out", out, *more, env=env)["digests"]


def test_equal_bits_whoever_reads(origin, tmp_path):
    folder, spec = origin
    found = {}
    for what, where in {"weights": f"run: {folder / 'one'}", "all": f"run: {folder / 'one'}, load: all", "of two": f"run: {folder / 'two'}, load: all",
                        "file": f"path: {folder / 'weights.safetensors'}", "but one": f"run: {folder / 'one'}, load: all, skip: ['layers.6.*']"}.items():
        job = begins_with(spec, where, name="begun.yaml")
        found[what] = digests(job, tmp_path / f"{what}-1", env=ENV)
        for n in (2, 4) if what == "all" else (4,):
            assert digests(job, tmp_path / f"{what}-{n}", *ranks(n)) == found[what], (what, n)
        rp.call("compare", tmp_path / f"{what}-1", tmp_path / f"{what}-4")
    # Controls: the optimizer's state counts, and so does what is skipped.
    assert found["all"] == found["of two"] and len({found[what]["final"] for what in ("weights", "all", "but one")}) == 3


def test_only_rank_0_sees_the_files(origin, tmp_path):
    folder, spec = origin
    job = begins_with(spec, "path: weights.safetensors", name="here.yaml")
    want = digests(job, tmp_path / "one", env=ENV)
    (tmp_path / "empty").mkdir()
    for blind, codes in ((1, [0, 0]), (0, [4, 4])):
        port, out = free_port(), tmp_path / f"blind-{blind}"
        processes = [rp.start("run", job, "--out", out, "--json", "--data", tmp_path / "empty" if r == blind else folder,
                              env={**BUCKETS, **torchrun(port, 2)(r)}) for r in range(2)]
        results = [process.communicate(timeout=120) for process in processes]
        assert [process.returncode for process in processes] == codes, results
        if blind == 1:
            assert json.loads(results[0][0].splitlines()[-1])["digests"] == want
        else:
            assert "weights.safetensors" in results[0][1] and results[1][1].count("error:") == 0, results


def test_what_rank_0_finds_wrong_ends_all(origin, tmp_path):
    folder, spec = origin
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes((folder / "weights.safetensors").read_bytes()[:-8])
    for where, code, what in ((f"path: {damaged}", 4, "damaged.safetensors"), (f"run: {folder / 'one'}, sha256: {'0' * 64}", 4, "not the one in the spec")):
        job = begins_with(spec, where, name="wrong.yaml")
        _, err = rp.call("run", job, "--out", tmp_path / "run", *ranks(4), env=BUCKETS, expect=code)
        assert what in err and err.count("error:") == 1, err


def test_a_trial_and_a_replay(origin, tmp_path):
    """They begin with the same weights; so does a trial of a run that has no checkpoint yet."""
    folder, spec = origin
    job = begins_with(spec, f"run: {folder / 'one'}, load: all", name="tried.yaml")
    run = tmp_path / "run"
    rp.call("run", job, "--out", run, "--stop-after", "0.000001s", env=ENV, expect=20)
    assert rp.call_json("run", job, "--try", "--out", run, *ranks(2), env=BUCKETS)["steps_compared"] == 1
    digests(job, run, *ranks(2))
    assert rp.call_json("rerun", run, "--steps", "1:3", *ranks(4), env=BUCKETS)["compared"] == 3
