"""The devices of this machine in one snapshot, with a fingerprint that stays while the hardware does."""

from __future__ import annotations

import hashlib
import json

from anyform.contract.facts import Device, fact
from anyform.kernel.plugins import Plugins


@fact
class Hardware:
    """A snapshot. `devices` are sorted: accelerators first, then by index."""

    devices: tuple[Device, ...]
    fingerprint: str
    """Changes with the kind, name or instruction sets of a device, not with its free memory."""

    def of(self, wanted: str | None) -> tuple[Device, ...]:
        """The devices that a `--device` text means: a kind, an id, or all for None."""
        return tuple(device for device in self.devices if wanted in (None, device.kind, device.id))

    @property
    def free(self) -> dict[str, int]:
        """Device id -> free bytes, of those that say how much they have."""
        return {device.id: device.free_bytes for device in self.devices if device.total_bytes or device.free_bytes}


def snapshot(plugins: Plugins) -> Hardware:
    """Ask every plugin for its devices."""
    devices = [device for _, answer in plugins.ask_all("find_devices") for device in answer]
    devices.sort(key=lambda device: (device.kind == "cpu", device.kind, device.index))
    lasting = [(device.kind, device.index, device.name, device.extra.get("flags")) for device in devices]
    digest = hashlib.sha256(json.dumps(lasting, sort_keys=True, default=str).encode()).hexdigest()[:12]
    return Hardware(devices=tuple(devices), fingerprint=digest)
