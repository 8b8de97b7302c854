"""Malformed inputs of every kind, each with the outcome it should have.

A case ends in its intended sentence, or, where damage may pass unseen, in a result that keeps the
contract. Anything else is a failure: another exception, a crash, an endless wait, a bomb that went
off, a hostile file that was obeyed.
"""

from collections import Counter

from tests.faults.cases import IN_CONTRACT, OTHER, SENTENCE, Case, run_cases
from tests.faults.checkpoints import checkpoint_cases
from tests.faults.frames import frame_cases
from tests.faults.listings import listing_cases
from tests.faults.tables import table_cases


def all_cases() -> list[Case]:
    """Every case, in the order of the table."""
    return [*frame_cases(), *listing_cases(), *checkpoint_cases(), *table_cases()]


def some_cases(each: int = 3) -> list[Case]:
    """A few of every kind, spread over it: the small form of the suite."""
    kinds: dict[str, list[Case]] = {}
    for case in all_cases():
        kinds.setdefault(case.kind, []).append(case)
    return [of_kind[i * len(of_kind) // each] for of_kind in kinds.values() for i in range(each)]


def run(cases: list[Case] | None = None) -> bool:
    """Run the cases (all by default) and print the table; True where none ended otherwise."""
    cases = all_cases() if cases is None else cases
    counts: dict[str, Counter] = {}
    failed = []
    for outcome in run_cases(cases):
        counts.setdefault(outcome.case.kind, Counter())[outcome.verdict] += 1
        if outcome.verdict == OTHER:
            failed.append(outcome)
    verdicts = (SENTENCE, IN_CONTRACT, OTHER)
    print(
        f"{'kind':<26}{'cases':>6}"
        + "".join(f"{verdict:>{len(verdict) + 2}}" for verdict in verdicts)
    )
    rows = [*counts.items(), ("all", sum(counts.values(), Counter()))]
    for kind, found in rows:
        numbers = "".join(f"{found[verdict]:>{len(verdict) + 2}}" for verdict in verdicts)
        print(f"{kind:<26}{found.total():>6}{numbers}")
    for outcome in failed:
        print(f"{outcome.case.kind}, {outcome.case.name}: {outcome.detail}")
    return not failed
