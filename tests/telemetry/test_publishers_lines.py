import dataclasses
import fcntl
import json
import os
import subprocess
import sys

import pytest

from hashring import plugins
from hashring.errors import BadURL
from hashring.telemetry.errors import OutputClosed, OutputFailed
from hashring.telemetry.model.batch import batches_of
from hashring.telemetry.plugin import Publisher
from hashring.telemetry.publishers import FilePublisher, StdoutPublisher
from tests.telemetry.publishing import SETTINGS, sample, samples


def lines(path):
    return [json.loads(line) for line in path.read_bytes().splitlines()]


@pytest.fixture
def output(tmp_path):
    return tmp_path / "samples.jsonl"


def test_samples_are_in_the_file_once_publish_has_returned(output):
    publisher = FilePublisher(f"file://{output}", SETTINGS)

    publisher.publish(samples(3))

    assert [line["volume"] for line in lines(output)] == [0, 1, 2]
    publisher.close()


def test_a_file_is_appended_to(output):
    for member in "ab":
        publisher = FilePublisher(f"file://{output}", SETTINGS)
        publisher.publish(samples(1, member))
        publisher.close()

    assert [line["member"] for line in lines(output)] == ["a", "b"]


WRITER = """
import sys
from hashring.telemetry.publishers import FilePublisher
from hashring.telemetry.model.sample import Meter, MeterType, Sample
from hashring.telemetry.model.settings import Settings
_, member, path, batches = sys.argv
meter = Meter("tank.level", MeterType.GAUGE, "l")
settings = Settings(backend_url="memory://", member=member, host="h")
publisher = FilePublisher("file://" + path, settings)
for batch in range(int(batches)):
    publisher.publish([
        Sample(meter, n, "plant:tank:" + "x" * 200, 0.0, batch, 1.0, member, ("v", "i", batch))
        for n in range(40)
    ])
"""


def test_several_processes_append_whole_lines_to_one_file(output):
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, member, str(output), "50"])
        for member in "abc"
    ]
    assert [writer.wait(200) for writer in writers] == [0, 0, 0]

    found = lines(output)
    assert len(found) == 3 * 50 * 40
    # Each batch is one write: nobody else's lines stand within it.
    batches = [found[start : start + 40] for start in range(0, len(found), 40)]
    assert all(len({(line["member"], line["window"]) for line in batch}) == 1 for batch in batches)


def test_what_goes_to_a_pipe_goes_in_pieces_that_the_system_does_not_cut(output):
    reader, writer = os.pipe()
    limit = os.fpathconf(writer, "PC_PIPE_BUF")
    publisher = FilePublisher(f"file:///dev/fd/{writer}", SETTINGS)
    os.set_blocking(reader, False)

    publisher.publish(samples(100))

    whole = os.read(reader, 1 << 20)
    assert len(whole) > limit
    assert len(whole.splitlines()) == 100
    # A packet pipe would show each write; here it is enough that none is longer than the limit.
    assert all(len(piece) <= limit for piece in publisher._pieces(batches_of(samples(100))))
    (poll,) = batches_of(sample(n, resource_id=f"plant:{n}") for n in range(100))
    pieces = list(publisher._pieces([poll]))
    assert b"".join(pieces) == poll.lines()
    assert all(len(piece) <= limit for piece in pieces)
    publisher.close()
    os.close(reader)
    os.close(writer)


@pytest.mark.parametrize("target", ["/nowhere/samples", "/", "/proc/version"])
def test_a_file_that_cannot_be_written_is_an_error_that_names_it(target):
    if target == "/proc/version" and os.geteuid() != 0:
        expected = "Permission denied"
    else:
        expected = "cannot write"
    with pytest.raises(OutputFailed, match=expected) as failure:
        FilePublisher(f"file://{target}", SETTINGS).publish(samples(1))

    assert target in str(failure.value)


def test_a_full_disk_is_an_error_and_the_next_call_may_succeed():
    publisher = FilePublisher("file:///dev/full", SETTINGS)

    with pytest.raises(OutputFailed, match="No space left on device"):
        publisher.publish(samples(1))
    publisher.close()


def test_a_full_disk_cuts_no_line_in_two(output):
    limit_then_write = f"""
import resource, signal, sys
sys.path[:0] = {sys.path!r}
from hashring.telemetry.publishers import FilePublisher
from hashring.telemetry.errors import OutputFailed
from hashring.telemetry.model.sample import Meter, MeterType, Sample
from hashring.telemetry.model.settings import Settings
samples = [
    Sample(Meter("tank.level", MeterType.GAUGE, "l"), n, "r", 0.0, n, 1.0, "a", ())
    for n in range(10)
]
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
size = sum(len(sample.to_line()) for sample in samples)
resource.setrlimit(resource.RLIMIT_FSIZE, (size - 20, resource.RLIM_INFINITY))
settings = Settings(backend_url="memory://", member="a", host="h")
publisher = FilePublisher("file://{output}", settings)
try:
    publisher.publish(samples)
except OutputFailed as error:
    print(error)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
publisher.publish(samples[:1])
"""
    done = subprocess.run(
        [sys.executable, "-c", limit_then_write], capture_output=True, text=True, check=True
    )

    assert "the disk may be full" in done.stdout
    assert [line["volume"] for line in lines(output)] == [0]  # nothing of the piece was left


