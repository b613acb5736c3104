"""launch: what it writes for each target, what it refuses, and that nothing foreign gets into a script unquoted."""
import importlib
import json
import os
import pathlib
import re
import shutil
import stat
import subprocess
import sys

import pytest

import reprise as rp

GOLDEN = pathlib.Path(__file__).with_name("golden")
SLURM = """slurm:
  partition: gpu
  account: project42
  qos: normal
  time: "04:00:00"
  mem: 16G
  gpus_type: h100
  ranks_per_node: 4
  sbatch: [--constraint=ib, --exclusive]
  before: [module load cuda]
"""
KUBERNETES = """kubernetes:
  image: registry.example/reprise:0.1
  namespace: research
  runs: {claim: runs, path: /runs}
  data: [{claim: mnist, path: /data}, {claim: more, path: /more}]
  env_from: [mlflow-credentials]
  queue: gpu-queue
  ranks_per_node: 4
"""
HOSTILE = ["it's", '"', "$(touch pwned)", "`touch pwned`", "a\nb", "50 %j %% \\", "-rf", "; touch pwned", "$HOME", "#x y", "{a: b}",
           "a\tb", " two  blanks ", "!x", "~", "ä ü €", "&", "|", "x: y", "- a", "\\", "\\n"]


@pytest.fixture()
def spec(tmp_path):
    return rp.write(tmp_path, rp.DIGITS_MLP)


def write(tmp_path, target, site, *args, spec="job.yaml", out="out", expect=0, env=None):
    """The folder of the files written, with the site given as text."""
    if site is not None:
        args += ("--site", rp.write(tmp_path, site, "site.yaml"))
    env = {"HOME": str(tmp_path / "home"), "REPRISE_SITE": "", "REPRISE_RUNS": "runs", **(env or {})}
    result = rp.call("launch", spec, "--on", target, "--out", out, *args, cwd=tmp_path, env=env, expect=expect)
    return tmp_path / out if expect == 0 else result[1]


def same_as_golden(tmp_path, path, name):
    text = path.read_text().replace(str(tmp_path), "/work").replace(os.path.realpath(rp.PROGRAM), "/opt/reprise")
    text = re.sub(r"reprise \d+\.\d+\.\d+", "reprise VERSION", text)
    if os.environ.get("RP_UPDATE"):
        (GOLDEN / name).write_text(text)
    assert text == (GOLDEN / name).read_text(), f"RP_UPDATE=1 writes {name} again"


@pytest.mark.parametrize("target,site,args,file,name", [
    ("local", None, ["--set", "resources.ranks=2"], "run.sh", "local.sh"),
    ("local", None, ["--sweep", "seed=1..2"], "run.sh", "local_sweep.sh"),
    ("slurm", SLURM, ["--set", "resources.ranks=8", "--set", "resources.threads=2"], "job.sbatch", "two_nodes.sbatch"),
    ("slurm", SLURM + "  container: /images/reprise.sif\n", ["--sweep", "model.hidden=[3],[4, 5]"], "job.sbatch", "array.sbatch"),
    ("kubernetes", KUBERNETES, ["--set", "resources.ranks=8", "--set", "resources.device=cuda"], "job.yaml", "two_nodes.yaml"),
    ("kubernetes", KUBERNETES, ["--sweep", "seed=1..2"], "job.yaml", "sweep.yaml"),
    ("kubernetes", KUBERNETES + "  kind: jobset\n", ["--set", "resources.ranks=8"], "job.yaml", "jobset.yaml"),
    ("kubernetes", KUBERNETES + "  kind: trainjob\n", ["--set", "resources.ranks=8", "--sweep", "seed=1..2"], "job.yaml", "trainjob.yaml"),
])
def test_goldens(spec, tmp_path, target, site, args, file, name):
    out = write(tmp_path, target, site, *args)
    same_as_golden(tmp_path, out / file, name)
    if target != "kubernetes":
        assert (out / "spec.yaml").read_bytes() == spec.read_bytes()


