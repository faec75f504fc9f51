"""Tests import the library as the scripts do: from workflow_scripts/, with nothing installed."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "workflow_scripts"))
