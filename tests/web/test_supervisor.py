"""Workers that die, hang, cannot start and are renewed, and a port that goes on answering: real processes."""

from __future__ import annotations

import os
import pty
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.support.crew import (
    PATIENCE_S,
    Boss,
    is_alive,
    read_answer,
    read_response,
    request,
    supervised,
    take_terminal,
    told,
    until,
    write_plan,
)

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


class Load:
    """Clients that ask without a pause, each request over a connection of its own or all over one."""

    def __init__(self, boss: Boss, *, keeps_alive: bool = False) -> None:
        self.answers: list[tuple[int, int]] = []
        self.errors: list[str] = []
        self._boss = boss
        self._keeps_alive = keeps_alive
        self._ended = threading.Event()

    def run(self) -> None:
        client: socket.socket | None = None
        while not self._ended.is_set():
            try:
                if client is None:
                    client = self._boss.connect()
                client.sendall(request())
                head, body = read_response(client)
                assert head.startswith(b"HTTP/1.1 200")
                self.answers.append((len(self.answers), len(body)))
                if not self._keeps_alive or b"connection: close" in head.lower():
                    client.close()
                    client = None
            except OSError as error:
                self.errors.append(f"{error!r} after {len(self.answers)} answers")
                if client is not None:
                    client.close()
                client = None
        if client is not None:
            client.close()

    def end(self) -> None:
        self._ended.set()


@contextmanager
def load(boss: Boss, *, clients: int = 2, keeps_alive: bool = False) -> Iterator[list[Load]]:
    """Runs meanwhile; nothing may be compared before the block ends."""
    loads = [Load(boss, keeps_alive=keeps_alive) for _ in range(clients)]
    threads = [threading.Thread(target=one.run) for one in loads]
    for thread in threads:
        thread.start()
    try:
        yield loads
    finally:
        for one in loads:
            one.end()
        for thread in threads:
            thread.join()


# -- start


@pytest.mark.parametrize("spreads", [True, False])
def test_all_workers_serve_one_port_and_it_is_told_once(tmp_path: Path, spreads: bool) -> None:
    with supervised(tmp_path, count=3, spreads=spreads) as boss:
        assert boss.process.stdout is not None
        workers = boss.workers()
        assert len(workers) == 3
        if spreads:
            assert boss.until_answered_by(lambda seen: len(seen) == 3) == set(workers)
        else:
            assert boss.ask().pid in workers
        assert boss.end() == 0
        assert boss.process.stdout.read() == ""
        for number, pid in enumerate(workers, 1):
            assert boss.logged(rf"worker {number} \({pid}\) is ready")
            assert boss.until_logged(rf"worker {number} \({pid}\) has ended \(exit code 0\)")


def test_refused_settings_end_the_first_start_with_one_line(tmp_path: Path) -> None:
    write_plan(tmp_path, start="refuse")
    with supervised(tmp_path, count=3, waits=False) as boss:
        assert boss.process.wait(PATIENCE_S) == 2
        until(lambda: bool(boss.log))
    assert boss.log == ["hybrid: the settings are refused\n"]


def test_who_cannot_start_is_tried_again_with_growing_pauses_and_says_why(tmp_path: Path) -> None:
    write_plan(tmp_path, start="fail")
    with supervised(tmp_path, waits=False, unattended_s=0.5) as boss:
        pauses = [float(pause) for pause in boss.until_logged(r"worker 1 is started again in ([\d.]+) s", 2)]
        assert 0.4 < pauses[0] <= 1.0 <= pauses[1] <= 2.0
        assert boss.logged("RuntimeError: this worker cannot start")
        assert boss.logged(r"ended before it was ready: exit code 1")
        assert not boss.logged(r"worker 2 \(")  # one says it, not each
        with pytest.raises(ConnectionRefusedError):
            boss.connect()  # nobody waits in a queue that nobody serves
        boss.plan()
        boss.send(signal.SIGHUP)  # who asks for a reload does not want to wait for a pause
        assert boss.process.stdout is not None
        assert boss.process.stdout.readline() == "ready\n"
        assert boss.ask().generation == 1


# -- ends that nobody asked for


def test_what_waits_for_a_worker_that_died_is_answered_by_the_next(tmp_path: Path) -> None:
    with supervised(tmp_path) as boss:
        old = boss.workers()
        for pid in old:
            os.kill(pid, signal.SIGSTOP)
        clients = [boss.connect() for _ in range(20)]
        for client in clients:
            client.sendall(request())
        for pid in old:
            os.kill(pid, signal.SIGKILL)
        answered = {read_answer(client).pid for client in clients}
        assert answered == set(boss.workers())
        assert not answered & set(old)
        assert len(boss.logged(r"worker \d \(\d+\) ended: SIGKILL")) == 2
        assert not boss.logged("started again in")  # at once
        for client in clients:
            client.close()


