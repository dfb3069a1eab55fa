"""Poses of an articulated person in three dimensions, and the camera that looks at it.

Axes, for body and camera alike: x to the right of the picture, y down, z towards the viewer. A
person at rest faces the viewer, so the person's own left is +x. Lengths of the body are in statures
(a standing person is about 1 tall), of the picture in px; angles are in degrees. Joints are in LSP
order.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

# Stance angles carry sampling noise of this many degrees at difficulty 0, and this much more at 1.
_JITTER_EASY, _JITTER_GAIN = 4.0, 16.0
# Least and greatest elevation, plane, twist and bend of arms and of legs, degrees.
_ARM_RANGE = np.array([[0.0, -90.0, -110.0, 0.0], [176.0, 125.0, 110.0, 148.0]])
_LEG_RANGE = np.array([[0.0, -95.0, -35.0, 0.0], [128.0, 105.0, 35.0, 145.0]])


class Swing(NamedTuple):
    """Angles of one arm or leg in degrees.

    ``elevation`` from hanging (0) to overhead (180), in the vertical plane that ``plane`` names: 0
    to the side, 90 to the front, -90 to the back. ``twist`` turns the limb about itself (positive
    inwards). ``bend`` is the flexion of elbow or knee.
    """

    elevation: float
    plane: float
    twist: float
    bend: float


@dataclass(frozen=True, slots=True)
class Stance:
    """A named way of holding the body, from which poses are sampled by adding noise.

    ``onset`` is the difficulty from which it appears. ``trunk`` holds forward flexion, sideways
    bend and twist, ``roll`` the in-plane turn that belongs to the stance, all in degrees. Arms and
    legs: the right one, then the left one.
    """

    name: str
    onset: float
    trunk: tuple[float, float, float]
    arms: tuple[Swing, Swing]
    legs: tuple[Swing, Swing]
    roll: float = 0.0


@dataclass(frozen=True, slots=True)
class Pose:
    """Everything that is sampled about how a person is held and seen, degrees."""

    stance: Stance
    head: tuple[float, float, float]
    yaw: float
    pitch: float
    roll: float


@dataclass(frozen=True, slots=True)
class Build:
    """Proportions in statures; ``girth`` multiplies every thickness."""

    girth: float
    shoulder: float
    hip: float
    upper_arm: float
    forearm: float
    thigh: float
    shin: float
    head: float


@dataclass(frozen=True, slots=True)
class Body:
    """A posed body in statures, camera axes.

    ``joints`` is (14, 3); ``tips`` (4, 3): right hand, left hand, right toe, left toe. The frames
    are (3, 3), columns = the part's own left, down and front.
    """

    joints: Array
    tips: Array
    pelvis: Array
    belly: Array
    chest: Array
    head: Array
    belly_centre: Array
    chest_centre: Array
    head_centre: Array
    build: Build


@dataclass(frozen=True, slots=True)
class Camera:
    """Perspective camera: ``scale`` px per stature at depth 0, ``distance`` in statures, ``offset``
    (2,) px."""

    scale: float
    distance: float
    offset: Array

    def zoom(self, points: Array) -> Array:
        """Pixels per stature at each of the points, shape (N, 3) -> (N,)."""
        return self.scale * self.distance / (self.distance - points[:, 2])

    def place(self, point: Array) -> tuple[Array, float]:
        """Image x, y and depth in px of one point (3,), and the pixels per stature there."""
        x, y, z = point.tolist()
        zoom = self.scale * self.distance / (self.distance - z)
        left, top = self.offset.tolist()
        return np.array([x * zoom + left, y * zoom + top, z * self.scale]), zoom

    def project(self, points: Array) -> Array:
        """Image x, y and depth in px, shape (N, 3) -> (N, 3); larger depth is nearer."""
        image = points * self.zoom(points)[:, None]
        image[:, :2] += self.offset
        image[:, 2] = points[:, 2] * self.scale
        return image


_HANG, _STAND = Swing(11, 0, 10, 14), Swing(5, 0, -10, 4)


def _both(swing: Swing) -> tuple[Swing, Swing]:
    return swing, swing


# The table stays one or two lines a stance.
# fmt: off
STANCES = (
    Stance("standing", 0.0, (0, 0, 0), _both(_HANG), _both(_STAND)),
    Stance("contrapposto", 0.0, (0, 5, 6), (Swing(20, 20, 10, 35), _HANG),
           (_STAND, Swing(9, 30, -15, 16))),
    Stance("hands on hips", 0.0, (0, 0, 0), _both(Swing(44, -10, 80, 92)),
           (_STAND, Swing(9, 0, -12, 3))),
    Stance("waving", 0.0, (0, -3, 0), (Swing(98, 10, -92, 75), _HANG), _both(_STAND)),
    Stance("arms out", 0.0, (0, 0, 0), _both(Swing(72, 5, 0, 10)), _both(Swing(8, 0, -10, 3))),
    Stance("arm to the side", 0.0, (0, 3, 0), (Swing(65, 15, 0, 15), Swing(25, 40, 30, 70)),
           _both(_STAND)),
    Stance("walking", 0.1, (4, 0, 8), (Swing(28, -80, 0, 15), Swing(30, 80, 0, 35)),
           (Swing(25, 80, 0, 10), Swing(20, -80, 0, 25))),
    Stance("pointing", 0.1, (0, 0, 10), (Swing(88, 45, 0, 8), _HANG),
           (_STAND, Swing(12, 60, -10, 20))),
    Stance("cheering", 0.15, (-5, 0, 0), _both(Swing(152, 20, 0, 22)), _both(Swing(10, 0, -10, 5))),
    Stance("star jump", 0.2, (0, 0, 0), _both(Swing(132, 0, 0, 8)), _both(Swing(32, 0, -10, 6))),
    Stance("running", 0.25, (14, 0, 12), (Swing(35, -80, 0, 92), Swing(45, 80, 0, 95)),
           (Swing(62, 85, 0, 78), Swing(26, -85, 0, 65))),
    Stance("lunge", 0.25, (5, 0, 0), (Swing(70, 30, 0, 40), Swing(60, 0, 0, 20)),
           (Swing(72, 50, -10, 82), Swing(42, -25, -10, 8))),
    Stance("throwing", 0.3, (8, 0, 22), (Swing(112, -10, -90, 78), Swing(82, 60, 0, 10)),
           (Swing(22, -40, -20, 18), Swing(48, 60, -10, 35))),
    Stance("squat", 0.35, (30, 0, 0), _both(Swing(85, 70, 0, 15)), _both(Swing(96, 52, -15, 108))),
    Stance("sitting", 0.35, (12, 0, 0), _both(Swing(35, 70, 15, 55)), _both(Swing(88, 68, -8, 88))),
    Stance("kick", 0.35, (-12, 10, -8), (Swing(70, 10, 0, 25), Swing(80, 40, 0, 45)),
           (Swing(88, 40, 0, 12), Swing(6, 0, -12, 12))),
    Stance("side bend", 0.35, (5, 38, 0), (Swing(40, 10, 30, 30), Swing(165, 10, 0, 12)),
           _both(Swing(20, 0, -10, 4))),
    Stance("arabesque", 0.45, (45, 0, 0), (Swing(95, 30, 0, 8), Swing(85, -20, 0, 8)),
           (Swing(62, -80, 0, 10), Swing(20, 85, 0, 6)), 10.0),
    Stance("split leap", 0.45, (0, 0, 5), (Swing(95, 20, 0, 8), Swing(110, 0, 0, 8)),
           (Swing(84, 70, 0, 5), Swing(66, -75, 0, 12))),
    Stance("side split", 0.5, (0, 10, 0), (Swing(150, 0, 0, 15), Swing(95, 10, 0, 10)),
           _both(Swing(78, 5, -10, 5))),
    Stance("tuck", 0.5, (48, 0, 0), _both(Swing(62, 70, 20, 62)), _both(Swing(118, 78, -5, 122))),
    Stance("bridge", 0.55, (-42, 0, 0), _both(Swing(168, 20, 0, 15)), _both(Swing(28, -80, 0, 72))),
    Stance("handstand", 0.5, (-6, 0, 0), _both(Swing(168, 10, 0, 8)),
           (Swing(22, 70, 0, 12), Swing(20, -60, 0, 30)), 180.0),
    Stance("cartwheel", 0.5, (0, 12, 0), _both(Swing(138, 0, 0, 6)),
           _both(Swing(48, 5, 0, 6)), 130.0),
)
# fmt: on


def sample_pose(rng: np.random.Generator, difficulty: float) -> Pose:
    """Draw a stance, its noise, and the direction from which it is seen."""
    stance = _jittered(rng, _pick_stance(rng, difficulty), difficulty)
    if rng.random() < 0.5:
        stance = _mirrored(stance)
    head = rng.normal(0.0, 4.0 + 12.0 * difficulty, 3)
    return Pose(
        stance=stance,
        head=(float(head[0]) * 1.5, float(head[1]), float(head[2])),
        yaw=_sample_yaw(rng, difficulty),
        pitch=float(rng.normal(-5.0, 3.0 + 15.0 * difficulty**1.5)),
        roll=stance.roll + float(rng.normal(0.0, 3.0 + 115.0 * difficulty**2)),
    )


def sample_build(rng: np.random.Generator) -> Build:
    """Draw proportions around those of an adult."""
    sizes = np.array([0.108, 0.051, 0.165, 0.148, 0.243, 0.236, 0.081])
    shoulder, hip, upper_arm, forearm, thigh, shin, head = sizes * rng.normal(1.0, 0.04, 7).clip(
        0.9, 1.1
    )
    girth = float(rng.uniform(0.88, 1.14))
    return Build(girth, shoulder, hip, upper_arm, forearm, thigh, shin, head)


def pose_body(pose: Pose, build: Build) -> Body:
    """Forward kinematics from the middle of the hips, which is the origin."""
    stance = pose.stance
    flex, side, twist = stance.trunk
    pelvis = turn("z", pose.roll) @ turn("x", pose.pitch) @ turn("y", pose.yaw)
    belly = pelvis @ _spine(0.5 * flex, 0.5 * side, 0.5 * twist)
    chest = pelvis @ _spine(flex, side, twist)
    head = chest @ turn("y", pose.head[0]) @ turn("x", pose.head[1]) @ turn("z", pose.head[2])
    waist = pelvis @ (0.0, -0.06, 0.0)
    ribs = waist + belly @ (0.0, -0.10, 0.0)
    collar = ribs + chest @ (0.0, -0.125, 0.0)
    neck = collar + chest @ (0.0, -0.022, 0.0)
    head_centre = neck + chest @ (0.0, -0.024, 0.004) + head @ (0.0, -0.035 - build.head, 0.012)

    joints, tips = np.empty((14, 3)), np.empty((4, 3))
    joints[[8, 7, 6]], tips[0] = _arm(collar, chest, stance.arms[0], 1, build)
    joints[[9, 10, 11]], tips[1] = _arm(collar, chest, stance.arms[1], -1, build)
    joints[[2, 1, 0]], tips[2] = _leg(pelvis, stance.legs[0], 1, build)
    joints[[3, 4, 5]], tips[3] = _leg(pelvis, stance.legs[1], -1, build)
    joints[12] = neck
    # The crown of the hair is the top of the head: it is what one sees and labels.
    joints[13] = head_centre + head @ (0.0, -1.1 * build.head, -0.006)
    return Body(
        joints,
        tips,
        pelvis,
        belly,
        chest,
        head,
        0.5 * (waist + ribs),
        ribs + chest @ (0.0, -0.045, 0.0),
        head_centre,
        build,
    )


def frame_body(rng: np.random.Generator, body: Body, difficulty: float, size: int) -> Camera:
    """Choose distance, scale and place so that the body fills part of a ``size`` px square."""
    distance = float(rng.uniform(4.0, 6.0) - 1.8 * difficulty * rng.random())
    flat = Camera(1.0, distance, np.zeros(2)).project(np.vstack([body.joints, body.tips]))[:, :2]
    low, high = flat.min(axis=0) - 0.02, flat.max(axis=0) + 0.02
    fill = float(rng.uniform(0.72 - 0.22 * difficulty, 0.90 - 0.08 * difficulty))
    scale = size * min(fill / float((high - low).max()), 0.95)
    slack = 0.5 * (size - scale * (high - low))
    # At high difficulty a person may stand a little across the edge of the picture.
    spread = slack * (0.5 + 0.4 * difficulty) + 0.07 * size * max(0.0, difficulty - 0.5)
    centre = 0.5 * size + spread * rng.uniform(-1.0, 1.0, 2)
    return Camera(scale, distance, centre - 0.5 * scale * (low + high))


def _pick_stance(rng: np.random.Generator, difficulty: float) -> Stance:
    """Easy stances fade out as ``difficulty`` rises; others fade in over 0.3 from their onset."""
    fading = (
        1.5 * min(max((difficulty - stance.onset) / 0.3, 0.0), 1.0)
        if stance.onset
        else 1.0 - 0.85 * difficulty
        for stance in STANCES
    )
    reached = list(accumulate(fading))
    return STANCES[bisect_right(reached, rng.random() * reached[-1])]


def _sample_yaw(rng: np.random.Generator, difficulty: float) -> float:
    """Direction faced, degrees: 0 to the viewer, 90 to the image's right, 180 seen from behind."""
    yaw = float(rng.normal(0.0, 9.0 + 45.0 * difficulty))
    return yaw + 180.0 if rng.random() < 0.5 * difficulty**1.3 else yaw


