"""The time that a run may still take, from what its finished prompts really used."""

from __future__ import annotations

from ..generation.requests import Stats
from .feed import Feed
from .session import Session

__all__ = ["seconds_left"]


def seconds_left(feed: Feed, session: Session, stats: Stats, seconds: float) -> float | None:
    """The time that the rest takes; `seconds` is what the run took so far. None where nobody knows how many prompts
    there are, or none is finished.

    The lengths of prompts that were read are known; the others, and all texts, are taken to be as long as those that
    are there. A token costs what it cost so far, those of prompts and generated ones each."""
    jobs = _jobs(feed)
    if jobs is None or not session.ended:
        return None
    busy = stats.prefill_seconds + stats.decode_seconds
    if busy <= 0:
        return seconds * (jobs - session.ended) / session.ended
    left = _seconds(jobs * feed.tokens / feed.jobs, stats.prompt_tokens, stats.prefill_seconds)
    left += _seconds(jobs * session.made / session.ended, stats.generated_tokens, stats.decode_seconds)
    return left * seconds / busy if jobs > session.ended else 0.0


def _jobs(feed: Feed) -> float | None:
    """How many prompts will run in all."""
    if not feed.jobs:
        return None
    if feed.prompts.ended:
        return feed.jobs
    share = feed.prompts.share
    if share is None or share <= feed.first_share:
        return None
    return feed.jobs * (1 - feed.first_share) / (share - feed.first_share)


def _seconds(tokens: float, done: float, seconds: float) -> float:
    """The time for the rest of `tokens`, if `done` of them took so many seconds."""
    return max(tokens - done, 0) * seconds / done if done else 0.0
