"""`env` and `lock`: what is recorded, what is refused, and that no secret is in any file."""
import json
import os
import pathlib
import re
import struct

import pytest

import reprise

CANARY = "CANARY5d1e88secret"
SECRETS = {name: CANARY for name in (
    "AWS_SECRET_ACCESS_KEY", "HF_TOKEN", "WANDB_API_KEY", "MLFLOW_TRACKING_PASSWORD", "GITHUB_TOKEN",
    "DATABASE_URL", "SSH_AUTH_SOCK", "LD_LIBRARY_PATH", "APPTAINER_CONTAINER", "REPRISE_CONTAINER_DIGEST",
    "OMP_WAIT_POLICY", "GLIBC_TUNABLES")}
SECRETS.update({name: f"http://user:{CANARY}@proxy.example:3128/?token={CANARY}"
                for name in ("http_proxy", "https_proxy", "HTTPS_PROXY", "MLFLOW_TRACKING_URI")})

SPEC = """reprise: 1
name: locked
seed: 3
determinism: {tier}
environment: {{lock: locked.lock.json}}
resources: {{device: cpu}}
data:
  train: {{format: idx, images: images, labels: labels}}
  valid: {{fraction: 0.25}}
model: {{kind: mlp, hidden: [8]}}
train:
  for: 6 steps
  batch: 16
  optimizer: {{kind: sgd, lr: 0.1}}
checkpoint: {{every: 3 steps}}
"""


