"""aehost's strategies, through the process `aehost plugins drive`: a JSON document a line in, one a line out."""

import json
import subprocess

from . import host_form
from .problem import Problem


class DriverError(Exception):
    pass


class Driver:
    """`command` is the whole command line."""

    def __init__(self, command: list[str], problem: Problem, budget: int, seed: int, settings=()):
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.trial = 0
        try:
            self.call({"start": host_form.problem(problem, budget, seed, settings)})
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
        if not answer["proposals"]:
            return None
        [proposal] = answer["proposals"]
        self.trial = proposal["trial"]
        return host_form.listed(proposal["configuration"])

    def tell(self, configuration, outcome):
        told = {"trial": self.trial, "configuration": host_form.tabled(configuration), "fidelity": 1.0,
                "outcome": host_form.outcome(outcome)}
        self.call({"tell": [told]})

    def close(self):
        self.process.stdin.close()
        try:
            self.process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
