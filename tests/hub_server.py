"""A local server that answers the Hugging Face client as the hub does for one data set.

It speaks what `huggingface_hub` asks: the list of files with sizes and SHA-256, HEAD with ETag and
size, GET with ranges. It can cut a transfer off and hand out damaged bytes.
"""

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub:
    """Files by their path in the repository; use as a context, `address` is the endpoint.

    Attributes:
        cut_after: bytes after which the next transfer of a path breaks off, once.
        damaged: path -> bytes sent in place of the file's, as long as they stand here.
        sent: (path, first byte) of every transfer.
    """

    def __init__(self, repository: str, files: dict[str, bytes]):
        self.repository, self.files = repository, files
        self.cut_after: dict[str, int] = {}
        self.damaged: dict[str, bytes] = {}
        self.sent: list[tuple[str, int]] = []

    def __enter__(self) -> "Hub":
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_) -> None:
                pass

            def do_HEAD(self) -> None:
                hub.answer(self, with_body=False)

            def do_GET(self) -> None:
                hub.answer(self, with_body=True)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.address = f"http://127.0.0.1:{self.server.server_port}"
        return self

    def __exit__(self, *_) -> None:
        self.server.shutdown()
        self.server.server_close()

    def answer(self, request: BaseHTTPRequestHandler, with_body: bool) -> None:
        path = request.path.partition("?")[0].replace("%2F", "/")
        api, file = f"/api/datasets/{self.repository}", f"/datasets/{self.repository}/resolve/"
        if path.startswith(file):
            self._send_file(request, path.removeprefix(file).partition("/")[2], with_body)
        elif path.startswith(f"{api}/tree/"):
            self._send(request, json.dumps([self._entry(name) for name in self.files]).encode())
        elif path.startswith(api):
            names = [{"rfilename": name} for name in self.files]
            about = {"id": self.repository, "sha": COMMIT, "siblings": names}
            self._send(request, json.dumps(about).encode())
        else:
            self._send(request, b"{}", status=404)

    def _entry(self, name: str) -> dict:
        data = self.files[name]
        digest = hashlib.sha256(data).hexdigest()
        lfs = {"oid": digest, "size": len(data), "pointerSize": 134}
        return {"type": "file", "path": name, "size": len(data), "oid": digest[:40], "lfs": lfs}

    def _send_file(self, request: BaseHTTPRequestHandler, name: str, with_body: bool) -> None:
        if name not in self.files:
            self._send(request, b"", status=404, headers={"X-Error-Code": "EntryNotFound"})
            return
        data = self.files[name]
        headers = {
            "X-Repo-Commit": COMMIT,
            "X-Linked-Size": str(len(data)),
            "X-Linked-Etag": f'"{hashlib.sha256(data).hexdigest()}"',
            "ETag": f'"{hashlib.sha256(data).hexdigest()}"',
            "Accept-Ranges": "bytes",
        }
        if not with_body:
            self._send(request, b"", headers=headers | {"Content-Length": str(len(data))})
            return
        data = self.damaged.get(name, data)
        first = int((request.headers.get("Range") or "bytes=0-")[6:].split("-")[0])
        self.sent.append((name, first))
        body, status = data[first:], 206 if request.headers.get("Range") else 200
        headers["Content-Length"] = str(len(body))
        headers["Content-Range"] = f"bytes {first}-{len(data) - 1}/{len(data)}"
        cut = self.cut_after.pop(name, None)
        self._send(request, body[:cut], status=status, headers=headers)
        if cut is not None:
            request.close_connection = True

    @staticmethod
    def _send(
        request: BaseHTTPRequestHandler, body: bytes, status: int = 200, headers: dict | None = None
    ) -> None:
        request.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | (headers or {})).items():
            request.send_header(name, value)
        request.end_headers()
        request.wfile.write(body)
