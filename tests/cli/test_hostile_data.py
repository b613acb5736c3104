"""Images, packed files and tables with random damage: an answer or one clear error, never a crash."""
import os
import pathlib
import random
import struct
import subprocess

import numpy as np
import pytest

import made_data
from reprise import PROGRAM

JPEG = os.environ.get("JPEG_RAW", "")
HAS_IMAGES = (pathlib.Path(PROGRAM).parent / "reprise_images.so").exists()


def damaged(data, chance):
    data = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        kind, at = chance.random(), chance.randrange(len(data))
        if kind < 0.6:
            data[at] = chance.randrange(256)
        elif kind < 0.8:
            del data[max(at, 1):]
        else:
            data[at:at] = bytes(chance.randrange(256) for _ in range(chance.randint(1, 8)))
    return bytes(data)


def answer(*args, cwd):
    done = subprocess.run([PROGRAM, *map(str, args)], cwd=cwd, capture_output=True, timeout=120)
    assert done.returncode in (0, 2, 4), (done.returncode, done.stderr[-1000:])
    if done.returncode:
        assert done.stderr.count(b"reprise: error: ") == 1
    return done.returncode


def good_images():
    noise = np.random.default_rng(1)
    pixels = noise.integers(0, 256, (13, 17, 3))
    images = [made_data.png(pixels), made_data.png(pixels[:, :, 0]),
              made_data.png(noise.integers(0, 9, (9, 9)), noise.integers(0, 256, (9, 3)))]
    for channels in (3, 4) if JPEG else ():
        raw = noise.integers(0, 256, (13, 17, channels)).astype("u1").tobytes()
        images.append(subprocess.run([JPEG, "encode", "13", "17", str(channels), "80"], input=raw, capture_output=True,
                                     check=True).stdout)
        exif = b"Exif\0\0" + b"MM\0*" + struct.pack(">IHHHIHHI", 8, 1, 0x0112, 3, 1, 6, 0, 0)
        images.append(images[-1][:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + images[-1][2:])
    return images


@pytest.mark.skipif(not HAS_IMAGES, reason="built without libpng and libjpeg")
def test_images(tmp_path):
    chance, images, codes = random.Random(3), good_images(), []
    for turn in range(4):
        folder = tmp_path / str(turn) / "a"
        folder.mkdir(parents=True)
        for i in range(100):
            (folder / f"{i:03}.png").write_bytes(damaged(chance.choice(images), chance))
        codes.append(answer("pack", folder.parent, "--size", 9, "--out", "o.packed", "--skip-broken", cwd=tmp_path))
        assert answer("pack", folder.parent, "--size", 9, "--out", "p.packed", cwd=tmp_path) == 4
    assert 0 in codes


@pytest.mark.skipif(not HAS_IMAGES, reason="built without libpng and libjpeg")
def test_packed(tmp_path):
    made_data.image_folder(tmp_path / "in", ["a", "b"], 6)
    assert answer("pack", tmp_path / "in", "--size", 9, "--out", "good.packed", cwd=tmp_path) == 0
    chance, good = random.Random(4), (tmp_path / "good.packed").read_bytes()
    for _ in range(60):
        data = bytearray(good)
        for _ in range(chance.randint(1, 3)):
            data[chance.randrange(200) if chance.random() < 0.8 else chance.randrange(len(data))] ^= chance.randrange(1, 256)
        (tmp_path / "m.packed").write_bytes(data)
        assert bytes(data) == good or answer("init", "m.packed", "--out", "-", cwd=tmp_path) in (2, 4)
    assert answer("init", "good.packed", "--out", "-", cwd=tmp_path) == 0


def test_tables(tmp_path):
    chance, codes = random.Random(5), set()
    good = b'id,a,"b c",kind\n1,2.5,"x ""y""",u\n2,3,z,v\n3,4,w,u\n4,1,w,v\n'
    for _ in range(80):
        (tmp_path / "m.csv").write_bytes(damaged(good, chance))
        codes.add(answer("init", "m.csv", "--out", "-", cwd=tmp_path))
    assert {0, 4} <= codes
