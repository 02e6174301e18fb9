"""OOD inputs: held-out classes, other sources, and their form."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from criterium.data import load
from criterium.data.ood import match_form

DRAW = np.random.default_rng(0)


def images(rows: int, *shape: int) -> np.ndarray:
    return DRAW.integers(0, 256, (rows, *shape)).astype(np.uint8)


def write(path: Path, shape: tuple[int, ...], **more: np.ndarray) -> str:
    arrays = {
        "x_train": images(80, *shape),
        "y_train": np.arange(80) % 4,
        "x_test": images(40, *shape),
        "y_test": np.arange(40) % 4,
    }
    np.savez(path, **(arrays | more))
    return f"npz:{path}"


def test_held_out_classes_give_all_their_rows_where_we_split() -> None:
    digits = load("digits", ood="classes:0, 3")
    assert digits.classes == ("1", "2", "4", "5", "6", "7", "8", "9")
    assert digits.ood is not None
    assert len(digits.ood) == 178 + 183
    kept = sum(len(part) for part in (digits.train, digits.validation, digits.test))
    assert kept + len(digits.ood) == 1797
    known = {tuple(row) for part in (digits.train, digits.test) for row in part.inputs.flatten(1).tolist()}
    assert not known & set(map(tuple, digits.ood.flatten(1).tolist()))
    assert digits.notes[0] == "Classes 0 and 3 were left out of training and serve as OOD inputs."


def test_held_out_classes_give_their_test_rows_where_the_source_has_a_test_part(tmp_path: Path) -> None:
    names = np.array(["ant", "bee", "cow", "dog"])
    source = write(tmp_path / "set.npz", (8, 8), classes=names)
    test = np.load(tmp_path / "set.npz")["x_test"]
    for wanted in ("classes:bee", "classes:1"):
        data = load(source, ood=wanted)
        assert data.classes == ("ant", "cow", "dog")
        assert data.ood is not None
        np.testing.assert_array_equal(data.ood[:, 0].numpy(), test[1::4])
        np.testing.assert_array_equal(data.test.inputs[:, 0].numpy(), np.delete(test, np.s_[1::4], axis=0))
        assert data.test.targets.tolist() == [0, 1, 2] * 10
        assert len(data.train) + len(data.validation) == 60
        assert data.notes == ("Class bee was left out of training and serves as OOD inputs.",)


def test_names_go_before_numbers(tmp_path: Path) -> None:
    source = write(tmp_path / "set.npz", (8, 8), classes=np.array(["3", "2", "1", "0"]))
    assert load(source, ood="classes:3").classes == ("2", "1", "0")


def test_a_class_that_only_the_test_part_has_can_be_held_out(tmp_path: Path) -> None:
    source = write(tmp_path / "set.npz", (8, 8), y_train=np.arange(80) % 3)
    with pytest.raises(ValueError, match="class '3' occurs in the test part but not in the training part"):
        load(source)
    data = load(source, ood="classes:3")
    assert (data.classes, len(data.test)) == (("0", "1", "2"), 30)


def test_images_from_another_source_take_the_form_of_the_data(tmp_path: Path) -> None:
    source = write(tmp_path / "colour.npz", (12, 10, 3))
    data = load(source, ood="digits")
    assert data.ood is not None
    assert (data.ood.shape, data.ood.dtype, data.ood_name) == ((1797, 3, 12, 10), torch.uint8, "digits")
    assert (data.ood[:, 0] == data.ood[:, 2]).all()
    assert data.notes == (
        "The images from digits were made RGB.",
        "The images from digits were resized from 8x8 to 10x12 pixels (bilinear).",
    )
    digits = load("digits", ood=source)
    assert digits.ood is not None
    assert digits.ood.shape == (40, 1, 8, 8)
    assert digits.classes == tuple("0123456789")


def test_forms_that_agree_are_left_alone() -> None:
    same = images(5, 3, 8, 8)
    result, notes = match_form("x", same, images(2, 3, 8, 8))
    np.testing.assert_array_equal(result, same)
    assert notes == []


def test_grey_is_the_luma_of_the_colours() -> None:
    colours = np.zeros((4, 3, 8, 8), dtype=np.uint8)
    for row, colour in enumerate([(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)]):
        colours[row] = np.array(colour)[:, None, None]
    grey, _ = match_form("x", colours, images(1, 1, 8, 8))
    assert grey[:, 0, 0, 0].tolist() == [76, 150, 29, 255]


def test_resizing_keeps_flat_images_and_averages_when_it_shrinks() -> None:
    flat = np.full((1, 1, 5, 7), 200, dtype=np.uint8)
    grown, _ = match_form("x", flat, images(1, 1, 32, 32))
    assert (grown == 200).all()
    stripes = np.where(np.isin(np.arange(16) % 4, (1, 2)), 255, 0).astype(np.uint8)
    shrunk, _ = match_form("x", np.tile(stripes, (16, 1))[None, None], images(1, 1, 4, 4))
    assert np.abs(shrunk.astype(int) - 127.5).max() < 40  # the two pixels in the middle alone would give 255


def test_inputs_that_the_data_holds_too_are_counted(tmp_path: Path) -> None:
    source = write(tmp_path / "set.npz", (8, 8))
    mixed = images(10, 8, 8)
    mixed[:4] = np.load(tmp_path / "set.npz")["x_train"][:4]
    np.savez(tmp_path / "mixed.npz", x_test=mixed)
    data = load(source, ood=f"npz:{tmp_path / 'mixed.npz'}")
    assert data.notes == ("4 of 10 OOD inputs also occur in the data.",)
    with pytest.raises(ValueError, match=r"every input of npz:.* also occurs in the data, expected OOD"):
        load(source, ood=source)


def test_a_folder_gives_its_test_part(tmp_path: Path) -> None:
    from PIL import Image

    for part, rows in (("train", 4), ("test", 3)):
        for name in ("a", "b"):
            (tmp_path / part / name).mkdir(parents=True)
            for row in range(rows):
                Image.fromarray(images(1, 8, 8)[0]).save(tmp_path / part / name / f"{row}.png")
    data = load("digits", ood=f"folder:{tmp_path}")
    assert data.ood is not None
    assert len(data.ood) == 6


@pytest.mark.parametrize(
    ("ood", "message"),
    [
        ("classes:8,x", "ood: no class 'x', expected one of 0, 1, .*, or a number from 0 to 9"),
        ("classes:", "ood: no class ''"),
        ("classes:10", "ood: no class '10'"),
        ("classes:0,1,2,3,4,5,6,7,8", "ood: got 'classes:0,.*', which leaves 1 of 10 classes to train on"),
        ("array", "ood: got 'array', but the data has no array ood_x"),
        (
            "nine",
            "ood: got 'nine', expected one of digits, .*, classes:A,B, array, none; did you mean 'none'",
        ),
        ("digits", "ood: every input of digits also occurs in the data"),
        ("csv:x.csv", "ood: got 'csv:x.csv', expected no table, as the data is none"),
        ("npz:none.npz", r"none\.npz: no such file, expected an \.npz file with the arrays x_test"),
    ],
)
def test_bad_requests_get_one_line(ood: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        load("digits", ood=ood)
    assert "\n" not in str(caught.value)


def test_features_must_have_the_width_of_the_data(tmp_path: Path) -> None:
    features = {"x_train": DRAW.normal(size=(80, 5)), "x_test": DRAW.normal(size=(40, 5))}
    source = write(tmp_path / "set.npz", (), **features)
    np.savez(tmp_path / "other.npz", x_test=DRAW.normal(size=(7, 5)))
    data = load(source, ood=f"npz:{tmp_path / 'other.npz'}")
    assert data.ood is not None
    assert data.ood.shape == (7, 5)
    np.savez(tmp_path / "other.npz", x_test=DRAW.normal(size=(7, 6)))
    with pytest.raises(ValueError, match="holds 6 features, expected 5 as in the data"):
        load(source, ood=f"npz:{tmp_path / 'other.npz'}")
    with pytest.raises(ValueError, match="digits holds images, expected features as in the data"):
        load(source, ood="digits")


def test_only_a_table_serves_beside_a_table(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a,y\n" + "".join(f"{row},{row % 2}\n" for row in range(30)))
    with pytest.raises(ValueError, match="ood: got 'digits', expected a table with the same columns"):
        load(f"csv:{tmp_path / 't.csv'}", label="y", ood="digits")


def test_a_held_out_class_without_test_rows_is_refused(tmp_path: Path) -> None:
    source = write(tmp_path / "set.npz", (8, 8), y_test=np.arange(40) % 3)
    with pytest.raises(ValueError, match="ood: got 'classes:3', which have no test rows"):
        load(source, ood="classes:3")
