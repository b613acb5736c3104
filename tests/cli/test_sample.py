"""`reprise sample` and `export`: the same text for the same seed wherever it is drawn, prompts of every kind,
tokenizers that fit and those that do not."""
import json
import os
import re
import shutil
import struct
import subprocess

import numpy as np
import pytest

import bpe_twin
import huggingface as hf
from bpe_twin import Twin
from reprise import PROGRAM, call, call_json, start, write

SPEC = """reprise: 1
name: speaker
seed: 3
data:
  train: {data}
model: {{kind: gpt, layers: 2, heads: 4, kv_heads: 2, width: 32, context: 32, mlp: swiglu, norm: rmsnorm, position: rope, bias: false{more}}}
train:
  for: {steps} steps
  batch: 8
  optimizer: {{kind: adamw, lr: 3.0e-3}}
{tail}"""
TEXT = "What is done, is done \u2014 na\u00efve caf\u00e9s; \u65e5\u672c\u8a9e. ".encode() * 60


def spec(folder, data, more="", steps=3, tail=""):
    return write(folder, SPEC.format(data=data, more=more, steps=steps, tail=tail))


@pytest.fixture(scope="module")
def speaker(tmp_path_factory):
    """A model of bytes."""
    folder = tmp_path_factory.mktemp("speaker")
    (folder / "text.txt").write_bytes(TEXT)
    call("run", spec(folder, "{format: text, files: [text.txt]}", steps=60), "--out", folder / "run")
    return folder / "run"


def text(run, *args, threads=None):
    env = {"OMP_NUM_THREADS": str(threads)} if threads else None
    return call_json("sample", run, *args, env=env)


def test_same_text_everywhere(speaker):
    args = ("--prompt", "What is", "--tokens", "100", "--temperature", "0.9", "--seed", "5")
    one = text(speaker, *args, threads=1)
    assert len(one["tokens"]) == 100 and one["prompt_tokens"] == 7 and one["stopped"] == "length"
    for threads in (2, 3):
        assert text(speaker, *args, threads=threads)["tokens"] == one["tokens"]
    assert text(speaker, *args[:-1], "6")["tokens"] != one["tokens"]
    out, _ = call("sample", speaker, *args)
    assert out == one["text"] + "\n"
    # The prefix of a longer text, until the context is full, is the shorter text.
    assert text(speaker, "--prompt", "What is", "--tokens", "10", "--temperature", "0.9", "--seed", "5")["tokens"] == one["tokens"][:10]


@pytest.mark.skipif(not os.environ.get("REPRISE_SIM"), reason="the simulator of CUDA is not built")
def test_same_text_on_another_device(speaker, tmp_path):
    """On the GPU, simulated."""
    moved = tmp_path / "run"
    shutil.copytree(speaker, moved)
    resolved = (moved / "resolved.yaml").read_text()
    assert "device: auto" in resolved
    (moved / "resolved.yaml").write_text(resolved.replace("device: auto", "device: cuda"))
    args = ("--prompt", "What is", "--tokens", "40", "--seed", "5")
    there = call_json("sample", moved, *args, env={"REPRISE_MODULES": os.environ["REPRISE_SIM"]})
    assert there["tokens"] == text(speaker, *args)["tokens"]
    call("sample", moved, *args, env={"REPRISE_MODULES": str(tmp_path)}, expect=3)


def test_greedy_and_cuts(speaker):
    greedy = text(speaker, "--prompt", "is ", "--tokens", "20", "--temperature", "0")["tokens"]
    for more in (("--top-k", "1"), ("--top-p", "0"), ("--temperature", "0", "--seed", "9")):
        assert text(speaker, "--prompt", "is ", "--tokens", "20", *more)["tokens"] == greedy, more
    assert text(speaker, "--prompt", "is ", "--tokens", "20", "--temperature", "5")["tokens"] != greedy


def philox(seed, number):
    """The first two words of block 0 for purpose 7, site 0."""
    c, k0, k1 = [0, number & 0xffffffff, number >> 32, 7 << 24], seed & 0xffffffff, seed >> 32
    for _ in range(10):
        a, b = 0xd2511f53 * c[0], 0xcd9e8d57 * c[2]
        c = [(b >> 32) ^ c[1] ^ k0, b & 0xffffffff, (a >> 32) ^ c[3] ^ k1, a & 0xffffffff]
        k0, k1 = (k0 + 0x9e3779b9) & 0xffffffff, (k1 + 0xbb67ae85) & 0xffffffff
    return c[0], c[1]


