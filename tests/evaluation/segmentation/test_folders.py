"""DAVIS 2017 and YouTube-VOS as they are shipped: which videos, frames and masks are read."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pipeline.configuration.schema import MaskFolder
from pipeline.errors import UserError
from pipeline.evaluation.segmentation import folders, frame_files
from pipeline.evaluation.segmentation.sources import FolderSource, Lost, MaskedClip, scaled_masks

SIZE = (24, 40)  # height, width
PALETTE = [0, 0, 0, 128, 0, 0, 0, 128, 0, 128, 128, 0]  # as DAVIS: colours are not numbers


def write_video(pictures: Path, masks: Path, frames: int, *, labelled: int | None = None) -> None:
    """A white square, object 2, that walks to the right by a pixel a frame, over grey.

    The grey is 10 x the frame's number; every fifth has a mask where `labelled` is 5.
    """
    pictures.mkdir(parents=True)
    masks.mkdir(parents=True)
    for number in range(frames):
        picture = np.full((*SIZE, 3), 10 * number, np.uint8)
        picture[4:12, number : number + 8] = 255
        Image.fromarray(picture).save(pictures / f"{number:05d}.jpg", quality=100)
        if number % (labelled or 1) == 0:
            mask = np.zeros(SIZE, np.uint8)
            mask[4:12, number : number + 8] = 2
            image = Image.fromarray(mask, mode="P")
            image.putpalette(PALETTE)
            image.save(masks / f"{number:05d}.png")


@pytest.fixture
def davis(tmp_path: Path) -> MaskFolder:
    root = tmp_path / "DAVIS"
    for name in ("bear", "swan", "train-only"):
        write_video(root / "JPEGImages/480p" / name, root / "Annotations/480p" / name, 6)
    (root / "ImageSets/2017").mkdir(parents=True)
    (root / "ImageSets/2017/val.txt").write_text("swan\nbear\n")
    return MaskFolder(name="DAVIS", kind="davis2017", root=str(root), split="val")


@pytest.fixture
def youtube(tmp_path: Path) -> MaskFolder:
    root = tmp_path / "YouTubeVOS"
    for name, labelled in (("b1", 5), ("a0", 100)):
        folder = root / "train"
        write_video(
            folder / "JPEGImages" / name, folder / "Annotations" / name, 12, labelled=labelled
        )
    (root / "train/meta.json").write_text(json.dumps({"videos": {"b1": {}, "a0": {}, "gone": {}}}))
    return MaskFolder(name="YTVOS", kind="youtube_vos", root=str(root), split="train")


def test_davis_reads_its_list_with_numbers_of_objects(davis: MaskFolder) -> None:
    """Videos of other splits, masks read as colours, frames or masks of another moment."""
    source = FolderSource("DAVIS", folders.videos(davis))
    assert source.ids == ["swan", "bear"]
    clip = source.clip(0, 3, 32, 24)
    assert isinstance(clip, MaskedClip)
    assert (clip.frames.shape, clip.masks.shape) == ((3, 32, 32, 3), (3, 24, 24))
    assert set(np.unique(clip.masks)) == {0, 2}
    assert np.median(clip.frames, (1, 2, 3)) == pytest.approx(
        [10, 30, 50], abs=2
    )  # middles of thirds
    for number, mask in zip((1, 3, 5), clip.masks, strict=True):
        left = np.flatnonzero(mask.any(0)).min() * SIZE[1] / 24
        assert left == pytest.approx(number, abs=SIZE[1] / 24)


def test_youtube_vos_looks_at_labelled_frames_alone(youtube: MaskFolder) -> None:
    """Pictures without a mask in a clip, and videos with one labelled frame scored as if they
    stood still (the public masks of the split `valid`)."""
    source = FolderSource("YTVOS", folders.videos(youtube))
    assert source.ids == ["a0", "b1", "gone"]
    one, three, none = (source.clip(place, 4, 16, 16) for place in range(3))
    assert isinstance(one, Lost)
    assert isinstance(none, Lost)
    assert isinstance(three, MaskedClip)
    assert (one.outcome, none.outcome) == ("too_short", "missing")
    assert np.median(three.frames, (1, 2, 3)) == pytest.approx([0, 50, 50, 100], abs=2)


def test_damaged_videos_are_lost_with_a_reason(davis: MaskFolder) -> None:
    """A crash for one bad file among thousands, or a mask of colours taken for numbers."""
    root = Path(davis.root)
    (root / "JPEGImages/480p/swan/00003.jpg").write_bytes(b"not a picture")
    Image.new("RGB", (SIZE[1], SIZE[0])).save(root / "Annotations/480p/bear/00001.png")
    source = FolderSource("DAVIS", folders.videos(davis))
    swan, bear = source.clip(0, 6, 16, 16), source.clip(1, 6, 16, 16)
    assert isinstance(swan, Lost)
    assert isinstance(bear, Lost)
    assert (swan.outcome, bear.outcome) == ("corrupt", "corrupt")
    assert "00003.jpg" in swan.reason
    assert str(root) not in swan.reason
    assert "no numbered pixels" in bear.reason
    Image.new("P", (SIZE[1], SIZE[0] + 2)).save(root / "Annotations/480p/bear/00001.png")
    bear = FolderSource("DAVIS", folders.videos(davis)).clip(1, 6, 16, 16)
    assert isinstance(bear, Lost)
    assert "several sizes" in bear.reason


def test_what_the_user_must_put_right_is_said(davis: MaskFolder, youtube: MaskFolder) -> None:
    """Tracebacks, or an empty table, for a wrong folder, list or archive that is half unpacked."""
    with pytest.raises(UserError, match="no list of videos"):
        folders.videos(davis.model_copy(update={"split": "test"}))
    with pytest.raises(UserError, match="no such folder"):
        folders.videos(davis.model_copy(update={"resolution": "1080p"}))
    listed = Path(davis.root) / "ImageSets/2017/val.txt"
    for text, said in (("", "no video"), ("../../etc\n", "not a video's name")):
        listed.write_text(text)
        with pytest.raises(UserError, match=said):
            folders.videos(davis)
    for text in ("{", "[]", '{"videos": 3}'):
        (Path(youtube.root) / "train/meta.json").write_text(text)
        with pytest.raises(UserError, match=r"meta\.json"):
            folders.videos(youtube)


def test_masks_are_scaled_without_new_numbers() -> None:
    """A scaling that blends two objects into a third, or moves them."""
    rng = np.random.default_rng(0)
    masks = rng.choice(np.array([0, 7, 200], np.uint8), (2, 9, 13))
    assert set(np.unique(scaled_masks(masks, 31))) <= {0, 7, 200}
    square = rng.integers(0, 9, (2, 16, 16)).astype(np.uint8)
    np.testing.assert_array_equal(scaled_masks(square, 16), square)
    np.testing.assert_array_equal(scaled_masks(square, 32), square.repeat(2, 1).repeat(2, 2))


def own(tmp_path: Path, pictures: list[str], masks: list[str], value: int = 2) -> FolderSource:
    """A folder of one's own in DAVIS's form with a video `mine`; frame k is of grey 10 x k."""
    root = tmp_path / "own"
    shown, drawn = root / "JPEGImages/480p/mine", root / "Annotations/480p/mine"
    for folder in (shown, drawn, root / "ImageSets/2017"):
        folder.mkdir(parents=True)
    for number, name in enumerate(pictures):
        kind = "png" if name.lower().endswith(".png") else "jpeg"
        Image.new("RGB", (40, 24), (10 * number,) * 3).save(shown / name, format=kind)
    for number, name in enumerate(masks):
        mask = np.zeros((24, 40), np.uint8)
        mask[4:12, number : number + 8] = value
        Image.fromarray(mask).save(drawn / name, format="png")
    (root / "ImageSets/2017/val.txt").write_text("mine\n")
    data = MaskFolder(name="own", kind="davis2017", root=str(root), split="val")
    return FolderSource("own", folders.videos(data))


def lost(source: FolderSource) -> Lost:
    found = source.clip(0, 4, 16, 16)
    assert isinstance(found, Lost)
    return found


@pytest.mark.parametrize(
    ("picture", "mask"),
    [
        ("{}.jpg", "{}.png"),
        ("{}.jpeg", "{}.png"),
        ("{}.JPG", "{}.PNG"),
        ("{}.png", "{}.png"),
        ("{:05d}.jpg", "{}.png"),
        ("{}.jpg", "{:04d}.png"),
        ("frame{}.jpg", "frame{}.png"),
        ("frame_{}_left.jpg", "mask-{:03d}.png"),
    ],
)
def test_frames_are_in_the_order_of_their_numbers(tmp_path: Path, picture: str, mask: str) -> None:
    """Catches 0, 1, 10, 11, 2 ...: a video whose frames jump, scored as if nothing were; suffixes
    that are not known; and masks of another frame where the two count otherwise."""
    numbers = range(12)
    source = own(tmp_path, [picture.format(n) for n in numbers], [mask.format(n) for n in numbers])
    root = tmp_path / "own"
    for stray in ("JPEGImages/480p/mine/._0.jpg", "JPEGImages/480p/mine/Thumbs.db"):
        (root / stray).write_bytes(b"no picture")
    clip = source.clip(0, 12, 24, 24)
    assert isinstance(clip, MaskedClip)
    np.testing.assert_allclose(np.median(clip.frames, (1, 2, 3)), 10 * np.arange(12), atol=2)
    lefts = [np.flatnonzero(each.any(0)).min() for each in clip.masks]
    assert lefts == sorted(lefts)


@given(
    numbers=st.lists(st.integers(0, 10**9), min_size=2, max_size=30, unique=True),
    before=st.sampled_from(["", "f", "frame_", "cam 1 "]),
    after=st.sampled_from(["", "_x", "-L"]),
    digits=st.integers(1, 10),
)
def test_any_numbers_are_in_order(numbers: list[int], before: str, after: str, digits: int) -> None:
    """Catches an order that depends on how numbers are written."""
    names = [f"{before}{number:0{digits}d}{after}" for number in numbers]
    expected = [f"{before}{number:0{digits}d}{after}" for number in sorted(numbers)]
    assert frame_files.in_order(names) == expected


@pytest.mark.parametrize(
    ("pictures", "masks", "said"),
    [
        (["a.jpg", "bb.jpg"], ["a.png", "bb.png"], "order of its frames cannot be told"),
        (["0.5.jpg", "0.10.jpg"], ["0.5.png", "0.10.png"], "order of its frames"),
        (["1.jpg", "01.jpg"], ["1.png", "01.png"], "two files are of one frame"),
        (["0.jpg", "0.jpeg"], ["0.png", "1.png"], "two files are of one frame: 0.jpeg, 0.jpg"),
        (["0.jpg", "1.jpg"], ["1.png", "2.png"], "numbered 0 to 1, its masks 1 to 2"),
    ],
)
def test_what_is_unclear_is_refused(
    tmp_path: Path, pictures: list[str], masks: list[str], said: str
) -> None:
    """Catches a guess at which frame is which."""
    found = lost(own(tmp_path, pictures, masks))
    assert found.outcome == "unclear"
    assert said in found.reason


@pytest.mark.parametrize(
    ("pictures", "masks", "said"),
    [
        (["a.jpg", "b.jpg"], ["c.png", "d.png"], "such as a.jpg, masks such as c.png"),
        (["0.jpg", "1.jpg"], [], "no masks (.png) in 480p/mine, which holds nothing"),
        ([], ["0.png"], "no pictures (.jpg, .jpeg, .png) in 480p/mine"),
    ],
)
def test_no_frame_says_why(
    tmp_path: Path, pictures: list[str], masks: list[str], said: str
) -> None:
    """Catches "0 frames have both" without the cause."""
    found = lost(own(tmp_path, pictures, masks))
    assert found.outcome == "missing"
    assert said in found.reason


def test_masks_of_255_are_named(tmp_path: Path) -> None:
    """Catches "no object" where there is one, of the number that is void here."""
    names = [f"{n}" for n in range(3)]
    found = lost(own(tmp_path, [f"{n}.jpg" for n in names], [f"{n}.png" for n in names], 255))
    assert found.outcome == "no_object"
    assert "255" in found.reason


def test_shades_are_no_objects(tmp_path: Path) -> None:
    """Catches a mask of soft edges taken for a hundred objects, which would take hours."""
    source = own(tmp_path, ["0.jpg", "1.jpg"], [])
    for n in range(2):
        shades = np.linspace(0, 255, 24 * 40).reshape(24, 40).astype(np.uint8)
        Image.fromarray(shades).save(tmp_path / f"own/Annotations/480p/mine/{n}.png")
    data = MaskFolder(name="own", kind="davis2017", root=str(tmp_path / "own"), split="val")
    source = FolderSource("own", folders.videos(data))
    assert "shades of grey" in lost(source).reason


def test_lists_with_a_mark_twice_or_no_text(davis: MaskFolder) -> None:
    """Catches a video that is scored twice, and a traceback for a list of another encoding."""
    listed = Path(davis.root) / "ImageSets/2017/val.txt"
    listed.write_bytes(b"\xef\xbb\xbfswan\r\nbear\r\n")
    assert [video.id for video in folders.videos(davis)] == ["swan", "bear"]
    for content, said in ((b"swan\nswan\n", "twice"), (b"\xff\xfes\x00", "no text")):
        listed.write_bytes(content)
        with pytest.raises(UserError, match=said):
            folders.videos(davis)
