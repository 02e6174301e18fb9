"""Folders of images: classes, splits, modes, and what is wrong with a file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from criterium.data import load

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


def test_images_of_different_sizes_name_both_files(tmp_path: Path) -> None:
    save(fill(tmp_path) / "bee" / "wide.png", size=(10, 8))
    with pytest.raises(
        ValueError, match=r"bee/wide\.png: has 10x8 pixels but .*ant/0\.png has 9x8, expected"
    ):
        load(f"folder:{tmp_path}")


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
    with pytest.raises(
        ValueError, match="sub-folders train, val, of which train and val hold folders; expected"
    ):
        load(f"folder:{tmp_path}")
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
