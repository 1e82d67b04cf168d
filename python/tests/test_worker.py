"""The worker process: one request, one reply, whatever the model does to its descriptors, output and signals."""

import os
import signal
import socket
import struct
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from fake_native import update_of, write_frame

from trackside.wire import JSON, PREFIX, UPDATE, Closed, Wire
from trackside.worker import PRINT_LENGTH_MAX, BoundedText

HERE = Path(__file__).parent
WAIT = 30
START = (
    "import sys; sys.path.insert(0, sys.argv[1]); import fake_native; sys.modules['trackside._native'] = fake_native; "
    "from trackside.worker import main; main()"
)


class Engine:
    """The engine's end of a worker, for a test."""

    def __init__(self):
        self.sock, theirs = socket.socketpair()
        self.sock.settimeout(WAIT)
        env = {**os.environ, "TRACKSIDE_WORKER_FD": "0", "PYTHONUNBUFFERED": "1"}
        self.process = subprocess.Popen(
            [sys.executable, "-c", START, str(HERE)],
            stdin=theirs,
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        theirs.close()
        self.printed, self.heard = b"", threading.Event()
        self.listener = threading.Thread(target=self.listen)
        self.listener.start()
        self.wire = Wire(self.sock)

    def listen(self):
        """Read what the worker prints, as the engine does; an unread pipe would stop it."""
        while piece := os.read(self.process.stdout.fileno(), 1 << 16):
            self.printed += piece
            self.heard.set()

    def wait(self):
        code = self.process.wait(WAIT)
        self.listener.join(WAIT)
        return code

    def update(self, frames):
        self.wire.send(update_of(frames), kind=UPDATE)
        _, header, body = self.wire.receive()
        return header, bytes(body)

    def ask(self, body=b"", **header):
        self.wire.send(header, [body] if body else [])
        _, answer, data = self.wire.receive()
        return answer, bytes(data)

    def load(self, use, **options):
        return self.ask(
            op="load", use=f"models_for_tests.py:{use}", base=str(HERE), tags=["device"], partition=0, options=options
        )[0]

    def stop(self):
        answer, _ = self.ask(op="stop")
        self.sock.close()
        return answer, self.wait()


@pytest.fixture
def engine():
    engine = Engine()
    yield engine
    engine.sock.close()
    engine.process.kill()
    engine.wait()
    engine.process.stdout.close()


def test_a_life(engine, tmp_path):
    assert engine.load("Running")["ok"] is True
    frame = write_frame(tmp_path, 100)
    first, body = engine.update([frame])
    assert first["rows"] == 100
    assert len(body) == sum(count * int(kind[1]) for _, kind, count in first["columns"])
    assert first["rss"] > 1 << 20 or sys.platform != "linux"
    answer, saved = engine.ask(op="snapshot")
    assert answer == {"ok": True}
    assert engine.ask(saved, op="restore") == ({"ok": True}, b"")
    assert engine.stop() == ({"ok": True}, 0)


def test_prints_do_not_touch_the_wire_and_are_bounded(engine, tmp_path):
    assert engine.load("Loud", lines=1000)["ok"] is True
    frame = write_frame(tmp_path, 2)
    for _ in range(2):
        assert engine.update([{**frame, "to": 1}])[0]["ok"] is True
    assert engine.stop() == ({"ok": True}, 0)
    assert engine.printed.count("… 9".encode()) == 4
    assert len(engine.printed) < 5 * PRINT_LENGTH_MAX


def test_closed_descriptors_do_not_cut_the_wire(engine, tmp_path):
    assert engine.load("Loud", close=True, lines=1)["ok"] is True
    for _ in range(3):
        assert engine.update([write_frame(tmp_path, 1)])[0]["ok"] is True
    assert engine.stop() == ({"ok": True}, 0)


def test_ctrl_c_and_terminate_wait_for_the_engine(engine, tmp_path):
    assert engine.load("spikes")["ok"] is True
    engine.process.send_signal(signal.SIGINT)
    engine.process.send_signal(signal.SIGTERM)
    assert engine.update([write_frame(tmp_path, 1)])[0]["ok"] is True


def test_the_worker_ends_with_the_engine_even_while_it_computes(engine, tmp_path):
    assert engine.load("Loud", sleep=True)["ok"] is True
    engine.wire.send(update_of([write_frame(tmp_path, 1)]), kind=UPDATE)
    engine.sock.close()
    assert engine.wait() == 1


def test_a_hanging_model_leaves_a_traceback_when_it_is_aborted(engine, tmp_path):
    assert engine.load("Loud", sleep=True, lines=1)["ok"] is True
    engine.wire.send(update_of([write_frame(tmp_path, 1)]), kind=UPDATE)
    assert engine.heard.wait(WAIT)  # it is in its loop
    engine.process.send_signal(signal.SIGABRT)
    assert engine.wait() == -signal.SIGABRT
    assert b"models_for_tests.py" in engine.printed


def test_what_is_no_message_ends_the_worker(engine):
    engine.sock.sendall(PREFIX.pack(2**31, 0, 0))
    assert engine.wait() == 1


def test_started_by_hand_it_says_who_starts_it():
    env = {k: v for k, v in os.environ.items() if k != "TRACKSIDE_WORKER_FD"}
    done = subprocess.run(
        [sys.executable, "-m", "trackside.worker"], env=env, capture_output=True, text=True, timeout=WAIT, check=False
    )
    assert done.returncode == 1
    assert "is started by the engine" in done.stderr


def test_messages_of_any_size_arrive_whole_in_any_pieces():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        wire, body = Wire(theirs), os.urandom(300_000)
        sender = threading.Thread(target=Wire(ours).send, args=({"op": "x"}, [body[:1000], b"", body[1000:]]))
        sender.start()
        kind, header, got = wire.receive()
        assert (kind, header, bytes(got)) == (JSON, {"op": "x"}, body)
        sender.join(WAIT)
        message = b'{"op":"y"}'
        for piece in (
            struct.pack("<IIQ", len(message), 0, 2)[:7],
            struct.pack("<IIQ", len(message), 0, 2)[7:],
            message,
        ):
            ours.send(piece)
        ours.send(b"ab")
        _, header, got = wire.receive()
        assert (header, bytes(got)) == ({"op": "y"}, b"ab")
        ours.close()
        with pytest.raises(Closed):
            wire.receive()


def test_bounded_text_counts_what_it_leaves_out(capsys):
    text = BoundedText(sys.stdout, length_max=10)
    text.write("a" * 8)
    text.write("b" * 8)
    text.next_batch()
    text.write("c")
    assert capsys.readouterr().out == "aaaaaaaabb\n… 6 more characters left out\nc"