def test_no_connection_is_refused_while_workers_are_killed(tmp_path: Path) -> None:
    with supervised(tmp_path) as boss:
        with load(boss) as loads:
            for _ in range(3):
                victim = boss.workers()[0]
                os.kill(victim, signal.SIGKILL)
                boss.until_answered_by(lambda seen, victim=victim: len(seen) == 2 and victim not in seen)  # type: ignore[misc]
        errors = [error for one in loads for error in one.errors]
        assert not [error for error in errors if "Refused" in error]
        assert len(errors) <= 3 * 2  # what the killed ones had accepted
        assert all(one.answers for one in loads)


def test_stopped_and_blocked_workers_are_replaced_and_their_queues_answered(tmp_path: Path) -> None:
    with supervised(tmp_path) as boss:
        stopped, blocked = boss.workers()
        with connected_to(boss, blocked) as one:
            one.sendall(request("/block"))
            boss.until_logged("the loop is blocked")
            os.kill(stopped, signal.SIGSTOP)
            clients = [boss.connect() for _ in range(20)]
            for client in clients:
                client.sendall(request())
            assert not {stopped, blocked} & {read_answer(client).pid for client in clients}
            for client in clients:
                client.close()
            with pytest.raises(ConnectionError):
                read_answer(one)
        for worker in (stopped, blocked):
            silent = rf"\({worker}\) has shown no turn of its event loop for 3 s and is killed"
            assert len(boss.until_logged(silent)) == 1
            assert not is_alive(worker)
        assert boss.logged(r'File ".*crew\.py", line \d+ in __call__')  # where the blocked one stood


def connected_to(boss: Boss, worker: int) -> socket.socket:
    """A connection that this worker has accepted."""
    while True:
        client = boss.connect()
        client.sendall(request())
        if read_answer(client).pid == worker:
            return client
        client.close()


def test_a_worker_that_is_told_to_end_by_somebody_else_is_replaced_while_it_drains(tmp_path: Path) -> None:
    with supervised(tmp_path, environment={"CREW_DRAIN": "stuck", "CREW_GRACE_S": "10"}) as boss:
        first = boss.workers()[0]
        os.kill(first, signal.SIGTERM)
        boss.until_logged(rf"worker 1 \({first}\) was told to end, and not by its supervisor")
        boss.until_answered_by(lambda seen: len(seen) == 2 and first not in seen)
        assert is_alive(first)


def test_who_dies_again_and_again_is_left_alone_for_a_while_and_the_others_serve(tmp_path: Path) -> None:
    with supervised(tmp_path, unattended_s=0.5) as boss:
        victim, other = boss.workers()
        boss.plan(start="fail")
        os.kill(victim, signal.SIGKILL)
        boss.until_logged("nobody accepts in the place of worker 1: its queue is closed")
        assert {boss.ask().pid for _ in range(40)} == {other}
        boss.plan(generation=2)
        boss.until_answered_by(lambda seen: len(seen) == 2)  # it listens again


def test_workers_end_when_their_supervisor_is_killed(tmp_path: Path) -> None:
    with supervised(tmp_path, count=3) as boss:
        workers = boss.workers()
        boss.process.kill()
        until(lambda: not any(map(is_alive, workers)))
        with pytest.raises(ConnectionRefusedError):
            boss.connect()


def test_workers_end_in_form_when_a_supervisor_is_killed_that_did_not_listen(tmp_path: Path) -> None:
    """A socket that is closed with something unread in it is a reset to its other end, not an end of file."""
    with supervised(tmp_path) as boss:
        workers = boss.workers()
        boss.send(signal.SIGSTOP)
        time.sleep(1.5)  # for a word of each, which comes once a second
        boss.process.kill()
        until(lambda: not any(map(is_alive, workers)))
    assert not boss.logged("Traceback")


# -- the end


def test_all_workers_drain_at_the_same_time(tmp_path: Path) -> None:
    with supervised(tmp_path, count=3, limits={"shutdown_grace_s": 10}, environment={"CREW_GRACE_S": "10"}) as boss:
        with boss.connect() as client:
            client.sendall(request("/wait"))
            boss.send(signal.SIGTERM)
            assert read_answer(client).pid > 0
        started_s = time.monotonic()
        assert boss.process.wait(PATIENCE_S) == 0
        assert time.monotonic() - started_s < 5
        assert len(boss.until_logged(r"has ended \(exit code 0\)", 3)) == 3


def test_what_does_not_end_in_time_is_killed(tmp_path: Path) -> None:
    with supervised(tmp_path, limits={"shutdown_grace_s": 0.1}, margin_s=0.1) as boss:
        first = boss.workers()[0]
        os.kill(first, signal.SIGSTOP)
        assert boss.end() == 0
        assert not is_alive(first)
        assert boss.until_logged(rf"worker 1 \({first}\) has not ended in time and is killed")


