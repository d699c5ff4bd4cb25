// The configurations that a problem allows, as data that a strategy can draw, vary and cross.
//
// What comes out of here lies inside the space, honours conditions, conflicts and requirements, and is in one order: by stage,
// settings as declared. So two configurations are the same exactly if their keys are.

import feasibility from "aehost:plugin/feasibility@0.1.0";
import log from "aehost:plugin/log@0.1.0";

/** Techniques that are on in a random configuration of a large space, on average: each costs accuracy. */
const TOGETHER = 3;
const STAGES = ["architecture", "fine-tuning", "inference"];

/** Random numbers that depend on nothing but the seed (splitmix64). */
export class Random {
  constructor(seed) {
    this.state = BigInt(seed);
  }

  /** Uniform in [0, 1). */
  unit() {
    this.state = BigInt.asUintN(64, this.state + 0x9e3779b97f4a7c15n);
    let z = this.state;
    z = BigInt.asUintN(64, (z ^ (z >> 30n)) * 0xbf58476d1ce4e5b9n);
    z = BigInt.asUintN(64, (z ^ (z >> 27n)) * 0x94d049bb133111ebn);
    return Number((z ^ (z >> 31n)) >> 11n) / 2 ** 53;
  }

  chance(probability) {
    return this.unit() < probability;
  }

  pick(members) {
    return members[Math.floor(this.unit() * members.length)];
  }

  /** The members in a random order (Fisher and Yates). */
  shuffled(members) {
    const order = [...members];
    for (let last = order.length - 1; last > 0; last--) {
      const other = Math.floor(this.unit() * (last + 1));
      [order[last], order[other]] = [order[other], order[last]];
    }
    return order;
  }
}

/** One text for one configuration. */
export const key = (configuration) => JSON.stringify(configuration);

/** A problem's techniques, with what can be done to configurations of them. */
export class Space {
  constructor(techniques) {
    // Sorting is stable: those of one stage stay in the order given.
    this.techniques = techniques.toSorted((a, b) => STAGES.indexOf(a.stage) - STAGES.indexOf(b.stage));
  }

  /** A random configuration; the baseline where nothing else was found. */
  sample(random) {
    const on = Math.min(TOGETHER / this.techniques.length, 0.5);
    for (let i = 0; i < 64; i++) {
      const drawn = this.techniques.filter(() => random.chance(on));
      const configuration = this.lawful(new Map(drawn.map((t) => [t.technique, new Map()])), random);
      if (configuration.length > 0) return configuration;
    }
    return [];
  }

  /** A configuration with one setting drawn anew, or one technique more or less. */
  mutate(configuration, random) {
    const wanted = this.values(configuration);
    const settings = configuration.flatMap((choice) => choice.settings.map((s) => [choice.technique, s.name]));
    const place = random.pick([...settings, ...this.techniques.map((t) => [t.technique])]);
    if (!place) return configuration;
    const [technique, name] = place;
    if (name) wanted.get(technique).delete(name);
    else if (!wanted.delete(technique)) wanted.set(technique, new Map());
    return this.lawful(wanted, random);
  }

  /** A child of two: of each technique it has what one of them has, and of what both have, settings of either. */
  cross(a, b, random) {
    const parents = [this.values(a), this.values(b)];
    const child = new Map();
    for (const { technique } of this.techniques) {
      const [first, second] = random.shuffled(parents).map((parent) => parent.get(technique));
      if (!first) continue;
      const either = ([name, value]) => [name, (random.chance(0.5) && second?.get(name)) || value];
      child.set(technique, new Map([...first].map(either)));
    }
    return this.lawful(child, random);
  }

  /** The values of a configuration by technique and parameter. */
  values(configuration) {
    const settings = (choice) => new Map(choice.settings.map((s) => [s.name, s.value]));
    return new Map(configuration.map((choice) => [choice.technique, settings(choice)]));
  }

