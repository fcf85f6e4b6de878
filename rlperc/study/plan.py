"""What a study file says: cases, seeds, runs, and the claims that the runs are to test."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, Field, model_validator

from rlperc.errors import did_you_mean
from rlperc.recipe.part import Part
from rlperc.recipe.schema import Name


def differ(items: list[Any]) -> list[Any]:
    """The items, of which none may stand twice: a seed that does would count as two."""
    doubles = [item for item in items if items.count(item) > 1]
    if doubles:
        raise ValueError(f"{doubles[0]} stands twice")
    return items


Seeds = Annotated[list[Annotated[int, Field(ge=0, lt=2**32)]], Field(min_length=1), AfterValidator(differ)]
Stages = Annotated[list[Name], Field(min_length=1), AfterValidator(differ)]
Measure = Literal["a", "a_p", "a_p_partial", "a_r", "a_o"]


class Case(Part):
    """What runs are made in, such as a model and a world."""

    recipes: dict[Name, Path] = Field(min_length=1)
    """Files, which count from the study's."""
    words: dict[Name, str] = Field(default_factory=dict)
    """What `$word` in a run's overrides stands for here."""
    set_: list[str] = Field(default_factory=list, alias="set")
    """Overrides for every run, before the run's own."""
    stages: dict[Name, Stages] = Field(default_factory=dict)
    """Runs that have other stages here than they say."""


class Run(Part):
    """One training, made with every seed in every case that has its recipe."""

    recipe: Name
    stages: Stages
    """Of that recipe's."""
    from_: Name | None = Field(None, alias="from")
    """The run whose model it begins with. Default: the recipe's own."""
    set_: list[str] = Field(default_factory=list, alias="set")
    """Overrides, as on the command line, but `$word` is the case's."""


class Need(Part):
    """What has to hold for a claim to be testable in a case: a run's measure, as a mean over seeds."""

    run: Name
    measure: Measure
    at_least: float = Field(0.0, ge=0, le=1)
    at_most: float = Field(1.0, ge=0, le=1)

    @model_validator(mode="after")
    def _can_hold(self) -> Need:
        if self.at_least > self.at_most:
            raise ValueError(f"nothing is at least {self.at_least:g} and at most {self.at_most:g}")
        return self


class Aim(Part):
    """What is hoped for, in points, of the means over seeds."""

    once: float | None = None
    """In at least one case."""
    everywhere: float | None = None
    """In all of them."""
    harmless: bool = False
    """Nowhere below 0 by more than chance."""


class _Claim(Part):
    says: str
    published: str = "–"
    """What the paper reports, as text."""
    aim: Aim = Aim()
    needs: list[Need] = Field(default_factory=list)


class _Better(_Claim):
    """A run is better than another one: the difference of a measure, seed by seed."""

    over: Name
    measure: Measure = "a"
    share_of: Name | None = None
    """Another run, whose own gain is the whole that this one's is a share of."""

    @property
    def _beside(self) -> list[str]:
        return [self.over, *([self.share_of] if self.share_of else [])]


class Gain(_Better):
    """A run against another one. Of several the one that gained most with the other seeds: choosing must not flatter."""

    kind: Literal["gain"]
    of: Name | Annotated[list[Name], Field(min_length=1), AfterValidator(differ)]

    @property
    def tried(self) -> list[str]:
        """The runs, one or several."""
        return [self.of] if isinstance(self.of, str) else self.of

    @property
    def runs(self) -> list[str]:
        """All that it looks at."""
        return [*self.tried, *self._beside]


class Choice(_Better):
    """Of runs with one reward each, the one whose reward moves most with true perception before any of it is trained on."""

    kind: Literal["choice"]
    of: dict[str, Name] = Field(min_length=1)
    """Rewards' names, and the runs that train on them."""
    asked: Name
    """A run with all these rewards as probes."""

    @property
    def tried(self) -> list[str]:
        """The runs that are chosen from."""
        return list(self.of.values())

    @property
    def runs(self) -> list[str]:
        """All that it looks at."""
        return [*self.tried, self.asked, *self._beside]


class Coupled(_Claim):
    """In an RL stage the outcome moves more with reasoning than with perception: the difference of two correlations."""

    kind: Literal["coupling"]
    run: Name
    stage: Name

    @property
    def runs(self) -> list[str]:
        """All that it looks at."""
        return [self.run]


class Gap(_Claim):
    """From one run to another reasoning improves more than perception: the difference of two gains."""

    kind: Literal["gap"]
    of: Name
    over: Name

    @property
    def runs(self) -> list[str]:
        """All that it looks at."""
        return [self.of, self.over]


