"""vLLM's rollouts, made the policy's own: what TRL 1.16 gets wrong between images and vLLM is put right here.

1. In colocate mode TRL gives vLLM prompts whose image placeholders are expanded already, and the images; vLLM expands them
   again, and the model sees another prompt (huggingface/trl#6401, #6294). vLLM gets the prompt as the chat template writes
   it, and what it makes of it is compared with the trainer's ids, at every generation. In server mode TRL looks for one run
   of image tokens for each image, which images in tiles do not have; there the server renders the conversation.
2. After weights have changed TRL empties the prefix cache, but not the cache of image embeddings.
3. Nothing keeps vLLM from sampling the image token, on which the policy's forward fails.
4. TRL names no dtype, no revision and no options of the processor; vLLM then takes its own defaults.
5. On CPU vLLM keeps its weights packed, and takes new ones only through its own reloading, which forgets a tied output layer.

Transparency, which vLLM lays over white and transformers drops, is taken from the data (`images`); rows without images among
others are `mixed`'s. Each repair has a test in tests/on_vllm that fails without it, and one that fails once TRL needs none.
"""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from accelerate.utils import broadcast_object_list, gather_object
from trl.generation import vllm_generation
from trl.generation.vllm_generation import VLLMGeneration
from trl.trainer import grpo_trainer, rloo_trainer

from rlperc.errors import RolloutError
from rlperc.train.critic import CRITIC
from rlperc.train.scorer import adds_special_tokens
from rlperc.train.vllm_setup import Setup, ends_of, replaced, where_they_part, without_image_token
from rlperc.train.vllm_transfer import pack_heads_again

log = logging.getLogger(__name__)

ATTEMPTS = 3
LAUNCHERS = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")  # variables that torchrun sets


class ServerLost(RuntimeError):
    """The server does not answer, or says that it broke. Survives pickling."""


@contextmanager
def rolled_out_by(setup: Setup | None) -> Iterator[None]:
    """TRL's trainers, made in here, generate with `Rollouts`. Nothing changes where there is no `setup`."""
    if setup is None:
        yield
        return

    def generation(**kwargs: Any) -> Rollouts:
        return Rollouts(setup=setup, **kwargs)

    with replaced(grpo_trainer, VLLMGeneration=generation), replaced(rloo_trainer, VLLMGeneration=generation):
        yield


