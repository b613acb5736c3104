"""`reprise tokenize`: the same tokens whatever the threads, in files that appear whole or not at all."""
import hashlib
import json
import os
import random
import resource
import signal
import subprocess
import time

import numpy as np
import pytest

import bpe_twin
from bpe_twin import END, LLAMA3, Twin
from reprise import PROGRAM, call, call_json, start

IDS = os.environ.get("BPE_IDS", "bpe_ids")
TEXT = bpe_twin.some_text()


@pytest.fixture(scope="module")
def merges():
    return bpe_twin.train(TEXT[:40000], 200)


@pytest.fixture(scope="module")
def twin(merges):
    return Twin(merges)


@pytest.fixture(scope="module")
def gpt2(twin, tmp_path_factory):
    return twin.save_pair(tmp_path_factory.mktemp("gpt2"))


@pytest.fixture(scope="module")
def end(twin):
    return len(twin.tokens)


def ids(tokenizer, data):
    return np.frombuffer(subprocess.run([IDS, tokenizer, "ids"], input=data, capture_output=True, check=True).stdout, "<i4")


def read(path):
    data = path.read_bytes()
    magic, version, n = np.frombuffer(data, "<i4", 3)
    assert (magic, version) in [(20240520, 1), (20240801, 7)]
    tokens = np.frombuffer(data, "<u2" if magic == 20240520 else "<u4", offset=1024)
    assert len(tokens) == n and not any(data[12:1024])
    return tokens.astype("i4")


def joined(twin, end, documents):
    out = []
    for document in filter(None, documents):
        out += [*([end] if out else []), *twin.encode(document)]
    return out


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_one_file(gpt2, tmp_path):
    (tmp_path / "a.txt").write_bytes(TEXT[:50000])
    out = tmp_path / "out.bin"
    result = call_json("tokenize", tmp_path / "a.txt", "--tokenizer", gpt2, "--out", out)
    tokens = read(out)
    assert np.array_equal(tokens, ids(gpt2, TEXT[:50000]))
    digest = hashlib.sha256(out.read_bytes()).hexdigest()
    assert result["files"] == [{"path": str(out), "tokens": len(tokens), "sha256": digest}]
    assert (result["documents"], result["text_bytes"], result["tokens"]) == (1, 50000, len(tokens))
    assert result["bytes_per_token"] == 50000 / len(tokens)
    assert (result["dtype"], result["vocabulary"]) == ("uint16", 457)
    printed, log = call("tokenize", tmp_path / "a.txt", "--tokenizer", gpt2, "--out", out, "--force")
    assert digest in printed and str(len(tokens)) in printed and log == ""
    assert names(tmp_path) == ["a.txt", "out.bin"]


@pytest.mark.parametrize("pattern", [bpe_twin.GPT2, LLAMA3])
def test_threads_cannot_be_seen(merges, tmp_path, pattern):
    """Many chunks, some without a place to cut; the same tokens as of the text in one piece."""
    twin = Twin(merges, pattern)
    tokenizer = twin.save(tmp_path / "tokenizer.json")
    draw = random.Random(5)
    text = (TEXT * 2)[:1500000] + b"." * 1100000 + b" \n" * 300000 + b"e" * 700000 + "日本。".encode() * 50000
    text += bytes(draw.randrange(256) for _ in range(100000)) + b"12.5, 7;\n" * 50000 + b"\r\n.\n\n" * 100000 + b"\xf0\x9f"
    (tmp_path / "a").write_bytes(text)
    want = ids(tokenizer, text)
    seen = set()
    for threads in (1, 5):
        call("tokenize", tmp_path / "a", "--tokenizer", tokenizer, "--out", tmp_path / "o", "--force", "--threads", threads)
        assert np.array_equal(read(tmp_path / "o"), want)
        seen.add(hashlib.sha256((tmp_path / "o").read_bytes()).digest())
    assert len(seen) == 1
    part = text[:60]  # cut just anywhere, tokens would differ
    assert any(twin.encode(part[:p]) + twin.encode(part[p:]) != twin.encode(part) for p in range(60))