def job(folder, tier="portable"):
    """A spec with its data: 64 pictures of 4 by 4 in 4 classes."""
    n = 64
    pixels = bytes((i * 37 + i // 16 % 4 * 60) % 256 for i in range(n * 16))
    (folder / "images").write_bytes(struct.pack(">iiii", 0x803, n, 4, 4) + pixels)
    (folder / "labels").write_bytes(struct.pack(">ii", 0x801, n) + bytes(i % 4 for i in range(n)))
    return reprise.write(folder, SPEC.format(tier=tier))


def change_lock(folder, *keys, value):
    path = folder / "locked.lock.json"
    lock = json.loads(path.read_text())
    place = lock
    for key in keys[:-1]:
        place = place[key]
    assert keys[-1] in place if isinstance(place, dict) else True
    place[keys[-1]] = value
    path.write_text(json.dumps(lock))


def assert_no_canary(*texts, folder=None):
    for text in texts:
        assert CANARY not in text
    for root, _, names in os.walk(folder) if folder else ():
        for name in names:
            assert CANARY.encode() not in (pathlib.Path(root) / name).read_bytes(), name


def test_env_prints_what_could_matter():
    environment = reprise.call_json("env")["environment"]
    assert environment["numerics"] == 1
    assert re.fullmatch("[0-9a-f]{64}", environment["binary"]["sha256"])
    assert re.fullmatch("[0-9a-f]{64}", environment["code"]["source_sha256"])
    assert "-ffp-contract=off" in environment["build"]["flags"]
    assert environment["device"]["path"] in environment["device"]["paths"].split()
    assert environment["threads"] >= 1
    for library in environment["libraries"]:
        assert re.fullmatch("[0-9a-f]{64}", library["sha256"]), library
    out, _ = reprise.call("env")
    assert environment["binary"]["sha256"] in out and environment["system"]["kernel"] in out


def test_env_tells_threads_and_path():
    more = {"OMP_NUM_THREADS": "3", "REPRISE_CPU_PATH": "scalar"}
    environment = reprise.call_json("env", env=more)["environment"]
    assert environment["threads"] == 3 and environment["device"]["path"] == "scalar"
    assert environment["variables"]["OMP_NUM_THREADS"] == "3"


def test_no_secret_anywhere(tmp_path):
    spec = job(tmp_path)
    texts = []
    for args in (["env"], ["env", "--json"], ["lock", spec], ["lock", "--check", spec, "--json"],
                 ["run", spec, "--out", tmp_path / "run"], ["show", tmp_path / "run"],
                 ["show", tmp_path / "run", "--json"]):
        texts += reprise.call(*args, env=SECRETS)
    assert_no_canary(*texts, folder=tmp_path)
    # The control: the list of variables was read.
    variables = reprise.manifest(tmp_path / "run")["environment"]["variables"]
    assert variables["OMP_WAIT_POLICY"] == "(set)"


def test_lock_then_check(tmp_path):
    spec = job(tmp_path)
    reprise.call("lock", spec)
    lock = json.loads((tmp_path / "locked.lock.json").read_text())
    assert [file["key"] for file in lock["data"]] == ["data.train.images", "data.train.labels"]
    out, _ = reprise.call("lock", "--check", spec)
    assert "nothing differs" in out


def test_lock_elsewhere_leaves_no_temporary_file(tmp_path):
    spec = job(tmp_path)
    before = set(tmp_path.iterdir())
    reprise.call("lock", spec, "--out", tmp_path / "other.json")
    assert set(tmp_path.iterdir()) - before == {tmp_path / "other.json"}
    reprise.call("lock", "--check", spec, "--out", tmp_path / "other.json")


def test_lock_missing_or_broken(tmp_path):
    spec = job(tmp_path)
    for command in (["lock", "--check", spec], ["run", spec, "--out", tmp_path / "run"]):
        _, err = reprise.call(*command, expect=3)
        assert "locked.lock.json" in err
    (tmp_path / "locked.lock.json").write_text("{")
    _, err = reprise.call("lock", "--check", spec, expect=3)
    assert "not a lock" in err


def test_data_of_another_hash_is_4(tmp_path):
    spec = job(tmp_path)
    reprise.call("lock", spec)
    data = bytearray((tmp_path / "images").read_bytes())
    data[-1] ^= 1
    (tmp_path / "images").write_bytes(data)
    out, err = reprise.call("lock", "--check", spec, expect=4)
    assert "data.train.images" in out and "data.train.labels" not in out
    _, err = reprise.call("run", spec, "--out", tmp_path / "run", expect=4)
    assert "data.train.images" in err


DRIFTS = [(("environment", "device", "model"), "Another CPU", "device.model", True),
          (("environment", "build", "compiler"), "Clang 99", "build.compiler", True),
          (("environment", "binary", "sha256"), "00" * 32, "binary.sha256", True),
          (("environment", "system", "kernel"), "Linux 1.0", "system.kernel", False)]


@pytest.mark.parametrize("keys, value, what, touches", DRIFTS)
def test_portable_records_only(tmp_path, keys, value, what, touches):
    spec = job(tmp_path)
    reprise.call("lock", spec)
    change_lock(tmp_path, *keys, value=value)
    out, _ = reprise.call("lock", "--check", spec)
    assert re.search(rf"{re.escape(what)} .* no$", out, re.M)
    reprise.call("run", spec, "--out", tmp_path / "run")
    segment = json.dumps(reprise.manifest(tmp_path / "run"))
    assert what in segment


def test_another_numerics_is_refused_at_portable(tmp_path):
    spec = job(tmp_path)
    reprise.call("lock", spec)
    change_lock(tmp_path, "environment", "numerics", value=2)
    _, err = reprise.call("run", spec, "--out", tmp_path / "run", expect=3)
    assert re.search(r"numerics +2 +1 +yes", err)


@pytest.mark.parametrize("keys, value, what, touches", DRIFTS)
def test_pinned_refuses_what_can_touch_bits(tmp_path, keys, value, what, touches):
    spec = job(tmp_path, tier="pinned")
    reprise.call("lock", spec)
    change_lock(tmp_path, *keys, value=value)
    expect = 3 if touches else 0
    out, _ = reprise.call("lock", "--check", spec, expect=expect)
    assert re.search(rf"{re.escape(what)} .* {'yes' if touches else 'no'}$", out, re.M)
    _, err = reprise.call("run", spec, "--out", tmp_path / "run", expect=expect)
    if touches:
        assert what in err and "expected" in err and "--allow-drift" in err
        reprise.call("run", spec, "--out", tmp_path / "run", "--allow-drift")
    assert what in json.dumps(reprise.manifest(tmp_path / "run"))
