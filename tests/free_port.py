"""A port for processes that meet on this machine."""

import socket


def free_port() -> str:
    """A TCP port of 127.0.0.1 that nobody uses, chosen by the operating system."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return str(server.getsockname()[1])
