"""Policy losses: one gradient for all of them (METHODS 1.1, G), each in its closed form."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from fluxlight import losses
from fluxlight.losses.awm import AWMLoss
from fluxlight.losses.base import PolicyLoss
from fluxlight.losses.crd import CRDLoss
from fluxlight.losses.nft import NFTLoss
from fluxlight.losses.raft import RAFTLoss
from fluxlight.losses.ram import RAMLoss
from fluxlight.losses.rvm import RVMLoss
from fluxlight.recorded import names_of

N = 5 * 2
Said = dict[str, Tensor]


def case(seed: int = 0) -> Said:
    draw = torch.Generator().manual_seed(seed)
    policy, old, reference, target = torch.randn(4, 6, 5, 2, generator=draw)
    advantage = torch.tensor([0.4, -1.0, 9.0, 0.7, -7.0, 0.0])
    return {"policy": policy.requires_grad_(), "old": old, "reference": reference, "target": target,
            "advantage": advantage, "t": torch.rand(6, generator=draw)}  # fmt: skip


def wide(values: Tensor) -> Tensor:
    return values[:, None, None]


def gradient(
    c: Said, a: Tensor, w: Tensor | float = 1.0, start: str = "policy", k_old: float = 0.0, k_ref: float = 0.0
) -> Tensor:
    """(G): (2 / N) [a w (v* - u) + k_old (v - v_o) + k_ref (v - v_r)], N over the batch."""
    v = c["policy"].detach()
    push = wide(a * w) * (c[start].detach() - c["target"])
    return 2 / (len(v) * N) * (push + k_old * (v - c["old"]) + k_ref * (v - c["reference"]))


def errors(c: Said, name: str = "policy") -> Tensor:
    return (c[name].detach() - c["target"]).square().flatten(1).mean(1)


def size(c: Said, name: str) -> Tensor:
    return (c[name].detach() - c["target"]).abs().flatten(1).mean(1)


def crd(c: Said, adaptive: bool) -> Tensor:
    w, w_o = (size(c, "policy"), size(c, "old")) if adaptive else (1.0, 1.0)
    implicit, given = errors(c, "old") / w_o - errors(c) / w, c["advantage"].clamp(-2, 2) / 4
    a = 4 * ((given - given.mean()) - 0.7 * (implicit - implicit.mean()))
    return gradient(c, a, 1 / w, k_ref=0.1)


CASES = {
    "nft": (NFTLoss(0.3, 2.0, 0.05), lambda c: gradient(c, c["advantage"].clamp(-2, 2), 1.0, "old", 0.6, 0.05)),
    "awm": (AWMLoss(0.2, "uniform", 1.0, 0.01), lambda c: gradient(c, 0.2 * c["advantage"], 1.0, k_old=1, k_ref=0.01)),
    "awm t": (AWMLoss(0.2, "t", 0.5, 0.0), lambda c: gradient(c, 0.2 * c["advantage"], c["t"], k_old=0.5)),
    "awm t2": (AWMLoss(0.3, "t2", 0.0, 0.1), lambda c: gradient(c, 0.3 * c["advantage"], c["t"] ** 2, k_ref=0.1)),
    "awm ghuber": (AWMLoss(k_ref=0.0), lambda c: gradient(c, 0.2 * c["advantage"], c["t"] * errors(c) ** -0.75,
                                                          k_old=1)),
    "ram": (RAMLoss(3.0, 0.5), lambda c: gradient(c, 1.5 * c["advantage"], k_ref=0.5)),
    "ram old": (RAMLoss(3.0, residual="old"), lambda c: gradient(c, 3.0 * c["advantage"], 1.0, "old", k_ref=1.0)),
    "rvm": (RVMLoss(0.1, 0.2, 0.3), lambda c: gradient(c, 0.1 * c["advantage"], k_old=0.2, k_ref=0.3)),
    "raft": (RAFTLoss(0.5, 0.2, 0.3), lambda c: gradient(c, (c["advantage"] >= 0.5).float(), k_old=0.2, k_ref=0.3)),
    "crd": (CRDLoss(0.7, 2.0, 0.1, adaptive=False), lambda c: crd(c, False)),
    "crd adaptive": (CRDLoss(0.7, 2.0, 0.1), lambda c: crd(c, True)),
}  # fmt: skip


def said(loss: PolicyLoss, c: Said) -> tuple[Tensor, Said]:
    return loss(c["policy"], c["old"], c["reference"], c["target"], c["advantage"], c["t"])


@pytest.mark.parametrize("name", CASES)
def test_a_policy_loss_has_the_gradient_of_its_closed_form(name: str) -> None:
    loss, closed = CASES[name]
    c = case()
    value, logs = said(loss, c)
    value.backward()
    torch.testing.assert_close(c["policy"].grad, closed(c), atol=1e-6, rtol=1e-4)
    assert logs["moved"] == pytest.approx(float((c["policy"] - c["old"]).square().mean()), rel=1e-5)
    assert logs["drift"] == pytest.approx(float((c["policy"] - c["reference"]).square().mean()), rel=1e-5)
    assert not any(value.requires_grad for value in logs.values())


def test_every_policy_loss_that_ships_is_tested() -> None:
    tested = {type(loss).__name__ for loss, _ in CASES.values()}
    assert tested == set(names_of(losses, (PolicyLoss,)))


@pytest.mark.parametrize("name", CASES)
def test_no_advantage_and_no_distance_is_no_gradient(name: str) -> None:
    """A reward that never varies teaches nothing: where the policy is old policy and reference, all stays."""
    loss, c = CASES[name][0], case()
    c["old"] = c["reference"] = c["policy"].detach().clone()
    c["advantage"] = torch.zeros(6)
    said(loss, c)[0].backward()
    assert float(c["policy"].grad.abs().max()) == 0.0


def test_regression_losses_are_not_negative() -> None:
    for name in ("nft", "ram", "ram old", "rvm", "crd", "crd adaptive"):
        assert float(said(CASES[name][0], case(3))[0]) >= 0
    with pytest.raises(ValueError, match="weight is 'x'"):
        AWMLoss(weight="x")
    with pytest.raises(ValueError, match="residual is 'x'"):
        RAMLoss(residual="x")
