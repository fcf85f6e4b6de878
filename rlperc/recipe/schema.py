"""What a recipe may say. Every field says its unit and its default; unknown keys are errors."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from rlperc.recipe.credit import Blend, Ppo, RewardUse, Sum
from rlperc.recipe.part import Part
from rlperc.recipe.reweight import Reweight
from rlperc.recipe.rollout import Rollout
from rlperc.words.response import Tags

Kind = Literal["contrast", "sft", "grpo", "ppo", "rloo"]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")]
Architecture = Literal["idefics3", "qwen2_5_vl", "qwen3_vl", "internvl"]
Blind = Literal["none", "blank", "other"]
RL_KINDS: frozenset[Kind] = frozenset({"grpo", "ppo", "rloo"})


class TinyModel(Part):
    """A VLM with random weights, built from config: about 0.4 million parameters by default."""

    architecture: Architecture = "idefics3"
    """As `model_type` in a model's config.json: SmolVLM-256M and -500M, Qwen2.5-VL, Qwen3-VL, InternVL. All but the first need
    torchvision."""
    image_size: int = Field(32, ge=8)
    """Side of the square image in pixels; other images are scaled to it (Qwen-VL: to its area at most)."""
    patch_size: int = Field(16, ge=2)
    """Side of a patch in pixels; every patch, or outside of Idefics3 every four, become one image token."""
    hidden_size: int = Field(96, ge=8)
    heads: int = Field(3, ge=1)
    vision_layers: int = Field(1, ge=1)
    text_layers: int = Field(2, ge=1)
    init_std: float = Field(0.08, gt=0)
    """Standard deviation of every matrix at the start."""

    @model_validator(mode="after")
    def _divides(self) -> TinyModel:
        # Outside of Idefics3 patches become tokens by four, and a head's positions have three axes.
        merged, parts = (1, 2) if self.architecture == "idefics3" else (2, 8)
        if self.hidden_size % (parts * self.heads):
            raise ValueError(f"hidden_size {self.hidden_size} must be a multiple of {parts} * heads = {parts * self.heads}")
        if self.image_size % (merged * self.patch_size):
            times = f"{merged} * patch_size = {merged * self.patch_size}" if merged > 1 else f"patch_size {self.patch_size}"
            raise ValueError(f"image_size {self.image_size} must be a multiple of {times}")
        return self


class Lora(Part):
    """Low-rank adapters (peft), merged into the weights at the end of the stage."""

    r: int = Field(16, ge=1)
    alpha: int = Field(32, ge=1)
    dropout: float = Field(0.0, ge=0, lt=1)
    target_modules: str | list[str] = "all-linear"


class Model(Part):
    """The model to train: a hub name or a local folder, or a tiny one made in code."""

    name: str | None = None
    """Hub name, or a folder that `from_pretrained` reads (`./` and `../` count from the recipe)."""
    tiny: TinyModel | None = None
    revision: str | None = None
    trust_remote_code: bool = False
    dtype: Literal["float32", "bfloat16", "float16", "auto"] = "float32"
    """Of the weights. `train: {bf16: true}` computes in bfloat16 while these stay as they are."""
    attn_implementation: str | None = None
    processor: dict[str, Any] = Field(default_factory=dict)
    """What the processor is told, vLLM's too: `{max_pixels: 401408}` (Qwen-VL), `{size: {longest_edge: 768}}` (Idefics3)."""
    lora: Lora | None = None
    freeze: list[str] = Field(default_factory=list)
    """Parts that do not train: `vision`, `projector`, `language`, or the start of a parameter's name."""

    @model_validator(mode="after")
    def _one_source(self) -> Model:
        if (self.name is None) == (self.tiny is None):
            raise ValueError("say either `name: a hub name or folder` or `tiny: {…}`, and only one of them")
        return self


SOURCES = ("world", "file", "folder", "hub")


