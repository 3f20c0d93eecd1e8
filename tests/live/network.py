"""Network namespaces without a name, and ways out of them to the sandbox: gone with the last who holds them.

Nothing is added to this machine's own network, so tests may run side by side, and nothing is left if they are killed.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import selectors
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


class Network:
    """One namespace: whatever is started or listens within `entered()` is in it."""

    def __init__(self) -> None:
        here = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        try:
            _checked(_libc.unshare(_CLONE_NEWNET))
            try:
                self._namespace = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
            finally:
                _checked(_libc.setns(here, _CLONE_NEWNET))
        finally:
            os.close(here)
        self._relays = ExitStack()
        self.ip("link", "set", "lo", "up")

    def close(self) -> None:
        self._relays.close()
        os.close(self._namespace)

    @contextmanager
    def entered(self) -> Iterator[None]:
        """This thread, and what it starts, is in the namespace while the block runs."""
        here = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        try:
            _checked(_libc.setns(self._namespace, _CLONE_NEWNET))
            try:
                yield
            finally:
                _checked(_libc.setns(here, _CLONE_NEWNET))
        finally:
            os.close(here)

    def ip(self, *arguments: str) -> None:
        """Run ip(8) inside."""
        with self.entered():
            subprocess.run(["ip", *arguments], check=True, timeout=10)

    def joined_to(self, other: Network, address: str) -> None:
        """Give it `address` on a cable to `other`, through which it reaches everything."""
        end = f"to{address.rpartition('.')[2]}"
        self.ip(
            "link",
            "add",
            "eth0",
            "type",
            "veth",
            "peer",
            "name",
            end,
            "netns",
            f"/proc/{os.getpid()}/fd/{other._namespace}",
        )
        self.ip("address", "add", f"{address}/32", "dev", "eth0")
        self.ip("link", "set", "eth0", "up")
        other.ip("link", "set", end, "up")
        other.ip("route", "add", address, "dev", end)
        self.ip("route", "add", "default", "dev", "eth0")

    def relay(self, address: str, port: int, to_port: Callable[[str], int]) -> None:
        """Whoever connects to address:port inside is connected to 127.0.0.1 outside, at the port for that caller."""
        with self.entered():
            listening = socket.create_server((address, port))
        self._relays.callback(_Relay(listening, to_port).close)


class _Relay:
    """All connections in one thread, which was started outside of the namespace."""

    def __init__(self, listening: socket.socket, to_port: Callable[[str], int]) -> None:
        self._listening = listening
        self._to_port = to_port
        self._selector = selectors.DefaultSelector()
        self._selector.register(listening, selectors.EVENT_READ)
        self._wake, self._awoken = socket.socketpair()
        self._selector.register(self._awoken, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._run, name="relay", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._wake.close()
        self._thread.join(5)

    def _run(self) -> None:
        with contextlib.closing(self._selector):
            while True:
                for ready, _ in self._selector.select():
                    if ready.fileobj is self._awoken:
                        return self._end()
                    if ready.fileobj is self._listening:
                        self._connect()
                    else:
                        self._pass_on(ready)

    def _connect(self) -> None:
        caller, (address, _) = self._listening.accept()
        try:
            callee = socket.create_connection(("127.0.0.1", self._to_port(address)), timeout=10)
        except OSError:
            caller.close()
            return
        self._selector.register(caller, selectors.EVENT_READ, callee)
        self._selector.register(callee, selectors.EVENT_READ, caller)

    def _pass_on(self, ready: selectors.SelectorKey) -> None:
        near, far = ready.fileobj, ready.data
        assert isinstance(near, socket.socket)
        with contextlib.suppress(OSError):
            piece = near.recv(65_536)
            if piece:
                far.sendall(piece)
                return
        # Request and answer are whole by now: HTTP's and DNS's clients end a connection when they have both.
        for side in (near, far):
            self._selector.unregister(side)
            side.close()

    def _end(self) -> None:
        for registered in list(self._selector.get_map().values()):
            if isinstance(registered.fileobj, socket.socket):
                registered.fileobj.close()


def _checked(status: int) -> None:
    if status:
        number = ctypes.get_errno()
        raise OSError(number, f"no network namespace ({os.strerror(number)}): this takes root")
