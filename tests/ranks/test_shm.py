"""Memory that the ranks of one host share: `auto` takes it where all can have it and Gloo where one cannot, `shm` demands it;
whatever ends them leaves nothing behind."""
import os
import pathlib
import re
import resource
import shutil
import signal
import subprocess

import pytest

import reprise as rp
from ranks.test_ranks import ENV, OTHERS_WAIT, PLACE, children_of, ended, free_port, long_run, ranks, torchrun, wait_for

SHM = ["--set", "resources.comm=shm"]
HAS_GLOO = (pathlib.Path(rp.PROGRAM).parent / "reprise_gloo.so").exists()


@pytest.fixture(scope="module")
def spec(tmp_path_factory):
    return rp.write(tmp_path_factory.mktemp("spec"), rp.DIGITS_MLP)


@pytest.fixture(scope="module")
def want(spec, tmp_path_factory):
    return rp.run(spec, tmp_path_factory.mktemp("one") / "run")


def comm_of(run):
    return rp.manifest(run)["segments"][-1]["comm"]


# ---- whoever can share it ------------------------------------------------------------------------------------


def test_auto_takes_it(spec, want, tmp_path):
    """It needs no module at all."""
    (tmp_path / "modules").mkdir()
    for n in (2, 8):
        assert rp.run(spec, tmp_path / str(n), *ranks(n), env={**ENV, "REPRISE_MODULES": str(tmp_path / "modules")}) == want
        assert comm_of(tmp_path / str(n)).startswith("shm, ")
    assert "shm" in rp.call_json("env")["comm"]


LARGE = {"lenet": rp.LENET.replace("out: 24", "out: 2400").replace("12 steps", "5 steps"),
         "mlp": rp.DIGITS_MLP.replace("[33, 20]", "[1100, 900]").replace("4 epochs", "5 steps")}


@pytest.mark.parametrize("name", list(LARGE))
def test_many_pieces(name, tmp_path):
    """Slices of several MiB: every place of the memory is used again and again."""
    spec = rp.write(tmp_path, LARGE[name])
    want = rp.run(spec, tmp_path / "one")
    for n in (2, 8):
        assert rp.run(spec, tmp_path / str(n), *ranks(n), *SHM, env=ENV) == want
    assert rp.run(spec, tmp_path / "threads", *ranks(2), *SHM, "--set", "resources.threads=3") == want
    assert rp.run(spec, tmp_path / "other", *ranks(2), *SHM, "--set", "seed=99", env=ENV) != want  # control


def refuse_large_files():
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))


def test_a_system_that_gives_none(spec, want, tmp_path):
    """A limit on the size of files holds for such memory as well."""
    if HAS_GLOO:
        process = rp.start("run", spec, "--out", tmp_path / "auto", "--json", *ranks(2), env=ENV, preexec_fn=refuse_large_files)
        out, err = process.communicate(timeout=300)
        assert process.returncode == 0 and want in out and "bytes move between ranks through Gloo: this system gives no memory" in err, err
        assert comm_of(tmp_path / "auto").startswith("reprise_gloo, ")
    _, err = rp.call("run", spec, "--out", tmp_path / "shm", *ranks(2), *SHM, env=ENV, preexec_fn=refuse_large_files, expect=3)
    assert "resources.comm is shm, but this system gives no memory" in err and "write `comm: auto`" in err


OTHER_HOST = {
    "another kernel": ["unshare", "--mount", "sh", "-c", 'mount --bind "$BOOT" /proc/sys/kernel/random/boot_id && exec "$@"', "sh"],
    "processes not seen": ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"],
}
SAID = {"another kernel": "cannot share memory with rank 0: it is on another host",
        "processes not seen": "cannot share memory with rank 0: /proc/"}


def two_ranks(spec, out, prefix, boot, *args):
    variables = torchrun(free_port(), 2)
    boot.write_text("00000000-0000-0000-0000-000000000000\n")
    words = [rp.PROGRAM, "run", spec, "--out", out, "--json", *args]
    processes = [rp.start_words([*(prefix if r else []), *words], env={**ENV, **variables(r), "BOOT": str(boot)}) for r in range(2)]
    results = [p.communicate(timeout=300) for p in processes]
    return [p.returncode for p in processes], results


