"""Augmentation against a twin in NumPy and Python floats, bit for bit."""
import math
import os
import subprocess

import numpy as np
import pytest

from reprise import call, call_json, run, write

FILL = os.environ.get("FILL_BATCH", "")
SEED = 77
TRANSFORM = 4
f4 = np.float32


# ---- random numbers: Philox4x32-10 ---------------------------------------------------------------------


def philox(counter, key):
    c, mask = list(counter), 0xffffffff
    k0, k1 = key
    for _ in range(10):
        a, b = 0xd2511f53 * c[0], 0xcd9e8d57 * c[2]
        c = [(b >> 32) ^ c[1] ^ k0, b & mask, (a >> 32) ^ c[3] ^ k1, a & mask]
        k0, k1 = (k0 + 0x9e3779b9) & mask, (k1 + 0xbb67ae85) & mask
    return c


def words(site, position, block=0):
    return philox([block, position & 0xffffffff, position >> 32, TRANSFORM << 24 | site], (SEED & 0xffffffff, SEED >> 32))


def uniform(word):
    return f4(word >> 8) * f4(2.0 ** -24)


def below(word, n):
    return word * n >> 32


# ---- sin and cos of rp-num-1, in binary64 ----------------------------------------------------------------


def series(t, quadrant):
    z = t * t
    if quadrant & 1:
        p = -1.0 / 6402373705728000.0
        for n, sign in ((20922789888000.0, 1), (87178291200.0, -1), (479001600.0, 1), (3628800.0, -1), (40320.0, 1),
                        (720.0, -1), (24.0, 1)):
            p = p * z + sign * (1.0 / n)
        y = (1.0 - 0.5 * z) + (z * z) * p
    else:
        p = 1.0 / 355687428096000.0
        for n, sign in ((1307674368000.0, -1), (6227020800.0, 1), (39916800.0, -1), (362880.0, 1), (5040.0, -1),
                        (120.0, 1), (6.0, -1)):
            p = p * z + sign * (1.0 / n)
        y = t + t * (z * p)
    return -y if quadrant & 2 else y


def reduce(x):
    magic = 1.5 * 2.0 ** 52
    shifted = x * float.fromhex("0x1.45f306dc9c883p-1") + magic
    n = shifted - magic
    t = ((x - n * float.fromhex("0x1.921fb544p0")) - n * float.fromhex("0x1.0b4611a6p-34")) - n * float.fromhex("0x1.3198a2e037073p-69")
    return t, int(n)


def sin(x):
    t, n = reduce(x)
    return series(t, n % 4)


def cos(x):
    t, n = reduce(x)
    return series(t, (n + 1) % 4)


def log(x):
    m, k = math.frexp(x)  # m in [1/2, 1)
    if m < float.fromhex("0x1.6a09e667f3bcdp-1"):
        m, k = m * 2, k - 1
    s = (m - 1.0) / (m + 1.0)
    z = s * s
    p = 1.0 / 23
    for n in range(21, 1, -2):
        p = p * z + 1.0 / n
    tail = (s + s) * (z * p)
    return k * float.fromhex("0x1.62e42fee00000p-1") + ((s + s) + (tail + k * float.fromhex("0x1.a39ef35793c76p-33")))


def exp(x):
    magic = 1.5 * 2.0 ** 52
    n = (x * float.fromhex("0x1.71547652b82fep0") + magic) - magic
    r = (x - n * float.fromhex("0x1.62e42fee00000p-1")) - n * float.fromhex("0x1.a39ef35793c76p-33")
    p = 1.0 / math.factorial(13)
    for i in range(12, 1, -1):
        p = p * r + 1.0 / math.factorial(i)
    return (1.0 + (r + r * r * p)) * 2.0 ** n


# ---- the steps ---------------------------------------------------------------------------------------------


def lerp(a, b, t):
    return a + (b - a) * f4(t)


def random_crop(image, w, step, is_u8):
    p = step["padding"]
    dy, dx = below(w[0], 2 * p + 1) - p, below(w[1], 2 * p + 1) - p
    out = np.zeros_like(image)
    h, wd = image.shape[:2]
    for y in range(h):
        for x in range(wd):
            if 0 <= y + dy < h and 0 <= x + dx < wd:
                out[y, x] = image[y + dy, x + dx]
    return out


