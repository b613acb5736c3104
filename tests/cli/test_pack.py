"""`reprise pack`: what lies in the file, bit for bit, and what it does with broken images."""
import os
import pathlib
import signal
import struct
import subprocess

import numpy as np
import pytest

import made_data
from reprise import PROGRAM, SOURCE, call, call_json, kill_when, run, start, write

MODULE = pathlib.Path(PROGRAM).parent / "reprise_images.so"
JPEG = os.environ.get("JPEG_RAW", "")
pytestmark = pytest.mark.skipif(not MODULE.exists(), reason="built without libpng and libjpeg")

SPEC = """reprise: 1
name: packed
seed: 1
data:
  train: {format: packed, file: images.packed}
  valid: {fraction: 0.25}
model: {kind: mlp, hidden: [16]}
train: {for: 12 steps, batch: 8, optimizer: {kind: adamw, lr: 1.0e-3}}
"""


def jpeg(pixels, quality=90):
    h, w, c = pixels.shape
    return subprocess.run([JPEG, "encode", str(h), str(w), str(c), str(quality)], input=pixels.astype("u1").tobytes(),
                          capture_output=True, check=True).stdout


def decode_jpeg(data, shape):
    raw = subprocess.run([JPEG, "decode"], input=data, capture_output=True, check=True).stdout
    return np.frombuffer(raw, "u1").reshape(shape)


def exif(orientation):
    body = b"Exif\0\0" + b"MM\0*" + struct.pack(">IHHHIHHI", 8, 1, 0x0112, 3, 1, orientation, 0, 0)
    return b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body


def put(folder, name, data):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def packed(folder, tmp_path, *args):
    out = tmp_path / "out.packed"
    call("pack", folder, "--out", out, *args)
    return made_data.read_packed(out)


@pytest.mark.parametrize("size", [(8, 8), (5, 13), (31, 47), (64, 20), (1, 1), (30, 40)])
def test_resizing_is_exact(tmp_path, size):
    """Shrinking, growing and both at once, cut and stretched, against the formula in Python integers."""
    random = np.random.default_rng(3)
    images = [random.integers(0, 256, (30, 40, 3)), random.integers(0, 256, (17, 61, 3))]
    for i, pixels in enumerate(images):
        put(tmp_path / "in", f"c{i}/a.png", made_data.png(pixels))
    text = f"{size[0]}x{size[1]}"
    got = packed(tmp_path / "in", tmp_path, "--size", text)["pixels"]
    for pixels, out in zip(images, got):
        assert np.array_equal(out, made_data.resize(made_data.crop(pixels, *size), *size))
    stretched = packed(tmp_path / "in", tmp_path, "--size", text, "--fit", "stretch")["pixels"]
    for pixels, out in zip(images, stretched):
        assert np.array_equal(out, made_data.resize(pixels, *size))
    if size != (30, 40):
        assert not np.array_equal(got[1], stretched[1])
    else:
        assert np.array_equal(got[0], images[0])


