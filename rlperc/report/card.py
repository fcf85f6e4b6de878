"""The model card: what the model was trained on, with which rewards, and what was measured before and after."""

from __future__ import annotations

import json
from pathlib import Path

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined

from rlperc.recipe.folder import RunFolder
from rlperc.recipe.schema import RL_KINDS
from rlperc.report.numbers import table


def write_card(folder: RunFolder) -> None:
    """Write `model/README.md` from the run's folder."""
    summary = folder.read_summary()
    text = folder.recipe.read_text(encoding="utf-8")
    recipe = yaml.safe_load(text)
    rewards = {reward["use"]: reward for stage in recipe["stages"] if stage["kind"] in RL_KINDS for reward in stage["rewards"]}
    environment = Environment(loader=PackageLoader("rlperc.report"), autoescape=False, undefined=StrictUndefined)  # noqa: S701 - Markdown
    card = environment.get_template("card.md").render(
        summary=summary,
        recipe=recipe,
        recipe_text=text,
        rewards=[{**reward, "use": Path(use).name} for use, reward in rewards.items()],
        base_model=recipe["stages"][0]["model"].get("name"),
        versions=json.loads(folder.versions.read_text(encoding="utf-8")),
        table=table(summary),
    )
    folder.write(folder.model / "README.md", card)
