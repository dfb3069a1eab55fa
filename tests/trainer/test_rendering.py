"""The renderer of people: labels agree with the pixels, and difficulty means something."""

import numpy as np
import pytest

from misgiving.trainer.data.rendering import (
    Rendering,
    body,
    person,
    render_person,
    solids,
    wardrobe,
)

R_ANKLE, R_HIP, L_HIP, L_ANKLE, R_SHOULDER, L_SHOULDER, NECK, HEAD_TOP = 0, 2, 3, 5, 8, 9, 12, 13
WHITE = solids.Material(np.full(3, 255.0, np.float32))


def draw(difficulty: float, count: int, size: int = 96) -> list[Rendering]:
    return [render_person(np.random.default_rng(k), difficulty, size) for k in range(count)]


def black_canvas(size: int = 64) -> solids.Canvas:
    depth = np.full((size, size), solids.FAR, np.float32)
    # Without light the ambient brightness is left: coverage is all that varies.
    return solids.Canvas(np.zeros((3, size, size), np.float32), depth, np.zeros(3), 1.0)


def centroid(canvas: solids.Canvas) -> tuple[float, float]:
    weight = canvas.colour[0].astype(np.float64)
    grid = np.arange(len(weight)) + 0.5
    return float((weight * grid).sum() / weight.sum()), float(
        (weight.T * grid).sum() / weight.sum()
    )


@pytest.mark.parametrize("difficulty", [0.0, 0.5, 1.0])
def test_same_state_same_picture(difficulty: float) -> None:
    first, second = (render_person(np.random.default_rng(7), difficulty) for _ in range(2))
    np.testing.assert_array_equal(first.image, second.image)
    np.testing.assert_array_equal(first.points, second.points)
    np.testing.assert_array_equal(first.visible, second.visible)
    other = render_person(np.random.default_rng(8), difficulty)
    assert not np.array_equal(first.image, other.image)


@pytest.mark.parametrize("size", [32, 97, 192])  # the least, odd, the default
@pytest.mark.parametrize("difficulty", [0.0, 1.0])
def test_shapes_and_types(difficulty: float, size: int) -> None:
    drawn = render_person(np.random.default_rng(0), difficulty, size)
    assert (drawn.image.shape, drawn.image.dtype.name) == ((size, size, 3), "uint8")
    assert (drawn.points.shape, drawn.points.dtype.name) == ((14, 2), "float32")
    assert (drawn.visible.shape, drawn.visible.dtype.name) == ((14,), "bool")
    assert drawn.difficulty == difficulty
    assert np.isfinite(drawn.points).all()


@pytest.mark.parametrize("difficulty", [1.5, -0.01, float("nan"), float("inf")])
def test_bad_difficulty(difficulty: float) -> None:
    with pytest.raises(ValueError, match=r"difficulty is .*expected .*\[0, 1\]. Clip") as error:
        render_person(np.random.default_rng(0), difficulty)
    assert "\n" not in str(error.value)
    assert str(difficulty) in str(error.value)


def test_too_small_a_picture() -> None:
    with pytest.raises(ValueError, match="size is 8 px; expected at least 32"):
        render_person(np.random.default_rng(0), 0.0, 8)


@pytest.mark.parametrize(
    ("start", "end"),
    [
        ((20.0, 20.0), (44.0, 40.0)),  # on pixel corners
        ((20.5, 20.5), (44.5, 40.5)),  # on pixel centres
        ((20.13, 31.77), (44.61, 31.9)),  # neither, nearly level
        ((30.3, 30.7), (30.3, 30.7)),  # seen end on: a disc
    ],
)
def test_cone_lies_where_its_ends_say(start: tuple[float, float], end: tuple[float, float]) -> None:
    canvas = black_canvas()
    cone = solids.Cone(np.array([*start, 0.0]), np.array([*end, 0.0]), (5.0, 5.0), WHITE)
    solids.draw_cone(canvas, cone)
    middle = np.add(start, end) / 2
    np.testing.assert_allclose(centroid(canvas), middle, atol=0.03)
    area = np.pi * 25 + 10 * np.hypot(*np.subtract(end, start))
    assert canvas.colour[0].sum() / canvas.colour[0].max() == pytest.approx(area, rel=0.01)


def test_ellipsoid_lies_where_its_centre_says() -> None:
    for centre in ((32.0, 32.0), (31.37, 29.81)):
        canvas, turned = black_canvas(), body.turn("z", 33.0) @ body.turn("x", 50.0)
        place = np.array([*centre, 0.0])
        solids.draw_ellipsoid(
            canvas, solids.Ellipsoid(place, turned, np.array([7.0, 12.0, 4.0]), WHITE)
        )
        np.testing.assert_allclose(centroid(canvas), centre, atol=0.03)


def test_joints_of_the_drawn_body_are_the_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every limb joint is the centre of a round end of some cone, and the head's top its crown."""
    cones: list[solids.Cone] = []
    balls: list[solids.Ellipsoid] = []
    monkeypatch.setattr(person, "draw_cone", lambda c, s: cones.append(s))
    monkeypatch.setattr(person, "draw_ellipsoid", lambda c, s: balls.append(s))
    drawn = render_person(np.random.default_rng(3), 0.2)
    ends = np.array([end[:2] for cone in cones for end in (cone.start, cone.end)])
    for joint in range(13):
        assert np.linalg.norm(ends - drawn.points[joint], axis=1).min() < 1e-3
    crowns = np.array([(ball.centre - ball.semi[1] * ball.frame[:, 1])[:2] for ball in balls])
    assert np.linalg.norm(crowns - drawn.points[HEAD_TOP], axis=1).min() < 0.3