def random_flip(image, w, step, is_u8):
    return image[:, ::-1].copy() if uniform(w[0]) < f4(step["p"]) else image


def linear(i, old, new):
    at = (2 * i + 1) * old - new
    j, f = (0, 0) if at < 0 else divmod(at, 2 * new)
    return (j, f4(f) / f4(2 * new)) if j + 1 < old else (old - 1, f4(0))


def random_resized_crop(image, w, step, is_u8):
    h, wd = image.shape[:2]
    low, high = float(f4(step["scale"][0])), float(f4(step["scale"][1]))
    part = low + float(uniform(w[0])) * (high - low)
    low, high = np.sqrt(float(f4(step["ratio"][0]))), np.sqrt(float(f4(step["ratio"][1])))
    shape = low + float(uniform(w[1])) * (high - low)
    side = np.sqrt(float(h * wd) * part)
    new_h = min(h, max(1, int(side / shape + 0.5)))
    new_w = min(wd, max(1, int(side * shape + 0.5)))
    top, left = below(w[2], h - new_h + 1), below(w[3], wd - new_w + 1)
    cut = image[top:top + new_h, left:left + new_w]
    out = np.empty_like(image)
    for y in range(h):
        j, ty = linear(y, new_h, h)
        below_j = min(j + 1, new_h - 1)
        for x in range(wd):
            i, tx = linear(x, new_w, wd)
            right = min(i + 1, new_w - 1)
            out[y, x] = lerp(lerp(cut[j, i], cut[j, right], tx), lerp(cut[below_j, i], cut[below_j, right], tx), ty)
    return out


def random_rotation(image, w, step, is_u8):
    degrees = float(f4(step["degrees"]))
    angle = (-degrees + float(uniform(w[0])) * (degrees + degrees)) * float.fromhex("0x1.1df46a2529d39p-6")
    c, s = cos(angle), sin(angle)
    h, wd, channels = image.shape
    cy, cx = 0.5 * (h - 1), 0.5 * (wd - 1)

    def pixel(y, x):
        return image[y, x] if 0 <= y < h and 0 <= x < wd else np.zeros(channels, f4)

    out = np.empty_like(image)
    for y in range(h):
        for x in range(wd):
            dy, dx = y - cy, x - cx
            from_x, from_y = (cx + c * dx) + s * dy, (cy - s * dx) + c * dy
            i, j = int(np.floor(from_x)), int(np.floor(from_y))
            tx, ty = f4(from_x - i), f4(from_y - j)
            out[y, x] = lerp(lerp(pixel(j, i), pixel(j, i + 1), tx), lerp(pixel(j + 1, i), pixel(j + 1, i + 1), tx), ty)
    return out


def grey(image):
    if image.shape[2] == 1:
        return image[:, :, 0]
    return (f4(0.299) * image[:, :, 0] + f4(0.587) * image[:, :, 1]) + f4(0.114) * image[:, :, 2]


def color_jitter(image, w, step, is_u8):
    def limit(x):
        return np.clip(x, f4(0), f4(1)) if is_u8 else x

    def factor(word, by):
        by = f4(by)
        low, high = (f4(1) - by if by < 1 else f4(0)), f4(1) + by
        return low + uniform(word) * (high - low)

    if step.get("brightness"):
        image = limit(image * factor(w[0], step["brightness"]))
    if step.get("contrast"):
        f = factor(w[1], step["contrast"])
        total = 0.0
        for value in grey(image).ravel():
            total += float(value)
        mean = f4(total / (image.shape[0] * image.shape[1]))
        image = limit(image * f + (f4(1) - f) * mean)
    if step.get("saturation") and image.shape[2] == 3:
        f = factor(w[2], step["saturation"])
        image = limit(image * f + ((f4(1) - f) * grey(image))[:, :, None])
    return image


