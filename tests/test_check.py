"""What `rlperc check` finds before a model loads. Every message has its three beats, and torch is never imported."""

import dataclasses
import inspect
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from launch import QUICKSTART
from PIL import Image

from rlperc.cli import main
from rlperc.errors import RecipeError
from rlperc.recipe.batches import TRL_DEFAULTS
from rlperc.recipe.check import check_recipe
from rlperc.recipe.load import load_recipe
from rlperc.recipe.options import CHOICES, OWNED, fits, option_types
from rlperc.recipe.schema import RL_KINDS


@pytest.mark.parametrize("name", ["TrainingArguments", "SFTConfig", "GRPOConfig", "RLOOConfig"])
def test_option_names_are_the_installed_hosts(name: str) -> None:
    import transformers
    import trl

    config = getattr(trl, name, None) or getattr(transformers, name)
    fields = {field.name for field in dataclasses.fields(config) if field.init and not field.name.startswith("_")}
    assert set(option_types(name) or {}) == fields
    assert set(OWNED) <= fields | {field.name for field in dataclasses.fields(trl.GRPOConfig)}


def test_what_trl_says_of_vllm_is_said_under_rollout() -> None:
    left = {"vllm_importance_sampling_correction", "vllm_structured_outputs_regex", "vllm_group_port"}
    theirs = {name for name in option_types("GRPOConfig") or {} if "vllm" in name}
    assert {name for name in theirs - set(OWNED) if not name.startswith("vllm_importance_sampling")} == left - {
        "vllm_importance_sampling_correction"
    }


@pytest.mark.parametrize(
    ("value", "annotation", "does"),
    [
        (1e-4, "float", True),
        (1, "float", True),
        ("1e-4x", "float", False),
        (True, "int", False),
        (None, "int | None", True),
        (None, "int", False),
        ("no", "SaveStrategy | str", True),
        ({"a": 1}, "dict[str, Any] | str | None", True),
        (["a"], "list[str]", True),
    ],
)
def test_values_fit_annotations(value: object, annotation: str, does: bool) -> None:
    assert fits(value, annotation) == does


@pytest.mark.parametrize(("kind", "name"), [("grpo", "GRPOConfig"), ("ppo", "GRPOConfig"), ("rloo", "RLOOConfig")])
def test_batch_defaults_are_the_installed_trls(kind: str, name: str) -> None:
    import trl

    defaults = {field.name: field.default for field in dataclasses.fields(getattr(trl, name))}
    assert {option: defaults[option] for option in TRL_DEFAULTS[kind]} == TRL_DEFAULTS[kind]


def test_every_kind_of_rl_has_its_batch_defaults() -> None:
    assert set(TRL_DEFAULTS) == RL_KINDS


PLUGIN = "from rlperc import reward\n@reward()\ndef mine(completion{columns}):\n    {body}\n"


def recipe(folder: Path, reward: str = "{use: answer_number}", data: str = "{world: digits}", train: str = "{}") -> str:
    file = folder / "mine.yaml"
    file.write_text(
        f"model: {{name: some/model}}\ndata: {data}\nrewards: [{reward}]\n"
        f"stages: [{{name: reason, kind: grpo, train: {train}}}]\n"
    )
    return str(file)


def refused(arguments: list[str], capsys: pytest.CaptureFixture) -> str:
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert "Traceback" not in error
    _asked, why, instead = error.removeprefix("rlperc: ").strip().split("\n")
    assert why.startswith("  why: ")
    assert instead.startswith("  instead: ")
    return error


def test_text_is_packed_up_to_a_length(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "rows.jsonl").write_text('{"prompt": "1 + 1?", "response": "<answer>2</answer>"}\n')
    file = tmp_path / "mine.yaml"
    file.write_text(
        "model: {name: some/model}\ndata: {file: rows.jsonl}\nstages: [{name: warm, kind: sft, train: {packing: true}}]\n"
    )
    assert "max_length: 1024" in refused(["check", str(file)], capsys)
    assert main(["check", str(file), "stages.warm.train.max_length=64"]) == 0