def test_nearer_solid_hides_the_farther_whatever_the_order() -> None:
    grey = solids.Material(np.full(3, 80.0, np.float32))
    near = solids.Cone(np.array([20.0, 32, 30]), np.array([44.0, 32, 30]), (5.0, 5.0), WHITE)
    far = solids.Cone(np.array([32.0, 20, 0]), np.array([32.0, 44, 0]), (5.0, 5.0), grey)
    pictures = []
    for order in ((near, far), (far, near)):
        canvas = black_canvas()
        for cone in order:
            solids.draw_cone(canvas, cone)
        pictures.append(canvas.colour)
    assert pictures[0][0, 32, 32] == pytest.approx(127.5)
    np.testing.assert_allclose(pictures[0][:, 30:34], pictures[1][:, 30:34], atol=1e-3)


def test_own_right_is_at_image_left_of_who_faces_us() -> None:
    for drawn in draw(0.0, 25, 64):
        x, y = drawn.points.T
        assert x[R_SHOULDER] < x[L_SHOULDER]
        assert x[R_HIP] < x[L_HIP]
        assert y[HEAD_TOP] < y[NECK] < y[R_HIP] < y[R_ANKLE]


def test_face_shows_from_the_front_and_hair_from_behind() -> None:
    """Swapping left and right in the labels must be visible: turning round shows another head."""
    rng = np.random.default_rng(0)
    stance = body.STANCES[0]
    build = body.sample_build(rng)
    clothes = wardrobe.dress(rng, np.full((96, 96, 3), 200, np.uint8), 0.0)
    patches, sides = [], []
    for yaw in (0.0, 180.0):
        posed = body.pose_body(body.Pose(stance, (0.0, 0.0, 0.0), yaw, 0.0, 0.0), build)
        camera = body.Camera(80.0, 5.0, np.array([48.0, 50.0]))
        canvas = black_canvas(96)
        person.draw_body(canvas, posed, camera, clothes)
        points = camera.project(posed.joints)
        column, row = np.rint(points[HEAD_TOP, :2] + (0, 0.1 * 80)).astype(int)
        patches.append(canvas.colour[:, row - 2 : row + 4, column - 3 : column + 4].copy())
        sides.append(np.sign(points[L_SHOULDER, 0] - points[R_SHOULDER, 0]))
    assert sides == [1.0, -1.0]
    assert np.abs(patches[0] - patches[1]).mean() > 10


def test_easy_people_are_wholly_visible() -> None:
    for drawn in draw(0.0, 20, 192):
        assert drawn.visible.all()
        assert (drawn.points > 0).all()
        assert (drawn.points < 192).all()
        extent = np.ptp(drawn.points, axis=0).max() / 192
        assert 0.6 < extent < 0.92


def test_person_stands_out_of_the_backdrop_where_the_labels_say(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The picture with the person differs from the one without, at the joints and not far off."""
    for seed in range(8):
        drawn = render_person(np.random.default_rng(seed), 0.0)
        with monkeypatch.context() as patched:
            for name in ("draw_body", "darken_crevices", "_draw_ground_shadow"):
                patched.setattr(person, name, lambda *_: None)
            empty = render_person(np.random.default_rng(seed), 0.0)
        changed = np.abs(drawn.image.astype(int) - empty.image).max(axis=2) > 12
        columns, rows = np.floor(drawn.points).astype(int).T
        # The crown lies on the outline, half in.
        assert changed[rows[:13], columns[:13]].mean() > 0.9
        box = np.argwhere(changed)
        low, high = drawn.points.min(axis=0) - 20, drawn.points.max(axis=0) + 20
        assert (box[:, ::-1] > low).all()
        assert (box[:, ::-1] < high).all()


def spread_of_roll(drawn: list[Rendering]) -> float:
    """Circular spread of the direction from hips to neck: 0 all alike, 1 all over."""
    trunk = np.array([d.points[NECK] - d.points[[R_HIP, L_HIP]].mean(axis=0) for d in drawn])
    trunk /= np.linalg.norm(trunk, axis=1, keepdims=True)
    return float(1 - np.linalg.norm(trunk.mean(axis=0)))


def test_difficulty_raises_occlusion_rotation_and_back_views() -> None:
    by_level = {level: draw(level, 100, 64) for level in (0.0, 0.5, 1.0)}
    hidden = [np.mean([1 - d.visible.mean() for d in by_level[v]]) for v in (0.0, 0.5, 1.0)]
    assert hidden[0] == 0 < hidden[1] < hidden[2] < 0.35
    rolls = [spread_of_roll(by_level[v]) for v in (0.0, 0.5, 1.0)]
    assert rolls[0] < 0.02 < 0.05 < rolls[1] < rolls[2]
    assert rolls[2] > 0.5
    outside = np.mean([((d.points < 0) | (d.points >= 64)).any(axis=1) for d in by_level[1.0]])
    assert outside < 0.08


def test_pose_library_keeps_bones_and_ranges() -> None:
    """Whatever is sampled, bones keep their length and left mirrors right."""
    for seed in range(50):
        rng = np.random.default_rng(seed)
        build = body.sample_build(rng)
        joints = body.pose_body(body.sample_pose(rng, 1.0), build).joints
        for a, b, length in ((0, 1, build.shin), (2, 1, build.thigh), (6, 7, build.forearm)):
            assert np.linalg.norm(joints[a] - joints[b]) == pytest.approx(length)
        for right, left in ((0, 5), (1, 4), (6, 11), (7, 10)):
            inner = {0: 1, 5: 4, 1: 2, 4: 3, 6: 7, 11: 10, 7: 8, 10: 9}
            bones = [np.linalg.norm(joints[j] - joints[inner[j]]) for j in (right, left)]
            assert bones[0] == pytest.approx(bones[1])
