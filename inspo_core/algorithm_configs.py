"""The part of ``params.yaml`` that algorithms read: the section ``train``, typed, a class an algorithm, no defaults in code."""

from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

Positive = Field(gt=0)
NonNegative = Field(ge=0)
Widths = Annotated[list[Annotated[int, Positive]], Field(min_length=1)]
Probability = Field(ge=0, le=1)


class Section(BaseModel):
    """A section of ``params.yaml``: exact types, no unknown keys, immutable."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class LoopConfig(Section):
    """What every algorithm needs of the training loop."""

    device: Literal["auto", "cpu", "cuda"]
    iterations: int = Positive
    evaluate_every: int = Positive
    evaluate_episodes: int = Positive
    checkpoint_every: int = Positive


class LearnerConfig(Section):
    """What every algorithm reads: the networks, and how they are trained."""

    batches_seeds: ClassVar[bool] = False  # whether the algorithm leaves its gradient steps to ``Setup.fit``

    hidden: Widths
    memory: int = NonNegative
    learning_rate: float = Positive
    learning_rate_schedule: Literal["constant", "falling"]
    anneal_fraction: float = Field(gt=0, le=1)
    batch_size: int = Positive


class BCConfig(LearnerConfig):
    """Behavior cloning: an iteration is ``policy_steps`` gradient steps on every agent's policy at once."""

    policy_steps: int = Positive


class ValueConfig(LearnerConfig):
    """What algorithms read that learn values: an iteration has ``critic_steps`` gradient steps on all of these."""

    critic_steps: int = Positive
    gamma: float = Field(gt=0, lt=1)
    target_rate: float = Field(gt=0, le=1)
    reward_scale: Literal["max_abs", "none"]


class InSPOConfig(BCConfig, ValueConfig):
    """InSPO (docs/inspo.md has the formulas): an iteration is one sweep over all agents."""

    batches_seeds: ClassVar[bool] = True

    initial_policy: Literal["random", "clones"]
    update: Literal["sequential", "simultaneous"]
    order: Literal["random", "fixed"]
    behavior: Literal["joint", "product"]
    importance: Literal["resample", "reweight", "none"]
    q: Literal["local", "joint"]
    alpha: float = Positive
    alpha_schedule: Literal["fixed", "annealed", "tuned"]
    alpha_final: float = Positive
    target_kl: float = Positive
    beta: float = NonNegative
    beta_schedule: Literal["none", "constant", "annealed"]
    entropy_in_value: bool
    pool_size: int = Positive
    refit_steps: int = NonNegative
    teammate_samples: int = Positive
    ratio_clip: float = Positive
    weight_clip: float = Positive
    support_threshold: float = Field(ge=0, lt=1)


class OMIGAConfig(ValueConfig):
    """OMIGA (docs/omiga.md)."""

    omiga_alpha: float = Positive
    weight_clip: float = Positive


class ICQConfig(ValueConfig):
    """ICQ, multi-agent (docs/icq.md)."""

    icq_temperature: float = Positive
    icq_target_temperature: float = Positive


class AlberDICEConfig(ValueConfig):
    """AlberDICE (docs/alberdice.md): an iteration has ``critic_steps`` gradient steps an agent, one agent after the other."""

    alberdice_alpha: float = Positive
    alberdice_alpha_final: float = Positive
    ratio_clip: float = Positive
    weight_clip: float = Positive
    support_threshold: float = Field(ge=0, lt=1)


class OptiDICEConfig(ValueConfig):
    """OptiDICE over joint actions (docs/optidice.md)."""

    optidice_alpha: float = Positive
    weight_clip: float = Positive


class CQLConfig(ValueConfig):
    """Independent conservative Q-learning (docs/cql.md)."""

    cql_alpha: float = NonNegative


class OMARConfig(CQLConfig):
    """OMAR (docs/omar.md): conservative critics as those of CQL, and actors."""

    omar_tau: float = Probability


class CFCQLConfig(ValueConfig):
    """CFCQL (docs/cfcql.md)."""

    cfcql_alpha: float = NonNegative
    cfcql_temperature: float = NonNegative
    cfcql_mixing_width: int = Positive


class TrainConfig(LoopConfig, InSPOConfig, OMIGAConfig, ICQConfig, AlberDICEConfig, OptiDICEConfig, OMARConfig, CFCQLConfig):
    """The whole ``train`` section; an algorithm and its fingerprint see only the fields of its own class."""


ALGORITHM_CONFIGS: dict[str, type[Section]] = {
    "inspo": InSPOConfig,
    "bc": BCConfig,
    "omiga": OMIGAConfig,
    "icq": ICQConfig,
    "alberdice": AlberDICEConfig,
    "optidice": OptiDICEConfig,
    "cql": CQLConfig,
    "omar": OMARConfig,
    "cfcql": CFCQLConfig,
}