def test_the_quickstart_is_fine(capsys: pytest.CaptureFixture) -> None:
    assert main(["check", str(QUICKSTART)]) == 0
    assert "3 stages, nothing wrong" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("stages.reason.train.num_generation=8", "did you mean 'num_generations'"),
        ("stages.warm.train.max_len=8", "did you mean 'max_length'"),
        ("stages.warm.train.packing=true", "rows without images"),
        ("stages.reason.train.num_generations=7", "192 is not a multiple of 7"),
        ("stages.reason.train.output_dir=x", "output: …"),
        ("stages.reason.train.learning_rate=fast", "GRPOConfig takes float there"),
        ("stages.reason.train.reward_weights=[1]", "rewards: [{use: …, weight: …}]"),
        ("stages.reason.train.use_vllm=true", "rollout: {engine: vllm}"),
        ("stages.reason.train.vllm_max_model_length=512", "vllm: {max_model_len: …}"),
        ("rollout.mode=server", "engine: vllm beside it"),
        ("rollout={engine: vllm, url: http://a:1}", "mode: server beside it"),
        ("rollout={engine: vllm, mode: server, url: https://a}", "http://HOST:PORT"),
        ("rollout={engine: vllm, vllm: {model: other}}", "model: {name: …}"),
        ("rollout={engine: vllm, vllm: {mm_processor_kwargs: {max_pixels: 9}}}", "model: {processor: {…}}"),
        ("rollout={engine: vllm, mode: server, vllm: {enable_sleep_mode: true}}", "mode: colocate"),
        ("rollout={engine: vllm, vllm: {tensor_parallel_size: 2}}", "1 training process"),
        ("rollout.engin=vllm", "did you mean 'engine'"),
        ("stages.reason.train.deepspeed=zero3.json", "distributed: zero2"),
        ("stages.reason.train.fsdp=true", "does not gather what FSDP shards"),
        ("stages.reason.train.eval_strategy=steps", "evaluate: {data"),
        ("stages.reason.train.save_strategy=no", "text in quotes"),
        ("stages.see.model.lora={r: 4}", "give it `model: {lora: null}`"),
        ("data.with.grid=two", "1 to 4"),
        ("data.with.noise=high", "0 to 1"),
        ("data.with.misread=3", "what is taken for what"),
        ("data.with.misread={3: 50}", "what is taken for what"),
        ("data.prompt_template=Look {nothing}", "it cannot be filled"),
        ("seed=-1", "at least 0"),
        ("tags={think: answer}", "the same word"),
        ("tags={thnk: answer}", "did you mean 'think'"),
        ("stages.reason.data.rows=10", "the data has 10 rows"),
        ("data.with.grd=3", "did you mean 'grid'"),
        ("data.with.grid=9", "1 to 4"),
        ("data.world=digit", "did you mean 'digits'"),
        ("rewards.answer_number.with={tolerence: 1}", "did you mean 'tolerance'"),
        ("stages.reason.rewards=[{use: answer_number, weight: 0}]", "nothing to learn from"),
        ("stages.reason.rewards=[{use: answer_number}, {use: answer_number}]", "stands there twice"),
        ("stages.reason.rewards=[{use: anser_number}]", "did you mean 'answer_number'"),
        ("evaluate.answer=anwser_number", "did you mean 'answer_number'"),
    ],
)
def test_faults_of_a_recipe(override: str, said: str, capsys: pytest.CaptureFixture) -> None:
    assert said in refused(["check", str(QUICKSTART), override], capsys)


@pytest.mark.parametrize(
    ("columns", "body", "said"),
    [
        ("", "return 1 / 0", "line 4: ZeroDivisionError"),
        ("", "return float('nan')", "it returned nan"),
        ("", "return float('inf')", "it returned inf"),
        ("", "return 7", "outside its declared range"),
        ("", "return 'good'", "not a number"),
        (", boxes", "return 1", "needs the column 'boxes'"),
        (", *, scale", "return 1", "needs the setting 'scale'"),
        ("", "return (", "does not load: line 4"),
    ],
)
def test_a_reward_of_ones_own_that_is_wrong(
    tmp_path: Path, columns: str, body: str, said: str, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "mine.py").write_text(PLUGIN.format(columns=columns, body=body))
    assert said in refused(["check", recipe(tmp_path, "{use: ./mine.py}")], capsys)


def test_a_plain_trl_function_is_tried_too(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "mine.py").write_text("def mine(completions, **kwargs):\n    return [1.0]\n")
    assert "1 scores for 8 completions" in refused(["check", recipe(tmp_path, "{use: ./mine.py}")], capsys)


ROWS = [{"question": "How many?", "solution": "2", "picture": "a.png"}]
MAPPED = "columns: {prompt: question, answer: solution, image: picture}"


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    Image.new("RGB", (32, 32)).save(tmp_path / "a.png")
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return tmp_path


def test_rows_of_ones_own(rows: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["check", recipe(rows, data=f"{{file: rows.jsonl, {MAPPED}}}")]) == 0


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ("{file: other.jsonl}", "there is no"),
        ("{file: rows.jsonl}", "no column 'prompt'"),
        ("{file: rows.jsonl, columns: {prompt: question}}", "needs the column 'answer'"),
        ("{file: rows.jsonl, columns: {prompt: qestion}}", "did you mean 'question'"),
        (f"{{file: rows.jsonl, images: elsewhere, {MAPPED}}}", "cannot be opened"),
        ("{folder: rows.jsonl}", "no row that can be read"),
    ],
)
def test_rows_of_ones_own_that_are_wrong(rows: Path, data: str, said: str, capsys: pytest.CaptureFixture) -> None:
    assert said in refused(["check", recipe(rows, data=data)], capsys)


