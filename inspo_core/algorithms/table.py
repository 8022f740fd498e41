"""The algorithms by name, an entry each. Reading this needs no torch."""

from dataclasses import dataclass

from inspo_core.algorithms import configs
from inspo_core.tables import Entry, Table


@dataclass(frozen=True, kw_only=True)
class AlgorithmEntry(Entry):
    """``target`` is the algorithm's class, ``SomeAlgorithm(setup, config)`` (``base.py`` has the contract)."""

    config: type[configs.LearnerConfig]
    batches_seeds: bool = False  # whether the algorithm leaves its gradient steps to ``Setup.fit``


ALGORITHMS: Table[AlgorithmEntry] = Table(
    "algorithm",
    "inspo.algorithms",
    AlgorithmEntry,
    {
        "inspo": AlgorithmEntry(target="inspo_core.algorithms.inspo.sweep:InSPO", config=configs.InSPOConfig, batches_seeds=True),
        "bc": AlgorithmEntry(target="inspo_core.algorithms.bc:BC", config=configs.BCConfig, batches_seeds=True),
        "icq": AlgorithmEntry(target="inspo_core.algorithms.icq:ICQ", config=configs.ICQConfig),
        "cql": AlgorithmEntry(target="inspo_core.algorithms.cql:CQL", config=configs.CQLConfig),
        "omar": AlgorithmEntry(target="inspo_core.algorithms.omar:OMAR", config=configs.OMARConfig),
        "omiga": AlgorithmEntry(target="inspo_core.algorithms.omiga:OMIGA", config=configs.OMIGAConfig),
        "cfcql": AlgorithmEntry(target="inspo_core.algorithms.cfcql:CFCQL", config=configs.CFCQLConfig),
        "optidice": AlgorithmEntry(target="inspo_core.algorithms.optidice:OptiDICE", config=configs.OptiDICEConfig),
        "alberdice": AlgorithmEntry(target="inspo_core.algorithms.alberdice:AlberDICE", config=configs.AlberDICEConfig),
    },
)
