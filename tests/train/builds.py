"""Programs from other compilers and at other optimisation levels ($REPRISE_OTHERS, colon-separated) give the same bits as $REPRISE.

Not collected by ctest: scripts/test runs it once all the builds are there.
"""
import os
import pathlib

import pytest

import reprise as rp

OTHERS = [pathlib.Path(p).resolve() for p in os.environ.get("REPRISE_OTHERS", "").split(":") if p]
rp.PROGRAM = str(pathlib.Path(rp.PROGRAM).resolve())


@pytest.mark.parametrize("name", [*rp.MODELS, *rp.TEXT_MODELS])
def test_builds_agree(name, tmp_path, monkeypatch):
    assert OTHERS
    rp.write_texts(tmp_path)
    spec = rp.write(tmp_path, {**rp.MODELS, **rp.TEXT_MODELS}[name])
    final = rp.run(spec, tmp_path / "ours")
    for i, other in enumerate(OTHERS):
        monkeypatch.setattr(rp, "PROGRAM", str(other))
        for path in ["avx2", "scalar"]:
            monkeypatch.setenv("REPRISE_CPU_PATH", path)
            assert rp.run(spec, tmp_path / f"{i}-{path}") == final, (other, path)
        assert rp.run(spec, tmp_path / f"{i}-control", "--set", "seed=1") != final
