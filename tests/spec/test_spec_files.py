"""Whole specs through `reprise validate`: specs/bad with their exact messages, specs/good with their digests."""
import json
import os
import pathlib
import re
import subprocess

import pytest

REPRISE = os.environ["REPRISE"]
SOURCE = pathlib.Path(os.environ["REPRISE_SOURCE"])
SPECS = SOURCE / "specs"
BAD = sorted((SPECS / "bad").glob("*.yaml"))
GOOD = sorted((SPECS / "good").glob("*.yaml"))
KEPT = SOURCE / "tests" / "spec" / "digests_kept.json"


def run(*words, cwd=None, check=None):
    done = subprocess.run([REPRISE, *map(str, words)], cwd=cwd, capture_output=True, timeout=60)
    if check is not None:
        assert done.returncode == check, done.stderr.decode()
    return done


def validate(path, *words, check=0):
    """The entry of one spec in the JSON that validate prints."""
    done = run("validate", path, "--json", *words, check=check)
    return json.loads(done.stdout.decode().splitlines()[-1])["specs"][0]


def digests(path, *words):
    return validate(path, *words)["digests"]


# ---- bad ----


def test_there_are_at_least_60_bad_files():
    assert len(BAD) >= 60
    assert {path.stem for path in BAD} == {path.stem for path in (SPECS / "bad").glob("*.expected")}


@pytest.mark.parametrize("path", BAD, ids=lambda path: path.stem)
def test_bad(path):
    done = run("validate", path.name, cwd=path.parent)
    assert done.stderr == path.with_suffix(".expected").read_bytes()
    assert done.stdout == b""
    data = path.stem in ("data-counts-differ", "data-not-idx", "data-cut-short", "data-label-missing", "data-text-empty",
                         "data-text-short", "data-tokens-cut", "data-tokens-odd", "data-vocab-small")
    assert done.returncode == (4 if data else 2)


@pytest.mark.parametrize("path", BAD, ids=lambda path: path.stem)
def test_bad_in_json(path):
    done = run("validate", path.name, "--json", cwd=path.parent)
    lines = done.stdout.decode().splitlines()
    result = json.loads(lines[-1])
    assert len(lines) == 1 and result["exit_code"] == done.returncode
    assert result["specs"][0]["valid"] is False
    assert "reprise: error: " + result["error"] + "\n" == done.stderr.decode()


def test_no_control_character_is_printed():
    for path in BAD:
        printed = run("validate", path.name, cwd=path.parent).stderr.decode()
        assert all(c == "\n" or c.isprintable() for c in printed), path.stem


def test_all_specs_of_a_command_are_looked_at():
    done = run("validate", "spelling-key.yaml", "../good/minimal.yaml", "unit-zero.yaml", cwd=SPECS / "bad", check=2)
    assert b"../good/minimal.yaml: valid" in done.stdout
    assert b"spelling-key.yaml:11:3" in done.stderr and b"unit-zero.yaml:9:8" in done.stderr


# ---- good ----


@pytest.mark.parametrize("path", GOOD + sorted(SPECS.glob("*.yaml")), ids=lambda path: path.stem)
def test_resolved_has_the_same_digests(path, tmp_path):
    before = validate(path)
    resolved = run("validate", path, "--resolved", check=0).stdout
    again = tmp_path / "resolved.yaml"
    again.write_bytes(resolved)
    assert validate(again)["digests"] == before["digests"]
    assert run("validate", again, "--resolved", check=0).stdout == resolved


def test_the_way_of_writing_does_not_count():
    same = {name: digests(SPECS / "good" / f"{name}.yaml")
            for name in ("minimal", "bom", "crlf", "no-final-newline", "document-marks")}
    assert all(value == same["minimal"] for value in same.values())


@pytest.mark.parametrize("a, b", [("10k steps", "10000 steps"), ("1.5k steps", "1500 steps"), ("1e3 steps", "1k steps"),
                                  ("1 step", "1 steps"), ("1M samples", "1000000 samples"), ("2 epoch", "2 epochs")])