class Data(Part):
    """Rows to train or to measure on, from one of four sources.

    rlperc's own columns: `prompt`, `image` or `images`, `response` (for `sft`), and whatever the rewards ask for
    (`answer`, `perception`, …).
    """

    world: str | None = None
    """One of rlperc's synthetic worlds."""
    file: Path | None = None
    """A JSONL or parquet file. Image columns hold paths, relative to `images`."""
    folder: Path | None = None
    """A folder written by `datasets`' `save_to_disk`."""
    hub: str | None = None
    """A data set's name on the hub."""
    subset: str | None = None
    """The hub data set's configuration."""
    split: str = "train"
    rows: int | None = Field(None, ge=1)
    """How many rows: made by a world (default 1,000), or at most taken from elsewhere (default all)."""
    seed: int | None = Field(None, ge=0)
    """Of the world's rows, or of the order that `rows` are taken in. Default: from the recipe's seed for a stage, 0 for
    `evaluate`."""
    with_: dict[str, Any] = Field(default_factory=dict, alias="with")
    """The world's knobs."""
    images: Path | None = None
    """Folder that relative image paths count from. Default: the file's own folder, or `folder`."""
    columns: dict[str, str] = Field(default_factory=dict)
    """Our name for a column: its name in the data, as in `answer: solution`."""
    prompt_template: str | None = None
    """Text with columns in braces, as in `{prompt} Answer in the tagged form.` Default: the prompt as it is."""
    system_prompt: str | None = None

    @model_validator(mode="after")
    def _one_source(self) -> Data:
        named = [source for source in SOURCES if getattr(self, source) is not None]
        if len(named) != 1:
            raise ValueError(f"say one of {', '.join(SOURCES)}; here {' and '.join(named) or 'none'} is given")
        if self.with_ and self.world is None:
            raise ValueError("`with` holds the knobs of a world; this data comes from elsewhere")
        if self.subset and self.hub is None:
            raise ValueError("`subset` is a hub data set's configuration; this data comes from elsewhere")
        if self.images and self.world is not None:
            raise ValueError("`images` says where paths of images count from; a world draws its own")
        if self.world is not None and self.split not in ("train", "validation", "test"):
            raise ValueError(f"a world has the splits train, validation and test, not '{self.split}'")
        return self

    @property
    def image_root(self) -> Path:
        """The folder that relative image paths count from."""
        return self.images or (self.file.parent if self.file else self.folder) or Path.cwd()

    @property
    def source(self) -> str:
        """Where the rows come from, for messages."""
        return next(f"{source} '{getattr(self, source)}'" for source in SOURCES if getattr(self, source) is not None)


