"""How fast an answer came, and why it ended, in LM Studio's words."""

from __future__ import annotations

from anyform.contract.jobs import Generation
from anyform.dialect import Course, Done, Event, Reasoning, Text, ToolCall, Usage

REASONS = {"stop": "eosFound", "tool_calls": "toolCalls", "cancelled": "userStopped"}


class Pace:
    """Watches the events of one answer."""

    def __init__(self, course: Course) -> None:
        self.course = course
        self.dones: list[Done] = []
        self._first_s: float | None = None
        self._last_s = 0.0

    def take(self, event: Event) -> None:
        """The next event, as it comes."""
        if isinstance(event, Done):
            self._last_s = self.course.elapsed_s()
            self.dones.append(event)
        elif self._first_s is None and isinstance(event, Text | Reasoning | ToolCall):
            self._first_s = self.course.elapsed_s()

    @property
    def usage(self) -> Usage:
        """The tokens of all jobs."""
        counted = [done.usage for done in self.dones]
        return Usage(
            prompt_tokens=sum(one.prompt_tokens for one in counted),
            completion_tokens=sum(one.completion_tokens for one in counted),
            reasoning_tokens=sum(one.reasoning_tokens for one in counted),
        )

    @property
    def first_s(self) -> float:
        """From when the model was there to the first token; where none came, to the end."""
        first = self._last_s if self._first_s is None else self._first_s
        return max(0.0, first - self.course.load_s)

    @property
    def generate_s(self) -> float:
        """How long the tokens took: as the engine measured, else as they came."""
        if len(self.dones) == 1 and self.dones[0].generate_s:
            return self.dones[0].generate_s
        return 0.0 if self._first_s is None else max(0.0, self._last_s - self._first_s)

    @property
    def rate(self) -> float:
        """Tokens a second."""
        took = self.generate_s
        return self.usage.completion_tokens / took if took else 0.0

    @property
    def load_s(self) -> float | None:
        """How long the model took to load for this request; None: it was there."""
        loaded = self.course.loaded
        was_there = loaded is None or loaded.since_s >= self.course.load_s
        return None if was_there else self.course.load_s

    def reason(self, wanted: Generation) -> str:
        """`stop_reason` of the first answer."""
        finish = self.dones[0].finishes[0] if self.dones and self.dones[0].finishes else None
        if finish is None:
            return "failed"
        if finish.reason == "length":
            most = None if wanted.max_tokens is None else wanted.max_tokens * wanted.n
            reached = most is not None and self.dones[0].usage.completion_tokens >= most
            return "maxPredictedTokensReached" if reached else "contextLengthReached"
        return "stopStringFound" if finish.stop else REASONS.get(finish.reason, "eosFound")
