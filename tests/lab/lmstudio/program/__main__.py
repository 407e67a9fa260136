"""Entry of the stand-in, run as ``lm-studio RESOURCES/app`` or ``llmster .bundle``."""

from root import main

main()
