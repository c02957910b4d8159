"""An HTTP server for tests of the tunnel, in the place of MLflow's: python -c "$(cat serve.py)"."""
import hashlib
import http.server
import socket

CHUNK = bytes(range(256)) * 4096


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else an answer on a kept connection waits 40 ms for the acknowledgement of its header

    def answer(self, code, body):
        self.send_response(code)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        """/bytes/N is N bytes, after which the count of 0 to 255 begins again; all else is the pod's name."""
        if not self.path.startswith("/bytes/"):
            return self.answer(200, socket.gethostname().encode())
        left = int(self.path.removeprefix("/bytes/"))
        self.send_response(200)
        self.send_header("Content-Length", str(left))
        self.end_headers()
        while left > 0:
            part = CHUNK[:left]
            self.wfile.write(part)
            left -= len(part)

    def do_PUT(self):
        """/refuse is answered before the body is read, and closed; all else is hashed."""
        if self.path == "/refuse":
            self.answer(413, b"too large")
            self.close_connection = True
            return
        left, digest = int(self.headers["Content-Length"]), hashlib.sha256()
        while left > 0:
            part = self.rfile.read(min(left, len(CHUNK)))
            digest.update(part)
            left -= len(part)
        self.answer(200, digest.hexdigest().encode())

    def do_POST(self):
        """As MLflow's API answers that has nothing to tell."""
        self.rfile.read(int(self.headers["Content-Length"]))
        self.answer(200, b"{}")

    def log_message(self, *args):
        """Nothing: a log of 10,000 requests is nobody's friend."""


class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 512
    daemon_threads = True


Server(("", 5000), Handler).serve_forever()
