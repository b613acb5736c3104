"""One step and fifty steps against PyTorch in fp64, within a bound that comes from precision (scripts/reference/torch_curves.py)."""
import json
import pathlib

import pytest

import reprise as rp

FOLDER = pathlib.Path(__file__).resolve().parents[1] / "ref" / "torch"
CURVES = json.loads((FOLDER / "curves.json").read_text())


@pytest.fixture(scope="module", params=list(CURVES))
def case(request, tmp_path_factory):
    out = tmp_path_factory.mktemp(request.param) / "run"
    rp.call("run", FOLDER / f"{request.param}.yaml", "--out", out)
    return CURVES[request.param], out


def test_one_step(case):
    want, out = case
    got = rp.safetensors(out / "checkpoints" / "step-00000001" / "model.safetensors")
    assert set(got) == set(want["first"])
    for name, values in want["first"].items():
        worst = max(abs(a - b) for a, b in zip(got[name], values))
        assert len(got[name]) == len(values) and worst <= want["first_bound"][name], (name, worst)


def test_fifty_steps(case):
    want, out = case
    got = [line["metrics"]["loss"] for line in rp.metric_lines(out) if line["split"] == "train"]
    assert len(got) == len(want["loss"])
    for step, (a, b, bound) in enumerate(zip(got, want["loss"], want["loss_bound"])):
        assert abs(a - b) <= bound, (step, a, b)


def test_control_a_wrong_ingredient_is_outside(case):
    want, out = case
    got = [line["metrics"]["loss"] for line in rp.metric_lines(out) if line["split"] == "train"]
    assert any(abs(a - b) > bound for a, b, bound in zip(got, want["wrong_loss"], want["loss_bound"])), want["wrong"]


def test_the_reader_of_the_field_opens_it(case):
    """The Python safetensors package, where it is installed."""
    reader = pytest.importorskip("safetensors.numpy")
    _, out = case
    file = out / "checkpoints" / "step-00000050" / "model.safetensors"
    ours, theirs = rp.safetensors(file), reader.load_file(str(file))
    assert set(ours) == set(theirs)
    assert all(tuple(theirs[name].ravel().tolist()) == ours[name] for name in ours)
