"""What algorithms and the estimation of behavior policies read of ``params.yaml``, a class each, no defaults in code.

The algorithms' are of the section ``train``. The fields that a class inherits stand at the top of the section and are every
algorithm's of that kind; its own stand in the algorithm's block.
"""

from typing import Literal

from pydantic import Field, ValidationInfo, field_validator

from inspo_core.section import NonNegative, Positive, Probability, Section, Widths


class BehaviorConfig(Section):
    """Behavior policies: local clones and one joint model."""

    hidden: Widths
    memory: int = NonNegative
    learning_rate: float = Positive
    batch_size: int = Positive
    steps: int = Positive
    check_every: int = Positive
    held_out: float = Field(gt=0, lt=1)

    @field_validator("check_every")
    @classmethod
    def _divides_steps(cls, value: int, others: ValidationInfo) -> int:
        if others.data.get("steps", value) % value:
            raise ValueError(f"expected a divisor of behavior.steps, {others.data['steps']}")
        return value


class LearnerConfig(Section):
    """What every algorithm reads: the networks, and how they are trained."""

    hidden: Widths
    memory: int = NonNegative
    learning_rate: float = Positive
    learning_rate_schedule: Literal["constant", "falling"]
    anneal_fraction: float = Field(gt=0, le=1)
    batch_size: int = Positive


class ValueConfig(LearnerConfig):
    """What algorithms read that learn values: an iteration has ``critic_steps`` gradient steps on all of these."""

    critic_steps: int = Positive
    gamma: float = Field(gt=0, lt=1)
    target_rate: float = Field(gt=0, le=1)
    reward_scale: Literal["max_abs", "none"]


class BCConfig(LearnerConfig):
    """Behavior cloning: an iteration is ``policy_steps`` gradient steps on every agent's policy at once."""

    policy_steps: int = Positive


class InSPOConfig(ValueConfig):
    """InSPO (docs/inspo.md has the formulas): an iteration is one sweep over all agents."""

    policy_steps: int = Positive
    initial_policy: Literal["random", "clones"]
    update: Literal["sequential", "simultaneous"]
    order: Literal["random", "fixed"]
    behavior_model: Literal["joint", "product"]
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

    alpha: float = Positive
    weight_clip: float = Positive


class ICQConfig(ValueConfig):
    """ICQ, multi-agent (docs/icq.md)."""

    temperature: float = Positive
    target_temperature: float = Positive


class AlberDICEConfig(ValueConfig):
    """AlberDICE (docs/alberdice.md): an iteration has ``critic_steps`` gradient steps an agent, one agent after the other."""

    alpha: float = Positive
    alpha_final: float = Positive
    ratio_clip: float = Positive
    weight_clip: float = Positive
    support_threshold: float = Field(ge=0, lt=1)


class OptiDICEConfig(ValueConfig):
    """OptiDICE over joint actions (docs/optidice.md)."""

    alpha: float = Positive
    weight_clip: float = Positive


class CQLConfig(ValueConfig):
    """Independent conservative Q-learning (docs/cql.md)."""

    alpha: float = NonNegative


class OMARConfig(ValueConfig):
    """OMAR (docs/omar.md): conservative critics as those of CQL, and actors."""

    alpha: float = NonNegative
    tau: float = Probability


class CFCQLConfig(ValueConfig):
    """CFCQL (docs/cfcql.md)."""

    alpha: float = NonNegative
    temperature: float = NonNegative
    mixing_width: int = Positive
