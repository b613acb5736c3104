"""Files that nobody should hand in: each is refused in a moment, in little memory."""
import os
import pathlib
import resource
import subprocess
import time

import pytest

REPRISE = os.environ["REPRISE"]
SPECS = pathlib.Path(os.environ["REPRISE_SOURCE"]) / "specs"
SANITIZED = b"__asan_init" in pathlib.Path(REPRISE).read_bytes() or b"__tsan_init" in pathlib.Path(REPRISE).read_bytes()


def limit_memory():
    if not SANITIZED:
        resource.setrlimit(resource.RLIMIT_AS, (512 << 20, 512 << 20))


def refuse(path, *words, code=2, says=""):
    start = time.monotonic()
    done = subprocess.run([REPRISE, "validate", str(path), *words], capture_output=True, timeout=60, preexec_fn=limit_memory)
    assert done.returncode == code, done.stderr[:2000]
    assert says in done.stderr.decode()
    assert len(done.stderr) < 20000
    assert time.monotonic() - start < (120 if SANITIZED else 30)
    return done


def write(tmp_path, text):
    path = tmp_path / "job.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_a_gigabyte(tmp_path):
    path = tmp_path / "job.yaml"
    with open(path, "wb") as file:
        file.write(b"reprise: 1\n")
        file.truncate(1 << 30)
    refuse(path, says="job.yaml")


def test_deep_nesting(tmp_path):
    refuse(write(tmp_path, "reprise: 1\nseed: " + "[" * 100000), says="nested deeper")
    refuse(write(tmp_path, "reprise: 1\nseed: " + "{a: " * 100000), says="nested deeper")
    refuse(write(tmp_path, "".join(" " * i + "a:\n" for i in range(1200))), says="nested deeper")


def test_alias_bomb(tmp_path):
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [" + ", ".join([f"*a{i - 1}"] * 9) + "]" for i in range(1, 30)]
    refuse(write(tmp_path, "reprise: 1\n" + "\n".join(lines) + "\n"), says="an anchor")


def test_many_values_and_many_keys(tmp_path):
    refuse(write(tmp_path, "reprise: 1\nseed: [" + "1, " * 100000 + "1]\n"), says="more than 20000 values")
    refuse(write(tmp_path, "reprise: 1\n" + "".join(f"k{i}: 1\n" for i in range(9000))), says="errors")
    refuse(write(tmp_path, "reprise: 1\n" + "k: 1\n" * 9000), says="given twice")


def test_long_lines_and_words(tmp_path):
    done = refuse(write(tmp_path, "reprise: 1\nname: " + "x" * 900000 + "\n"), says="too long")
    assert max(len(line) for line in done.stderr.decode().splitlines()) < 400
    done = refuse(write(tmp_path, "reprise: 1\n" + "k" * 900 + ": 1\n"))
    assert max(len(line) for line in done.stderr.decode().splitlines()) < 400


def test_every_prefix_of_a_spec(tmp_path):
    text = (SPECS / "good" / "every-key.yaml").read_bytes()
    for length in range(0, len(text) - 200, 97):
        refuse(write(tmp_path, text[:length]), says="job.yaml")


def test_a_pipe_a_folder_a_device_nothing(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    refuse(tmp_path / "pipe", says="pipe")
    refuse(tmp_path, says=str(tmp_path))
    refuse("/dev/zero", says="/dev/zero")
    refuse(tmp_path / "missing.yaml", says="missing.yaml")


@pytest.mark.parametrize("kind", ["pipe", "folder"])
def test_data_that_is_no_file(tmp_path, kind):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    text = (SPECS / "table-csv.yaml").read_text().replace("table.csv,", kind + ",")
    refuse(write(tmp_path, text), code=4, says=f"job.yaml:{text[:text.index('format: csv')].count(chr(10)) + 1}:")


def test_impossible_header(tmp_path):
    (tmp_path / "x.idx").write_bytes(bytes([0, 0, 8, 3]) + b"\xff\xff\xff\xff" * 3)
    (tmp_path / "y.idx").write_bytes(bytes([0, 0, 8, 1]) + b"\xff\xff\xff\xff")
    text = (SPECS / "mnist-lenet.yaml").read_text()
    text = text.replace("mnist-10k-images-idx3-ubyte.gz", "x.idx").replace("mnist-10k-labels-idx1-ubyte.gz", "y.idx")
    refuse(write(tmp_path, text), code=4, says="x.idx")