class Rollouts(VLLMGeneration):
    """TRL's way to vLLM, with the repairs above.

    Before each call of `generate` the trainer lays down `conversations`, the messages of the prompts with their images.

    Raises:
        RolloutError: vLLM made other ids of a prompt than the trainer, or the server is gone and did not come back.
    """

    def __init__(self, *, setup: Setup, **kwargs: Any) -> None:
        self.setup = setup
        self.conversations: list[list[dict[str, Any]]] = []
        self.chat: dict[str, Any] = {}
        self.last_logprobs: list[list[float | None]] = []
        self._warned = False
        self._stream: Iterator[tuple[str, torch.Tensor]] = iter(())
        kwargs["generation_kwargs"] = without_image_token(kwargs["model"], kwargs.get("generation_kwargs"))
        kwargs["logprobs"] = 0  # of the sampled tokens; TRL's RLOO asks for none, and nothing could be watched
        super().__init__(**kwargs)

    # --- starting and stopping ---------------------------------------------------------------------------------------

    def _init_vllm(self) -> None:
        if self.mode == "colocate" and not torch.cuda.is_available():
            os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")  # the threads are the trainer's too
        before = {name: os.environ.get(name) for name in LAUNCHERS}
        try:
            with replaced(vllm_generation, LLM=self._engine, VLLMClient=self._client):
                super()._init_vllm()
        finally:
            # TRL sets them for vLLM. Left behind, they would make a lone process and those that it starts part of a launch.
            for name in (name for name, value in before.items() if value is None):
                os.environ.pop(name, None)
        self._room: int | None = None
        if self.mode == "colocate":
            self._room = self.llm.llm_engine.model_config.max_model_len
        elif self.accelerator.is_main_process:
            self._room = self.vllm_client.get_server_info()["model_config"]["max_model_len"]

    def _engine(self, **theirs: Any) -> Any:
        from vllm import LLM

        seed = (self.setup.seed * 1_000_003 + theirs["seed"]) % 2**31  # TRL's is the process's number, the same in every run
        try:
            return LLM(**{**theirs, "seed": seed, **self.setup.engine_args()})
        except ValueError as error:  # pydantic's, of vLLM's own options
            why = " ".join(str(error).split("For further information")[0].split())
            raise RolloutError("vLLM's engine", why, "rollout: {vllm: {…}}, options that vLLM accepts") from error

    def _client(self, **theirs: Any) -> Any:
        from rlperc.train.vllm_client import FileClient, NcclClient

        return FileClient(self.setup.folder, **theirs) if self.setup.by_file else NcclClient(**theirs)

    def close(self) -> None:
        """Give back what vLLM holds in this process."""
        if self.mode == "colocate":
            destroy = torch.distributed.destroy_process_group

            def parts(group: Any = None) -> None:
                """Keep the trainer's own process group, which vLLM would take down with its groups."""
                if group is not None:
                    destroy(group)

            with replaced(torch.distributed, destroy_process_group=parts):
                self.llm.llm_engine.engine_core.shutdown()
            del self.llm
        elif self.accelerator.is_main_process:
            self.vllm_client.close_communicator()

    # --- weights -----------------------------------------------------------------------------------------------------

    def _iter_named_params(self) -> Iterator[tuple[str, torch.Tensor]]:
        """The policy's weights alone; every process still takes part in gathering the critic's."""
        every = super()._iter_named_params()
        self._stream = ((name, value) for name, value in every if CRITIC not in name.split("."))
        return self._stream

    def sync_weights(self) -> None:
        """Give vLLM the policy's weights, and let it forget what it computed with others."""
        if self.mode == "server":
            self._persist(self._sync_with_server)
            return
        if torch.cuda.is_available():
            super().sync_weights()
        else:
            # The loader keeps tensors until a layer is whole, and ZeRO-3 takes them back before.
            weights = ((name, value.clone()) for name, value in self._iter_named_params())
            runner = self.llm.llm_engine.model_executor.driver_worker.model_runner
            runner.reload_weights(weights_iterator=weights)
            pack_heads_again(runner.get_model())
            self.llm.reset_prefix_cache()
        self.llm.llm_engine.reset_encoder_cache()

    def _sync_with_server(self) -> None:
        try:
            super().sync_weights()
            if self.accelerator.is_main_process:
                self.vllm_client.reset_encoder_cache()
        finally:
            for _ in self._stream:  # the other processes gather every weight, also where the server is lost halfway
                pass

    def _persist(self, act: Callable[[], Any]) -> Any:
        """What the main process gets from the server, in every process; where it is lost, wait for it and try again."""
        lost: ServerLost | None = None
        for attempt in range(ATTEMPTS):
            if attempt:
                self._together(functools.partial(self._rejoin, lost))
                if act != self._sync_with_server:
                    self.sync_weights()
            try:
                return self._together(act)
            except ServerLost as error:
                lost = error
        raise RolloutError(
            f"the vLLM server at {self.setup.rollout.url}",
            f"it was lost {ATTEMPTS} times in a row: {lost}",
            "see what `rlperc serve` printed last",
        )

    def _together(self, act: Callable[[], Any]) -> Any:
        """What the main process gets, or what stopped it, in every process: none is left waiting for one that failed."""
        found: Any = None
        fault: Exception | None = None
        mine: Exception | None = None
        try:
            found = act()
        except (ServerLost, RolloutError) as error:
            fault = error
        except Exception as error:  # noqa: BLE001 - told to the others, and raised again below
            mine, fault = error, RuntimeError(f"the main process failed: {error!r}")
        box = [(found, fault)]
        broadcast_object_list(box, from_process=0)
        if mine is not None:
            raise mine
        found, fault = box[0]
        if fault is not None:
            raise fault
        return found

    def _rejoin(self, lost: ServerLost | None) -> None:
        if self.accelerator.is_main_process:
            log.warning("rlperc: %s; waiting up to %g s for a server", lost, self.server_timeout)
            self.vllm_client.rejoin(self.server_timeout, self.accelerator.device)

    # --- responses ---------------------------------------------------------------------------------------------------

    def generate(
        self, prompts: list[list[int]], images: list[list[Any] | None] | None, num_generations: int, profiler: Any = None
    ) -> tuple[Any, ...]:
        """Draw responses; `prompts` are the trainer's own ids, of shape (batch, prompt length). See `VLLMGeneration.generate`."""
        self._warn_of_room(max(map(len, prompts)))
        if self.mode == "server":
            every = gather_object(self.conversations)
            drawn = self._persist(lambda: self._ask(every[::num_generations], num_generations, profiler))
            found = self._mine(drawn, num_generations)
        else:
            found = self._from_engine(images, num_generations, profiler)
        self._compare(prompts, found[0])
        self.last_logprobs = [[one[0] for one in row] for row in found[2]]
        return found

    def _from_engine(self, images: list[list[Any] | None] | None, num_generations: int, profiler: Any) -> tuple[Any, ...]:
        from vllm.exceptions import VLLMValidationError

        shown = [some or None for some in images] if images is not None else None
        try:
            return super().generate(self._as_written(), shown, num_generations, profiler)  # type: ignore[no-any-return]
        except VLLMValidationError as error:
            raise RolloutError(
                "responses from vLLM", " ".join(str(error).split()), "rollout: {vllm: {max_model_len: …, limit_mm_per_prompt: …}}"
            ) from error

    def _warn_of_room(self, longest: int) -> None:
        """Say what vLLM does not: it ends a response where its context ends."""
        if self._room is not None and longest + self.max_completion_length > self._room and not self._warned:
            self._warned = True
            log.warning(
                "rlperc: a prompt of %d tokens and max_completion_length: %d do not fit into vLLM's max_model_len: %d, which "
                "cuts its responses short, or refuses it on a server",
                *(longest, self.max_completion_length, self._room),
            )

    def _as_written(self) -> list[list[int]]:
        """The ids of the prompts as the chat template writes them, with one placeholder for each image."""
        tokenizer = self.processing_class.tokenizer
        texts = [self._text(one) for one in self.conversations]
        return [tokenizer(text, add_special_tokens=adds_special_tokens(tokenizer, text)).input_ids for text in texts]

    def _text(self, conversation: list[dict[str, Any]]) -> str:
        wanted = {"add_generation_prompt": True, "tokenize": False, **self.chat}
        return str(self.processing_class.apply_chat_template(conversation, **wanted))

    def _ask(self, conversations: list[Any], num_generations: int, profiler: Any) -> dict[str, Any] | None:
        """Have the server draw, in the main process."""
        if not self.accelerator.is_main_process:
            return None
        adds = adds_special_tokens(self.processing_class.tokenizer, self._text(conversations[0]))
        with profiler or nullcontext():
            return self.vllm_client.chat(  # type: ignore[no-any-return]
                conversations,
                n=num_generations,
                repetition_penalty=self.repetition_penalty,
                temperature=self.temperature,
                top_p=self.top_p,
                top_k=self.top_k,
                min_p=self.min_p or 0.0,
                max_tokens=self.max_completion_length,
                logprobs=self.logprobs,
                structured_outputs_regex=self.structured_outputs_regex,
                # A server looks at no model's generation config, where the ends of a response stand.
                generation_kwargs={"stop_token_ids": ends_of(self.model), "add_special_tokens": adds, **self.generation_kwargs},
                chat_template_kwargs={name: value for name, value in self.chat.items() if name != "chat_template"},
                chat_template=self.chat.get("chat_template"),
            )

    def _mine(self, drawn: dict[str, Any], num_generations: int) -> tuple[Any, ...]:
        """This process's share of what was drawn for all."""
        first, count = self.accelerator.process_index * len(self.conversations), len(self.conversations)
        prompt_ids = [ids for ids in drawn["prompt_ids"] for _ in range(num_generations)]
        every = (prompt_ids, drawn["completion_ids"], drawn["logprobs"], drawn["logprob_token_ids"])
        return tuple(one[first : first + count] for one in every)

    def _compare(self, ours: list[list[int]], theirs: list[list[int]]) -> None:
        for row, (own, other) in enumerate(zip(ours, theirs, strict=True)):
            if list(own) != list(other):
                raise RolloutError(
                    f"responses from vLLM to prompt {row} of this batch",
                    "vLLM makes other ids of it than the trainer:\n" + where_they_part(own, other, self.processing_class),
                    "model: {processor: …} for what both are to do with images; else the two are not of one version",
                )
