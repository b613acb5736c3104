"""Data files as other programs write them, and the arithmetic of `pack` once more, in Python integers."""
import gzip
import pathlib
import struct
import zlib

import numpy as np


# ---- PNG -------------------------------------------------------------------------------------------------


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(pixels, palette=None, bits=8):
    """The bytes of a PNG: (h, w) grey or palette indices, (h, w, 2 | 3 | 4); `bits` 8, 16 or less of grey."""
    h, w = pixels.shape[:2]
    channels = 1 if pixels.ndim == 2 else pixels.shape[2]
    kind = 3 if palette is not None else {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    if bits == 16:
        rows = pixels.astype(">u2").tobytes()
    elif bits == 8:
        rows = pixels.astype("u1").tobytes()
    else:
        rows = b"".join(np.packbits(np.unpackbits(row.astype("u1")[:, None], axis=1)[:, 8 - bits:].ravel()).tobytes()
                        for row in pixels)
    stride = len(rows) // h
    lines = b"".join(b"\0" + rows[y * stride:(y + 1) * stride] for y in range(h))
    body = chunk(b"IHDR", struct.pack(">IIBBBBB", w, h, bits, kind, 0, 0, 0))
    if palette is not None:
        body += chunk(b"PLTE", np.asarray(palette, "u1").tobytes())
    return b"\x89PNG\r\n\x1a\n" + body + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")


def image_folder(folder, classes, n, shape=(20, 24, 3), seed=1):
    """`n` PNGs for each class; a class is a brightness and a stripe, so that a network can tell them apart."""
    random = np.random.default_rng(seed)
    for number, name in enumerate(classes):
        (pathlib.Path(folder) / name).mkdir(parents=True)
        for i in range(n):
            pixels = random.integers(0, 80, shape) + 40 * number
            pixels[:, :4] += 60
            (pathlib.Path(folder) / name / f"{i:03}.png").write_bytes(png(np.clip(pixels, 0, 255)))


# ---- pack's arithmetic -----------------------------------------------------------------------------------


def side(old, new):
    """Weights (new, old) and their sum, in integers: area where it shrinks, linear where it grows."""
    weights = np.zeros((new, old), np.int64)
    for i in range(new):
        if old >= new:
            for j in range(old):
                weights[i, j] = max(0, min((j + 1) * new, (i + 1) * old) - max(j * new, i * old))
        else:
            at = (2 * i + 1) * old - new
            j, f = (0, 0) if at < 0 else divmod(at, 2 * new)
            weights[i, min(j, old - 1)] += 2 * new - f
            weights[i, min(j + 1, old - 1)] += f
    return weights, int(weights[0].sum())


def resize(pixels, height, width):
    rows, y_sum = side(pixels.shape[0], height)
    columns, x_sum = side(pixels.shape[1], width)
    total = np.einsum("yi,xj,ijc->yxc", rows, columns, pixels.astype(np.int64))
    whole = y_sum * x_sum
    return ((2 * total + whole) // (2 * whole)).astype(np.uint8)


def crop(pixels, height, width):
    h, w = pixels.shape[:2]
    new_h, new_w = h, w
    if w * height > h * width:
        new_w = max(1, (2 * h * width + height) // (2 * height))
    else:
        new_h = max(1, (2 * w * height + width) // (2 * width))
    top, left = (h - new_h) // 2, (w - new_w) // 2
    return pixels[top:top + new_h, left:left + new_w]


def read_packed(path):
    """The packed file as README.md of runner/data describes it: dict of header, names, labels, pixels."""
    import hashlib
    data = pathlib.Path(path).read_bytes()
    assert data[:8] == b"RPPACKED"
    version, classes, n, h, w, c, zero, labels_at, pixels_at = struct.unpack("<IIQIIIIQQ", data[8:56])
    assert version == 1 and zero == 0 and pixels_at % 4096 == 0
    assert data[64:96] == hashlib.sha256(data[:64] + data[96:]).digest()
    names, at = [], 96
    for _ in range(classes):
        length, = struct.unpack("<I", data[at:at + 4])
        names.append(data[at + 4:at + 4 + length].decode())
        at += 4 + length
    assert labels_at == (at + 7) // 8 * 8 and len(data) == pixels_at + n * h * w * c
    return {"names": names, "labels": np.frombuffer(data, "<u4", n, labels_at),
            "pixels": np.frombuffer(data, "u1", n * h * w * c, pixels_at).reshape(n, h, w, c)}


# ---- other formats -----------------------------------------------------------------------------------------


def idx(path, array):
    """IDX of bytes; gzip where the name says so."""
    data = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.astype("u1").tobytes()
    opener = gzip.open if str(path).endswith(".gz") else open
    with opener(path, "wb") as file:
        file.write(data)


def blobs(n, features, classes, seed=1):
    """Points that a small network learns: x (n, features) f32, y (n) whole numbers."""
    random = np.random.default_rng(seed)
    y = np.arange(n) % classes
    x = random.normal(size=(n, features)) * 0.5 + 2.0 * random.normal(size=(classes, features))[y]
    return x.astype("f4"), y.astype("i8")
