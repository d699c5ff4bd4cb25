// Crossover: a third of the budget is drawn at random, and then every configuration is a child of two good ones, each the
// better of two at random (a steady-state genetic algorithm; Goldberg and Deb, 1991).

import { Random, Space, admitted, invalid, key, reported, violation } from "../../../sdk/javascript/space.js";

/** Draws or children in a row that may be repeats or not allowed before something else is tried. */
const TRIES = 200;

function describe() {
  return {
    identity: {
      id: "crossover",
      version: "0.1.0",
      summary: "Draws at random, then crosses the best of it.",
      reference: "Goldberg, Deb: A Comparative Analysis of Selection Schemes Used in Genetic Algorithms, 1991",
    },
    parameters: [
      {
        name: "initial",
        summary: "Random configurations before the first child; 0 takes a third of the budget, 4 to 20.",
        domain: { tag: "integer", val: { min: 0, max: 1000, step: 1, log: false } },
        default: { tag: "integer", val: 0 },
        activeWhen: [],
      },
    ],
    multiFidelity: false,
  };
}

class Optimizer {
  constructor({ space, objectives, constraints, settings, budget, seed }) {
    this.space = new Space(space);
    this.objectives = objectives;
    this.constraints = constraints;
    this.random = new Random(seed);
    const initial = settings.find((s) => s.name === "initial").value.val;
    this.initial = initial || Math.min(Math.max(Math.floor(budget / 3), 4), 20);
    // The baseline is known, and everything else is proposed once.
    this.seen = new Set([key([])]);
    this.proposed = 0;
    // What was measured; `beaten` counts those that are better.
    this.measured = [];
  }

  static start(problem) {
    if (problem.objectives.length === 0) throw invalid("a search needs an objective");
    return new Optimizer(problem);
  }

  ask(count) {
    const proposals = [];
    while (proposals.length < count) {
      const next = this.child() ?? this.drawn();
      if (!next) break;
      this.proposed += 1;
      proposals.push({ trial: this.proposed, configuration: next.configuration, fidelity: 1, why: next.why });
    }
    return proposals;
  }

  tell(observations) {
    for (const { trial, configuration, outcome } of observations) {
      // What was not measured teaches nothing here: it is not proposed again anyway.
      if (outcome.tag !== "measured") continue;
      const told = { trial, configuration, beaten: 0, ...this.rate(outcome.val) };
      for (const other of this.measured) {
        if (better(other, told)) told.beaten += 1;
        if (better(told, other)) other.beaten += 1;
      }
      this.measured.push(told);
    }
  }

  outlook() {
    const front = this.measured.filter((told) => told.beaten === 0).length;
    return { remainingGain: null, notes: [`nothing is better than ${front} of ${this.measured.length} measured trials`] };
  }

  child() {
    if (this.proposed < this.initial || this.measured.length < 2) return null;
    for (let i = 0; i < TRIES; i++) {
      const [a, b] = [this.parent(), this.parent()];
      const crossed = this.space.cross(a.configuration, b.configuration, this.random);
      const copy = key(crossed) === key(a.configuration) || key(crossed) === key(b.configuration);
      const mutated = copy || this.random.chance(0.3);
      const configuration = mutated ? this.space.mutate(crossed, this.random) : crossed;
      if (this.fresh(configuration)) {
        const parents = a === b ? `child of trial ${a.trial}` : `child of trials ${a.trial} and ${b.trial}`;
        return { configuration, why: mutated ? `mutated ${parents}` : parents };
      }
    }
    return null;
  }

  /** The better of two at random. */
  parent() {
    const [a, b] = [this.random.pick(this.measured), this.random.pick(this.measured)];
    return b.beaten < a.beaten ? b : a;
  }

  drawn() {
    for (let i = 0; i < TRIES; i++) {
      const configuration = this.space.sample(this.random);
      if (this.fresh(configuration)) return { configuration, why: "drawn at random" };
    }
    return null;
  }

  /** Whether it was not seen before, and may be measured. */
  fresh(configuration) {
    const own = key(configuration);
    if (this.seen.has(own)) return false;
    this.seen.add(own);
    return admitted(configuration, this.constraints);
  }

  /** Violation of all constraints, and costs to be minimised; what is missing is the worst. */
  rate(metrics) {
    const values = new Map(metrics.map((m) => [m.metric, m.value]));
    const missed = this.constraints.map((c) => (values.has(c.metric) ? violation(c, values.get(c.metric)) : 1));
    const costs = this.objectives.map(({ metric, direction }) => {
      const value = values.get(metric) ?? NaN;
      return Number.isNaN(value) ? Infinity : direction === "minimize" ? value : -value;
    });
    return { violation: missed.reduce((sum, one) => sum + one, 0), costs };
  }
}

/** Constrained domination (Deb, 2000): the smaller violation first, then nowhere worse and somewhere better. */
function better(a, b) {
  if (a.violation !== b.violation) return a.violation < b.violation;
  return a.costs.every((cost, i) => cost <= b.costs[i]) && a.costs.some((cost, i) => cost < b.costs[i]);
}

export const strategy = { describe, Optimizer: reported(Optimizer) };
