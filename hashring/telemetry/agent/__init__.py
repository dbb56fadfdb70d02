"""A running agent: begun, stopped and started again; its signals, its status, systemd."""

from hashring.telemetry.agent.agent import Agent

__all__ = ["Agent"]
