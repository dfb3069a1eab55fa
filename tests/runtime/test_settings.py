"""misgiving.toml: what it takes, who wins over whom, and what is said of a mistake."""

from pathlib import Path

import pytest

from docs.helpers import ROOT
from misgiving.runtime.bundles.locate import BUNDLE_VARIABLE
from misgiving.runtime.bundles.trust import TRUST_VARIABLE
from misgiving.runtime.errors import BundleError, InvalidInput
from misgiving.runtime.flags.budgets import DAY, HOUR, Budget
from misgiving.runtime.settings.model import Settings, described, keys_of
from misgiving.runtime.settings.reading import OPTIONS, VARIABLES, Configuration, Sources
from misgiving.runtime.verbs.config import check
from shared import tiny

WHOLE = """
[server]
listen = "0.0.0.0:1"
device_id = "van 7"
[bundle]
path = "bundle"
trust = "/keys"
threads = 2
[flags]
threshold = 1
[persons]
detector = "detector.toml"
follow = 10
fixed = { front = [[0, 10, 200, 300.5]], rear = [[1, 2, 3, 4], [5, 6, 7, 8]] }
[spool]
folder = "spool"
quota = "2GiB"
[tls]
folder = "tls"
infer = ["spiffe://fleet.example/*"]
"""


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)


def read(folder: Path, text: str, **options: object) -> Configuration:
    (folder / "misgiving.toml").write_text(text)
    return Sources(folder / "misgiving.toml", options).read()


