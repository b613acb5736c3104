"""Language models from files of one's own: init, run, eval, rerun; the same tokens give the same bits, however they lie."""
import json
import struct

import pytest

import bpe_twin
from reprise import SHARED, call, call_json, manifest, metric_lines, run

MODEL = "{kind: gpt, layers: 1, heads: 2, width: 16, context: 16}"
JOB = """reprise: 1
name: text
seed: 5
data:
  train: TRAIN
  valid: VALID
model: MODEL
train:
  for: 6 steps
  batch: 8
  optimizer: {kind: adamw, lr: 1.0e-2}
eval: {every: 3 steps}
checkpoint: {every: 2 steps}
log: {every: 1 step}
"""


def job(path, train, valid="{fraction: 0.2}", model=MODEL):
    path.write_text(JOB.replace("TRAIN", train).replace("VALID", valid).replace("MODEL", model))
    return path


def words(n=400):
    """Lines that a model can learn a little of."""
    return "".join(f"{i} and {i + 1} make {2 * i + 1}.\n" for i in range(n))


def numbers(tokens, width):
    return b"".join(int(t).to_bytes(width, "little") for t in tokens)


def header(tokens, magic, version):
    return struct.pack("<3i", magic, version, len(tokens)).ljust(1024, b"\0")


def test_the_same_tokens_give_the_same_bits(tmp_path):
    text = words().encode()
    (tmp_path / "a.txt").write_bytes(text)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "b").write_bytes(text)
    (tmp_path / "raw.bin").write_bytes(numbers(text, 2))
    (tmp_path / "wide.bin").write_bytes(numbers(text, 4))
    (tmp_path / "gpt2.bin").write_bytes(header(text, 20240520, 1) + numbers(text, 2))
    (tmp_path / "llama.bin").write_bytes(header(text, 20240801, 7) + numbers(text, 4))
    (tmp_path / "first.bin").write_bytes(numbers(text[:1001], 2))
    (tmp_path / "second.bin").write_bytes(header(text[1001:], 20240520, 1) + numbers(text[1001:], 2))
    finals = {}
    for name, data in {"text": "{format: text, files: a.txt}", "folder": "{format: text, files: in}",
                       "raw": "{format: tokens, files: raw.bin, vocab: 256}",
                       "wide": "{format: tokens, files: wide.bin, dtype: uint32, vocab: 256}",
                       "gpt2": "{format: tokens, files: gpt2.bin, vocab: 256}",
                       "llama": "{format: tokens, files: [llama.bin], vocab: 256}",
                       "shards": "{format: tokens, files: [first.bin, second.bin], vocab: 256}"}.items():
        finals[name] = run(job(tmp_path / f"{name}.yaml", data), tmp_path / name)
    assert len(set(finals.values())) == 1, finals
    (tmp_path / "a.txt").write_bytes(text.replace(b"make", b"mate"))
    assert run(tmp_path / "text.yaml", tmp_path / "other") != finals["text"]


def test_where_the_loss_does_not_count(tmp_path):
    """Batches of prompts and responses have uneven numbers of targets; the cut of a step cannot be seen in its bits."""
    lines = [{"q": f"{i} plus {i * 7 % 50} is ", "a": f"{i + i * 7 % 50}."} for i in range(300)]
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (tmp_path / "plain.jsonl").write_text("".join(json.dumps({"text": line["q"] + line["a"]}) + "\n" for line in lines))
    spec = job(tmp_path / "p.yaml", "{format: jsonl, files: p.jsonl, prompt: q, response: a}")
    final = run(spec, tmp_path / "run", "--set", "resources.threads=2")
    assert run(spec, tmp_path / "micro", "--set", "train.micro_batch=1", "--set", "resources.threads=1") == final
    assert run(spec, tmp_path / "two", "--set", "train.micro_batch=2") == final
    plain = job(tmp_path / "plain.yaml", "{format: jsonl, files: plain.jsonl}")
    assert run(plain, tmp_path / "plain") != final
    valid = [line["metrics"] for line in metric_lines(tmp_path / "run") if line["split"] == "valid"]
    seen = call_json("eval", tmp_path / "run")
    assert seen["metrics"]["loss"] == valid[-1]["loss"]
    everything = call_json("eval", tmp_path / "plain")
    assert 0 < seen["tokens"] < everything["tokens"]
    call("rerun", tmp_path / "run", "--out", tmp_path / "again")


