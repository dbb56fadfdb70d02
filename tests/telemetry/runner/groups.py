"""What the tests of the runner share: a few tanks, and the windows that a meter was taken in."""

from tests.telemetry.plant import FEW

NORTH, SOUTH, EAST, WEST = (tank.id for tank in FEW)


def windows(found, meter):
    return {(s.window, s.interval) for s in found.shelf.taken() if s.meter.name == meter}
