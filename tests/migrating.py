#!/usr/bin/env python3
"""Starts the services of docs/migrating.md as faasd starts containers, and sends a call through them.

faasd replaces an image's entrypoint by `command`, starts services in any order that `depends_on` allows, waits for none of
them to be ready, and never starts one again. The gateway is a stand-in with two habits of the community gateway's: it ends
where no NATS Streaming server answers at its start, and it queues each call over that protocol. nats-server and the worker
are real.

  NATS_SERVER=... WORKER=target/debug/queue-worker tests/migrating.py [STARTS]
"""

import base64
import http.server
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

# From the start of one container to that of the next.
APART = 1.0
CLUSTER = "faas-cluster"
# What the images start where no command is given.
ENTRYPOINTS = {"nats": ["/nats-server"], "queue-worker": ["queue-worker"], "gateway": ["gateway"]}


def services(page):
    """The services of the page's compose block, by name."""
    block = re.search(r"```yaml\n(services:\n.*?)```", page, re.S).group(1)
    found, name, key = {}, None, None
    for line in block.splitlines()[1:]:
        depth, text = len(line) - len(line.lstrip()), line.strip()
        if not text or text.startswith("#"):
            continue
        if depth == 2:
            name = text.rstrip(":")
            found[name] = {}
        elif depth == 4:
            key, _, value = text.partition(":")
            found[name][key] = value.strip() or []
        elif text.startswith("- "):
            found[name][key].append(text[2:].strip('"'))
        else:
            found[name][key][-1] += " " + text
    return found


def order(found):
    """The names in an order of chance, each behind those that it depends on."""
    left, started = list(found), []
    while left:
        free = [name for name in left if all(other in started for other in found[name].get("depends_on", []) if other in found)]
        started.append(random.choice(free))
        left.remove(started[-1])
    return started


class Starts:
    """One start of all services, in a folder of its own."""

    def __init__(self, found, names):
        self.folder = tempfile.TemporaryDirectory()
        self.ports = {"nats": free_port(), "gateway": free_port(), "queue-worker": free_port()}
        self.running, self.why = {}, []
        for name in names:
            self.running[name] = self.start(name, found[name])
            time.sleep(APART)

    def start(self, name, service):
        command = service.get("command") or ENTRYPOINTS[name]
        program = {"/nats-server": os.environ["NATS_SERVER"], "queue-worker": os.environ["WORKER"], "gateway": __file__}.get(command[0])
        if program is None:
            print(f"  {name}: there is no program {command[0]}")
            return None
        # A container has names, paths and ports of its own; here they are the machine's.
        bound = dict(re.findall(r"source: \./(\S+) target: (\S+)", " ".join(service.get("volumes", []))))
        folders = {target: os.path.join(self.folder.name, source) for source, target in bound.items()}
        for folder in folders.values():
            os.makedirs(folder, exist_ok=True)
        arguments = [folders.get(argument, argument) for argument in command[1:]]
        environment = dict(setting.split("=", 1) for setting in service.get("environment", []))
        for setting in ("faas_nats_address", "faas_gateway_address"):
            if setting in environment:
                environment[setting.replace("address", "port")] = str(self.ports[environment[setting]])
                environment[setting] = "127.0.0.1"
        if name == "nats":
            arguments += ["-a", "127.0.0.1", "-p", str(self.ports["nats"])]
        elif name == "queue-worker":
            environment["listen_addr"] = f"127.0.0.1:{self.ports[name]}"
        else:
            environment["PATH"] = os.environ["PATH"]
            environment["port"] = str(self.ports[name])
        with open(os.path.join(self.folder.name, f"{name}.log"), "wb") as log:
            return subprocess.Popen([program, *arguments], env=environment, stdout=log, stderr=log)

    def is_up(self):
        """Whether a call comes to its function and its answer to the caller. One that is refused is not sent again."""
        base = f"http://127.0.0.1:{self.ports['gateway']}"
        try:
            self.await_gateway()
            request = urllib.request.Request(f"{base}/async-function/echo", b"hello", {"X-Callback-Url": f"{base}/told"})
            with urllib.request.urlopen(request, timeout=30) as answer:
                assert answer.status == 202
            with urllib.request.urlopen(f"{base}/await", timeout=60) as answer:
                came = answer.read()
            if came != b"HELLO":
                raise OSError(f"{came} came back")
            return True
        except OSError as error:
            self.why = [f"  {error}"]
            for name in (name for name, process in self.running.items() if process):
                with open(os.path.join(self.folder.name, f"{name}.log"), encoding="utf-8", errors="replace") as log:
                    self.why += [f"  {name}: {line}" for line in log.read().splitlines()[-8:]]
            return False

    def await_gateway(self):
        """Returns when it listens; it never will when it has ended."""
        while True:
            try:
                return socket.create_connection(("127.0.0.1", self.ports["gateway"])).close()
            except ConnectionRefusedError:
                if self.running["gateway"].poll() is not None:
                    raise
                time.sleep(0.05)

    def end(self):
        for process in self.running.values():
            if process:
                process.send_signal(signal.SIGKILL)
                process.wait()
        self.folder.cleanup()


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


