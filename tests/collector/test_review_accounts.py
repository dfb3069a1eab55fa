"""Who may look: accounts, logins, guesses."""

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path

import pytest
import sqlalchemy as sa
from flask.testing import FlaskClient

from misgiving.collector.review import accounts
from misgiving.collector.review.accounts import Accounts, Throttle
from misgiving.collector.review.app import Access, own_path
from misgiving.collector.store import Store
from misgiving.collector.store.tables import LOGIN_ATTEMPTS
from misgiving.runtime.errors import InvalidInput, NotFound, ResourceExhausted
from shared.reviewing import CLOSED, client_of, digests, filled, send
from shared.services import Place

WINDOW_NS = int(accounts.WINDOW_S) * 10**9
PASSWORD = "four words of mine"
OTHER = "four other words"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with filled(tmp_path / "store", [2.0]) as made:
        Accounts(made.database).add("ann", PASSWORD)
        yield made


def log_in(client: FlaskClient, name: str = "ann", password: str = PASSWORD, to: str = "/") -> str:
    """Where a login leads; empty where it fails."""
    answer = send(client, "/login", f"/login?next={to}", name=name, password=password)
    return str(answer.headers.get("Location", ""))


def test_names_and_passwords(store: Store) -> None:
    known = Accounts(store.database)
    assert known.names() == ["ann"]
    assert known.check("ann", PASSWORD).name == "ann"
    for name, password in (("ann", OTHER), ("bob", PASSWORD), ("ann", ""), ("ann", "x" * 9999)):
        assert known.check(name, password) is None
    known.add("ann", OTHER)
    assert known.check("ann", PASSWORD) is None
    assert known.check("ann", OTHER)
    known.remove("ann")
    assert known.check("ann", OTHER) is None
    assert known.names() == []


def test_a_password_is_not_written_down(store: Store) -> None:
    for path in store.folder.glob("store.sqlite*"):
        assert PASSWORD.encode() not in path.read_bytes()


@pytest.mark.parametrize(
    ("name", "password", "said"),
    [
        ("", PASSWORD, "name is ''"),
        ("a b", PASSWORD, "name is 'a b'"),
        ("a" * 65, PASSWORD, "expected up to 64"),
        ("ann", "short", "password has 5 characters; expected 12 or more"),
        ("ann", "x" * 1025, "at most 1024"),
    ],
)
def test_an_account_that_cannot_be(store: Store, name: str, password: str, said: str) -> None:
    with pytest.raises(InvalidInput, match=re.escape(said)):
        Accounts(store.database).add(name, password)


def test_nobody_to_remove(store: Store) -> None:
    with pytest.raises(NotFound, match="no account 'bob'; expected one of: ann"):
        Accounts(store.database).remove("bob")


def test_the_signing_key_is_one(store: Store) -> None:
    with ThreadPoolExecutor(8) as pool:
        asked = pool.map(lambda _: Accounts(store.database).signing_key(), range(16))
        (key,) = set(asked)
    assert len(key) == 32
    with Store(store.folder) as again:
        assert Accounts(again.database).signing_key() == key


def test_without_a_login_there_is_nothing_to_see(store: Store) -> None:
    client, digest = client_of(store, CLOSED), digests(store)["f0"]
    for path in ("/", "/audit", "/overview", f"/frames/{digest}", f"/thumbs/{digest}.jpg"):
        answer = client.get(path)
        assert answer.status_code == 302
        assert answer.headers["Location"].startswith("/login?next=")
    with client.get("/static/review.css") as answer:
        assert answer.status_code == 200


def test_a_mark_needs_a_login_too(store: Store) -> None:
    client, digest = client_of(store, CLOSED), digests(store)["f0"]
    answer = send(client, "/login", f"/frames/{digest}/mark", mark="label")
    assert answer.headers["Location"].startswith("/login")
    assert log_in(client) == "/"
    assert "No frame fits" in client.get("/?reviewed=yes").text


def test_login_marks_and_logout(store: Store) -> None:
    client, digest = client_of(store, CLOSED), digests(store)["f0"]
    assert log_in(client, to=f"/frames/{digest}") == f"/frames/{digest}"
    page = f"/frames/{digest}"
    send(client, page, f"{page}/mark", mark="confirmed")
    assert "<li>Confirmed failure, ann, " in client.get(page).text
    send(client, page, "/logout")
    assert client.get(page).status_code == 302


@pytest.mark.parametrize(("name", "password"), [("ann", OTHER), ("bob", PASSWORD), ("", "")])
def test_a_wrong_login(store: Store, name: str, password: str) -> None:
    client = client_of(store, CLOSED)
    answer = send(client, "/login", "/login", name=name, password=password)
    assert answer.status_code == 401
    assert "Name or password is wrong" in answer.text
    assert client.get("/").status_code == 302


def test_a_login_that_no_page_asked_for(store: Store) -> None:
    client = client_of(store, CLOSED)
    assert client.post("/login", data={"name": "ann", "password": PASSWORD}).status_code == 400