def test_folder(gpt2, twin, end, tmp_path):
    """Bytewise order of the path; hidden and empty files leave nothing; the end stands between."""
    documents = {"b.txt": b"second", "a/z.md": b"first \xff", "a.txt": b"0 Zeroth", "c": b"last\0", "empty.txt": b"",
                 ".hidden": b"never", "a/.git/x": b"never"}
    for name, data in documents.items():
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_bytes(data)
    result = call_json("tokenize", tmp_path / "in", "--tokenizer", gpt2, "--out", tmp_path / "o.bin")
    order = ["a.txt", "a/z.md", "b.txt", "c", "empty.txt"]
    want = joined(twin, end, [documents[name] for name in order])
    assert read(tmp_path / "o.bin").tolist() == want
    assert (result["inputs"], result["documents"], result["empty_documents"]) == (5, 4, 1)
    assert result["text_bytes"] == sum(len(documents[name]) for name in order)
    call("tokenize", tmp_path / "in/b.txt", tmp_path / "in/a.txt", "--tokenizer", gpt2, "--out", tmp_path / "p.bin")
    assert read(tmp_path / "p.bin").tolist() == joined(twin, end, [b"second", documents["a.txt"]]) != want


def test_what_is_no_text_is_told(gpt2, tmp_path):
    """Any bytes have tokens; that a file is no text is told once, as nobody would train on it knowingly."""
    told = {}
    for name, content in {"a.txt": "naïve 日本\n".encode() * 9, "b.bin": b"\1\0\2\0" * 9, "c.txt": b"caf\xe9 " * 9}.items():
        (tmp_path / name).write_bytes(content)
        _, told[name] = call("tokenize", name, "--tokenizer", gpt2, "--out", name + ".out", cwd=tmp_path)
    assert "is it text?" not in told["a.txt"] and told["b.bin"].count("b.bin: not all of it is UTF-8") == 1 == told["c.txt"].count("is it text?")


def test_text_of_a_special_token_ends_nothing(gpt2, end, tmp_path):
    (tmp_path / "a.txt").write_text("one" + END + "two")
    call("tokenize", tmp_path / "a.txt", "--tokenizer", gpt2, "--out", tmp_path / "o")
    assert end not in read(tmp_path / "o")


