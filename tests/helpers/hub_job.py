"""The script download_model as its rule calls it, for a tiny Qwen3 in two shards on the hub of hub_server.py."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import download_model
from hub_server import REPOSITORY, REVISION, Hub
from prerl.core.errors import UserError
from prerl.models.checkpoints import verify
from tiny import SHAPE

ROOT = Path(__file__).parents[2]
PROMPT = {"system": None, "enable_thinking": False, "prefix_token": "<|im_start|>", "max_prompt_tokens": 64}
SHARDS = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
TAKEN = {*SHARDS, "model.safetensors.index.json", "config.json", "generation_config.json", "tokenizer.json"}
TAKEN |= {"tokenizer_config.json", "chat_template.jinja"}
LEFT = {"modeling_tiny.py", "pytorch_model.bin", "training_args.pt", "README.md", "consolidated.safetensors"}


@dataclass
class Job:
    """One job's folders; run() calls the script as its rule does, in this process."""

    folder: Path
    repository: str = REPOSITORY
    revision: str = REVISION
    prefix: str = "<|im_start|>"
    shape: dict = field(default_factory=dict)
    timeout_s: float = 20

    @property
    def model(self) -> Path:
        return self.folder / "model"

    @property
    def state(self) -> Path:
        return self.folder / "state"

    def arguments(self) -> list[str]:
        prompt = PROMPT | {"prefix_token": self.prefix}
        settings = {"model": "tiny", "repository": self.repository, "architecture": SHAPE | self.shape}
        settings |= {"prompt": prompt, "max_new_tokens": 90}
        folders = ["--state", str(self.state), "--manifest", str(self.model / "manifest.json")]
        patience = ["--timeout-s", str(self.timeout_s), "--backoff-s", "0.01"]
        return ["--revision", self.revision, "--settings", json.dumps(settings), *folders, *patience]

    def run(self, monkeypatch) -> str:
        """The message with which the script ends; "" for success."""
        monkeypatch.setattr(sys, "argv", ["download_model.py", *self.arguments()])
        try:
            download_model.main()
        except UserError as error:
            return str(error)
        return ""

    def start(self, hub: Hub, **environment: str) -> subprocess.Popen[str]:
        """The script as a process of its own."""
        return subprocess.Popen(
            [sys.executable, "workflow_scripts/download_model.py", *self.arguments()],
            cwd=ROOT,
            env={**os.environ, "HF_ENDPOINT": hub.endpoint, "HF_HOME": str(self.folder / "home"), **environment},
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def is_whole(self, repository: Path) -> bool:
        """The right files under a right manifest, and nothing left beside them."""
        files = {file.name: file.read_bytes() for file in verify(self.model / "manifest.json").iterdir()}
        source = json.loads(files.pop("source.json"))
        del files["manifest.json"]
        right = files == {name: (repository / name).read_bytes() for name in TAKEN}
        alone = not self.state.exists() and not [f for f in self.folder.iterdir() if f.name.startswith(".")]
        return right and alone and source == {"repository": REPOSITORY, "revision": REVISION}
