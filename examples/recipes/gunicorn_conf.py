"""Gunicorn forks its workers. A group is joined in each of them: a forked child holds nothing."""

import flask_app


def post_fork(server: object, worker: object) -> None:
    flask_app.background = flask_app.Background()
    flask_app.background.start()


def worker_exit(server: object, worker: object) -> None:
    if flask_app.background is not None:
        flask_app.background.stop()