def test_steps_without_a_target(tmp_path):
    """Long prompts leave whole steps without one: their loss is 0, and nothing is divided by it."""
    (tmp_path / "p.jsonl").write_text("".join(json.dumps({"q": words(4) + str(i), "a": "!"}) + "\n" for i in range(40)))
    spec = job(tmp_path / "p.yaml", "{format: jsonl, files: p.jsonl, prompt: q, response: a}")
    call("run", spec, "--out", tmp_path / "run", "--set", "train.batch=1", "--set", "train.for=12 steps")
    losses = [line["metrics"]["loss"] for line in metric_lines(tmp_path / "run") if line["split"] == "train"]
    assert 0 < losses.count(0) < len(losses) == 12 and all(0 <= loss < 10 for loss in losses)


def test_a_tokenizer(tmp_path):
    """Text through a tokenizer is what `reprise tokenize` makes of it; another tokenizer is another run."""
    twin = bpe_twin.Twin(bpe_twin.train(words().encode(), 20))
    twin.save_pair(tmp_path / "bpe")
    bpe_twin.Twin(bpe_twin.train(words().encode(), 19)).save_pair(tmp_path / "other")
    (tmp_path / "in").mkdir()
    for i in range(3):
        (tmp_path / "in" / f"{i}.txt").write_text(words(150 + i))
    lines = "".join(json.dumps({"text": words(150 + i)}) + "\n" for i in range(3))
    (tmp_path / "in.jsonl").write_text(lines)
    made = call_json("tokenize", "in", "--tokenizer", "bpe", "--out", "in.bin", cwd=tmp_path)
    finals = [run(job(tmp_path / f"{i}.yaml", data), tmp_path / f"run{i}") for i, data in enumerate([
        "{format: text, files: in, tokenizer: bpe}", "{format: jsonl, files: in.jsonl, tokenizer: bpe}",
        f"{{format: tokens, files: in.bin, vocab: {made['vocabulary']}}}", "{format: text, files: in, tokenizer: other}"])]
    assert finals[0] == finals[1] == finals[2] != finals[3]
    assert sum(file["key"].startswith("data.train.tokenizer[") for file in manifest(tmp_path / "run0")["data"]) == 2
    call("rerun", tmp_path / "run0", "--out", tmp_path / "again")
    metrics = call_json("eval", tmp_path / "run0")["metrics"]
    assert metrics["bits_per_byte"] > 0 and "bits_per_byte" not in call_json("eval", tmp_path / "run2")["metrics"]
    (tmp_path / "bpe" / "merges.txt").write_text((tmp_path / "other" / "merges.txt").read_text())
    _, err = call("eval", tmp_path / "run0", expect=4)
    assert "merges.txt is not the data.train.tokenizer[1] of this run" in err
    _, err = call("run", job(tmp_path / "none.yaml", "{format: text, files: in, tokenizer: nowhere}"), "--out",
                  tmp_path / "none", expect=4)
    assert "nowhere" in err and err.count("reprise: error: ") == 1


def test_length_in_tokens(tmp_path):
    (tmp_path / "a.txt").write_text(words())
    spec = job(tmp_path / "a.yaml", "{format: text, files: a.txt}")
    call("run", spec, "--out", tmp_path / "run", "--set", "train.for=400 tokens", "--set", "eval.every=256 tokens")
    assert manifest(tmp_path / "run")["steps"] == 4  # of 8 windows of 16
    assert [line["step"] for line in metric_lines(tmp_path / "run") if line["split"] == "valid"] == [2, 4]
    _, err = call("validate", "digits-mlp", "--set", "train.for=400 tokens", cwd=tmp_path, expect=2)


