"""RenewalInformation over plain HTTPS (RFC 9773): no account, no signature, no ACME import."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from threading import Lock, local

import requests

from certkeeper import __version__
from certkeeper.core.ari import Information, Silence, pause, read
from certkeeper.core.failures import retry_after

TIMEOUT = (5, 15)
LARGEST = 64 * 1024
SOON = 3600.0


class HttpRenewalInformation:
    """`bundles` are the PEM roots to trust, by directory URL, where they are not the usual ones."""

    def __init__(self, bundles: Mapping[str, str]) -> None:
        self._bundles = bundles
        self._lock = Lock()
        self._threads = local()
        self._urls: dict[str, str | None] = {}
        self._out_of_reach: set[str] = set()

    def ask(self, directory: str, certificate_id: str, now: datetime) -> Information | None:
        if directory in self._out_of_reach:
            return Silence(now + pause(SOON))
        try:
            url = self._url(directory)
            if url is None:
                return None
            response = self._get(directory, f"{url.rstrip('/')}/{certificate_id}")
        except (requests.RequestException, ValueError, OSError):
            # Thousands of names must not wait one after another for a CA that answers nobody.
            self._out_of_reach.add(directory)
            return Silence(now + pause(SOON))
        seconds = retry_after(response.headers, now)
        if response.status_code != 200 or len(response.content) > LARGEST:
            return Silence(now + pause(seconds))
        return read(response.content, seconds, now)

    def _url(self, directory: str) -> str | None:
        with self._lock:
            if directory in self._out_of_reach:
                raise OSError  # found out by another thread meanwhile
            if directory not in self._urls:
                said = self._get(directory, directory).json()
                url = said.get("renewalInfo") if isinstance(said, dict) else None
                self._urls[directory] = url if isinstance(url, str) else None
            return self._urls[directory]

    def _get(self, directory: str, url: str) -> requests.Response:
        verify = self._bundles.get(directory, True)
        return self._session().get(url, timeout=TIMEOUT, verify=verify, allow_redirects=False)

    def _session(self) -> requests.Session:
        """One for each thread: with many names, most of the time would go into opening connections."""
        session: requests.Session | None = getattr(self._threads, "session", None)
        if session is None:
            session = self._threads.session = requests.Session()
            session.headers["User-Agent"] = f"certkeeper/{__version__}"
        return session
