"""Canned hardware is as real hardware is."""

from __future__ import annotations

import pytest

from anyform.contract.facts import Device
from anyform.testing.hardware import MACHINES
from anyform.testing.subject import check_wire


@pytest.mark.parametrize("devices", MACHINES.values(), ids=MACHINES.keys())
def test_canned_machines(devices: tuple[Device, ...]) -> None:
    assert devices[0].id == "cpu"
    assert devices[0].extra["flags"]
    assert len({device.id for device in devices}) == len(devices)
    for device in devices:
        assert 0 < device.free_bytes <= device.total_bytes
        check_wire(device)
