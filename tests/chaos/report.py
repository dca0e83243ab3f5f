"""What a run is asked for, and what is told of it at the end."""

from dataclasses import dataclass, field

from tests.chaos.judge import Verdict


@dataclass(frozen=True, slots=True)
class Options:
    """What a run is asked for. `per_second`: orders that begin in a second, where the machine keeps up."""

    seed: int
    orders: int
    seconds: float
    names: tuple[str, ...]
    per_second: float
    storm_seconds: float


@dataclass
class Report:
    """What became of it."""

    options: Options
    verdict: Verdict = field(default_factory=Verdict)
    faults: dict[str, int] = field(default_factory=dict)
    storm_seconds: float = 0.0
    settle_seconds: float = 0.0
    setup_seconds: float = 0.0
    seconds: float = 0.0
    problem: str | None = None

    @property
    def holds(self) -> bool:
        return self.problem is None and self.verdict.holds

    def lines(self) -> list[str]:
        """The summary."""
        verdict = self.verdict
        return [
            f"seed {self.options.seed}",
            f"orders {verdict.orders}, equal to the provider's {verdict.equal}",
            "faults " + ", ".join(f"{name} {count}" for name, count in sorted(self.faults.items())),
            f"acknowledged {verdict.acknowledged}, lost = {verdict.lost}",
            f"planted discrepancies {verdict.planted}, wrong = {sum(map(bool, verdict.wrong.values()))}",
            "last seen by " + ", ".join(f"{cause} {count}" for cause, count in sorted(verdict.by_cause.items())),
            (
                f"slowest convergence {verdict.slowest_told_seconds:.1f} s where the last word was told, "
                f"{verdict.slowest_untold_seconds:.1f} s where it was lost"
            ),
            (
                f"duration {self.seconds:.0f} s (ready after {self.setup_seconds:.0f} s, "
                f"storm {self.storm_seconds:.0f} s, settled {self.settle_seconds:.0f} s later)"
            ),
            *([f"PROBLEM {self.problem}"] if self.problem else []),
            *(f"WRONG {what}: {'; '.join(whom)}" for what, whom in verdict.wrong.items() if whom),
        ]
