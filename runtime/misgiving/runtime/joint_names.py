"""Names of joints in one spelling, whoever wrote them: which side, and which joint.

``RightKnee``, ``knee_right``, ``kneeR``, ``RKnee`` and ``r-knee`` are all ``right_knee``. A letter
that is no side stays what it is: ``lip``, ``root``, ``ear``.
"""

import re
from collections import Counter
from collections.abc import Sequence

_SIDES = {
    **dict.fromkeys(("left", "lft", "lt", "l"), "left"),
    **dict.fromkeys(("right", "rgt", "rt", "r"), "right"),
}
_OTHER = {"left": "right", "right": "left"}
_NOISE = {"joint", "keypoint", "kpt"}
"""Words that only say that it is one."""
_SHORT = {
    "sho": "shoulder",
    "shldr": "shoulder",
    "elb": "elbow",
    "wri": "wrist",
    "kne": "knee",
    "ank": "ankle",
}
_SAME = {"top_head": "head_top", "top_of_head": "head_top", "headtop": "head_top"}
"""The same joint under another name; a neck is no thorax, a foot no ankle, and so not here."""
_PART = re.compile(
    "ank(le)?|arm|brow|calf|cheek|clavicle|collar|ear(base)?|elb(ow)?|eye(brow)?|finger|foot|hand|"
    "forearm|heel|hip|index|knee?|leg|mouth|nostril|paw|pinky|shin|shldr|sho(ulder)?|thigh|thumb|"
    "(big|small)?toe|wri(st)?"
)
"""What a side may be written to without a mark between: ``lhip``, ``kneeright``."""

_WORD = re.compile(r"[A-Z]+(?![a-z])[0-9]*|[A-Z]?[a-z]+[0-9]*|[0-9]+|[^\W\d_]+")
_BEFORE = re.compile(r"(left|right|l|r)(\w{2,})")
_BEHIND = re.compile(r"(\w{2,}?)(left|right|l|r)")


def canonical(name: str) -> str:
    """A joint's name as ``side_joint`` in small letters.

    >>> [canonical(name) for name in ("RightKnee", "knee.r", "l_wrist", "LEFT ANKLE", "lip")]
    ['right_knee', 'right_knee', 'left_wrist', 'left_ankle', 'lip']
    """
    words = [word.lower() for word in _WORD.findall(name)]
    words = [word for word in words if word not in _NOISE] or [name.lower()]
    if len(words) == 1:
        words = _apart(words[0])
    spelt_out = any(word in _OTHER for word in words)
    words = [_SHORT.get(word, word) for word in words]
    words = [word if spelt_out and len(word) == 1 else _SIDES.get(word, word) for word in words]
    sides = [word for word in words if word in _OTHER]
    if len(sides) > 1:  # of a face: the left eye's right corner
        return "_".join(words)
    joint = "_".join(word for word in words if word not in _OTHER)
    return "_".join((*sides, *filter(None, [_SAME.get(joint, joint)])))


def side_of(name: str) -> str:
    """``left`` or ``right``, empty for a joint in the middle."""
    return next((word for word in canonical(name).split("_") if word in _OTHER), "")


def without_side(name: str) -> str:
    """The joint alone: ``knee`` of ``RKnee``."""
    return "_".join(word for word in canonical(name).split("_") if word not in _OTHER)


def places_of(names: Sequence[str], wanted: Sequence[str]) -> list[int]:
    """Where each wanted joint is among ``names``, −1 where it is not.

    The same name goes first; else the same joint in another spelling, where only one is that.

    >>> places_of(["RKnee", "neck"], ["neck", "right_knee", "left_knee"])
    [1, 0, -1]
    """
    exact = {name: index for index, name in enumerate(names)}
    taken = set(wanted)
    left = [index for index, name in enumerate(names) if name not in taken]
    times = Counter(canonical(names[index]) for index in left)
    asked = Counter(canonical(name) for name in wanted if name not in exact)
    alike = {canonical(names[index]): index for index in left}
    return [
        exact[name]
        if name in exact
        else alike.get(joint, -1)
        if times[joint := canonical(name)] == 1 == asked[joint]
        else -1
        for name in wanted
    ]


def mirror_places(names: Sequence[str]) -> list[int]:
    """Where each joint's other side is; its own place where there is none."""
    known = _once([canonical(name) for name in names])
    loose = _once([_folded(name) for name in names])
    found = []
    for index, name in enumerate(names):
        swapped = known.get(_swapped(canonical(name)), index)
        if not side_of(name):
            swapped = next((loose[guess] for guess in _guesses(name) if guess in loose), index)
        found.append(swapped)
    return [at if found[at] == index else index for index, at in enumerate(found)]


def _apart(word: str) -> list[str]:
    """A side written to a known part, as two words; anything else as it is."""
    if (match := _BEFORE.fullmatch(word)) and _PART.fullmatch(match[2]) and word != "rear":
        return [match[1], match[2]]
    if (match := _BEHIND.fullmatch(word)) and _PART.fullmatch(match[1]):
        return [match[2], match[1]]
    return [word]


def _once(keys: Sequence[str]) -> dict[str, int]:
    """The place of each key that is there once: of two, nobody knows which is meant."""
    times = Counter(keys)
    return {key: index for index, key in enumerate(keys) if times[key] == 1}


def _swapped(joint: str) -> str:
    return "_".join(_OTHER.get(word, word) for word in joint.split("_"))


def _folded(name: str) -> str:
    return "".join(_WORD.findall(name)).lower()


def _guesses(name: str) -> list[str]:
    """What the other side would be called if a letter at an end of an unknown word were a side.

    It is one only where such a name is there: ``LASI`` beside ``RASI``, but not ``lip`` alone.
    """
    swap = {"left": "right", "right": "left", "l": "r", "r": "l"}
    folded, found = _folded(name), []
    if match := _BEFORE.fullmatch(folded):
        found.append(swap[match[1]] + match[2])
    if match := _BEHIND.fullmatch(folded):
        found.append(match[1] + swap[match[2]])
    return found