def test_eval_of_other_text_and_no_predict(tmp_path):
    (tmp_path / "a.txt").write_text(words())
    (tmp_path / "b.txt").write_text(words(20))
    (tmp_path / "c.txt").write_bytes(b"caf\xe9")
    spec = job(tmp_path / "a.yaml", "{format: text, files: a.txt}")
    call("run", spec, "--out", tmp_path / "run")
    result = call_json("eval", tmp_path / "run", "--data", tmp_path / "b.txt")
    assert result["tokens"] == len(words(20)) - 1 and result["metrics"]["bits_per_byte"] > 0
    assert call_json("eval", tmp_path / "run", "--split", "train")["tokens"] == round(0.8 * len(words())) - 1
    _, err = call("eval", tmp_path / "run", "--data", tmp_path / "c.txt", expect=4)
    assert "byte 3 (e9) is not UTF-8" in err
    (tmp_path / "d.jsonl").write_text('{"text": "one"}\n{"text": "and two"}\n')
    assert call_json("eval", tmp_path / "run", "--data", tmp_path / "d.jsonl")["tokens"] == 3 + 1 + 7 - 1
    assert call_json("eval", tmp_path / "run", "--data", tmp_path / "b.txt", tmp_path / "a.txt")["tokens"] == \
        len(words(20)) + len(words())
    _, err = call("predict", tmp_path / "run", "--data", tmp_path / "b.txt", expect=2)
    assert "is a language model" in err and err.count("reprise: error: ") == 1


@pytest.mark.parametrize("make, says", [
    (lambda t: header(t, 20240520, 1) + numbers(t, 2)[:-2], "its header promises"),
    (lambda t: numbers(t, 2)[:-1], "no whole number of uint16 tokens"),
    (lambda t: numbers([*t[:777], 256, *t[777:]], 2), "token 777 is 256, but the vocabulary ends at 255"),
    (lambda t: header(t, 20240520, 3) + numbers(t, 2), "of version 3"),
    (lambda t: numbers(t[:16], 2), "16 tokens to train on"),
    (lambda t: b"", "there are no tokens in it")])
def test_bad_tokens_end_before_step_0(tmp_path, make, says):
    (tmp_path / "bad.bin").write_bytes(make(words().encode()))
    (tmp_path / "v.bin").write_bytes(numbers(words(9).encode(), 2))
    spec = job(tmp_path / "bad.yaml", "{format: tokens, files: bad.bin, vocab: 256}", "{format: tokens, files: v.bin}")
    _, err = call("run", spec, "--out", tmp_path / "run", expect=4)
    assert says in err and "bad.bin" in err or "16 tokens" in says, err
    assert not (tmp_path / "run" / "digests.jsonl").exists()


