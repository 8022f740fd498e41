"""The form of what a journal holds. Journals come from disks and from a store that other machines write to, so it is checked where they are
read.
"""

import json
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

_LONGEST = 200  # characters of a reason that are shown


class Malformed(Exception):
    """A journal is not as expected; the message says in what."""


def _having(*names: str) -> AfterValidator:
    def check(tags: dict[str, str]) -> dict[str, str]:
        if missing := [name for name in names if name not in tags]:
            raise ValueError(f"without {', '.join(missing)}")
        return tags

    return AfterValidator(check)


Text = Annotated[str, Field(pattern=r"^[^\x00]*$")]  # PostgreSQL has no NUL
Texts = dict[Text, Text]
Whole = Annotated[int, Field(ge=-(2**63), lt=2**63)]  # what databases hold
Time = Annotated[int, Field(ge=0, lt=2**63)]  # milliseconds


class _Form(BaseModel):
    model_config = ConfigDict(strict=True)


class _Closed(_Form):
    model_config = ConfigDict(strict=True, extra="forbid")


class _Experiment(_Form):
    name: Text
    id: Text | None
    run_id: Text | None


class _Pipeline(_Closed):
    key: Text
    name: Text
    tags: Texts
    params: Texts


class _Above(_Closed):
    run_id: Text


class _Dataset(_Form):
    name: Text
    digest: Text
    source_type: Text
    source: Text
    profile: Text


class _Choice(_Form):
    name: Text
    dataset: Text
    algorithm: Text
    variant: Text
    seed: Whole
    fingerprint: Text
    metric: Text
    value: float


class _Begin(_Form):
    op: Literal["begin"]
    time: Time
    key: Text
    name: Text
    experiment: _Experiment
    pipeline: _Pipeline | _Above | None
    stage_key: Text | None
    shared: bool
    tags: Annotated[Texts, _having("stage")]
    params: Texts
    dataset: _Dataset | None
    model: Text | None


class _Values(_Form):
    op: Literal["points", "final"]
    time: Time
    step: Whole
    values: dict[Text, float]


class _Artifact(_Form):
    op: Literal["artifact"]
    time: Time
    name: Text


class _Model(_Form):
    op: Literal["model"]
    time: Time
    folder: Text
    name: Text
    tags: Annotated[Texts, _having("fingerprint", "policy")]
    params: Texts
    step: Whole


class _Register(_Form):
    op: Literal["register"]
    time: Time
    choice: _Choice


class _End(_Form):
    op: Literal["end"]
    time: Time
    status: Literal["FINISHED", "FAILED", "KILLED"]


class _DatasetTags(_Form):
    dataset_name: Text
    dataset_digest: Text


class _State(_Form):
    store: Text
    position: int
    run_id: Text
    experiment_id: Text
    is_stage: bool
    pipeline_run_id: Text | None
    found: bool
    dataset: _DatasetTags | None
    model: Text | None = None
    model_id: Text | None = None


_Operation = Annotated[_Begin | _Values | _Artifact | _Model | _Register | _End, Field(discriminator="op")]
_OPERATION: TypeAdapter[Any] = TypeAdapter(_Operation)
_STATE, _CHOICE = TypeAdapter(_State), TypeAdapter(_Choice)


def operation(line: bytes) -> dict[str, Any]:
    """A journal's line. Raises Malformed."""
    return _checked(_OPERATION, line)


def state(text: bytes) -> dict[str, Any]:
    """How far a journal was delivered, if anything was. Raises Malformed."""
    return _checked(_STATE, text)


def choice(text: str) -> dict[str, Any]:
    """The policy to register that waits for its model. Raises Malformed."""
    return _checked(_CHOICE, text.encode())


def _checked(form: TypeAdapter[Any], text: bytes) -> dict[str, Any]:
    try:
        value = json.loads(text)
        form.validate_python(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise Malformed(f"{place}: {first['msg']}"[:_LONGEST] if place else first["msg"][:_LONGEST]) from error
    except (ValueError, RecursionError) as error:
        raise Malformed(f"not JSON: {error}"[:_LONGEST]) from error
    return dict(value)
