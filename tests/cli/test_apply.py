"""eval and predict: what the run itself measured, bit for bit; what NumPy computes from the stored weights; and
what is refused."""
import csv
import gzip
import io
import json
import pathlib
import shutil
import struct
import subprocess

import numpy as np
import pytest

import reprise as rp

TABLE = """reprise: 1
name: table
seed: 3
data:
  train: {format: csv, file: train.csv, label: kind}
  valid: {fraction: 0.25}
  transform: [{normalize: {mean: 0.5, std: 2.0}}]
model: {kind: mlp, hidden: [16], activation: relu}
train:
  for: 40 steps
  batch: 16
  optimizer: {kind: adam, lr: 1.0e-2}
eval: {every: 10 steps}
checkpoint: {every: 10 steps, keep: {last: 9, best: valid/loss}}
"""

IMAGES = """reprise: 1
name: images
seed: 4
data:
  train: {format: idx, images: images.idx, labels: labels.idx}
  valid: {format: idx, images: more.idx, labels: more-labels.idx.gz}
  test: {format: idx, images: test.idx, labels: test-labels.idx}
model:
  kind: sequential
  layers: [{conv2d: {out: 4, kernel: 3}}, relu, flatten, {linear: {out: 3}}]
train:
  for: 30 steps
  batch: 8
  optimizer: {kind: sgd, lr: 0.05, momentum: 0.9}
eval: {every: 10 steps}
checkpoint: {every: 10 steps, keep: {last: 9}}
"""

VALUES = """reprise: 1
name: values
seed: 5
data:
  train: {format: npy, x: x.npy, y: y.npy, target: values}
  valid: {fraction: 0.25}
model: {kind: mlp, hidden: [8], activation: tanh}
train:
  for: 40 steps
  batch: 16
  loss: mse
  optimizer: {kind: adam, lr: 1.0e-2}
checkpoint: {every: 20 steps, keep: {last: 9}}
"""


def idx(path, array):
    data = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.astype(np.uint8).tobytes()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


def make_table(folder):
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(200, 4))
    kinds = np.array(["ant", 'b"ee, wild', "cicada"])[(rows[:, 0] > 0).astype(int) + (rows[:, 1] > 0.5)]
    with open(folder / "train.csv", "w", newline="") as file:
        out = csv.writer(file)
        out.writerow(["a", "b", "kind", "c", "d"])
        for row, kind in zip(rows, kinds):
            out.writerow([*[f"{v:.4f}" for v in row[:2]], kind, *[f"{v:.4f}" for v in row[2:]]])
    return rp.write(folder, TABLE, "table.yaml")


def make_images(folder):
    rng = np.random.default_rng(2)
    for name, n in [("", 96), ("more", 41), ("test", 33)]:
        labels = rng.integers(0, 3, n)
        images = rng.integers(0, 60, (n, 9, 7)) + (np.arange(9)[None, :, None] // 3 == labels[:, None, None]) * 14
        images_file = {"": "images.idx"}.get(name, f"{name}.idx")
        labels_file = {"": "labels.idx", "more": "more-labels.idx.gz"}.get(name, f"{name}-labels.idx")
        idx(folder / images_file, images)
        idx(folder / labels_file, labels)
    return rp.write(folder, IMAGES, "images.yaml")


def make_values(folder):
    rng = np.random.default_rng(3)
    x = rng.normal(size=(160, 5)).astype(np.float32)
    y = np.stack([x[:, 0] - x[:, 1], x[:, 2] ** 2], 1).astype(np.float32)
    np.save(folder / "x.npy", x)
    np.save(folder / "y.npy", y)
    np.savez(folder / "both.npz", x=x, y=y)
    return rp.write(folder, VALUES, "values.yaml")


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Three kinds of data and a finished run of each."""
    folder = tmp_path_factory.mktemp("apply")
    for make in (make_table, make_images, make_values):
        spec = make(folder)
        rp.run(spec, folder / "runs" / spec.stem)
    return folder


def recorded(run, step):
    return next(line["metrics"] for line in rp.metric_lines(run) if line["split"] == "valid" and line["step"] == step)


def tensors(run):
    """The newest checkpoint's weights, in fp64."""
    data = (sorted((run / "checkpoints").iterdir())[-1] / "model.safetensors").read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8:8 + length])
    body = data[8 + length:]
    return {name: np.frombuffer(body[slice(*info["data_offsets"])], "<f4").reshape(info["shape"]).astype(np.float64)
            for name, info in header.items() if name != "__metadata__"}


