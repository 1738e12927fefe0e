"""Costs of a network before it is trained: MACs, flash, SRAM and latency, per runtime, explained per operator.

>>> estimate(lower(load_arch("mcunet-tiny2"))).macs
1674512

SRAM of the TFLM runtimes is the arena with the memory plan that tinynas writes into its files. Nothing here
imports torch.
"""

from tinynas.cost.estimator import Cost, OpCost, estimate
from tinynas.cost.memory import MemoryPlan, plan_greedy, plan_offline
from tinynas.cost.runtimes import RUNTIMES, Runtime

__all__ = ["RUNTIMES", "Cost", "MemoryPlan", "OpCost", "Runtime", "estimate", "plan_greedy", "plan_offline"]
