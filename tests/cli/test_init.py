"""`reprise init` on data that it has never seen: every format to a spec that trains as it is."""
import json
import pathlib

import numpy as np
import pytest

import made_data
from reprise import PROGRAM, SHARED, call, call_json, metric_lines

HAS_IMAGES = (pathlib.Path(PROGRAM).parent / "reprise_images.so").exists()


def init(tmp_path, *args, **more):
    """Runs init; returns (JSON, text of the spec)."""
    result = call_json("init", *args, cwd=tmp_path, **more)
    return result, (tmp_path / result["path"]).read_text()


def trains(tmp_path, spec="job.yaml", epochs=None, at_most=None):
    """Runs the spec as it stands, or shorter; the loss falls. Returns the last validation metrics."""
    call("validate", spec, cwd=tmp_path)
    more = ["--set", f"train.for={epochs} epochs"] if epochs else []
    call("run", spec, "--out", "run", *more, cwd=tmp_path)
    lines = [line["metrics"] for line in metric_lines(tmp_path / "run") if line["split"] == "valid"]
    assert lines[-1]["loss"] < at_most if at_most else lines[-1]["loss"] < lines[0]["loss"]
    return lines[-1]


def write_csv(path, header, rows, delimiter=","):
    path.write_text("\n".join(delimiter.join(map(str, row)) for row in [header, *rows]) + "\n")


def flowers(n=150):
    x, y = made_data.blobs(n, 4, 3)
    names = ["setosa", "versicolor", "virginica"]
    return [[f"{v:.3f}" for v in row] + [names[k]] for row, k in zip(x, y)]


HEADER = ["sepal length", "sepal width", "petal length", "petal width", "species"]


def test_csv_with_words(tmp_path):
    write_csv(tmp_path / "flowers.csv", HEADER, flowers())
    result, text = init(tmp_path, "flowers.csv")
    assert result["path"] == "job.yaml" and "label: species" in text and "3 classes" in text
    assert any("species" in note and "only column of words" in note for note in result["notes"])
    assert trains(tmp_path)["accuracy"] > 0.9


def test_what_init_writes_is_true(tmp_path):
    """Mean and deviation per column, hash, shapes: as NumPy and hashlib say."""
    import hashlib
    rows = flowers()
    write_csv(tmp_path / "flowers.csv", HEADER, rows)
    _, text = init(tmp_path, "flowers.csv")
    assert hashlib.sha256((tmp_path / "flowers.csv").read_bytes()).hexdigest() in text
    x = np.array([row[:4] for row in rows], "f4").astype("f8")
    lines = {line.split(":")[0].strip(): line.split(":", 1)[1] for line in text.splitlines() if ": [" in line}
    assert np.allclose(json.loads(lines["mean"]), x.mean(0), rtol=1e-4)
    assert np.allclose(json.loads(lines["std"]), x.std(0), rtol=1e-4)
    write_csv(tmp_path / "flowers.csv", HEADER, flowers(151))
    _, err = call("run", "job.yaml", cwd=tmp_path, expect=4)
    assert "SHA-256" in err


def test_which_column_is_the_target(tmp_path):
    x, y = made_data.blobs(60, 3, 3)
    colours = ["red", "green", "blue"]
    rows = [[i + 1, f"row {i}", colours[i % 3], *row, int(k), "" if i == 7 else 1.5] for i, (row, k) in enumerate(zip(x, y))]
    header = ["id", "name", "colour", "a", "b", "c", "kind", "gap"]
    write_csv(tmp_path / "t.csv", header, rows)
    result, text = init(tmp_path, "t.csv")
    assert "label: colour" in text and "ignore: [name, gap, id]" in text and "indicators" not in text
    result, text = init(tmp_path, "t.csv", "--target", "kind", "--out", "kind.yaml")
    assert "label: kind" in text and "ignore: [name, gap, id]" in text and "target: values" not in text
    assert "indicators: [colour=blue, colour=green, colour=red]" in text and "rows of 6 numbers" in text
    assert any("--target names it" in note for note in result["notes"])
    call("run", "kind.yaml", "--set", "train.for=2 epochs", cwd=tmp_path)
    result, text = init(tmp_path, "t.csv", "--target", "a", "--out", "a.yaml")
    assert "target: values" in text and "loss: mse" in text
    call("run", "a.yaml", "--set", "train.for=2 epochs", cwd=tmp_path)
    _, err = call("init", "t.csv", "--target", "colr", "--out", "no.yaml", cwd=tmp_path, expect=2)
    assert "no such column" in err and "`colour`" in err
    header[2] = "Label"
    write_csv(tmp_path / "u.csv", header, rows)
    result, text = init(tmp_path, "u.csv", "--out", "u.yaml")
    assert any("`Label`" in note and "its name says so" in note for note in result["notes"])


