"""A web server with a pool of threads, and its clients in another process.

Three kinds of request: `/log` appends to a file and forces it to the disk, `/order` commits to a
database (sqlite3, one connection that all threads share under one lock), `/quote` asks a slow
remote service. The report must show, for the pool's threads: `network` in `quote` (the remote
service takes its time), `disk` in `log` and in the commit, and the lock around the database,
held during the commit, so that orders come one at a time. The clients wait for the server in
`poll`, since Python polls a socket that has a timeout. Everything is on the loopback and ends after
--requests.

    timesink run -- python3 web_thread_pool.py --workers 4 --clients 8 --requests 300
"""

import argparse
import http.client
import os
import socket
import socketserver
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer

now = time.monotonic_ns
PATHS = ("/log", "/order", "/quote")
# How often a server looks whether it is to stop.
STOP_S = 0.05


def options():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workers", type=int, default=4, help="threads of the pool (%(default)s)")
    parser.add_argument("--clients", type=int, default=8, help="clients at a time (%(default)s)")
    parser.add_argument("--requests", type=int, default=300, help="of all clients (%(default)s)")
    parser.add_argument("--remote-ms", type=int, default=60, help="remote takes (%(default)s)")
    parser.add_argument("--dir", help="files go there (the temporary directory)")
    parser.add_argument("--client", type=int, metavar="PORT", help=argparse.SUPPRESS)
    parser.add_argument("--remote", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


# --- the server


class Shop:
    """What requests share, and what they measured: sums in ns, under a lock of their own."""

    def __init__(self, directory, remote_port):
        self.remote_port = remote_port
        self.log = open(os.path.join(directory, "log"), "ab", buffering=0)
        self.database = sqlite3.connect(
            os.path.join(directory, "orders.db"), check_same_thread=False
        )
        self.database.execute("CREATE TABLE orders (at INTEGER)")
        self.database.commit()
        self.database_lock = threading.Lock()
        kinds = ("requests", "disk", "lock_wait", "commit", "remote", "queued")
        self.sums = dict.fromkeys(kinds, 0)
        self.sums_lock = threading.Lock()

    def count(self, what, ns):
        with self.sums_lock:
            self.sums[what] += ns

    def close(self):
        self.log.close()
        self.database.close()

    def append_to_log(self):
        os.write(self.log.fileno(), b"x" * 4_096)
        began = now()
        os.fsync(self.log.fileno())
        self.count("disk", now() - began)

    def order(self):
        asked = now()
        with self.database_lock:
            began = now()
            self.database.execute("INSERT INTO orders VALUES (?)", (began,))
            self.database.commit()
            done = now()
        self.count("lock_wait", began - asked)
        self.count("commit", done - began)

    def quote(self):
        began = now()
        with socket.create_connection(("127.0.0.1", self.remote_port)) as remote:
            remote.sendall(b"price?\n")
            while remote.recv(64):
                pass
        self.count("remote", now() - began)


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        shop = self.server.shop
        {"/log": shop.append_to_log, "/order": shop.order, "/quote": shop.quote}[self.path]()
        shop.count("requests", 1)
        self.send_response(200)
        self.send_header("Content-Length", "3")
        self.end_headers()
        self.wfile.write(b"ok\n")

    def log_message(self, *_):
        """Requests are not printed."""


class PoolServer(HTTPServer):
    """Accepts on one thread and answers on a pool."""

    request_queue_size = 64

    def __init__(self, shop, workers):
        super().__init__(("127.0.0.1", 0), Handler)
        self.shop = shop
        self.pool = ThreadPoolExecutor(max_workers=workers, thread_name_prefix="web")

    def process_request(self, request, client_address):
        self.pool.submit(self.answer, request, client_address, now())

    def answer(self, request, client_address, accepted):
        self.shop.count("queued", now() - accepted)
        try:
            self.finish_request(request, client_address)
        finally:
            self.shutdown_request(request)

    def server_close(self):
        super().server_close()
        self.pool.shutdown(wait=True)


# --- the other processes


class Slow(socketserver.StreamRequestHandler):
    """The remote service: each question takes as long."""

    def handle(self):
        self.rfile.readline()
        time.sleep(self.server.seconds)
        self.wfile.write(b"42\n")


class Remote(socketserver.ThreadingTCPServer):
    daemon_threads = True
    request_queue_size = 64


def remote(ms):
    """Serves until standard input ends; prints its port first."""
    with Remote(("127.0.0.1", 0), Slow) as server:
        server.seconds = ms / 1000
        threading.Thread(target=server.serve_forever, args=(STOP_S,), name="remote").start()
        print(server.server_address[1], flush=True)
        sys.stdin.read()
        server.shutdown()


def ask(port, numbers, latencies):
    """One client, which asks for what is left, one after the other."""
    for number in numbers:
        began = now()
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        connection.request("GET", PATHS[number % len(PATHS)])
        assert connection.getresponse().read() == b"ok\n"
        connection.close()
        latencies.append(now() - began)


def clients(port, count, requests):
    """Prints how many answers there were, and what they took together."""
    latencies = []
    # Each client has its share; none waits for another.
    threads = [
        threading.Thread(
            target=ask, args=(port, range(i, requests, count), latencies), name=f"client-{i}"
        )
        for i in range(count)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(len(latencies), sum(latencies))


def again(*arguments):
    """This file in a process of its own, with pipes."""
    command = [sys.executable, __file__, *(str(argument) for argument in arguments)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, universal_newlines=True)


def serve(o, directory, remote_port):
    """Serves the clients until they are done: what the server measured, and they."""
    shop = Shop(directory, remote_port)
    server = PoolServer(shop, o.workers)
    accepting = threading.Thread(target=server.serve_forever, args=(STOP_S,), name="accept")
    accepting.start()
    port = server.server_address[1]
    try:
        with again("--client", port, "--clients", o.clients, "--requests", o.requests) as process:
            answered, latency = (int(word) for word in process.stdout.read().split())
    finally:
        server.shutdown()
        accepting.join()
        server.server_close()
        shop.close()
    return shop.sums, answered, latency


def main():
    o = options()
    if o.remote:
        return remote(o.remote_ms)
    if o.client is not None:
        return clients(o.client, o.clients, o.requests)
    began = now()
    with tempfile.TemporaryDirectory(dir=o.dir) as directory:
        with again("--remote", "--remote-ms", o.remote_ms) as slow:
            sums, answered, latency = serve(o, directory, int(slow.stdout.readline()))
    wall = now() - began
    print(
        f"{answered} answers in {wall / 1e9:.2f} s, {latency / max(1, answered) / 1e6:.0f} ms "
        f"each: {sums['remote'] / 1e9:.2f} s waiting for the remote service, "
        f"{sums['disk'] / 1e9:.2f} s for the log, {sums['lock_wait'] / 1e9:.2f} s for the "
        "database's lock"
    )
    print(
        f"requests={sums['requests']} answered={answered} latency_ns={latency} "
        f"queued_ns={sums['queued']} disk_ns={sums['disk']} lock_wait_ns={sums['lock_wait']} "
        f"commit_ns={sums['commit']} network_ns={sums['remote']} "
        f"cpu_ns={time.process_time_ns()} wall_ns={wall}"
    )
    return None


if __name__ == "__main__":
    main()
