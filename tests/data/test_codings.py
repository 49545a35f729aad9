from pathlib import Path

import numpy as np
import pytest
import torch

from jtr_lightning.data.codings import (
    AsStored,
    ClassIds,
    Levels,
    Scaled,
    UnitVectors,
    coding_for,
    one_channel,
)
from jtr_lightning.data.taskonomy_domains import CurvatureColours, DepthSteps, MostLikely, known_domains
from jtr_lightning.errors import ConfigError, DataError
from jtr_lightning.tasks import Classification, DenseRegression, Depth, Normals, Segmentation

PNG = Path("folder/label.png")


def uint8(*values) -> np.ndarray:
    return np.array(values, np.uint8)[None]


def test_class_ids_shift_and_void() -> None:
    assert ClassIds().decode(uint8(0, 3, 255), PNG).tolist() == [[0, 3, 255]]
    assert ClassIds(first=1).decode(uint8(0, 1, 17), PNG).tolist() == [[-1, 0, 16]]
    assert ClassIds(first=3).decode(uint8(0, 1, 3), PNG).tolist() == [[-1, -1, 0]]
    assert ClassIds(void=7).decode(uint8(0, 7), PNG).tolist() == [[0, -1]]
    assert ClassIds().decode(np.array([[-1, 40000]], np.int64), PNG).tolist() == [[-1, 40000]]
    assert ClassIds().decode(np.array([[-1.0, 12.0]]), PNG).tolist() == [[-1, 12]]
    rgb = np.dstack([uint8(1, 2), uint8(9, 9), uint8(8, 8)])
    assert ClassIds(channel=0).decode(rgb, PNG).tolist() == [[1, 2]]


def test_what_cannot_be_class_ids_is_refused() -> None:
    with pytest.raises(
        DataError, match=r"'folder/label\.png' should hold class ids; found values that are not whole"
    ):
        ClassIds().decode(np.array([[0.5]]), PNG)
    with pytest.raises(
        DataError, match=r"'folder/label\.png' should hold one value per pixel; found a colour picture"
    ):
        ClassIds().decode(np.dstack([uint8(1), uint8(2), uint8(3)]), PNG)
    with pytest.raises(
        DataError, match=r"label\.JPG' should be in a file that keeps values exactly; found a JPEG"
    ):
        ClassIds().decode(uint8(1), Path("label.JPG"))


@pytest.mark.parametrize("dtype", [np.int64, np.uint64, np.float64])
def test_ids_that_no_task_can_have_do_not_wrap(dtype: type) -> None:
    with pytest.raises(DataError, match=r"label\.png' should hold class ids; found values from 1"):
        ClassIds().decode(np.array([[1, 2**32 + 1]], dtype), PNG)


def test_listed_ids() -> None:
    assert ClassIds(ids=[0, 255]).decode(uint8(0, 255, 255), PNG).tolist() == [[0, 1, 1]]
    assert ClassIds(ids=[7, 3], void=0).decode(uint8(3, 7, 0), PNG).tolist() == [[1, 0, -1]]
    assert ClassIds(ids=[70000, 1]).decode(np.array([[70000, 1, -1]]), PNG).tolist() == [[0, 1, -1]]
    with pytest.raises(DataError, match=r"label\.png' should hold the class ids \[0, 255\]; found 128, too"):
        ClassIds(ids=[0, 255]).decode(uint8(0, 128), PNG)
    for wrong in ([], [1, 1], [-1, 0]):
        with pytest.raises(ConfigError, match="`ids` of ClassIds should name the id of each class once"):
            ClassIds(ids=wrong)
    with pytest.raises(ConfigError, match="first=1"):
        ClassIds(first=1, ids=[0, 255])


def test_a_class_is_no_void_where_ids_are_shifted() -> None:
    for coding in (ClassIds(first=1), ClassIds(ids=[1, 2, 3])):
        with pytest.raises(
            ConfigError, match=r"`ignore_index`.*left out with the coding ClassIds.*0.*'wall'"
        ):
            coding.of_task(Segmentation(["wall", "floor", "door"], ignore_index=0))
        coding.of_task(Segmentation(3))
    kept = Segmentation(3, ignore_index=0)  # on disk it is what it says
    label = ClassIds().of_task(kept).decode(uint8(0, 1, 2), PNG)
    assert kept.to_target(label).tolist() == [[-1, 1, 2]]