def test_ctrl_c_reaches_all_and_ends_them_in_form(tmp_path: Path) -> None:
    """A terminal sends SIGINT to the whole group: the workers leave it to their supervisor."""
    with supervised(tmp_path) as boss:
        with boss.connect() as client:
            client.sendall(request("/wait"))
            until(lambda: bool(boss.ask().pid))
            os.killpg(boss.process.pid, signal.SIGINT)
            assert read_answer(client).pid > 0
        assert boss.process.wait(PATIENCE_S) == 130
        assert len(boss.until_logged(r"has ended \(exit code 0\)", 2)) == 2
    assert not boss.logged("Traceback")


def test_ctrl_c_while_workers_start_ends_them_without_a_word(tmp_path: Path) -> None:
    write_plan(tmp_path, start="hang")
    with supervised(tmp_path, waits=False) as boss:
        until(lambda: len(boss.workers()) == 1)
        os.killpg(boss.process.pid, signal.SIGINT)
        assert boss.process.wait(PATIENCE_S) == 130
        assert not boss.logged("Traceback|KeyboardInterrupt")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_second_signal_ends_at_once(tmp_path: Path, number: signal.Signals, code: int) -> None:
    with supervised(tmp_path, environment={"CREW_DRAIN": "stuck", "CREW_GRACE_S": "30"}) as boss:
        workers = boss.workers()
        boss.send(number)
        boss.until_logged("all workers are told to end")
        assert boss.end(number) == code
        until(lambda: not any(map(is_alive, workers)))


def test_it_ends_when_its_terminal_is_closed(tmp_path: Path) -> None:
    """The kernel sends the same SIGHUP with which somebody asks for a reload."""
    ours, theirs = pty.openpty()
    try:
        with supervised(tmp_path, preexec_fn=lambda: take_terminal(theirs), pass_fds=(theirs,)) as boss:
            os.close(ours)
            assert boss.process.wait(PATIENCE_S) == 0
            assert boss.logged("SIGHUP: all workers are told to end")
    finally:
        os.close(theirs)


# -- reload


@pytest.mark.parametrize(
    ("loop", "spreads"), [("asyncio", True), pytest.param("uvloop", False, marks=pytest.mark.slow)]
)
def test_a_reload_under_load_fails_no_request_and_renews_every_worker(tmp_path: Path, loop: str, spreads: bool) -> None:
    # With the grace that a server has, or a client that a busy machine holds up between connect and request is late.
    environment = {"CREW_LOOP": loop, "CREW_GRACE_S": "10"}
    with supervised(tmp_path, spreads=spreads, limits={"shutdown_grace_s": 10}, environment=environment) as boss:
        old = boss.workers()
        most = 0
        with load(boss) as short, load(boss, keeps_alive=True) as lasting:
            boss.plan(generation=2)
            boss.send(signal.SIGHUP)
            while not boss.logged("reloaded 2 workers"):
                most = max(most, len(boss.workers()))
                assert boss.ask()
        assert [error for one in (*short, *lasting) for error in one.errors] == []
        assert most == 3, "never more than one too many"
        assert not set(old) & set(boss.workers())
        assert {boss.ask().generation for _ in range(20)} == {2}
        assert boss.end() == 0


def test_a_request_that_was_begun_before_the_reload_is_answered_by_the_old_worker(tmp_path: Path) -> None:
    with supervised(tmp_path) as boss:
        old = boss.workers()
        with boss.connect() as client:
            client.sendall(request("/wait"))
            assert boss.ask()
            boss.plan(generation=2)
            boss.send(signal.SIGHUP)
            head, body = read_response(client)
            assert b"connection: close" in head.lower()
            assert b'"generation": 1' in body
        boss.until_logged("reloaded 2 workers")
        assert not set(old) & set(boss.workers())


@pytest.mark.slow
def test_a_reload_that_is_asked_for_during_one_comes_behind_it(tmp_path: Path) -> None:
    with supervised(tmp_path) as boss:
        boss.send(signal.SIGHUP)
        boss.until_logged("the settings are tried first")
        boss.send(signal.SIGHUP)
        boss.until_logged("reloaded 2 workers", 2)
        assert len(boss.logged("the settings are tried first")) == 2


def test_bad_settings_are_refused_before_anything_is_touched(tmp_path: Path) -> None:
    with supervised(tmp_path) as boss:
        workers = boss.workers()
        boss.plan(is_good=False)
        boss.send(signal.SIGHUP)
        boss.until_logged("reload refused, nothing was changed: the settings are not good")
        assert boss.workers() == workers


