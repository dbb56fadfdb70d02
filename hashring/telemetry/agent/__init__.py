"""A running agent: begun, stopped and started again; its signals, its status, systemd.

::

    agent       Agent: all runners, begun and ended in order
    launch      Launch: all that it takes to make an agent, for another process
    supervisor  Supervisor: several agents as processes, restarted when they die
    signals     SIGTERM, SIGHUP and Ctrl-C as calls from a thread
    status      Status: what an agent says of itself while it runs
    systemd     what systemd is told, and the watchdog
"""

from hashring.telemetry.agent.agent import Agent

__all__ = ["Agent"]
