"""Random configurations: what every method has to beat."""

import random


class RandomSearch:
    def __init__(self, problem, budget, seed):
        self.space, self.random = problem.space, random.Random(seed)

    def ask(self):
        return self.space.draw(self.random)

    def tell(self, configuration, outcome):
        pass

    def close(self):
        pass