def test_a_line_that_a_killed_process_left_half_written_spoils_no_other_line(output):
    output.write_bytes(b'{"id": "half of a li')
    publisher = FilePublisher(f"file://{output}", SETTINGS)

    publisher.publish(samples(1))

    torn, whole = output.read_bytes().splitlines()
    assert torn == b'{"id": "half of a li'
    assert json.loads(whole)["volume"] == 0
    publisher.close()


def test_a_reader_that_has_gone_ends_it():
    reader, writer = os.pipe()
    publisher = FilePublisher(f"file:///dev/fd/{writer}", SETTINGS)
    os.close(reader)

    with pytest.raises(OutputClosed):
        publisher.publish(samples(1))
    publisher.close()
    os.close(writer)


def test_closing_twice_closes_once(output):
    publisher = FilePublisher(f"file://{output}", SETTINGS)
    publisher.close()
    other = os.open(output, os.O_RDONLY)  # most likely the same number

    publisher.close()

    os.fstat(other)
    os.close(other)


def test_a_file_is_rotated_before_it_grows_beyond_its_bound(output):
    bound = 3 * len(samples(1)[0].to_line())
    url = f"file://{output}?max_bytes={bound}&backup_count=2&json"
    publisher = FilePublisher(url, SETTINGS)

    for one in samples(10):
        publisher.publish([one])

    found = {
        path.name: [line["volume"] for line in lines(path)] for path in output.parent.iterdir()
    }
    # Of ten lines, three a file, the first three are gone: two rotated files are kept.
    assert found == {
        "samples.jsonl": [9],
        "samples.jsonl.1": [6, 7, 8],
        "samples.jsonl.2": [3, 4, 5],
    }
    publisher.close()


def test_a_gap_in_the_rotated_files_is_filled_and_nothing_beyond_it_is_dropped(output):
    size = len(sample(1).to_line())
    for number in (1, 3):
        output.with_name(f"samples.jsonl.{number}").write_text(str(number))
    publisher = FilePublisher(f"file://{output}?max_bytes={size}&backup_count=3", SETTINGS)

    for volume in (1, 2):
        publisher.publish([sample(volume)])

    assert [line["volume"] for line in lines(output)] == [2]
    assert [line["volume"] for line in lines(output.with_name("samples.jsonl.1"))] == [1]
    assert output.with_name("samples.jsonl.2").read_text() == "1"
    assert output.with_name("samples.jsonl.3").read_text() == "3"
    publisher.close()


def test_one_batch_may_fill_several_files_and_a_line_longer_than_a_file_has_one_alone(output):
    bound = 3 * len(samples(1)[0].to_line())
    publisher = FilePublisher(f"file://{output}?max_bytes={bound}&backup_count=9", SETTINGS)

    publisher.publish([*samples(5), sample(5, resource_id="x" * 2 * bound), sample(6)])

    names = [output, *(output.with_name(f"samples.jsonl.{n}") for n in (1, 2, 3))]
    assert [[line["volume"] for line in lines(path)] for path in names] == [
        [6],
        [5],
        [3, 4],
        [0, 1, 2],
    ]
    publisher.close()


def test_several_processes_rotate_one_file_and_lose_and_tear_no_line(output):
    line = len(sample(0, resource_id="plant:tank:" + "x" * 200).to_line())
    url = f"{output}?max_bytes={60 * line}&backup_count=1000"
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, member, url, "40"]) for member in "abc"
    ]
    assert [writer.wait(200) for writer in writers] == [0, 0, 0]

    files = list(output.parent.iterdir())
    found = [line for path in files for line in lines(path)]
    assert len(files) > 50
    assert max(path.stat().st_size for path in files) <= 60 * line
    assert {(one["member"], one["window"], one["volume"]) for one in found} == {
        (member, window, volume) for member in "abc" for window in range(40) for volume in range(40)
    }
    assert len(found) == 3 * 40 * 40