@pytest.mark.parametrize("how", list(OTHER_HOST))
def test_ranks_that_cannot(how, spec, want, tmp_path):
    if os.getuid() != 0 or not shutil.which("unshare") or subprocess.run([*OTHER_HOST["processes not seen"], "true"]).returncode:
        pytest.skip("namespaces need root and unshare")
    if HAS_GLOO:
        codes, results = two_ranks(spec, tmp_path / "auto", OTHER_HOST[how], tmp_path / "boot")
        assert codes == [0, 0] and want in results[0][0], results
        assert comm_of(tmp_path / "auto").startswith("reprise_gloo, ")
    codes, results = two_ranks(spec, tmp_path / "shm", OTHER_HOST[how], tmp_path / "boot", *SHM)
    assert codes == [3, 3], results
    assert "resources.comm is shm, but rank 1" in results[0][1] and SAID[how] in results[0][1], results


def test_control_the_same_two_ranks_can(spec, want, tmp_path):
    codes, results = two_ranks(spec, tmp_path / "run", [], tmp_path / "boot", *SHM)
    assert codes == [0, 0] and want in results[0][0], results


def test_wrong_use(spec, tmp_path):
    _, err = rp.call("run", spec, "--out", tmp_path / "run", *SHM, "--set", "resources.device=cuda", expect=2)
    assert "`comm: shm` moves bytes between CPUs, and `device` is `cuda`" in err
    variables = torchrun(free_port(), 2)
    processes = [rp.start("run", spec, "--out", tmp_path / "mixed", "--set", f"resources.comm={comm}", env={**ENV, **variables(r)})
                 for r, comm in enumerate(("shm", "auto"))]
    results = [p.communicate(timeout=300) for p in processes]
    assert [p.returncode for p in processes] == [3, 3] and "would move bytes with auto, rank 0 with shm" in results[0][1], results


# ---- whatever ends them --------------------------------------------------------------------------------------


def maps_it(pid):
    try:
        return "/memfd:reprise" in pathlib.Path(f"/proc/{pid}/maps").read_text()
    except OSError:
        return False


def open_files(pid):
    found = []
    for file in pathlib.Path(f"/proc/{pid}/fd").iterdir():
        try:
            found.append(os.readlink(file))
        except OSError:
            pass
    return found


def holders():
    return {int(folder.name) for folder in pathlib.Path("/proc").glob("[0-9]*") if maps_it(folder.name)}


def test_nothing_is_left(tmp_path):
    """All killed at once: it is no file, which could stay, and no process has the memory any more."""
    process, others = long_run(tmp_path, 4, *SHM)
    pids = [process.pid, *others]
    assert set(pids) <= holders()  # control: this is where it would be seen
    assert not [file for pid in pids for file in open_files(pid) if "memfd" in file or "/dev/shm" in file]
    assert not [pid for pid in pids if "/dev/shm" in pathlib.Path(f"/proc/{pid}/maps").read_text()]
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    process.communicate()
    wait_for(lambda: not holders() & set(pids))


def test_the_stuck_are_named(tmp_path):
    """Rank 2 stands still and its clock is short: who, where, and what the others wait in."""
    process, others = long_run(tmp_path, 4, *SHM)
    os.kill(others[1], signal.SIGSTOP)
    code, err = ended(process)
    said = re.search(rf"rank 2 \(\S+ process {others[1]}\) is lost: silent for longer than timeout.peer at step \d+, in {PLACE}; {OTHERS_WAIT}", err)
    assert code == 21 and said and set(re.findall(r"\d+", said[1])) == {"0", "1", "3"}, err


def test_killed_again_and_again(tmp_path, want):
    """Any rank, at any moment; what goes on ends in the same bits."""
    spec = rp.write(tmp_path, rp.DIGITS_MLP)
    for steps, victim in ((4, 3), (11, 1), (17, 2)):
        process = rp.start("run", spec, "--out", tmp_path / "run", *ranks(4), *SHM, "--set", "checkpoint.every=2 steps", env={**ENV, **rp.slowly()})
        digests = tmp_path / "run/digests.jsonl"
        wait_for(lambda: process.poll() is not None or digests.exists() and digests.read_text().count("\n") >= steps)
        children = children_of(process)
        assert len(children) == 3, process.communicate()
        os.kill(children[victim - 1], signal.SIGKILL)
        assert ended(process)[0] == 21
    assert rp.run(spec, tmp_path / "run", *ranks(4), *SHM, env=ENV) == want
