"""The image of scripts/container, made from Debian's packages, and what a manifest starts in it: as any user, with a root that
nobody can write, on hosts of their own, found by the names that the manifest gives. For scripts/test --long: minutes."""
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import time

import pytest

import hosts
import reprise as rp
from test_launch import KUBERNETES, documents, pods_of

USER = 1234567  # nobody here or in the image has this id
MADE = os.environ.get("REPRISE_IMAGE")  # one that buildah has already, in place of a new one
STORAGE = rp.SOURCE / "build/containers"
# What a container runtime does: volumes below a root that is read-only then, the devices of every container, its user.
RUN = """set -e
root=$1 top=$2 user=$3
shift 3
mount -t tmpfs tmpfs "$top"
mkdir "$top/upper" "$top/work" "$top/root"
mount -t overlay overlay -o "lowerdir=$root,upperdir=$top/upper,workdir=$top/work" "$top/root"
root=$top/root
mount -t proc proc "$root/proc"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
for device in null zero full random urandom; do : >"$root/dev/$device"; mount --bind "/dev/$device" "$root/dev/$device"; done
while [ "$1" != -- ]; do
    case $2 in
    tmpfs) mkdir -p "$root$1"; mount -t tmpfs -o "mode=1777,$3" tmpfs "$root$1" ;;
    *)
        mkdir -p "$root$(dirname "$1")"
        if [ -d "$2" ]; then mkdir -p "$root$1"; else [ -e "$root$1" ] || : >"$root$1"; fi
        mount --bind "$2" "$root$1"
        [ "$3" != ro ] || mount -o remount,bind,ro "$root$1"
        ;;
    esac
    shift 3
done
shift
mount -o remount,ro "$root"
exec setpriv --no-new-privs chroot --userspec="$user:0" --groups= "$root" "$@"
"""


def buildah(*args):
    return subprocess.run(["buildah", *map(str, args)], env=environment(), check=True, capture_output=True, text=True).stdout.strip()


def environment():
    if MADE:
        return os.environ
    return {**os.environ, "CONTAINERS_STORAGE_CONF": str(STORAGE / "storage.conf"), "BUILDAH_ISOLATION": "chroot"}


def make():
    name = "reprise-test:cpu"
    STORAGE.mkdir(parents=True, exist_ok=True)
    (STORAGE / "storage.conf").write_text(f'[storage]\ndriver = "overlay"\nrunroot = "{STORAGE}/run"\ngraphroot = "{STORAGE}/root"\n')
    with open(STORAGE / "build.log", "w") as log:
        built = subprocess.run([rp.SOURCE / "scripts/container/build", "cpu", "--engine", "buildah", "--bootstrap", "--tag", name],
                               env=environment(), stdout=log, stderr=log)
    assert built.returncode == 0, (STORAGE / "build.log").read_text()[-3000:]
    return name


@pytest.fixture(scope="module")
def image():
    missing = [tool for tool in ("buildah", "debootstrap", "setpriv") if not shutil.which(tool, path=os.environ["PATH"] + ":/usr/sbin")]
    if missing:
        pytest.skip(f"no {', '.join(missing)} here (scripts/setup test --long)")
    if hosts.missing():
        pytest.skip(hosts.missing())
    name = MADE or make()
    container = buildah("from", "--pull-never", name)
    facts = json.loads(buildah("inspect", "--type", "image", name))["OCIv1"]["config"]
    yield {"root": buildah("mount", container), **facts}
    buildah("rm", container)


class Pod:
    """The container of a manifest's pod, on a host of its own."""

    def __init__(self, image, folder, template, args, env, net, i, names):
        self.reason = folder / f"reason-{i}"
        self.reason.write_text("")
        self.reason.chmod(0o666)
        (folder / "etc-hosts").write_text("127.0.0.1 localhost\n" + names)
        train = template["containers"][0]
        volumes = {v["name"]: v for v in template["volumes"]}
        mounts = ["/dev/termination-log", self.reason, "rw", "/etc/hosts", folder / "etc-hosts", "ro"]
        for mount in train["volumeMounts"]:
            volume = volumes[mount["name"]]
            if "emptyDir" in volume:
                size = volume["emptyDir"].get("sizeLimit", "64Mi").replace("i", "")
                mounts += [mount["mountPath"], "tmpfs", f"size={size}"]
            else:
                mounts += [mount["mountPath"], folder / "volumes" / mount["name"], "ro" if mount.get("readOnly") else "rw"]
        assert train["securityContext"]["readOnlyRootFilesystem"] and template["securityContext"]["runAsNonRoot"]
        variables = [*image["Env"], "HOME=/", *(f"{k}={v}" for k, v in env.items()), "OMP_NUM_THREADS=1"]
        top = folder / f"top-{i}"
        top.mkdir(exist_ok=True)
        inside = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", RUN, "sh", image["root"], top, USER, *mounts, "--",
                  "/usr/bin/env", "-i", *variables, *args]
        self.process = rp.start_words(net.command(i, *map(str, inside)))

    def end(self):
        self.out, self.err = self.process.communicate(timeout=120)
        return self.process.returncode


