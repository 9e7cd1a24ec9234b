"""Releases from proposal to publication, over HTTP, with two people who sign on machines of their own."""

import base64
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import httpx
import pytest
from securesystemslib.signer import CryptoSigner

from controller.api.releases import office_of
from controller.domain.audit_chain import AuditEntry
from controller.domain.desired_state import desired_state
from controller.domain.fleet import Device
from controller.domain.releases import ReleaseKind
from controller.store import catalog
from controller.store.audit import audit_entries
from controller.store.policy import load_policy
from controller.store.releases import ReleasableVariant, releasable_variants
from controller.trust.ceremonies import single_operator
from controller.trust.images.image_repository import ImageRepository
from controller.use_cases.set_pin import set_pin
from controller.use_cases.sign_release import complete_releases, sign_release
from device_agent.protocol.channels import Channel
from tests.support.decisions import a_device, a_profile
from tests.support.image_repositories import Crash, CrashingWriter
from tests.support.release_installation import MODEL, Bench, ReleaseInstallation, hand_in, propose


def refusal(answer: httpx.Response, status: int, code: str) -> str:
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    return str(answer.json()["detail"])


def release_state(client: httpx.Client, number: int) -> str:
    return str(client.get(f"/api/v1/models/{MODEL}/versions/{number}").json()["release"])


def publish(
    installation: ReleaseInstallation,
    client: httpx.Client,
    number: int = 1,
    kind: Any = ReleaseKind.RELEASE,
    **terms: Any,
) -> Any:
    """Propose, and have both people sign without looking."""
    release = propose(client, number, kind, **terms)
    for person in installation.keys:
        answer = hand_in(client, release, installation.sign(base64.b64decode(release["document"]), person))
        assert answer.status_code == 200, answer.text
    assert answer.json()["state"] == "published"
    return answer.json()


def test_the_second_of_two_signatures_publishes(
    installation: ReleaseInstallation, client: httpx.Client, bench: Bench
) -> None:
    assert release_state(client, 1) == "no"
    release = propose(client, floor=1)
    assert release_state(client, 1) == "proposed"
    assert [target["path"] for target in release["changes"]["added"]] == ["prod/digits/1/fp32/manifest.json"]

    first = hand_in(client, release, bench.sign(release, installation.keys["alice"])).json()
    assert (first["state"], first["signatures"]["needed"]) == ("proposed", 1)
    assert installation.variant(1).released_at is None

    second = hand_in(client, release, bench.sign(first, installation.keys["bob"])).json()
    assert second["state"] == "published"
    assert release_state(client, 1) == "released"
    row = installation.variant(1)
    assert (row.released_at is not None, row.release_floor) == (True, 1)
    published = installation.services.image_repository.read_targets("prod/digits/1/fp32/manifest.json")
    assert published is not None
    assert published.hashes["sha256"] == row.manifest_sha256
    assert published.custom == {"slot": "digits", "release": 1, "floor": 1}


def test_a_signature_that_is_there_already_changes_nothing(
    installation: ReleaseInstallation, client: httpx.Client
) -> None:
    release = propose(client)
    signature = installation.sign(base64.b64decode(release["document"]), "alice")
    first, again = hand_in(client, release, signature).json(), hand_in(client, release, signature).json()
    assert first["document"] == again["document"]
    assert [entry.action for entry in audit_log(installation)].count("release.signed") == 1


def test_a_signature_by_a_stranger_or_over_something_else_is_refused(
    installation: ReleaseInstallation, client: httpx.Client
) -> None:
    release = propose(client)
    stranger = CryptoSigner.generate_ed25519()
    refusal(hand_in(client, release, stranger.sign(b"anything")), 422, "E_SIG_THRESHOLD")
    refusal(hand_in(client, release, installation.keys["alice"].sign(b"anything")), 422, "E_SIG_THRESHOLD")
    shown = client.get(f"/api/v1/releases/{release['id']}").json()
    assert shown["signatures"]["signed"] == []


def test_one_proposal_at_a_time_is_open_and_the_refusal_names_it(client: httpx.Client) -> None:
    release = propose(client)
    answer = client.post(f"/api/v1/models/{MODEL}/versions/2/release", json={})
    assert release["id"] in refusal(answer, 409, "release_open")