def test_every_kind_of_png(tmp_path):
    random = np.random.default_rng(4)
    grey = random.integers(0, 256, (6, 7))
    colour = random.integers(0, 256, (6, 7, 3))
    alpha = random.integers(0, 256, (6, 7, 4))
    palette = random.integers(0, 256, (9, 3))
    index = random.integers(0, 9, (6, 7))
    wide = random.integers(0, 65536, (6, 7))
    nibbles = random.integers(0, 16, (6, 7))
    put(tmp_path / "in", "a/1.png", made_data.png(grey))
    put(tmp_path / "in", "a/2.png", made_data.png(colour))
    put(tmp_path / "in", "a/3.PNG", made_data.png(alpha))
    put(tmp_path / "in", "b/4.png", made_data.png(index, palette))
    put(tmp_path / "in", "b/5.png", made_data.png(wide, bits=16))
    put(tmp_path / "in", "b/6.png", made_data.png(nibbles, bits=4))
    put(tmp_path / "in", "b/notes.txt", b"passed over")
    put(tmp_path / "in", "empty/notes.txt", b"no class")
    (tmp_path / "in" / ".hidden").mkdir()
    got = packed(tmp_path / "in", tmp_path, "--size", "6x7")
    assert got["names"] == ["a", "b"] and list(got["labels"]) == [0, 0, 0, 1, 1, 1]
    on_black = (alpha[:, :, :3] * alpha[:, :, 3:] + 127) // 255
    expected = [np.repeat(grey[:, :, None], 3, 2), colour, on_black, palette[index],
                np.repeat(((wide * 255 + 32895) >> 16)[:, :, None], 3, 2), np.repeat(nibbles[:, :, None] * 17, 3, 2)]
    for i, (want, have) in enumerate(zip(expected, got["pixels"])):
        assert np.array_equal(want, have), i
    got = packed(tmp_path / "in", tmp_path, "--size", "6x7", "--channels", "grey")["pixels"]
    assert got.shape == (6, 6, 7, 1) and np.array_equal(got[0, :, :, 0], grey)
    luma = (299 * colour[:, :, 0] + 587 * colour[:, :, 1] + 114 * colour[:, :, 2] + 500) // 1000
    assert np.array_equal(got[1, :, :, 0], luma)


@pytest.mark.skipif(not JPEG, reason="no JPEG tool in this build")
def test_jpeg_and_its_orientation(tmp_path):
    random = np.random.default_rng(5)
    pixels = np.kron(random.integers(0, 256, (3, 5, 3)), np.ones((8, 8, 1)))
    data = jpeg(pixels)
    seen = decode_jpeg(data, (24, 40, 3))
    ways = {1: seen, 2: seen[:, ::-1], 3: seen[::-1, ::-1], 4: seen[::-1], 5: seen.transpose(1, 0, 2),
            6: seen[::-1].transpose(1, 0, 2), 7: seen[::-1, ::-1].transpose(1, 0, 2),
            8: seen[:, ::-1].transpose(1, 0, 2)}
    for way in ways:
        put(tmp_path / "in", f"a/{way}.jpg", data[:2] + exif(way) + data[2:])
    put(tmp_path / "in", "b/grey.jpeg", jpeg(pixels[:, :, :1]))
    got = packed(tmp_path / "in", tmp_path, "--size", "24x40")["pixels"]
    for i, (way, expected) in enumerate(ways.items()):
        assert np.array_equal(got[i], made_data.resize(made_data.crop(expected, 24, 40), 24, 40)), way
    assert np.array_equal(got[8][:, :, 0], got[8][:, :, 2])
    assert not np.array_equal(got[1], got[0])
    cmyk = random.integers(0, 256, (8, 8, 4))
    put(tmp_path / "cmyk", "a/1.jpg", jpeg(cmyk, 100))
    assert packed(tmp_path / "cmyk", tmp_path, "--size", "8")["pixels"].shape == (1, 8, 8, 3)


def test_bytes_do_not_depend_on_threads(tmp_path):
    made_data.image_folder(tmp_path / "in", ["cat", "dog", "eel"], 30)
    files = []
    for threads in (1, 2, 7):
        out = tmp_path / f"{threads}.packed"
        result = call_json("pack", tmp_path / "in", "--size", 16, "--out", out, "--threads", threads)
        files.append(out.read_bytes())
        import hashlib
        assert result["sha256"] == hashlib.sha256(files[-1]).hexdigest() and result["images"] == 90
    assert files[0] == files[1] == files[2]
    other = tmp_path / "other.packed"
    call("pack", tmp_path / "in", "--size", 17, "--out", other)
    assert other.read_bytes() != files[0]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["1.packed", "2.packed", "7.packed", "in", "other.packed"]


