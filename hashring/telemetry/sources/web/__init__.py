"""What answers over HTTP: JSON endpoints and Prometheus's targets."""
