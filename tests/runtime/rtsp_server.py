"""A real RTSP server for tests: a red picture as H.264, behind a login. Prints its port.

Runs on Debian's own Python, whose packages hold GStreamer: ``rtsp_server.py [PORT [USER
PASSWORD]]``; port 0 takes a free one. ``--check`` only says whether all that it needs is there.
"""

import sys
from typing import Any

import gi

for name in ("Gst", "GstRtsp", "GstRtspServer"):
    gi.require_version(name, "1.0")
from gi.repository import GLib, Gst, GstRtsp, GstRtspServer  # noqa: E402

ELEMENTS = ("videotestsrc", "x264enc", "rtph264pay", "rtpbin")
LAUNCH = (
    "( videotestsrc is-live=true pattern=red ! "
    "video/x-raw,format=I420,width=64,height=48,framerate=25/1 ! "
    "x264enc tune=zerolatency speed-preset=ultrafast key-int-max=10 ! "
    "rtph264pay name=pay0 config-interval=-1 )"
)


def serve(port: str, user: str = "", password: str = "") -> None:
    server = GstRtspServer.RTSPServer(address="127.0.0.1", service=port)
    factory = GstRtspServer.RTSPMediaFactory(shared=True)
    factory.set_launch(LAUNCH)
    if user:
        demand_login(server, factory, user, password)
    server.get_mount_points().add_factory("/stream1", factory)
    if not server.attach(None):
        sys.exit(f"port {port} is taken")
    print(server.get_bound_port(), flush=True)
    GLib.MainLoop().run()


def demand_login(server: Any, factory: Any, user: str, password: str) -> None:
    role = "viewer,media.factory.access=true,media.factory.construct=true"
    factory.add_role_from_structure(Gst.Structure.new_from_string(role))
    token = GstRtspServer.RTSPToken()
    token.set_string("media.factory.role", "viewer")
    auth = GstRtspServer.RTSPAuth()
    auth.set_supported_methods(GstRtsp.RTSPAuthMethod.DIGEST)
    auth.add_digest(user, password, token)
    server.set_auth(auth)


Gst.init(None)
if missing := [name for name in ELEMENTS if Gst.ElementFactory.find(name) is None]:
    sys.exit(f"GStreamer has no {', '.join(missing)}")
if sys.argv[1:] != ["--check"]:
    serve(*sys.argv[1:])