def test_broken_images(tmp_path):
    made_data.image_folder(tmp_path / "in", ["cat", "dog"], 6)
    good = tmp_path / "good.packed"
    call("pack", tmp_path / "in", "--size", 16, "--out", good)
    whole = (tmp_path / "in" / "cat" / "000.png").read_bytes()
    put(tmp_path / "in", "cat/000x-cut.png", whole[:-200])
    put(tmp_path / "in", "cat/bad-name.jpg", b"not an image")
    put(tmp_path / "in", "dog/empty.png", b"")
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 0xff
    put(tmp_path / "in", "dog/flipped.png", bytes(flipped))
    out = tmp_path / "out.packed"
    _, err = call("pack", tmp_path / "in", "--size", 16, "--out", out, expect=4)
    for name in ("000x-cut.png", "bad-name.jpg", "empty.png", "flipped.png"):
        assert name in err
    assert "4 of 16 images do not decode" in err and "--skip-broken" in err
    assert not out.exists() and not list(tmp_path.glob("*.tmp*"))
    result = call_json("pack", tmp_path / "in", "--size", 16, "--out", out, "--skip-broken")
    assert len(result["broken"]) == 4 and result["images"] == 12
    assert out.read_bytes() == good.read_bytes()
    put(tmp_path / "none", "a/1.png", b"x")
    _, err = call("pack", tmp_path / "none", "--size", 16, "--out", out, "--skip-broken", expect=4)
    assert "none of its 1 images decodes" in err
    assert out.read_bytes() == good.read_bytes()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_nothing(tmp_path, number):
    made_data.image_folder(tmp_path / "in", ["a"], 1)
    data = (tmp_path / "in" / "a" / "000.png").read_bytes()
    for i in range(4000):
        (tmp_path / "in" / "a" / f"{i:05}.png").write_bytes(data)
    process = start("pack", tmp_path / "in", "--size", 400, "--out", tmp_path / "o", "--threads", 1)
    assert kill_when(process, lambda: list(tmp_path.glob("o.tmp*")), number) == 20
    assert [p.name for p in tmp_path.iterdir()] == ["in"]


def test_bad_input(tmp_path):
    out = tmp_path / "o"
    _, err = call("pack", tmp_path / "nowhere", "--size", 8, "--out", out, expect=4)
    assert "there is no folder" in err
    (tmp_path / "flat").mkdir()
    _, err = call("pack", tmp_path / "flat", "--size", 8, "--out", out, expect=4)
    assert "a subfolder for each class" in err
    for size in ("0", "x", "8x", "99999", "8x8x8"):
        _, err = call("pack", tmp_path / "flat", "--size", size, "--out", out, expect=2)
        assert "--size" in err
    call("pack", tmp_path / "flat", "--size", 8, expect=2)
    call("pack", tmp_path / "flat", "--out", out, expect=2)
    made_data.image_folder(tmp_path / "latin", ["a"], 1)
    os.rename(tmp_path / "latin" / "a", os.fsencode(tmp_path / "latin") + b"/caf\xe9")
    _, err = call("pack", tmp_path / "latin", "--size", 8, "--out", out, expect=4, errors="replace")
    assert "must be UTF-8" in err
    (tmp_path / "modules").mkdir()
    made_data.image_folder(tmp_path / "in", ["a"], 1)
    environment = {"REPRISE_MODULES": str(tmp_path / "modules")}
    _, err = call("pack", tmp_path / "in", "--size", 8, "--out", out, env=environment, expect=3)
    assert "reprise_images.so" in err and "libpng" in err
    put(tmp_path / "modules", "reprise_images.so", b"no object")
    _, err = call("pack", tmp_path / "in", "--size", 8, "--out", out, env=environment, expect=3)
    assert "cannot open the module" in err


