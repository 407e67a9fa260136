"""This machine, with the default settings. Put your own under ``calm``; `calm settings` shows them all.

hosts = [("@local", {"calm": {"docker": {"redis": {"memory": "1G"}}}})]
"""

hosts = ["@local"]