def test_csv_of_numbers_is_a_regression(tmp_path):
    random = np.random.default_rng(2)
    x = random.normal(size=(400, 5)) * [1, 10, 0.1, 5, 2] + 3
    y = x @ [1.0, 0.1, 5.0, -0.2, 0.3] / 4
    write_csv(tmp_path / "houses.csv", ["a", "b", "c", "d", "price"], np.column_stack([x[:, :4], y]).round(4).tolist(), ";")
    result, text = init(tmp_path, "houses.csv")
    assert 'delimiter: ";"' in text and "loss: mse" in text and "label: price" in text
    assert any("it is the last one" in note for note in result["notes"])
    trains(tmp_path, epochs=30)
    assert not any("deviation" in note for note in result["notes"])
    write_csv(tmp_path / "dear.csv", ["a", "price"], [[i % 7, 100000 + 5000 * (i % 50)] for i in range(100)])
    result, _ = init(tmp_path, "dear.csv", "--out", "dear.yaml")
    assert any("mean 2.225e+05" in note for note in result["notes"])


def test_ignored_columns_exist(tmp_path):
    write_csv(tmp_path / "flowers.csv", HEADER, flowers(30))
    _, text = init(tmp_path, "flowers.csv")
    for ignore, what in (("[nope]", "no column `nope`"), ("[species]", "is the label"),
                         ("[sepal length, sepal width, petal length, petal width]", "every column"),
                         ("[]\n    indicators: [colour=red]", "no column for the indicator `colour=red`"),
                         ("[]\n    indicators: [species=a]", "is of the label"),
                         ("[sepal width]\n    indicators: [sepal width=a]", "is of an indicator and under `ignore`")):
        (tmp_path / "job.yaml").write_text(text.replace("label: species", f"label: species\n    ignore: {ignore}"))
        _, err = call("run", "job.yaml", cwd=tmp_path, expect=4)
        assert what in err, err


def test_words_become_features(tmp_path):
    """A table that only its words can tell: as a feature each they do; the same as the columns written out."""
    random = np.random.default_rng(6)
    words = {"size": ["L", "M", "S", "a=b"], "up, down": ["down", "up"]}
    rows, plain = [], []
    for i in range(400):
        a, b = random.choice(words["size"]), random.choice(words["up, down"])
        noise, gap = round(random.normal(), 3), i % 50 == 0
        kind = int((a in "LM") == (b == "up"))
        rows.append([noise, "" if gap else a, b, kind])
        plain.append([noise, *[int(not gap and a == w) for w in words["size"]], *[int(b == w) for w in words["up, down"]], kind])
    write_csv(tmp_path / "t.csv", ["noise", "size", '"up, down"', "kind"], rows)
    write_csv(tmp_path / "plain.csv", ["noise", "L", "M", "S", "ab", "down", "up", "kind"], plain)
    result, text = init(tmp_path, "t.csv", "--target", "kind")
    assert "ignore" not in text and any("`size` (4)" in note for note in result["notes"])
    assert "size=a=b" in text and '"up, down=up"' in text
    assert trains(tmp_path, epochs=40)["accuracy"] > 0.9
    _, text = init(tmp_path, "plain.csv", "--target", "kind", "--out", "plain.yaml")
    call("run", "plain.yaml", "--out", "plain", "--set", "train.for=40 epochs", cwd=tmp_path)
    last = [(tmp_path / run / "digests.jsonl").read_text().splitlines()[-1].split('"chain"')[0] for run in ("run", "plain")]
    assert last[0] == last[1]


def predictions(tmp_path, *args):
    call("predict", "run", *args, "--out", "p.csv", "--overwrite", cwd=tmp_path)
    return (tmp_path / "p.csv").read_text().splitlines()


