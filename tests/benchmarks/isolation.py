"""What isolation costs: the same cheap reward in this process and in worker processes, in one run.

    python tests/benchmarks/isolation.py

Prints microseconds for each completion, in this process, in one worker and in two; the time until the first score of a
fresh worker; and the time that one completion which hangs costs beside 999 that do not.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from rlperc.reward.plugins import find_reward
from rlperc.reward.runner import Handling, RewardRunner
from rlperc.words.response import read_response

REWARD = """
import time
from rlperc import Score, reward

@reward()
def near(completion, answer):
    if completion.answer == "hang":
        time.sleep(1000)
    return Score(float(completion.answer == answer), why="")
"""
LIMIT_S = 1.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "near.py")
        file.write_text(REWARD)
        reward = find_reward(str(file))
        ways = {
            "in process": Handling(isolate=False),
            "one worker": Handling(isolate=True, workers=1, timeout_s=LIMIT_S, on_error="skip"),
            "two workers": Handling(isolate=True, workers=2, timeout_s=LIMIT_S, on_error="skip"),
        }
        completions = [read_response(f"<answer>{index}</answer>") for index in range(options.count)]
        answers = {"answer": [str(index) for index in range(options.count)]}
        runners = {way: RewardRunner(reward, {}, handling) for way, handling in ways.items()}
        for way, runner in runners.items():
            began = time.perf_counter()
            runner.run(completions[:1], {"answer": ["0"]})
            print(f"{way:12} first score after {time.perf_counter() - began:.3f} s")
        costs: dict[str, list[float]] = {way: [] for way in ways}
        for _ in range(options.rounds):
            for way, runner in runners.items():
                began = time.perf_counter()
                outcomes = runner.run(completions, answers)
                costs[way].append(1e6 * (time.perf_counter() - began) / options.count)
                assert all(outcome.value == 1.0 for outcome in outcomes)
        here = statistics.median(costs["in process"])
        for way, found in costs.items():
            middle = statistics.median(found)
            print(
                f"{way:12} {middle:6.1f} µs a completion ({min(found):.1f} to {max(found):.1f}), {middle / here:.0f} x in process"
            )
        hanging = [*completions[:500], read_response("<answer>hang</answer>"), *completions[500:999]]
        began = time.perf_counter()
        outcomes = runners["two workers"].run(hanging, {"answer": ["0"] * len(hanging)})
        spent = time.perf_counter() - began
        assert [outcome.status for outcome in outcomes].count("timeout") == 1
        print(f"two workers  {spent:.2f} s for 1,000 completions of which one hangs, with a limit of {LIMIT_S:g} s")
        for runner in runners.values():
            runner.close()


if __name__ == "__main__":
    main()
