import numpy as np
import pytest

from controller.artifacts.behaviour.augmentation import NOISE, augmented, image_of, moved
from tests.support.digits import digits


def table(rows: int = 400, columns: int = 64) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(rows, columns)).astype(np.float32)


def test_the_rows_themselves_come_first_and_every_copy_has_as_many() -> None:
    rows = table()
    result = augmented(rows, 3, seed=0)
    assert result.shape == (1600, 64)
    assert result.dtype == np.float32
    np.testing.assert_array_equal(result[:400], rows)
    assert not np.array_equal(result[400:800], result[1200:])


def test_no_copies_leave_the_rows_alone() -> None:
    np.testing.assert_array_equal(augmented(table(), 0, seed=0), table())


def test_the_same_seed_gives_the_same_copies_and_another_others() -> None:
    first, again, other = (augmented(table(), 2, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_noise_is_in_proportion_to_the_spread_of_each_feature() -> None:
    rows = table(2000, 3) * np.float32([1, 1000, 0]) + np.float32([0, 0, 7])
    noise = augmented(rows, 1, seed=0)[2000:] - rows
    np.testing.assert_allclose(noise.std(axis=0)[:2] / rows.std(axis=0)[:2], NOISE, rtol=0.1)
    np.testing.assert_array_equal(noise[:, 2], 0)


def test_every_second_copy_is_a_mix_that_leans_to_the_row_itself() -> None:
    """Rows are plus or minus one, so that noise is small and a mix with the other kind shows."""
    rows = np.where(np.arange(2000) % 2, 1.0, -1.0).astype(np.float32)[:, None].repeat(8, axis=1)
    plain, mixed = augmented(rows, 2, seed=0)[2000:].reshape(2, 2000, 8).mean(axis=2) * rows[:, 0]
    assert plain.min() > 0.8
    assert mixed.min() > -0.2
    assert 0.3 < (mixed < 0.8).mean() < 0.4


def test_flat_digits_are_seen_to_be_images() -> None:
    assert image_of(digits()[0]) == (1, 8, 8)


@pytest.mark.parametrize(
    "rows",
    [
        table(),
        table() + np.random.default_rng(1).normal(size=(400, 1)).astype(np.float32) * 3,
        table(columns=60),
        digits()[0][:, np.random.default_rng(2).permutation(64)],
        np.ones((50, 64), np.float32),
    ],
    ids=["independent columns", "columns that are all alike", "no square", "pixels in disorder", "constants"],
)
def test_a_table_is_not_taken_for_images(rows: np.ndarray) -> None:
    assert image_of(rows) is None


def test_maps_of_channels_are_images_unless_they_are_too_many_or_too_small() -> None:
    assert image_of(np.zeros((4, 3, 6, 5), np.float32)) == (3, 6, 5)
    assert image_of(np.zeros((4, 16, 6, 6), np.float32)) is None
    assert image_of(np.zeros((4, 1, 6, 4), np.float32)) is None


def test_images_move_by_a_pixel_at_most_and_repeat_their_edge() -> None:
    dot = np.zeros((500, 1, 5, 6), np.float32)
    dot[:, 0, 2, 3] = 1
    result = moved(dot, (1, 5, 6), np.random.default_rng(0))
    places = np.argwhere(result.sum(axis=(0, 1)) > 0)
    assert places.min(axis=0).tolist() == [1, 2]
    assert places.max(axis=0).tolist() == [3, 4]
    np.testing.assert_array_equal(result.sum(axis=(1, 2, 3)), 1)
    corner = np.zeros((500, 1, 5, 6), np.float32)
    corner[:, 0, 0, 0] = 1
    assert set(moved(corner, (1, 5, 6), np.random.default_rng(0)).sum(axis=(1, 2, 3))) == {0, 1, 2, 4}


def test_flat_images_move_as_maps_do() -> None:
    flat = digits()[0][:50]
    as_maps = moved(flat.reshape(-1, 1, 8, 8), (1, 8, 8), np.random.default_rng(0))
    np.testing.assert_array_equal(moved(flat, (1, 8, 8), np.random.default_rng(0)), as_maps.reshape(-1, 64))
