"""A run in the terminal: the table, the coupling, the samples with their images."""

from __future__ import annotations

from typing import Any

from PIL import Image
from rich.console import Console
from rich.table import Table
from rich.text import Text

from rlperc.recipe.folder import RunFolder
from rlperc.report.numbers import CREDIT, change_table, coupling_table, credit_table, faults_table, legend, rewards_table, table
from rlperc.score.offline import training_text

SAMPLES = 3
IMAGE_COLUMNS = 32


def show_run(folder: RunFolder, console: Console) -> None:
    """Print what a run measured."""
    summary = folder.read_summary()
    for index, sample in enumerate(summary.get("samples", [])[:SAMPLES]):
        _show_sample(folder, index, sample, console)
    for stage, coupling in summary["coupling"].items():
        _show_table(f"Within-group correlation of the rewards in '{stage}'", coupling_table(coupling), console)
        _show_table(f"What they decide in '{stage}', percent", credit_table(coupling), console)
        for line in (CREDIT, *training_text(coupling)):
            console.print(line, highlight=False, soft_wrap=True)
    for stage, tallies in summary["rewards"].items():
        if any(set(tally["counts"]) - {"value"} for tally in tallies.values()):
            _show_table(f"What the rewards of '{stage}' made of the completions", rewards_table(tallies), console)
        for name, times, why in faults_table(tallies)[1:]:
            console.print(Text(f"{name} failed {times} times because {_printable(why)}"), soft_wrap=True)
    show_measures(summary, console)
    console.print(
        f"{summary['status']} in {summary['seconds']:.0f} s, {summary['peak_memory_mib'] / 1024:.2f} GiB at most", highlight=False
    )


def show_measures(summary: dict[str, Any], console: Console) -> None:
    """Print what models got, and what became of it from one to the other."""
    if summary["eval"]:
        _show_table("Percent, with 95 % intervals", table(summary), console)
        console.print(legend(summary), highlight=False)
    for before, changes in summary.get("changes", {}).items():
        _show_table(f"Against '{before}', row by row, with the exact sign test", change_table(changes), console)


def _show_table(title: str, lines: list[list[str]], console: Console) -> None:
    drawn = Table(title=title, title_justify="left")
    for number, name in enumerate(lines[0]):
        drawn.add_column(name, justify="left" if number == 0 else "right")
    for line in lines[1:]:
        drawn.add_row(*map(Text, line))
    console.print(drawn)


def _show_sample(folder: RunFolder, index: int, sample: dict[str, Any], console: Console) -> None:
    console.print(Text(f"sample {index + 1}: {_printable(sample['prompt'])}", style="bold"))
    if console.color_system is not None:
        for file in sample["images"]:
            console.print(half_blocks(Image.open(folder.path / file)), end="")
    truth = [f"{name} {sample[name]}" for name in ("perception", "answer") if sample.get(name) is not None]
    console.print(Text(_printable(f"  truth   {', '.join(truth)}")))
    for label, response in sample["responses"].items():
        if label != "random":
            console.print(Text(f"  {label:7} {_printable(response['text'])[:200]}"), soft_wrap=True)


def _printable(text: str) -> str:
    """Model output on one line, without the control characters that could drive a terminal."""
    return "".join(c if c.isprintable() else "⏎" if c == "\n" else "�" for c in text)


def half_blocks(image: Image.Image) -> Text:
    """An image as coloured half blocks, two pixels above one another in each character."""
    width = min(IMAGE_COLUMNS, image.width)
    height = max(2, round(image.height * width / image.width) // 2 * 2)
    small = image.convert("RGB").resize((width, height))
    text = Text()
    for y in range(0, height, 2):
        for x in range(width):
            upper, lower = small.getpixel((x, y)), small.getpixel((x, y + 1))
            text.append("▀", style=f"rgb({_rgb(upper)}) on rgb({_rgb(lower)})")
        text.append("\n")
    return text


def _rgb(pixel: Any) -> str:
    return ",".join(map(str, pixel))