def test_predicting_from_a_table(tmp_path):
    """Columns found by name, words as features, no label needed; what was left out may be missing."""
    rows = [[i, kind, row[0], row[1], row[-1]] for i, (row, kind) in
            enumerate((row, ["up", "down", ""][i % 3]) for i, row in enumerate(flowers(90)))]
    write_csv(tmp_path / "t.csv", ["id", "way", "a", "b", "species"], rows)
    _, text = init(tmp_path, "t.csv", "--target", "species")
    assert "ignore: [id]" in text and "indicators: [way=down, way=up]" in text
    call("run", "job.yaml", "--out", "run", "--set", "train.for=3 epochs", cwd=tmp_path)
    whole = predictions(tmp_path, "--data", "t.csv")
    write_csv(tmp_path / "new.csv", ["b", "a", "more", "way"], [[row[3], row[2], "x", row[1]] for row in rows])
    assert predictions(tmp_path, "--data", "new.csv") == whole and len(whole) == 91
    write_csv(tmp_path / "new.csv", ["b", "a", "way"], [[row[3], row[2], "sideways"] for row in rows])
    assert predictions(tmp_path, "--data", "new.csv") != whole
    write_csv(tmp_path / "new.csv", ["b", "a"], [[row[3], row[2]] for row in rows])
    _, err = call("predict", "run", "--data", "new.csv", "--out", "q.csv", cwd=tmp_path, expect=4)
    assert "way" in err


@pytest.mark.skipif(not HAS_IMAGES, reason="built without libpng and libjpeg")
def test_predicting_from_packed_images(tmp_path):
    """Of other classes than those that were trained on, too: a folder `new` has no names to offer."""
    made_data.image_folder(tmp_path / "pets", ["cat", "dog"], 12, shape=(8, 8, 3))
    init(tmp_path, "pets")
    call("run", "job.yaml", "--out", "run", "--set", "train.for=3 epochs", cwd=tmp_path)
    whole = predictions(tmp_path, "--data", "pets.packed")
    assert len(whole) == 25 and any("cat" in line or "dog" in line for line in whole[1:])
    made_data.image_folder(tmp_path / "more", ["new"], 5, shape=(8, 8, 3), seed=3)
    call("pack", "more", "--size", "8", "--out", "more.packed", cwd=tmp_path)
    assert len(predictions(tmp_path, "--data", "more.packed")) == 6
    call("eval", "run", "--data", "pets.packed", cwd=tmp_path)
    _, err = call("eval", "run", "--data", "more.packed", cwd=tmp_path, expect=4)
    assert "does not occur in data.train" in err


def test_wide_csv(tmp_path):
    """More columns than pictures have channels: one mean for each all the same."""
    x, y = made_data.blobs(200, 300, 4)
    write_csv(tmp_path / "wide.csv", [f"f{i}" for i in range(300)] + ["label"],
              [[*(row * np.arange(1, 301)).round(3).tolist(), int(k)] for row, k in zip(x, y)])
    _, text = init(tmp_path, "wide.csv")
    assert "rows of 300 numbers, 4 classes" in text
    assert trains(tmp_path, epochs=20)["accuracy"] > 0.9


def test_bad_csv(tmp_path):
    for text, what in (("1,2,3\n4,5,6\n", "names of the columns"), ("a,b\n", "no lines below"),
                       ("a\n1\n", "one column only"), ("a,b\n1,2\n3\n", "line 3: expected 2 cells"),
                       ("a,b\nx,1\ny,2\n", "no column of numbers"), ("a,b\n1,x\n2,x\n", "one class"),
                       ('a,b\n1,"x\n2,x\n', "closing quote"), ("a,b\n1,x\n2,caf\xe9\n", "line 3: not UTF-8")):
        (tmp_path / "t.csv").write_text(text, encoding="latin-1")
        _, err = call("init", "t.csv", cwd=tmp_path, expect=4)
        assert what in err and "job.yaml" not in err, (text, err)
        assert not (tmp_path / "job.yaml").exists()


