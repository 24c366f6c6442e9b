"""How the training images are split."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.data.splitting import _quotas, split
from core.pipeline.errors import ParamsError

LABELS = np.arange(1000, dtype=np.int64) % 10


def test_a_fifth_of_the_images_validates_and_the_others_train() -> None:
    train, val = split(LABELS, seed=1, val_fraction=0.2)
    assert len(train) == 800
    assert len(val) == 200
    assert sorted([*train, *val]) == list(range(1000))


def test_the_same_seed_gives_the_same_split_and_another_seed_another() -> None:
    first = split(LABELS, seed=1, val_fraction=0.2)
    again = split(LABELS, seed=1, val_fraction=0.2)
    other = split(LABELS, seed=2, val_fraction=0.2)
    assert np.array_equal(first.val_indices, again.val_indices)
    assert not np.array_equal(first.val_indices, other.val_indices)


def test_the_split_is_numpys_permutation_cut_at_the_front() -> None:
    order = np.random.default_rng(7).permutation(1000)
    train, val = split(LABELS, seed=7, val_fraction=0.3)
    assert val.tolist() == sorted(order[:300])
    assert train.tolist() == sorted(order[300:])


def test_unstratified_shares_vary_and_stratified_ones_do_not() -> None:
    _, val = split(LABELS, seed=1, val_fraction=0.2)
    assert set(np.bincount(LABELS[val])) != {20}
    train, val = split(LABELS, seed=1, val_fraction=0.2, stratify=True)
    assert set(np.bincount(LABELS[val])) == {20}
    assert set(np.bincount(LABELS[train])) == {80}


def test_largest_remainders_get_the_images_that_rounding_down_leaves() -> None:
    # 10 of 33: shares 10/33 of 10, 11, 12 = 3.03, 3.33, 3.64.
    assert _quotas(np.array([10, 11, 12]), 10).tolist() == [3, 3, 4]
    # Equal remainders: the lower label goes first.
    assert _quotas(np.array([5, 5, 5]), 7).tolist() == [3, 2, 2]
    assert _quotas(np.array([0, 9]), 3).tolist() == [0, 3]


def test_a_subset_trains_and_the_validation_images_stay_the_same() -> None:
    whole = split(LABELS, seed=1, val_fraction=0.2)
    subset = split(LABELS, seed=1, val_fraction=0.2, train_size=100)
    assert len(subset.train_indices) == 100
    assert set(subset.train_indices) < set(whole.train_indices)
    assert np.array_equal(subset.val_indices, whole.val_indices)
    stratified = split(LABELS, seed=1, val_fraction=0.2, train_size=100, stratify=True)
    assert np.bincount(LABELS[stratified.train_indices]).tolist() == [10] * 10


@pytest.mark.parametrize(("val_fraction", "val", "train"), [(0.0004, 0, 1000), (0.9996, 1000, 0)])
def test_train_or_val_without_images_is_refused_with_the_numbers(
    val_fraction: float, val: int, train: int
) -> None:
    with pytest.raises(ParamsError) as caught:
        split(LABELS, seed=1, val_fraction=val_fraction)
    assert (
        f"{val_fraction} of 1,000 images is {val:,} to validate on and {train:,} to train on"
    ) in str(caught.value)


def test_a_subset_larger_than_what_is_left_is_refused_with_the_numbers() -> None:
    with pytest.raises(ParamsError, match="at most 800: 1,000 images less 200") as caught:
        split(LABELS, seed=1, val_fraction=0.2, train_size=801)
    assert "found:    801" in str(caught.value)


@pytest.mark.fuzz
@given(
    class_counts=st.lists(st.integers(0, 60), min_size=1, max_size=6).filter(sum),
    seed=st.integers(0, 2**63 - 1),
    val_fraction=st.floats(0, 1, exclude_min=True, exclude_max=True),
    stratify=st.booleans(),
    train_size=st.none() | st.integers(1, 400),
)
def test_every_split_is_disjoint_covering_and_in_range_or_refused(
    class_counts: list[int],
    seed: int,
    val_fraction: float,
    stratify: bool,
    train_size: int | None,
) -> None:
    labels = np.repeat(np.arange(len(class_counts)), class_counts)
    n = len(labels)
    wanted = round(n * val_fraction)
    possible = 0 < wanted < n and (train_size is None or train_size <= n - wanted)
    arguments = {"val_fraction": val_fraction, "stratify": stratify, "train_size": train_size}
    if not possible:
        with pytest.raises(ParamsError):
            split(labels, seed=seed, **arguments)  # type: ignore[arg-type]
        return
    train, val = split(labels, seed=seed, **arguments)  # type: ignore[arg-type]
    assert len(val) == wanted
    assert len(train) == (train_size or n - wanted)
    assert not set(train) & set(val)
    assert set(train) | set(val) <= set(range(n))
    assert (np.diff(train) > 0).all()
    assert (np.diff(val) > 0).all()
    if stratify:
        exact = np.array(class_counts) * wanted / n
        assert (np.abs(np.bincount(labels[val], minlength=len(class_counts)) - exact) < 1).all()