def test_a_reward_sees_in_the_trial_what_it_sees_in_training(rows: Path) -> None:
    (rows / "mine.py").write_text(
        "def mine(prompts, completions, completion_ids, image, answer, trainer_state, log_metric, **kwargs):\n"
        "    assert prompts[0][0]['role'] == 'user' and answer == ['2'] * 8 and image[0].size == (32, 32)\n"
        "    log_metric('share', trainer_state.global_step / trainer_state.max_steps)\n"
        "    return [1 / len(ids) for ids in completion_ids]\n"
    )
    assert main(["check", recipe(rows, "{use: ./mine.py}", f"{{file: rows.jsonl, {MAPPED}}}")]) == 0


def test_columns_are_names_and_no_paths(rows: Path) -> None:
    (rows / "many.jsonl").write_text(json.dumps({"prompt": "Which?", "answer": "1", "pictures": ["a.png", "a.png"]}) + "\n")
    assert main(["check", recipe(rows, data="{file: many.jsonl, columns: {images: pictures}}")]) == 0


def test_measuring_what_was_trained_on_is_noted(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    file = recipe(tmp_path)
    assert main(["check", file, "evaluate={data: {rows: 4}}"]) == 0
    assert "note: evaluate: measures on world 'digits', which 'reason' trains on" in capsys.readouterr().out
    assert main(["check", file, "evaluate={data: {split: test}}"]) == 0
    assert "note" not in capsys.readouterr().out


def test_a_model_folder_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    said = refused(["check", recipe(tmp_path), f"model.name={tmp_path}/nope"], capsys)
    assert "there is no configuration in such a folder: config.json" in said


def test_measures_are_fractions(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "mine.py").write_text("from rlperc import reward\n@reward(range=(-1, 1))\ndef mine(completion):\n    return 0\n")
    file = recipe(tmp_path, "{use: ./mine.py}")
    (tmp_path / "rows.jsonl").write_text('{"prompt": "How many?", "answer": "1"}\n')
    elsewhere = f"evaluate={{data: {{file: {tmp_path}/rows.jsonl}}}}"
    assert "credits the outcome with 0 to 1" in refused(["check", file, elsewhere], capsys)
    named = f"evaluate={{data: {{split: test}}, answer: {tmp_path / 'mine.py'}}}"
    assert "a, a_p and a_r are fractions" in refused(["check", file, named], capsys)


def test_paths_in_overrides_count_from_where_the_shell_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.py").write_text(PLUGIN.format(columns="", body="return 1"))
    monkeypatch.chdir(tmp_path)
    assert main(["check", str(QUICKSTART), "stages.reason.rewards=[{use: ./mine.py}, {use: answer_number}]"]) == 0


def test_what_only_this_machine_lacks_is_a_note(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["check", recipe(tmp_path, data="{hub: some/rows}")]) == 0
    assert "note: hub 'some/rows'" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [["check", str(QUICKSTART)], ["rewards", "list"], ["rewards", "show", "answer_number"], ["recipes"], ["--help"]],
    ids=lambda arguments: arguments[0] + arguments[-1][-4:],
)
def test_light_commands_never_import_torch(arguments: list[str]) -> None:
    code = (
        "import sys\nfrom rlperc.cli import main\n"
        f"try:\n    main({arguments!r})\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'transformers', 'trl', 'datasets', 'matplotlib'} & set(sys.modules)\n"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_words_of_trl_s_loss_are_those_of_its_source() -> None:
    from trl import GRPOTrainer

    source = inspect.getsource(GRPOTrainer)
    losses = {word for words in re.findall(r"self\.loss_type in \[([^\]]*)\]", source) for word in re.findall(r'"(\w+)"', words)}
    assert losses | set(re.findall(r'self\.loss_type == "(\w+)"', source)) == set(CHOICES["loss_type"])
    levels = set(re.findall(r'self\.importance_sampling_level == "(\w+)"', source))
    assert levels == set(CHOICES["importance_sampling_level"])
    assert "Must be one of 'batch', 'group', or 'none'." in source


@pytest.mark.parametrize(
    ("option", "value", "instead"),
    [
        ("loss_type", "dapoo", "did you mean 'dapo'?"),
        ("importance_sampling_level", "sequences", "did you mean 'sequence'?"),
        ("scale_rewards", "std", "one of: batch, group, none"),
        ("gamma", "0.9", "ppo: {gamma: …}"),
        ("blend", "{mode: span}", "blend: …, beside `train:`"),
        ("generation_batch_size", "100", "generation_batch_size: 192"),
        ("steps_per_generation", "0", "1 or more"),
    ],
)
def test_what_trl_would_refuse_after_the_model_has_loaded(option: str, value: str, instead: str) -> None:
    with pytest.raises(RecipeError) as caught:
        check_recipe(load_recipe(QUICKSTART, f"stages.reason.train.{option}={value}"))
    assert instead in caught.value.instead
