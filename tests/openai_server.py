"""A local HTTP server that speaks OpenAI's chat completions, for tests: what it answers is a function of the request."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Reply:
    """One answer: `content` as the message, or `body` as the whole JSON, after `delay_s`."""

    content: str | None = ""
    status: int = 200
    delay_s: float = 0.0
    body: Any = None


Answer = Callable[[dict[str, Any]], Reply | str]


@dataclass
class Server:
    """A running server: what it was asked, in order, and how many requests were under way at once."""

    url: str
    answer: Answer
    requests: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    peak: int = 0
    _under_way: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def prompts(self) -> list[str]:
        """The last user message of each request."""
        return [request["messages"][-1]["content"] for request in self.requests]

    def handle(self, request: dict[str, Any], key: str | None) -> Reply:
        with self._lock:
            self.requests.append(request)
            self.keys.append(key)
            self._under_way += 1
            self.peak = max(self.peak, self._under_way)
        reply = self.answer(request)
        reply = Reply(reply) if isinstance(reply, str) else reply
        time.sleep(reply.delay_s)
        with self._lock:
            self._under_way -= 1
        return reply


def script(*replies: Reply | str) -> Answer:
    """Answer with these in order, and with the last one from then on."""
    left = list(replies)
    return lambda request: left.pop(0) if len(left) > 1 else left[0]


@contextmanager
def serving(answer: Answer) -> Iterator[Server]:
    """Serve on a free port of this machine until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if self.path != "/v1/chat/completions":
                return self._send(404, {"error": {"message": f"no {self.path} here"}})
            reply = server.handle(request, self.headers["Authorization"])
            body = reply.body
            if body is None and reply.status == 200:
                message = {"role": "assistant", "content": reply.content}
                choice = {"index": 0, "message": message, "finish_reason": "stop"}
                body = {"id": "1", "object": "chat.completion", "created": 0, "model": request["model"], "choices": [choice]}
            elif body is None:
                body = {"error": {"message": reply.content}}
            return self._send(reply.status, body)

        def _send(self, status: int, body: Any) -> None:
            data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
            try:
                self.send_response(status)
                self.send_header("Content-Type", "text/html" if isinstance(body, str) else "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True  # the client has given up, which some tests are about

        def log_message(self, *args: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    server = Server(f"http://127.0.0.1:{http.server_port}/v1", answer)
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        http.shutdown()
        # Not `server_close`, which waits for handlers that still sleep.
        http.socket.close()
        thread.join()
