import dataclasses

from hashring.telemetry.agent.status import GroupStatus, Status, StatusFile, read_status


def status(**changes):
    return Status(**{"member": "a", "pid": 1, "state": "joining"} | changes)


def test_a_status_is_read_back_as_it_was_written(tmp_path):
    path = tmp_path / "status.json"
    told = status(state="settled", members=("a", "b"), slots=12, window=7, last_poll=7.5)
    groups = {"g": GroupStatus(state="settled", members=("a", "b"), slots=12, resources=3)}
    groups["h"] = GroupStatus(state="joining", reason="the store is away")
    told = dataclasses.replace(told, groups=groups, hanging=1)

    with StatusFile(path, lambda: told):
        pass

    assert read_status(path) == told


def test_the_file_follows_what_the_agent_says_to_its_last_word(tmp_path, until):
    path = tmp_path / "status.json"
    now = [status()]

    with StatusFile(path, lambda: now[0], every=0.01):
        until(lambda: read_status(path) == now[0], "the first status is written")
        now[0] = status(state="settled")
        until(lambda: read_status(path) == now[0], "the second status is written")
        now[0] = status(state="left")

    assert read_status(path).state == "left"
    assert [found.name for found in tmp_path.iterdir()] == ["status.json"]


def test_a_reader_never_finds_half_a_status(tmp_path):
    path = tmp_path / "status.json"
    counter = iter(range(10**9))
    read = []

    with StatusFile(path, lambda: status(polls=next(counter), state="x" * 5000), every=0):
        while len(read) < 300:
            found = read_status(path)
            if found is None:
                assert not read, "a file that was there is there no more, or cannot be read"
            else:
                read.append(found.polls)

    assert read == sorted(read)


def test_a_file_that_cannot_be_written_is_logged_once_and_stops_nobody(tmp_path, caplog, until):
    tries = []

    def counted():
        tries.append(1)
        return status()

    with StatusFile(tmp_path / "nowhere" / "status.json", counted, every=0.001):
        until(lambda: len(tries) >= 10, "it has tried several times")

    assert len(caplog.records) == 1
    assert "nowhere" in caplog.text


def test_no_file_is_no_status(tmp_path):
    assert read_status(tmp_path / "status.json") is None
    (tmp_path / "status.json").write_text('{"member": "a"}')
    assert read_status(tmp_path / "status.json") is None
