"""A row of what users do wrong: one command, and what it must say."""

from dataclasses import dataclass

_GROUPS = (["annotations"], ["config"], ["frames"], ["fleet"])


@dataclass(frozen=True)
class Case:
    what: str
    """What is wrong, for the page."""
    arguments: str
    """As typed behind ``misgiving``."""
    said: str
    """Must occur in what is said on stderr, which is one line."""
    code: int = 2
    lacks: tuple[str, ...] = ()
    """Modules that are not installed; needs a process of its own, as does the next."""
    largest: int | None = None
    """No file may grow beyond this many bytes: a full disk that needs no rights to make."""
    processes: int = 1
    """As many are started by torchrun; the first one's words are shown, not torchrun's own."""
    apart: bool = False
    """Run in a process of its own because a library's own words must not come through."""

    @property
    def verb(self) -> str:
        """The heading of the page that it stands below."""
        words = self.arguments.split()
        count = 2 if words[:1] in _GROUPS and len(words) > 1 else 1
        return " ".join(words[:count]) if words and words[0] in VERBS else ""


VERBS = [
    *("infer", "serve", "watch", "status", "stream", "config"),
    *("recipes", "train", "attach", "suspects", "cycle", "evaluate", "score", "select", "theory"),
    *("export", "calibrate", "build", "bench", "demo", "collect", "review", "frames", "fleet"),
    *("annotations", "prelabel", "next-cycle", "sign", "verify", "pack"),
]
"""As the page orders them."""