def test_a_cancelled_proposal_takes_no_signature_and_makes_room(
    installation: ReleaseInstallation, client: httpx.Client
) -> None:
    release = propose(client)
    cancelled = client.post(f"/api/v1/releases/{release['id']}:cancel").json()
    assert (cancelled["state"], cancelled["manifests"]) == ("cancelled", {})
    signature = installation.sign(base64.b64decode(release["document"]), "alice")
    refusal(hand_in(client, release, signature), 409, "release_state")
    refusal(client.post(f"/api/v1/releases/{release['id']}:cancel"), 409, "release_state")
    assert propose(client, 2)["state"] == "proposed"


def test_a_draft_that_the_role_moved_past_is_stale_and_gives_way_to_a_new_proposal(
    installation: ReleaseInstallation, client: httpx.Client
) -> None:
    first = propose(client)
    by_hand = published_by_hand(installation, 2)
    told = refusal(
        hand_in(client, first, installation.sign(base64.b64decode(first["document"]), "alice")), 409, "release_stale"
    )
    assert f"release propose {MODEL} 1" in told
    assert client.get(f"/api/v1/releases/{first['id']}").json()["stale"] is True
    second = propose(client)
    assert second["role_version"] == by_hand + 1
    assert client.get(f"/api/v1/releases/{first['id']}").json()["state"] == "cancelled"


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"variants": ["int4"]}, 404, "variant_unknown"),
        ({"floor": 2}, 422, "release_floor"),
        ({"floor": 0}, 422, "release_floor"),
        ({"hardware": ["../x"]}, 422, "release_hardware"),
    ],
)
def test_terms_that_no_release_can_have_are_refused_with_their_reason(
    client: httpx.Client, body: dict[str, Any], status: int, code: str
) -> None:
    refusal(client.post(f"/api/v1/models/{MODEL}/versions/1/release", json=body), status, code)


def test_an_unknown_version_or_release_is_not_found(client: httpx.Client) -> None:
    refusal(client.post(f"/api/v1/models/{MODEL}/versions/9/release", json={}), 404, "version_unknown")
    refusal(client.get("/api/v1/releases/rl_none"), 404, "release_unknown")


def test_a_version_is_released_twice_only_on_other_terms(
    installation: ReleaseInstallation, client: httpx.Client
) -> None:
    publish(installation, client)
    refusal(client.post(f"/api/v1/models/{MODEL}/versions/1/release", json={}), 409, "release_no_change")
    publish(installation, client, floor=1)
    assert installation.variant(1).release_floor == 1


def test_what_was_never_released_can_be_neither_withdrawn_nor_renewed(client: httpx.Client) -> None:
    refusal(client.post(f"/api/v1/models/{MODEL}/versions/1:withdraw"), 404, "not_found")
    refusal(client.post(f"/api/v1/models/{MODEL}:renew-release"), 409, "release_no_change")


def test_a_renewal_signs_the_same_targets_under_the_next_version(
    installation: ReleaseInstallation, client: httpx.Client
) -> None:
    publish(installation, client)
    before = installation.variant(1).released_at
    renewed = publish(installation, client, kind=ReleaseKind.RENEW)
    assert (renewed["role_version"], renewed["version"]) == (2, None)
    assert installation.variant(1).released_at == before
    assert [item["kind"] for item in client.get("/api/v1/releases").json()["items"]] == ["renew", "release"]


def test_a_prod_device_gets_the_released_version_and_no_other_until_it_is_withdrawn(
    installation: ReleaseInstallation, client: httpx.Client
) -> None:
    device = a_device(profile=a_profile(channel=Channel.PROD, precisions=("fp32",)))
    pin(installation, 2)
    assert assigned(installation, device) is None
    publish(installation, client, 2)
    assert assigned(installation, device) == "prod/digits/2/fp32/manifest.json"
    pin(installation, 1)
    assert assigned(installation, device) is None
    pin(installation, 2)
    publish(installation, client, 2, ReleaseKind.WITHDRAW)
    assert assigned(installation, device) is None
    assert release_state(client, 2) == "no"
    dev = a_device(profile=a_profile(channel=Channel.DEV, precisions=("fp32",)))
    assert assigned(installation, dev) == "dev/digits/2/fp32/manifest.json"


@pytest.mark.parametrize("writes", range(4))
def test_a_publication_that_is_cut_off_at_any_file_is_completed_by_the_sweep(
    installation: ReleaseInstallation, client: httpx.Client, writes: int
) -> None:
    release = propose(client)
    document = base64.b64decode(release["document"])
    hand_in(client, release, installation.sign(document, "alice"))
    repository = ImageRepository(
        installation.tuf_dir, installation.services.signer, CrashingWriter(writes), single_operator=True
    )
    with pytest.raises(Crash):
        sign_release(
            replace(installation.office, image_repository=repository),
            release["id"],
            installation.sign(document, "bob"),
            now=installation.services.clock(),
        )
    shown = client.get(f"/api/v1/releases/{release['id']}").json()
    assert (shown["state"], shown["signatures"]["needed"]) == ("proposed", 0)
    assert complete_releases(installation.office, now=installation.services.clock()) == 1
    assert release_state(client, 1) == "released"
    assert complete_releases(installation.office, now=installation.services.clock()) == 0


