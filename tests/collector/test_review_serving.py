"""The verb ``review``, as a process."""

import http.cookiejar
import re
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from misgiving.collector.review.accounts import FAILURES, Accounts
from misgiving.collector.review.serving import access_of, serve_review
from misgiving.collector.store import Store
from misgiving.runtime.errors import InvalidInput
from shared.collecting import DEADLINE_S
from shared.reviewing import OPEN, PROXIED, filled, reviewing

PASSWORD = "four words of mine"


@contextmanager
def review(*arguments: str, said: str = "") -> Iterator["subprocess.Popen[str]"]:
    """The command, with a line on stdin; killed at the end, should it still live."""
    command = [sys.executable, "-m", "misgiving", "review", *arguments]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        try:
            process.stdin.write(said)
            process.stdin.close()
            process.stdin = None
            yield process
        finally:
            process.kill()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with filled(tmp_path / "store", [2.0]) as store:
        return store.folder


def test_pages_until_it_is_told_to_stop(folder: Path) -> None:
    with review("--store", str(folder), "--listen", "127.0.0.1:0") as process:
        line = process.stderr.readline()
        address = re.fullmatch(r"reviewing on (http://127\.0\.0\.1:\d+) .*\n", line)
        assert address, line + process.stderr.read()
        with urllib.request.urlopen(address[1], timeout=DEADLINE_S) as answer:
            assert b"Frame f0 of car-7" in answer.read()
            assert "Server" not in answer.headers
        process.terminate()
        assert process.wait(DEADLINE_S) == 0
        assert process.stderr.read() == ""


def test_a_signal_before_the_first_request(tmp_path: Path) -> None:
    def stopped(server: Any) -> None:
        raise SystemExit(143)

    with filled(tmp_path / "store", [2.0]) as store:
        serve_review("127.0.0.1:0", store, OPEN, stopped)


def test_accounts_from_a_shell(folder: Path) -> None:
    add = ("--store", str(folder), "--add-user", "ann")
    with review(*add, said=f"{PASSWORD}\n") as process:
        assert process.communicate(timeout=DEADLINE_S) == ("ann may log in\n", "")
    with Store(folder) as store:
        assert Accounts(store.database).check("ann", PASSWORD)
    with review("--store", str(folder), "--remove-user", "ann") as process:
        assert process.communicate(timeout=DEADLINE_S)[0] == "ann may not log in any more\n"
    with Store(folder) as store:
        assert Accounts(store.database).names() == []


def test_a_proxy_says_who_asks(tmp_path: Path) -> None:
    """Guesses are counted for the address that it names, over TLS of its own."""

    def log_in(address: str, asks: str, password: str) -> int:
        # Cookies for TLS go to the server behind the proxy, as the proxy hands them on.
        policy = http.cookiejar.DefaultCookiePolicy(secure_protocols=("https", "http"))
        cookies = urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar(policy))
        jar = urllib.request.build_opener(cookies)
        jar.addheaders = [
            ("X-Forwarded-For", asks),
            ("X-Forwarded-Proto", "https"),
            ("X-Forwarded-Host", "review.example"),
            ("Referer", "https://review.example/login"),
        ]
        with jar.open(f"{address}/login", timeout=DEADLINE_S) as answer:
            token = re.search(r'csrf_token" value="([^"]+)"', answer.read().decode())[1]
        form = {"csrf_token": token, "name": "ann", "password": password}
        try:
            with jar.open(f"{address}/login", urllib.parse.urlencode(form).encode()) as answer:
                return answer.status
        except urllib.error.HTTPError as error:
            with error:
                return error.code

    with filled(tmp_path / "store", [2.0]) as store:
        Accounts(store.database).add("ann", PASSWORD)
        with reviewing(store, PROXIED) as address:
            codes = [log_in(address, "192.0.2.1", "wrong") for _ in range(FAILURES)]
            assert codes == [401] * FAILURES
            assert log_in(address, "192.0.2.1", PASSWORD) == 429
            assert log_in(address, "192.0.2.2", PASSWORD) == 200


@pytest.mark.parametrize(
    ("listen", "behind_proxy", "insecure", "login"),
    [
        ("127.0.0.1:8080", False, False, False),
        ("localhost:8080", False, False, False),
        ("[::1]:8080", False, False, False),
        ("127.0.0.1:8080", True, False, True),  # others come through the proxy
        ("0.0.0.0:8080", False, True, True),
        ("192.0.2.7:8080", True, False, True),
    ],
)
def test_who_needs_a_login(listen: str, behind_proxy: bool, insecure: bool, login: bool) -> None:
    access = access_of(listen, behind_proxy=behind_proxy, insecure=insecure)
    assert (access.login, access.behind_proxy) == (login, behind_proxy)


def test_nothing_is_shown_over_plain_http_unasked() -> None:
    with pytest.raises(InvalidInput, match="Add --behind-proxy where there is one, or --insecure"):
        access_of("0.0.0.0:8080", behind_proxy=False, insecure=False)
