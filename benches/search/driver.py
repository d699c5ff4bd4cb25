"""aehost's strategies, through a process that is driven by lines: a JSON object a line in, one a line out.

The contract's own form, or that of `aehost plugins drive` (`host_form.py`), which the command's words tell apart."""

import json
import subprocess

from . import host_form
from .problem import Problem


class DriverError(Exception):
    pass


class Driver:
    """`command` is the whole command line. `memory` is the largest size of the component's memory that was reported."""

    def __init__(self, command: list[str], problem: Problem, budget: int, seed: int, settings=()):
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.in_host_form = "plugins" in command
        self.trial = 0
        self.memory = 0
        start = stated(problem, budget, seed, settings)
        try:
            self.call({"start": host_form.start(start) if self.in_host_form else start})
        except BaseException:
            self.close()
            raise

    def call(self, message: dict) -> dict:
        try:
            self.process.stdin.write(json.dumps(message) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise DriverError(f"the driver ended with code {self.process.wait()}")
        answer = json.loads(line)
        if "error" in answer:
            raise DriverError(answer["error"])
        return answer

    def ask(self) -> list[dict] | None:
        answer = self.call({"ask": 1})
        self.memory = max(self.memory, answer.get("memory") or 0)
        if not answer["proposals"]:
            return None
        [proposal] = answer["proposals"]
        self.trial = proposal["trial"]
        configuration = proposal["configuration"]
        return host_form.configuration(configuration) if self.in_host_form else configuration

    def tell(self, configuration, outcome):
        if outcome.values:
            metrics = [{"metric": metric, "value": value, "standard-error": outcome.errors[metric]}
                       for metric, value in outcome.values.items()]
            result = {"measured": metrics}
        elif outcome.infeasible:
            result = {"infeasible": {"reason": outcome.reason, "amount": None}}
        else:
            result = {"failed": outcome.reason}
        told = {"trial": self.trial, "configuration": configuration, "fidelity": 1.0, "outcome": result}
        self.call({"tell": [host_form.observation(told) if self.in_host_form else told]})

    def close(self):
        self.process.stdin.close()
        try:
            self.process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()


def stated(problem: Problem, budget: int, seed: int, settings=()) -> dict:
    """The problem as the contract's interface `strategy` has it."""
    return {
        "space": problem.space.techniques,
        "objectives": [{"metric": o.metric, "direction": "maximize" if o.maximize else "minimize"}
                       for o in problem.objectives],
        "constraints": [{"metric": c.metric, "at-most": c.at_most, "bound": c.bound} for c in problem.constraints],
        "facts": [],
        "settings": list(settings),
        "budget": budget,
        "seed": seed,
    }
