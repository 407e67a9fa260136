"""An example of several machines over SSH; copy it and put your own in. See docs/how-to/fleet.md.

A group is a list of hosts, or a pair of such a list and data for all of them. Data merges key by key: the
defaults, group_data/all.py, the groups of a host in this order, the host itself, `--data`.
"""

machines = (
    ["desk-1", "desk-2", "gpu-1", "gpu-2"],
    {
        "ssh_user": "ana",
        # A host whose key is not in known_hosts is not talked to. calm's default; plain pyinfra's is not.
        "ssh_strict_host_key_checking": "yes",
        "calm": {
            "docker": {"postgres": {"max_connections": 40}},
            "healing": {"rules": {"lmstudio-leaking": "report"}},
        },
    },
)

desktops = (
    ["desk-1", "desk-2"],
    {
        "calm": {
            # Somebody works there: less memory, and LM Studio's settings wait for its next start.
            "docker": {
                "postgres": {"memory": "768M"},
                "agent_api": {"memory": "1G", "memory_reserved": "512M"},
            },
            "lmstudio": {"jit": {"ttl_seconds": 900}},
        },
    },
)

gpu = (
    [
        "gpu-1",
        (
            "gpu-2",
            {
                # Behind a jump host: ~/.ssh/config has `Host gpu-2` with HostName and ProxyJump.
                "ssh_port": 2222,
                "calm": {"docker": {"redis": {"memory": "2G", "memory_reserved": "1G"}}},
            },
        ),
    ],
    {
        # ana logs in; LM Studio and the stack belong to llm, who may use Docker.
        "_sudo": True,
        "_sudo_user": "llm",
        "calm": {
            "root": "/home/llm/calm",
            "lmstudio": {"home": "/home/llm/.lmstudio", "restart": True},
            # The window is at night: nobody waits for an answer then.
            "schedules": {"backend": "systemd-user", "jobs": {"prune": {"weekly": "Sun 03:00"}}},
        },
    },
)