def test_units(a, b):
    minimal = SPECS / "good" / "minimal.yaml"
    assert digests(minimal, "--set", f"train.for={a}") == digests(minimal, "--set", f"train.for={b}")
    assert digests(minimal, "--set", f"train.for={a}") != digests(minimal, "--set", "train.for=7 steps")


def test_every_spelling_of_a_unit_is_in_a_good_file():
    names = re.findall(r'\{"([^"]+)", RP_UNIT_', (SOURCE / "runner" / "spec" / "scalar.c").read_text())
    text = "".join(re.sub("#.*", "", path.read_bytes().decode()) for path in GOOD)
    assert len(names) >= 20
    assert [name for name in names if not re.search(rf"[0-9][kMB]? ?{name}(?![a-z])", text)] == []


def test_kept_digests():
    """Added keys and defaults move no digest: a change here breaks every run folder there is."""
    kept = json.loads(KEPT.read_text())
    assert len(kept) >= 10
    for name, want in kept.items():
        assert digests(SPECS / name) == want, name
    assert digests(SPECS / "digits-mlp.yaml", "--set", "seed=1235") != kept["digits-mlp.yaml"]


# ---- presets ----

GPT = """reprise: 1
name: job
seed: 1
data: {train: {format: tokens, files: [x.bin], vocab: 50257}}
model: {kind: gpt, %s}
train: {for: 10 steps, batch: 8, optimizer: {kind: adamw, lr: 1.0e-3}}
"""
LLAMA = "mlp: swiglu, norm: rmsnorm, position: rope, bias: false"
PRESETS = [
    ("preset: gpt2", "layers: 12, heads: 12, width: 768, context: 1024, vocab: 50257"),
    ("preset: gpt2", "layers: 12, heads: 12, width: 768, context: 1024, vocab: 50257, mlp: gelu_tanh, norm: layernorm, bias: true, "
     "tied: true, position: learned, kv_heads: 12, mlp_width: 3072, dropout: 0"),
    ("preset: gpt2-xl, context: 512", "layers: 48, heads: 25, width: 1600, context: 512, vocab: 50257"),
    ("preset: llama-tiny", f"layers: 6, heads: 6, kv_heads: 2, width: 288, mlp_width: 768, context: 256, {LLAMA}"),
    ("preset: llama-small, vocab: 300, rope_base: 10000",
     f"layers: 12, heads: 12, kv_heads: 4, width: 768, context: 1024, vocab: 300, {LLAMA}"),
    ("preset: llama-1b", f"layers: 22, heads: 32, kv_heads: 4, width: 2048, mlp_width: 5632, context: 2048, tied: false, {LLAMA}"),
    ("preset: gpt2, dropout: 0.1", "layers: 12, heads: 12, width: 768, context: 1024, vocab: 50257, "
     "dropout: {attention: 0.1, residual: 0.1, embedding: 0.1}"),
]


@pytest.mark.parametrize("preset, written", PRESETS)
def test_a_preset_is_its_keys(preset, written, tmp_path):
    """One digest, the same resolved spec but for the name; control: another value."""
    a, b, c = tmp_path / "a.yaml", tmp_path / "b.yaml", tmp_path / "c.yaml"
    a.write_text(GPT % preset)
    b.write_text(GPT % written)
    c.write_text(GPT % (preset + ", norm_eps: 1.0e-4"))
    assert digests(a) == digests(b) != digests(c)
    resolved = [run("validate", path, "--resolved", check=0).stdout for path in (a, b)]
    assert resolved[0].replace(b"  preset: " + preset.split(",")[0].split()[1].encode() + b"\n", b"") == resolved[1]
    again = tmp_path / "again.yaml"
    again.write_bytes(resolved[0])
    assert digests(again) == digests(a)


# ---- sections ----

