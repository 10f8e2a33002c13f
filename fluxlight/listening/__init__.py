"""A listening test without references: its order, its page, the votes that come back, and what they say."""

from fluxlight.listening.ballots import Ballot, read_ballots
from fluxlight.listening.design import Trial, design
from fluxlight.listening.session import make_session
from fluxlight.listening.winrate import Rate, powered_rate, vote_rate, votes_needed

__all__ = [
    "Ballot",
    "Rate",
    "Trial",
    "design",
    "make_session",
    "powered_rate",
    "read_ballots",
    "vote_rate",
    "votes_needed",
]
