"""The output contract: one JSON object last whatever happens, full disks told, readers that go away, terminals, odd names."""
import json
import os
import pty
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


@pytest.mark.parametrize("args", [["nonsense", "--json"], ["--json"], ["init", "nonsense", "--json"], ["run", "--outt", "x", "--json"],
                                  ["env", "word", "--json"]])
def test_mistakes_in_json(args):
    answer = last_object(rp.call(*args, expect=2)[0])
    assert answer["exit_code"] == 2 and answer["error"]


@pytest.mark.parametrize("args, near", [(["vaidate"], "did you mean `reprise validate`?"), (["run", "--stop-aftr=1h"], "did you mean --stop-after?"),
                                        (["show", "--jsno"], "did you mean --json?"), (["wandering"], None), (["run", "--wandering"], None)])
def test_words_that_were_mistyped(args, near):
    err = rp.call(*args, expect=2)[1]
    assert near in err if near else "did you mean" not in err
    assert "--help` lists them" in err


@pytest.mark.parametrize("args, said", [("train", "`reprise run JOB.yaml` starts"), ("resume", "goes on with it"), ("ls", "`reprise list`"),
                                        ("rain", None), ("train fit", None), ("", None)])
def test_words_of_other_programs(args, said):
    err = rp.call(args, expect=2)[1]
    assert "there is no command" in err and (said in err if said else "here `" not in err)


def test_a_key_is_no_option():
    assert "--set train.optimizer.lr=3e-4" in rp.call("run", "job.yaml", "--lr", "3", expect=2)[1]
    assert "--set" not in rp.call("verify", "--lr", "3", expect=2)[1]


@pytest.mark.parametrize("args, said", [(["plan"], "an argument is missing"), (["plan", "a", "b"], "b is one too many"),
                                        (["env", "a"], "a is one too many: usage: reprise env"), (["plan", "/"], "/ is a folder"),
                                        (["list", "/etc/passwd"], "is no folder"), (["env", "--color", "red"], "auto, always or never")])
def test_words_that_do_not_fit(args, said):
    assert said in rp.call(*args, expect=2)[1]


def test_a_folder_that_is_not_there(tmp_path):
    path = tmp_path / "none" / "job.yaml"
    err = rp.call("init", "digits-mlp", "--out", path, expect=9)[1]
    assert f"cannot write {path}: No such file or directory; make its folder first" in err


def test_version_in_json():
    assert rp.call_json("--version")["version"] in rp.call("--version")[0]


def interrupt(out, *words):
    process = rp.start(*words, "--out", out, "--json")
    while not (out / "digests.jsonl").exists() and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    text, err = process.communicate(timeout=300)
    assert process.returncode == -signal.SIGINT
    assert last_object(text)["exit_code"] == 20 and err.count("reprise: error: ") == 1


def test_interrupt_in_json(tmp_path):
    spec = rp.write(tmp_path, rp.DIGITS_MLP.replace("4 epochs", "100M steps"))
    interrupt(tmp_path / "run", "run", spec)
    interrupt(tmp_path / "again", "rerun", tmp_path / "run")


def on_a_terminal(*args, **env):
    """What a terminal as standard error is sent."""
    here, there = pty.openpty()
    process = subprocess.Popen([rp.PROGRAM, *map(str, args)], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=there,
                               env={**os.environ, "TERM": "xterm", "NO_COLOR": "", **env})
    os.close(there)
    sent = b""
    try:
        while chunk := os.read(here, 65536):
            sent += chunk
    except OSError:  # the other end is closed
        pass
    os.close(here)
    process.wait()
    return sent.decode()


def test_colours(tmp_path):
    red = "\033[31m"
    assert red in on_a_terminal("validate", tmp_path / "none")
    assert red not in on_a_terminal("validate", tmp_path / "none", NO_COLOR="1")
    assert red not in on_a_terminal("validate", tmp_path / "none", TERM="dumb")
    assert red not in on_a_terminal("validate", tmp_path / "none", "--color", "never")
    assert red in rp.call("validate", tmp_path / "none", "--color", "always", expect=2)[1]
    assert red not in rp.call("validate", tmp_path / "none", expect=2)[1]


def test_progress_is_for_terminals(tmp_path):
    spec = rp.write(tmp_path, rp.DIGITS_MLP)
    assert "\r" in on_a_terminal("run", spec, "--out", tmp_path / "a").replace("\r\n", "\n")
    lines = rp.call("run", spec, "--out", tmp_path / "b")[1]
    assert "\r" not in lines and len(lines.splitlines()) < 8  # 13 lines of the log in well under a minute
    assert rp.call("run", spec, "--out", tmp_path / "c", "--quiet")[1] == ""


def test_readers_that_go_away(tmp_path):
    spec = rp.write(tmp_path, rp.DIGITS_MLP)
    final = rp.run(spec, tmp_path / "plain")
    reader, writer = os.pipe()
    os.close(reader)
    process = subprocess.Popen([rp.PROGRAM, "run", spec, "--out", tmp_path / "run"], stdin=subprocess.DEVNULL, stdout=writer, stderr=writer)
    os.close(writer)
    assert process.wait(timeout=300) == 0
    assert rp.manifest(tmp_path / "run")["digests"]["final"] == final


def test_a_hangup_that_was_ignored(tmp_path):
    """Under nohup a SIGHUP is no request; without (fault/test_kill.py) it stops the run."""
    spec, out = rp.write(tmp_path, rp.DIGITS_MLP.replace("4 epochs", "40 epochs")), tmp_path / "run"
    process = rp.start("run", spec, "--out", out, preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    assert rp.kill_when(process, lambda: (out / "digests.jsonl").exists(), signal.SIGHUP) == 0
    assert rp.manifest(out)["status"] == "finished"


def test_no_file_takes_the_place_of_a_device(tmp_path):
    """`--out /dev/null` as root: here a pipe stands for it, and a link to the pipe."""
    spec = rp.write(tmp_path, rp.DIGITS_MLP)
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    for out in ("pipe", "link"):
        _, err = rp.call("lock", spec, "--out", tmp_path / out, expect=2)
        assert f"{out} is a device or a pipe" in err and (tmp_path / out).is_fifo()
    assert {path.name for path in tmp_path.iterdir()} == {"job.yaml", "pipe", "link"}
    rp.call("lock", spec, "--out", tmp_path / "file")


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


def test_names_that_would_drive_the_terminal(tmp_path):
    """Control characters of a name are shown, not sent."""
    folder = tmp_path / "a\033[31mb"
    (folder / "none").mkdir(parents=True)
    shutil.copy(rp.SOURCE / "specs" / "table.csv", folder)
    spec = folder / "job.yaml"
    spec.write_text(TABLE)
    for args in (["validate", spec], ["lock", spec], ["lock", spec, "--check"], ["run", spec, "--out", folder / "run"], ["run", spec, "--out", folder / "run"],
                 ["rerun", folder / "run"], ["eval", folder / "run", "--split", "train"], ["list", folder / "none"],
                 ["init", folder / "table.csv", "--out", folder / "new.yaml"]):
        out, err = rp.call(*args)
        assert "a\\x1b[31mb" in out and "\033" not in out + err, args
