"""A newer segment in the manifest: the older process commits nothing more and ends with 24."""
import json
import time

import reprise as rp


def test_whoever_is_no_longer_newest_writes_nothing(tmp_path):
    text = rp.DIGITS_MLP.replace("4 epochs", "40000 epochs").replace("every: 5 steps", "every: 2 steps")
    out = tmp_path / "run"
    process = rp.start("run", rp.write(tmp_path, text), "--out", out)
    try:
        while not list(out.glob("checkpoints/step-*/COMMITTED")):
            assert process.poll() is None
        manifest = rp.manifest(out)
        manifest["segments"].append({**manifest["segments"][0], "segment": 1, "id": "f" * 16, "host": "newcomer"})
        text = json.dumps(manifest)
        (tmp_path / "new").write_text(text)
        (tmp_path / "new").rename(out / "manifest.json")
        time.sleep(0.2)  # a commit that was under way
        before = sorted(p.name for p in out.glob("checkpoints/step-*"))
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 24 and "newcomer" in err
    assert (out / "manifest.json").read_text() == text
    assert sorted(p.name for p in out.glob("checkpoints/step-*")) == before
    assert not list(out.glob("checkpoints/saving-*"))
