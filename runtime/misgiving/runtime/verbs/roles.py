"""The list of verbs in ``misgiving --help``: by who needs them, as README has it."""

from typing import Any

from typer.core import TyperGroup

ROLES = {
    "On the vehicle": ("serve", "watch", "status", "stream", "infer", "build", "verify", "config"),
    "Fleet side": ("collect", "review", "frames", "fleet", "annotations", "prelabel"),
    "Training": (
        "recipes",
        "train",
        "cycle",
        "suspects",
        "attach",
        "evaluate",
        "score",
        "select",
        "theory",
    ),
    "Release": ("next-cycle", "export", "calibrate", "sign", "pack", "bench", "demo"),
}


class ByRole(TyperGroup):
    """Lists its verbs under the roles that they belong to."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write a section for each role, and one for verbs of no role."""
        longest = max(map(len, self.commands), default=0)
        limit = formatter.width - formatter.indent_increment - longest - 4
        known = {name for names in ROLES.values() for name in names}
        others = tuple(name for name in self.list_commands(ctx) if name not in known)
        for role, names in {**ROLES, "Others": others}.items():
            rows = [
                (name.ljust(longest), self.commands[name].get_short_help_str(limit))
                for name in names
                if name in self.commands
            ]
            if rows:
                with formatter.section(role):
                    formatter.write_dl(rows)
