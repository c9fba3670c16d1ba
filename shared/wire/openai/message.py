"""The messages of a chat request, one Struct per role."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from shared.errors import MissingParameter


class Part(msgspec.Struct, tag_field="type"):
    """One piece of a message's content."""


class TextPart(Part, tag="text"):
    text: str


class RefusalPart(Part, tag="refusal"):
    refusal: str


class Address(msgspec.Struct):
    url: str
    detail: str | None = None


class ImagePart(Part, tag="image_url"):
    image_url: Address


class VideoPart(Part, tag="video_url"):
    video_url: Address


class Audio(msgspec.Struct):
    data: str
    format: str


class AudioPart(Part, tag="input_audio"):
    input_audio: Audio


class FilePart(Part, tag="file"):
    file: dict[str, msgspec.Raw]


MEDIA = (ImagePart, VideoPart, AudioPart, FilePart)

Texts = Annotated[list[TextPart], Meta(min_length=1)]
Parts = Annotated[list[TextPart | ImagePart | VideoPart | AudioPart | FilePart], Meta(min_length=1)]


class CalledFunction(msgspec.Struct):
    name: str
    arguments: str


class ToolCall(msgspec.Struct):
    id: str
    type: str = "function"
    function: CalledFunction | None = None


class Message(msgspec.Struct, tag_field="role"):
    """One turn of a conversation."""


class System(Message, tag="system"):
    content: str | Texts
    name: str | None = None


class Developer(Message, tag="developer"):
    content: str | Texts
    name: str | None = None


class User(Message, tag="user"):
    content: str | Parts
    name: str | None = None


class Assistant(Message, tag="assistant"):
    content: str | list[TextPart | RefusalPart] | None = None
    name: str | None = None
    refusal: str | None = None
    tool_calls: list[ToolCall] | None = None
    function_call: CalledFunction | None = None


class Tool(Message, tag="tool"):
    content: str | Texts
    tool_call_id: str


class Function(Message, tag="function"):
    content: str | None
    name: str


AnyMessage = System | Developer | User | Assistant | Tool | Function
Messages = Annotated[list[AnyMessage], Meta(min_length=1)]


def check(messages: list[AnyMessage]) -> None:
    """What types cannot say: an assistant's turn says or calls something."""
    for index, message in enumerate(messages):
        if isinstance(message, Assistant) and message.content is None:
            spoken = message.refusal is not None or message.function_call is not None
            if not spoken and not message.tool_calls:
                name = f"messages[{index}].content"
                raise MissingParameter(
                    f"Missing required parameter: '{name}'. An assistant message without"
                    " 'tool_calls' needs it.",
                    param=name,
                )


def has_media(messages: list[AnyMessage]) -> bool:
    """Whether a user sends anything but text."""
    return any(
        isinstance(part, MEDIA)
        for message in messages
        if isinstance(message, User) and not isinstance(message.content, str)
        for part in message.content
    )
