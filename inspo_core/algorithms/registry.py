"""The algorithms by name; their configurations are in ``inspo_core.algorithm_configs.ALGORITHM_CONFIGS`` under the same names."""

from collections.abc import Callable
from typing import Any

from inspo_core.algorithms.alberdice import AlberDICE
from inspo_core.algorithms.base import Algorithm, Setup
from inspo_core.algorithms.bc import BC
from inspo_core.algorithms.cfcql import CFCQL
from inspo_core.algorithms.cql import CQL
from inspo_core.algorithms.icq import ICQ
from inspo_core.algorithms.inspo import InSPO
from inspo_core.algorithms.omar import OMAR
from inspo_core.algorithms.omiga import OMIGA
from inspo_core.algorithms.optidice import OptiDICE

ALGORITHMS: dict[str, Callable[[Setup, Any], Algorithm]] = {
    "inspo": InSPO,
    "bc": BC,
    "omiga": OMIGA,
    "icq": ICQ,
    "alberdice": AlberDICE,
    "optidice": OptiDICE,
    "cql": CQL,
    "omar": OMAR,
    "cfcql": CFCQL,
}