def test_numbers_of_the_other_width(tmp_path):
    """uint16 read as uint32 is out of any vocabulary; uint32 read as uint16 is half zeros, of which the run tells."""
    tokens = words().encode()
    for width, dtype, code, says in [(4, "uint16", 0, True), (4, "uint32", 0, False), (2, "uint16", 0, False), (2, "uint32", 4, False)]:
        (tmp_path / "x.bin").write_bytes(numbers(tokens[:len(tokens) // 2 * 2], width))
        spec = job(tmp_path / "job.yaml", f"{{format: tokens, files: x.bin, vocab: 256, dtype: {dtype}}}")
        _, err = call("run", spec, "--out", tmp_path / f"run-{width}-{dtype}", expect=code)
        assert ("every second token is 0" in err) == says, (width, dtype, err)
        assert code == 0 or "but the vocabulary ends at 255" in err


# ---- init ----


def init_and_run(tmp_path, *words_of, steps=4):
    result = call_json("init", *words_of, cwd=tmp_path)
    text = (tmp_path / result["path"]).read_text()
    call("validate", "job.yaml", cwd=tmp_path)
    call("run", "job.yaml", "--out", "run", "--set", f"train.for={steps} steps", "--set", "train.batch=4", "--set",
         "eval.every=2 steps", cwd=tmp_path)
    losses = [line["metrics"]["loss"] for line in metric_lines(tmp_path / "run") if line["split"] == "valid"]
    assert losses[-1] < losses[0]
    return result, text


def test_init_of_a_text(tmp_path):
    (tmp_path / "book.txt").write_text(words(200))
    result, text = init_and_run(tmp_path, "book.txt")
    assert "kind: gpt" in text and "sha256: [" in text and "transform" not in text
    assert any("a token is a byte" in note for note in result["notes"])


def test_init_of_a_folder(tmp_path):
    (tmp_path / "texts" / "more").mkdir(parents=True)
    (tmp_path / "texts" / "a.txt").write_text(words(80))
    (tmp_path / "texts" / "more" / "b.txt").write_text(words(90))
    _, text = init_and_run(tmp_path, "texts")
    assert "files: texts\n" in text and "sha256" not in text
    assert len(manifest(tmp_path / "run")["data"]) == 2
    _, err = call("init", ".", cwd=tmp_path / "texts", expect=2)
    assert "would lie in the folder of texts" in err


def test_init_of_json_lines(tmp_path):
    with open(tmp_path / "chat.jsonl", "w") as file:
        for i in range(200):
            file.write(json.dumps({"id": i, "instruction": f"count to {i}", "output": f"{i - 1}, {i}", "n": 1e400 if i == 3 else 1}) + "\n")
    lines = (tmp_path / "chat.jsonl").read_text().replace("Infinity", "17")
    (tmp_path / "chat.jsonl").write_text(lines)
    _, text = init_and_run(tmp_path, "chat.jsonl")
    assert "prompt: instruction" in text and "response: output" in text


def test_init_of_tokens(tmp_path):
    text = words(300).encode()
    (tmp_path / "train.bin").write_bytes(numbers(text, 2))
    (tmp_path / "val.bin").write_bytes(numbers(text[:700], 2))
    _, spec = init_and_run(tmp_path, "train.bin", "val.bin")
    assert "vocab: 111" in spec and spec.index("files: train.bin") < spec.index("valid:") < spec.index("files: val.bin")


def test_init_of_weights(tmp_path):
    """A folder of published weights is no data, and is told how it is used."""
    (tmp_path / "w").mkdir()
    (tmp_path / "w" / "config.json").write_text("{}")
    (tmp_path / "w" / "generation_config.json").write_text("{}")
    (tmp_path / "w" / "model.safetensors").write_bytes(b"")
    _, err = call("init", "w", cwd=tmp_path, expect=2)
    assert "holds weights" in err and "init_from: {path: w}" in err and err.count("reprise: error: ") == 1


@pytest.mark.parametrize("content, says", [(b"", "empty"), (b"hello\n", "too few to train on"), (b"caf\xe9\n" * 50, "not UTF-8"),
                                           (b"\0\0\0\0" * 50, "byte 0 is 0")])
def test_init_of_no_text(tmp_path, content, says):
    (tmp_path / "a.txt").write_bytes(content)
    _, err = call("init", "a.txt", cwd=tmp_path, expect=4)
    assert says in err and err.count("reprise: error: ") == 1


# ---- sums, and real text ----


def test_sums_modulo_p_are_learnt(tmp_path):
    spec = job(tmp_path / "sums.yaml", "{format: synthetic, task: modular_addition, p: 3}", model=MODEL.replace("context: 16", "context: 3"))
    call("run", spec, "--out", tmp_path / "run", "--set", "train.for=80 steps", "--set", "eval.every=80 steps", "--set",
         "train.optimizer.lr=0.03")
    train = [line["metrics"]["loss"] for line in metric_lines(tmp_path / "run") if line["split"] == "train"]
    assert train[-1] < 0.5 * train[0]


def test_tiny_shakespeare(tmp_path):
    if not (SHARED / "tinyshakespeare.txt").exists():
        pytest.skip("tinyshakespeare.txt is not in ../shared/data")
    job(tmp_path / "job.yaml", "{format: text, files: tinyshakespeare.txt}", "{fraction: 0.01}")
    first = run(tmp_path / "job.yaml", tmp_path / "run", "--data", SHARED)
    assert run(tmp_path / "job.yaml", tmp_path / "again", "--data", SHARED, "--set", "train.micro_batch=4") == first