def mlp(weights, x, activation):
    names = sorted(weights)  # layers.0.bias, layers.0.weight, ...
    h = activation(x @ weights[names[1]].T + weights[names[0]])
    return h @ weights[names[3]].T + weights[names[2]]


def softmax(z):
    e = np.exp(z - z.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def read_csv(text):
    rows = list(csv.reader(io.StringIO(text)))
    return rows[0], rows[1:]


# ---- eval ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["table", "images", "values"])
def test_eval_is_what_the_run_measured(home, name):
    run = home / "runs" / name
    last = rp.call_json("eval", run)
    want = recorded(run, last["step"])
    assert {key: last["metrics"][key] for key in want} == want  # every bit of a double
    assert last["data"] == "data.valid" and last["step"] == rp.manifest(run)["steps"]
    if name == "table":
        assert rp.call_json("eval", run, "--at", "10")["metrics"]["loss"] == recorded(run, 10)["loss"] != want["loss"]
        best = rp.manifest(run)["best"]
        assert rp.call_json("eval", run, "--at", "best")["metrics"]["loss"] == best["value"]


@pytest.mark.parametrize("name", list(rp.MODELS))
def test_eval_of_every_kind_of_layer(name, tmp_path):
    spec = rp.write(tmp_path, rp.MODELS[name])
    rp.run(spec, tmp_path / "run")
    result = rp.call_json("eval", tmp_path / "run")
    want = recorded(tmp_path / "run", result["step"])
    assert {key: result["metrics"][key] for key in want} == want
    train = rp.call_json("eval", tmp_path / "run", "--split", "train")
    assert train["samples"] + result["samples"] == {"mlp": 640, "lenet": 320, "resnet": 200}[name]
    assert train["metrics"]["loss"] != result["metrics"]["loss"]


def test_eval_is_the_same_everywhere(home):
    run = home / "runs" / "images"
    first, ran = rp.call_json("eval", run), 0
    for path in ["scalar", "avx2", "neon"]:
        process = rp.start("eval", run, "--json", env={"REPRISE_CPU_PATH": path, "OMP_NUM_THREADS": "1"})
        out, _ = process.communicate()
        if process.returncode == 0:
            ran += 1
            assert json.loads(out.splitlines()[-1]) == first
    assert ran >= 1  # scalar code runs anywhere


def test_figures_come_from_the_confusion(home):
    for name in ["table", "images"]:
        result = rp.call_json("eval", home / "runs" / name, "--split", "train", "--at", "10")
        confusion = np.array(result["confusion"])
        assert confusion.sum() == result["samples"]
        assert np.trace(confusion) / confusion.sum() == result["metrics"]["accuracy"]
        assert np.trace(confusion) < confusion.sum()  # else this shows nothing
        for c, row in enumerate(result["classes"]):
            precision = confusion[c, c] / confusion[:, c].sum()
            recall = confusion[c, c] / confusion[c].sum()
            assert row["support"] == confusion[c].sum()
            assert row["precision"] == precision and row["recall"] == recall
            assert row["f1"] == 2 * confusion[c, c] / (confusion[c].sum() + confusion[:, c].sum())
        assert result["mean"]["recall"] == pytest.approx(np.mean([row["recall"] for row in result["classes"]]), rel=1e-12)
        pairs = {(a, b): n for a, b, n in result["most_confused"]}
        assert sum(pairs.values()) == confusion.sum() - np.trace(confusion)
        assert all(confusion[a, b] == n for (a, b), n in pairs.items())
    assert [row["class"] for row in rp.call_json("eval", home / "runs" / "table")["classes"]] == ["ant", 'b"ee, wild', "cicada"]


def test_values_against_numpy(home):
    run = home / "runs" / "values"
    result = rp.call_json("eval", run, "--data", home / "x.npy", home / "y.npy")
    x, y = np.load(home / "x.npy").astype(np.float64), np.load(home / "y.npy").astype(np.float64)
    error = mlp(tensors(run), x, np.tanh) - y
    assert result["samples"] == 160 and result["data"] == "other data"
    assert result["metrics"]["mse"] == pytest.approx((error ** 2).mean(), rel=1e-5)
    assert result["metrics"]["loss"] == pytest.approx(result["metrics"]["mse"], rel=1e-6)
    assert result["metrics"]["mae"] == pytest.approx(abs(error).mean(), rel=1e-5)
    r2 = 1 - (error ** 2).sum(0) / ((y - y.mean(0)) ** 2).sum(0)
    assert result["metrics"]["r2"] == pytest.approx(r2.mean(), rel=1e-5)
    assert [row["r2"] for row in result["values"]] == pytest.approx(list(r2), rel=1e-5)


def test_test_split_and_text(home):
    run = home / "runs" / "images"
    result = rp.call_json("eval", run, "--split", "test")
    assert result["samples"] == 33 and [pathlib.Path(f["path"]).name for f in result["files"]] == ["test.idx", "test-labels.idx"]
    other = rp.call_json("eval", run, "--data", home / "test.idx", home / "test-labels.idx")
    assert other["metrics"] == result["metrics"]
    assert other["metrics"] != rp.call_json("eval", run)["metrics"]
    out, _ = rp.call("eval", run, "--split", "test")
    for word in ["loss", "accuracy", "precision", "taken for", "data.test, 33 samples"]:
        assert word in out
    assert all(line == line.rstrip() for line in out.splitlines())
    out, _ = rp.call("eval", home / "runs" / "values")
    assert "mae" in out and "r2" in out and "precision" not in out


def test_many_classes_are_summarised(tmp_path):
    spec = rp.write(tmp_path, """reprise: 1
name: many
seed: 1
data: {train: {format: synthetic, task: blobs, samples: 900, classes: 40, features: 3}, valid: {fraction: 0.5}}
model: {kind: mlp, hidden: [8]}
train: {for: 20 steps, batch: 32, optimizer: {kind: adam, lr: 1.0e-2}}
""")
    rp.run(spec, tmp_path / "run")
    out, _ = rp.call("eval", tmp_path / "run")
    assert "the 10 worst of" in out and "most often confused" in out and "top-5" in out
    assert len(out.splitlines()) < 40
    result = rp.call_json("eval", tmp_path / "run")
    never = [row for row, column in zip(result["classes"], np.array(result["confusion"]).sum(0)) if column == 0 and row["support"]]
    assert never and all(row["precision"] == 0 and row["f1"] == 0 for row in never)


def test_top_5_against_numpy(tmp_path):
    """Of twelve classes: the share of samples whose class has fewer than five larger outputs, in the run and in eval."""
    rng = np.random.default_rng(5)
    x, y = rng.normal(size=(200, 6)).astype(np.float32), rng.integers(0, 12, 200)
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", y)
    valid = "  valid: {format: npy, x: x.npy, y: y.npy}"
    spec = rp.write(tmp_path, VALUES.replace(", target: values", "").replace("  loss: mse\n", "").replace("  valid: {fraction: 0.25}", valid))
    rp.run(spec, tmp_path / "run")
    z = mlp(tensors(tmp_path / "run"), x, np.tanh)
    rank = (z > z[np.arange(200), y][:, None]).sum(1)
    measured, last = rp.call_json("eval", tmp_path / "run")["metrics"], recorded(tmp_path / "run", 40)
    for name, most in [("accuracy", 1), ("top5_accuracy", 5)]:
        assert measured[name] == last[name] == np.mean(rank < most), name
    assert last["accuracy"] < np.mean(rank < 4) < last["top5_accuracy"] < np.mean(rank < 6)  # neither 4 nor 6


# ---- predict ------------------------------------------------------------------------------------------------


def test_predict_table(home, tmp_path):
    run = home / "runs" / "table"
    out, _ = rp.call("predict", run, "--data", home / "train.csv")
    header, rows = read_csv(out)
    assert header == ["sample", "class", "p_ant", 'p_b"ee, wild', "p_cicada"]
    source = list(csv.reader(open(home / "train.csv", newline="")))[1:]
    x = np.array([[float(row[i]) for i in (0, 1, 3, 4)] for row in source])
    p = softmax(mlp(tensors(run), (x - 0.5) / 2.0, lambda h: np.maximum(h, 0)))
    got = np.array([[float(v) for v in row[2:]] for row in rows])
    assert np.abs(got - p).max() < 1e-6
    names = ["ant", 'b"ee, wild', "cicada"]
    assert [row[1] for row in rows] == [names[i] for i in got.argmax(1)]
    right = np.mean([row[1] == line[2] for row, line in zip(rows, source)])
    assert right == rp.call_json("eval", run, "--data", home / "train.csv")["metrics"]["accuracy"]
    # No label column, other columns between, another order: found by name, the same bits.
    (tmp_path / "new.csv").write_text("id,d,a,c,b\n" + "".join(f"k{i},{r[4]},{r[0]},{r[3]},{r[1]}\n" for i, r in enumerate(source)))
    again, _ = rp.call("predict", run, "--data", tmp_path / "new.csv")
    assert again == out
    swapped, _ = rp.call("predict", run, "--data", rewrite(tmp_path / "swapped.csv", "d,a,c,b", "a,d,c,b", tmp_path / "new.csv"))
    assert swapped != out


def rewrite(path, old, new, source):
    path.write_text(source.read_text().replace(old, new, 1))
    return path


def test_predict_files(home, tmp_path):
    run = home / "runs" / "images"
    out, _ = rp.call("predict", run, "--data", home / "test.idx")
    result = rp.call_json("predict", run, "--data", home / "test.idx", "--out", tmp_path / "p.npy")
    assert result["samples"] == 33 and result["step"] == 30
    p = np.load(tmp_path / "p.npy")
    assert p.dtype == np.float32 and p.shape == (33, 3)
    _, rows = read_csv(out)
    assert np.array_equal(np.array([[np.float32(v) for v in row[2:]] for row in rows]), p)  # CSV reads back exactly
    listed = rp.call_json("predict", run, "--data", home / "test.idx")["predictions"]
    assert np.array_equal(np.array([row["probabilities"] for row in listed], np.float32), p)
    assert [row["class"] for row in listed] == [row[1] for row in rows]
    early = rp.call_json("predict", run, "--data", home / "test.idx", "--at", "20")["predictions"]
    assert early != listed
    # The same images as an array: uint8 is taken as pixels in both.
    np.save(tmp_path / "test.npy", np.frombuffer((home / "test.idx").read_bytes()[16:], np.uint8).reshape(33, 9, 7))
    assert rp.call("predict", run, "--data", tmp_path / "test.npy")[0] == out


def test_predict_values(home, tmp_path):
    run = home / "runs" / "values"
    out, _ = rp.call("predict", run, "--data", home / "x.npy")
    header, rows = read_csv(out)
    assert header == ["sample", "value_0", "value_1"]
    want = mlp(tensors(run), np.load(home / "x.npy").astype(np.float64), np.tanh)
    assert np.abs(np.array(rows, np.float64)[:, 1:] - want).max() < 1e-5
    assert rp.call("predict", run, "--data", home / "both.npz")[0] == out
    np.savez_compressed(tmp_path / "only-x.npz", x=np.load(home / "x.npy"))
    assert rp.call("predict", run, "--data", tmp_path / "only-x.npz")[0] == out


def test_outputs_that_are_no_numbers(home, tmp_path):
    run = home / "runs" / "table"
    (tmp_path / "huge.csv").write_text("a,b,c,d,kind\n3e38,-3e38,3e38,-3e38,ant\n0,0,0,0,ant\n")
    _, rows = read_csv(rp.call("predict", run, "--data", tmp_path / "huge.csv")[0])
    assert rows[0][1] == "" and set(rows[0][2:]) == {"nan"} and rows[1][1] != "" and "nan" not in rows[1]
    listed = rp.call_json("predict", run, "--data", tmp_path / "huge.csv")["predictions"]
    assert listed[0]["class"] is None and listed[0]["probabilities"] == ["NaN"] * 3
    result = rp.call_json("eval", run, "--data", tmp_path / "huge.csv")
    assert result["undecided"] == 1 and np.sum(result["confusion"]) == 1 and result["metrics"]["accuracy"] <= 0.5
    assert "undecided" in rp.call("eval", run, "--data", tmp_path / "huge.csv")[0]


def test_predict_writes_all_or_nothing(home, tmp_path):
    run = home / "runs" / "table"
    target = tmp_path / "out" / "p.csv"
    target.parent.mkdir()
    rp.call("predict", run, "--data", home / "train.csv", "--out", target)
    before = target.read_bytes()
    _, err = rp.call("predict", run, "--data", home / "train.csv", "--out", target, "--at", "10", expect=2)
    assert "--overwrite" in err and target.read_bytes() == before
    rp.call("predict", run, "--data", home / "train.csv", "--out", target, "--at", "10", "--overwrite")
    assert target.read_bytes() != before
    assert [path.name for path in target.parent.iterdir()] == ["p.csv"]
    rp.call("predict", run, "--data", home / "train.csv", "--out", tmp_path / "p.txt", expect=2)
    rp.call("predict", run, "--data", home / "train.csv", "--out", tmp_path / "none" / "p.csv", expect=9)


# ---- moved, read-only, other data ---------------------------------------------------------------------------


def test_moved_read_only_and_the_data_elsewhere(home, tmp_path):
    moved, data = tmp_path / "moved", tmp_path / "data"
    shutil.copytree(home / "runs" / "table", moved)
    data.mkdir()
    shutil.copy(home / "train.csv", data)
    manifest = rp.manifest(moved)
    manifest["data_folder"] = str(tmp_path / "gone")
    (moved / "manifest.json").write_text(json.dumps(manifest))
    subprocess.run(["chmod", "-R", "a-w", moved], check=True)
    try:
        seen = {path: (path.stat().st_mtime_ns, path.stat().st_ctime_ns) for path in [moved, *moved.rglob("*")]}
        rp.call("eval", moved, expect=4)
        want = rp.call_json("eval", home / "runs" / "table")
        assert rp.call_json("eval", moved, "--data", data)["metrics"] == want["metrics"]
        assert rp.call("predict", moved, "--data", data / "train.csv")[0]  # needs no training data
        assert {path: (path.stat().st_mtime_ns, path.stat().st_ctime_ns) for path in [moved, *moved.rglob("*")]} == seen
        text = (data / "train.csv").read_text()
        (data / "train.csv").write_text(text.replace("0", "1", 1))
        _, err = rp.call("eval", moved, "--data", data, expect=4)
        assert "is not the data.train.file of this run" in err
        other = rp.call_json("eval", moved, "--data", data / "train.csv")  # named as other data it is taken
        assert other["data"] == "other data" and other["samples"] == 200
    finally:
        subprocess.run(["chmod", "-R", "u+w", moved], check=True)


def test_a_manifest_without_the_shape(home, tmp_path):
    shutil.copytree(home / "runs" / "table", tmp_path / "old")
    manifest = rp.manifest(tmp_path / "old")
    del manifest["shape"], manifest["columns"]
    (tmp_path / "old" / "manifest.json").write_text(json.dumps(manifest))
    want = rp.call_json("eval", home / "runs" / "table")
    assert rp.call_json("eval", tmp_path / "old")["metrics"] == want["metrics"]


def test_a_damaged_checkpoint_is_not_used(home, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(home / "runs" / "table", run)
    path = sorted((run / "checkpoints").iterdir())[-1] / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    result = rp.call_json("eval", run)
    assert result["step"] == 30
    rp.call("eval", run, "--at", "40", expect=8)


def test_what_is_refused(home, tmp_path):
    table, images, values = (home / "runs" / name for name in ["table", "images", "values"])
    (tmp_path / "short.csv").write_text("a,b,c\n1,2,3\n")
    (tmp_path / "word.csv").write_text("a,b,c,d,kind\n1,2,3,4,wasp\n")
    (tmp_path / "text.csv").write_text("a,b,c,d\n1,2,x,4\n")
    idx(tmp_path / "wide.idx", np.zeros((4, 9, 8)))
    idx(tmp_path / "nine.idx", np.full(33, 9))
    (tmp_path / "unknown.bin").write_bytes(b"something")
    for args, code, words in [
            (["eval", table, "--split", "test"], 2, "no data.test"),
            (["eval", table, "--split", "best"], 2, "train, valid or test"),
            (["eval", table, "--at", "15"], 8, "it has: 10, 20, 30, 40"),
            (["eval", table, "--at", "first"], 2, "best, last, or a step"),
            (["eval", images, "--at", "best"], 2, "checkpoint.keep.best"),
            (["eval", table, "--split", "valid", "--data", home / "train.csv"], 2, "one of them"),
            (["eval", images, "--data", home / "test.idx"], 2, "labels"),
            (["eval", images, "--data", home / "train.csv"], 2, "not trained on a table"),
            (["eval", images, "--data", home / "test.idx", tmp_path / "nine.idx"], 4, "label 9"),
            (["eval", images, "--data", tmp_path / "gone.idx"], 4, "no file"),
            (["eval", table, home / "train.csv"], 2, "--data"),
            (["eval", table, "--data", home, home / "train.csv"], 2, "folder"),
            (["eval", table, "--data", tmp_path / "word.csv"], 4, "wasp"),
            (["eval", "no-such-run"], 2, "is no run"),
            (["predict", table], 2, "--data FILE"),
            (["predict", table, "--data", home], 2, "--data FILE"),
            (["predict", table, "--data", tmp_path / "short.csv"], 4, "no column `d`"),
            (["predict", table, "--data", tmp_path / "text.csv"], 4, "is no number"),
            (["predict", images, "--data", tmp_path / "wide.idx"], 4, "images of 9 x 7 x 1"),
            (["predict", images, "--data", tmp_path / "unknown.bin"], 4, "IDX"),
            (["predict", values, "--data", home / "test.idx"], 4, "rows of 5 numbers"),
    ]:
        _, err = rp.call(*args, expect=code)
        assert words in err and err.count("error:") == 1, err
    # With --json, too, one object says so.
    process = rp.start("eval", table, "--at", "15", "--json")
    out, _ = process.communicate()
    assert json.loads(out.splitlines()[-1])["exit_code"] == 8 == process.returncode