class Stage(Part):
    """One stage of training. `model`, `data`, `rewards`, `blend` and `rollout` are the recipe's unless said here."""

    name: Name
    kind: Kind
    model: Model
    data: Data
    rewards: list[RewardUse] = Field(default_factory=list)
    blend: Blend = Sum()
    """How the rewards become advantages."""
    rollout: Rollout = Rollout()
    """Who draws the responses, in a stage of an RL kind."""
    ppo: Ppo | None = None
    """Of a stage of kind `ppo`, which always has it."""
    reweight: Reweight | None = None
    """Of a stage of kind `sft`: how much of the loss perception has. Default: as much as it has of the tokens."""
    train: dict[str, Any] = Field(default_factory=dict)
    """Options by the host trainer's own names: TRL's `SFTConfig`, `GRPOConfig` (also for `ppo`) or `RLOOConfig`, or
    transformers' `TrainingArguments` for `contrast`."""

    @model_validator(mode="before")
    @classmethod
    def _ppo_of_its_kind(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        if given.get("kind") == "ppo":
            return {**given, "ppo": {} if given.get("ppo") is None else given["ppo"]}
        if given.get("ppo") is not None:
            why = f"`ppo` belongs to a stage of kind: ppo, and this one is {given.get('kind')}"
            raise PydanticCustomError("ppo", "{why}", {"why": why, "expected": "kind: ppo, or leave `ppo` out"})
        return given

    @model_validator(mode="after")
    def _reweights_what_has_a_loss(self) -> Stage:
        if self.reweight is not None and self.kind != "sft":
            raise ValueError(f"`reweight` shares the loss of a stage of kind: sft, and this one is {self.kind}")
        other = {"loss_type": "nll", "label_smoothing_factor": 0.0, "average_tokens_across_devices": True}
        changed = [name for name, plain in other.items() if self.train.get(name, plain) != plain]
        if self.reweight is not None and changed:
            raise ValueError(f"`reweight` blends means over a step's tokens, and `train: {{{changed[0]}: …}}` makes another loss")
        return self

    @model_validator(mode="after")
    def _no_adapters_in_contrast(self) -> Stage:
        if self.kind == "contrast" and self.model.lora is not None:
            raise ValueError("a contrast stage trains the weights themselves; give it `model: {lora: null}`")
        return self


class Curve(Part):
    """The same measurements during the RL stages, on fewer rows."""

    data: Data
    every: int = Field(10, ge=1)
    """Optimizer steps between two points."""


LABELS = ("random", "start", "before", "after")
"""Of the models that are measured by themselves: the first one, the one that enters RL, the last one."""


class Evaluate(Part):
    """What is measured of which models."""

    data: Data
    answer: str | None = None
    """The reward that measures `a`: by default the recipe's first reward that credits the outcome, or the world's own."""
    perception: str | None = None
    """The reward that measures `a_p` (1 is all of p*) and `a_p_partial`, where the data has a `perception` column: by default
    the world's own, or `perception_exact`."""
    blind: list[Blind] = Field(default_factory=list)
    """What the model is asked with instead of the image, too: `none`, `blank` (grey), `other` (another row's)."""
    first: bool = True
    """Whether the first model and the one that enters RL are measured. The last one always is."""
    after: list[Name] = Field(default_factory=list)
    """Stages whose models are measured, too."""
    batch_size: int = Field(16, ge=1)
    max_new_tokens: int = Field(256, ge=1)
    repeats: int = Field(1, ge=1)
    """Responses to each row."""
    temperature: float = Field(0.0, ge=0)
    """0 is greedy; more than one response needs more."""
    samples: int = Field(6, ge=0)
    """How many responses to show with their images."""
    curve: Curve | None = None

    @model_validator(mode="after")
    def _repeats_differ(self) -> Evaluate:
        if self.repeats > 1 and self.temperature == 0:
            raise ValueError("repeats: greedy responses to a row are all the same; say `temperature: 1.0`, or `repeats: 1`")
        return self


class Recipe(Part):
    """A whole run, resolved: nothing is left to be looked up but the data and the model themselves."""

    name: Name
    seed: int = Field(0, ge=0, lt=2**32)
    output: Path
    report_to: str | list[str] = "none"
    """Trackers by TRL's names: wandb, trackio, tensorboard, mlflow, …"""
    tags: Tags = Tags()
    distributed: str = "ddp"
    """How weights, gradients and optimizer states are spread over processes: `ddp`, `zero1`, `zero2`, `zero3`, `zero2_offload`,
    `zero3_offload`, or a DeepSpeed configuration (`./my.json`)."""
    stages: list[Stage] = Field(min_length=1)
    evaluate: Evaluate | None = None

    @property
    def extras(self) -> list[str]:
        """What has to be installed beside rlperc itself, by the names of its extras."""
        on_vllm = any(stage.rollout.engine == "vllm" for stage in self.stages if stage.kind in RL_KINDS)
        return ["train", *(["vllm"] if on_vllm else []), *(["deepspeed"] if self.distributed != "ddp" else [])]

    @model_validator(mode="after")
    def _names_differ(self) -> Recipe:
        names = [stage.name for stage in self.stages]
        if doubles := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"two stages are called '{doubles.pop()}'")
        return self

    @model_validator(mode="after")
    def _measures_its_stages(self) -> Recipe:
        names = {stage.name for stage in self.stages}
        for name in self.evaluate.after if self.evaluate else ():
            if name not in names:
                raise ValueError(f"evaluate.after: there is no stage '{name}', only {', '.join(sorted(names))}")
            if name in LABELS:
                raise ValueError(f"evaluate.after: a measurement is called '{name}' already; give the stage another name")
        return self

    @model_validator(mode="after")
    def _tags_differ(self) -> Recipe:
        if len({self.tags.perception, self.tags.think, self.tags.answer}) < 3:
            raise ValueError("two of the tags are the same word")
        return self

    @model_validator(mode="after")
    def _one_model(self) -> Recipe:
        sources = [(s.model.name, s.model.tiny, s.model.revision) for s in self.stages]
        if any(source != sources[0] for source in sources):
            raise ValueError("every stage goes on training the same model; a stage's `model` may set lora and freeze")
        return self
