"""Every job of specs/ runs: a few steps, on its own data or on files of the same form."""
import re

import numpy as np
import pytest

import made_data
import reprise as rp

JOBS = sorted((rp.SOURCE / "specs").glob("*.yaml"))


def cifar_files(folder):
    random = np.random.default_rng(1)
    for name in [f"data_batch_{i}.bin" for i in range(1, 6)]:
        records = random.integers(0, 256, (40, 3073)).astype("u1")
        records[:, 0] %= 10
        (folder / name).write_bytes(records.tobytes())


def mnist_files(folder):
    random = np.random.default_rng(1)
    made_data.idx(folder / "mnist-10k-images-idx3-ubyte.gz", random.integers(0, 256, (100, 28, 28)))
    made_data.idx(folder / "mnist-10k-labels-idx1-ubyte.gz", np.arange(100) % 10)


def a_text(folder):
    for name in ("input.txt", "tinyshakespeare.txt"):
        (folder / name).write_text("All the world's a stage, and all the men and women merely players. " * 150)


STAND_INS = {"cifar-resnet20": cifar_files, "mnist-lenet": mnist_files, "gpt": a_text, "shakespeare-char": a_text,
             "shakespeare-char-cpu": a_text, "gpt2-124m": lambda folder: rp.data_for("gpt2-124m", folder)}
SMALLER = {"shakespeare-char": ["train.batch=2", "model.context=32"],
           "gpt2-124m": ["train.batch=4", "train.micro_batch=2", "model.layers=1", "model.width=48", "model.context=16"]}


@pytest.mark.parametrize("job", JOBS, ids=lambda path: path.stem)
def test_job_runs(job, tmp_path):
    more = ["--set", "train.for=3 steps", "--set", "log.every=1 step"]
    if "warmup:" in job.read_text():
        more += ["--set", "train.schedule.warmup=1 step"]
    for key in ("train.schedule.decay", "train.schedule.every"):
        if re.search(rf"kind: {'wsd' if key.endswith('decay') else 'step'}\b", job.read_text()):
            more += ["--set", f"{key}=1 step"]
    if job.stem in STAND_INS:
        STAND_INS[job.stem](tmp_path)
        more += ["--data", tmp_path]
    for setting in SMALLER.get(job.stem, []):
        more += ["--set", setting]
    final = rp.run(job, tmp_path / "run", *more)
    assert len(final) == 64 and len(rp.digest_lines(tmp_path / "run")) == 3
    losses = [line["metrics"]["loss"] for line in rp.metric_lines(tmp_path / "run")]
    assert np.isfinite(losses).all() and len(losses) >= 4


def test_there_is_a_job_for_each_format_and_model():
    schema = (rp.SOURCE / "runner" / "spec" / "schema_v1.def").read_text()
    texts = "\n".join(path.read_text() for path in JOBS)
    for path in ("<dataset>.format", "model.kind", "train.optimizer.kind", "train.schedule.kind"):
        choices = re.search(rf'RP_KEY\("{re.escape(path)}", CHOICE, ONE, "", "([^"]+)"', schema).group(1)
        for choice in choices.split(" | "):
            if choice[0] == "!" or choice in ("constant", "linear"):
                continue
            assert re.search(rf"{'format' if 'format' in path else 'kind'}: {choice}\b", texts), (path, choice)


def test_words_of_the_comments_are_true(tmp_path):
    """The two jobs with small data of their own learn it."""
    for job in ("images-packed", "moons-npz"):
        rp.run(rp.SOURCE / "specs" / f"{job}.yaml", tmp_path / job)
        last = [line["metrics"] for line in rp.metric_lines(tmp_path / job) if line["split"] == "valid"][-1]
        assert last["accuracy"] > 0.85, (job, last)
