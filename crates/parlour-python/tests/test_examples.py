"""The programs of `examples/` and the demo, each as a user runs them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import DEADLINE

PACKAGE = Path(__file__).resolve().parents[1]
EXAMPLES = PACKAGE / "examples"


def start(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-W", "error", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def example(name: str, *arguments: str) -> subprocess.Popen[str]:
    return start(str(EXAMPLES / f"{name}.py"), *arguments)


def first_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout
    return process.stdout.readline()


def end(process: subprocess.Popen[str]) -> str:
    """Ends a program as Ctrl-C does, and returns the rest of its output."""
    process.send_signal(2)
    out, err = process.communicate(timeout=DEADLINE)
    assert (process.returncode, err) == (0, "")
    return out


def test_the_echo_server_serves_the_echo_client(base: Path) -> None:
    server = example("echo_server")
    assert first_line(server) == f"ready: {base}/echo\n"
    clients = [example("echo_client") for _ in range(2)]
    for client in clients:
        out, err = client.communicate("hello\n\nworld\n", timeout=DEADLINE)
        assert (client.returncode, out, err) == (0, "hello\n\nworld\n", "")
    assert end(server).count("a client: ") == 2
    assert not list(base.iterdir())


def test_the_echo_client_waits_for_its_server(base: Path) -> None:
    client = example("echo_client")
    server = example("echo_server")
    out, err = client.communicate("hello\n", timeout=DEADLINE)
    assert (client.returncode, out, err) == (0, "hello\n", "")
    end(server)


def test_the_members_of_the_chat_read_each_other(base: Path) -> None:
    server = example("chat", "serve")
    assert first_line(server) == "ready\n"
    ann = example("chat", "ann")
    assert first_line(ann) == "ann has come\n"
    bob = example("chat", "bob")
    assert [first_line(ann), first_line(bob)] == ["bob has come\n"] * 2
    assert bob.stdin
    bob.stdin.write("hello \x1b[31m\n")
    bob.stdin.flush()
    assert [first_line(ann), first_line(bob)] == ["bob: hello ?[31m\n"] * 2
    bob.kill()
    bob.communicate(timeout=DEADLINE)
    assert first_line(ann) == "bob has left\n"
    # The end of the input ends the member, whose server closes the connection.
    out, err = ann.communicate(timeout=DEADLINE)
    assert (ann.returncode, out, err) == (0, "", "")
    assert end(server) == ""
    assert not list(base.iterdir())


def test_four_workers_share_frames(base: Path) -> None:
    pytest.importorskip("numpy")
    out, err = example("frames").communicate(timeout=DEADLINE)
    assert (out, err) == ("10 frames of 8 MiB, 4 workers, no copies\n", "")
    assert not list(base.iterdir())


def plugin_host() -> str | None:
    """Returns the path of the example `plugin_host` in Rust, or None if it is not built."""
    target = Path(os.environ.get("PARLOUR_TARGET", PACKAGE.parents[1] / "target"))
    built = target / "debug" / "examples" / "plugin_host"
    return str(built) if os.access(built, os.X_OK) else None


@pytest.mark.skipif(not plugin_host(), reason="the example is not built (cargo build -p parlour --example plugin_host)")
def test_a_host_in_rust_calls_the_plug_in() -> None:
    host = subprocess.run(
        [plugin_host() or "", sys.executable, str(EXAMPLES / "plugin.py")],
        input="upper hello\nreverse abc\ncount one two three\nnothing\n",
        capture_output=True,
        text=True,
        timeout=DEADLINE,
    )
    assert host.stdout.splitlines() == [
        "functions: upper reverse count",
        "ok HELLO",
        "ok cba",
        "ok 3",
        "error there is no function \\'nothing\\'",
        "plug-in: exit status: 0",
    ], host.stderr
    assert (host.returncode, host.stderr) == (0, "")


def test_the_demo_says_what_it_does_and_succeeds(base: Path) -> None:
    demo = start("-m", "parlour", "demo")
    out, err = demo.communicate(timeout=DEADLINE)
    assert (demo.returncode, err) == (0, ""), out
    for transport in ("shm", "packet", "unix", "fifo"):
        assert f"over {transport}" in out
    assert "kill -9" in out and "shared block" in out
    assert out.splitlines()[-1].startswith("everything works")
    assert not list(base.iterdir())


def test_the_demo_fails_where_the_package_does_not_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # There is no directory for names.
    monkeypatch.setenv("PARLOUR_DIR", str(tmp_path / "missing" / "base"))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "missing"))
    demo = start("-m", "parlour", "demo", "--here")
    out, err = demo.communicate(timeout=DEADLINE)
    assert demo.returncode == 1
    assert "failed: " in out and err == ""


def test_the_command_line_explains_itself() -> None:
    for arguments, code in [(["--help"], 0), ([], 2), (["nothing"], 2)]:
        process = start("-m", "parlour", *arguments)
        out, err = process.communicate(timeout=DEADLINE)
        assert process.returncode == code
        assert "demo" in out + err
