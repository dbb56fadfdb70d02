"""A running agent: begun, stopped and started again; its signals, its status, systemd."""