def test_mnist_files(tmp_path):
    """The two files of the machine as they are; a shorter run than the one written."""
    files = [SHARED / f"mnist-10k-{what}.gz" for what in ("labels-idx1-ubyte", "images-idx3-ubyte")]
    if not files[0].exists():
        pytest.skip("no MNIST here")
    result, text = init(tmp_path, *files)
    assert "kind: sequential" in text and "10 classes" in text and "mean: 0.1325" in text
    assert call_json("plan", "job.yaml", cwd=tmp_path)["flops_per_step"] * 1407 < 1e13
    call("run", "job.yaml", "--set", "train.for=150 steps", "--out", "run", cwd=tmp_path)
    assert [line["metrics"]["accuracy"] for line in metric_lines(tmp_path / "run") if line["split"] == "valid"][-1] > 0.8


def small_images(n, h, w, c, classes=3, seed=1):
    random = np.random.default_rng(seed)
    y = np.arange(n) % classes
    x = random.integers(0, 100, (n, h, w, c)) + (70 * y)[:, None, None, None]
    return x.astype("u1"), y.astype("u1")


def test_idx_pairs(tmp_path):
    """Four files in a folder: the larger pair is trained on, the other is data.test."""
    x, y = small_images(90, 12, 14, 1)
    folder = tmp_path / "digits"
    folder.mkdir()
    made_data.idx(folder / "a-images.gz", x[:60, :, :, 0])
    made_data.idx(folder / "a-labels.gz", y[:60])
    made_data.idx(folder / "b-images", x[60:, :, :, 0])
    made_data.idx(folder / "b-labels", y[60:])
    (folder / "README.md").write_text("words\n")
    result, text = init(tmp_path, "digits")
    assert "images: digits/a-images.gz" in text and "images: digits/b-images" in text and "\n  test:" in text
    trains(tmp_path, epochs=3)
    _, err = call("init", "digits/a-images.gz", "--out", "x.yaml", cwd=tmp_path, expect=2)
    assert "name both" in err
    _, err = call("init", "digits/a-images.gz", "digits/b-labels", "--out", "x.yaml", cwd=tmp_path, expect=2)
    assert "as many samples" in err


@pytest.mark.parametrize("shape, kind", [((9, 8, 1), "mlp"), ((20, 20, 1), "sequential"), ((16, 16, 3), "resnet")])
def test_npy_and_npz(tmp_path, shape, kind):
    x, y = small_images(48, *shape)
    np.save(tmp_path / "pictures.npy", x)
    np.save(tmp_path / "kinds.npy", y.astype("i8"))
    _, text = init(tmp_path, "kinds.npy", "pictures.npy")
    assert "x: pictures.npy" in text and "y: kinds.npy" in text and f"kind: {kind}" in text
    assert "out: 3}" in text or kind != "sequential"
    trains(tmp_path, epochs=2, at_most=1e3)
    for save, names in ((np.savez, ("images", "labels")), (np.savez_compressed, ("first", "second"))):
        save(tmp_path / "both.npz", **{names[0]: x, names[1]: y.astype("i8"), })
        _, text = init(tmp_path, "both.npz", "--out", f"{names[0]}.yaml")
        assert f"x: {names[0]}" in text and f"y: {names[1]}" in text
        call("validate", f"{names[0]}.yaml", cwd=tmp_path)


def test_npy_values(tmp_path):
    random = np.random.default_rng(1)
    x = random.normal(size=(200, 6)).astype("f4")
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", (x[:, :2] * 2).astype("f8"))
    _, text = init(tmp_path, "x.npy", "y.npy")
    assert "target: values" in text and "loss: mse" in text and "2 values to fit" in text
    trains(tmp_path, epochs=20)
    np.save(tmp_path / "p.npy", x)
    np.save(tmp_path / "q.npy", x)
    _, err = call("init", "p.npy", "q.npy", "--out", "n.yaml", cwd=tmp_path, expect=2)
    assert "y.npy" in err
    np.savez(tmp_path / "n.npz", p=x, q=x, r=x)
    _, err = call("init", "n.npz", "--out", "n.yaml", cwd=tmp_path, expect=2)
    assert "p, q, r" in err


