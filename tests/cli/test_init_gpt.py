"""A language model of one's own text: `reprise init gpt`, two edits, and it runs."""
import random

import reprise as rp


def test_two_edits_and_it_runs(tmp_path):
    chance = random.Random(3)
    text = tmp_path / "letters"
    text.mkdir()
    for name in ("first.txt", "second.txt"):
        (text / name).write_text("".join(chance.choice("an old song; \n") for _ in range(3000)))
    rp.call("init", "gpt", cwd=tmp_path)
    spec = tmp_path / "gpt.yaml"
    lines = spec.read_text().splitlines()
    marked = [number for number, line in enumerate(lines) if "# <-" in line]
    assert len(marked) == 2
    lines[marked[0]] = "name: letters"
    lines[marked[1]] = "  train: {format: text, files: [letters]}"
    spec.write_text("\n".join(lines))
    small = ["--set", "train.for=4 steps", "--set", "model.width=32", "--set", "eval.every=2 steps", "--set", "train.schedule.warmup=1 step"]
    rp.run(spec, tmp_path / "run", *small)
    last = [line["metrics"] for line in rp.metric_lines(tmp_path / "run") if line["split"] == "valid"][-1]
    assert set(last) == {"loss", "perplexity", "bits_per_byte", "accuracy", "top5_accuracy"}
    shown, _ = rp.call("show", tmp_path / "run")
    assert "perplexity" in shown and "valid/loss" in shown
    assert "reprise sample " in shown and "predict" not in shown and "per-class" not in shown  # what can be done with it
    listed, _ = rp.call("list", tmp_path)
    assert "valid/loss" in listed


def test_without_the_edits_it_says_what_is_missing(tmp_path):
    rp.call("init", "gpt", cwd=tmp_path)
    _, err = rp.call("run", "gpt.yaml", cwd=tmp_path, expect=4)
    assert "input.txt" in err


def test_try(tmp_path):
    (tmp_path / "input.txt").write_text("to be or not to be, that is the question. " * 200)
    rp.call("init", "gpt", cwd=tmp_path)
    result = rp.call_json("run", "gpt.yaml", "--try", "--set", "model.width=32", cwd=tmp_path)
    assert result["steps_compared"] > 0
