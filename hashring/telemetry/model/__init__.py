"""What the agents speak of: samples, resources, settings. Knows nothing else of them."""