class Stan:
    """As much of NATS Streaming's publishing half as a gateway needs."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=30)
        self.lines = self.socket.makefile("rb")
        self.lines.readline()
        self.send(b'CONNECT {"verbose":false,"headers":true,"no_responders":true}\r\nSUB _INBOX.gateway 1\r\nSUB _STAN.acks.gateway 2\r\n')
        hello = field(1, b"faas-publisher") + field(2, b"heartbeats") + b"\x18\x01" + field(4, b"connection")
        told = self.ask(f"_STAN.discover.{CLUSTER}", "_INBOX.gateway", hello)
        self.prefix = fields(told)[1].decode()
        self.next = 0

    def send(self, data):
        self.socket.sendall(data)

    def ask(self, subject, inbox, payload):
        self.send(f"PUB {subject} {inbox} {len(payload)}\r\n".encode() + payload + b"\r\n")
        while True:
            line = self.lines.readline().split()
            if not line:
                raise ConnectionError("NATS is gone")
            if line[0] == b"PING":
                self.send(b"PONG\r\n")
            elif line[0] in (b"MSG", b"HMSG"):
                message = self.lines.read(int(line[-1]) + 2)[:-2]
                if line[0] == b"HMSG":
                    raise ConnectionError("nobody answers")
                return message

    def publish(self, payload):
        self.next += 1
        guid = f"{os.getpid()}-{self.next}".encode()
        message = field(1, b"faas-publisher") + field(2, guid) + field(3, b"faas-request") + field(5, payload) + field(6, b"connection")
        refused = fields(self.ask(f"{self.prefix}.faas-request", "_STAN.acks.gateway", message)).get(2)
        if refused:
            raise ConnectionError(refused.decode())


def field(number, data):
    """A field of bytes, as protocol buffers write it."""
    size, length = len(data), b""
    while size > 127:
        length, size = length + bytes([size & 127 | 128]), size >> 7
    return bytes([number << 3 | 2]) + length + bytes([size]) + data


def fields(message):
    """The fields of bytes in a short message; numbers are left out."""
    found, at = {}, 0
    while at < len(message):
        tag, at = message[at], at + 1
        size, shift = 0, 0
        while True:
            size, shift, at = size | (message[at] & 127) << shift, shift + 7, at + 1
            if message[at - 1] < 128:
                break
        if tag & 7 == 2:
            found[tag >> 3] = message[at : at + size]
            at += size
    return found


def gateway():
    """The stand-in, which ends at once where nobody answers."""
    stan = Stan(int(os.environ["faas_nats_port"]))
    told, arrived = [], threading.Event()

    class Pages(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if self.path.startswith("/function/"):
                return self.answer(200, body.upper())
            if self.path == "/told":
                told.append(body)
                arrived.set()
                return self.answer(200)
            url = self.headers["X-Callback-Url"].removeprefix("http://")
            host, _, path = url.partition("/")
            call = {"Function": self.path.rsplit("/", 1)[1], "CallbackUrl": {"Scheme": "http", "Host": host, "Path": "/" + path}}
            call["Body"] = base64.b64encode(body).decode()
            call["Header"] = {"X-Call-Id": ["1"]}
            stan.publish(json.dumps(call).encode())
            self.answer(202)

        def do_GET(self):
            arrived.wait(60)
            self.answer(200, b"".join(told))

        def answer(self, status, body=b""):
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["port"])), Pages).serve_forever()


def comes_up(found, names):
    start = Starts(found, names)
    try:
        return start.is_up(), "\n".join(start.why)
    finally:
        start.end()


def main(starts):
    with open(os.path.join(os.path.dirname(__file__), "..", "docs", "migrating.md"), encoding="utf-8") as page:
        found = services(page.read())
    for number in range(1, starts + 1):
        names = order(found)
        up, why = comes_up(found, names)
        print(f"start {number} of {starts}, {', '.join(names)}: {'up' if up else f'NOT UP, {why}'}")
        if not up:
            sys.exit(1)
    # What this would find: an entrypoint that is not named, and a gateway that does not wait for its turn.
    without = dict(found, nats=dict(found["nats"], command=found["nats"]["command"][1:]))
    assert not comes_up(without, order(without))[0], "up without the name of the program"
    early = dict(found, gateway=dict(found["gateway"], depends_on=["nats"]))
    assert not comes_up(early, ["nats", "gateway", "queue-worker"])[0], "up with a gateway that started before the worker"
    print("and not up without the program's name, nor with a gateway that starts before the worker")


if __name__ == "__main__":
    if len(sys.argv) == 1 and "faas_nats_port" in os.environ:
        gateway()
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