def start(image, folder, manifest, change=lambda i, args: args, during=lambda net: None):
    """The pods of a manifest; what Kubernetes' name service would know is in their /etc/hosts."""
    net = hosts.Hosts(2)
    last = documents(manifest)[-1]
    name = last["metadata"]["name"]
    job = {"Job": lambda: last["spec"],
           "JobSet": lambda: last["spec"]["replicatedJobs"][0]["template"]["spec"],
           "TrainJob": lambda: documents(manifest)[1]["spec"]["template"]["spec"]["replicatedJobs"][0]["template"]["spec"]}[last["kind"]]()
    pattern = {"Job": "{0}-{1}.{0}", "JobSet": "{0}-nodes-0-{1}.{0}", "TrainJob": "{0}-node-0-{1}.{0}"}[last["kind"]]
    names = "".join(f"{net.address(i)} {pattern.format(name, i)}\n" for i in range(2))
    command = job["template"]["spec"]["containers"][0].get("command") or last["spec"]["trainer"]["command"]
    pods = [Pod(image, folder, job["template"]["spec"], [*command, *change(i, args)], env, net, i, names)
            for i, (args, env) in enumerate(pods_of(manifest.parent))]
    during(net)
    codes = [pod.end() for pod in pods]
    net.close()
    return codes, pods, name


@pytest.fixture()
def volumes(tmp_path):
    spec = rp.write(tmp_path, rp.DIGITS_MLP)
    for name in ("spec", "runs", "data-0", "data-1"):
        (tmp_path / "volumes" / name).mkdir(parents=True)
    shutil.copy(spec, tmp_path / "volumes/spec/spec.yaml")
    os.chown(tmp_path / "volumes/runs", USER, 0)
    # A container's user passes through the folders of this test to its volumes.
    for parent in [tmp_path, *tmp_path.parents][:3]:
        parent.chmod(0o755)
    return tmp_path


def write(folder, kind, *args, steps=30):
    rp.write(folder, KUBERNETES + f"  kind: {kind}\n", "site.yaml")
    rp.call("launch", folder / "job.yaml", "--on", "kubernetes", "--site", folder / "site.yaml", "--out", folder / kind, "--set",
            "resources.ranks=4", "--nodes", "2", "--set", f"train.for={steps} steps", *args, cwd=folder, env={"REPRISE_RUNS": "runs"})
    return folder / kind / "job.yaml"


def test_the_image(image):
    assert image["Entrypoint"] == ["/usr/local/bin/reprise"] and image["User"] == "65532:65532"
    root = pathlib.Path(image["root"])
    assert not (root / "src").exists() and not (root / "usr/bin/gcc").exists()
    assert {p.name for p in (root / "usr/local/lib/reprise").iterdir()} >= {"reprise_gloo.so", "reprise_images.so"}


@pytest.mark.parametrize("kind", ["job", "jobset", "trainjob"])
def test_pods_give_the_bits_of_this_machine(image, volumes, kind):
    codes, pods, name = start(image, volumes, write(volumes, kind))
    assert codes == [0, 0], [pod.err for pod in pods]
    run = volumes / "volumes/runs" / name
    want = rp.run(volumes / "job.yaml", volumes / "here", "--set", "train.for=30 steps")
    assert rp.manifest(run)["digests"]["final"] == want
    assert rp.manifest(run)["segments"][0]["ranks"] == 4
    assert {p.stat().st_uid for p in run.rglob("*")} == {USER} and not any(pod.reason.read_text() for pod in pods)


def process_1(net, i):
    """What the kubelet sends its signal to: the first process of the container's own namespace."""
    for pid in net.pids(i):
        with open(f"/proc/{pid}/status") as status:
            if re.search(r"^NSpid:\t\d+\t1$", status.read(), re.M):
                return pid
    raise AssertionError(f"no process 1 on host {i}")


def test_asked_to_stop_and_started_again(image, volumes):
    manifest = write(volumes, "trainjob", steps=300)

    def stop(net):
        end = time.monotonic() + 60
        while not any(d.read_bytes().count(b"\n") > 20 for d in volumes.glob("volumes/runs/*/digests.jsonl")):
            assert time.monotonic() < end
            time.sleep(0.02)
        os.kill(process_1(net, 1), signal.SIGTERM)
    codes, pods, name = start(image, volumes, manifest, during=stop)
    assert codes == [20, 20] and "run the same command again" in pods[0].err, [pod.err for pod in pods]
    codes, pods, _ = start(image, volumes, manifest)
    assert codes == [0, 0], [pod.err for pod in pods]
    manifest = rp.manifest(volumes / "volumes/runs" / name)
    assert len(manifest["segments"]) == 2 and manifest["segments"][0]["step_last"] < 300
    assert manifest["digests"]["final"] == rp.run(volumes / "job.yaml", volumes / "here", "--set", "train.for=300 steps")


def test_control_another_seed(image, volumes):
    codes, pods, name = start(image, volumes, write(volumes, "job", "--set", "seed=8"))
    assert codes == [0, 0], [pod.err for pod in pods]
    want = rp.run(volumes / "job.yaml", volumes / "here", "--set", "train.for=30 steps")
    assert rp.manifest(volumes / "volumes/runs" / name)["digests"]["final"] != want


def test_control_the_root_is_read_only(image, volumes):
    """The same container with another command: what the program could not have written either."""
    program = "id -u; touch /x /usr/local/x /etc/reprise/spec/x /data/x; touch /runs/x /tmp/x /dev/shm/x && echo wrote"
    manifest = write(volumes, "job")
    text = manifest.read_text().replace("        - reprise\n", "        - sh\n")
    manifest.write_text(text)
    codes, pods, _ = start(image, volumes, manifest, lambda i, args: ["-c", program])
    assert codes == [0, 0] and pods[0].out == f"{USER}\nwrote\n", pods[0].err
    assert pods[0].err.count("Read-only file system") == 4, pods[0].err


def test_the_reason_is_where_the_pod_shows_it(image, volumes):
    codes, pods, _ = start(image, volumes, write(volumes, "job"), lambda i, args: [*args, "--set", f"seed={i}"])
    assert codes[0] == 4 and codes[1] != 0
    assert "numeric digest" in pods[0].reason.read_text() and pods[1].reason.read_text()
