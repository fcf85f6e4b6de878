"""The server's side of weights that come as files: an engine in vLLM's register of weight transfers.

vLLM finds `register` through the entry point `vllm.general_plugins`, in every process that it starts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

NAME = "rlperc_file"


def register() -> None:
    """Add the engine to vLLM's register; to call it twice does no more."""
    from vllm.distributed.weight_transfer.factory import WeightTransferEngineFactory

    if NAME not in WeightTransferEngineFactory._registry:
        WeightTransferEngineFactory.register_engine(NAME, _engine())


def pack_heads_again(model: Any) -> None:
    """After a reload on CPU: an output layer tied to the embedding was packed into a copy, which vLLM leaves as it was."""
    from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead
    from vllm.platforms import current_platform

    if current_platform.is_cpu():
        for layer in model.modules():
            if isinstance(layer, ParallelLMHead):
                layer.quant_method.process_weights_after_loading(layer)


def _engine() -> type[Any]:
    """Made when vLLM asks for it: this file is read where there is no vLLM, too."""
    from safetensors.torch import load_file
    from vllm.distributed.weight_transfer.base import WeightTransferEngine, WeightTransferInitInfo, WeightTransferUpdateInfo
    from vllm.model_executor.model_loader.reload import finalize_layerwise_reload, initialize_layerwise_reload

    @dataclass
    class NoInfo(WeightTransferInitInfo):
        """Nothing has to be agreed on before."""

    @dataclass
    class FileInfo(WeightTransferUpdateInfo):
        """One file of weights."""

        path: str

    class FileTransferEngine(WeightTransferEngine):
        """Reads safetensors files, which hold tensors and nothing that runs."""

        init_info_cls = NoInfo
        update_info_cls = FileInfo

        def init_transfer_engine(self, init_info: NoInfo) -> None:
            """Nothing to open."""

        def start_weight_update(self) -> None:
            """Unpack layers as their weights come."""
            initialize_layerwise_reload(self.model)

        def receive_weights(self, update_info: FileInfo) -> None:
            """Load one file."""
            self.model.load_weights(iter(load_file(update_info.path).items()))

        def finish_weight_update(self) -> None:
            """Pack the layers again."""
            finalize_layerwise_reload(self.model, self.model_config)
            pack_heads_again(self.model)

        @staticmethod
        def trainer_send_weights(iterator: Any, trainer_args: Any) -> None:
            """VLLM 0.27 wants it on this side; the trainer's own client writes the files."""
            raise NotImplementedError

        def shutdown(self) -> None:
            """Nothing to close."""

    return FileTransferEngine