KINDS: dict[str, type[BaseModel]] = {"gain": Gain, "choice": Choice, "coupling": Coupled, "gap": Gap}
Claim = Annotated[Gain | Choice | Coupled | Gap, Field(discriminator="kind")]


class Curve(Part):
    """Measures over a number that several runs differ in."""

    over: str
    """What the number is called."""
    runs: dict[Name, float | None] = Field(min_length=2)
    """Its value in each run; none for one to compare with, drawn as a line."""


class Study(Part):
    """A study, as its file says it."""

    about: str
    seeds: Seeds
    more_seeds: dict[Name, Seeds] = Field(default_factory=dict)
    """Beside these, for the runs of a recipe that are cheap, or spread widely."""
    cases: dict[Name, Case] = Field(min_length=1)
    runs: dict[Name, Run] = Field(min_length=1)
    claims: list[Claim] = Field(default_factory=list)
    bars: dict[str, list[Name]] = Field(default_factory=dict)
    """Runs to show side by side, under a title."""
    curves: list[Curve] = Field(default_factory=list)

    def runs_of(self, case: str) -> dict[str, Run]:
        """The runs that are made in a case: those whose recipe it has."""
        return {name: run for name, run in self.runs.items() if run.recipe in self.cases[case].recipes}

    @property
    def all_seeds(self) -> list[int]:
        """Those of any run, the ones that all runs have first."""
        return list(dict.fromkeys([*self.seeds, *(seed for more in self.more_seeds.values() for seed in more)]))

    def seeds_of(self, run: str) -> list[int]:
        """The seeds that a run is made with."""
        return [*self.seeds, *self.more_seeds.get(self.runs[run].recipe, [])]

    @model_validator(mode="after")
    def _has_its_recipes(self) -> Study:
        known = sorted({recipe for case in self.cases.values() for recipe in case.recipes})
        for name, run in self.runs.items():
            if run.recipe not in known:
                raise ValueError(f"runs.{name}.recipe: no case has a recipe '{run.recipe}', only {', '.join(known)}")
        for recipe, more in self.more_seeds.items():
            if recipe not in known:
                raise ValueError(f"more_seeds.{recipe}: no case has a recipe of that name, only {', '.join(known)}")
            if doubles := set(self.seeds) & set(more):
                raise ValueError(f"more_seeds.{recipe}: all runs have seed {min(doubles)} already")
        return self

    @model_validator(mode="after")
    def _begins_somewhere(self) -> Study:
        for name, run in self.runs.items():
            seen = [name]
            while run.from_ is not None:
                self._known(run.from_, f"runs.{name}.from")
                if run.from_ in seen:
                    raise ValueError(f"runs.{name}.from: {' from '.join([*seen, run.from_])} never begins")
                seen.append(run.from_)
                run = self.runs[run.from_]
            earlier = self.runs[name].from_
            if earlier is not None and (missing := set(self.seeds_of(name)) - set(self.seeds_of(earlier))):
                raise ValueError(f"more_seeds: '{name}' begins with '{earlier}', which has no seed {min(missing)}")
        for case in self.cases:
            for name, run in (made := self.runs_of(case)).items():
                if run.from_ is not None and run.from_ not in made:
                    raise ValueError(
                        f"runs.{name}.from: in the case '{case}' there is no run '{run.from_}', whose recipe it lacks"
                    )
        return self

    @model_validator(mode="after")
    def _looks_at_its_runs(self) -> Study:
        for claim in self.claims:
            if isinstance(claim, Gain | Gap) and claim.over in (claim.tried if isinstance(claim, Gain) else [claim.of]):
                raise ValueError(f"claims.{claim.says}: '{claim.over}' cannot gain over itself")
            for run in [*claim.runs, *(need.run for need in claim.needs)]:
                self._known(run, f"claims.{claim.says}")
            if isinstance(claim, Coupled) and claim.stage not in (stages := self.runs[claim.run].stages):
                why = f"the run '{claim.run}' has no stage '{claim.stage}'; {did_you_mean(claim.stage, stages)}"
                raise ValueError(f"claims.{claim.says}: {why}")
        for title, runs in self.bars.items():
            for run in runs:
                self._known(run, f"bars.{title}")
        for curve in self.curves:
            for run in curve.runs:
                self._known(run, f"curves.{curve.over}")
        for name, case in self.cases.items():
            for run in case.stages:
                self._known(run, f"cases.{name}.stages")
        return self

    def _known(self, run: str, where: str) -> None:
        if run not in self.runs:
            raise ValueError(f"{where}: there is no run '{run}'; {did_you_mean(run, self.runs)}")
