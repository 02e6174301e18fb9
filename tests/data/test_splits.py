"""The draw: stratified, fixed, and never the same input in two parts."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from criterium.data.keys import row_keys
from criterium.data.raw import Raw, Rows
from criterium.data.splits import draw, split


def rows(inputs: np.ndarray, targets: np.ndarray) -> Rows:
    return Rows(np.asarray(inputs, dtype=np.float32), np.asarray(targets, dtype=np.int64))


def distinct(count: int, classes: int, start: int = 0) -> Rows:
    numbers = np.arange(start, start + count)
    return rows(numbers[:, None], numbers % classes)


def names(classes: int) -> tuple[str, ...]:
    return tuple(f"c{number}" for number in range(classes))


def members(part: Rows) -> set[tuple[float, ...]]:
    return set(map(tuple, part.inputs.tolist()))


def test_keys_tell_rows_apart_by_their_values() -> None:
    keys = row_keys(np.array([[0.0, 1.0], [-0.0, 1.0], [0.0, 1.0 + 1e-12], [1.0, 0.0], [np.nan, 1.0]]))
    assert keys[0] == keys[1]
    assert len(set(keys.tolist())) == 4
    images = np.zeros((3, 1, 2, 2), dtype=np.uint8)
    images[2, 0, 1, 1] = 1
    same, also, other = row_keys(images)
    assert same == also != other


def test_three_parts_are_stratified_and_complete() -> None:
    source = distinct(1000, 4)
    parts, notes = split(Raw(names(4), source), 0.25)
    assert [len(parts[part]) for part in ("train", "validation", "test")] == [600, 200, 200]
    for part in parts.values():
        assert set(np.bincount(part.targets).tolist()) == {len(part) // 4}
    assert members(parts["train"]) | members(parts["validation"]) | members(parts["test"]) == members(source)
    assert notes == ["The source has no test part: a fixed draw within each class took 20% for it."]


def test_the_draw_is_fixed_and_looks_random() -> None:
    source = distinct(1000, 2)
    first, second = (split(Raw(names(2), source), 0.2)[0] for _ in range(2))
    np.testing.assert_array_equal(first["test"].inputs, second["test"].inputs)
    # The parts hold early and late rows alike: the mean position of 200 of 1,000 has deviation 18.
    assert abs(first["test"].inputs.mean() - 499.5) < 60
    assert abs(first["validation"].inputs.mean() - 499.5) < 60


def test_the_draw_does_not_look_at_the_values() -> None:
    source = distinct(300, 3)
    moved = Rows(source.inputs * 7 + 5, source.targets)
    before, after = (split(Raw(names(3), part), 0.2)[0] for part in (source, moved))
    for part in before:
        np.testing.assert_array_equal(before[part].inputs * 7 + 5, after[part].inputs)


def test_rows_with_the_same_input_stay_together() -> None:
    inputs = np.repeat(np.arange(200), 3)[:, None]
    targets = np.tile([0, 0, 1], 200)  # every input has both classes
    targets[:300] = 0
    parts, notes = split(Raw(names(2), rows(inputs, targets)), 0.2)
    assert not members(parts["train"]) & members(parts["test"])
    assert not members(parts["validation"]) & members(parts["test"])
    assert not members(parts["train"]) & members(parts["validation"])
    assert sum(map(len, parts.values())) == 600
    assert "600 of 600 rows have the same input as another row" in notes[1]


@given(
    st.lists(st.tuples(st.integers(0, 30), st.integers(0, 3)), min_size=12, max_size=80),
    st.floats(0.05, 0.6),
)
def test_any_split_is_disjoint_complete_and_trains_every_class(
    cells: list[tuple[int, int]], fraction: float
) -> None:
    inputs, targets = np.array(cells).T
    present, targets = np.unique(targets, return_inverse=True)
    try:
        parts, _ = split(Raw(names(len(present)), rows(inputs[:, None], targets)), fraction)
    except ValueError as error:
        few = np.bincount(targets).min() < 3
        assert (
            ("expected at least 3" in str(error))
            if few
            else re.search("of their own|no column varies", str(error))
        )
        return
    found = [members(part) for part in parts.values()]
    assert sum(len(part) for part in parts.values()) == len(cells)
    assert len(set.union(*found)) == sum(map(len, found))
    assert set(parts["train"].targets.tolist()) == set(range(len(present)))
    assert min(map(len, parts.values())) > 0


def test_each_class_of_three_rows_is_in_every_part() -> None:
    parts, _ = split(Raw(names(5), distinct(15, 5)), 0.1)
    for part in parts.values():
        assert sorted(part.targets.tolist()) == [0, 1, 2, 3, 4]


def test_a_class_of_two_rows_is_refused_by_name() -> None:
    source = rows(np.arange(12)[:, None], [0] * 10 + [1] * 2)
    with pytest.raises(ValueError, match="class 'c1' has 2 rows, expected at least 3"):
        split(Raw(names(2), source), 0.2)


def test_a_class_of_one_input_is_trained_and_the_gap_is_noted() -> None:
    inputs = np.concatenate([np.arange(20), [99, 99, 99]])[:, None]
    parts, notes = split(Raw(names(2), rows(inputs, [0] * 20 + [1] * 3)), 0.2)
    assert (parts["train"].targets == 1).sum() == 3
    assert "Classes without validation rows: c1." in notes
    assert "Classes without test rows: c1." in notes


def test_one_input_for_all_rows_cannot_be_split() -> None:
    with pytest.raises(ValueError, match="no rows are left for validation, as no column varies"):
        split(Raw(names(2), rows(np.zeros((20, 1)), np.arange(20) % 2)), 0.2)


def test_the_parts_of_the_source_are_kept() -> None:
    train, validation, test = distinct(50, 2), distinct(20, 2, 50), distinct(30, 2, 70)
    parts, notes = split(Raw(names(2), train, validation, test), 0.2)
    assert [parts[part] for part in ("train", "validation", "test")] == [train, validation, test]
    assert notes == []


def test_validation_comes_out_of_training_where_the_source_has_a_test_part() -> None:
    parts, notes = split(Raw(names(2), distinct(100, 2), test=distinct(30, 2, 100)), 0.2)
    assert [len(parts[part]) for part in ("train", "validation", "test")] == [80, 20, 30]
    assert np.bincount(parts["validation"].targets).tolist() == [10, 10]
    assert members(parts["train"]) | members(parts["validation"]) == members(distinct(100, 2))
    assert notes == []


def test_training_rows_met_in_the_test_part_never_become_validation() -> None:
    parts, notes = split(Raw(names(2), distinct(100, 2), test=distinct(60, 2, 40)), 0.5)
    assert not members(parts["validation"]) & members(parts["test"])
    assert len(parts["validation"]) == 20
    assert notes == ["60 training rows have an input that also occurs among the test rows."]


def test_validation_rows_of_the_source_met_in_the_test_part_are_counted() -> None:
    raw = Raw(names(2), distinct(50, 2), distinct(20, 2, 60), distinct(30, 2, 70))
    _, notes = split(raw, 0.2)
    assert notes == ["10 validation rows have an input that also occurs among the test rows."]


def test_nothing_is_left_for_validation_where_test_holds_all_of_training() -> None:
    with pytest.raises(ValueError, match="no rows are left for validation"):
        split(Raw(names(2), distinct(20, 2), test=distinct(20, 2)), 0.2)


def test_many_gaps_are_listed_briefly() -> None:
    raw = Raw(names(12), distinct(120, 12), distinct(120, 12, 200), rows([[1000.0]], [0]))
    _, notes = split(raw, 0.2)
    assert notes == ["Classes without test rows: c1, c2, c3, c4, c5, c6, c7, c8, c9, c10 and 1 more."]


def test_a_rare_class_gives_rows_before_a_common_one_with_the_same_inputs() -> None:
    # Ten inputs hold class 1, each beside class 0, which has a thousand inputs of its own.
    inputs = np.concatenate([np.arange(1000), np.arange(10)])
    mask = draw(row_keys(inputs[:, None].astype(float)), np.array([0] * 1000 + [1] * 10), 0.2)
    assert mask[1000:].sum() == 2
    assert mask[:1000].sum() == 2 + 198