def test_json_lines(gpt2, twin, end, tmp_path):
    draw = random.Random(3)
    texts = [TEXT[draw.randrange(len(TEXT) // 2):][:draw.randrange(3000)].decode("utf-8", "ignore") for _ in range(800)]
    texts[5], texts[6], texts[7] = "", "a\0b\n\"\\ é日🙂", "x y " * 300000  # longer than a chunk
    lines = [json.dumps({"id": i, "text": text}, ensure_ascii=i % 2 == 0) for i, text in enumerate(texts)]
    lines.insert(3, " \t")
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    (tmp_path / "b.json").write_text("\r\n".join(lines).replace('"text"', '"body"') + "\r\n")
    want = joined(twin, end, [text.encode() for text in texts])
    seen = []
    for threads in (1, 3):
        seen.append(call_json("tokenize", tmp_path / "a.jsonl", "--tokenizer", gpt2, "--out", tmp_path / "o", "--force",
                              "--threads", threads))
        assert read(tmp_path / "o").tolist() == want
    assert seen[0] == seen[1]
    assert (seen[0]["documents"], seen[0]["empty_documents"]) == (sum(map(bool, texts)), sum(not text for text in texts))
    call("tokenize", tmp_path / "b.json", "--field", "body", "--tokenizer", gpt2, "--out", tmp_path / "o", "--force")
    assert read(tmp_path / "o").tolist() == want


@pytest.mark.parametrize("line, said", [
    ('{"text": "a"', "is no JSON"), ("[1]", "is no object"), ('{"txt": "a"}', "has no `text`; it has `txt`"),
    ('{"text": 5}', "has a `text` that is no text"), ('{"text": null}', "has a `text` that is no text"), ('{"text": "\\ud800"}', "is no JSON"),
    ("\x00", "is no JSON"), ('{"text": "a"} {"text": "b"}', "is no JSON")])
def test_bad_lines(gpt2, tmp_path, line, said):
    """The first bad line of the file is named, whichever thread meets another first."""
    good = json.dumps({"text": "good " * 200})
    lines = [good] * 4000
    lines[2500] = line
    lines[3999] = "worse"
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    for threads in (1, 4):
        _, err = call("tokenize", tmp_path / "a.jsonl", "--tokenizer", gpt2, "--out", tmp_path / "o", "--threads", threads, expect=4)
        assert f"a.jsonl: line 2501 {said}" in err and err.count("\n") == 1
        assert names(tmp_path) == ["a.jsonl"]
    raw = b'{"text": "a\xff"}\n'
    (tmp_path / "a.jsonl").write_bytes(raw)
    _, err = call("tokenize", tmp_path / "a.jsonl", "--tokenizer", gpt2, "--out", tmp_path / "o", expect=4)
    assert "a.jsonl: line 1 is no JSON" in err


def test_shards(gpt2, tmp_path):
    (tmp_path / "a.txt").write_bytes(TEXT[:40000])
    whole = ids(gpt2, TEXT[:40000])
    out = tmp_path / "set" / "t.x.bin"
    out.parent.mkdir()
    args = ["tokenize", tmp_path / "a.txt", "--tokenizer", gpt2, "--out", out]
    result = call_json(*args, "--shard-tokens", 4000)
    n = -(-len(whole) // 4000)
    assert [os.path.basename(file["path"]) for file in result["files"]] == [f"t.x_{i:06}.bin" for i in range(n)]
    parts = [read(out.parent / f"t.x_{i:06}.bin") for i in range(n)]
    assert [len(part) for part in parts[:-1]] == [4000] * (n - 1)
    assert np.array_equal(np.concatenate(parts), whole)
    for file in result["files"]:
        with open(file["path"], "rb") as stored:
            assert hashlib.sha256(stored.read()).hexdigest() == file["sha256"]
    _, err = call(*args, "--shard-tokens", "5k", expect=2)
    assert "--force" in err and len(names(out.parent)) == n
    call(*args, "--shard-tokens", "8k", "--force")
    assert names(out.parent) == [f"t.x_{i:06}.bin" for i in range(-(-len(whole) // 8000))]
    exact = len(whole)
    call(*args, "--shard-tokens", exact, "--force")
    assert names(out.parent) == ["t.x_000000.bin"]


def test_large_vocabulary(merges, tmp_path):
    """Past 65536 ids a token takes 32 bits, with llm.c's other magic."""
    twin = Twin(merges)
    content = twin.tokenizer()
    for size, dtype in ((65536, "uint16"), (65537, "uint32")):
        content["added_tokens"] = [bpe_twin.added(i, f"<{i}>") for i in range(len(twin.tokens), size - 1)]
        content["added_tokens"].append(bpe_twin.added(size - 1, END))
        (tmp_path / "tokenizer.json").write_text(json.dumps(content))
        for i in range(2):
            (tmp_path / f"{i}.txt").write_text("some text")
        result = call_json("tokenize", tmp_path / "0.txt", tmp_path / "1.txt", "--tokenizer", tmp_path, "--out", tmp_path / "o", "--force")
        assert (result["dtype"], result["vocabulary"]) == (dtype, size)
        assert read(tmp_path / "o").tolist() == [*twin.encode(b"some text"), size - 1, *twin.encode(b"some text")]


def test_without_an_end_of_text(merges, tmp_path):
    tokenizer = Twin(merges).save(tmp_path / "tokenizer.json", end=False)
    for i in range(2):
        (tmp_path / f"{i}.txt").write_text("text")
    one, both = [tmp_path / "0.txt"], [tmp_path / "0.txt", tmp_path / "1.txt"]
    tail = ["--tokenizer", tokenizer, "--out", tmp_path / "o"]
    call("tokenize", *one, *tail)
    _, err = call("tokenize", *both, *tail, "--force", expect=4)
    assert "--end-of-text" in err and "<|endoftext|>" in err
    _, err = call("tokenize", *both, *tail, "--force", "--end-of-text", "<x>", expect=2)
    assert "<x>" in err
    call("tokenize", *both, *tail, "--force", "--end-of-text", "!")
    assert 0 in read(tmp_path / "o")


def test_what_is_refused(gpt2, tmp_path):
    (tmp_path / "a.txt").write_bytes(b"text")
    (tmp_path / "empty.txt").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    (tmp_path / "bare").mkdir()
    os.mkfifo(tmp_path / "pipe")
    out = tmp_path / "o.bin"

    def refuse(code, said, *args):
        _, err = call("tokenize", *args, expect=code)
        assert said in err and err.count("\n") == 1, err

    tail = ["--tokenizer", gpt2, "--out", out]
    refuse(2, "--tokenizer is missing", tmp_path / "a.txt", "--out", out)
    refuse(2, "--out is missing", tmp_path / "a.txt", "--tokenizer", gpt2)
    refuse(2, "--threads 0", tmp_path / "a.txt", *tail, "--threads", 0)
    for shard in ("0", "-5", "5x", "3B", "M", "99999999999999999999"):
        refuse(2, f"--shard-tokens {shard}", tmp_path / "a.txt", *tail, f"--shard-tokens={shard}")
    refuse(4, "absent.txt", tmp_path / "a.txt", tmp_path / "absent.txt", *tail)
    refuse(4, "no text", tmp_path / "empty.txt", *tail)
    refuse(4, "holds no file", tmp_path / "bare", *tail)
    refuse(4, "no .jsonl", tmp_path, *tail, "--field", "text")
    refuse(4, "regular file", tmp_path / "pipe", *tail)
    refuse(4, "no such tokenizer", tmp_path / "a.txt", "--tokenizer", tmp_path / "x", "--out", out)
    refuse(2, "is no file", tmp_path / "a.txt", "--tokenizer", gpt2, "--out", tmp_path / "folder", "--force")
    refuse(9, "No such file", tmp_path / "a.txt", "--tokenizer", gpt2, "--out", tmp_path / "none" / "o")
    refuse(2, "is an input", tmp_path / "a.txt", "--tokenizer", gpt2, "--out", tmp_path / "a.txt", "--force")
    assert not out.exists()
    call("tokenize", tmp_path / "a.txt", *tail)
    kept = out.read_bytes()
    refuse(2, "--force", tmp_path / "a.txt", *tail)
    assert out.read_bytes() == kept and (tmp_path / "a.txt").read_bytes() == b"text"


def test_full_disk_loses_nothing(gpt2, tmp_path):
    (tmp_path / "a.txt").write_bytes(TEXT[:400000])
    (tmp_path / "o.bin").write_bytes(b"the old one")

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (100000, resource.RLIM_INFINITY))

    args = ["tokenize", tmp_path / "a.txt", "--tokenizer", gpt2, "--out", tmp_path / "o.bin", "--force", "--threads", 3]
    _, err = call(*args, expect=9, preexec_fn=limit)
    assert "o.bin" in err and err.count("\n") == 1
    assert names(tmp_path) == ["a.txt", "o.bin"] and (tmp_path / "o.bin").read_bytes() == b"the old one"
    call(*args)
    assert len(read(tmp_path / "o.bin")) > 100000


@pytest.mark.parametrize("number, code", [(signal.SIGTERM, 20), (signal.SIGINT, 20)])
def test_stopped_by_a_signal(gpt2, tmp_path, number, code):
    (tmp_path / "a.txt").write_bytes(TEXT * 60)
    process = start("tokenize", tmp_path / "a.txt", "--tokenizer", gpt2, "--out", tmp_path / "o.bin")
    while process.poll() is None and len(names(tmp_path)) < 2:
        time.sleep(0.002)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    assert names(tmp_path) == ["a.txt"]


def peak_memory(tokenizer, path, out):
    process = subprocess.Popen([PROGRAM, "tokenize", path, "--tokenizer", tokenizer, "--out", out, "--force", "--threads", "2"],
                               stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = status
    assert status == 0
    return usage.ru_maxrss * 1024


def test_memory_is_bounded(gpt2, tmp_path):
    (tmp_path / "a.txt").write_bytes((TEXT * 6)[:6000000])
    (tmp_path / "b.txt").write_bytes((TEXT * 30)[:30000000])
    small, large = (peak_memory(gpt2, tmp_path / name, tmp_path / "o") for name in ("a.txt", "b.txt"))
    assert large - small < 4e6
