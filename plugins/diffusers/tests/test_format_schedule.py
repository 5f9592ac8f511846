"""What names of schedulers mean, and which a family has. No engine."""

from __future__ import annotations

import pytest

from anyform.contract.errors import Invalid
from anyform_diffusers import schedule

SD = schedule.allowed("PNDMScheduler", "sd")
EDM = schedule.allowed("EDMDPMSolverMultistepScheduler", "sdxl")
SD3 = schedule.allowed("FlowMatchEulerDiscreteScheduler", "sd3")
FLUX = schedule.allowed("FlowMatchEulerDiscreteScheduler", "flux")


@pytest.mark.parametrize("family", ["sd", "sd2", "sdxl", "sdxl-refiner"])
def test_families_that_tell_noise_have_the_same_and_no_flow(family: str) -> None:
    assert schedule.allowed("DDIMScheduler", family) == schedule.DISCRETE
    assert not any(one.startswith("FlowMatch") for one in schedule.DISCRETE)


@pytest.mark.parametrize("family", ["sd3", "flux"])
def test_flow_families_have_flow_alone(family: str) -> None:
    assert all(one.startswith("FlowMatch") for one in schedule.allowed("FlowMatchEulerDiscreteScheduler", family))


def test_models_trained_as_edm_have_their_own() -> None:
    assert EDM == schedule.EDM
    assert not set(EDM) & set(schedule.DISCRETE)


def test_flux_pipelines_name_levels_that_heun_refuses() -> None:
    assert schedule.HEUN in SD3
    assert schedule.HEUN not in FLUX


@pytest.mark.parametrize(
    ("scheduler", "family"),
    [("DPMSolverMultistepScheduler", "sana"), ("SomethingNewScheduler", "sd"), ("UniPCMultistepScheduler", "flux")],
)
def test_what_is_not_known_has_its_own_alone(scheduler: str, family: str) -> None:
    assert schedule.allowed(scheduler, family) == (scheduler,)


def test_what_needs_a_package_that_is_not_ours_is_not_offered() -> None:
    assert "DPMSolverSDEScheduler" not in SD


@pytest.mark.parametrize(
    ("name", "scheduler", "changes"),
    [
        ("EulerDiscreteScheduler", "EulerDiscreteScheduler", {}),
        ("eulerdiscrete", "EulerDiscreteScheduler", {}),
        ("euler", "EulerDiscreteScheduler", {}),
        ("Euler a", "EulerAncestralDiscreteScheduler", {}),
        ("euler_ancestral", "EulerAncestralDiscreteScheduler", {}),
        ("k_euler_a", "EulerAncestralDiscreteScheduler", {}),
        ("DDIM", "DDIMScheduler", {}),
        ("PLMS", "PNDMScheduler", {}),
        ("uni_pc", "UniPCMultistepScheduler", {}),
        ("UniPC", "UniPCMultistepScheduler", {}),
        ("DPM++ 2M", "DPMSolverMultistepScheduler", {}),
        ("dpmpp_2m", "DPMSolverMultistepScheduler", {}),
        ("dpm++2m", "DPMSolverMultistepScheduler", {}),
        ("DPM++ 2M Karras", "DPMSolverMultistepScheduler", {"use_karras_sigmas": True}),
        ("dpm++_2m_karras", "DPMSolverMultistepScheduler", {"use_karras_sigmas": True}),
        ("dpmpp_2m_sde", "DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++"}),
        (
            "DPM++ 2M SDE Karras",
            "DPMSolverMultistepScheduler",
            {"algorithm_type": "sde-dpmsolver++", "use_karras_sigmas": True},
        ),
        ("dpm++_sde", "DPMSolverSinglestepScheduler", {"algorithm_type": "sde-dpmsolver++"}),
        ("dpm_2_ancestral", "KDPM2AncestralDiscreteScheduler", {}),
        ("DPM2 a Karras", "KDPM2AncestralDiscreteScheduler", {"use_karras_sigmas": True}),
        ("lcm", "LCMScheduler", {}),
        ("heun", "HeunDiscreteScheduler", {}),
        ("LMS Karras", "LMSDiscreteScheduler", {"use_karras_sigmas": True}),
        ("euler exponential", "EulerDiscreteScheduler", {"use_exponential_sigmas": True}),
        ("k_euler", "EulerDiscreteScheduler", {}),
        ("k_euler_ancestral", "EulerAncestralDiscreteScheduler", {}),
        ("k_dpmpp_2m", "DPMSolverMultistepScheduler", {}),
        ("k_dpmpp_2m_karras", "DPMSolverMultistepScheduler", {"use_karras_sigmas": True}),
        ("k_dpmpp_sde", "DPMSolverSinglestepScheduler", {"algorithm_type": "sde-dpmsolver++"}),
        ("k_heun", "HeunDiscreteScheduler", {}),
        ("k_lms", "LMSDiscreteScheduler", {}),
        ("k_dpm_2", "KDPM2DiscreteScheduler", {}),
        ("k_dpm_2_a", "KDPM2AncestralDiscreteScheduler", {}),
        ("k_dpm_2_ancestral", "KDPM2AncestralDiscreteScheduler", {}),
        ("ddim_trailing", "DDIMScheduler", {"timestep_spacing": "trailing"}),
        ("euler_sgm_uniform", "EulerDiscreteScheduler", {"timestep_spacing": "trailing"}),
    ],
)
def test_names_that_people_know(name: str, scheduler: str, changes: dict[str, object]) -> None:
    meant = schedule.resolve(name, SD)
    assert (meant.scheduler, dict(meant.changes)) == (scheduler, changes)
    assert schedule.resolve(meant.name, SD)[:2] == meant[:2], "its one name means the same"


