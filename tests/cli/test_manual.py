"""The manual page is that of this program, and reads as one."""
import re
import shutil
import subprocess

import pytest

from reprise import SOURCE, call, call_json

PAGE = SOURCE / "runner" / "cli" / "reprise.1"


def plain_page():
    return re.sub(r"\\f[BRI]", "", PAGE.read_text().replace("\\-", "-"))


def test_page_is_not_stale():
    out, _ = call("manual")
    assert PAGE.read_text() == out, "run: reprise manual > runner/cli/reprise.1"


def test_every_command_and_option_is_there():
    plain = plain_page()
    commands = re.findall(r"RP_COMMAND\((\w+)\)", (SOURCE / "runner" / "cli" / "commands.def").read_text())
    assert len(commands) > 10
    for command in commands:
        assert re.search(rf"^\.SS reprise {command}\b", plain, re.M), command
        out, _ = call(command, "--help")
        for option in re.findall(r"^  (--[\w-]+)", out, re.M):
            assert re.search(rf"^{option}\b", plain, re.M), (command, option)
    assert "EXIT STATUS" in plain and call_json("manual")["page"].startswith(".\\\"")


def test_every_variable_is_there():
    plain = plain_page()
    read = set()
    for source in (SOURCE / "runner").rglob("*.[ch]"):
        read |= set(re.findall(r'"(REPRISE_[A-Z_]+)"', source.read_text()))
    assert len(read) > 10
    assert [name for name in sorted(read) if not re.search(rf"\b{name}\b", plain)] == []


def test_roff_takes_it():
    """Unescaped control lines and hyphens would be lost in print."""
    for line in PAGE.read_text().splitlines():
        assert not re.match(r"['.](?!(\\\"|TH|SH|SS|TP|PP)\b|\\\")", line), line
    if not shutil.which("groff"):
        pytest.skip("no groff here")
    done = subprocess.run(["groff", "-man", "-Tutf8", "-ww", "-z", str(PAGE)], capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr == ""
