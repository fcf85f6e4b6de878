import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from rlperc.cli import main
from rlperc.recipe.folder import RunFolder
from rlperc.report.numbers import credit_table
from rlperc.report.page import write_page
from rlperc.report.terminal import half_blocks, show_run
from rlperc.score.coupling import Coupling
from rlperc.score.roles import Roles


@pytest.fixture
def run(short_run: Path, tmp_path: Path) -> RunFolder:
    shutil.copytree(short_run, tmp_path / "run")
    return RunFolder(tmp_path / "run")


def test_the_page_stands_alone(run: RunFolder) -> None:
    page = run.report.read_text()
    links = re.findall(r"""(?:src|href)=["']([^"']+)""", page)
    assert all(link.startswith(("data:", "#")) for link in links)
    assert page.count("data:image/png;base64,") == 6
    assert page.count("<svg") == 5  # the curve, two losses, the rewards, groups without spread
    assert "perception_cells" in page


def test_what_a_model_writes_is_never_markup_nor_a_terminal_command(run: RunFolder, capsys: pytest.CaptureFixture) -> None:
    summary = run.read_summary()
    summary["samples"][0]["responses"]["after"]["text"] = "<script>alert(1)</script>\x1b[2J[bold]"
    run.write_json(run.summary, summary)
    write_page(run)
    assert "<script>" not in run.report.read_text()
    show_run(run, Console(width=100))
    shown = capsys.readouterr().out
    assert "\x1b" not in shown
    assert "<script>alert(1)</script>\N{REPLACEMENT CHARACTER}[2J[bold]" in shown


def test_the_table_in_the_terminal_is_the_summary(run: RunFolder, capsys: pytest.CaptureFixture) -> None:
    assert main(["report", str(run.path)]) == 0
    shown = capsys.readouterr().out
    after = run.read_summary()["eval"]["after"]
    low, high = after["a_interval"]
    assert f"{100 * after['a']:.1f} [{100 * low:.1f}, {100 * high:.1f}]" in shown
    assert "answer_number" in shown


def test_what_each_reward_decides_worked_by_hand() -> None:
    """Two groups of two: in the first the outcome is flat and the other reward is not; in the second both move, apart."""
    coupling = Coupling(["a", "b"], Roles(outcome=0))
    coupling.add(np.array([[0.0, 1.0], [0.0, 0.0], [1.0, 0.0], [0.0, 0.5]]), 2, [1.0, 0.5])
    # Of a + b / 2: in the first group all is b's; in the second a is ±.5 and b / 2 is ∓.125, a's share .5 / .375 and b's -1/3.
    assert credit_table(coupling.report())[1:] == [["a", "50", "–", "–", "67"], ["b", "0", "50", "100", "33"]]
    nobody = Coupling(["a"])
    nobody.add(np.array([[0.0], [1.0]]), 2)
    assert credit_table(nobody.report())[1:] == [["a", "0", "–", "–", "–"]]


def test_a_run_that_was_cut_short_still_has_a_page(run: RunFolder) -> None:
    summary = run.read_summary()
    cut = {**summary, "status": "interrupted", "eval": {}, "curve": [], "coupling": {}}
    del cut["samples"]
    run.write_json(run.summary, cut)
    run.metrics.write_text(run.metrics.read_text()[:-20])
    write_page(run)
    assert "interrupted" in run.report.read_text()


def test_a_folder_without_a_run(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["report", str(tmp_path)]) == 2
    assert "it has no summary.json" in capsys.readouterr().err


def test_half_blocks_carry_two_pixels_each() -> None:
    image = Image.new("RGB", (2, 2), (255, 0, 0))
    image.putpixel((1, 1), (0, 0, 255))
    text = half_blocks(image)
    assert text.plain == "▀▀\n"
    assert [str(span.style) for span in text.spans] == ["rgb(255,0,0) on rgb(255,0,0)", "rgb(255,0,0) on rgb(0,0,255)"]


def test_files_are_written_whole_or_not_at_all(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.write_json(folder.summary, {"a": 1})
    with pytest.raises(ValueError, match="JSON"):
        folder.write_json(folder.summary, {"a": float("nan")})
    assert json.loads(folder.summary.read_text()) == {"a": 1}
    silent = RunFolder(tmp_path / "other", writes=False)
    silent.claim(move_aside=False)
    silent.log("train", step=1)
    assert not (tmp_path / "other").exists()


def test_lambda_is_drawn_where_it_moved(run: RunFolder) -> None:
    for step, value in ((1, 0.2), (2, 0.4)):
        run.log("train", stage="warm", step=step, **{"reweight/lambda": value, "reweight/share": 0.2})
    write_page(run)
    assert "perception's part of the loss" in run.report.read_text()
