"""A GPT-2 and two Llamas of two layers against PyTorch in fp64: every gradient of one step and the loss of a hundred, within
bounds that come from precision (scripts/reference/torch_gpt.py)."""
import json
import pathlib

import pytest

import reprise as rp

FOLDER = pathlib.Path(__file__).resolve().parents[1] / "ref" / "torch_gpt"
CURVES = json.loads((FOLDER / "curves.json").read_text())
BETA1 = 0.9


@pytest.fixture(scope="module", params=list(CURVES))
def case(request, tmp_path_factory):
    out = tmp_path_factory.mktemp(request.param) / "run"
    rp.call("run", FOLDER / f"{request.param}.yaml", "--out", out)
    return request.param, CURVES[request.param], out


def gradients(out, clipped):
    """AdamW's first mean after one step is (1 - beta1) times the clipped gradient."""
    state = rp.safetensors(out / "checkpoints" / "step-00000001" / "optimizer.safetensors")
    return {name[:-2]: [m / (1 - BETA1) / clipped for m in values] for name, values in state.items() if name.endswith(".m")}


def worst(a, b):
    assert len(a) == len(b)
    return max(abs(x - y) for x, y in zip(a, b))


def test_gradients_of_one_step(case):
    name, want, out = case
    got, theirs = gradients(out, want["clipped"]), rp.safetensors(FOLDER / f"{name}.gradients.safetensors")
    assert set(got) == set(theirs)
    for tensor, values in theirs.items():
        assert worst(got[tensor], values) <= want["gradient_bound"][tensor], tensor


def losses_of(out):
    return [line["metrics"]["loss"] for line in rp.metric_lines(out) if line["split"] == "train"]


def test_a_hundred_steps(case):
    _, want, out = case
    got = losses_of(out)
    assert len(got) == len(want["loss"]) == 100
    for step, (a, b, bound) in enumerate(zip(got, want["loss"], want["loss_bound"])):
        assert abs(a - b) <= bound, (step, a, b)
    assert got[-1] < got[0] - 0.3


def test_control_a_wrong_ingredient_is_outside(case):
    name, want, out = case
    assert any(abs(a - b) > bound for a, b, bound in zip(losses_of(out), want["wrong_loss"], want["loss_bound"])), want["wrong"]
    for tensor, values in rp.safetensors(FOLDER / f"{name}.wrong.safetensors").items():
        assert worst(gradients(out, want["clipped"])[tensor], values) > want["gradient_bound"][tensor]
