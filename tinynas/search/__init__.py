"""Search: spend training only where it buys accuracy. The only importer of Optuna.

``search`` runs one; ``worker`` joins one; ``rank_spaces`` is the space choice alone, ``choose_space`` the choice between spaces.
"""

from tinynas.search.cluster import Place
from tinynas.search.engine import search, worker
from tinynas.search.settings import Counts, SearchEvent, SearchResult, SearchSettings
from tinynas.search.spaces import SpaceTable, SubSpace, choose_space, rank_spaces

__all__ = [
    "Counts",
    "Place",
    "SearchEvent",
    "SearchResult",
    "SearchSettings",
    "SpaceTable",
    "SubSpace",
    "choose_space",
    "rank_spaces",
    "search",
    "worker",
]
