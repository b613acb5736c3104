"""What is generated from the schema table is what is in the tree, and is right."""
import json
import os
import pathlib
import pty
import re
import select
import shutil
import subprocess
import time

import pytest

REPRISE = os.environ["REPRISE"]
SOURCE = pathlib.Path(os.environ["REPRISE_SOURCE"])
SPECS = SOURCE / "specs"


def run(*words, cwd=None, check=0):
    done = subprocess.run([REPRISE, *map(str, words)], cwd=cwd, capture_output=True, timeout=60)
    assert done.returncode == check, done.stderr.decode()
    return done


def test_reference_is_not_stale():
    assert (SPECS / "README.md").read_bytes() == run("schema", "--reference").stdout, \
        "run: reprise schema --reference > specs/README.md"


def test_json_schema_is_not_stale():
    assert (SPECS / "reprise-v1.schema.json").read_bytes() == run("schema").stdout, \
        "run: reprise schema > specs/reprise-v1.schema.json"


# ---- a validator of the part of JSON Schema that is used ----


def is_type(value, name):
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return {"object": isinstance(value, dict), "array": isinstance(value, list), "string": isinstance(value, str),
            "boolean": isinstance(value, bool), "null": value is None, "number": number,
            "integer": number and value == int(value) if number and value == value and abs(value) != float("inf") else False}[name]


def fits(value, schema, root):
    if schema is True or schema is False:
        return schema
    if "$ref" in schema:
        return fits(value, root["definitions"][schema["$ref"].rsplit("/", 1)[1]], root)
    if "type" in schema and not is_type(value, schema["type"]):
        return False
    if "const" in schema and value != schema["const"] or "enum" in schema and value not in schema["enum"]:
        return False
    if is_type(value, "number"):
        if (value < schema.get("minimum", value) or value > schema.get("maximum", value)
                or value <= schema.get("exclusiveMinimum", value - 1) or value >= schema.get("exclusiveMaximum", value + 1)):
            return False
    if isinstance(value, str):
        if not re.search(schema.get("pattern", ""), value) or len(value) < schema.get("minLength", 0):
            return False
    if isinstance(value, list):
        if not schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value)):
            return False
        if not all(fits(item, schema.get("items", True), root) for item in value):
            return False
    if isinstance(value, dict):
        properties = schema.get("properties", {})
        if not all(name in value for name in schema.get("required", [])):
            return False
        if schema.get("additionalProperties") is False and not all(name in properties for name in value):
            return False
        if not all(fits(value[name], properties[name], root) for name in value if name in properties):
            return False
    if "anyOf" in schema and not any(fits(value, part, root) for part in schema["anyOf"]):
        return False
    for part in schema.get("allOf", []):
        if "if" in part and fits(value, part["if"], root) and not fits(value, part["then"], root):
            return False
    return True


def load_yaml(path):
    """YAML with the scalars of YAML 1.2's core schema, as reprise reads it."""
    yaml = pytest.importorskip("yaml")

    class Loader(yaml.SafeLoader):
        yaml_implicit_resolvers = {}

    def number(loader, node):
        text = node.value
        return int(text, 0) if text[:2] in ("0x", "0o") else float(text) if re.search("[.eE]", text) else int(text)

    Loader.add_implicit_resolver("!number", re.compile(
        r"^(0x[0-9a-fA-F]+|0o[0-7]+|[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?)$"), None)
    Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile("^(true|True|TRUE|false|False|FALSE)$"), None)
    Loader.add_implicit_resolver("tag:yaml.org,2002:null", re.compile("^(~|null|Null|NULL|)$"), None)
    Loader.add_constructor("!number", number)
    return yaml.load(path.read_bytes(), Loader)


def test_json_schema_takes_what_validate_takes():
    schema = json.loads((SPECS / "reprise-v1.schema.json").read_text())
    for path in sorted((SPECS / "good").glob("*.yaml")) + sorted(SPECS.glob("*.yaml")):
        assert fits(load_yaml(path), schema, schema), path.name


SCHEMA_REFUSES = ["spelling-key", "spelling-value", "spelling-layer", "type-text-for-int", "type-quoted-number", "type-suffix",
                  "type-list-for-map", "type-scalar-for-list", "type-list-length", "unit-missing", "unit-wrong", "unit-glued",
                  "unit-time-in-eval", "range-seed", "range-fraction", "range-batch", "range-lr", "missing-seed", "missing-lr",
                  "missing-layer-option", "unknown-key", "nesting-lr-at-top", "nesting-other-kind", "nesting-layers-in-mlp",
                  "nesting-layer-options", "nesting-fraction-and-format", "name-path", "name-long", "not-built-precision",
                  "gpt-preset", "foreign-kernel-size", "version-newer"]


@pytest.mark.parametrize("name", SCHEMA_REFUSES)
def test_json_schema_refuses(name):
    schema = json.loads((SPECS / "reprise-v1.schema.json").read_text())
    assert not fits(load_yaml(SPECS / "bad" / f"{name}.yaml"), schema, schema)


# ---- explain, init, completion ----


def test_explain_knows_every_key():
    keys = re.findall(r"^\| `([^`]+)` \|", (SPECS / "README.md").read_text(), re.M)
    assert len(keys) > 100
    for key in sorted(set(keys)):
        text = run("explain", key).stdout.decode()
        assert text.startswith(key + "\n") and "example:" in text, key


