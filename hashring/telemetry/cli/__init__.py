"""The commands of the agents, and what they print."""