@pytest.mark.parametrize("start", ["fail", pytest.param("hang", marks=pytest.mark.slow)])
def test_a_successor_that_does_not_become_ready_stops_the_reload(tmp_path: Path, start: str) -> None:
    with supervised(tmp_path, limits={"worker_start_s": 3 if start == "hang" else 20}) as boss:
        workers = boss.workers()
        boss.plan(start=start)
        boss.send(signal.SIGHUP)
        boss.until_logged("reload stopped at worker 1, whose successor failed; as before: 1, 2")
        assert boss.workers() == workers
        assert boss.until_answered_by(lambda seen: len(seen) == 2) == set(workers)
        boss.plan(generation=2)
        boss.send(signal.SIGHUP)
        boss.until_logged("reloaded 2 workers")


def test_a_worker_that_dies_while_its_successor_starts_is_succeeded(tmp_path: Path) -> None:
    with supervised(tmp_path) as boss:
        first = boss.workers()[0]
        os.kill(first, signal.SIGSTOP)  # so that it cannot leave in form
        boss.send(signal.SIGHUP)
        until(lambda: len(boss.workers()) == 3 or bool(boss.logged("tried first")))
        os.kill(first, signal.SIGKILL)
        boss.until_logged("reloaded 2 workers")
        assert len(boss.workers()) == 2


def test_an_end_in_the_middle_of_a_reload_ends_all(tmp_path: Path) -> None:
    with supervised(tmp_path) as boss:
        boss.send(signal.SIGHUP)
        until(lambda: len(boss.workers()) == 3)
        workers = boss.workers()
        assert boss.end() == 0
        assert not any(map(is_alive, workers))


# -- systemd


def test_systemd_is_told_each_state(tmp_path: Path) -> None:
    name = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.bind(name)
        notify.settimeout(PATIENCE_S)
        environment = {"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "200000"}
        with supervised(tmp_path, environment=environment) as boss:
            assert told(notify) == [{"READY": "1", "STATUS": "2 of 2 workers accept"}]
            boss.send(signal.SIGHUP)
            (reloading,) = told(notify)
            now_usec = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
            assert reloading["RELOADING"] == "1"
            assert now_usec - 10_000_000 < int(reloading["MONOTONIC_USEC"]) <= now_usec
            (ready,) = told(notify)
            assert (ready["READY"], ready["STATUS"].startswith("Reloaded 2 workers")) == ("1", True)
            os.kill(boss.workers()[0], signal.SIGKILL)
            assert told(notify, 2) == [{"STATUS": "1 of 2 workers accept"}, {"STATUS": "2 of 2 workers accept"}]
            assert notify.recv(4096) == b"WATCHDOG=1"
            boss.send(signal.SIGTERM)
            assert told(notify) == [{"STOPPING": "1", "STATUS": "Workers drain"}]
            assert boss.process.wait(PATIENCE_S) == 0


def test_the_watchdog_hears_nothing_when_no_worker_lives(tmp_path: Path) -> None:
    name = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.bind(name)
        notify.settimeout(PATIENCE_S)
        with supervised(tmp_path, environment={"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "200000"}) as boss:
            assert notify.recv(4096)
            boss.plan(start="fail")
            for pid in boss.workers():
                os.kill(pid, signal.SIGKILL)
            boss.until_logged("started again in", 2)
            _empty(notify)
            boss.until_logged("started again in", 4)
            assert b"WATCHDOG=1" not in _empty(notify)


def _empty(notify: socket.socket) -> list[bytes]:
    messages = []
    notify.setblocking(False)
    with suppress(BlockingIOError):
        while True:
            messages.append(notify.recv(4096))
    notify.settimeout(PATIENCE_S)
    return messages


# -- the supervisor itself


def test_it_loads_nothing_that_serves() -> None:
    code = (
        "import sys\n"
        "import hybrid.cli, hybrid.cli.supervising, hybrid.web.listener, hybrid.web.supervisor\n"
        "hybrid.cli.build_parser()\n"
        "print(*sorted({'asyncio', 'quart', 'hypercorn', 'redis', 'ssl'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=PATIENCE_S)
    assert done.stdout == "\n"


@pytest.mark.slow
def test_a_supervisor_that_was_stopped_does_not_blame_its_workers(tmp_path: Path) -> None:
    with supervised(tmp_path) as boss:
        workers = boss.workers()
        for pid in (boss.process.pid, *workers):
            os.kill(pid, signal.SIGSTOP)
        time.sleep(3.5)  # longer than the silence allowed; what is waited for is that nothing happens
        for pid in (boss.process.pid, *workers):
            os.kill(pid, signal.SIGCONT)
        boss.until_logged("the supervisor was stopped for")
        assert boss.ask().pid in workers
        boss.end()
        assert not boss.logged("killed")