def test_explain_other_things():
    assert b"bits differ" in run("explain", "7").stdout
    assert run("explain", "exit-codes").stdout.count(b"\n") >= 15
    assert b"manifest" in run("explain", "manifest.json").stdout
    assert b"checkpoints" in run("explain", "run-folder").stdout
    assert b"train.optimizer.lr" in run("explain", "lr").stdout
    assert b"here `for: 5 epochs`" in run("explain", "num_train_epochs", check=2).stderr
    assert b"did you mean optimizer?" in run("explain", "optimzer", check=2).stderr
    assert json.loads(run("explain", "seed", "--json").stdout)["text"].startswith("seed\n")


def test_init(tmp_path):
    names = json.loads(run("init", "--json").stdout)["templates"]
    assert "digits-mlp" in names and sorted(names) == sorted(path.stem for path in SPECS.glob("*.yaml"))
    for name in names:
        run("init", name, cwd=tmp_path)
        assert (tmp_path / f"{name}.yaml").read_bytes() == (SPECS / f"{name}.yaml").read_bytes()
        run("validate", f"{name}.yaml", cwd=tmp_path)
    before = (tmp_path / "digits-mlp.yaml").stat().st_mtime_ns
    assert b"not overwritten" in run("init", "digits-mlp", cwd=tmp_path, check=2).stderr
    assert (tmp_path / "digits-mlp.yaml").stat().st_mtime_ns == before
    assert run("init", "digits-mlp", "--out", "-").stdout == (SPECS / "digits-mlp.yaml").read_bytes()
    assert b"digits-lenet" in run("init", "nothing-like-it", cwd=tmp_path, check=2).stderr
    assert not (tmp_path / "nothing-like-it.yaml").exists()


def test_completion(tmp_path):
    script = run("completion", "bash").stdout.decode()
    (tmp_path / "c.bash").write_text(script)
    ask = "source ./c.bash; COMP_WORDS=(reprise %s); COMP_CWORD=%d; _reprise; echo ${COMPREPLY[@]}"
    for words, at, wanted in [("val", 1, "validate"), ("validate --res", 2, "--resolved"), ("init digits-m", 2, "digits-mlp"),
                              ("completion f", 2, "fish")]:
        done = subprocess.run(["bash", "-c", ask % (words, at)], cwd=tmp_path, capture_output=True, text=True, timeout=20)
        assert done.stdout.split() == [wanted], done.stderr
    run("completion", "tcsh", check=2)


ASKED = [("val", "validate"), ("validate --res", "--resolved"), ("init digits-m", "digits-mlp"), ("completion f", "fish"),
         ("run job-of-th", "job-of-this-test.yaml")]


def typed(shell, setup, line, folder):
    """What stands on the line of an interactive shell after a Tab, found by letting it print the words."""
    main, side = pty.openpty()
    env = {"PATH": os.environ["PATH"], "TERM": "dumb", "HOME": str(folder), "PS1": "", "LC_ALL": "C"}
    process = subprocess.Popen(shell, cwd=folder, env=env, stdin=side, stdout=side, stderr=side, start_new_session=True)
    os.close(side)
    os.write(main, (setup + "; reprise() { print_words \"$@\"; }; print_words() { printf 'said:%s\\n' \"$*\"; }\n").encode())
    out, end, asked = b"", time.monotonic() + 30, False
    try:
        while time.monotonic() < end and not re.search(rb"said:[^%\r\n]*[\r\n]", out):
            if select.select([main], [], [], 0.4)[0]:
                out += os.read(main, 65536)
            elif not asked:  # it has been silent for a moment: it is ready
                os.write(main, f"reprise {line}\t\n".encode())
                asked = True
    finally:
        process.kill()
        process.wait()
        os.close(main)
    return re.findall(rb"said:([^%\r\n]*)[\r\n]", out)[-1].decode().strip()


@pytest.mark.parametrize("name", ["bash", "zsh", "zsh-file"])
def test_completion_in_an_interactive_shell(name, tmp_path):
    shell = name.split("-")[0]
    if not shutil.which(shell):
        pytest.skip(f"no {shell} here")
    (tmp_path / "job-of-this-test.yaml").write_text("")
    (tmp_path / "_reprise").write_bytes(run("completion", shell).stdout)
    words = {"bash": ["bash", "--norc", "--noprofile", "-i"], "zsh": ["zsh", "-f", "-i"]}[shell]
    setup = {"bash": "source ./_reprise", "zsh": "autoload -Uz compinit; compinit -u -D; source ./_reprise",
             "zsh-file": "fpath=($PWD $fpath); autoload -Uz compinit; compinit -u -D"}[name]
    for line, last in ASKED:
        assert typed(words, setup, line, tmp_path).split() == [*line.split()[:-1], last], (name, line)


@pytest.mark.skipif(not shutil.which("fish"), reason="no fish here")
def test_completion_in_fish(tmp_path):
    (tmp_path / "job-of-this-test.yaml").write_text("")
    (tmp_path / "c.fish").write_bytes(run("completion", "fish").stdout)
    for line, last in ASKED:
        done = subprocess.run(["fish", "-N", "-c", f"source c.fish; complete -C 'reprise {line}'"], cwd=tmp_path, capture_output=True,
                              text=True, timeout=30, env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)})
        assert [found.split("\t")[0] for found in done.stdout.splitlines()] == [last] and not done.stderr, (line, done)
