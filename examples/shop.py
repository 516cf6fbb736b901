"""A service for examples/demo-http.sh: it answers each POST with the status in a file, and prints what it got.

usage: shop.py PORT STATUS-FILE
"""

import http.server
import sys
from pathlib import Path


class Shop(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        status = int(Path(sys.argv[2]).read_text())
        print(f"POST {self.path} {body} (X-Retry: {self.headers.get('X-Retry')}) -> {status}", flush=True)
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Shop).serve_forever()
