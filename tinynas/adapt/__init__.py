"""Adapt: learning on the board. What of a network is updated under a budget, what that costs, and what is learned so.

::

    budget = load_update_budget("update.yaml")
    net = open_learnable("results/run:a1b2")  # of tinynas.weights.learnable
    task = make_task(net, new_images, old_images, budget.learning, seed=0)
    learned = learn(task, scheme_named("last"), budget)
"""

from tinynas.adapt.budget import Learning, UpdateBudget, load_update_budget
from tinynas.adapt.learner import Learner, LostLearning
from tinynas.adapt.learning import Learned, learn
from tinynas.adapt.schemes import SCHEMES, Scheme, scheme_named
from tinynas.adapt.tasks import Learnable, Task, make_task

__all__ = [
    "SCHEMES",
    "Learnable",
    "Learned",
    "Learner",
    "Learning",
    "LostLearning",
    "Scheme",
    "Task",
    "UpdateBudget",
    "learn",
    "load_update_budget",
    "make_task",
    "scheme_named",
]