def cutout(image, w, step, is_u8):
    if not uniform(w[2]) < f4(step.get("p", 1)):
        return image
    size = step["size"] if isinstance(step["size"], list) else [step["size"]] * 2
    top, left = below(w[0], image.shape[0]) - size[0] // 2, below(w[1], image.shape[1]) - size[1] // 2
    image = image.copy()
    image[max(top, 0):max(top + size[0], 0), max(left, 0):max(left + size[1], 0)] = 0
    return image


def normalize(image, w, step, is_u8):
    return (image - np.asarray(step["mean"], f4)) / np.asarray(step["std"], f4)


MIXES = ("mixup", "cutmix")


def alone(image, steps, position, is_u8, block=0):
    image = image.astype(f4) / f4(255) if is_u8 else image
    for site, (name, step) in enumerate(steps):
        if name not in MIXES:
            image = globals()[name](image, words(site, position, block), step, is_u8)
    return image


def beta(alpha, radius, turn):
    power = log((radius + 0.5) * 2.0 ** -32) / float(f4(alpha))
    e = 0.0 if power < -700 else exp(power)
    c = cos(((turn + 0.5) * 2.0 ** -32) * float.fromhex("0x1.921fb54442d18p2"))
    return 0.5 + (0.5 * c) * math.sqrt((1 - e) / (e + (1 - e) * (c * c)))


def rectangle(shape, part, w):
    """Rows and columns that come from the other image."""
    sides = [int(n * math.sqrt(1 - part) + 0.5) for n in shape[:2]]
    first = [below(w[2 + i], shape[i]) - sides[i] // 2 for i in range(2)]
    return tuple(slice(min(max(f, 0), n), min(max(f + s, 0), n)) for f, s, n in zip(first, sides, shape))


def twin_and_target(images, order, steps, position, is_u8):
    """What stands at a position, and its target (class, other class, weight in 2^-24)."""
    sample, whole = order[position], 1 << 24
    image = alone(images[sample], steps, position, is_u8)
    mixes = [(site, *item) for site, item in enumerate(steps) if item[0] in MIXES]
    if not mixes:
        return image, None
    site, name, step = mixes[below(words(mixes[0][0], position)[0], len(mixes))]
    w, more = words(site, position), words(site, position, 1)
    if not uniform(w[1]) < f4(step.get("p", 1)):
        return image, [sample % 3, sample % 3, whole]
    partner = below(w[2], len(images))
    other = alone(images[partner], steps, position, is_u8, block=1)
    part = beta(step.get("alpha", {"mixup": 0.2, "cutmix": 1}[name]), more[0], more[1])
    if name == "mixup":
        weight = int(part * whole + 0.5)
        image = image * f4(weight / whole) + other * f4((whole - weight) / whole)
    else:
        where = rectangle(image.shape, part, more)
        image = image.copy()
        image[where] = other[where]
        pixels = image.shape[0] * image.shape[1]
        kept = pixels - other[where].shape[0] * other[where].shape[1]
        weight = (2 * whole * kept + pixels) // (2 * pixels)
    return image, [sample % 3, partner % 3, weight]


def twin(*what):
    return twin_and_target(*what)[0]


# ---- the tests ---------------------------------------------------------------------------------------------


def flow(value):
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k}: {flow(v)}" for k, v in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(flow, value)) + "]"
    return repr(value)


def spec_of(tmp_path, images, steps, valid=""):
    np.save(tmp_path / "x.npy", images)
    np.save(tmp_path / "y.npy", (np.arange(len(images)) % 3).astype("i4"))
    items = ", ".join(f"{{{name}: {flow(step)}}}" for name, step in steps)
    return write(tmp_path, f"""reprise: 1
name: augment
seed: {SEED}
data:
  train: {{format: npy, x: x.npy, y: y.npy}}
  {valid}
  transform: [{items}]
model: {{kind: mlp, hidden: [8]}}
train: {{for: 6 steps, batch: 8, optimizer: {{kind: sgd, lr: 0.01}}}}
""")


def filled(spec, shape, split, first, n, kind=f4):
    raw = subprocess.run([FILL, str(spec), split, str(first), str(n)], capture_output=True, check=True).stdout
    return np.frombuffer(raw, kind).reshape(n, *shape)


