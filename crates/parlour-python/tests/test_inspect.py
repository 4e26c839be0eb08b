"""Look-ups of names, and watches of their changes."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import parlour
import pytest
from conftest import DEADLINE, Link, in_thread
from parlour import aio
from test_asyncio import run


def test_the_bases_are_listed_with_their_states(base: Path) -> None:
    (found,) = [one for one in parlour.bases() if one.path == base]
    assert (found.state, found.error) == ("usable", None)
    assert "PARLOUR_DIR" in found.origin and "usable" in repr(found)
    assert [one.path for one in parlour.bases(server_uid=os.geteuid())][0] == base


def test_an_unsafe_base_has_the_reason(base: Path) -> None:
    base.chmod(0o777)
    (found,) = [one for one in parlour.bases() if one.path == base]
    assert found.state == "unsafe" and isinstance(found.error, parlour.UnsafeDirectory)
    assert str(base) in str(found.error)


def test_a_base_that_does_not_exist_is_missing(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path, state in ((base / "none", "missing"), (base / "no" / "parent", "unavailable")):
        monkeypatch.setenv("PARLOUR_DIR", str(path))
        (found,) = [one for one in parlour.bases() if one.path == path]
        assert found.state == state and (found.error is None) == (state == "missing")


def test_a_name_without_a_server_is_resolved(base: Path) -> None:
    look = parlour.resolve("room")
    assert (look.address, look.client, look.found, look.server_error) == ("room", None, None, None)
    assert look.server == base / "room" and isinstance(look.client_error, parlour.NoServer)
    assert look.candidates[0].base.path == base and look.candidates[0].name is None
    assert "not found" in repr(look) and "without the name" in repr(look.candidates[0])
    with pytest.raises(parlour.InvalidName):
        parlour.resolve("no/name")


def test_a_name_with_a_server_is_resolved(transport: str, base: Path) -> None:
    link = Link(transport, base, {}, {})
    for look in (parlour.resolve("room"), parlour.resolve("room", server_uid=os.geteuid())):
        assert look.client == base / "room" == link.server.path and look.client_error is None
        assert look.found is not None and look.found.owner is not None
        assert (look.found.state, look.found.transports, look.found.error) == ("live", [transport], None)
        assert look.found.owner.pid == os.getpid() and "live" in repr(look) and "live" in repr(look.candidates[0])
    link.close()


def test_an_unsafe_name_has_the_reason(base: Path) -> None:
    (base / "room").mkdir()
    (base / "room").chmod(0o777)
    (found,) = [one for one in parlour.names(server_uid=os.geteuid()) if one.name == "room"]
    assert found.state == "unsafe" and isinstance(found.error, parlour.UnsafeDirectory)


def until(watch: parlour.Watch, state: str | None) -> None:
    """Waits for changes until the name has this state, or is not found."""
    for look in watch:
        if (look.found.state if look.found else None) == state:
            return


def test_a_watch_sees_a_server_come_and_go(transport: str, base: Path) -> None:
    with parlour.watch("room") as watch:
        assert watch.address == "room" and "room" in repr(watch)
        until(watch, None)
        for _ in range(2):
            with parlour.Server(f"{transport}:room"):
                until(watch, "live")
            until(watch, None)


def test_a_watch_that_waits_is_woken_by_a_server(base: Path) -> None:
    with parlour.watch("room", server_uid=os.geteuid()) as watch:
        assert watch.look().found is None
        with in_thread(lambda: watch.wait(timeout=DEADLINE)) as waiting:
            waiting.wait_until_asleep()
            with parlour.Server("unix:room"):
                waiting.join()
        waiting()


def test_a_watch_gives_up_at_its_deadline(base: Path) -> None:
    with parlour.watch("room") as watch, parlour.Watches(["room"]) as watches:
        assert not watch.changed() and watches.changed() == []
        for timeout in (0, 0.01):
            with pytest.raises(parlour.TimedOut, match="nothing has changed"):
                watch.wait(timeout=timeout)
            with pytest.raises(parlour.TimedOut, match="nothing has changed"):
                watches.wait(timeout=timeout)


def test_one_watch_covers_many_names(base: Path) -> None:
    with parlour.Watches(["red", "green"]) as watches:
        watches.add("blue")
        assert watches.remove("green") and not watches.remove("green")
        for name in ("red", "green", "blue"):
            with parlour.Server(f"unix:{name}"):
                pass
        seen: set[str] = set()
        while seen != {"red", "blue"}:
            seen.update(watches.wait(timeout=DEADLINE))
        with parlour.Server("unix:red"):
            assert next(watches) in ("red", "blue")
    with pytest.raises(parlour.InvalidName):
        parlour.Watches(["no/name"])


def test_closing_a_watch_ends_the_calls_of_other_threads(base: Path) -> None:
    for watch in (parlour.watch("room"), parlour.Watches(["room"])):
        with in_thread(watch.wait) as waiting:
            waiting.wait_until_asleep()
            watch.close()
        assert isinstance(waiting.failures[0], ValueError)
        assert watch.closed
        watch.close()
        for call in (watch.changed, watch.fileno, watch.wait):
            with pytest.raises(ValueError, match="closed"):
                call()


def test_a_signal_ends_a_watch_that_waits(base: Path) -> None:
    class Tick(Exception):
        pass

    def tick(*_: object) -> None:
        raise Tick

    before = signal.signal(signal.SIGALRM, tick)
    try:
        with parlour.watch("room") as watch, parlour.Watches(["room"]) as watches:
            for call in (watch.wait, lambda: watches.wait(timeout=DEADLINE)):
                signal.setitimer(signal.ITIMER_REAL, 0.05)
                with pytest.raises(Tick):
                    call()
    finally:
        signal.signal(signal.SIGALRM, before)


def test_a_watch_of_an_event_loop_sees_a_server_come_and_go(transport: str, base: Path) -> None:
    async def until(watch: aio.Watch, state: str | None) -> None:
        async for look in watch:
            if (look.found.state if look.found else None) == state:
                return

    async def main() -> None:
        async with aio.watch("room") as watch:
            assert watch.address == "room" and "parlour.aio.Watch" in repr(watch)
            await until(watch, None)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.02):
                    await watch.wait()
            waiting = asyncio.ensure_future(until(watch, "live"))
            await asyncio.sleep(0)
            async with aio.Server(f"{transport}:room"):
                await waiting
            await until(watch, None)

    run(main())


def test_one_watch_of_an_event_loop_covers_many_names(base: Path) -> None:
    async def main() -> None:
        async with aio.Watches(["red", "green"]) as watches:
            watches.add("blue")
            assert watches.remove("green")
            waiting = asyncio.ensure_future(watches.wait())
            await asyncio.sleep(0)
            for name in ("red", "green", "blue"):
                with parlour.Server(f"unix:{name}"):
                    pass
            seen = set(await waiting)
            while seen != {"red", "blue"}:
                seen.update(await watches.wait())
            with parlour.Server("unix:red"):
                async for name in watches:
                    assert name in ("red", "blue")
                    break
            assert "parlour.aio.Watches" in repr(watches)

    run(main())


def test_closing_a_watch_of_an_event_loop_ends_the_calls_of_other_tasks(base: Path) -> None:
    async def main() -> None:
        for watch in (aio.watch("room"), aio.Watches(["room"])):
            waiting = asyncio.ensure_future(watch.wait())
            await asyncio.sleep(0)
            watch.close()
            assert watch.closed
            with pytest.raises(ValueError, match="closed"):
                await waiting

    run(main())