@pytest.mark.parametrize("temperature, top_k, top_p", [(1.0, 0, 1.0), (0.5, 0, 1.0), (2.0, 9, 1.0), (1.5, 0, 0.8), (3.0, 20, 0.5)])
def test_twin(speaker, temperature, top_k, top_p):
    """Every token once more, by chapter 15 of kernels/README.md. exp of NumPy may round otherwise, which moves a
    border between two tokens by some 1e-7: these draws fall on none."""
    seed, prompt = 11, list(b"What")
    done = text(speaker, "--prompt", "What", "--tokens", "28", "--temperature", str(temperature), "--top-k", str(top_k),
                "--top-p", str(top_p), "--seed", str(seed))["tokens"]
    out = subprocess.run([os.environ["LOGITS"], speaker, *map(str, prompt + done)], capture_output=True, text=True, check=True)
    rows = [[float.fromhex(x) for x in line.split()] for line in out.stdout.splitlines()]
    other = 0
    for i, token in enumerate(done):
        logits = np.array(rows[len(prompt) - 1 + i], np.float32)
        order = np.lexsort((np.arange(len(logits)), -logits))
        kept = logits[order][:top_k or None]
        sums = np.cumsum(np.exp((kept - kept[0]) / np.float32(temperature)).astype(np.float64))
        sums = sums[:np.searchsorted(sums, top_p * sums[-1]) + 1]

        def pick(number):
            a, b = philox(seed, number)
            return order[np.searchsorted(sums, ((a << 32 | b) >> 11) * 2.0 ** -53 * sums[-1], side="right")]

        assert pick(i) == token
        other += pick(i + 1) != token
    assert other > 5


def test_whole_characters(speaker, tmp_path):
    """A prompt that ends inside a character is taken; what comes out is always UTF-8."""
    prompt = tmp_path / "prompt"
    prompt.write_bytes("na\u00ef".encode()[:-1])
    for seed in range(5):
        raw = subprocess.run([PROGRAM, "sample", speaker, "--prompt-file", prompt, "--tokens", "60", "--temperature", "3",
                              "--seed", str(seed)], capture_output=True, check=True).stdout
        raw.decode("utf-8")


def test_context_slides(speaker):
    """Past the context the last half begins a new one: the text is that of a prompt of this half."""
    long = call_json("sample", speaker, "--prompt", "What is done", "--tokens", "60", "--temperature", "0")
    assert long["slides"] == 3 and len(long["tokens"]) == 60
    whole = b"What is done" + bytes(long["tokens"])
    # 32 places: the 33rd token does not fit, and tokens 17 to 32 before it begin the new context.
    again = text(speaker, "--prompt", whole[17:33].decode(), "--tokens", "10", "--temperature", "0")
    assert bytes(again["tokens"]) == whole[33:43]
    _, err = call("sample", speaker, "--prompt", "What is done", "--tokens", "60")
    assert "context of 32 tokens is full" in err
    long_prompt = call_json("sample", speaker, "--prompt", TEXT.decode()[:200], "--tokens", "3", "--temperature", "0")
    assert long_prompt["slides"] == 1


def test_reading_only(speaker, tmp_path):
    moved = tmp_path / "elsewhere"
    shutil.copytree(speaker, moved)
    before = sorted((p, p.stat().st_mtime_ns) for p in moved.rglob("*"))
    assert text(moved, "--seed", "1")["tokens"] == text(speaker, "--seed", "1")["tokens"]
    assert sorted((p, p.stat().st_mtime_ns) for p in moved.rglob("*")) == before


@pytest.mark.parametrize("args, code, says", [
    (("--temperature", "-1"), 2, "--temperature -1"), (("--temperature", "nan"), 2, "--temperature nan"),
    (("--top-k", "1.5"), 2, "--top-k 1.5"), (("--top-p", "2"), 2, "--top-p 2"), (("--tokens", ""), 2, "--tokens"),
    (("--prompt", "a", "--prompt-file", "b"), 2, "give one of"), (("--prompt-file", "/nowhere"), 4, "/nowhere"),
    (("--at", "7"), 8, "no checkpoint of step 7"), (("--at", "best"), 2, "no best checkpoint"),
    (("--tokenizer", "/nowhere"), 4, "/nowhere")])
def test_refused(speaker, args, code, says):
    out, err = call("sample", speaker, *args, expect=code)
    assert says in err and not out