def plain_order(tmp_path, images, first, n):
    """Which sample stands at each position: found by filling without transforms."""
    seen = filled(spec_of(tmp_path, images, []), images.shape[1:], "train", first, n)
    plain = images.astype(f4) / f4(255) if images.dtype == np.uint8 else images
    return {first + i: int(np.argmin([np.abs(one - seen[i]).max() for one in plain])) for i in range(n)}


LISTS = {
    "resized": [("random_resized_crop", {"scale": [0.2, 0.9], "ratio": [0.5, 2.0]})],
    "resized-default": [("random_resized_crop", {"scale": [0.08, 1.0], "ratio": [0.75, 1.3333334]})],
    "rotation": [("random_rotation", {"degrees": 180})],
    "jitter": [("color_jitter", {"brightness": 0.4, "contrast": 1.5, "saturation": 0.9})],
    "contrast": [("color_jitter", {"contrast": 0.3})],
    "cutout": [("cutout", {"size": [3, 5]})],
    "cutout-half": [("cutout", {"size": 20, "p": 0.5})],
    "all": [("random_crop", {"padding": 2}), ("random_flip", {"p": 0.5}), ("color_jitter", {"brightness": 0.2, "saturation": 0.3}),
            ("random_rotation", {"degrees": 12.5}), ("normalize", {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.25, 0.3]}),
            ("random_resized_crop", {"scale": [0.5, 1.0], "ratio": [0.9, 1.1]}), ("random_flip", {"p": 0.25}), ("cutout", {"size": 4})],
    "mixup": [("mixup", {"alpha": 0.2})],
    "mixup-small": [("mixup", {"alpha": 0.01, "p": 0.8})],
    "cutmix": [("cutmix", {})],
    "cutmix-large": [("cutmix", {"alpha": 300})],
    "mix-of-tables": [("random_crop", {"padding": 2}), ("normalize", {"mean": 0.4, "std": 0.2}), ("random_flip", {"p": 0.5}), ("mixup", {"alpha": 1})],
    "mix-of-all": [("random_flip", {"p": 0.5}), ("color_jitter", {"brightness": 0.2}), ("random_rotation", {"degrees": 12.5}),
                   ("mixup", {"p": 0.7}), ("cutmix", {"alpha": 1, "p": 0.9}), ("mixup", {"alpha": 8})],
}


def made(kind, shape, n=7):
    random = np.random.default_rng(8)
    images = random.integers(0, 256, (n, *shape))
    return images.astype("u1") if kind == "u8" else (images / 37.0 - 2).astype("f4")


@pytest.mark.parametrize("kind", ["u8", "f32"])
@pytest.mark.parametrize("name", LISTS)
def test_twin(tmp_path, name, kind):
    shape, first, n = (9, 12, 3), (1 << 33) + 5, 10
    images, steps = made(kind, shape), LISTS[name]
    order = plain_order(tmp_path, images, first, n)
    got = filled(spec_of(tmp_path, images, steps), shape, "train", first, n)
    for i in range(n):
        want = twin(images, order, steps, first + i, kind == "u8")
        assert want.dtype == f4 and np.array_equal(got[i].view("u4"), want.view("u4")), i
    other = filled(spec_of(tmp_path, images, steps), shape, "train", first + 1, n)
    assert np.array_equal(other[:-1], got[1:]) and not np.array_equal(other, got)
    want = [twin_and_target(images, order, steps, first + i, kind == "u8")[1] for i in range(n)]
    if want[0]:
        assert filled(spec_of(tmp_path, images, steps), (3,), "targets", first, n, "i4").tolist() == want
        assert len({weight for _, _, weight in want}) > 1 and any(a != b for a, b, _ in want)


def test_grey_and_single_pixel(tmp_path):
    steps = [("color_jitter", {"brightness": 0.2, "contrast": 0.2, "saturation": 0.2}), ("random_rotation", {"degrees": 30}),
             ("random_resized_crop", {"scale": [0.1, 1.0], "ratio": [0.1, 10.0]}), ("cutout", {"size": 1, "p": 0.3})]
    for shape in ((8, 5, 1), (1, 1, 1), (1, 9, 3)):
        images = made("u8", shape)
        order = plain_order(tmp_path, images, 0, 7)
        got = filled(spec_of(tmp_path, images, steps), shape, "train", 0, 7)
        for i in range(7):
            assert np.array_equal(got[i], twin(images, order, steps, i, True)), (shape, i)