def test_one_channel_takes_grey_saved_as_rgb() -> None:
    grey = uint8(3, 4)
    assert one_channel(np.dstack([grey] * 3), PNG).tolist() == [[3, 4]]
    assert one_channel(grey[..., None], PNG).tolist() == [[3, 4]]
    with pytest.raises(DataError, match=r"should have the shape \[any, any, 3\]; found \[1, 2, 2\]"):
        one_channel(np.dstack([grey] * 2), PNG)


def test_scaled_values_and_their_holes() -> None:
    millimetres = np.array([[0, 1500, 65535]], np.uint16)
    read = Scaled(0.001, invalid=65535).decode(millimetres, PNG)
    assert read.dtype == np.float32
    np.testing.assert_allclose(read, [[0, 1.5, np.nan]])
    np.testing.assert_allclose(Scaled(0.5, hole=0.0, invalid=0).decode(uint8(0, 3), PNG), [[0, 1.5]])
    np.testing.assert_allclose(Scaled().decode(np.array([[1.5]]), PNG), [[1.5]])


def test_grey_depth_saved_as_rgb_is_one_channel() -> None:
    grey = np.array([[0, 1500]], np.uint16)
    coding = coding_for(Depth())
    assert isinstance(coding, Scaled)
    coding.scale = 0.001
    np.testing.assert_allclose(coding.decode(np.dstack([grey] * 3), PNG), [[0, 1.5]])
    np.testing.assert_allclose(coding.decode(grey[..., None], PNG), [[[0], [1.5]]])
    with pytest.raises(DataError, match="one value per pixel; found a colour picture"):
        coding.decode(np.dstack([grey, grey, grey + 1]), PNG)
    assert Scaled(0.001).decode(np.dstack([grey] * 3), PNG).shape == (1, 2, 3)  # may be an albedo


def test_a_scale_is_never_guessed() -> None:
    with pytest.raises(
        DataError, match=r"'folder/label\.png' should come with the size of one step.*uint16.*floating-point"
    ):
        Scaled().decode(np.zeros((1, 1), np.uint16), PNG)
    with pytest.raises(ConfigError, match=r"`scale` should be above 0; found 0"):
        Scaled(0)


def test_nan_in_a_measured_file_is_an_error_unless_it_means_invalid() -> None:
    holes = np.array([[1.0, np.nan, -np.inf, 2.0]])
    with pytest.raises(
        DataError, match=r"label\.png' should hold finite values; found NaN or infinity at 2 of 4"
    ):
        Scaled().decode(holes, PNG)
    read = Scaled(hole=0.0, nan_is_invalid=True).decode(holes, PNG)
    assert read.tolist() == [[1, 0, 0, 2]]
    assert np.isnan(Scaled(nan_is_invalid=True).decode(holes, PNG)).tolist() == [[False, True, True, False]]


def test_levels_span_low_to_high() -> None:
    np.testing.assert_allclose(Levels().decode(uint8(0, 255), PNG), [[0, 1]])
    np.testing.assert_allclose(Levels(-1, 3).decode(np.array([[0, 65535]], np.uint16), PNG), [[-1, 3]])
    np.testing.assert_allclose(Levels(maximum=100).decode(uint8(50, 200), PNG), [[0.5, 1]])
    np.testing.assert_allclose(Levels(low=5, high=7).decode(np.array([[6.5]]), PNG), [[6.5]])
    np.testing.assert_allclose(Levels().decode(np.array([[True, False]]), PNG), [[1, 0]])
    read = Levels(channels=3, invalid=13).decode(np.dstack([uint8(13, 13), uint8(13, 13), uint8(13, 0)]), PNG)
    assert np.isnan(read).tolist() == [[[True] * 3, [False] * 3]]
    np.testing.assert_array_equal(Levels(invalid=-1).decode(np.array([[-1, 0.5]]), PNG), [[np.nan, 0.5]])
    with pytest.raises(ConfigError, match=r"`maximum` should be above 0; found -1"):
        Levels(maximum=-1)
    # Of NumPy's usual integers, 0..255 would all be 0.
    grey = np.array([[0, 51, 255]])
    with pytest.raises(
        DataError, match=r"label.png' should come with the raw value that means 1.*int64.*`maximum`"
    ):
        Levels().decode(grey, PNG)
    np.testing.assert_allclose(Levels(maximum=255).decode(grey, PNG), [[0, 0.2, 1]])


