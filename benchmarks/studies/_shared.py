"""The modules one folder up, for a study that is run as a script: `import _shared` before them."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1]))
