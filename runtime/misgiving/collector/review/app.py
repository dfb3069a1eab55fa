"""The pages as a WSGI application: who may see them, and what goes with every answer."""

import re
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import flask
import flask_login
from flask_wtf.csrf import CSRFError, CSRFProtect
from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Response

from misgiving.collector.frames.words import spoken_size, spoken_time
from misgiving.collector.review.accounts import Account, Accounts, Throttle
from misgiving.collector.review.pages import Pages
from misgiving.collector.store.store import Store
from misgiving.runtime.draw import BOXES, SIDES
from misgiving.runtime.errors import MisgivingError
from misgiving.runtime.net.listening import is_loopback

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; img-src 'self'; style-src 'self'; "
    "script-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}
LARGEST_FORM = 64 << 10
_STATUS = {
    "INVALID_ARGUMENT": 400,
    "NOT_FOUND": 404,
    "RESOURCE_EXHAUSTED": 429,
    "FAILED_PRECONDITION": 500,
    "UNAVAILABLE": 503,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Access:
    """Who reaches the pages."""

    login: bool
    """Whether they need an account; else whoever asks is *local*."""
    behind_proxy: bool = False
    """A proxy with TLS says who asks, and by which name."""


def create_app(store: Store, access: Access, throttle: Throttle | None = None) -> flask.Flask:
    """The application over a store.

    Args:
        store: open as long as it answers.
        access: who may look.
        throttle: of wrong passwords; one on the store's database by default.
    """
    app = flask.Flask(__name__)
    accounts = Accounts(store.database)
    app.config.update(
        SECRET_KEY=accounts.signing_key(),
        SESSION_COOKIE_NAME="misgiving",
        SESSION_COOKIE_SAMESITE="Lax",
        SESSION_COOKIE_SECURE=access.behind_proxy,
        PERMANENT_SESSION_LIFETIME=timedelta(hours=12),
        MAX_CONTENT_LENGTH=LARGEST_FORM,
        WTF_CSRF_TIME_LIMIT=None,  # as long as the session
    )
    app.jinja_env.globals.update(spoken_time=spoken_time, spoken_size=spoken_size, zip=zip)
    app.jinja_env.globals.update(sides=SIDES, boxes=BOXES, login_needed=access.login)
    app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True
    CSRFProtect(app)
    app.register_error_handler(MisgivingError, _refused)
    app.register_error_handler(HTTPException, _http_error)
    app.after_request(_with_headers)
    _add_login(app, accounts, throttle or Throttle(store.database), access)
    Pages(store).add_to(app)
    return app


def _add_login(app: flask.Flask, accounts: Accounts, throttle: Throttle, access: Access) -> None:
    manager = flask_login.LoginManager(app)
    manager.user_loader(accounts.of_session)
    manager.login_view = "login"
    manager.login_message = None

    @app.before_request
    def check() -> Any:
        flask.g.by = "local"
        # Without a login, a page of another name that leads here would be let in.
        if not access.login and not is_loopback(re.sub(r":\d+$", "", flask.request.host)):
            flask.abort(400, "This page has another name; open it as localhost or 127.0.0.1.")
        if not access.login or flask.request.endpoint in ("login", "logged_in", "static"):
            return None
        if not flask_login.current_user.is_authenticated:
            return manager.unauthorized()
        flask.g.by = flask_login.current_user.name
        return None

    @app.get("/login", endpoint="login")
    def ask() -> str:
        return flask.render_template("login.html", wrong=False)

    @app.post("/login", endpoint="logged_in")
    def log_in() -> Any:
        name, password = (flask.request.form.get(part, "") for part in ("name", "password"))
        address = flask.request.remote_addr or ""
        attempt = throttle.begin(name, address)
        account = accounts.check(name, password)
        if account is None:
            return flask.render_template("login.html", wrong=True), 401
        throttle.succeeded(attempt)
        return _entered(account)

    @app.post("/logout")
    def log_out() -> Response:
        flask_login.logout_user()
        flask.session.clear()
        return flask.redirect(flask.url_for("login"), 303)


def _entered(account: Account) -> Response:
    flask.session.clear()  # nothing of before, so that nobody can prepare it
    flask.session.permanent = True
    flask_login.login_user(account)
    return flask.redirect(own_path(flask.request.args.get("next", "")), 303)


def own_path(text: str) -> str:
    """A path of these pages; the first one where it leads elsewhere."""
    parts = urlsplit(text)
    own = text.startswith("/") and not text.startswith(("//", "/\\")) and not parts.netloc
    return text if own and text.isprintable() else "/"


def _refused(error: MisgivingError) -> Any:
    code = _STATUS.get(error.status, 500)
    headers = {}
    if wait := getattr(error, "retry_after_ms", None):
        headers["Retry-After"] = str(-(-wait // 1000))
    return flask.render_template("error.html", code=code, said=str(error)), code, headers


def _http_error(error: HTTPException) -> Any:
    code, said = error.code or 500, error.description or ""
    if isinstance(error, CSRFError):
        said = f"{said} The page was open for too long, or its cookies are off: load it again."
    if error.response is not None or code < 400:
        return error
    return flask.render_template("error.html", code=code, said=said), code


def _with_headers(response: flask.Response) -> flask.Response:
    for name, text in HEADERS.items():
        response.headers.setdefault(name, text)
    response.headers.setdefault("Cache-Control", "no-store")
    return response