def test_training_reads_packed_bytes_only(tmp_path):
    """Equal to the same pixels as npy; the images may go away; damage is found."""
    made_data.image_folder(tmp_path / "in", ["cat", "dog"], 24)
    file = tmp_path / "images.packed"
    call("pack", tmp_path / "in", "--size", "10x12", "--out", file)
    content = made_data.read_packed(file)
    np.save(tmp_path / "x.npy", content["pixels"])
    np.save(tmp_path / "y.npy", content["labels"].astype("i4"))
    import shutil
    shutil.rmtree(tmp_path / "in")
    spec = write(tmp_path, SPEC)
    run(spec, tmp_path / "a")
    twin = write(tmp_path, SPEC.replace("format: packed, file: images.packed", "format: npy, x: x.npy, y: y.npy"), "npy.yaml")
    run(twin, tmp_path / "b")
    parameters = [(tmp_path / name / "digests.jsonl").read_text().splitlines()[-1].split('"chain"')[0] for name in "ab"]
    assert parameters[0] == parameters[1]
    shapes = call_json("plan", spec)
    assert shapes["train_samples"] == 36 and shapes["layers"][-1]["output"] == [2]

    whole = bytearray(file.read_bytes())
    for at, what in ((len(whole) - 5, "another SHA-256"), (97, "class names"), (8, "format version"), (24, "promises"), (17, "do not fit"),
                     (3, "no file of `reprise pack`")):
        damaged = bytearray(whole)
        damaged[at] ^= 0x55
        file.write_bytes(damaged)
        _, err = call("run", spec, "--out", tmp_path / "c", expect=4)
        assert what in err, (at, err)
    file.write_bytes(whole[:-1])
    _, err = call("run", spec, "--out", tmp_path / "c", expect=4)
    assert "promises" in err
    file.write_bytes(whole)
    run(spec, tmp_path / "c")


def test_classes_agree_by_name(tmp_path):
    """A second set with fewer classes: its numbers are those of train."""
    made_data.image_folder(tmp_path / "in", ["cat", "dog", "eel"], 8)
    made_data.image_folder(tmp_path / "more", ["dog", "eel"], 3, seed=2)
    made_data.image_folder(tmp_path / "other", ["fox"], 3, seed=2)
    for name in ("in", "more", "other"):
        call("pack", tmp_path / name, "--size", 8, "--out", tmp_path / f"{name}.packed")
    text = SPEC.replace("images.packed", "in.packed").replace("{fraction: 0.25}", "{format: packed, file: more.packed}")
    run(write(tmp_path, text), tmp_path / "a")
    spec = write(tmp_path, text.replace("more.packed", "other.packed"))
    _, err = call("run", spec, "--out", tmp_path / "b", expect=4)
    assert "`fox` does not occur in data.train" in err


def test_a_model_is_applied_to_a_folder_of_images(tmp_path):
    """Images are told how to be packed, with the size of the model; without subfolders they are all of one class."""
    spec = SOURCE / "specs" / "images-mix.yaml"
    run(spec, tmp_path / "run", "--set", "train.for=3 steps", "--set", "train.schedule.warmup=0 steps")
    (tmp_path / "new").mkdir()
    pixels = np.random.default_rng(1).integers(0, 256, (4, 20, 24, 3))
    for i in range(4):
        put(tmp_path / "new", f"{i}.png", made_data.png(pixels[i]))
    put(tmp_path / "new", "notes.txt", b"no image")
    for data in (tmp_path / "new", tmp_path / "new" / "0.png"):
        for command in ("predict", "eval"):
            _, err = call(command, tmp_path / "run", "--data", data, expect=2)
            assert "reprise pack" in err and "--size 16x16 --out new.packed" in err
    out, err = call("pack", tmp_path / "new", "--size", "16x16", "--out", tmp_path / "new.packed")
    assert "1 other file passed over" in err and "reprise predict RUN --data" in out
    got = made_data.read_packed(tmp_path / "new.packed")
    assert got["names"] == ["unsorted"]
    out, _ = call("predict", tmp_path / "run", "--data", tmp_path / "new.packed")
    assert len(out.splitlines()) == 5
    _, err = call("eval", tmp_path / "run", "--data", tmp_path / "new.packed", expect=4)
    assert "`unsorted` does not occur" in err
