"""Jobs in the words of PSI/J: what a scheduler's hop makes of them, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from outrider import ConfigError, Route
from outrider.batch import Attributes, JobSpec, Resources

WORDS: dict[str, Any] = {
    "executable": "python3",
    "arguments": ["-u", "train.py", 3],
    "name": "train",
    "resources": {
        "node_count": 2,
        "process_count": 4,
        "cpu_cores_per_process": 2,
        "gpu_cores_per_process": 1,
    },
    "attributes": {
        "duration": "1h",
        "queue_name": "gpu",
        "account": "physics",
        "custom_attributes": {"slurm.licenses": "x", "pbs.place": "free"},
    },
}


def hop_of(route: str, words: dict[str, Any]) -> Any:
    return JobSpec.parse(words).on(Route.parse(route))[-1]


def test_slurm_is_asked_for_the_same_in_its_own_words() -> None:
    hop = hop_of("slurm(memory=1G)", WORDS)
    assert (hop.nodes, hop.tasks, hop.cpus, hop.gpus) == (2, 4, 2, 4)
    assert (hop.time, hop.partition, hop.account, hop.job_name, hop.memory) == (
        3600,
        "gpu",
        "physics",
        "train",
        "1G",
    )
    assert tuple(hop.extra) == ("--licenses=x",)


def test_flux_calls_an_account_a_bank() -> None:
    hop = hop_of("flux", WORDS)
    assert (hop.queue, hop.bank, hop.gpus) == ("gpu", "physics", 1)


def test_pbs_and_lsf_count_gpus_by_the_node_and_have_short_flags() -> None:
    attributes = {**WORDS["attributes"], "custom_attributes": {"lsf.sp": "50", "pbs.p": "50"}}
    for route, account in (("pbs", "account"), ("lsf", "project")):
        hop = hop_of(route, {**WORDS, "attributes": attributes})
        assert (hop.queue, getattr(hop, account), hop.gpus) == ("gpu", "physics", 2)
        assert len(hop.extra) == 2
    assert tuple(hop.extra) == ("-sp", "50")


def test_plain_data_there_and_back() -> None:
    spec = JobSpec.parse(WORDS)
    assert JobSpec.parse(spec.as_dict()) == spec
    assert spec.as_dict()["arguments"] == ["-u", "train.py", "3"]
    assert JobSpec(executable="date").as_dict() == {"executable": "date"}


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ({}, "executable"),
        ({"executable": "x", "arguments": "one text"}, "list of words"),
        ({"executable": "x", "argument": []}, "no field 'argument'"),
        ({"executable": "x", "resources": {"cores": 1}}, "no field 'cores'"),
        ({"executable": "x", "attributes": [1]}, "not a mapping"),
        ({"executable": "x", "attributes": {"duration": "soon"}}, "not a time"),
    ],
)
def test_what_is_no_job_is_told(words: dict[str, Any], why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        JobSpec.parse(words).on(Route.parse("slurm"))


def test_resources_without_a_scheduler_are_refused() -> None:
    spec = JobSpec(executable="date", resources=Resources(node_count=1))
    with pytest.raises(ConfigError, match="no scheduler"):
        spec.on(Route.parse("local"))
    assert JobSpec(executable="date", attributes=Attributes()).on(Route.parse("local"))


def test_a_job_of_a_spec_runs(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    words = {
        "executable": "sh",
        "arguments": ["-c", "echo $A; pwd"],
        "environment": {"A": "b"},
        "directory": "/usr",
    }
    job = Route.parse("local").batch(name="first").submit_spec(words)
    assert job.result(30).text == "b\n/usr"
    assert job.name == "first"
