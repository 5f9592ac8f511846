"""Whether a model may be loaded now: it fits, it waits, or which models go for it. Pure: no I/O, no clock, no logging.

Bytes count, not models. What a device has left is what it says is free, less what was promised to loaded models and
not taken by them yet; so a promise counts from before its load until the measured bytes replace it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from anyform.contract.facts import fact

Bytes = Mapping[str, int]
"""Device id -> bytes."""
LEAST_LOAD_S = 0.05


@fact
class Tenant:
    """A model that is loaded, loading, or going."""

    name: str
    promised: Bytes
    taken: Bytes
    """What it occupies already, so that its devices' free bytes lack it."""
    idle: bool = False
    """Whether it may go at once: loaded, unused, and not pinned."""
    pinned: bool = False
    leaving: bool = False
    loading: bool = False
    """Whether what it takes is not sure yet."""
    idle_s: float = 0.0
    load_s: float = 0.0
    """How long its load took, which is what evicting it costs."""

    def held(self, device: str) -> int:
        """What the device gets back when it goes."""
        return max(self.promised.get(device, 0), self.taken.get(device, 0))


@fact
class Budget:
    """What there is. A device that is in neither table has no known end."""

    free: Bytes
    """What each device says is free at this moment; absent: unknown."""
    limits: Bytes
    """What all models together may take of it, by the user."""
    most: int = 0
    """Models that may be loaded at once; 0: any number."""


@fact
class Admission:
    """fits: load it. Else evict these; or, if there are none, wait for one of `holders`; or, if never, refuse."""

    fits: bool
    evict: tuple[str, ...] = ()
    never: bool = False
    holders: tuple[str, ...] = ()
    """Whose room it needs, whether they may go at once or not."""


def admit(needs: Bytes, budget: Budget, tenants: Sequence[Tenant]) -> Admission:
    """What to do about a model that needs so much, beside *tenants* (itself not among them)."""
    if _fits(needs, budget, tenants):
        return Admission(fits=True)
    movable = [tenant for tenant in tenants if not tenant.pinned]
    chosen = _least(needs, budget, tenants, [tenant for tenant in movable if tenant.leaving])
    if chosen is not None:
        return Admission(fits=False, holders=_names(chosen))
    idle = _least(needs, budget, tenants, sorted((t for t in movable if t.idle or t.leaving), key=_worth))
    if idle is not None:
        return Admission(fits=False, evict=_names(t for t in idle if not t.leaving), holders=_names(idle))
    busy = _least(needs, budget, tenants, sorted(movable, key=_worth))
    loading = [tenant for tenant in movable if tenant.loading]
    return Admission(fits=False, never=busy is None and not loading, holders=_names(busy or loading))


def left(device: str, budget: Budget, tenants: Iterable[Tenant]) -> int | None:
    """Bytes that may still be promised on *device*; None: no known end."""
    tenants = list(tenants)
    ends = []
    if device in budget.free:
        pending = sum(max(t.promised.get(device, 0) - t.taken.get(device, 0), 0) for t in tenants)
        ends.append(budget.free[device] - pending)
    if device in budget.limits:
        ends.append(budget.limits[device] - sum(t.held(device) for t in tenants))
    return min(ends, default=None)


def room(budget: Budget, tenants: Sequence[Tenant]) -> dict[str, int]:
    """Device -> what a model may take there once all that are not pinned have gone."""
    stay = [tenant for tenant in tenants if tenant.pinned]
    after = _without(budget, [tenant for tenant in tenants if not tenant.pinned])
    found = ((device, left(device, after, stay)) for device in {**budget.free, **budget.limits})
    return {device: number for device, number in found if number is not None}


def _worth(tenant: Tenant) -> tuple[bool, bool, float, str]:
    """Who goes first: the longest unused, weighed against the time that loading it again takes."""
    weight = tenant.idle_s / max(tenant.load_s, LEAST_LOAD_S)
    return (not tenant.leaving, not tenant.idle, -weight, tenant.name)


def _least(
    needs: Bytes, budget: Budget, tenants: Sequence[Tenant], candidates: Sequence[Tenant]
) -> list[Tenant] | None:
    """The first of *candidates* whose going makes room, without those that need not go; None if all are too few."""
    gone: list[Tenant] = []
    for candidate in candidates:
        gone.append(candidate)
        if _fits_without(needs, budget, tenants, gone):
            break
    else:
        return None
    for spared in gone[:-1]:
        fewer = [tenant for tenant in gone if tenant is not spared]
        if _fits_without(needs, budget, tenants, fewer):
            gone = fewer
    return gone


def _fits_without(needs: Bytes, budget: Budget, tenants: Sequence[Tenant], gone: Sequence[Tenant]) -> bool:
    stay = [tenant for tenant in tenants if tenant not in gone]
    return _fits(needs, _without(budget, gone), stay)


def _without(budget: Budget, gone: Sequence[Tenant]) -> Budget:
    """The budget once these have given back what they took."""
    free = {device: number + sum(t.taken.get(device, 0) for t in gone) for device, number in budget.free.items()}
    return Budget(free=free, limits=budget.limits, most=budget.most)


def _fits(needs: Bytes, budget: Budget, tenants: Sequence[Tenant]) -> bool:
    if budget.most and len(tenants) >= budget.most:
        return False
    for device, wanted in needs.items():
        end = left(device, budget, tenants)
        if end is not None and wanted > end:
            return False
    return True


def _names(tenants: Iterable[Tenant]) -> tuple[str, ...]:
    return tuple(tenant.name for tenant in tenants)