def _jittered(rng: np.random.Generator, stance: Stance, difficulty: float) -> Stance:
    noise = rng.normal(0.0, _JITTER_EASY + _JITTER_GAIN * difficulty, (5, 4)) * (1.0, 1.4, 1.2, 1.2)
    right_arm, left_arm = stance.arms
    right_leg, left_leg = stance.legs
    trunk = np.add(stance.trunk, 0.6 * noise[4, :3]).clip((-45, -40, -40), (70, 40, 40))
    return replace(
        stance,
        trunk=(float(trunk[0]), float(trunk[1]), float(trunk[2])),
        arms=(_shaken(right_arm, noise[0], _ARM_RANGE), _shaken(left_arm, noise[1], _ARM_RANGE)),
        # Legs stray less: they carry the body.
        legs=(
            _shaken(right_leg, 0.6 * noise[2], _LEG_RANGE),
            _shaken(left_leg, 0.6 * noise[3], _LEG_RANGE),
        ),
    )


def _shaken(swing: Swing, noise: Array, limits: Array) -> Swing:
    angles: Array = np.add(swing, noise)
    # Elevation and bend fold at zero, so that noise on a hanging limb does not pile up there.
    angles[::3] = np.abs(angles[::3])
    return Swing(*np.minimum(np.maximum(angles, limits[0]), limits[1]).tolist())