def test_a_process_that_is_killed_in_the_midst_of_it_costs_the_others_nothing(output, until):
    line = len(sample(0, resource_id="plant:tank:" + "x" * 200).to_line())
    url = f"{output}?max_bytes={50 * line}&backup_count=100000"
    command = [sys.executable, "-c", WRITER]
    doomed = subprocess.Popen([*command, "doomed", url, "1000000"])
    others = [subprocess.Popen([*command, member, url, "40"]) for member in "ab"]

    try:
        until(lambda: sum(1 for _ in output.parent.iterdir()) > 20, "files were rotated")
        doomed.kill()
        assert [writer.wait(200) for writer in others] == [0, 0]
    finally:
        for writer in (doomed, *others):
            writer.kill()
            writer.wait()

    found = []
    torn = 0
    for path in output.parent.iterdir():
        for text in path.read_bytes().splitlines():
            try:
                found.append(json.loads(text))
            except ValueError:
                torn += 1
    assert torn <= 1  # what the killed one was writing
    survived = [(one["member"], one["window"], one["volume"]) for one in found]
    assert sorted(one for one in survived if one[0] != "doomed") == [
        (member, window, volume) for member in "ab" for window in range(40) for volume in range(40)
    ]


def test_a_file_that_another_program_renamed_or_removed_is_made_anew(output):
    publisher = FilePublisher(f"file://{output}", SETTINGS)
    publisher.publish([sample(1)])
    moved = output.rename(output.with_name("old"))

    publisher.publish([sample(2)])
    output.unlink()
    publisher.publish([sample(3)])

    assert [line["volume"] for line in lines(moved)] == [1]
    assert [line["volume"] for line in lines(output)] == [3]
    publisher.close()


def test_a_lock_that_is_never_given_back_is_an_error_not_a_hang(output, monkeypatch):
    monkeypatch.setattr("hashring.telemetry.publishers.lines._LOCK_TIMEOUT", 0.05)
    publisher = FilePublisher(f"file://{output}", SETTINGS)
    with output.open() as other:
        fcntl.flock(other, fcntl.LOCK_EX)

        with pytest.raises(OutputFailed, match="another process has held its lock"):
            publisher.publish(samples(1))

    publisher.publish(samples(1))
    assert len(lines(output)) == 1
    publisher.close()


def test_a_link_stays_a_link_to_the_file_that_is_written_now(output):
    target = output.with_name("target.jsonl")
    output.symlink_to(target)
    size = len(sample(1).to_line())
    publisher = FilePublisher(f"file://{output}?max_bytes={size}&backup_count=1", SETTINGS)

    for volume in (1, 2):
        publisher.publish([sample(volume)])

    assert output.is_symlink()
    assert [line["volume"] for line in lines(output)] == [2]
    assert [line["volume"] for line in lines(target.with_name("target.jsonl.1"))] == [1]
    publisher.close()


def test_half_of_a_rotation_is_none_and_said(output, caplog):
    publisher = FilePublisher(f"file://{output}?max_bytes=1", SETTINGS)

    publisher.publish([sample(1)])
    publisher.publish([sample(2)])

    assert "rotation needs max_bytes and backup_count" in caplog.text
    assert len(lines(output)) == 2
    publisher.close()


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("max_byte=1", "unknown option 'max_byte'; known: backup_count, json, max_bytes"),
        ("max_bytes=1k", "the option 'max_bytes' cannot be '1k': not a whole number"),
        ("backup_count=-1", "the option 'backup_count' cannot be '-1': must not be negative"),
        ("json=false", "the option 'json' cannot be 'false': there is no other format"),
    ],
)
def test_an_option_that_is_wrong_is_an_error_that_says_what_is_right(output, query, said):
    with pytest.raises(BadURL, match=said):
        FilePublisher(f"file://{output}?{query}", SETTINGS)


def test_a_file_without_a_path_is_an_error():
    with pytest.raises(BadURL, match="names no file"):
        FilePublisher("file://", SETTINGS)


def test_the_standard_output_is_not_closed():
    script = """
from hashring.telemetry.publishers import StdoutPublisher
from tests.telemetry.publishing import SETTINGS, samples
publisher = StdoutPublisher("stdout://", SETTINGS)
publisher.publish(samples(2))
publisher.close()
print("after")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)

    *found, after = done.stdout.splitlines()
    assert [json.loads(line)["volume"] for line in found] == [0, 1]
    assert after == b"after"


@pytest.mark.parametrize(("scheme", "kind"), [("file", FilePublisher), ("stdout", StdoutPublisher)])
def test_publishers_are_found_by_their_scheme(scheme, kind):
    assert plugins.load(plugins.PUBLISHERS, scheme, Publisher) is kind


def test_who_refines_a_publisher_by_what_it_does_with_samples_is_asked_by_an_agent(output):
    class Loud(FilePublisher):
        def publish(self, samples):
            super().publish([dataclasses.replace(one, volume=one.volume * 2) for one in samples])

    publisher = Loud(f"file://{output}", SETTINGS)
    publisher.publish_batches(batches_of(samples(3)))
    publisher.close()

    assert [json.loads(line)["volume"] for line in output.read_bytes().splitlines()] == [0, 2, 4]