@pytest.mark.parametrize("name", ["local.sh", "local_sweep.sh", "two_nodes.sbatch", "array.sbatch"])
def test_scripts_are_clean(name):
    shell = "sh" if name.endswith(".sh") else "bash"
    assert subprocess.run([shell, "-n", GOLDEN / name]).returncode == 0
    if not shutil.which("shellcheck"):
        pytest.skip("no shellcheck here")
    # SC2054: a comma within a word of an array, as in model.hidden=[4,5].
    checked = subprocess.run(["shellcheck", "-e", "SC2054", "-s", shell, GOLDEN / name], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout


def documents(path):
    yaml = pytest.importorskip("yaml")
    return list(yaml.safe_load_all(path.read_text()))


def test_manifest(spec, tmp_path):
    out = write(tmp_path, "kubernetes", KUBERNETES, "--set", "resources.ranks=8", "--set", "resources.threads=2")
    config, service, job = documents(out / "job.yaml")
    name = job["metadata"]["name"]
    assert config["data"]["spec.yaml"] == spec.read_text()
    assert service["spec"]["selector"] == {"job-name": name} and service["metadata"]["name"] == name
    assert job["spec"]["completions"] == job["spec"]["parallelism"] == 2 and job["spec"]["completionMode"] == "Indexed"
    pod = job["spec"]["template"]["spec"]
    train = pod["containers"][0]
    assert {v["name"]: v["value"] for v in train["env"]} == {
        "REPRISE_TERMINATION_LOG": train["terminationMessagePath"],
        "REPRISE_NODES": "2", "REPRISE_ADDRESS": f"{name}-0.{name}", "REPRISE_PORT": "29500"}
    assert pod["subdomain"] == name and len(f"{name}-0") < 64
    assert train["args"][:6] == ["run", "/etc/reprise/spec/spec.yaml", "--data", "/data", "--out", f"/runs/{name}"]
    assert train["resources"]["requests"]["cpu"] == "8"
    rules = {tuple(r.get("onExitCodes", {}).get("values", [])): r["action"] for r in job["spec"]["podFailurePolicy"]["rules"]}
    assert rules[(2, 3, 4, 5, 6, 7, 8, 9, 10)] == "FailJob" and rules[(20,)] == "Ignore"
    assert pod["securityContext"]["runAsNonRoot"] and train["securityContext"]["readOnlyRootFilesystem"]
    mounts = {m["mountPath"]: m for m in train["volumeMounts"]}
    assert {path for path, mount in mounts.items() if not mount.get("readOnly")} == {"/runs", "/dev/shm", "/tmp"}
    assert {"medium": "Memory", "sizeLimit": "1Gi"} in [v.get("emptyDir") for v in pod["volumes"]]
    # One node needs neither a service nor variables: the process starts its ranks itself; one rank shares no memory.
    config, job = documents(write(tmp_path, "kubernetes", KUBERNETES, out="one") / "job.yaml")
    one = job["spec"]["template"]["spec"]["containers"][0]
    assert [v["name"] for v in one["env"]] == ["REPRISE_TERMINATION_LOG"]
    assert "/dev/shm" not in [m["mountPath"] for m in one["volumeMounts"]]


@pytest.mark.parametrize("name", ["two_nodes.yaml", "sweep.yaml"])
def test_manifest_against_the_api(name):
    """Strictly: an unknown field is an error."""
    validate = pytest.importorskip("kubernetes_validate", reason="no Python package kubernetes-validate here")
    for document in documents(GOLDEN / name):
        validate.validate(document, "1.31", strict=True)
        broken = {**document, "spec": {**document.get("spec", {}), "bogus": 1}}
        with pytest.raises(validate.ValidationError):
            validate.validate(broken, "1.31", strict=True)


MODELS = {"Job": "io_k8s_api_batch_v1_job.IoK8sApiBatchV1Job", "JobSet": "jobset_v1alpha2_job_set.JobsetV1alpha2JobSet",
          "TrainingRuntime": "trainer_v1alpha1_training_runtime.TrainerV1alpha1TrainingRuntime",
          "TrainJob": "trainer_v1alpha1_train_job.TrainerV1alpha1TrainJob"}


@pytest.mark.parametrize("name", ["two_nodes.yaml", "jobset.yaml", "trainjob.yaml"])
def test_manifest_against_the_trainer_s_models(name):
    """The models that Kubeflow generates from its API, those of Job and JobSet among them. They pass over an unknown field,
    so what they give back must be what they were given."""
    sys.path.insert(0, str(rp.SOURCE / "build/schemas"))
    pytest.importorskip("kubeflow_trainer_api", reason="no Python package kubeflow-trainer-api here (scripts/setup test)")
    import pydantic
    seen = 0
    for document in documents(GOLDEN / name):
        if document["kind"] not in MODELS:
            continue
        module, kind = MODELS[document["kind"]].split(".")
        model = getattr(importlib.import_module(f"kubeflow_trainer_api.models.{module}"), kind)
        assert model.from_dict(document).to_dict() == document
        broken = {**document, "spec": {**document["spec"], "bogus": 1}}
        assert model.from_dict(broken).to_dict() != broken
        wrong = {**document, "spec": {**document["spec"], {"Job": "parallelism", "JobSet": "replicatedJobs",
                                                           "TrainingRuntime": "mlPolicy", "TrainJob": "trainer"}[document["kind"]]: ["x"]}}
        with pytest.raises((pydantic.ValidationError, AttributeError)):
            model.from_dict(wrong)
        seen += 1
    assert seen == {"two_nodes.yaml": 1, "jobset.yaml": 1, "trainjob.yaml": 3}[name]


def test_a_jobset_holds_the_same_job(spec, tmp_path):
    args = ["--set", "resources.ranks=8", "--set", "model.hidden=[3,\n4]"]
    job = documents(write(tmp_path, "kubernetes", KUBERNETES, *args) / "job.yaml")[2]
    config, jobs = documents(write(tmp_path, "kubernetes", KUBERNETES + "  kind: jobset\n", *args, out="set") / "job.yaml")
    inside = jobs["spec"]["replicatedJobs"][0]["template"]["spec"]
    name = jobs["metadata"]["name"]
    assert inside.pop("backoffLimit") == 0 and job["spec"].pop("backoffLimit") == 10
    assert job["spec"]["template"]["spec"].pop("subdomain") == name
    address = inside["template"]["spec"]["containers"][0]["env"][2]
    assert address["value"] == f"{name}-nodes-0-0.{name}"
    address["value"] = f"{name}-0.{name}"
    assert inside == job["spec"] and config["data"]["spec.yaml"] == spec.read_text()


def test_a_trainjob_and_its_runtime_hold_the_same_job(spec, tmp_path):
    args = ["--set", "resources.ranks=8", "--set", "model.hidden=[3,\n4]"]
    jobs = documents(write(tmp_path, "kubernetes", KUBERNETES + "  kind: jobset\n", *args) / "job.yaml")[1]
    _, runtime, train = documents(write(tmp_path, "kubernetes", KUBERNETES + "  kind: trainjob\n", *args, out="train") / "job.yaml")
    name = train["metadata"]["name"]
    assert train["spec"]["runtimeRef"] == {"apiGroup": "trainer.kubeflow.org", "kind": runtime["kind"], "name": runtime["metadata"]["name"]}
    assert runtime["spec"]["mlPolicy"] == {"numNodes": 2, "torch": {}} and train["spec"]["trainer"]["numProcPerNode"] == 4
    # What the Trainer makes of them: the words of the TrainJob in the container `node` of the job `node` with this label.
    made = runtime["spec"]["template"]["spec"]
    node = made["replicatedJobs"][0]
    assert node["name"] == "node" and node["template"].pop("metadata") == {"labels": {"trainer.kubeflow.org/trainjob-ancestor-step": "trainer"}}
    inside = node["template"]["spec"]["template"]["spec"]["containers"][0]
    assert inside["name"] == "node" and not {"command", "args"} & set(inside)
    inside.update(command=train["spec"]["trainer"]["command"], args=train["spec"]["trainer"]["args"])
    for entry in jobs["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]["containers"][0]["env"][1:]:
        assert entry["name"].startswith("REPRISE_")  # PET_* take their place
        inside["env"].append(entry)
    same = json.dumps(made).replace('"node"', '"train"').replace('"name": "train", "replicas"', '"name": "nodes", "replicas"')
    assert json.loads(same) == jobs["spec"] and jobs["metadata"]["name"] == name


@pytest.mark.parametrize("kind", ["job", "jobset", "trainjob"])
def test_long_names_stay_apart(tmp_path, kind):
    """A pod's name is a label of 63: the JobSet's, its job's, two numbers and a suffix of six."""
    long = rp.write(tmp_path, rp.DIGITS_MLP.replace("name: small-mlp", "name: " + "9" + "a-b" * 13))
    out = write(tmp_path, "kubernetes", KUBERNETES + f"  kind: {kind}\n", "--sweep", "seed=1..2", "--set", "resources.ranks=8")
    names = {d["metadata"]["name"] for d in documents(out / "job.yaml") if d["kind"] in ("Job", "JobSet", "TrainJob")}
    assert len(names) == 2 and all(len(f"{n}-nodes-0-999-abcde") <= 63 and n[0] == "r" for n in names), (long, names)
    args = [json.dumps(d) for d in documents(out / "job.yaml")]
    assert "/runs/9" + "a-b" * 13 in "".join(args)


def pods_of(folder):
    """What the containers of a manifest would start, with the variables that their controllers add: a list of (args, env)."""
    *_, last = documents(folder / "job.yaml")
    if last["kind"] == "TrainJob":
        runtime = documents(folder / "job.yaml")[1]
        job = runtime["spec"]["template"]["spec"]["replicatedJobs"][0]["template"]["spec"]
        trainer = last["spec"]["trainer"]
        nodes, args = trainer["numNodes"], trainer["args"]
        more = {"PET_NNODES": str(nodes), "PET_NPROC_PER_NODE": str(trainer["numProcPerNode"]), "PET_MASTER_PORT": "29500",
                "PET_MASTER_ADDR": "{0}-node-0-0.{0}".format(last["metadata"]["name"])}
    else:
        job = last["spec"] if last["kind"] == "Job" else last["spec"]["replicatedJobs"][0]["template"]["spec"]
        nodes, args, more = job["completions"], job["template"]["spec"]["containers"][0]["args"], {}
    env = {v["name"]: v["value"] for v in job["template"]["spec"]["containers"][0]["env"]}
    return [(args, {**env, **more, "JOB_COMPLETION_INDEX": str(i), **({"PET_NODE_RANK": str(i)} if more else {})}) for i in range(nodes)]


@pytest.mark.parametrize("kind", ["job", "trainjob"])
def test_the_arguments_of_the_manifest_run(spec, tmp_path, kind):
    """What the containers would start, with their paths on this machine: the two pods of a job find each other. No home, no
    rights; then one of them is given a spec that cannot run, and says so where its pod's reason is read."""
    if not (pathlib.Path(rp.PROGRAM).parent / "reprise_gloo.so").exists():
        pytest.skip("this build has no module reprise_gloo")
    site = KUBERNETES.replace("/runs", str(tmp_path / "pvc")) + f"  kind: {kind}\n"
    out = write(tmp_path, "kubernetes", site, "--set", "resources.ranks=4", "--nodes", "2", "--set", "train.for=10 steps")
    reasons = [tmp_path / f"reason-{i}" for i in range(2)]

    def start(i, args, env, *more):
        here = {"REPRISE_ADDRESS": "127.0.0.1", "REPRISE_PORT": "23517", "PET_MASTER_ADDR": "127.0.0.1", "OMP_NUM_THREADS": "1",
                "REPRISE_TERMINATION_LOG": str(reasons[i])}
        args = [spec if a == "/etc/reprise/spec/spec.yaml" else a for a in args]
        return rp.start(*args, *more, env={**env, **here})
    pods = [start(i, *pod) for i, pod in enumerate(pods_of(out))]
    for pod in pods:
        _, err = pod.communicate(timeout=300)
        assert pod.returncode == 0, err
    run = next((tmp_path / "pvc").iterdir())
    assert rp.manifest(run)["segments"][0]["ranks"] == 4 and not any(reason.exists() for reason in reasons)
    assert rp.manifest(run)["digests"]["final"] == rp.run(spec, tmp_path / "alone", "--set", "train.for=10 steps")
    pods = [start(i, *pod, "--fresh", "--set", f"seed={i}") for i, pod in enumerate(pods_of(out))]
    errors = [pod.communicate(timeout=300)[1] for pod in pods]
    assert all(pod.returncode for pod in pods) and pods[0].returncode == 4, errors
    assert "numeric digest" in reasons[0].read_text() and len(reasons[0].read_text()) < 4096
    assert reasons[1].read_text() and reasons[1].read_text().count("\n") <= 2


@pytest.mark.parametrize("kind", ["job", "trainjob"])
def test_one_pod_of_several_ranks(spec, tmp_path, kind):
    """Whose variables say that it is the only one."""
    site = KUBERNETES.replace("/runs", str(tmp_path / "pvc")) + f"  kind: {kind}\n"
    out = write(tmp_path, "kubernetes", site, "--set", "resources.ranks=4", "--set", "train.for=5 steps")
    (args, env), = pods_of(out)
    assert env.get("PET_NNODES") == ("1" if kind == "trainjob" else None)
    env = {**env, "REPRISE_TERMINATION_LOG": "", "OMP_NUM_THREADS": "1"}
    words = [spec if a == "/etc/reprise/spec/spec.yaml" else a for a in args]
    rp.call(*words, env=env)
    run = next((tmp_path / "pvc").iterdir())
    assert rp.manifest(run)["segments"][0]["ranks"] == 4
    if kind == "trainjob":
        _, err = rp.call(*words, "--set", "resources.ranks=2", env=env, expect=2)
        assert "resources.ranks is 2, but PET_NPROC_PER_NODE is 4" in err


def test_the_reason_of_an_end(spec, tmp_path):
    reason = tmp_path / "reason"
    env = {"REPRISE_TERMINATION_LOG": str(reason)}
    rp.call("run", spec, "--out", tmp_path / "run", "--set", "train.for=5 steps", env=env)
    assert not reason.exists()
    reason.write_text("")  # as the kubelet makes it
    _, err = rp.call("run", spec, "--out", tmp_path / "bad", "--set", "train.batch=63.5", env=env, expect=2)
    assert err == "reprise: error: " + reason.read_text() and "train.batch" in err
    # A reason that cannot be written changes nothing.
    _, same = rp.call("run", spec, "--out", tmp_path / "bad", "--set", "train.batch=63.5", env={"REPRISE_TERMINATION_LOG": "/proc/no/file"},
                      expect=2)
    assert same == err


# ---- quoting ------------------------------------------------------------------------------------

def fake(folder, name, script):
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(script)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def hostile_spec(tmp_path, text):
    """A spec that takes any text: the name of a column."""
    body = rp.DIGITS_MLP.replace("{format: synthetic, task: digits, samples: 640}", "{format: csv, file: t.csv, label: y}")
    body = body[:body.index("  transform")] + body[body.index("model:"):]
    return rp.write(tmp_path, body), f"data.train.label={text!r}" if "'" not in text else None


@pytest.mark.parametrize("text", HOSTILE)
def test_words_reach_the_program_unchanged(tmp_path, text):
    """The batch script, with an srun that writes its arguments down: --set, folder and site."""
    folder = tmp_path / ("w " + text.replace("/", "").replace("\n", "").replace("\t", "").replace("\\", ""))
    folder.mkdir()
    hostile_spec(folder, text)
    bin = tmp_path / "bin"
    fake(bin, "srun", '#!/bin/sh\nfor a; do printf "%s\\0" "$a"; done >"$ARGUMENTS"\n')
    key = "data.train.label=" + json.dumps(text)
    site = "slurm:\n  time: \"10\"\n  account: " + json.dumps(text.replace("\n", "").replace("\t", "").lstrip("-")) + "\n"
    out = write(folder, "slurm", site, "--set", key)
    environment = {**os.environ, "PATH": f"{bin}:{os.environ['PATH']}", "ARGUMENTS": str(tmp_path / "arguments"), "SLURM_JOB_ID": "1"}
    subprocess.run(["bash", out / "job.sbatch"], cwd=folder, env=environment, check=True)
    words = (tmp_path / "arguments").read_bytes().decode().split("\0")[:-1]
    assert words[:2] == ["--mpi=none", "--kill-on-bad-exit=0"]
    assert words[3:7] == ["run", str(out / "spec.yaml"), "--data", str(folder)] and words[-2:] == ["--set", key]
    assert not list(tmp_path.rglob("pwned"))
    # The same words in the YAML of Kubernetes, where $(NAME) would be replaced.
    manifest = write(folder, "kubernetes", KUBERNETES, "--set", key, out="k8s") / "job.yaml"
    args = documents(manifest)[-1]["spec"]["template"]["spec"]["containers"][0]["args"]
    assert args[args.index("--set") + 1].replace("$$", "$") == key
    assert not re.search(r"(?<!\$)(\$\$)*\$\(", args[args.index("--set") + 1])
    # And in the command lines of this machine.
    script = write(folder, "local", None, "--set", key, out="local") / "run.sh"
    assert key in subprocess.run(["sh", "-c", script.read_text().replace("exec ", "printf '%s\\n' ", 1)], capture_output=True,
                                 text=True, check=True).stdout


def test_a_line_end_stays_in_its_word(spec, tmp_path):
    key = "model.hidden=[3,\n 4]"
    script = write(tmp_path, "local", None, "--set", key) / "run.sh"
    shown = subprocess.run(["sh", "-c", script.read_text().replace("exec ", "printf '<%s>' ", 1)], capture_output=True, text=True, check=True)
    assert f"<{key}>" in shown.stdout
    args = documents(write(tmp_path, "kubernetes", KUBERNETES, "--set", key, out="k8s") / "job.yaml")[-1]["spec"]["template"]["spec"]
    assert key in args["containers"][0]["args"]
    folder = tmp_path / "a\nb"
    folder.mkdir()
    assert "control character" in write(tmp_path, "slurm", SLURM, out=folder / "x", expect=2)
    assert "backslash" in write(tmp_path, "slurm", SLURM, out="a\\b", expect=2)


@pytest.mark.parametrize("text", ["reprise: 1\r\nname: x\r\n", "# ä\n", "# trailing \n\n\n", "a: '%'\n# \\ \" \x7f"])
def test_the_spec_is_the_same_in_the_manifest(tmp_path, text):
    path = tmp_path / "job.yaml"
    body = rp.DIGITS_MLP
    path.write_bytes((body.replace("\n", "\r\n") if "\r" in text else body + (text if text[0] == "#" else "")).encode())
    config = documents(write(tmp_path, "kubernetes", KUBERNETES) / "job.yaml")[0]
    assert config["data"]["spec.yaml"].encode() == path.read_bytes()


# ---- what is refused ------------------------------------------------------------------------------

@pytest.mark.parametrize("target,site,words", [
    ("slurm", "slurm: {partition: gpu}\n", ["lacks `slurm.time`", 'time: "04:00:00"']),
    ("slurm", None, ["no site file", "`slurm.time` is needed", "slurm:\n  time:"]),
    ("kubernetes", "kubernetes: {image: x}\n", ["lacks `kubernetes.runs`", "runs: {claim: runs, path: /runs}"]),
    ("kubernetes", "slurm: {time: '1'}\n", ["lacks `kubernetes.image`"]),
    ("slurm", "slurm:\n  partitoin: gpu\n  time: 60\n", ["site.yaml:2:3: no key `partitoin` in `slurm`; did you mean `partition`?",
                                                        "put it in quotes"]),
    ("slurm", "slurm: {time: soon}\n", ["`slurm.time` must be a time"]),
    ("slurm", "slurm: {time: '1:2:3:4'}\n", ["none of Slurm's forms"]),
    ("slurm", "slurm: {time: '60', sbatch: [-C ib]}\n", ["must be an option, --name or --name=value; found `-C ib`"]),
    ("slurm", "slurm: {time: '60', sbatch: [\"--wrap=x\\ny\"]}\n", ["one line each"]),
    ("slurm", "slurm: {time: '60', account: -x}\n", ["must not start with `-`"]),
    ("slurm", "slurm: &a {time: '60'}\n", ["an anchor"]),
    ("slurm", "[1]\n", ["not a map of keys; a site file is"]),
    ("slurm", "", ["nothing in the file"]),
    ("kubernetes", "kubernetes: {image: x, kind: mpijob}\n", ["one of: job, jobset, trainjob"]),
    ("kubernetes", "kubernetes: {image: x, runs: {claim: a, path: runs}}\n", ["`kubernetes.runs`: the path `runs` must begin with `/`"]),
    ("kubernetes", "kubernetes: {image: x, runs: {claim: a, path: /tmp}}\n", ["something else is mounted at `/tmp`"]),
    ("kubernetes", "kubernetes: {image: x, runs: {claim: a, path: /a}, data: [{claim: b, path: /a}]}\n",
     ["`kubernetes.data`: something else is mounted at `/a`"]),
    ("moon", SLURM, ["--on moon: it is local, slurm or kubernetes"]),
])
def test_refusals(spec, tmp_path, target, site, words):
    err = write(tmp_path, target, site, expect=2)
    for word in words:
        assert word in err, err
    assert not (tmp_path / "out").exists()


def test_ranks_and_nodes(spec, tmp_path):
    def nodes(*args, **more):
        result = write(tmp_path, "slurm", SLURM, *args, out="-".join(args) or "none", **more)
        return result if more else re.findall(r"--(?:nodes|ntasks)=(\d+)", (result / "job.sbatch").read_text())
    assert nodes() == ["1", "1"]
    assert nodes("--set", "resources.ranks=8") == ["2", "8"]
    assert nodes("--set", "resources.ranks=8", "--nodes", "4") == ["4", "8"]
    assert nodes("--nodes", "2") == ["2", "8"]
    assert "do not fit on 1 nodes" in nodes("--set", "resources.ranks=8", "--nodes", "1", expect=2)
    assert "do not fit on 3 nodes" in nodes("--set", "resources.ranks=8", "--nodes", "3", expect=2)
    assert "cannot share 8 shards evenly" in nodes("--nodes", "4", expect=2)
    assert "--nodes x: expected" in nodes("--nodes", "x", expect=2)


def test_the_time_limit(spec, tmp_path):
    def limit(*args, site=SLURM, out="-"):
        text = (write(tmp_path, "slurm", site, *args, out="-".join(args) + out) / "job.sbatch").read_text()
        return re.search(r"--time=(\S+)", text)[1], int(re.search(r"USR1@(\d+)", text)[1])
    assert limit() == ("04:00:00", 120) and limit("--time", "1:00") == ("1:00", 15) and limit("--time", "1-2") == ("1-2", 120)
    assert limit("--time", "5") == ("5", 75)
    # Ten minutes, and the few that a busy machine thinks the run would take.
    assert re.fullmatch(r"0:[12]\d:00", limit("--estimate")[0]) and limit("--estimate", "--time", "5") == ("5", 75)
    assert re.fullmatch(r"0:[12]\d:00", limit("--estimate", site="slurm: {partition: x}\n", out="2")[0])
    assert not list(tmp_path.glob("runs/*")) and not list(tmp_path.glob("**/.try*"))


def test_a_warning_where_a_save_does_not_fit(spec, tmp_path):
    def said(target, site, *args):
        rp.write(tmp_path, site, "site.yaml")
        out = f"out{len(list(tmp_path.iterdir()))}"
        return rp.call("launch", spec, "--on", target, "--site", tmp_path / "site.yaml", "--out", out, *args, cwd=tmp_path,
                       env={"REPRISE_RUNS": "runs"})[1]
    assert said("slurm", SLURM) == "" and said("kubernetes", KUBERNETES) == ""
    short = said("slurm", SLURM, "--time", "1:00")
    assert "the time limit 1:00 leaves 15 s between the request to stop and the kill" in short and "may take 60 s" in short
    # Measured, it fits into two minutes, but not into a second.
    measured = said("slurm", SLURM + "  grace: 1\n", "--time", "10:00", "--estimate")
    assert "slurm.grace of the site leaves 1 s" in measured and "took, with as much again" in measured and measured.count("leaves") == 1
    own = said("slurm", SLURM.replace("[--constraint=ib, --exclusive]", "['--signal=TERM@30']"))
    assert "--signal=TERM@30 leaves 30 s" in own and "passes nothing else on" in own
    assert said("slurm", SLURM.replace("[--constraint=ib, --exclusive]", "['--signal=B:USR1@300']")) == ""
    assert "kubernetes.grace of the site leaves 25 s" in said("kubernetes", KUBERNETES + "  grace: 25\n")
    rp.write(tmp_path, "spec: {template: {spec: {terminationGracePeriodSeconds: 30}}}\n", "site-patch.yaml")
    assert "of the site's patch leaves 30 s" in said("kubernetes", KUBERNETES + "  patch: site-patch.yaml\n")


def test_data_that_is_not_to_be_seen_from_here(tmp_path):
    """Slurm's nodes may see more: a warning, no refusal. In pods the paths are others."""
    hostile_spec(tmp_path, "")
    for target, site, warned in (("slurm", SLURM, 1), ("kubernetes", KUBERNETES, 0), ("local", "", 1)):
        rp.write(tmp_path, site or SLURM, "site.yaml")
        said = rp.call("launch", tmp_path / "job.yaml", "--on", target, "--site", tmp_path / "site.yaml", "--out", target, cwd=tmp_path,
                       env={"REPRISE_RUNS": "runs"})[1]
        assert said.count("ends with 4: ") == said.count("there is no file ") == warned, said
        assert said.count("--data DIR") == warned, said


def test_written_files_are_never_overwritten(spec, tmp_path):
    out = write(tmp_path, "slurm", SLURM)
    write(tmp_path, "slurm", SLURM)  # the same again
    (out / "job.sbatch").write_text("mine\n")
    assert "is there already and is another" in write(tmp_path, "slurm", SLURM, expect=2)
    assert (out / "job.sbatch").read_text() == "mine\n"


def test_where_the_site_is_found(spec, tmp_path):
    def limit(**env):
        out = f"out{len(list(tmp_path.iterdir()))}"
        return re.search(r"--time=(\S+)", (write(tmp_path, "slurm", None, out=out, env=env) / "job.sbatch").read_text())[1]
    (tmp_path / "home/.config/reprise").mkdir(parents=True)
    rp.write(tmp_path / "home/.config/reprise", "slurm: {time: '11'}\n", "site.yaml")
    other = rp.write(tmp_path, "slurm: {time: '22'}\n", "other.yaml")
    assert limit() == "11" and limit(REPRISE_SITE=str(other)) == "22"
    assert "nowhere.yaml" in write(tmp_path, "slurm", None, expect=2, env={"REPRISE_SITE": "nowhere.yaml"})


@pytest.mark.parametrize("target", ["slurm", "kubernetes"])
def test_the_example_is_a_site(spec, tmp_path, target):
    example, _ = rp.call("launch", "--site-example", target)
    write(tmp_path, target, example)
    # With everything switched on, too.
    full = re.sub(r"^  # (\w+: )", r"  \1", example, flags=re.M).replace("  patch: site-patch.yaml\n", "")
    assert full.count("\n  #") >= 10
    write(tmp_path, target, full, out="full")
    rp.call("launch", "--site-example", "moon", expect=2)


@pytest.mark.parametrize("kind,patch", [
    ("job", "# ours\nspec: {suspend: true}\n"),
    ("job", "# ours\n---\n# GPUs\nspec: {suspend: true}\n"),
    ("jobset", "spec:\n  suspend: true\n"),
    ("jobset", "apiVersion: jobset.x-k8s.io/v1alpha2\nkind: JobSet\nmetadata: {name: any}\nspec: {suspend: true}\n"),
    ("trainjob", "- op: add\n  path: /spec/suspend\n  value: true\n"),
])
def test_a_patch_goes_through_kustomize(spec, tmp_path, kind, patch):
    rp.write(tmp_path, patch, "site-patch.yaml")
    out = write(tmp_path, "kubernetes", KUBERNETES + f"  kind: {kind}\n  patch: site-patch.yaml\n", "--set", "resources.ranks=8")
    assert documents(out / "kustomization.yaml")[0]["patches"][0]["path"] == "patch.yaml"
    assert (out / "patch.yaml").read_text().endswith(patch.split("---\n")[-1])
    if not shutil.which("kubectl"):
        pytest.skip("no kubectl here")
    made = subprocess.run(["kubectl", "kustomize", out], capture_output=True, text=True, check=True).stdout
    yaml = pytest.importorskip("yaml")
    kinds = {d["kind"]: d.get("spec", {}).get("suspend") for d in yaml.safe_load_all(made)}
    assert list(kinds) == {"job": ["ConfigMap", "Service", "Job"], "jobset": ["ConfigMap", "JobSet"],
                           "trainjob": ["ConfigMap", "TrainingRuntime", "TrainJob"]}[kind]
    assert [k for k, suspended in kinds.items() if suspended] == [{"job": "Job", "jobset": "JobSet", "trainjob": "TrainingRuntime"}[kind]]


POD = "/replicatedJobs/0/template/spec/template/spec/nodeSelector"


@pytest.mark.parametrize("kind,path", [("jobset", "/spec" + POD), ("trainjob", "/spec/template/spec" + POD)])
def test_a_patch_for_a_job_does_not_reach_into_a_set(spec, tmp_path, kind, path):
    """It would land beside the list that holds the Job; what the error says to write lands in its pods."""
    def with_patch(patch, out, **more):
        rp.write(tmp_path, patch, "site-patch.yaml")
        return write(tmp_path, "kubernetes", KUBERNETES + f"  kind: {kind}\n  patch: site-patch.yaml\n", out=out, **more)
    for patch in ("spec: {template: {spec: {nodeSelector: {disk: fast}}}}\n", "spec:\n  template:\n    spec:\n      tolerations: []\n"):
        err = with_patch(patch, "bad", expect=2)
        assert "which is of a Job" in err and not (tmp_path / "bad").exists(), err
    said = err[err.index("  - op"):]
    assert f"path: {path}" in said
    out = with_patch(said.replace("\n  ", "\n").lstrip(" "), "good")
    if not shutil.which("kubectl"):
        pytest.skip("no kubectl here")
    made = subprocess.run(["kubectl", "kustomize", out], capture_output=True, text=True, check=True).stdout
    yaml = pytest.importorskip("yaml")
    inside = next(d for d in yaml.safe_load_all(made) if d["kind"] in ("JobSet", "TrainingRuntime"))
    for key in path.strip("/").split("/"):
        inside = inside[int(key) if key.isdigit() else key]
    assert inside == {"disk": "fast"}


def test_submit(spec, tmp_path):
    bin = tmp_path / "bin"
    path = {"PATH": f"{bin}:/usr/bin:/bin"}
    bin.mkdir()
    fake(bin, "sbatch", "#!/bin/sh\necho \"sbatch got $*\"\n")
    fake(bin, "kubectl", "#!/bin/sh\necho no cluster >&2; exit 5\n")
    site = rp.write(tmp_path, SLURM + KUBERNETES, "both.yaml")
    out, _ = rp.call("launch", spec, "--on", "slurm", "--site", site, "--submit", "--out", "a", cwd=tmp_path, env=path)
    assert out.splitlines()[-1] == f"sbatch got {tmp_path}/a/job.sbatch"
    _, err = rp.call("launch", spec, "--on", "kubernetes", "--site", site, "--submit", "--out", "b", cwd=tmp_path, env=path, expect=3)
    assert "no cluster" in err and "kubectl failed (exit 5)" in err and not list((tmp_path / "b").iterdir())
    (bin / "kubectl").unlink()
    _, err = rp.call("launch", spec, "--on", "kubernetes", "--site", site, "--submit", "--out", "b", cwd=tmp_path,
                     env={"PATH": str(bin)}, expect=3)
    assert "kubectl is not installed here" in err


def test_what_the_scheduler_refuses_can_be_corrected(spec, tmp_path):
    """The same command again, with another site. What was there before a call stays, whatever becomes of it."""
    bin = tmp_path / "bin"
    fake(bin, "sbatch", "#!/bin/sh\ngrep -q partition=right \"$1\" || { echo no such partition >&2; exit 1; }\necho fine\n")

    def submit(partition, expect, *args):
        site = rp.write(tmp_path, SLURM.replace("partition: gpu", f"partition: {partition}"), "site.yaml")
        return rp.call("launch", spec, "--on", "slurm", "--site", site, "--out", "a", *args, cwd=tmp_path, env={"PATH": f"{bin}:/usr/bin:/bin"},
                       expect=expect)
    _, err = submit("wrong", 3, "--submit")
    assert "no such partition" in err and "give the same command again" in err and not list((tmp_path / "a").iterdir())
    assert submit("right", 0, "--submit")[0].endswith("fine\n")
    assert "is there already and is another" in submit("wrong", 2, "--submit")[1]  # that of a job that waits
    shutil.rmtree(tmp_path / "a")
    submit("wrong", 0)
    submit("wrong", 3, "--submit")
    assert (tmp_path / "a/job.sbatch").exists() and (tmp_path / "a/spec.yaml").exists()


def test_a_local_run_gives_its_own_code(spec, tmp_path):
    rp.call("launch", spec, "--on", "local", "--submit", "--out", "a", "--set", "train.for=4 steps", cwd=tmp_path)
    _, err = rp.call("launch", spec, "--on", "local", "--submit", "--out", "b", "--set", "train.optimizer.lr=1e6", cwd=tmp_path, expect=6)
    assert "the run ended with 6" in err and (tmp_path / "b/run.sh").exists()


def test_local_runs(spec, tmp_path):
    out = write(tmp_path, "local", None, "--sweep", "seed=1..2", "--set", "train.for=4 steps")
    subprocess.run(["sh", out / "run.sh"], check=True, capture_output=True)
    finals = {rp.manifest(run)["digests"]["final"] for run in (tmp_path / "runs").iterdir()}
    assert len(finals) == 2 and rp.run(spec, tmp_path / "alone", "--set", "seed=2", "--set", "train.for=4 steps") in finals


# ---- what the batch script decides, without a Slurm --------------------------------------------------

SRUN = """#!/bin/sh
# As a run would: a new segment with its exit code, and perhaps a checkpoint.
n=$(cat "$STATE/n" 2>/dev/null || echo 0); n=$((n + 1)); echo $n >"$STATE/n"
set -- $(sed -n "${n}p" "$STATE/plan")
mkdir -p "$RUN"
[ "$2" = none ] || { for i in $(seq $n); do printf '    "segment": %d,\\n' $i; done; printf '  "exit_code": %s,\\n' "$2"; } >"$RUN/manifest.json"
[ "$3" != step ] || { mkdir -p "$RUN/checkpoints/step-0000000$n"; touch "$RUN/checkpoints/step-0000000$n/COMMITTED"; }
exit $1
"""


def starts(tmp_path, spec, plan):
    """Each line of `plan`: srun's code, that of the manifest, whether a step was made. How often the job is started, its code."""
    out = write(tmp_path, "slurm", SLURM)
    run = re.search(r"^run=(.*)", (out / "job.sbatch").read_text(), re.M)[1]
    fake(tmp_path / "bin", "srun", SRUN)
    fake(tmp_path / "bin", "module", "#!/bin/sh\n")
    fake(tmp_path / "bin", "scontrol", '#!/bin/sh\n[ "$1 $2" = "requeue 17" ] && touch "$STATE/requeued"\nexit 1\n')
    (tmp_path / "plan").write_text("\n".join(plan) + "\n")
    env = {**os.environ, "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "STATE": str(tmp_path), "RUN": run, "SLURM_JOB_ID": "17"}
    for n in range(1, 100):
        (tmp_path / "requeued").unlink(missing_ok=True)
        code = subprocess.run(["bash", out / "job.sbatch"], env=env).returncode
        if not (tmp_path / "requeued").exists():
            return n, code
    return 100, code


@pytest.mark.parametrize("plan,expected", [
    (["0 0 step"], (1, 0)),
    (["20 20 step"] * 9 + ["0 0 step"], (10, 0)),        # without bound while steps are made
    (["143 21 step"] * 9 + ["0 0 step"], (10, 0)),       # the manifest knows the cause, srun does not
    (["20 20 no"] * 20, (6, 20)),                        # the first start and five more
    (["22 22 no"] * 3 + ["22 22 step"] + ["22 22 no"] * 20, (10, 22)),
    (["137 null no"] * 20, (6, 21)),                     # killed without a word
    (["137 none no"] * 20, (6, 21)),                     # before the run was taken
    (["6 6 step"] * 9, (1, 6)),
    (["20 20 step", "2 none no"], (2, 2)),               # the manifest is of an earlier start
    (["24 none no"] * 20, (6, 24)),
    (["1 none no"] * 20, (1, 1)),
])
def test_requeue(spec, tmp_path, plan, expected):
    assert starts(tmp_path, spec, plan) == expected


def batch(tmp_path, out, srun, **env):
    """The job's exit code, srun's words (None: it was not started), what scontrol was asked."""
    bin = tmp_path / "bin"
    fake(bin, "srun", f'#!/bin/sh\nfor a; do printf "%s\\0" "$a"; done >"{tmp_path}/words"\n{srun}\n')
    fake(bin, "scontrol", f'#!/bin/sh\necho "$*" >>"{tmp_path}/asked"\nexit 1\n')
    for name in ("words", "asked"):
        (tmp_path / name).unlink(missing_ok=True)
    code = subprocess.run(["bash", out / "job.sbatch"], env={**os.environ, "PATH": f"{bin}:{os.environ['PATH']}", **env}).returncode
    words, asked = tmp_path / "words", tmp_path / "asked"
    return code, words.read_text().split("\0") if words.exists() else None, asked.read_text() if asked.exists() else ""


def test_a_member_of_an_array_has_itself_requeued_alone(spec, tmp_path):
    """The last member has the number of the whole array."""
    out = write(tmp_path, "slurm", SLURM.replace("[module load cuda]", "[]"), "--sweep", "seed=1..3")
    array = {"SLURM_JOB_ID": "17", "SLURM_ARRAY_JOB_ID": "17", "SLURM_ARRAY_TASK_ID": "2"}
    assert batch(tmp_path, out, "exit 20", **array)[::2] == (20, "requeue 17_2\n")
    single = write(tmp_path, "slurm", SLURM.replace("[module load cuda]", "[]"), out="single")
    assert batch(tmp_path, single, "exit 20", SLURM_JOB_ID="18")[::2] == (20, "requeue 18\n")


@pytest.mark.parametrize("signal,requeued", [("USR1", True), ("TERM", False)])
def test_asked_to_stop_before_it_began(spec, tmp_path, signal, requeued):
    """While modules are loaded, say: a short job is asked up to a minute early."""
    out = write(tmp_path, "slurm", SLURM.replace("[module load cuda]", f"[kill -{signal} $$]"))
    code, words, asked = batch(tmp_path, out, "exit 0", SLURM_JOB_ID="17")
    assert (code, words, asked) == (20, None, "requeue 17\n" if requeued else "")


def test_processors_for_a_rank(spec, tmp_path):
    """What the site or the spec asks sbatch for is passed on to srun, which does not take it over in every release."""
    site = SLURM.replace("[module load cuda]", "[]")
    out = write(tmp_path, "slurm", site.replace("[--constraint=ib, --exclusive]", "[--cpus-per-task=6]"))
    assert "--cpus-per-task=6" in batch(tmp_path, out, "exit 0", SLURM_JOB_ID="17", SLURM_CPUS_PER_TASK="6")[1]
    assert not [w for w in batch(tmp_path, out, "exit 0", SLURM_JOB_ID="17")[1] if "cpus" in w]
    threads = write(tmp_path, "slurm", site, "--set", "resources.threads=3", out="threads")
    assert "#SBATCH --cpus-per-task=3\n" in (threads / "job.sbatch").read_text()


# ---- the image (container.py builds it, with scripts/test --long) ----------------------------------------

def test_the_dockerfile():
    folder = rp.SOURCE / "scripts/container"
    lines = [line.split() for line in (folder / "Dockerfile").read_text().splitlines() if line and line[0] != "#"]
    bases = dict(words[1].split("=") for words in lines if words[0] == "ARG" and "BASE=" in words[1])
    assert all(re.fullmatch(r"[a-z/]+:(\w+-\d{8}-slim|\d+\.\d+\.\d+-devel-\w+[\d.]+)", base) for base in bases.values()), bases
    stages = [words[-1] for words in lines if words[0] == "FROM"]
    assert stages == ["build", "build-cuda", "cpu", "cuda"]
    assert {words[1] for words in lines if words[0] == "FROM"} <= {f"${{{name}}}" for name in bases} | set(stages)
    assert all(words[1].endswith("/stage") and words[2] in ("build", "build-cuda", "runtime") for words in lines if words[0] == "RUN")
    assert [words[1] for words in lines if words[0] == "USER"] == ["65532:65532"]
    for script in ("build", "stage"):
        assert subprocess.run(["bash", "-n", folder / script]).returncode == 0
        assert (folder / script).stat().st_mode & stat.S_IXUSR
    assert subprocess.run([folder / "stage"], capture_output=True).returncode == 2
    assert subprocess.run([folder / "build", "cpu", "--engine", "/bin/false"], capture_output=True).returncode == 1
    assert subprocess.run([folder / "build", "moon"], capture_output=True).returncode == 2
