import numpy as np
import pytest

from controller.cli.demo.digits import Dataset, Release, clear_images, load_dataset, make_release, run
from controller.cli.demo.fleet import LABELLED_DIGITS
from controller.cli.demo.health_command import ACCURACY_LEAST


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return load_dataset()


@pytest.fixture(scope="module")
def releases(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> list[Release]:
    folder = tmp_path_factory.mktemp("releases")
    return [make_release(number, dataset, folder) for number in (1, 2, 3)]


def test_the_three_parts_of_the_dataset_hold_every_image_once(dataset: Dataset) -> None:
    parts = (dataset.training, dataset.evaluation, dataset.unseen)
    assert sum(len(part) for part in parts) == 1797
    assert all(part.inputs.dtype == np.float32 and part.labels.dtype == np.int64 for part in parts)


def test_version_2_is_better_than_version_1_and_version_3_is_wrong_about_the_world(
    dataset: Dataset, releases: list[Release]
) -> None:
    first, second, third = (release.accuracy(dataset.unseen.labels) for release in releases)
    assert ACCURACY_LEAST < first < second
    assert third < 0.1


def test_version_3_agrees_with_its_own_evaluation_data(releases: list[Release]) -> None:
    proof = np.load(releases[2].evaluation)
    answers = run(releases[2].network, proof["inputs"]).argmax(axis=1)
    assert (answers == proof["labels"]).mean() > 0.9


def test_the_exported_network_takes_any_batch_size(dataset: Dataset, releases: list[Release]) -> None:
    for size in (1, 7):
        assert run(releases[0].network, dataset.unseen.inputs[:size]).shape == (size, 10)


def test_clear_images_have_one_right_answer_per_version(releases: list[Release]) -> None:
    clear = clear_images(releases)
    assert len(clear) > 50
    assert all(release.probabilities[clear].max(axis=1).min() > 0.9 for release in releases)


def test_the_health_command_tells_good_versions_from_the_bad_one(dataset: Dataset, releases: list[Release]) -> None:
    labelled = dataset.evaluation.first(LABELLED_DIGITS)
    shares = [
        float((run(release.network, labelled.inputs).argmax(axis=1) == labelled.labels).mean()) for release in releases
    ]
    assert [share >= ACCURACY_LEAST for share in shares] == [True, True, False]


def test_shares_of_the_samples_have_no_image_in_common(dataset: Dataset) -> None:
    shares = [dataset.unseen.part(index, 6) for index in range(6)]
    assert sum(len(share) for share in shares) == len(dataset.unseen)
    assert np.array_equal(np.sort(np.concatenate([share.labels for share in shares])), np.sort(dataset.unseen.labels))
