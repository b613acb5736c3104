"""`cmake --install` and `scripts/bundle`: a program that works from any folder, wherever its own folder is moved."""
import json
import os
import pathlib
import shutil
import struct
import subprocess
import zlib

import pytest

import reprise as rp

BUILD = pathlib.Path(rp.PROGRAM).parent


def png(path, value):
    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    rows = b"".join(b"\0" + bytes([value]) * 8 for _ in range(8))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 8, 0, 0, 0, 0)) +
                     chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


def call(program, *args, cwd, expect=0):
    done = subprocess.run([program, *map(str, args)], cwd=cwd, env={"PATH": "/nonexistent"}, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=600)
    assert done.returncode == expect, done.stdout + done.stderr
    return done.stdout, done.stderr


def test_installed_and_moved(tmp_path):
    if not (BUILD / "CMakeCache.txt").exists() or not shutil.which("cmake"):
        pytest.skip("the program under test lies in no build folder")
    subprocess.run(["cmake", "--install", BUILD, "--prefix", tmp_path / "first"], check=True, stdout=subprocess.DEVNULL)
    (tmp_path / "first").rename(tmp_path / "moved")
    program, work = tmp_path / "moved" / "bin" / "reprise", tmp_path / "work"
    work.mkdir()
    call(program, "init", "digits-mlp", "--out", "job.yaml", cwd=work)
    call(program, "run", "job.yaml", "--set", "train.for=8 steps", "--out", "run", cwd=work)
    assert rp.manifest(work / "run")["digests"]["final"] == rp.run(work / "job.yaml", work / "built", "--set", "train.for=8 steps")
    assert (tmp_path / "moved" / "share" / "man" / "man1" / "reprise.1").stat().st_size > 1000
    module = tmp_path / "moved" / "lib" / "reprise" / "reprise_images.so"
    if not module.exists():
        return  # built without libpng and libjpeg
    for name in ("a", "b"):
        (work / name).mkdir()
        png(work / name / "1.png", ord(name))
    call(program, "pack", ".", "--size", "8", "--out", "all.packed", cwd=work)
    # The control: it is that module which was opened, and what is missing has its name.
    module.rename(tmp_path / "elsewhere.so")
    assert "reprise_images" in call(program, "pack", ".", "--size", "8", "--out", "more.packed", cwd=work, expect=3)[1]


def test_bundle(tmp_path):
    """It brings the data that lies beside the specs: every kept job that needs no other can be planned there."""
    if not (BUILD / "CMakeCache.txt").exists() or not shutil.which("objcopy"):
        pytest.skip("the program under test lies in no build folder, or there is no objcopy")
    env = dict(os.environ, RP_BUILD=str(BUILD))
    subprocess.run([rp.SOURCE / "scripts" / "bundle", tmp_path / "first"], check=True, env=env, cwd=rp.SOURCE, stdout=subprocess.DEVNULL)
    (tmp_path / "first").rename(tmp_path / "moved")
    program, specs = tmp_path / "moved" / "bin" / "reprise", tmp_path / "moved" / "specs"
    jobs = [job for job in json.loads((specs / "digests.json").read_text())["jobs"] if rp.data_for(job, tmp_path) == []]
    assert len(jobs) > 5
    for job in jobs:
        call(program, "plan", specs / f"{job}.yaml", cwd=tmp_path)
    call(program, "run", specs / "digits-mlp.yaml", "--set", "train.for=1 step", "--out", tmp_path / "run", cwd=tmp_path)
    # The control: a job whose data is gone.
    (specs / "shapes.packed").unlink()
    call(program, "plan", specs / "images-mix.yaml", cwd=tmp_path, expect=4)
