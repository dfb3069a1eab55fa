"""A campaign of the fleet side over a vehicle's own settings, whose limits win. Pure."""

from pydantic import ValidationError

from misgiving.runtime.errors import InvalidInput, first_problem
from misgiving.runtime.settings.model import FlagsTable
from misgiving.runtime.wire.campaigns import KEYS, Campaign

BUDGETS = tuple(key for key in KEYS if key.startswith(("frames_per_", "bytes_per_")))


def flags_under(own: FlagsTable, campaign: Campaign | None) -> FlagsTable:
    """What is flagged and kept while a campaign runs.

    The campaign says whom to look for: threshold, release, repeat_s, near_duplicate. Of budgets
    the smaller holds, and of intervals the longer. The audit is never drawn less often than the
    vehicle has it, so that a campaign blinds nobody to what the flag misses; a vehicle without
    audit stays without.

    Raises:
        InvalidInput: the campaign has a value that its key does not take.
    """
    if campaign is None:
        return own
    asked = flags_of(campaign)
    new = {key: getattr(asked, key) for key in asked.model_fields_set}
    for key in BUDGETS:
        limits = [table for table in (getattr(own, key), new.get(key)) if table is not None]
        new[key] = min(limits, default=None)
    new["interval_s"] = max(own.interval_s, new.get("interval_s", 0.0))
    new["audit_rate"] = own.audit_rate and max(own.audit_rate, new.get("audit_rate", 0.0))
    return own.model_copy(update=new)


def flags_of(campaign: Campaign) -> FlagsTable:
    """What a campaign sets.

    Raises:
        InvalidInput: it has a value that its key does not take.
    """
    try:
        return FlagsTable.model_validate(dict(campaign.flags or {}))
    except ValidationError as error:
        raise InvalidInput(
            f"campaign {campaign.name!r}: {first_problem(error)}; expected values as [flags] of "
            "misgiving.toml takes them. Set it again"
        ) from error
