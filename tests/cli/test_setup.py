"""The scripts: quick when there is nothing to do, clear when they cannot help, able to fail."""
import pathlib
import shutil
import subprocess
import time

import pytest

SCRIPTS = pathlib.Path(__file__).resolve().parents[2] / "scripts"


def call(*args, **more):
    return subprocess.run(list(map(str, args)), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, timeout=120, **more)


def links(folder, *names):
    """A folder for PATH that holds only these programs."""
    folder.mkdir()
    for name in names:
        (folder / name).symlink_to(shutil.which(name))
    return str(folder)


BASE = ("bash", "env", "dirname", "sed", "grep", "sort", "head", "cat", "id", "tar", "gzip", "mktemp",
        "mkdir", "rm", "sha256sum", "cp")


@pytest.fixture
def project(tmp_path):
    """A copy of the scripts in a project of one clean source."""
    root = tmp_path / "project"
    shutil.copytree(SCRIPTS, root / "scripts")
    (root / "kernels").mkdir()
    (root / "kernels" / "one.c").write_text("int rp_one(void)\n{\n    return 1;\n}\n")
    config = SCRIPTS.parent / ".clang-format"
    shutil.copy(config, root)
    return root


def test_nothing_missing_is_quick(tmp_path):
    began = time.monotonic()
    done = call(SCRIPTS / "setup", "run", cwd=tmp_path)
    took = time.monotonic() - began
    assert done.returncode == 0, done.stdout
    assert "everything for 'run' is here" in done.stdout
    # One second is the promise; other tests may hold both processors, of a machine that is slower still.
    assert took < 20


def test_without_apt_it_names_the_packages(tmp_path):
    done = call("bash", SCRIPTS / "setup", env={"PATH": links(tmp_path / "bin", *BASE)})
    assert done.returncode == 3
    for package in ("gcc", "cmake", "ninja-build", "libyaml-dev", "zlib1g-dev"):
        assert package in done.stdout
    assert "no apt-get" in done.stdout and "--prefix" in done.stdout


def stubs(path, **texts):
    """Programs of one line in a folder of `links`."""
    for name, text in texts.items():
        file = path / name.replace("_", "-")
        file.unlink(missing_ok=True)
        file.write_text(f"#!{shutil.which('bash')}\n{text}\n")
        file.chmod(0o755)


def test_without_root_it_prints_the_line(tmp_path):
    path = tmp_path / "bin"
    links(path, *BASE)
    stubs(path, id="echo 1000", sudo="exit 1", apt_get="exit 99")
    done = call("bash", SCRIPTS / "setup", env={"PATH": str(path)})
    assert done.returncode == 3
    assert "sudo apt-get install --no-install-recommends gcc" in done.stdout


@pytest.mark.parametrize("how", ["no apt", "no root"])
def test_what_can_be_left_out_stops_nobody(tmp_path, how):
    """A login node: all that the build needs, but no g++ (a module is left out) and nobody who may install it."""
    path = tmp_path / "bin"
    links(path, *BASE, "gcc", "cmake", "ninja", "pkg-config", "uname")
    if how == "no root":
        stubs(path, id="echo 1000", sudo="exit 1", apt_get="exit 99")
    done = call("bash", SCRIPTS / "setup", "run", env={"PATH": str(path)})
    assert done.returncode == 0, done.stdout
    assert "everything for 'run' is here, except" in done.stdout and " g++" in done.stdout
    # The control: without ninja there is no build.
    (path / "ninja").unlink()
    done = call("bash", SCRIPTS / "setup", "run", env={"PATH": str(path)})
    assert done.returncode == 3 and "ninja-build" in done.stdout


def test_a_release_without_them_is_no_error(tmp_path, project):
    path = tmp_path / "bin"
    links(path, *BASE, "gcc", "cmake", "ninja", "pkg-config", "uname", "clang")
    stubs(path, id="echo 0", apt_get="exit 0", apt_cache="exit 1", dpkg_query="exit 1")
    (project / "build" / "schemas" / "kubeflow_trainer_api").mkdir(parents=True)
    done = call("bash", project / "scripts" / "setup", "test", env={"PATH": str(path)})
    assert done.returncode == 0, done.stdout
    for name in ("g++", "libopenblas0-pthread", "shellcheck", "munge", "iproute2", "libmpich-dev"):
        assert f"this release has no {name}; what needs it is left out" in done.stdout
    # The control: ninja is needed.
    (path / "ninja").unlink()
    done = call("bash", project / "scripts" / "setup", "test", env={"PATH": str(path)})
    assert done.returncode == 3 and "this release has no package ninja-build" in done.stdout


