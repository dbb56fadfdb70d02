"""What an agent is told: options, files, definitions, and the plan that comes of them."""