@pytest.mark.parametrize("kind", ["u8", "f32"])
def test_both_ways_through_a_list_agree(tmp_path, kind):
    """Crops and flips alone take tables; a cutout that never happens sends them step by step: equal bits."""
    shape = (11, 7, 3)
    images = made(kind, shape)
    steps = [("random_crop", {"padding": 3}), ("normalize", {"mean": [0.1, 0.2, 0.3], "std": 0.7}), ("random_flip", {"p": 0.5}),
             ("normalize", {"mean": 0.5, "std": 0.3}), ("random_crop", {"padding": 1})]
    valid = "valid: {fraction: 0.4}"
    for split, n in (("train", 20), ("valid", 3)):
        plain = filled(spec_of(tmp_path, images, steps, valid), shape, split, 0, n)
        stepwise = filled(spec_of(tmp_path, images, steps + [("cutout", {"size": 9, "p": 0})], valid), shape, split, 0, n)
        always = filled(spec_of(tmp_path, images, steps + [("cutout", {"size": 9})], valid), shape, split, 0, n)
        assert np.array_equal(plain.view("u4"), stepwise.view("u4"))
        assert np.array_equal(plain, always) == (split == "valid")


def test_runs_do_not_depend_on_the_place(tmp_path):
    spec = spec_of(tmp_path, made("u8", (9, 12, 3), 40), LISTS["all"], "valid: {fraction: 0.2}")
    final = run(spec, tmp_path / "a", "--set", "resources.threads=1")
    assert run(spec, tmp_path / "b", "--set", "train.micro_batch=2", "--set", "resources.threads=2") == final
    assert run(spec, tmp_path / "c", "--set", "seed=78") != final
    call("run", spec, "--out", tmp_path / "d", "--set", "checkpoint.every=2 steps", "--stop-after", "0.000001s", expect=20)
    assert run(spec, tmp_path / "d", "--set", "checkpoint.every=2 steps") == final


def test_weights_are_drawn_from_beta(tmp_path):
    """Kolmogorov and Smirnov: the largest distance from the distribution's function, at most 2 / sqrt(n) (p = 0.0007)."""
    images, n = made("u8", (1, 1, 1)), 20000
    functions = {0.5: lambda x: 2 / np.pi * np.arcsin(np.sqrt(x)), 1: lambda x: x, 2: lambda x: 3 * x ** 2 - 2 * x ** 3}
    for alpha in functions:
        drawn = filled(spec_of(tmp_path, images, [("mixup", {"alpha": alpha})]), (3,), "targets", 0, n, "i4")[:, 2]
        x = np.sort(drawn / 2.0 ** 24)
        distance = {a: np.abs(f(x) - (np.arange(n) + 0.5) / n).max() for a, f in functions.items()}
        assert all((distance[a] < 2 / np.sqrt(n)) == (a == alpha) for a in functions), distance


def test_a_mix_that_never_happens_changes_nothing(tmp_path):
    """Another op, and the same bits; evaluation sees samples that are not mixed."""
    images, valid = made("u8", (9, 12, 3), 40), "valid: {fraction: 0.2}"
    plain, never, always = [("random_flip", {"p": 0.5})], [("mixup", {"p": 0}), ("cutmix", {"p": 0})], [("mixup", {}), ("cutmix", {})]
    final = run(spec_of(tmp_path, images, plain, valid), tmp_path / "a")
    assert run(spec_of(tmp_path, images, plain + never, valid), tmp_path / "b") == final
    assert run(spec_of(tmp_path, images, plain + always, valid), tmp_path / "c") != final
    seen = [filled(spec_of(tmp_path, images, plain + mixes, valid), (9, 12, 3), "valid", 0, 8) for mixes in ([], always)]
    assert np.array_equal(*seen)