  /** The configuration of these values: without those that are inactive, with those that are missing drawn, without some that
   * others exclude, and without those that lack what they require. */
  lawful(wanted, random) {
    const compatible = [];
    for (const technique of random.shuffled(this.techniques.filter((t) => wanted.has(t.technique)))) {
      if (!compatible.some((other) => conflict(technique, other))) compatible.push(technique);
    }
    let kept = this.techniques.filter((t) => compatible.includes(t));
    while (kept.some((t) => !provided(t, kept))) kept = kept.filter((t) => provided(t, kept));
    return kept.map((t) => ({ technique: t.technique, settings: complete(t, wanted.get(t.technique), random) }));
  }
}

/** Settings for those parameters whose conditions hold. */
function complete(technique, values, random) {
  const chosen = new Map();
  for (const { name, domain, activeWhen } of technique.parameters) {
    const holds = (condition) => condition.values.some((value) => same(value, chosen.get(condition.parameter)));
    if (activeWhen.every(holds)) chosen.set(name, values.get(name) ?? at(domain, random.unit()));
  }
  return [...chosen].map(([name, value]) => ({ name, value }));
}

const same = (a, b) => JSON.stringify(a) === JSON.stringify(b);

/** Whether one names the other, or both provide the same. */
function conflict(a, b) {
  const named = a.conflicts.includes(b.technique) || b.conflicts.includes(a.technique);
  return named || a.provides.some((tag) => b.provides.includes(tag));
}

/** Whether those before it provide all that it requires; techniques are in the order in which they apply. */
function provided(technique, among) {
  const before = among.slice(0, among.indexOf(technique));
  return technique.requires.every((tag) => before.some((other) => other.provides.includes(tag)));
}

/** The member of a domain at a share in [0, 1) of the way from the first to the last, on the domain's own scale. */
function at(domain, share) {
  if (domain.tag === "flag") return { tag: "flag", val: share < 0.5 };
  if (domain.tag === "choice") return domain.val.values[Math.floor(share * domain.val.values.length)];
  const { min, max, step, log } = domain.val;
  const between = (low, high) => low * (1 - share) + high * share;
  const value = log ? Math.exp(between(Math.log(min), Math.log(max))) : between(min, max);
  if (domain.tag === "real") {
    // Four digits: people read it, and what is between them makes no difference that could be measured.
    return { tag: "real", val: Math.min(Math.max(Number(value.toPrecision(4)), min), max) };
  }
  const steps = Math.floor((max - min) / step);
  const index = log ? Math.round((value - min) / step) : Math.floor(share * (steps + 1));
  return { tag: "integer", val: min + Math.min(Math.max(index, 0), steps) * step };
}

/** Whether a configuration breaks no limit that is known without a measurement. The host is asked only where there is a limit
 * on memory: its answer costs applying the configuration, and what cannot be applied it refuses unmeasured anyway. */
export function admitted(configuration, constraints) {
  if (!constraints.some((c) => c.metric.startsWith("memory."))) return true;
  let known;
  try {
    known = new Map(feasibility.check(configuration));
  } catch {
    return false;
  }
  return constraints.every((c) => !known.has(c.metric) || violation(c, known.get(c.metric)) === 0);
}

/** By how much a value breaks a constraint, as a share of the bound; 0 when it holds. */
export function violation({ bound, atMost }, value) {
  return Math.max(atMost ? value - bound : bound - value, 0) / (Math.abs(bound) || 1);
}

/** To be thrown when the problem or the settings make no sense. */
export const invalid = (message) => ({ code: "invalid-input", message, causes: [] });

/** The class, telling the host of exceptions that are mistakes in it, which end the plugin: a trap has no words of its own. */
export function reported(optimizer) {
  const report = (owner, name) => {
    const method = owner[name];
    owner[name] = function (...given) {
      try {
        return method.apply(this, given);
      } catch (thrown) {
        if (thrown instanceof Error) log.write("warn", `panicked: ${thrown}\n${thrown.stack}`);
        throw thrown;
      }
    };
  };
  report(optimizer, "start");
  for (const name of ["ask", "tell", "outlook"]) report(optimizer.prototype, name);
  return optimizer;
}