def test_prefix_takes_only_pinned_sources(tmp_path):
    sources = tmp_path / "sources"
    sources.mkdir()
    (sources / "yaml-0.2.5.tar.gz").write_bytes(b"not the release")
    path = tmp_path / "bin"
    links(path, *BASE, "gcc", "cmake", "make", "nproc")
    # A pkg-config that knows of no library.
    (path / "pkg-config").write_text(f"#!{shutil.which('bash')}\nexit 1\n")
    (path / "pkg-config").chmod(0o755)
    done = call("bash", SCRIPTS / "setup", "--prefix", "here", "--from", sources,
                env={"PATH": str(path)}, cwd=tmp_path)
    assert done.returncode == 3
    assert "no file in" in done.stdout and "SHA-256" in done.stdout
    # A relative folder starts where the caller stands, and nothing half done is left in it.
    assert list((tmp_path / "here").iterdir()) == []


@pytest.mark.parametrize("args", [["everything"], ["--prefix"], ["--from", "x"]])
def test_setup_refuses(args):
    assert call(SCRIPTS / "setup", *args).returncode == 2


@pytest.mark.parametrize("script", ["setup", "quickstart", "test", "format", "check-style", "check-ptx", "bundle", "gpu-check", "own-data",
                                    "arm64", "goldens", "unicode-classes", "data/fetch", "container/build"])
def test_help(script):
    done = call(SCRIPTS / script, "--help")
    assert done.returncode == 0
    assert done.stdout.startswith(script.split("/")[-1])


BAD = {
    "a note to self": "/* TO" "DO */\n",
    "tab": "int a;\tint b;\n",
    "touches the outside": "const char *rp_x(void)\n{\n    return getenv(\"X\");\n}\n",
    "typedef of a struct": "typedef struct rp_x {\n    int a;\n} rp_y;\n",
    "which compiler": "#ifdef __clang__\n#endif\n",
    "takes only base/base.h": "#include \"base/sys.h\"\n",
    "includes nothing of the runner": "#include \"spec/spec.h\"\n",
    "at most 800": "int a;\n" * 801,
    "no newline": "int a;",
    "blanks at the end": "int a; \n",
    "not UTF-8": "int a; /* \udcff */\n",
}


def test_style_passes_clean_sources(project):
    done = call(project / "scripts" / "check-style")
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("rule", BAD)
def test_style_finds(project, rule):
    (project / "kernels" / "bad.c").write_bytes(BAD[rule].encode("utf-8", "surrogateescape"))
    done = call(project / "scripts" / "check-style")
    assert done.returncode == 1
    assert "kernels/bad.c:" in done.stdout and rule in done.stdout


@pytest.mark.parametrize("include, rule", [
    ("train/train.h", "comes after it"), ("spec/spec_int.h", "private to its folder"),
    ("bad.h", "write the folder")])
def test_style_finds_wrong_includes(project, include, rule):
    folder = project / "runner" / "data"
    folder.mkdir(parents=True)
    (folder / "bad.h").touch()
    (folder / "bad.c").write_text(f'#include "spec/spec.h"\n#include "{include}"\n')
    done = call(project / "scripts" / "check-style")
    assert done.returncode == 1
    assert "runner/data/bad.c:2:" in done.stdout and rule in done.stdout
    assert "bad.c:1:" not in done.stdout


def test_format_finds_and_mends(project):
    if call(SCRIPTS / "format", "--which").returncode != 0:
        pytest.skip("no clang-format 14")
    bad = project / "kernels" / "bad.c"
    bad.write_text("int rp_two( void ){return 2;}\n")
    done = call(project / "scripts" / "format", "--check")
    assert done.returncode == 1 and "kernels/bad.c" in done.stdout and "one.c" not in done.stdout
    assert call(project / "scripts" / "format").returncode == 0
    assert call(project / "scripts" / "format", "--check").returncode == 0
