"""Folders of images: classes, splits, modes, and what is wrong with a file."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from criterium.data import load
from criterium.data.images import read_image

DRAW = np.random.default_rng(0)


def save(path: Path, mode: str = "L", size: tuple[int, int] = (9, 8)) -> np.ndarray:
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (size[1], size[0], 3) if mode == "RGB" else (size[1], size[0])
    pixels = DRAW.integers(0, 256, shape).astype(np.uint8)
    Image.fromarray(pixels).save(path)
    return pixels


def fill(folder: Path, count: int = 10, mode: str = "L", classes: tuple[str, ...] = ("ant", "bee")) -> Path:
    for name in classes:
        for number in range(count):
            save(folder / name / f"{number}.png", mode)
    return folder


def test_one_folder_a_class(tmp_path: Path) -> None:
    (fill(tmp_path) / ".hidden").mkdir()
    (tmp_path / "ant" / ".thumbs").write_text("no image")
    (tmp_path / "readme.txt").write_text("not a class")
    data = load(f"folder:{tmp_path}")
    assert data.classes == ("ant", "bee")
    assert [len(part) for part in (data.train, data.validation, data.test)] == [12, 4, 4]
    assert data.train.inputs.shape == (12, 1, 8, 9)
    wanted = {np.asarray(Image.open(path)).tobytes(): path.parent.name for path in tmp_path.glob("*/*.png")}
    for part in (data.train, data.validation, data.test):
        for image, target in zip(part.inputs, part.targets.tolist(), strict=True):
            assert wanted.pop(image.numpy().tobytes()) == data.classes[target]
    assert not wanted


def test_given_parts_are_kept(tmp_path: Path) -> None:
    for part, count in (("train", 10), ("val", 3), ("test", 5)):
        fill(tmp_path / part, count, "RGB")
    data = load(f"folder:{tmp_path}")
    assert [len(part) for part in (data.train, data.validation, data.test)] == [20, 6, 10]
    assert data.train.inputs.shape == (20, 3, 8, 9)
    first = np.asarray(Image.open(tmp_path / "test" / "bee" / "0.png"))
    np.testing.assert_array_equal(data.test.inputs[5].numpy().transpose(1, 2, 0), first)


def test_a_given_test_part_alone_leaves_validation_to_the_draw(tmp_path: Path) -> None:
    fill(tmp_path / "train", 10)
    fill(tmp_path / "test", 5)
    data = load(f"folder:{tmp_path}")
    assert [len(part) for part in (data.train, data.validation, data.test)] == [16, 4, 10]


def test_classes_may_be_called_train_and_test(tmp_path: Path) -> None:
    assert load(f"folder:{fill(tmp_path, classes=('test', 'train'))}").classes == ("test", "train")


def test_grey_beside_colour_becomes_colour(tmp_path: Path) -> None:
    fill(tmp_path, mode="RGB")
    grey = save(tmp_path / "ant" / "grey.png", "L")
    data = load(f"folder:{tmp_path}")
    images = np.concatenate([part.inputs.numpy() for part in (data.train, data.validation, data.test)])
    assert images.shape == (21, 3, 8, 9)
    assert sum((image == grey).all() for image in images) == 1


def test_palettes_and_alpha_become_plain_channels(tmp_path: Path) -> None:
    fill(tmp_path)
    Image.fromarray(DRAW.integers(0, 2, (8, 9)).astype(bool)).save(tmp_path / "ant" / "bits.png")
    assert load(f"folder:{tmp_path}").train.inputs.shape[1] == 1
    Image.new("RGBA", (9, 8), (1, 2, 3, 255)).save(tmp_path / "ant" / "alpha.png")
    Image.new("P", (9, 8), 5).save(tmp_path / "ant" / "palette.png")
    assert load(f"folder:{tmp_path}").train.inputs.shape[1] == 3


def test_images_of_different_sizes_are_cropped_and_resized(tmp_path: Path) -> None:
    for number in range(10):  # a grey ramp from left to right, of any size and place
        for name, size in (("ant", (20 + number, 20)), ("bee", (20, 25))):
            (tmp_path / name).mkdir(exist_ok=True)
            ramp = np.tile(np.linspace(number, 255 - number, size[0]).astype(np.uint8), (size[1], 1))
            Image.fromarray(ramp).save(tmp_path / name / f"{number}.png")
    data = load(f"folder:{tmp_path}")
    assert data.train.inputs.shape[1:] == (1, 20, 20)
    note = "The images are of 11 sizes, from 20x20 to 29x20 pixels: each was cropped to a square around its"
    assert f"{note} centre and resized to 20x20 (bicubic)." in data.notes
    for part in (data.train, data.validation, data.test):
        assert (part.inputs.double().mean((1, 2, 3)) - 127).abs().max() < 2  # the centre stays the centre
        assert (part.inputs[:, 0].int().diff(dim=2) >= 0).all()
    small = load(f"folder:{tmp_path}", image_size=8)
    assert small.train.inputs.shape[1:] == (1, 8, 8)
    assert load(f"folder:{fill(tmp_path / 'same')}", image_size=4).train.inputs.shape[1:] == (1, 4, 4)


def test_images_are_read_as_they_are_seen(tmp_path: Path) -> None:
    fill(tmp_path, mode="RGB")
    seen = {}
    for turn in range(1, 9):
        pixels = DRAW.integers(0, 256, (9, 9, 3)).astype(np.uint8)
        exif = Image.Exif()
        exif[0x0112] = turn
        Image.fromarray(pixels).save(tmp_path / f"{turn}.png", exif=exif)
        stored = {
            2: pixels[:, ::-1],
            3: pixels[::-1, ::-1],
            4: pixels[::-1],
            5: pixels.transpose(1, 0, 2),
            6: np.rot90(pixels, -1),
            7: np.rot90(pixels, 2).transpose(1, 0, 2),
            8: np.rot90(pixels, 1),
        }
        seen[turn] = stored.get(turn, pixels)
        np.testing.assert_array_equal(read_image(tmp_path / f"{turn}.png"), seen[turn])
    exif[0x0112] = 6
    Image.fromarray(DRAW.integers(0, 256, (9, 8, 3)).astype(np.uint8)).save(
        tmp_path / "ant" / "t.jpg", exif=exif
    )
    data = load(f"folder:{tmp_path}")  # on its side it has the size of the others
    assert "1 image turned upright, as their EXIF orientation says." in data.notes


@pytest.mark.parametrize("mode", ["LA", "RGBA", "P", "L"])
def test_what_is_transparent_is_white(tmp_path: Path, mode: str) -> None:
    glyph = np.zeros((8, 9, 4), dtype=np.uint8)  # black on transparent ground
    glyph[2:5, 3:6, 3] = 255
    image, options = Image.fromarray(glyph).convert("RGBA"), {}
    if mode in ("P", "L"):
        grey = np.where(glyph[..., 3] > 0, 0, 7).astype(np.uint8)
        image, options = Image.fromarray(grey), {"transparency": 7}
        image = image.convert("P") if mode == "P" else image
    else:
        image = image.convert(mode)
    image.save(tmp_path / "t.png", **options)
    found = Counter[str]()
    pixels = read_image(tmp_path / "t.png", found)
    assert (pixels == np.where(glyph[..., 3:] > 0, 0, 255)).all()
    assert found["on white"] == 1
    assert pixels.shape[2] == (1 if mode in ("L", "LA") else 3)


def test_half_transparent_is_half_white(tmp_path: Path) -> None:
    Image.new("RGBA", (9, 8), (100, 0, 200, 51)).save(tmp_path / "t.png")
    expected = np.array([100, 0, 200]) * 0.2 + 255 * 0.8
    assert np.abs(read_image(tmp_path / "t.png") - expected).max() <= 1


@pytest.mark.parametrize(
    ("names", "sizes"),
    [
        (("Train", "Test"), (16, 4, 10)),
        (("train", "val"), (16, 4, 10)),
        (("TRAIN", "valid"), (16, 4, 10)),
        (("training", "validation", "testing"), (20, 10, 10)),
    ],
)
def test_parts_have_the_names_that_people_give_them(
    tmp_path: Path, names: tuple[str, ...], sizes: tuple[int, ...]
) -> None:
    for name in names:
        fill(tmp_path / name, 10 if name.lower().startswith("train") else 5)
    data = load(f"folder:{tmp_path}")
    assert (len(data.train), len(data.validation), len(data.test)) == sizes
    note = f"The folder {names[1]} is tested on: there is none for a test part."
    assert (note in data.notes) == (len(names) == 2 and names[1].startswith("val"))


def test_what_is_no_image_by_its_name_is_left_out_with_a_note(tmp_path: Path) -> None:
    fill(tmp_path)
    for name in ("Thumbs.db", "desktop.ini", "labels.JSON", ".DS_Store"):
        (tmp_path / "ant" / name).write_bytes(b"no image")
    notes = load(f"folder:{tmp_path}").notes
    left = "ant/Thumbs.db, ant/desktop.ini, ant/labels.JSON"
    assert f"Files left out, no images by their names: {left}." in notes


def test_nested_class_folders_on_request(tmp_path: Path) -> None:
    save(fill(tmp_path) / "ant" / "more" / "deep" / "x.png")
    with pytest.raises(ValueError, match="ant/more: is a folder, expected an image"):
        load(f"folder:{tmp_path}")
    data = load(f"folder:{tmp_path}", nested=True)
    assert len(data.train) + len(data.validation) + len(data.test) == 21
    assert data.classes == ("ant", "bee")


def test_a_few_bad_images_are_left_out_on_request(tmp_path: Path) -> None:
    fill(tmp_path)
    whole = (tmp_path / "ant" / "0.png").read_bytes()
    (tmp_path / "ant" / "3.png").write_bytes(b"no image")
    (tmp_path / "bee" / "4.png").write_bytes(whole[:-30])
    data = load(f"folder:{tmp_path}", skip_bad=2)
    assert len(data.train) + len(data.validation) + len(data.test) == 18
    assert "2 images left out, which cannot be read: ant/3.png, bee/4.png." in data.notes
    with pytest.raises(ValueError, match=r"bee/4\.png: .*; skip_bad=1 leaves no more out"):
        load(f"folder:{tmp_path}", skip_bad=1)


def test_broken_images_are_named(tmp_path: Path) -> None:
    fill(tmp_path)
    whole = (tmp_path / "ant" / "0.png").read_bytes()
    for contents in (b"", b"no image", whole[:60], whole[:-30]):
        (tmp_path / "ant" / "3.png").write_bytes(contents)
        with pytest.raises(
            ValueError, match=r"ant/3\.png: .*; expected an image of 8 bits a channel"
        ) as caught:
            load(f"folder:{tmp_path}")
        assert "\n" not in str(caught.value)
    Image.fromarray(np.full((8, 9), 40_000, dtype=np.uint16)).save(tmp_path / "ant" / "3.png")
    with pytest.raises(ValueError, match=r"ant/3\.png: its mode I;16 has more than 8 bits a channel"):
        load(f"folder:{tmp_path}")


def test_a_class_of_the_test_part_must_be_trained(tmp_path: Path) -> None:
    fill(tmp_path / "train")
    fill(tmp_path / "test", classes=("ant", "cow"))
    with pytest.raises(ValueError, match="class 'cow' occurs in the test part but not in the training part"):
        load(f"folder:{tmp_path}")


def test_folders_of_another_shape_get_one_line(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="none: no such folder, expected one that holds a sub-folder"):
        load(f"folder:{tmp_path / 'none'}")
    with pytest.raises(ValueError, match="has no sub-folders, expected one of images for each class"):
        load(f"folder:{tmp_path}")
    fill(tmp_path / "train")
    fill(tmp_path / "val", 3)
    fill(tmp_path / "test", 3)
    (tmp_path / "valid").mkdir()
    with pytest.raises(
        ValueError, match="sub-folders test, train, val, valid, of which test and train and val"
    ):
        load(f"folder:{tmp_path}")
    (tmp_path / "valid").rmdir()
    (tmp_path / "test" / "cow").mkdir()
    with pytest.raises(ValueError, match="test/cow: is empty, expected images of the class 'cow'"):
        load(f"folder:{tmp_path}")


def test_one_class_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="data: got one class, 'ant', expected at least two"):
        load(f"folder:{fill(tmp_path, classes=('ant',))}")