def test_a_short_name_means_what_the_family_has() -> None:
    assert schedule.resolve("euler", FLUX).scheduler == "FlowMatchEulerDiscreteScheduler"
    assert schedule.resolve("euler", EDM).scheduler == "EDMEulerScheduler"
    assert schedule.resolve("heun", SD3).scheduler == schedule.HEUN
    assert schedule.resolve("lcm", FLUX).scheduler == "FlowMatchLCMScheduler"


def test_no_name_is_the_models_own() -> None:
    assert schedule.resolve("", SD) == ("", {}, "")


def test_different_spellings_have_one_name() -> None:
    names = {schedule.canonical(one, SD) for one in ("DPM++ 2M Karras", "dpmpp_2m_karras", "dpm++2m-karras")}
    assert names == {"dpm++_2m_karras"}
    assert schedule.canonical("Euler", SD) == "EulerDiscreteScheduler"


@pytest.mark.parametrize("name", ["eulr", "karras", "FlowMatchEulerDiscreteScheduler", "ddim_karras", " ", "a" * 9999])
def test_a_name_that_means_none_is_told_with_those_that_do(name: str) -> None:
    with pytest.raises(Invalid) as refused:
        schedule.resolve(name, SD)
    assert "EulerDiscreteScheduler" in str(refused.value)
    assert "euler_a" in str(refused.value)
    assert refused.value.details["allowed"] == list(SD)
    assert len(str(refused.value)) < 2000


def test_the_nearest_are_told_and_all_once() -> None:
    with pytest.raises(Invalid) as refused:
        schedule.resolve("eulr_karas", SD)
    assert refused.value.message.startswith("scheduler 'eulr_karas' is none that this model has. Near it: euler_karras")
    assert len(refused.value.message) < 150
    assert all(f" {name}" in refused.value.hint for name in (*SD, "dpm++_2m_sde", "euler_a", "_karras", "_exponential"))
    assert len(str(refused.value)) < 1000
    assert refused.value.hint.count("DPMSolverMultistepScheduler") == 1


@pytest.mark.parametrize("allowed", [SD, EDM, SD3, FLUX], ids=["sd", "edm", "sd3", "flux"])
def test_every_name_that_is_told_means_one(allowed: tuple[str, ...]) -> None:
    told = schedule.names(allowed)
    assert len({schedule.canonical(name, allowed) for name in told}) == len(told)


@pytest.mark.parametrize("name", ["ddim", "euler_a", "dpm++_2m", "pndm", "unipc"])
def test_flux_refuses_those_of_stable_diffusion(name: str) -> None:
    with pytest.raises(Invalid, match="FlowMatchEulerDiscreteScheduler"):
        schedule.resolve(name, FLUX)


@pytest.mark.parametrize("allowed", [SD, EDM, SD3, FLUX], ids=["sd", "edm", "sd3", "flux"])
def test_every_class_has_a_short_name(allowed: tuple[str, ...]) -> None:
    assert {schedule.resolve(name, allowed).scheduler for name in schedule.short(allowed)} == set(allowed)


def test_steps_that_a_distilled_scheduler_has_not() -> None:
    config = {"_class_name": "PNDMScheduler"}
    schedule.check(config, "lcm", SD, 50)
    schedule.check(config, "euler", SD, 51)
    with pytest.raises(Invalid, match="51 steps"):
        schedule.check(config, "lcm", SD, 51)
    with pytest.raises(Invalid, match="20 at most"):
        schedule.check({"_class_name": "LCMScheduler", "original_inference_steps": 20}, "", SD, 21)
