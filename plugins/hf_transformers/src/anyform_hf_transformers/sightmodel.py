"""A loaded model that chats about pictures; it captions, and answers questions, by being asked in a chat."""

from __future__ import annotations

from anyform.contract.jobs import Answer, Caption, Chat, Generation, Job, Message, Picture, Sampling, Text
from anyform.contract.model import Stop
from anyform.text.reading import Request
from anyform.text.textmodel import TextModel

DESCRIBE = "Describe this picture in one sentence."
"""What a model is asked that is to caption a picture."""


class SightModel(TextModel):
    """What `load` gives for a model that generates text about pictures."""

    def _prepare(self, job: Job, stop: Stop) -> Request:
        if isinstance(job, Caption):
            job = _asked(job.picture, DESCRIBE, job.max_tokens)
        elif isinstance(job, Answer):
            job = _asked(job.picture, job.question, job.max_tokens)
        return super()._prepare(job, stop)


def _asked(picture: Picture, question: str, max_tokens: int) -> Chat:
    """The likeliest answer to *question*, without thinking, which might take all its tokens."""
    message = Message(role="user", parts=(picture, Text(text=question)))
    generation = Generation(max_tokens=max_tokens, sampling=Sampling(temperature=0.0))
    return Chat(messages=(message,), thinking=False, generation=generation)
