"""Tests that need vLLM: `make test-vllm`, in an environment of its own."""

from __future__ import annotations

import os

os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