@pytest.mark.parametrize("mixes", [[("mixup", {"alpha": 1})], [("cutmix", {})], [("mixup", {}), ("cutmix", {"p": 0.8})]])
def test_runs_with_mixes_do_not_depend_on_the_place(tmp_path, mixes):
    steps = [("normalize", {"mean": 0.5, "std": 0.25}), ("random_crop", {"padding": 1}), *mixes]
    spec = spec_of(tmp_path, made("u8", (9, 12, 3), 40), steps, "valid: {fraction: 0.2}")
    final = run(spec, tmp_path / "a", "--set", "resources.threads=1")
    for micro in (1, 2, 8):
        assert run(spec, tmp_path / f"b{micro}", "--set", f"train.micro_batch={micro}", "--set", "resources.threads=2",
                   "--set", "train.shards=2") == run(spec, tmp_path / f"c{micro}", "--set", "train.shards=2"), micro
    assert run(spec, tmp_path / "d", "--set", "train.micro_batch=1", "--set", "resources.threads=2") == final
    call("run", spec, "--out", tmp_path / "e", "--set", "checkpoint.every=2 steps", "--stop-after", "0.000001s", expect=20)
    assert run(spec, tmp_path / "e", "--set", "checkpoint.every=2 steps") == final
    assert call_json("eval", tmp_path / "e")["metrics"]["accuracy"] >= 0
    assert run(spec, tmp_path / "f", "--set", "seed=78") != final


def test_rows_are_mixed(tmp_path):
    rows = np.random.default_rng(3).normal(size=(30, 20)).astype(f4)
    steps = [("normalize", {"mean": [0.25] * 20, "std": 2.0}), ("mixup", {"alpha": 2})]
    spec = spec_of(tmp_path, rows, steps)
    got, target = filled(spec, (20,), "train", 5, 9), filled(spec, (3,), "targets", 5, 9, "i4")
    order = plain_order(tmp_path, rows, 5, 9)
    fixed = (rows - f4(0.25)) / f4(2)
    for i in range(9):
        own, other = f4(target[i, 2] / 2.0 ** 24), f4((2 ** 24 - target[i, 2]) / 2.0 ** 24)
        partner = below(words(1, 5 + i)[2], 30)
        assert np.array_equal(got[i], fixed[order[5 + i]] * own + fixed[partner] * other)
        assert target[i].tolist()[:2] == [order[5 + i] % 3, partner % 3]


def test_errors(tmp_path):
    images = made("u8", (9, 12, 3))
    for steps, what in (([("random_resized_crop", {"scale": [0.9, 0.2]})], "smaller to the larger"),
                        ([("random_rotation", {})], "degrees"), ([("cutout", {"size": 0})], "size"),
                        ([("normalize", {"mean": 0, "std": 1}), ("color_jitter", {"contrast": 1})], "before `normalize`"),
                        ([("ColorJitter", {})], "here `color_jitter"), ([("MixUp", {})], "here `mixup"),
                        ([("mixup", {"alpha": 0})], "alpha"), ([("cutmix", {"p": 1.5})], "`cutmix.p`"),
                        ([("mixup", {}), ("random_flip", {})], "write `mixup` last")):
        _, err = call("validate", spec_of(tmp_path, images, steps), expect=2)
        assert what in err, err
    _, err = call("run", spec_of(tmp_path, images.reshape(7, -1), [("cutout", {"size": 2})]), "--out", tmp_path / "x", expect=2)
    assert "images (height, width, channels)" in err
    _, err = call("run", spec_of(tmp_path, images.reshape(7, -1), [("cutmix", {})]), "--out", tmp_path / "x", expect=2)
    assert "images (height, width, channels)" in err
    spec = spec_of(tmp_path, images, [("mixup", {})])
    _, err = call("validate", spec, "--set", "train.loss=mse", "--set", "data.train.target=values", expect=2)
    assert "`mixup` mixes classes" in err
    _, err = call("run", spec_of(tmp_path, made("u8", (3, 3, 4)), [("color_jitter", {"contrast": 1})]), "--out", tmp_path / "x", expect=2)
    assert "1 or 3 channels" in err
