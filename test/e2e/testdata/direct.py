"""Asks serve.py from within its pod: python -c "$(cat direct.py)" kept|new|bytes N prints the seconds of N small requests each, in the
median, on one connection or on one of its own; or of N bytes."""
import http.client
import statistics
import sys
import time


def ask(connection, path):
    began = time.perf_counter()
    connection.request("GET", path)
    response = connection.getresponse()
    while response.readinto(buffer):
        pass
    return time.perf_counter() - began


def connect():
    return http.client.HTTPConnection("127.0.0.1", 5000)


what, n = sys.argv[1], int(sys.argv[2])
buffer = bytearray(1 << 20)
if what == "bytes":
    print(ask(connect(), f"/bytes/{n}"))
else:
    kept = connect()
    ask(kept, "/health")
    print(statistics.median(ask(kept if what == "kept" else connect(), "/health") for _ in range(n)))