MOVES = [
    ("seed=1235", {"numeric"}),
    ("train.optimizer.lr=0.002", {"numeric"}),
    ("train.shards=4", {"numeric"}),
    ("train.for=6 epochs", {"numeric"}),
    ("data.valid.fraction=0.3", {"numeric"}),
    ("data.train.seed=1", {"numeric"}),
    ("data.transform=[random_flip]", {"numeric"}),
    ("model.hidden=[8]", {"numeric"}),
    ("determinism=pinned", {"numeric"}),
    ("eval.every=2 epochs", {"policy"}),
    ("checkpoint.keep.last=5", {"policy"}),
    ("log.every=1 step", {"policy"}),
    ("name=other", {"policy"}),
    ("resources.threads=3", {"place"}),
    ("resources.device=cpu", {"place"}),
    ("resources.comm=mpi", {"place"}),
    ("train.micro_batch=16", {"place"}),
    ("environment.lock=x.json", {"place"}),
    ("eval.early_stop.patience=3", {"numeric", "policy"}),
    ("train.shards=8", set()),
    ("train.optimizer.weight_decay=1e-2", set()),
    ("resources.threads=auto", set()),
    ("resources.comm=auto", set()),
]


def moved(path, *words, base=()):
    before, after = digests(path, *base), digests(path, *base, *words)
    return {section for section in ("numeric", "policy", "place") if before[section] != after[section]}


@pytest.mark.parametrize("change, sections", MOVES, ids=[change for change, _ in MOVES])
def test_a_key_moves_its_section_only(change, sections):
    assert moved(SPECS / "digits-mlp.yaml", "--set", change) == sections


def test_micro_batch_is_numeric_above_portable():
    pinned = ("--set", "determinism=pinned")
    assert moved(SPECS / "digits-mlp.yaml", "--set", "train.micro_batch=16", base=pinned) == {"numeric"}


def test_with_early_stop_evaluation_is_numeric():
    stop = ("--set", "eval.early_stop.patience=3")
    assert moved(SPECS / "digits-mlp.yaml", "--set", "eval.every=2 epochs", base=stop) == {"numeric"}


def test_data_enters_without_its_path():
    words = ("--set", "data.train.images=elsewhere.gz"), ("--set", "data.train.sha256=[%s, %s]" % ("ab" * 32, "cd" * 32))
    for word in words:
        before, after = digests(SPECS / "mnist-lenet.yaml"), digests(SPECS / "mnist-lenet.yaml", *word)
        assert before["spec"] == after["spec"] and before["place"] != after["place"]
        assert before["numeric"] == after["numeric"] == "unbound"


# ---- --set ----


def test_paths_start_at_the_folder_as_named(tmp_path):
    """Links are not resolved: the data beside a link to a spec is its data; --data is another place."""
    for name in ("named", "spec"):
        (tmp_path / name).mkdir()
    (tmp_path / "named" / "table.csv").write_bytes((SPECS / "table.csv").read_bytes())
    (tmp_path / "spec" / "job.yaml").write_bytes((SPECS / "table-csv.yaml").read_bytes())
    (tmp_path / "named" / "job.yaml").symlink_to("../spec/job.yaml")
    run("plan", tmp_path / "named" / "job.yaml", check=0)
    assert b"there is no file" in run("plan", tmp_path / "spec" / "job.yaml", check=4).stderr
    run("plan", tmp_path / "spec" / "job.yaml", "--data", tmp_path / "named", check=0)


def test_set_changes_one_key():
    resolved = run("validate", SPECS / "digits-mlp.yaml", "--resolved", "--set", "train.optimizer.lr=3e-4", check=0).stdout
    plain = run("validate", SPECS / "digits-mlp.yaml", "--resolved", check=0).stdout
    changed = [(a, b) for a, b in zip(plain.splitlines(), resolved.splitlines()) if a != b]
    assert changed == [(b"    lr: 0.001", b"    lr: 0.0003")]


@pytest.mark.parametrize("argument, says", [
    ("train.optimizer.lr=fast", "`train.optimizer.lr` must be a number"),
    ("train.optimiser.lr=1", "did you mean `optimizer`?"),
    ("lr=1", "`lr` belongs under `train.optimizer`"),
    ("train.for=3", "which has no unit"),
    ("seed", "expected KEY=VALUE"),
    ("seed=*x", "an alias"),
    ("seed=1\n2: 3", "--set"),
])
def test_set_names_itself(argument, says):
    stderr = run("validate", SPECS / "digits-mlp.yaml", "--set", argument, check=2).stderr.decode()
    assert "--set " in stderr and says in stderr
