"""Judge sets: who judges in the embedded world and in the published one, under the names that tables use."""

from __future__ import annotations

from fluxlight.evaluation.judging import Judges

NAMES = ("embedded", "published")


def load_judges(name: str = "embedded") -> Judges:
    """The judges of a world; the first CLAP, on which nothing is optimised, gives FAD.

    Args:
        name: "embedded" (CLAP-B and reward B judge, CLAP-A and reward A were optimised on) or "published" (LAION-CLAP
            and TuneJury from the weights folder; the published system selects by both, FACTS section 3, so the caller
            says what was optimised).

    Raises:
        FileNotFoundError: published weights are absent; the line says which and where they come from.
    """
    if name == "embedded":
        from fluxlight.encoders.clap_a import ClapA
        from fluxlight.encoders.clap_b import ClapB
        from fluxlight.rewards.embedded import RewardA, RewardB

        a, b = ClapA(), ClapB()
        rewards = {"reward_a": RewardA(clap=a), "reward_b": RewardB(clap=b)}
        return Judges({"clap_b": b, "clap_a": a}, rewards, frozenset({"clap_a", "reward_a"}))
    if name == "published":
        from fluxlight.encoders.laion_clap import LaionClap
        from fluxlight.rewards.published import TuneJuryReward

        clap = LaionClap()
        return Judges({"clap": clap}, {"reward": TuneJuryReward(clap=clap)})
    raise ValueError(f"judges {name!r}: choose one of {', '.join(NAMES)}")
