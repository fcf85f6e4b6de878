"""Asking a language model on an OpenAI-compatible server, for rewards that need a reader of text.

What a judge cannot tell is never a score: a server that is down, answers too late or says nothing raises JudgeError, and
the recipe's `on_error` decides what becomes of the row.

With vLLM, serve the model with `--generation-config vllm`: otherwise its generation_config.json may limit how long an
answer gets (`max_new_tokens`) and change what it says (`repetition_penalty`), at temperature 0 too. A model that thinks
first answers sooner with `--default-chat-template-kwargs '{"enable_thinking": false}'`.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import os
import re
from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from rlperc.errors import RecipeError
from rlperc.words.structure import canonical

if TYPE_CHECKING:
    import openai

Message = dict[str, str]
T = TypeVar("T")

# Of a model's text, characters that a judge is shown: about 2,000 tokens, more than a perception needs.
MAX_QUOTED = 8_000
MAX_ANSWERS = 4_096
MAX_CONNECT_S = 5.0
# Where a special token may begin: "<|im_end|>", "</s>", "<image>", "[INST]".
_SPECIAL = re.compile(r"<(?=[^\s<>]{1,80}>)|\[(?=/?[A-Za-z_]{1,80}\])")
_KEY = "the key is in the variable that `api_key_env` names"
_HINTS = {401: _KEY, 403: _KEY, 404: "`server` ends in /v1, and GET /v1/models tells the names of its models"}


class JudgeError(Exception):
    """A judge gave no usable answer. Our side broke, so no score may come of it."""


class Judge:
    """One model on one server. Asks each question once: equal ones share a request, and the last answers are kept.

    So the model behind the name must stay the same: no server that is sent the weights of a training.

    It belongs to the event loop that runs when it is asked; a new loop gets new connections, and keeps the answers.
    """

    def __init__(
        self,
        server: str,
        model: str,
        *,
        api_key_env: str | None = None,
        timeout_s: float = 25.0,
        retries: int = 2,
        temperature: float = 0.0,
        concurrency: int = 32,
    ) -> None:
        """Describe a judge; nothing is sent yet.

        Args:
            server: base URL, `http://localhost:8000/v1`.
            model: as the server calls it.
            api_key_env: the environment variable that holds the key; None for a server without keys.
            timeout_s: seconds for an answer, with every retry and every wait for a free place.
            retries: further tries after a refused connection, a 408, 409 or 429, or a 5xx.
            temperature: 0 for the likeliest answer.
            concurrency: requests that may be under way at once.
        """
        self.server, self.model = server, model
        self._api_key_env = api_key_env
        self._timeout_s, self._retries = timeout_s, retries
        self._temperature, self._concurrency = temperature, concurrency
        self._answers: OrderedDict[bytes, str] = OrderedDict()
        self._loop: asyncio.AbstractEventLoop | None = None

    async def ask(self, messages: list[Message]) -> str:
        """Return the model's answer to a conversation, without the reasoning that ends in `</think>`.

        Args:
            messages: each with `role` and `content`.

        Raises:
            JudgeError: the server is down, refuses, takes too long or answers nothing.
            RecipeError: the environment variable of the key is not set.
        """
        self._enter_loop()
        messages = [{name: _sendable(text) for name, text in message.items()} for message in messages]
        key = hashlib.sha256(canonical(messages).encode()).digest()
        if key in self._answers:
            self._answers.move_to_end(key)
            return self._answers[key]
        request = self._requests.get(key)
        if request is None:
            request = self._requests[key] = asyncio.create_task(self._request(key, messages))
        self._waiting[key] += 1
        try:
            # Shielded, because others may wait for the same answer when this one gives up.
            return await asyncio.shield(request)
        finally:
            self._waiting[key] -= 1
            if not self._waiting[key]:
                del self._waiting[key], self._requests[key]
                request.cancel()

    def _enter_loop(self) -> None:
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            self._client = self._connect()
            self._places = asyncio.Semaphore(self._concurrency)
            self._requests: dict[bytes, asyncio.Task[str]] = {}
            self._waiting: Counter[bytes] = Counter()
            self._loop = loop

    def _connect(self) -> openai.AsyncOpenAI:
        import openai

        key = "none" if self._api_key_env is None else os.environ.get(self._api_key_env)
        if not key:
            raise RecipeError(
                f"the key of the judge {self.server}",
                f"the environment variable {self._api_key_env} is not set",
                f"export {self._api_key_env}=…, or leave `api_key_env` out for a server without keys",
            )
        limit = openai.Timeout(self._timeout_s, connect=min(MAX_CONNECT_S, self._timeout_s))
        return openai.AsyncOpenAI(base_url=self.server, api_key=key, timeout=limit, max_retries=self._retries)

    async def _request(self, key: bytes, messages: list[Message]) -> str:
        import openai

        try:
            async with asyncio.timeout(self._timeout_s), self._places:
                reply = await self._client.chat.completions.create(
                    model=self.model,
                    messages=messages,  # type: ignore[arg-type]  # theirs are one TypedDict for each role
                    temperature=self._temperature,
                )
        except (TimeoutError, openai.APITimeoutError):
            raise self.failure(f"gave no answer within {self._timeout_s:g} s") from None
        except openai.APIStatusError as error:
            raise self.failure(_refusal(error)) from error
        except (openai.OpenAIError, ValueError) as error:  # ValueError: not JSON
            raise self.failure(f"cannot be asked: {error} {error.__cause__ or ''}") from error
        # A server that is not quite OpenAI's leaves out what their types promise.
        choices = getattr(reply, "choices", None) or [None]
        text = getattr(getattr(choices[0], "message", None), "content", None)
        if getattr(choices[0], "finish_reason", None) == "length":
            # What is cut off may be a thought; and asked again, with all of that in the question, it would not fit either.
            raise self.failure(f"was cut off by the end of its context or its server's limit, at {str(text or '')[-40:]!r}")
        if not isinstance(text, str) or not text.strip():
            raise self.failure("gave an empty answer")
        answer = text.rpartition("</think>")[2].strip()
        self._answers[key] = answer
        if len(self._answers) > MAX_ANSWERS:
            self._answers.popitem(last=False)
        return answer

    def failure(self, what: str) -> JudgeError:
        """The error that says what this judge did, in one line."""
        return JudgeError(f"the judge {self.model} at {self.server} {' '.join(what.split())[:300]}")


@functools.lru_cache(maxsize=16)
def shared_judge(server: str, model: str, api_key_env: str | None = None, timeout_s: float = 25.0, retries: int = 2) -> Judge:
    """The judge of this description, one for the process: a reward is called for each completion anew."""
    return Judge(server, model, api_key_env=api_key_env, timeout_s=timeout_s, retries=retries)


async def ask_readable(judge: Judge, messages: list[Message], read: Callable[[str], T | None], form: str) -> T:
    """Ask, and once more where the answer is not in the form that was asked for.

    Args:
        judge: whom to ask.
        messages: the conversation.
        read: reads an answer; None where it cannot.
        form: what an answer looks like, to complete "Reply with …, and nothing else."

    Raises:
        JudgeError: as `Judge.ask`, or neither answer can be read.
    """
    first = await judge.ask(messages)
    value = read(first)
    if value is not None:
        return value
    reminder = {"role": "user", "content": f"That cannot be read. Reply with {form}, and nothing else."}
    second = await judge.ask([*messages, {"role": "assistant", "content": first[:MAX_QUOTED] or "-"}, reminder])
    value = read(second)
    if value is None:
        raise judge.failure(f"was asked twice for {form}, and answered {second[:100]!r}")
    return value


def quoted(text: str) -> str:
    """Untrusted text as data inside a message: cut to 8,000 characters, between two lines that it cannot contain.

    The lines carry a hash of the text, which the text's author would have to know beforehand to close them. Special tokens
    in it are broken up as in `unspecial`.
    """
    shown = unspecial(_sendable(text[:MAX_QUOTED]))[:MAX_QUOTED]
    mark = hashlib.sha256(shown.encode()).hexdigest()[:8]
    return f"----- data {mark} begins -----\n{shown}\n----- data {mark} ends -----"


def unspecial(text: str) -> str:
    """Text in which nothing reads as a special token: a space after the first character of what looks like one.

    A server looks for special tokens in the whole conversation, whoever wrote what: a text that spells `<|im_end|>` ends
    its own message and can go on as another speaker, and `<image>` stands for an image that nobody sent.
    """
    return _SPECIAL.sub(lambda found: f"{found[0]} ", text)


def _refusal(error: openai.APIStatusError) -> str:
    """What a server said with a status of 4xx or 5xx, with what that may be about and without the JSON around it."""
    said = error.body.get("message") if isinstance(error.body, dict) else error.body
    hint = f" ({_HINTS[error.status_code]})" if error.status_code in _HINTS else ""
    return f"answered HTTP {error.status_code}{hint}: {said or error.response.text}"


def _sendable(text: str) -> str:
    """Without lone surrogates, which no request can carry."""
    return text.encode("utf-8", "replace").decode()