def _mirrored(stance: Stance) -> Stance:
    flex, side, twist = stance.trunk
    return replace(
        stance,
        trunk=(flex, -side, -twist),
        roll=-stance.roll,
        arms=stance.arms[::-1],
        legs=stance.legs[::-1],
    )


def turn(axis: str, degrees: float) -> Array:
    """Rotation matrix (3, 3).

    Positive about x swings a hanging limb to the front, about y turns the front to the person's
    left, about z swings a hanging limb to the person's right.
    """
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    if axis == "x":
        return np.array([[1, 0, 0], [0, c, -s], [0, s, c]])
    if axis == "y":
        return np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])


def _spine(flex: float, side: float, twist: float) -> Array:
    return turn("y", twist) @ turn("z", side) @ turn("x", -flex)


def _swing(swing: Swing, sign: int) -> Array:
    """Frame of an upper limb relative to the trunk; ``sign`` is +1 on the right, -1 on the left."""
    plane, lift = turn("y", sign * swing.plane), turn("z", sign * swing.elevation)
    frame: Array = plane @ lift @ plane.T @ turn("y", sign * swing.twist)
    return frame


def _arm(collar: Array, chest: Array, swing: Swing, sign: int, build: Build) -> tuple[Array, Array]:
    """Shoulder, elbow and wrist (3, 3), and the tip of the hand (3,)."""
    upper = chest @ _swing(swing, sign)
    lower = upper @ turn("x", swing.bend)
    # A raised arm takes the shoulder blade up and in with it.
    raised = math.sin(math.radians(0.5 * swing.elevation)) ** 2
    shoulder = collar + chest @ (
        -sign * build.shoulder * (1.0 - 0.12 * raised),
        -0.03 * raised,
        0.0,
    )
    elbow = shoulder + build.upper_arm * upper[:, 1]
    wrist = elbow + build.forearm * lower[:, 1]
    return np.stack([shoulder, elbow, wrist]), wrist + 0.062 * lower[:, 1]


def _leg(pelvis: Array, swing: Swing, sign: int, build: Build) -> tuple[Array, Array]:
    """Hip, knee and ankle (3, 3), and the tip of the toe (3,)."""
    upper = pelvis @ _swing(swing, sign)
    lower = upper @ turn("x", -swing.bend)
    hip = pelvis @ (-sign * build.hip, 0.0, 0.0)
    knee = hip + build.thigh * upper[:, 1]
    ankle = knee + build.shin * lower[:, 1]
    return np.stack([hip, knee, ankle]), ankle + lower @ (0.0, 0.035, 0.085)
