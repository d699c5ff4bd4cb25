"""The configurations that a problem allows, as data that a strategy can draw and change.

What comes out of here lies inside the space, honours conditions, conflicts and requirements, and is in one order: by stage,
settings as declared. So two configurations are the same exactly if they are equal.
"""

import functools
import math

from componentize_py_types import Err
from wit_world.imports import common, feasibility, log
from wit_world.imports.common import (
    Domain_Choice,
    Domain_Flag,
    Domain_Integer,
    Domain_Real,
    Setting,
    Value_Flag,
    Value_Integer,
    Value_Real,
)
from wit_world.imports.feasibility import Choice

# Techniques that are on in a random configuration of a large space, on average: each costs accuracy.
TOGETHER = 3.0


class Random:
    """Random numbers that depend on nothing but the seed (splitmix64)."""

    def __init__(self, seed):
        self.state = seed

    def bits(self):
        mask = 2**64 - 1
        self.state = (self.state + 0x9E3779B97F4A7C15) & mask
        z = self.state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
        return z ^ (z >> 31)

    def unit(self):
        """Uniform in [0, 1)."""
        return (self.bits() >> 11) / 2**53

    def below(self, n):
        """Uniform in 0..n, n not included."""
        return (self.bits() * n) >> 64

    def pick(self, members):
        return members[self.below(len(members))]


class Space:
    """A problem's techniques, with what can be done to configurations of them."""

    def __init__(self, techniques):
        # A stable sort: those of one stage stay in the order given.
        self.techniques = {t.technique: t for t in sorted(techniques, key=lambda t: t.stage.value)}

    def alone(self, technique):
        """One technique with its defaults; the baseline where it cannot be alone."""
        return self.lawful({technique.technique: {p.name: p.default for p in technique.parameters}})

    def sample(self, random):
        """A random configuration; the baseline where nothing else was found."""
        on = min(TOGETHER / max(len(self.techniques), 1), 0.5)
        for _ in range(64):
            drawn = {
                name: {p.name: draw(p.domain, random) for p in technique.parameters}
                for name, technique in self.techniques.items()
                if random.unit() < on
            }
            configuration = self.lawful(drawn)
            if configuration:
                return configuration
        return []

    def change(self, configuration, random):
        """One change, in a few words: of a setting, or of what is on."""
        wanted = {choice.technique: {s.name: s.value for s in choice.settings} for choice in configuration}
        places = [(choice.technique, setting.name) for choice in configuration for setting in choice.settings]
        place = random.below(len(places) + len(self.techniques))
        if place < len(places):
            name, changed = places[place]
            domain = next(p.domain for p in self.techniques[name].parameters if p.name == changed)
            wanted[name][changed] = near(domain, wanted[name][changed], random)
            what = f"{changed} of {name} changed"
        else:
            technique = random.pick(list(self.techniques.values()))
            name = technique.technique
            if name in wanted:
                del wanted[name]
                what = f"without {name}"
            else:
                # In place of what it excludes.
                wanted = {other: s for other, s in wanted.items() if not conflict(technique, self.techniques[other])}
                wanted[name] = {p.name: p.default for p in technique.parameters}
                what = f"with {name}"
        # A condition that now holds needs a setting that was not there before.
        for name, settings in wanted.items():
            for p in self.techniques[name].parameters:
                settings.setdefault(p.name, p.default)
        return self.lawful(wanted), what

    def lawful(self, wanted):
        """The configuration of these values by technique and parameter: without settings that are inactive, without the later
        of two techniques that exclude one another, and without those that lack what they require."""
        kept = []
        for name, technique in self.techniques.items():
            if name in wanted and not any(conflict(technique, other) for other in kept):
                kept.append(technique)
        while lacking := [t for t in kept if not provided(t, kept)]:
            kept = [t for t in kept if t not in lacking]
        return [Choice(t.technique, active(t, wanted[t.technique])) for t in kept]


def active(technique, values):
    """The settings of those parameters whose conditions hold."""
    chosen = {}
    for p in technique.parameters:
        if all(chosen.get(condition.parameter) in condition.values for condition in p.active_when):
            chosen[p.name] = values[p.name]
    return [Setting(name, value) for name, value in chosen.items()]


