"""A vLLM server as the trainer sees it: TRL's client, which notices when the server is gone, and finds it again."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import requests
import torch
from requests.adapters import HTTPAdapter
from safetensors.torch import save_file
from trl.generation.vllm_client import VLLMClient

from rlperc.errors import RolloutError
from rlperc.train.rollout import ServerLost

CHUNK = 2**31  # bytes of weights in one file
CONNECTIONS = 64  # as many as TRL asks at a time
CONNECT_S = 10

log = logging.getLogger(__name__)


class NcclClient(VLLMClient):
    """TRL's client. A fault is not tried again in the dark, but told: a new server has to be given the weights first."""

    _waited = False

    def check_server(self, total_timeout: float = 0.0, retry_interval: float = 1.0) -> None:
        """Wait until the server is well. Raises RolloutError: it is not in time."""
        self.session.trust_env = False  # no proxy stands between a trainer and its server
        for scheme in ("http://", "https://"):
            self.session.mount(scheme, HTTPAdapter(pool_maxsize=CONNECTIONS))
        until = time.monotonic() + total_timeout
        while True:
            try:
                answer = self.session.get(f"{self.base_url}/health", timeout=CONNECT_S)
                if answer.status_code == 200:
                    return
                why = f"it answers {answer.status_code}"
                if answer.status_code < 500:
                    wrong = f"what listens there is no vLLM server: {why} to /health"
                    raise RolloutError(f"the vLLM server at {self.base_url}", wrong, "rollout: {url: …} of `rlperc serve`")
            except requests.RequestException as error:
                why = f"it does not answer ({type(error).__name__})"
            if not self._waited:
                self._waited = True
                log.warning("rlperc: the vLLM server at %s: %s; waiting up to %g s", self.base_url, why, total_timeout)
            if time.monotonic() > until:
                raise RolloutError(
                    f"the vLLM server at {self.base_url}",
                    why,
                    "rlperc serve RECIPE, in another shell or job, before the training; or rollout: {wait_s: …} for more time",
                )
            time.sleep(retry_interval)

    def _post(self, url: str, **kwargs: Any) -> Any:
        response = self._send(url, **kwargs)
        return response.json() if response.content else {}

    def _get(self, url: str, **kwargs: Any) -> Any:
        return self._answered(self.session.get, url, **kwargs).json()

    def _send(self, url: str, **kwargs: Any) -> requests.Response:
        return self._answered(self.session.post, url, **kwargs)

    def _answered(self, ask: Callable[..., requests.Response], url: str, **kwargs: Any) -> requests.Response:
        try:
            response = ask(url, timeout=(CONNECT_S, None), **kwargs)
        except requests.RequestException as error:
            raise ServerLost(f"the vLLM server at {self.base_url} does not answer ({type(error).__name__})") from None
        if response.status_code >= 500:
            self.session.close()  # the server closes the connection behind such an answer, under the next request
            if url.endswith("/update_weights") and self._is_well():
                raise RolloutError(
                    f"the vLLM server at {self.base_url}",
                    f"it does not take the policy's weights, as one that serves another model: {response.text[:300]}",
                    "`rlperc serve` with the training's own recipe and overrides",
                )
            raise ServerLost(f"the vLLM server at {self.base_url} broke: {response.status_code} {response.text[:500]}")
        if response.status_code != 200:
            raise RolloutError(
                f"a request to the vLLM server at {self.base_url}",
                f"{response.status_code} {response.text[:500]}",
                "rollout.vllm.max_model_len where it is about lengths; else `rlperc serve` with the training's own overrides",
            )
        return response

    def _is_well(self) -> bool:
        try:
            return bool(self.session.get(f"{self.base_url}/health", timeout=CONNECT_S).status_code == 200)
        except requests.RequestException:
            return False

    def _start_weight_update(self) -> None:
        try:
            super()._start_weight_update()
        except ServerLost:
            # A training that was ended in the middle of an update left it open, and the server takes no other until it is closed.
            self._finish_weight_update()
            super()._start_weight_update()

    def update_named_params(self, metadata: Any, named_params: Iterator[tuple[str, torch.Tensor]]) -> None:
        """Send the weights over NCCL. Raises ServerLost."""
        try:
            super().update_named_params(metadata, named_params)
        except ServerLost:
            raise
        except RuntimeError as error:
            raise ServerLost(f"weights could not be sent to the vLLM server at {self.base_url}: {error}") from None

    def reset_encoder_cache(self) -> None:
        """Let the server forget image embeddings."""
        self._post(f"{self.base_url}/reset_encoder_cache")

    def rejoin(self, wait_s: float, device: Any) -> None:
        """Wait for the server, and open the way for weights again.

        Raises:
            RolloutError: it did not come back in time.
        """
        until = time.monotonic() + wait_s
        self.close_communicator()
        while True:
            self.group_port += 1  # the old one may still be held
            self.check_server(max(0.0, until - time.monotonic()))
            try:
                self.init_communicator(device)
                return
            except (RuntimeError, requests.RequestException) as error:
                if time.monotonic() > until:
                    why = f"it is there and takes no weights: {error}"
                    raise RolloutError(f"the vLLM server at {self.base_url}", why, "start `rlperc serve` anew") from error
                time.sleep(1)  # it was still going down


class FileClient(NcclClient):
    """Weights go to the server as safetensors files, which it must be able to read: for machines without NCCL."""

    def __init__(self, folder: str, **kwargs: Any) -> None:
        self.folder = Path(folder).resolve() / "weights"
        super().__init__(**kwargs)

    def init_communicator(self, device: Any = None) -> None:
        """Tell the server that files will come."""
        self._post(f"{self.base_url}/init_weight_transfer_engine", json={"init_info": {}})

    def update_named_params(self, metadata: Any, named_params: Iterator[tuple[str, torch.Tensor]]) -> None:
        """Write the weights, some gigabytes at a time, and have the server read them."""
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            self._start_weight_update()
            for index, chunk in enumerate(_chunks(named_params)):
                path = self.folder / f"{index}.safetensors"
                save_file(chunk, path)
                self._post(f"{self.base_url}/update_weights", json={"update_info": {"path": str(path)}})
                path.unlink()
            self._finish_weight_update()
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)


def _chunks(named_params: Iterator[tuple[str, torch.Tensor]]) -> Iterator[dict[str, torch.Tensor]]:
    chunk: dict[str, torch.Tensor] = {}
    size = 0
    for name, value in named_params:
        chunk[name] = value.detach().to("cpu", copy=True).contiguous()
        size += chunk[name].nbytes
        if size >= CHUNK:
            yield chunk
            chunk, size = {}, 0
    if chunk:
        yield chunk
