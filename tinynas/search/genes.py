"""The space as Optuna sees it: one integer a gene that has a choice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from optuna.distributions import IntDistribution

from tinynas.space import Genotype, Space


def distributions(space: Space) -> dict[str, IntDistribution]:
    """Optuna's distributions by gene name."""
    return {gene.name: IntDistribution(0, len(gene.choices) - 1) for gene in space.genes if len(gene.choices) > 1}


def params_of(space: Space, genotype: Sequence[int]) -> dict[str, int]:
    """Optuna parameters of a genotype."""
    return {gene.name: int(index) for gene, index in zip(space.genes, genotype, strict=True) if len(gene.choices) > 1}


def choices_of(space: Space, genotype: Sequence[int]) -> dict[str, Any]:
    """The values that a genotype chose, by gene: what Optuna's integers mean, for those who look at a study with its dashboard."""
    return {gene.name: gene.choices[int(index)] for gene, index in zip(space.genes, genotype, strict=True) if len(gene.choices) > 1}


def genotype_of(space: Space, params: Mapping[str, int]) -> Genotype:
    """The canonical genotype of Optuna parameters; a gene without a choice has its only one."""
    return space.canonical([int(params.get(gene.name, 0)) for gene in space.genes])
