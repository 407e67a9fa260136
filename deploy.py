"""What one host should be, top to bottom. Plain pyinfra runs it, too:

pyinfra inventories/local.py deploy.py
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from operations import agent, compose, document, host, lmstudio, remedies, schedules

host.begin()
document.secrets()
document.documents()
compose.volumes()
compose.services()
lmstudio.settings()
agent.installed()
schedules.jobs()
remedies.heal()
host.finish()