def test_unit_vectors_from_pictures_and_arrays() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(9, 8, 3))
    vectors /= np.linalg.norm(vectors, axis=-1, keepdims=True)
    for coded in (
        np.rint(127.5 * (vectors + 1)).astype(np.uint8),
        np.rint(32767.5 * (vectors + 1)).astype(np.uint16),
        vectors.astype(np.float32),
    ):
        read = UnitVectors().decode(coded, PNG)
        np.testing.assert_allclose(np.linalg.norm(read, axis=-1), 1, atol=1e-6)
        assert np.abs(read - vectors).max() < 0.006
    for marker in ((128, 128, 128), (127, 127, 127), (0, 0, 0), (255, 255, 255)):
        assert UnitVectors().decode(uint8(marker), PNG).tolist() == [[[0, 0, 0]]]
    holes = np.array([[[0, 0, 0], [np.nan, 0, 1], [0, 0, -1]]], np.float32)
    assert UnitVectors().decode(holes, PNG).tolist() == [[[0, 0, 0], [0, 0, 0], [0, 0, -1]]]
    with pytest.raises(DataError, match=r"should have the shape \[any, any, 3\]; found \[1, 2\]"):
        UnitVectors().decode(uint8(1, 2), PNG)


@pytest.mark.parametrize("dtype", [np.int64, np.int8, np.int16])
def test_normals_in_integers_of_no_known_coding_are_refused(dtype: type) -> None:
    with pytest.raises(
        DataError, match=rf"should hold uint8 or uint16 or floating values; found {dtype.__name__}"
    ):
        UnitVectors().decode(np.full((2, 2, 3), 100, dtype), PNG)


class TestWhatIsNoNormal:
    """Files whose single pixels could pass as vectors, mostly (n + 1) / 2."""

    @pytest.fixture
    def vectors(self) -> np.ndarray:
        vectors = np.random.default_rng(0).normal(size=(40, 50, 3))
        vectors[..., 2] = -np.abs(vectors[..., 2])
        return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)

    def test_a_shifted_and_halved_vector(self, vectors: np.ndarray) -> None:
        shifted = (vectors + 1) / 2
        valid = np.linalg.norm(shifted, axis=-1)
        assert ((valid > 0.5) & (valid < 1.5)).mean() > 0.7  # pixel by pixel most would be taken
        for hole in (False, True):
            shifted[:9] = 0 if hole else shifted[:9]
            with pytest.raises(DataError, match=r"label\.png' should hold unit vectors.*\(n \+ 1\) / 2"):
                UnitVectors().decode(shifted, PNG)

    def test_one_of_a_median_length_of_1(self, vectors: np.ndarray) -> None:
        shifted = (vectors + 1) / 2
        shifted /= np.median(np.linalg.norm(shifted, axis=-1))
        with pytest.raises(DataError, match=r"some of them negative.*found none, and lengths that differ"):
            UnitVectors().decode(shifted, PNG)

    def test_values_up_to_255(self, vectors: np.ndarray) -> None:
        with pytest.raises(DataError, match=r"unit vectors.*median length of 2"):
            UnitVectors().decode(127.5 * (vectors + 1), PNG)

    def test_what_is_one_is_taken(self, vectors: np.ndarray) -> None:
        wall = np.zeros((4, 5, 3), np.float32)
        wall[1:, :, 2] = 1  # no negative component, but a length of exactly 1
        np.testing.assert_array_equal(UnitVectors().decode(wall, PNG), wall)
        np.testing.assert_array_equal(UnitVectors().decode(np.zeros_like(wall), PNG), 0)
        blurred = (vectors + np.roll(vectors, 1, 0)) / 2  # as resizing leaves them at some pixels
        mixed = np.where(np.arange(40)[:, None, None] % 4 == 0, blurred, vectors)
        assert (np.linalg.norm(UnitVectors().decode(mixed, PNG), axis=-1) > 0.99).mean() > 0.9


def test_the_usual_coding_follows_from_the_task() -> None:
    class Hue(DenseRegression):
        pass

    assert isinstance(coding_for(Segmentation(3)), ClassIds)
    assert isinstance(coding_for(Normals()), UnitVectors)
    assert isinstance(coding_for(Depth()), Scaled)
    assert isinstance(coding_for(Classification(3)), AsStored)
    hue = coding_for(Hue(channels=3, low=0, high=360))
    assert isinstance(hue, Levels)
    assert hue.decode(np.full((1, 1, 3), 255, np.uint8), PNG).tolist() == [[[360, 360, 360]]]


