import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlperc.errors import RecipeError
from rlperc.recipe.batches import check_batches
from rlperc.recipe.schema import Data, Model, Stage


def stage(**train: object) -> Stage:
    return Stage(name="reason", kind="grpo", model=Model(name="m"), data=Data(world="digits"), train=train)


def test_sizes_that_fit() -> None:
    check_batches(stage(), rows=1, processes=1)
    check_batches(stage(per_device_train_batch_size=6, num_generations=4), rows=None, processes=2)
    check_batches(stage(per_device_train_batch_size=3, gradient_accumulation_steps=4, num_generations=6), None, 1)
    check_batches(stage(per_device_train_batch_size=4, steps_per_generation=2, num_generations=8), None, 1)


def test_sizes_that_do_not_fit_come_with_sizes_that_do() -> None:
    with pytest.raises(RecipeError) as caught:
        check_batches(stage(per_device_train_batch_size=6, num_generations=8), None, 2)
    assert "6 responses x 2 processes x 1 steps = 12" in str(caught.value)
    assert "12 is not a multiple of 8" in str(caught.value)
    assert "per_device_train_batch_size: 4 or 8 or 12; or num_generations: 2 or 3 or 4 or 6 or 12" in str(caught.value)


@given(st.integers(1, 64), st.integers(2, 16), st.integers(1, 8), st.integers(1, 4))
def test_every_size_that_is_suggested_fits(per_device: int, group: int, processes: int, steps: int) -> None:
    def check(size: int) -> None:
        options = {"gradient_accumulation_steps": steps, "num_generations": group}
        check_batches(stage(per_device_train_batch_size=size, **options), None, processes)

    if per_device * processes * steps % group == 0:
        return check(per_device)
    with pytest.raises(RecipeError) as caught:
        check(per_device)
    sizes = caught.value.instead.partition(";")[0].removeprefix("per_device_train_batch_size: ").split(" or ")
    assert sizes
    for size in sizes:
        check(int(size))


def test_fewer_rows_than_prompts() -> None:
    with pytest.raises(RecipeError, match="the data has 3 rows"):
        check_batches(stage(per_device_train_batch_size=32, num_generations=8), rows=3, processes=1)


@pytest.mark.parametrize(
    ("option", "value"), [("num_generations", 1), ("num_generations", "8"), ("per_device_train_batch_size", 0)]
)
def test_counts_are_counts(option: str, value: object) -> None:
    with pytest.raises(RecipeError, match=option):
        check_batches(stage(**{option: value}), None, 1)
