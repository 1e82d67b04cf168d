"""A receiver of webhooks that can be slow or away, and remembers which events it was sent."""

from __future__ import annotations

import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

EVENT_ID = re.compile(rb'"event_id":"([0-9a-f]{32})"')


class Server(ThreadingHTTPServer):
    """Says nothing of clients that are killed in the middle of a request."""

    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        pass


class Receiver:
    """Listens on a port; `delay` slows each answer down, `away` hangs up on everybody."""

    def __init__(self, port: int = 0) -> None:
        self.delay, self.away = 0.0, False
        self.rows, self.ids = 0, set[bytes]()
        self.keys: dict[str, int] = {}
        self.lock = threading.Lock()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if receiver.away:
                    self.close_connection = True
                    return
                time.sleep(receiver.delay)
                receiver.take(self.headers["Idempotency-Key"], body)
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = Server(("127.0.0.1", port), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/rows"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def take(self, key: str, body: bytes) -> None:
        """Remember a request's events; one that was sent before counts once, by its key."""
        found = EVENT_ID.findall(body)
        with self.lock:
            if key not in self.keys:
                self.rows += len(found)
            self.keys[key] = self.keys.get(key, 0) + 1
            self.ids.update(found)

    def close(self) -> None:
        """Listen no more."""
        self.server.shutdown()
        self.server.server_close()
