import json
import os
import subprocess
import sys

import pytest

from hashring.telemetry import plugins
from hashring.telemetry.publishers import (
    FilePublisher,
    OutputClosed,
    OutputFailed,
    Publisher,
    StdoutPublisher,
)
from hashring.telemetry.sample import Meter, MeterType, Sample
from hashring.telemetry.settings import Settings

SETTINGS = Settings(backend_url="memory://", member="a", host="h")
METER = Meter("tank.level", MeterType.GAUGE, "l")


def samples(count, member="a", resource="plant:tank:north"):
    return [
        Sample(METER, volume, resource, 0.0, volume, 1.0, member, ("v", "i", volume))
        for volume in range(count)
    ]


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
from hashring.telemetry.sample import Meter, MeterType, Sample
from hashring.telemetry.settings import Settings
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
    assert [writer.wait(60) for writer in writers] == [0, 0, 0]

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
    assert all(len(piece) <= limit for piece in publisher._pieces(samples(100)))
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


def test_a_line_that_a_full_disk_cut_spoils_no_other_line(output):
    limit_then_write = f"""
import resource, signal, sys
sys.path[:0] = {sys.path!r}
from hashring.telemetry.publishers import FilePublisher, OutputFailed
from hashring.telemetry.sample import Meter, MeterType, Sample
from hashring.telemetry.settings import Settings
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
    *whole, torn, after = output.read_bytes().splitlines()
    assert [json.loads(line)["volume"] for line in whole] == list(range(9))
    with pytest.raises(ValueError, match=r".*"):
        json.loads(torn)
    assert json.loads(after)["volume"] == 0


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


@pytest.mark.parametrize(("scheme", "kind"), [("file", FilePublisher), ("stdout", StdoutPublisher)])
def test_publishers_are_found_by_their_scheme(scheme, kind):
    assert plugins.load(plugins.PUBLISHERS, scheme, Publisher) is kind