def test_taskonomy_depth_is_in_metres_and_65535_is_invalid() -> None:
    raw = np.array([[0, 512, 1024, 65534, 65535]], np.uint16)
    np.testing.assert_allclose(DepthSteps().decode(raw, PNG), [[0, 1, 2, 65534 / 512, 0]])
    np.testing.assert_allclose(DepthSteps(8 / 65535).decode(raw[:, 3:], PNG), [[8 * 65534 / 65535, 0]])
    target = Depth().to_target(DepthSteps().decode(raw, PNG))[None]
    assert Depth().valid(target)[0, 0].tolist() == [[False, True, True, True, False]]


def test_8_bit_depth_is_refused() -> None:
    with pytest.raises(
        DataError, match=r"depth file 'folder/label\.png' should be a 16-bit grey PNG; found 8 bits.*original"
    ):
        DepthSteps().decode(uint8(1, 2), PNG)
    with pytest.raises(DataError, match=r"should have the shape \[any, any\]; found \[1, 2, 3\]"):
        DepthSteps().decode(np.zeros((1, 2, 3), np.uint16), PNG)
    with pytest.raises(ConfigError, match=r"metres per step.*should be above 0; found -1"):
        DepthSteps(-1)


def test_curvature_is_centred_at_127_and_black_is_invalid() -> None:
    raw = uint8((127, 254, 0), (0, 127, 0), (0, 0, 0), (255, 127, 0))
    read = CurvatureColours().decode(raw, PNG)
    np.testing.assert_allclose(read, [[[0, 1], [-1, 0], [np.nan, np.nan], [1, 0]]])


def test_most_likely_class_of_a_vector() -> None:
    assert MostLikely(4).decode(np.array([[0.1, 0.2, 0.6, 0.1]]), PNG) == 2
    with pytest.raises(DataError, match=r"should have the shape \[1000\]; found \[4\]"):
        MostLikely(1000).decode(np.zeros(4), PNG)


def test_heat_maps_are_clipped_where_the_authors_clip() -> None:
    domains = known_domains()
    for name, clip in (
        ("edge_texture", 0.08),
        ("edge_occlusion", 0.00625),
        ("keypoints2d", 0.005),
        ("keypoints3d", 1),
    ):
        raw = np.array([[0, 65535 * clip / 2, 65535]]).astype(np.uint16)
        expected = [[0, int(raw[0, 1]) / (65535 * clip), 1]]
        np.testing.assert_allclose(domains[name].coding.decode(raw, PNG), expected, rtol=1e-6)


@pytest.mark.parametrize("name", ["edge_texture", "edge_occlusion", "keypoints2d", "keypoints3d"])
def test_8_bit_heat_maps_are_refused(name: str) -> None:
    with pytest.raises(
        DataError, match=r"heat map 'folder/label\.png' should be a 16-bit grey.*8 bits.*Levels.*`maximum`"
    ):
        known_domains()[name].coding.decode(uint8(0, 255), PNG)


def test_every_known_domain_has_a_task_that_takes_what_it_decodes() -> None:
    domains = known_domains()
    for name, raw in {
        "depth_zbuffer": np.full((2, 3), 700, np.uint16),
        "depth_euclidean": np.full((2, 3), 700, np.uint16),
        "normal": np.full((2, 3, 3), 200, np.uint8),
        "principal_curvature": np.full((2, 3, 3), 90, np.uint8),
        "reshading": np.full((2, 3, 3), 90, np.uint8),
        "edge_texture": np.full((2, 3), 700, np.uint16),
        "edge_occlusion": np.full((2, 3), 70, np.uint16),
        "keypoints2d": np.full((2, 3), 70, np.uint16),
        "keypoints3d": np.full((2, 3), 70, np.uint16),
        "segment_semantic": np.full((2, 3), 17, np.uint8),
        "class_object": np.eye(1000)[3],
        "class_scene": np.eye(365)[3],
    }.items():
        make = domains[name].task
        assert make is not None
        target = make().to_target(domains[name].coding.decode(raw, PNG))
        assert make().valid(target[None]).all(), name
    assert domains["semantic"].task is None


@pytest.mark.parametrize("dtype", [">f4", ">i2", "<f8", "longdouble", "?"])
def test_values_as_stored_are_of_a_type_that_torch_takes(dtype: str) -> None:
    raw = np.array([[1, 0]]).astype(dtype)
    label = AsStored().decode(raw, PNG)
    assert torch.as_tensor(label).tolist() == [[1, 0]]
    assert label.dtype.itemsize == min(raw.dtype.itemsize, 8)