def test_no_language_model(tmp_path):
    write(tmp_path, """reprise: 1
name: x
seed: 1
data: {train: {format: synthetic, task: digits, samples: 64}}
model: {kind: mlp, hidden: [4]}
train: {for: 1 steps, batch: 8, optimizer: {kind: sgd, lr: 0.1}}
""")
    call("run", tmp_path / "job.yaml", "--out", tmp_path / "run")
    for command in (("sample",), ("export", "--to", "huggingface", "--out", tmp_path / "out")):
        _, err = call(command[0], tmp_path / "run", *command[1:], expect=2)
        assert "is no language model" in err
    call("export", tmp_path / "run", "--to", "safetensors", "--out", tmp_path / "x.safetensors")
    folder = next((tmp_path / "run" / "checkpoints").iterdir())
    kept, out = hf.read_safetensors(folder / "model.safetensors"), hf.read_safetensors(tmp_path / "x.safetensors")
    assert set(out) == set(kept) and all(np.array_equal(out[name], kept[name]) for name in kept)


def test_closed_pipe(speaker):
    """Whoever reads no more is not spoken to for an hour."""
    process = start("sample", speaker, "--tokens", "1000000000")
    process.stdout.read(10)
    process.stdout.close()
    process.stderr.read()
    process.wait(timeout=60)


# ---- tokenizers

@pytest.fixture(scope="module")
def twin():
    return Twin(bpe_twin.train(TEXT, 60))


@pytest.fixture(scope="module")
def told(twin, tmp_path_factory):
    """A model of the tokens of a tokenizer."""
    folder = tmp_path_factory.mktemp("told")
    (folder / "text.txt").write_bytes(TEXT)
    twin.save_pair(folder / "bpe")
    call("run", spec(folder, "{format: text, files: [text.txt], tokenizer: bpe}", ", vocab: 384", steps=20), "--out", folder / "run")
    return folder


def test_tokenizer_of_the_spec(told, twin):
    done = text(told / "run", "--prompt", "What is done", "--tokens", "15", "--temperature", "1")
    assert done["prompt_tokens"] == len(twin.encode(b"What is done"))
    assert max(done["tokens"]) <= len(twin.tokens)  # never a row that no token has
    raw = b"".join(twin.tokens[i] for i in done["tokens"])
    assert done["text"] == raw.decode("utf-8", "replace")


def test_export_takes_the_tokenizer(told):
    done = call_json("export", told / "run", "--to", "huggingface", "--out", told / "out")
    assert done["tokenizer"] is True
    for name in ("vocab.json", "merges.txt"):
        assert (told / "out" / name).read_bytes() == (told / "bpe" / name).read_bytes()
    config = json.loads((told / "out" / "config.json").read_text())
    end = json.loads((told / "bpe" / "vocab.json").read_text())[bpe_twin.END]
    assert config["eos_token_id"] == end and config["vocab_size"] == 384
    assert json.loads((told / "out" / "tokenizer_config.json").read_text())["eos_token"] == bpe_twin.END
    assert sorted(os.listdir(told / "out")) == ["config.json", "generation_config.json", "merges.txt", "model.safetensors",
                                                 "tokenizer_config.json", "vocab.json"]


def test_weights_of_another_tokenizer(told, twin, tmp_path):
    """Weights that were made with a tokenizer, in a folder beside it or in a run that names it, and a spec with another one,
    or none: exit 4 before step 0. Other files that say the same are taken, and so is a table of tokens that is drawn anew."""
    if not (told / "out").exists():
        call("export", told / "run", "--to", "huggingface", "--out", told / "out")
    (tmp_path / "text.txt").write_bytes(TEXT)
    twin.save_pair(tmp_path / "same")
    twin.save(tmp_path / "same.json")
    Twin(twin.merges[:-1] + [(b"q", b"z")]).save_pair(tmp_path / "other")
    fresh = "skip: [wte.weight]"
    other = "trained with the tokenizer"
    for source in (f"path: {told / 'out'}", f"run: {told / 'run'}"):
        for i, (name, skip, says) in enumerate([
                ("same", "", ""), ("same.json", "", ""), ("other", "", other), (None, "", other + ".*a token is a byte"), ("other", fresh, "")]):
            more = f", vocab: 384, norm_eps: 1.0e-5, init_from: {{{source}{', ' + skip if skip else ''}}}"
            data = f"{{format: text, files: [text.txt]{', tokenizer: ' + name if name else ''}}}"
            out = tmp_path / f"{source[:3]}-{i}"
            _, err = call("run", spec(tmp_path, data, more, steps=1), "--out", out, expect=4 if says else 0)
            assert re.search(says, err), (source, name, err)
            assert out.exists() == (not says)