def test_a_release_whose_files_were_published_and_whose_rows_were_not_is_completed_by_the_sweep(
    installation: ReleaseInstallation, client: httpx.Client
) -> None:
    release = propose(client)
    document = base64.b64decode(release["document"])
    hand_in(client, release, installation.sign(document, "alice"))
    repository = CutOffAfterFiles(installation.tuf_dir, installation.services.signer, single_operator=True)
    with pytest.raises(Crash):
        sign_release(
            replace(installation.office, image_repository=repository),
            release["id"],
            installation.sign(document, "bob"),
            now=installation.services.clock(),
        )
    assert installation.services.image_repository.read_targets("prod/digits/1/fp32/manifest.json") is not None
    assert installation.variant(1).released_at is None
    refusal(client.post(f"/api/v1/releases/{release['id']}:cancel"), 409, "release_state")
    assert complete_releases(installation.office, now=installation.services.clock()) == 1
    assert installation.variant(1).released_at is not None


def test_the_sweep_leaves_a_proposal_that_too_few_have_signed(
    installation: ReleaseInstallation, client: httpx.Client
) -> None:
    release = propose(client)
    hand_in(client, release, installation.sign(base64.b64decode(release["document"]), "alice"))
    assert complete_releases(installation.office, now=installation.services.clock()) == 0


def test_the_audit_log_tells_who_proposed_signed_and_published(
    installation: ReleaseInstallation, client: httpx.Client
) -> None:
    release = publish(installation, client)
    told = [entry for entry in audit_log(installation) if entry.subject == release["id"]]
    actions = ["release.proposed", "release.signed", "release.signed", "release.published"]
    assert [entry.action for entry in told] == actions
    assert {entry.detail["keyid"] for entry in told[1:3]} == {
        key.public_key.keyid for key in installation.keys.values()
    }


def test_a_model_whose_release_keys_nobody_named_gets_the_local_one_where_one_person_is_everybody(
    installation: ReleaseInstallation, client: httpx.Client
) -> None:
    office = office_of(installation.services)
    office.ensure_role("other", installation.services.clock())
    local = single_operator.release_signer(installation.services.settings.keys_dir / "offline").public_key.keyid
    draft = installation.services.image_repository.draft_release(
        "other", (), None, floor=None, hardware=(), now=installation.services.clock()
    )
    assert installation.services.image_repository.release_status(draft).keyids == (local,)


class CutOffAfterFiles(ImageRepository):
    """Its process dies when every file is written."""

    def publish_release(self, document: bytes, manifests: Sequence[bytes], now: datetime) -> bool:
        super().publish_release(document, manifests, now)
        raise Crash


def audit_log(installation: ReleaseInstallation) -> list[AuditEntry]:
    with installation.services.database.reading() as tx:
        return [entry for entry, _ in audit_entries(tx)]


def published_by_hand(installation: ReleaseInstallation, number: int) -> int:
    """Publish a version past the controller's rows; return the role's version."""
    services = installation.services
    row = next(one for one in releasable(installation) if one.version == number)
    manifest = installation.office.manifest(row)
    now = services.clock()
    document = services.image_repository.draft_release(MODEL, [manifest], None, floor=None, hardware=(), now=now)
    for person in installation.keys:
        document = services.image_repository.add_signature(document, installation.sign(document, person))
    services.image_repository.publish_release(document, [manifest], now)
    return services.image_repository.release_status(document).version


def releasable(installation: ReleaseInstallation) -> list[ReleasableVariant]:
    with installation.services.database.reading() as tx:
        return releasable_variants(tx, catalog.model_named(tx, MODEL))


def pin(installation: ReleaseInstallation, number: int) -> None:
    """Pin a version for everybody."""
    set_pin(installation.services.database, MODEL, number, "all", now=installation.services.clock())


def assigned(installation: ReleaseInstallation, device: Device) -> str | None:
    """Return the target that the device is given."""
    with installation.services.database.reading() as tx:
        policy = load_policy(tx).policy
    choice = desired_state(device, policy).slots.get(MODEL)
    return choice.variant.target if choice and choice.variant else None