def test_a_file(tmp_path: Path) -> None:
    settings = read(tmp_path, WHOLE).settings
    assert settings.server.listen == "0.0.0.0:1"
    assert settings.bundle.path == tmp_path / "bundle"  # from where the file is
    assert settings.bundle.trust == Path("/keys")
    assert settings.flags.threshold == 1
    assert settings.persons.detector == tmp_path / "detector.toml"
    assert settings.persons.fixed["front"] == [[0, 10, 200, 300.5]]
    assert settings.spool.quota == 2 << 30
    assert settings.flags.audit_rate == 0.01  # left out
    assert settings.tls.folder == tmp_path / "tls"
    assert settings.tls.infer == ("spiffe://fleet.example/*",)
    assert settings.tls.admin == ()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[server]\nlisten = "0.0.0.0:1"', r"other machines reach.*Add --tls DIR, or --insecure"),
        ('[tls]\nadmin = ["fitter.example"]', "names have roles and there is no TLS"),
        ("[tls]\ninfer = []", "names have roles and there is no TLS"),
        ('[spool]\ncollector_tls = "tls"', "Add --collector HOST:PORT"),
    ],
)
def test_what_tls_does_not_fit_to(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        read(tmp_path, text)


def test_nothing_said_is_the_defaults(tmp_path: Path) -> None:
    assert Sources().read() == read(tmp_path, "") == Configuration(Settings(), {})


def test_options_win_over_the_environment_and_that_over_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(BUNDLE_VARIABLE, "from-environment")
    monkeypatch.setenv(TRUST_VARIABLE, "from-environment")
    got = read(tmp_path, WHOLE, bundle=Path("from-option"), threshold="0.5")
    assert got.settings.bundle.path == Path("from-option")  # from the working folder
    assert got.settings.bundle.trust == Path("from-environment")
    assert got.settings.bundle.threads == 2
    assert got.settings.flags.threshold == "0.5"
    assert got.origins["bundle.path"] == "--bundle"
    assert got.origins["bundle.trust"] == TRUST_VARIABLE
    assert got.origins["bundle.threads"] == str(tmp_path / "misgiving.toml")
    assert "bundle.device" not in got.origins


def test_a_collector_in_the_file_and_its_spool_on_the_line(tmp_path: Path) -> None:
    text = '[spool]\ncollector = "fleet.example:1"\n'
    assert read(tmp_path, text, spool=Path("spool")).settings.spool.folder == Path("spool")
    with pytest.raises(InvalidInput, match="collector is fleet.example:1 and there is no spool"):
        read(tmp_path, text)


def test_a_device_may_have_no_name(tmp_path: Path) -> None:
    assert read(tmp_path, '[server]\ndevice_id = ""\n').settings == Settings()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a = " + "[" * 5000, "is no TOML"),
        ('[bundle]\npath = "a\\u0000b"\n', "bundle.path: .* has a zero byte"),
        ('[server]\ndevice_id = "\\ud800"\n', "is no TOML"),  # half of a character
    ],
    ids=["deep", "zero byte", "half a character"],
)
def test_what_no_library_takes(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(InvalidInput, match=rf"misgiving.toml:? {said}"):
        read(tmp_path, text)


def test_an_option_is_named_as_it_was_typed() -> None:
    with pytest.raises(InvalidInput, match="^--device is 'tpu'; expected one of cpu, cuda"):
        Sources(options={"device": "tpu"}).read()
    with pytest.raises(InvalidInput, match="^audit rate is 2; expected a share"):
        Sources(options={"audit_rate": 2.0}).read()


def test_budgets_are_those_that_are_set(tmp_path: Path) -> None:
    text = '[flags]\nframes_per_hour = 40\nbytes_per_day = "2MB"\n'
    budgets = read(tmp_path, text).settings.flags.budgets
    assert budgets == (Budget(40, "frames", HOUR), Budget(2_000_000, "bytes", DAY))
    assert Settings().flags.budgets == ()
    with pytest.raises(InvalidInput, match="frames_per_hour is 1; expected frames that the device"):
        read(tmp_path, "[flags]\nframes_per_hour = 1\n")


def test_options_and_variables_stand_for_keys() -> None:
    keys = {key for key, _ in keys_of(Settings())}
    assert {*OPTIONS.values(), *VARIABLES.values()} <= keys


def test_check_shows_what_would_run(tmp_path: Path) -> None:
    text = f'[bundle]\npath = "{tiny.BUNDLE}"\n[flags]\nthreshold = '
    file = str(tmp_path / "misgiving.toml")
    read(tmp_path, f'{text}"miss_rate=0.2"\n[spool]\nfolder = "spool"\n')
    *lines, last = check(Path(file)).splitlines()
    rows = {key: rest for key, *rest in map(str.split, lines)}
    assert rows["spool.folder"] == [str(tmp_path / "spool"), file]
    assert rows["bundle.device"] == ["cpu", "default"]
    assert rows.keys() == {key for key, _ in keys_of(Settings())}
    assert last.startswith("would serve bright-spots 1; flags from predicted_loss 0.5 on (miss_rat")
    read(tmp_path, f'{text}0.5\n[shadow]\npath = "{tiny.BUNDLE}"\n')
    assert check(Path(file)).endswith("\nin its shadow bright-spots 1")
    read(tmp_path, f'{text}0.5\n[shadow]\npath = "none"\n')
    with pytest.raises(BundleError, match="none"):
        check(Path(file))
    read(tmp_path, f'{text}"never"\n')
    with pytest.raises(InvalidInput, match="'never'.*bright-spots's own: likely"):
        check(Path(file))


def test_the_page_has_every_key() -> None:
    page = (ROOT / "docs/configuration.md").read_text(encoding="utf-8")
    table = "\n".join(described())
    assert table in page, f"docs/configuration.md is old; expected\n{table}"


def test_check_shows_cameras_without_their_secrets(tmp_path: Path) -> None:
    read(tmp_path, '[camera.front]\nsource = "rtsp://me:s3cret@camera/1?key=s3cret"\n')
    lines = check(tmp_path / "misgiving.toml").splitlines()
    (source,) = (line.split() for line in lines if line.startswith("camera.front.source"))
    assert source[1:] == ["rtsp://camera/1", str(tmp_path / "misgiving.toml")]
    assert not any("s3cret" in line for line in lines)


SECRETS = [  # a camera's source in a wrong shape, and what is said of it
    ('[camera.front]\nsource = ["rtsp://me:s3cret@camera/1"]', "front.source is of type list"),
    ('[camera.front.source]\nurl = "rtsp://me:s3cret@camera/1"', "front.source is of type dict"),
    ('[camera]\nfront = "rtsp://me:s3cret@camera/1"', "camera.front is of type str; expected"),
    ('camera = "rtsp://me:s3cret@camera/1"', "camera is of type str; expected"),
    ('camera = ["rtsp://me:s3cret@camera/1"]', "camera is of type list; expected"),
]


@pytest.mark.parametrize(("text", "said"), SECRETS)
def test_a_source_that_is_none_is_not_repeated(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(InvalidInput, match=said) as caught:
        read(tmp_path, text)
    assert "s3cret" not in str(caught.value)


def test_metrics_that_others_reach_are_asked_for(tmp_path: Path) -> None:
    """With or without TLS, which they have not."""
    exposed = '[metrics]\nlisten = "0.0.0.0:0"\n'
    for tls in ("", '[tls]\nfolder = "tls"\n'):
        with pytest.raises(InvalidInput, match="other machines reach, over plain HTTP"):
            read(tmp_path, exposed + tls)
    assert read(tmp_path, exposed + "[tls]\ninsecure = true").settings.metrics.listen
    assert read(tmp_path, exposed.replace("0.0.0.0", "127.0.0.1")).settings.metrics.listen


def test_a_camera_s_recording_lies_beside_the_file(tmp_path: Path) -> None:
    text = '[camera.a]\nsource = "drive.mp4"\n[camera.b]\nsource = "0"\n'
    cameras = read(tmp_path, text).settings.camera
    assert [camera.source for camera in cameras.values()] == [str(tmp_path / "drive.mp4"), "0"]
