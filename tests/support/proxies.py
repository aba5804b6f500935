"""A CONNECT proxy on real sockets."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress

from tencents import answering


class Proxy:
    """Answers CONNECT with some bytes, and after a 200 copies in both directions."""

    def __init__(self, answer=b"HTTP/1.1 200 Connection established\r\n\r\n"):
        self.answer = answer
        self.heads = []

    def __call__(self, client):
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            if not (piece := client.recv(1)):
                return
            head += piece
        self.heads.append(head.decode())
        client.sendall(self.answer)
        if b" 200 " not in self.answer[:13]:
            return
        host, _, port = head.split()[1].decode().rpartition(":")
        with socket.create_connection((host.strip("[]"), int(port)), 5) as upstream:
            back = threading.Thread(target=copy, args=[upstream, client])
            back.start()
            copy(client, upstream)
            back.join()

    def serve(self):
        return answering(self)


def copy(source, target):
    with suppress(OSError):
        while piece := source.recv(65536):
            target.sendall(piece)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)
