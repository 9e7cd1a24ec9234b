from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from controller.domain.report_sequence import (
    FORMER_SPOOLS_MAX,
    Numbered,
    ReportPosition,
    Verdict,
    is_behind,
    judge_report,
    moved_to,
)

STANDS = ReportPosition("spool-2", 7, "b7", ("spool-1",))


def judge(spool: str, seq: int, batch: str = "b", *, is_known: bool = False) -> Verdict:
    return judge_report(STANDS, Numbered(spool, seq, batch), is_known=is_known)


def test_the_next_number_of_the_spool_is_taken_and_so_is_one_after_a_gap() -> None:
    assert judge("spool-2", 8) is Verdict.TAKE
    assert judge("spool-2", 80) is Verdict.TAKE


def test_the_last_batch_sent_again_is_a_duplicate() -> None:
    assert judge("spool-2", 7, "b7", is_known=True) is Verdict.DUPLICATE


def test_a_batch_before_the_last_one_is_a_replay() -> None:
    assert judge("spool-2", 6, "b6", is_known=True) is Verdict.REPLAY


def test_another_batch_under_a_number_that_was_taken_tells_of_a_clone() -> None:
    assert judge("spool-2", 7, "other") is Verdict.CLONE
    assert judge("spool-2", 3, "other") is Verdict.CLONE


def test_a_spool_that_was_never_seen_is_a_device_that_lost_its_own() -> None:
    assert judge("spool-3", 1) is Verdict.TAKE


def test_whoever_goes_on_with_a_spool_that_was_lost_is_a_clone() -> None:
    assert judge("spool-1", 900) is Verdict.CLONE


def test_what_was_taken_of_a_former_spool_and_is_sent_again_is_a_replay() -> None:
    assert judge("spool-1", 2, "old", is_known=True) is Verdict.REPLAY


def test_a_device_of_which_nothing_is_known_begins_anywhere() -> None:
    assert judge_report(None, Numbered("any", 44, "b"), is_known=False) is Verdict.TAKE


def test_a_device_that_may_begin_anew_says_nothing_twice() -> None:
    assert judge_report(None, Numbered("any", 44, "b"), is_known=True) is Verdict.DUPLICATE


def test_taking_a_new_spool_makes_the_old_one_a_former_one() -> None:
    moved = moved_to(STANDS, Numbered("spool-3", 1, "b1"))
    assert moved == ReportPosition("spool-3", 1, "b1", ("spool-1", "spool-2"))
    assert moved_to(moved, Numbered("spool-3", 2, "b2")).former_spools == ("spool-1", "spool-2")


def test_no_more_former_spools_are_kept_than_allowed() -> None:
    position = moved_to(None, Numbered("0", 1, "b"))
    for number in range(1, 100):
        position = moved_to(position, Numbered(str(number), 1, "b"))
    assert position.former_spools == tuple(map(str, range(99 - FORMER_SPOOLS_MAX, 99)))


REPORTS = st.builds(Numbered, st.sampled_from("pqr"), st.integers(1, 9), st.sampled_from("abcdefgh"))


@given(st.lists(REPORTS), REPORTS, st.booleans())
def test_what_is_not_behind_is_judged_without_a_look_at_the_batches(
    before: list[Numbered], report: Numbered, is_known: bool
) -> None:
    position = None
    for one in before:
        position = moved_to(position, one)
    if not is_behind(position, report):
        assert judge_report(position, report, is_known=is_known) is Verdict.TAKE


@dataclass
class Spool:
    """A device's spool: a batch is cut once and sent until it is acknowledged."""

    name: str
    cut: list[Numbered] = field(default_factory=list)

    def next(self, machine: str) -> Numbered:
        self.cut.append(Numbered(self.name, len(self.cut) + 1, f"{machine}-{self.name}-{len(self.cut)}"))
        return self.cut[-1]


@given(st.lists(st.sampled_from(["send", "answer lost", "spool lost", "gap"]), max_size=30))
def test_one_honest_machine_is_never_suspected_whatever_it_loses(steps: list[str]) -> None:
    position: ReportPosition | None = None
    known: set[str] = set()
    spool, names = Spool("0"), iter(range(1, 100))
    for step in steps:
        if step == "spool lost":
            spool = Spool(str(next(names)))
        elif step == "gap":
            spool.next("m")
        else:
            report = spool.next("m")
            attempts = 2 if step == "answer lost" else 1
            verdicts = []
            for _ in range(attempts):
                verdict = judge_report(position, report, is_known=report.batch in known)
                verdicts.append(verdict)
                if verdict is Verdict.TAKE:
                    position, known = moved_to(position, report), known | {report.batch}
            assert verdicts == [Verdict.TAKE, Verdict.DUPLICATE][:attempts]


@given(st.lists(st.sampled_from(["original", "copy"]), min_size=2, max_size=20), st.integers(1, 5))
def test_two_machines_with_one_spool_are_found_out_by_the_first_number_that_both_use(
    order: list[str], said_before: int
) -> None:
    position: ReportPosition | None = None
    spools = {machine: Spool("s", [Numbered("s", n + 1, f"b{n}") for n in range(said_before)]) for machine in order}
    for one in spools[order[0]].cut:
        position = moved_to(position, one)
    taken: dict[int, str] = {}
    for machine in order:
        report = spools[machine].next(machine)
        verdict = judge_report(position, report, is_known=False)
        if report.seq in taken:
            assert verdict is Verdict.CLONE
            return
        assert verdict is Verdict.TAKE
        taken[report.seq] = machine
        position = moved_to(position, report)