def test_a_new_password_ends_sessions(store: Store) -> None:
    client = client_of(store, CLOSED)
    log_in(client)
    assert client.get("/").status_code == 200
    Accounts(store.database).add("ann", OTHER)
    assert client.get("/").status_code == 302


def test_an_account_that_is_gone_has_no_session(store: Store) -> None:
    client = client_of(store, CLOSED)
    log_in(client)
    Accounts(store.database).remove("ann")
    assert client.get("/").status_code == 302


def test_a_session_that_somebody_made_up(store: Store) -> None:
    client = client_of(store, CLOSED)
    log_in(client)
    cookie = client.get_cookie("misgiving")
    forged = client_of(store, CLOSED)
    forged.set_cookie("misgiving", cookie.value[:-4] + "AAAA")
    assert forged.get("/").status_code == 302
    forged.set_cookie("misgiving", cookie.value)  # what has the signature is let in
    assert forged.get("/").status_code == 200


@pytest.mark.parametrize("behind_proxy", [False, True])
def test_cookies(store: Store, behind_proxy: bool) -> None:
    client = client_of(store, Access(login=True, behind_proxy=behind_proxy))
    cookie = client.get("/login").headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie
    assert ("Secure" in cookie) == behind_proxy


def test_guesses_are_limited(store: Store) -> None:
    now = [0]
    client = client_of(store, CLOSED, throttle=Throttle(store.database, lambda: now[0]))
    for _ in range(accounts.FAILURES):
        assert log_in(client, password=OTHER) == ""
    answer = send(client, "/login", "/login", name="ann", password=PASSWORD)
    assert answer.status_code == 429
    assert answer.headers["Retry-After"] == "300"
    assert "expected fewer. Try again in 300 s" in answer.text
    now[0] = WINDOW_NS
    assert log_in(client) == "/"


def test_throttle_by_name_and_by_address(store: Store) -> None:
    now = [0]
    throttle = Throttle(store.database, lambda: now[0])
    for number in range(accounts.FROM_ONE):
        throttle.begin(f"name-{number}", "here")
        now[0] += 10**9
    with pytest.raises(ResourceExhausted, match="20 passwords were wrong"):
        throttle.begin("ann", "here")
    throttle.begin("ann", "there")
    now[0] = WINDOW_NS
    throttle.begin("ann", "here")  # the first failure is forgotten
    with pytest.raises(ResourceExhausted):
        throttle.begin("ann", "here")


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("2001:db8:1:2:3::4", "2001:db8:1:2:ffff::1", True),
        ("2001:db8:1:2:3::4", "2001:db8:1:3:3::4", False),
        ("198.51.100.7", "198.51.100.8", False),
        ("198.51.100.7", "::ffff:198.51.100.7", True),
        ("::ffff:198.51.100.7", "::ffff:198.51.100.8", False),
    ],
)
def test_who_has_a_network_is_one(store: Store, one: str, other: str, same: bool) -> None:
    throttle = Throttle(store.database, lambda: 0)
    for number in range(accounts.FROM_ONE):
        throttle.begin(f"name-{number}", one)
    with pytest.raises(ResourceExhausted) if same else nullcontext():
        throttle.begin("ann", other)


def test_guesses_are_counted_by_all_processes_together(place: Place) -> None:
    """As each process has a pool of connections, so has each of these, at once."""
    with place.open() as store, place.open() as again, ThreadPoolExecutor(8) as pool:
        throttles = [Throttle(one.database, lambda: 0) for one in (store, again)] * 10

        def guess(throttle: Throttle) -> bool:
            try:
                throttle.begin("ann", "here")
            except ResourceExhausted:
                return False
            return True

        assert sum(pool.map(guess, throttles)) == accounts.FAILURES


def test_a_login_that_is_right_counts_no_more(store: Store) -> None:
    client = client_of(store, CLOSED)
    for _ in range(accounts.FAILURES + 1):
        assert log_in(client) == "/"
    assert attempts(store) == 0


def test_what_is_known_of_guesses_is_little_and_goes(store: Store) -> None:
    now = [0]
    throttle = Throttle(store.database, lambda: now[0])
    for number in range(10):
        throttle.begin("my secret password", f"198.51.100.{number}")
    assert attempts(store) == 10
    for path in store.folder.glob("store.sqlite*"):
        assert b"secret" not in path.read_bytes()
        assert b"198.51.100" not in path.read_bytes()
    now[0] = WINDOW_NS
    throttle.begin("ann", "here")
    assert attempts(store) == 1


def attempts(store: Store) -> int:
    with store.database.connect(reads=True) as connection:
        rows = sa.select(sa.func.count()).select_from(LOGIN_ATTEMPTS)
        return int(connection.scalar(rows) or 0)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/frames/a?order=worst", "/frames/a?order=worst"),
        ("", "/"),
        ("https://evil.example/", "/"),
        ("//evil.example/", "/"),
        ("/\\evil.example/", "/"),
        ("/\t/evil.example/", "/"),
        ("frames", "/"),
    ],
)
def test_a_login_leads_nowhere_else(text: str, expected: str) -> None:
    assert own_path(text) == expected
