"""The output contract: one JSON object last whatever happens, full disks told, names that are no UTF-8."""
import json
import os
import shutil
import signal
import subprocess
import time

import pytest

import reprise as rp

TABLE = """reprise: 1
name: names
seed: 3
data: {train: {format: csv, file: table.csv, label: species}}
model: {kind: mlp, hidden: [4]}
train: {for: 3 steps, batch: 8, optimizer: {kind: sgd, lr: 0.1}}
"""


def last_object(out):
    return json.loads(out.splitlines()[-1])


@pytest.mark.parametrize("args", [["schema"], ["manual", "--json"], ["--version"], ["explain", "lr"]])
def test_a_full_disk_behind_the_result(args):
    with open("/dev/full", "w") as full:
        process = subprocess.run([rp.PROGRAM, *args], stdout=full, stderr=subprocess.PIPE, text=True)
    assert process.returncode == 9
    assert process.stderr.count("reprise: error: ") == 1 and "standard output" in process.stderr
    rp.call(*args)  # control


@pytest.mark.parametrize("args", [["nonsense", "--json"], ["--json"], ["init", "nonsense", "--json"]])
def test_mistakes_in_json(args):
    answer = last_object(rp.call(*args, expect=2)[0])
    assert answer["exit_code"] == 2 and answer["error"]


def test_version_in_json():
    assert rp.call_json("--version")["version"] in rp.call("--version")[0]


def test_interrupt_in_json(tmp_path):
    spec, out = tmp_path / "job.yaml", tmp_path / "run"
    spec.write_text(rp.DIGITS_MLP.replace("4 epochs", "100k steps"))
    process = rp.start("run", spec, "--out", out, "--json")
    while not (out / "digests.jsonl").exists() and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    text, err = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGINT
    assert last_object(text)["exit_code"] == 20 and err.count("reprise: error: ") == 1


def test_names_that_are_no_utf8(tmp_path):
    """Said in UTF-8 with escapes, recorded, and found again."""
    folder, shown = tmp_path / os.fsdecode(b"caf\xe9"), f"{tmp_path}/caf\\xe9"
    folder.mkdir()
    shutil.copy(rp.SOURCE / "specs" / "table.csv", folder)
    (folder / "job.yaml").write_text(TABLE)
    assert rp.call_json("run", folder / "job.yaml", "--out", folder / "run")["run"] == f"{shown}/run"
    rp.run(folder / "job.yaml", tmp_path / "run")
    manifest = rp.manifest(tmp_path / "run")
    assert manifest["data_folder"] == shown
    assert [file["path"] for file in manifest["data"]] == [f"{shown}/table.csv"] and manifest["data"][0]["sha256"]
    assert rp.call_json("rerun", tmp_path / "run")["equal"]
    answer = last_object(rp.call("plan", folder / "none.yaml", "--json", expect=2)[0])
    assert f"{shown}/none.yaml" in answer["error"]