def test_cifar(tmp_path):
    random = np.random.default_rng(1)
    for name in ("data_batch_1.bin", "data_batch_2.bin", "test_batch.bin"):
        records = random.integers(0, 256, (20, 3073)).astype("u1")
        records[:, 0] %= 10
        (tmp_path / name).write_bytes(records.tobytes())
    _, text = init(tmp_path, "data_batch_1.bin", "data_batch_2.bin", "test_batch.bin")
    assert "files: [data_batch_1.bin, data_batch_2.bin]" in text and "kind: resnet" in text
    call("run", "job.yaml", "--set", "train.for=2 steps", cwd=tmp_path)


@pytest.mark.skipif(not HAS_IMAGES, reason="built without libpng and libjpeg")
def test_folder_of_images(tmp_path):
    made_data.image_folder(tmp_path / "pets", ["cat", "dog"], 40)
    result, text = init(tmp_path, "pets")
    assert "format: packed" in text and "file: pets.packed" in text and "images of 20 x 24 x 3, 2 classes" in text
    assert any("80 images packed" in note for note in result["notes"])
    assert trains(tmp_path, epochs=12)["accuracy"] > 0.9
    (tmp_path / "pets" / "cat" / "000.png").write_bytes(b"x")
    _, err = call("init", "pets", "--out", "b.yaml", cwd=tmp_path, expect=4)
    assert "000.png" in err and "--skip-broken" in err
    _, text = init(tmp_path, "pets", "--out", "c.yaml", "--size", "8", "--skip-broken")
    assert "79 images of 8 x 8 x 3" in text and "kind: mlp" in text
    _, text = init(tmp_path, "pets.packed", "--out", "d.yaml")
    assert "79 images of 8 x 8 x 3" in text


@pytest.mark.skipif(not HAS_IMAGES, reason="built without libpng and libjpeg")
def test_folder_with_train_val_test(tmp_path):
    """As data sets are often handed out: each part is packed alike, classes agree by name."""
    for part, classes, n in (("train", ["cat", "dog", "eel"], 16), ("val", ["dog", "eel"], 4), ("test", ["eel"], 3)):
        made_data.image_folder(tmp_path / "pets" / part, classes, n, shape=(14, 12, 3) if part == "train" else (30, 40, 3))
    result, text = init(tmp_path, "pets")
    assert "file: pets-train.packed" in text and "file: pets-valid.packed" in text and "file: pets-test.packed" in text
    assert "fraction" not in text and "48 images of 14 x 12 x 3, 3 classes" in text and text.count("sha256") == 3
    assert made_data.read_packed(tmp_path / "pets-test.packed")["pixels"].shape == (3, 14, 12, 3)
    trains(tmp_path, epochs=2, at_most=1e3)
    out, _ = call("eval", "run", "--split", "test", cwd=tmp_path)
    assert "3" in out


def test_paths_start_at_the_spec(tmp_path):
    (tmp_path / "jobs").mkdir()
    (tmp_path / "odd dir #1").mkdir()
    write_csv(tmp_path / "odd dir #1" / "a: b.csv", HEADER, flowers(30))
    init(tmp_path, "odd dir #1/a: b.csv", "--out", "jobs/job.yaml")
    call("run", tmp_path / "jobs" / "job.yaml", "--out", tmp_path / "r", "--set", "train.for=2 steps", cwd="/")
    init(tmp_path, tmp_path / "odd dir #1" / "a: b.csv", "--out", tmp_path / "odd dir #1" / "job.yaml")
    assert 'file: "a: b.csv"' in (tmp_path / "odd dir #1" / "job.yaml").read_text()


def test_templates_are_still_there(tmp_path):
    result, _ = init(tmp_path, "digits-mlp")
    assert result["path"] == "digits-mlp.yaml"
    _, err = call("init", "digits-mlp", cwd=tmp_path, expect=2)
    assert "exists" in err
    _, err = call("init", "no-such-template", cwd=tmp_path, expect=2)
    assert "there is no file and no template" in err
    _, err = call("init", "no/such/file.csv", cwd=tmp_path, expect=4)
    assert "no file or folder" in err
    (tmp_path / "noise").write_bytes(bytes(range(256)))
    _, err = call("init", "./noise", cwd=tmp_path, expect=4)
    assert "not known what it is" in err
    out, _ = call("init", "digits-mlp", "--out", "-", cwd=tmp_path)
    assert out.startswith("# digits-mlp")