def test_weights_with_a_tokenizer_and_a_spec_of_bytes(told, tmp_path):
    """Where the vocabulary comes from the data, the tokenizer is what is wrong, not `vocab`."""
    if not (told / "out").exists():
        call("export", told / "run", "--to", "huggingface", "--out", told / "out")
    (tmp_path / "text.txt").write_bytes(TEXT)
    job = spec(tmp_path, "{format: text, files: [text.txt]}", f", norm_eps: 1.0e-5, init_from: {{path: {told / 'out'}}}", steps=1)
    _, err = call("run", job, "--out", tmp_path / "run", expect=4)
    assert "write `tokenizer: " in err and "vocab:" not in err


def test_weights_of_a_tokenizer_that_changed(twin, tmp_path):
    """Replaced where it lay: what the run had is not there to compare with, and that is said. So it is when it is gone."""
    (tmp_path / "text.txt").write_bytes(TEXT)
    twin.save_pair(tmp_path / "bpe")
    data = "{format: text, files: [text.txt], tokenizer: bpe}"
    call("run", spec(tmp_path, data, ", vocab: 384", steps=1), "--out", tmp_path / "run")
    job = spec(tmp_path, data, f", vocab: 384, init_from: {{run: {tmp_path / 'run'}}}", steps=1)
    _, err = call("run", job, "--out", tmp_path / "same")
    assert "trained with another tokenizer" not in err
    Twin(twin.merges[:-1] + [(b"q", b"z")]).save_pair(tmp_path / "bpe")
    _, err = call("run", job, "--out", tmp_path / "changed")
    assert "was trained with another tokenizer" in err and "is not known" in err


def test_weights_of_bytes(speaker, twin, tmp_path):
    (tmp_path / "text.txt").write_bytes(TEXT)
    twin.save_pair(tmp_path / "bpe")
    job = spec(tmp_path, "{format: text, files: [text.txt], tokenizer: bpe}", f", init_from: {{run: {speaker}}}", steps=1)
    _, err = call("run", job, "--out", tmp_path / "run", expect=4)
    assert "were trained on bytes" in err and not (tmp_path / "run").exists()


def test_tokenizer_too_large(speaker, twin, tmp_path):
    twin.save_pair(tmp_path / "bpe")
    _, err = call("sample", speaker, "--tokenizer", tmp_path / "bpe", expect=4)
    assert "it is not its tokenizer" in err


def test_token_files(twin, tmp_path):
    """Without a tokenizer a prompt is numbers; with --tokenizer it is text."""
    ids = twin.encode(TEXT)
    (tmp_path / "x.bin").write_bytes(struct.pack(f"<{len(ids)}H", *ids))
    twin.save_pair(tmp_path / "bpe")
    call("run", spec(tmp_path, f"{{format: tokens, files: [x.bin], vocab: {len(twin.tokens) + 1}}}", steps=20), "--out", tmp_path / "run")
    prompt = twin.encode(b"What is")
    numbers = text(tmp_path / "run", "--prompt", " ".join(map(str, prompt)), "--tokens", "12")
    assert numbers["text"].split() == [str(i) for i in numbers["tokens"]] and numbers["prompt_tokens"] == len(prompt)
    words = text(tmp_path / "run", "--prompt", "What is", "--tokenizer", tmp_path / "bpe", "--tokens", "12")
    assert words["tokens"] == numbers["tokens"]
    _, err = call("sample", tmp_path / "run", "--prompt", "What is", expect=2)
    assert "What is no token" in err
    _, err = call("sample", tmp_path / "run", expect=2)
    assert "an empty prompt" in err


def test_export_takes_averages(tmp_path):
    """With train.ema the averages go out, which is what evaluation uses."""
    (tmp_path / "text.txt").write_bytes(TEXT)
    job = spec(tmp_path, "{format: text, files: [text.txt]}", steps=4, tail="  ema: {decay: 0.9}\n")
    call("run", job, "--out", tmp_path / "run")
    call("export", tmp_path / "run", "--to", "safetensors", "--out", tmp_path / "x.safetensors")
    call("export", tmp_path / "run", "--to", "huggingface", "--out", tmp_path / "out")
    folder = next((tmp_path / "run" / "checkpoints").iterdir())
    weights, states = (hf.read_safetensors(folder / f"{n}.safetensors") for n in ("model", "optimizer"))
    out, gpt = hf.read_safetensors(tmp_path / "x.safetensors"), hf.read_safetensors(tmp_path / "out" / "model.safetensors")
    for name, values in out.items():
        assert np.array_equal(values, states[name + ".ema"]) and not np.array_equal(values, weights[name])
    assert np.array_equal(gpt["model.norm.weight"], states["ln_f.weight.ema"])