def conflict(a, b):
    """Whether one names the other, or both provide the same."""
    return a.technique in b.conflicts or b.technique in a.conflicts or not set(a.provides).isdisjoint(b.provides)


def provided(technique, among):
    """Whether those before it provide all that it requires; techniques are in the order in which they apply."""
    tags = {tag for other in among[: among.index(technique)] for tag in other.provides}
    return tags.issuperset(technique.requires)


def draw(domain, random):
    """A random member of a domain."""
    match domain:
        case Domain_Flag():
            return Value_Flag(random.unit() < 0.5)
        case Domain_Choice(choices):
            return random.pick(choices.values)
        case _:
            return at(domain, random.unit())


def near(domain, value, random):
    """Another member, near `value` where neighbours are alike; `value` itself where it is the only one."""
    match domain:
        case Domain_Flag():
            return Value_Flag(not value.value)
        case Domain_Choice(choices) if not choices.ordered:
            return random.pick([other for other in choices.values if other != value] or [value])
        case Domain_Choice(choices):
            index = step(choices.values.index(value), len(choices.values) - 1, random)
            return choices.values[index]
        case Domain_Integer(r) if not r.log:
            index = step((value.value - r.min) // r.step, (r.max - r.min) // r.step, random)
            return Value_Integer(r.min + index * r.step)
        case _:
            low, high = scaled(domain.value, domain.value.min), scaled(domain.value, domain.value.max)
            share = (scaled(domain.value, value.value) - low) / ((high - low) or 1.0)
            away = (0.05 + 0.25 * random.unit()) * random.pick([-1, 1])
            return at(domain, min(max(share + away, 0.0), 1.0))


def step(index, last, random):
    """Another index of 0..last, at most a fifth of the way from it; the same where it is the only one."""
    away = (1 + random.below(last // 5 + 1)) * random.pick([-1, 1])
    return min(max(index + away, 0), last)


def at(domain, share):
    """The member of a range at a share of the way from its first to its last, on its own scale."""
    r = domain.value
    if isinstance(domain, Domain_Integer) and not r.log:
        steps = (r.max - r.min) // r.step
        return Value_Integer(r.min + min(int(share * (steps + 1)), steps) * r.step)
    value = scaled(r, r.min) * (1 - share) + scaled(r, r.max) * share
    value = math.exp(value) if r.log else value
    if isinstance(domain, Domain_Integer):
        steps = (r.max - r.min) // r.step
        return Value_Integer(r.min + min(max(round((value - r.min) / r.step), 0), steps) * r.step)
    # Four digits: people read it, and what is between them makes no difference that could be measured.
    return Value_Real(min(max(float(f"{value:.4g}"), r.min), r.max))


def scaled(r, value):
    return math.log(value) if r.log else value


def admitted(configuration, constraints):
    """Whether it breaks no limit that is known without a measurement. The host is asked only where there is a limit on memory:
    its answer costs applying the configuration, and what cannot be applied it refuses unmeasured anyway."""
    if not any(c.metric.startswith("memory.") for c in constraints):
        return True
    try:
        known = dict(feasibility.check(configuration))
    except Err:
        return False
    return all(violation(c, known[c.metric]) == 0 for c in constraints if c.metric in known)


def violation(constraint, value):
    """By how much a value breaks a constraint, as a share of the bound; 0 when it holds."""
    over = value - constraint.bound if constraint.at_most else constraint.bound - value
    return max(over, 0.0) / (abs(constraint.bound) or 1.0)


def invalid(message):
    """To be raised when the problem or the settings make no sense."""
    return Err(common.Error("invalid-input", message, []))


def reported(method):
    """Tells the host of an exception that is a mistake in the plugin, which ends it: a trap has no words of its own."""

    @functools.wraps(method)
    def call(*arguments):
        try:
            return method(*arguments)
        except Err:
            raise
        except Exception as mistake:
            # The lines of the source cannot be read here, so it is their numbers that are told.
            at = mistake.__traceback__
            while at.tb_next:
                at = at.tb_next
            log.write(log.Level.WARN, f"panicked at {at.tb_frame.f_code.co_filename}:{at.tb_lineno}: {mistake!r}")
            raise

    return call
