"""What a row of any data looks like to rlperc: a prompt as a conversation, columns that rewards read as text."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rlperc.errors import DataError, did_you_mean
from rlperc.recipe.schema import Data
from rlperc.words.structure import canonical

Row = dict[str, Any]
Messages = list[dict[str, Any]]
IMAGE_COLUMNS = ("image", "images")
# Columns that rewards read as text, though data may well hold numbers or nested lists there.
TEXT_COLUMNS = ("answer", "perception", "response")


def check_mapped(data: Data, names: Iterable[str]) -> None:
    """Hold the names under `columns` to those the data has. Raises DataError."""
    for theirs in data.columns.values():
        if theirs not in names:
            raise DataError(f"the column '{theirs}' of {data.source}", "it has none of that name", did_you_mean(theirs, names))


def check_prompt(data: Data, names: Iterable[str]) -> None:
    """Hold the columns, under our names, to having a prompt. Raises DataError."""
    if "prompt" not in names:
        raise DataError(
            f"the rows of {data.source}",
            f"they have no column 'prompt'; they have {', '.join(names)}",
            "columns: {prompt: the column that holds the question}",
        )


def text_columns(data: Data, row: Row) -> Row:
    """The columns of a row that change: `prompt` becomes a conversation, the others text (JSON where they are nested).

    `question` is the prompt's own text, for rewards that ask another model the same; data may bring its own.

    Raises:
        DataError: the prompt is neither text nor a conversation, or the template cannot be filled.
    """
    return {"prompt": _conversation(data, row), **reward_columns(row)}


def reward_columns(row: Row) -> Row:
    """The columns that rewards read in another form than data may have them; a file of completions may lack the prompt.

    Raises:
        DataError: a value cannot be written as JSON.
    """
    changed: Row = {}
    if "question" not in row and isinstance(row.get("prompt"), str):
        changed["question"] = row["prompt"]
    for name in TEXT_COLUMNS:
        if name in row:
            changed[name] = as_text(name, row[name])
    return changed


def as_text(name: str, value: Any) -> str | None:
    """A value of a text column: text as it is, anything else as JSON. Raises DataError where it has no such form."""
    if value is None or isinstance(value, str):
        return value
    try:
        return canonical(value)
    except (TypeError, ValueError, RecursionError) as error:
        kind = type(value).__name__  # not the value: what cannot be written may be too deep to be shown
        raise DataError(f"the column '{name}'", f"its {kind} cannot be written as JSON: {error}", "text, or plain JSON") from None


def row_images(row: Row) -> list[Any]:
    """The images of a row, in order; none is an empty list."""
    if row.get("images"):
        return list(row["images"])
    return [row["image"]] if row.get("image") is not None else []


def with_image_size(row: Row) -> Row:
    """The row with `image_size` ([width, height] of its first image, in pixels), where it has an image and does not say."""
    images = row_images(row)
    if not images or row.get("image_size") is not None:
        return row
    return {**row, "image_size": list(images[0].size)}


def _conversation(data: Data, row: Row) -> Messages:
    prompt = row["prompt"]
    if isinstance(prompt, str):
        messages: Messages = [{"role": "user", "content": _fill(data, row)}]
    else:
        messages = _checked(prompt, data)
    if data.system_prompt is not None and messages[0]["role"] != "system":
        in_parts = not isinstance(messages[0]["content"], str)
        content = [{"type": "text", "text": data.system_prompt}] if in_parts else data.system_prompt
        messages = [{"role": "system", "content": content}, *messages]
    return messages


def _checked(prompt: Any, data: Data) -> Messages:
    def refuse(why: str, instead: str) -> DataError:
        return DataError(f"a prompt of {data.source}", why, instead)

    if not isinstance(prompt, list) or not prompt:
        raise refuse(f"it is {prompt!r:.60}, neither text nor messages", "text, or [{role: user, content: …}]")
    if not all(isinstance(message, dict) and {"role", "content"} <= set(message) for message in prompt):
        raise refuse("its messages lack a role or a content", "[{role: user, content: …}]")
    if data.prompt_template is not None:
        raise refuse("it is a conversation already, and `prompt_template` fills text", "leave `prompt_template` out")
    return list(prompt)


def _fill(data: Data, row: Row) -> str:
    if data.prompt_template is None:
        return str(row["prompt"])
    try:
        return data.prompt_template.format(**row)
    except (KeyError, IndexError, ValueError, AttributeError) as error:
        raise DataError(
            f"prompt_template: {data.prompt_template!r}",
            f"it cannot be filled: {error!r}",
            f"{{…}} around one of: {', '.join(row)}",
        ) from None
