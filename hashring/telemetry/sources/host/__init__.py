"""This host, by psutil."""
