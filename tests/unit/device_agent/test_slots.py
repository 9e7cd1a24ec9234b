"""The model store: complete or absent, hashed before it is believed, and tidy."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from device_agent.lifecycle import Found
from device_agent.protocol.errors import Code, ProtocolError
from device_agent.protocol.manifest import FILE_NAME
from device_agent.slots import ModelStore
from tests.support.kill_points import steps
from tests.support.manifests import a_manifest
from tests.support.stored_models import StoredModel, a_store, a_stored_model, packed_entry_of


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return a_store(tmp_path)


@pytest.fixture
def model(store: ModelStore) -> StoredModel:
    model = a_stored_model()
    model.publish(store)
    return model


def test_a_published_model_is_intact_and_cannot_be_written(store: ModelStore, model: StoredModel) -> None:
    directory = store.directory(model.sha256)
    assert store.inspect(model.sha256) is Found.INTACT
    assert store.manifest(model.sha256) == model.manifest
    assert {path.name for path in directory.iterdir()} == {"manifest.json", "model.onnx", "golden.npz"}
    assert {path.stat().st_mode & 0o777 for path in directory.iterdir()} == {0o444}
    assert list((directory.parent.parent / "stage").iterdir()) == []


def test_what_is_not_there_is_absent(store: ModelStore) -> None:
    assert store.inspect(None) is Found.ABSENT
    assert store.inspect("0" * 64) is Found.ABSENT


@pytest.mark.parametrize("file", ["manifest.json", "model.onnx", "golden.npz"])
@pytest.mark.parametrize("damage", ["flipped", "cut", "gone", "grown"])
def test_every_damage_to_every_file_is_found(store: ModelStore, model: StoredModel, file: str, damage: str) -> None:
    path = store.directory(model.sha256) / file
    content = path.read_bytes()
    path.chmod(0o644)
    path.unlink()
    if damage != "gone":
        changed = {"flipped": bytes([content[0] ^ 1]) + content[1:], "cut": content[:-1], "grown": content + b"\0"}
        path.write_bytes(changed[damage])
    assert store.inspect(model.sha256) is Found.DAMAGED


def test_a_file_that_the_manifest_does_not_name_is_damage(store: ModelStore, model: StoredModel) -> None:
    (store.directory(model.sha256) / "weights.bin").write_bytes(b"smuggled")
    assert store.inspect(model.sha256) is Found.DAMAGED


@pytest.mark.parametrize("file", ["manifest.json", "model.onnx"])
def test_a_link_in_place_of_a_file_is_damage_even_when_the_bytes_are_right(
    store: ModelStore, model: StoredModel, tmp_path: Path, file: str
) -> None:
    path = store.directory(model.sha256) / file
    path.replace(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    assert store.inspect(model.sha256) is Found.DAMAGED


def test_a_link_in_place_of_a_model_is_damage_and_is_deleted_alone(
    store: ModelStore, model: StoredModel, tmp_path: Path
) -> None:
    directory = store.directory(model.sha256)
    shutil.move(directory, tmp_path / "elsewhere")
    directory.symlink_to(tmp_path / "elsewhere")
    assert store.inspect(model.sha256) is Found.DAMAGED
    store.discard(model.sha256)
    assert not directory.is_symlink()
    assert (tmp_path / "elsewhere" / "model.onnx").exists()


def test_a_link_in_place_of_a_part_file_is_not_written_through(store: ModelStore, tmp_path: Path) -> None:
    model, victim = a_stored_model(), tmp_path / "victim"
    victim.write_bytes(b"precious")
    stage = store.part(model.sha256, "model.onnx")
    stage.symlink_to(victim)
    assert not store.part(model.sha256, "model.onnx").exists()
    stage.parent.rmdir()
    stage.parent.symlink_to(tmp_path)
    store.part(model.sha256, "victim").write_bytes(b"downloaded")
    assert victim.read_bytes() == b"precious"
    assert not stage.parent.is_symlink()


def test_wrong_bytes_are_never_published_and_may_be_fetched_again(store: ModelStore) -> None:
    model = a_stored_model()
    model.put_parts(store)
    store.part(model.sha256, "model.onnx").write_bytes(b"something else")
    with pytest.raises(ProtocolError) as caught:
        store.publish(model.manifest, model.raw, model.sha256)
    assert caught.value.code is Code.HASH_MISMATCH
    assert store.inspect(model.sha256) is Found.ABSENT
    model.publish(store)
    assert store.inspect(model.sha256) is Found.INTACT


def test_a_damaged_model_is_replaced_when_it_was_fetched_again(store: ModelStore, model: StoredModel) -> None:
    (store.directory(model.sha256) / "extra").touch()
    model.publish(store)
    assert store.inspect(model.sha256) is Found.INTACT


def test_a_model_that_does_not_fit_is_refused_before_its_first_byte(tmp_path: Path) -> None:
    model, free = a_stored_model(), shutil.disk_usage(tmp_path).free
    with pytest.raises(ProtocolError) as caught:
        a_store(tmp_path, reserve_bytes=2 * free).require_space(model.manifest, model.sha256)
    assert caught.value.code is Code.NO_SPACE
    a_store(tmp_path).require_space(model.manifest, model.sha256)


@pytest.mark.parametrize(
    ("on_disk", "needed"),
    [
        ({}, 900 + 500 + 300),
        ({"a~packed": 200}, 900 + 500 + 200),
        ({"a~packed": 300}, 900 + 500 + 200),
        ({"a~packed": 300, "a": 250}, 650 + 500 + 200),
        ({"a~packed": 300, "a": 900}, 500 + 200),
        ({"a": 900}, 500 + 200),
        ({"a": 900, "b~packed": 200, "b": 500}, 0),
        ({"a": 900, "b": 500}, 0),
    ],
)
def test_the_space_for_the_largest_packed_form_is_counted_while_it_is_needed(
    store: ModelStore, tmp_path: Path, on_disk: dict[str, int], needed: int
) -> None:
    artifacts = tuple(
        packed_entry_of(name, bytes(length), b"x" * packed)
        for name, length, packed in (("a", 900, 300), ("b", 500, 200))
    )
    manifest = replace(a_manifest(), artifacts=artifacts)
    for name, length in on_disk.items():
        store.part("1" * 64, name).write_bytes(bytes(length))
    too_much = 2 * shutil.disk_usage(tmp_path).free
    with pytest.raises(ProtocolError, match=f"needs {too_much + needed} bytes with the reserve"):
        a_store(tmp_path, reserve_bytes=too_much).require_space(manifest, "1" * 64)


def test_a_part_file_can_be_written_until_it_has_its_final_name(store: ModelStore) -> None:
    model = a_stored_model()
    model.put_parts(store)
    done = steps(lambda: store.publish(model.manifest, model.raw, model.sha256))
    assert [step for step in done if step.startswith("chmod")] == ["chmod model.onnx", "chmod golden.npz"]


def test_a_packed_form_is_never_taken_for_an_artifact(store: ModelStore) -> None:
    packed = store.packed_part("1" * 64, "model.onnx").name
    assert packed == "model.onnx~packed.part"
    assert not FILE_NAME.fullmatch(packed.removesuffix(".part"))


def test_only_what_is_kept_survives_the_collection(store: ModelStore, model: StoredModel) -> None:
    second, third = a_stored_model(2), a_stored_model(3)
    second.publish(store)
    third.put_parts(store)
    store.collect(frozenset({second.sha256, third.sha256}))
    assert store.inspect(model.sha256) is Found.ABSENT
    assert store.inspect(second.sha256) is Found.INTACT
    assert store.part(third.sha256, "model.onnx").exists()
    store.discard(third.sha256)
    assert not store.part(third.sha256, "model.onnx").exists()


def test_intact_models_are_found_without_a_journal(store: ModelStore, model: StoredModel) -> None:
    second = a_stored_model(2)
    second.publish(store)
    (store.directory(second.sha256) / "extra").touch()
    assert list(store.intact_manifests()) == [(model.sha256, model.manifest)]
