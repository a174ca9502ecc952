"""Every way in which an example could write where it may not, closed or refused; without its guard, it really leaks.

A channel is a short training run with one example that may not write into the
front of the net. Whatever that example holds (its *secret*), the front comes out
the same, or the run is refused. The mutation of each channel takes its guard
away and must see the secret in the front: so no test here holds for nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from support.gating import Memory, budget, open_gate, tables
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from aqpolicy.errors import AqpolicyError, IllegalTrainingSetupError, UngovernedParameterError, UnsupportedLayerError
from aqpolicy.gate import gate as gates
from aqpolicy.gate.gate import Gate
from aqpolicy.gate.motion.checks import ParameterSets, Shadow
from aqpolicy.gate.motion.mover import Mover
from aqpolicy.gate.routing.arrival import Admission
from aqpolicy.gate.routing.backward import Backward
from aqpolicy.gate.routing.leaks import LeakCheck
from aqpolicy.gate.routing.token import Strand

NAMES = ["1-a", "1-b", "1-c", "2-secret"]
GROUPS = (("front.",), ("back.",))
CLOSED = tables([[1, 1], [0, 0]])
"""The secret may write nowhere: what it wrote into the back would reach the front one step later."""
HALF = tables([[1, 1], [0, 1]])
"""The secret may write into the back."""
Y = torch.tensor([0, 1, 1, 0])


class Net(nn.Module):
    """A front, a back, and what a channel puts between them."""

    def __init__(self, middle: Callable[[], nn.Module] = nn.Identity) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.front, self.middle, self.back = nn.Linear(3, 4), middle(), nn.Linear(4, 2)
        self.double()

    def forward(self, x: Tensor) -> Tensor:
        return self.back(self.middle(torch.tanh(self.front(x))))


def data(secret: int) -> Tensor:
    dice = torch.Generator(torch.get_default_device())
    x = torch.randn(4, 3, generator=dice.manual_seed(1), dtype=torch.float64)
    x[3] = torch.randn(3, generator=dice.manual_seed(100 + secret), dtype=torch.float64)
    return x


def losses(out: Tensor) -> Tensor:
    return functional.cross_entropy(out, Y[: len(out)], reduction="none")


def sgd(net: nn.Module, **options: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD([p for p in net.parameters() if p.requires_grad], lr=0.1, **options)


def opened(net: nn.Module, table: Any = CLOSED, groups: Any = GROUPS, **options: Any) -> Gate:
    optimizer = options.pop("optimizer", None) or sgd(net)
    return open_gate(net, optimizer, table, [*NAMES, "3-system"], groups=groups, **options)


def front(net: Net) -> Tensor:
    return torch.cat([net.front.weight.detach().flatten(), net.front.bias.detach()])


def trained(net: Net, secret: int, loss: Callable[[Net, Tensor], Tensor], steps: int = 2, **options: Any) -> Tensor:
    """Return the front after a few steps."""
    gate = opened(net, **options)
    for _ in range(steps):
        with gate.step(NAMES):
            gate.backward(loss(net, data(secret)))
    return front(net)


def plainly(net: Net, x: Tensor) -> Tensor:
    return losses(net(x))


Guard = tuple[Any, str, Any]


def unwatched(check: LeakCheck, *_: Any) -> None:
    """Watch no parameter."""
    check._handles, check._watched = [], []


def nothing(*_: Any, **__: Any) -> None:
    """Stand in for a guard that was taken away."""


@dataclass(frozen=True)
class Channel:
    """One way to leak."""

    run: Callable[[int], Tensor]
    """From the secret to what must not depend on it."""
    without: Sequence[Guard]
    """The guards that close it, and what takes their place in the mutation."""
    refused: str = ""
    """What the refusal says; empty where the run goes on without the leak."""
    error: type[AqpolicyError] = IllegalTrainingSetupError


CHANNELS: dict[str, Channel] = {}

PROBE: list[Guard] = [(Backward, "_probe", nothing)]
TOUCHED: list[Guard] = [(Gate, "_refuse_touched", nothing)]


def channel(
    *without: Guard, refused: str = "", error: type[AqpolicyError] = IllegalTrainingSetupError
) -> Callable[[Callable[[int], Tensor]], Callable[[int], Tensor]]:
    def note(run: Callable[[int], Tensor]) -> Callable[[int], Tensor]:
        CHANNELS[run.__name__] = Channel(run, without, refused, error)
        return run

    return note


# ---- examples that are mixed


@channel(*PROBE, refused="depends on another example")
def in_batch_negatives(secret: int) -> Tensor:
    def contrastive(net: Net, x: Tensor) -> Tensor:
        one = functional.normalize(net(x), dim=1)
        return functional.cross_entropy(one @ one.t() / 0.5, torch.arange(4), reduction="none")

    return trained(Net(), secret, contrastive)


@channel(*PROBE, refused="depends on another example")
def a_loss_over_the_batch(secret: int) -> Tensor:
    return trained(Net(), secret, lambda net, x: losses(net(x)).logsumexp(0).expand(4))


@channel(*PROBE, refused="depends on another example")
def mean_centring(secret: int) -> Tensor:
    def centred(net: Net, x: Tensor) -> Tensor:
        out = net(x)
        return losses(out - out.mean(0))

    return trained(Net(), secret, centred)


@channel(*PROBE, refused="depends on another example")
def a_norm_over_the_batch(secret: int) -> Tensor:
    def normed(net: Net, x: Tensor) -> Tensor:
        out = net(x)
        return losses(functional.batch_norm(out, None, None, training=True))

    return trained(Net(), secret, normed)


@channel(*PROBE, refused="depends on another example")
def attention_between_examples(secret: int) -> Tensor:
    def attended(net: Net, x: Tensor) -> Tensor:
        out = net(x).unsqueeze(0)
        return losses(functional.scaled_dot_product_attention(out, out, out).squeeze(0))

    return trained(Net(), secret, attended)


@channel(*PROBE, refused="depends on another example")
def a_loss_that_balances_the_load(secret: int) -> Tensor:
    """How evenly a router spreads the batch is no example's own loss."""

    def balanced(net: Net, x: Tensor) -> Tensor:
        out = net(x)
        return losses(out) + out.softmax(1).mean(0).square().sum()

    return trained(Net(), secret, balanced)


@channel(*PROBE, refused="depends on another example")
def pairs_in_which_only_the_first_learns(secret: int) -> Tensor:
    """The later half's own losses are clean, the earlier half's are not."""

    def paired(net: Net, x: Tensor) -> Tensor:
        out = net(x)
        return losses(out) + torch.cat([(out[:2] - out[2:]).square().sum(1), out.new_zeros(2)])

    return trained(Net(), secret, paired)


@channel((gates, "refuse_mixing", nothing), *PROBE, refused="into training mode", error=UnsupportedLayerError)
def batch_normalisation_that_came_back(secret: int) -> Tensor:
    net = Net(lambda: nn.BatchNorm1d(4, affine=False).eval())
    gate = opened(net)
    net.train()
    for _ in range(2):
        with gate.step(NAMES):
            gate.backward(losses(net(data(secret))))
    return front(net)


@channel(*PROBE, (gates, "refuse_mixing", nothing), refused="training mode|another example", error=AqpolicyError)
def batch_normalisation_that_came_back_within_a_step(secret: int) -> Tensor:
    """After the steps in which the probe looks."""
    net = Net(lambda: nn.BatchNorm1d(4, affine=False).eval())
    gate = opened(net)
    with gate.step(NAMES):
        gate.backward(losses(net(data(0))))
    with gate.step(NAMES):
        net.train()
        gate.backward(losses(net(data(secret))))
    return front(net)


# ---- gradients by another road


@channel((LeakCheck, "__init__", unwatched), refused="an ungated gradient reached group `g0`")
def a_penalty_on_weights(secret: int) -> Tensor:
    """Here one that an example steers."""
    return trained(Net(), secret, lambda net, x: losses(net(x)) + net.front.weight.square().sum() * x[3, 0])


@channel((LeakCheck, "__init__", unwatched), refused="an ungated gradient reached group `g0`")
def a_backward_pass_of_the_loops_own(secret: int) -> Tensor:
    net = Net()
    gate = opened(net)
    with gate.step(NAMES):
        (net.front.weight.square().sum() * data(secret)[3, 0]).backward()
        gate.backward(losses(net(data(secret))))
    return front(net)


@channel(*TOUCHED, refused="gradients were changed")
def gradients_written_after_the_backward_pass(secret: int) -> Tensor:
    net = Net()
    gate = opened(net)
    with gate.step(NAMES):
        gate.backward(losses(net(data(secret))))
        net.front.weight.grad += data(secret)[3]
    return front(net)


@channel(*TOUCHED, refused="gradients were changed")
def gradients_scaled_behind_torchs_back(secret: int) -> Tensor:
    """As old recipes do it, with `.grad.data`."""
    net = Net()
    gate = opened(net)
    with gate.step(NAMES):
        gate.backward(losses(net(data(secret))))
        net.front.weight.grad.data.mul_(data(secret)[3, 0])
    return front(net)


@channel(*TOUCHED, refused="gradients were changed")
def gradients_replaced_after_the_backward_pass(secret: int) -> Tensor:
    net = Net()
    gate = opened(net)
    with gate.step(NAMES):
        gate.backward(losses(net(data(secret))))
        net.front.weight.grad = net.front.weight.grad + data(secret)[3]
    return front(net)


@channel(*TOUCHED, refused="gradients were changed")
def gradients_taken_away(secret: int) -> Tensor:
    """Whether the front moves at all would be up to the secret."""
    net = Net()
    gate = opened(net)
    with gate.step(NAMES):
        gate.backward(losses(net(data(secret))))
        if secret == 1:
            net.front.weight.grad = None
    return front(net)


def hooked(secret: int, register: Callable[[Net, torch.optim.Optimizer, Tensor], Any]) -> Tensor:
    net = Net()
    optimizer = sgd(net)
    gate = opened(net, HALF, optimizer=optimizer)
    register(net, optimizer, data(secret)[3])
    with gate.step(NAMES):
        gate.backward(losses(net(data(secret))))
    return front(net)


@channel(*TOUCHED, (LeakCheck, "refuse_others", nothing), refused="hook|gradient")
def a_hook_on_a_parameter(secret: int) -> Tensor:
    """Registered after the gate's own, so that it runs behind it."""
    return hooked(secret, lambda net, _, own: net.front.weight.register_hook(lambda gradient: gradient + own))


@channel(*TOUCHED, (LeakCheck, "refuse_others", nothing), refused="hook|gradient")
def a_hook_on_an_accumulated_gradient(secret: int) -> Tensor:
    def register(net: Net, _: torch.optim.Optimizer, own: Tensor) -> None:
        def add(held: Tensor) -> None:
            held.grad.add_(own)

        net.front.weight.register_post_accumulate_grad_hook(add)

    return hooked(secret, register)


@channel(*TOUCHED, (Mover, "_refuse_hooks", nothing), refused="hook|gradient")
def a_hook_before_the_optimizers_step(secret: int) -> Tensor:
    """What frameworks that clip for their users do."""

    def clip(net: Net) -> Callable[..., None]:
        return lambda *_: nn.utils.clip_grad_norm_(net.parameters(), 1e-3) and None

    return hooked(secret, lambda net, optimizer, _: optimizer.register_step_pre_hook(clip(net)))


# ---- clipping


def by_global_norm(mover: Mover, most: float) -> list[float]:
    """Clip as frameworks do: by one norm over all groups."""
    nn.utils.clip_grad_norm_([p for group in mover.groups for p in group.parameters], most)
    return [1.0] * len(mover.groups)


@channel((Mover, "_clip_groups", by_global_norm))
def clipping_by_the_gates_own_option(secret: int) -> Tensor:
    """The secret may write into the back, whose norm must not shorten the front's gradient."""
    return trained(Net(), secret, plainly, steps=1, table=HALF, clip=0.01)


@channel(*TOUCHED, refused="gradients were changed")
def clipping_by_the_global_norm(secret: int) -> Tensor:
    net = Net()
    gate = opened(net, HALF)
    with gate.step(NAMES):
        gate.backward(losses(net(data(secret))))
        nn.utils.clip_grad_norm_(net.parameters(), 1e-3)
    return front(net)


# ---- parameters


@channel((ParameterSets, "check", nothing), refused="no depth group", error=UngovernedParameterError)
def a_layer_unfrozen_after_attaching(secret: int) -> Tensor:
    net = Net()
    net.front.requires_grad_(False)
    optimizer = sgd(net)
    gate = opened(net, tables([[1], [0]]), groups=(("back.",),), optimizer=optimizer)
    net.front.requires_grad_(True)
    optimizer.add_param_group({"params": list(net.front.parameters())})
    with gate.step(NAMES):
        gate.backward(losses(net(data(secret))))
    return front(net)


@channel((ParameterSets, "check", nothing), refused="no depth group", error=UngovernedParameterError)
def a_layer_unfrozen_within_a_step(secret: int) -> Tensor:
    net = Net()
    net.front.requires_grad_(False)
    optimizer = sgd(net)
    gate = opened(net, tables([[1], [0]]), groups=(("back.",),), optimizer=optimizer)
    with gate.step(NAMES):
        net.front.requires_grad_(True)
        optimizer.add_param_group({"params": list(net.front.parameters())})
        gate.backward(losses(net(data(secret))))
    return front(net)


@channel((ParameterSets, "check", nothing), refused="no depth group", error=UngovernedParameterError)
def a_layer_added_after_attaching(secret: int) -> Tensor:
    net = Net()
    optimizer = sgd(net)
    gate = opened(net, optimizer=optimizer)
    net.middle = nn.Linear(4, 4, dtype=torch.float64)
    optimizer.add_param_group({"params": list(net.middle.parameters())})
    with gate.step(NAMES):
        gate.backward(losses(net(data(secret))))
    return net.middle.weight.detach().flatten()


def edited(secret: int, edit: Callable[[Net, Tensor], Any], *, inside: bool) -> Tensor:
    net = Net()
    gate = opened(net)
    for _ in range(2):
        if not inside:
            edit(net, data(secret)[3])
        with gate.step(NAMES):
            gate.backward(losses(net(data(secret))))
            if inside:
                edit(net, data(secret)[3])
    return front(net)


def openly(net: Net, own: Tensor) -> None:
    with torch.no_grad():
        net.front.weight.add_(own)


EDITS: list[Guard] = [(Shadow, "refuse_edits", nothing)]


@channel(*EDITS, refused="`front.weight` was changed outside")
def an_edit_between_steps(secret: int) -> Tensor:
    return edited(secret, openly, inside=False)


@channel(*EDITS, refused="`front.weight` was changed outside")
def an_edit_within_a_step(secret: int) -> Tensor:
    return edited(secret, openly, inside=True)


@channel(*EDITS, refused="`front.weight` was changed outside")
def an_edit_behind_torchs_back(secret: int) -> Tensor:
    return edited(secret, lambda net, own: net.front.weight.data.add_(own), inside=False)


@channel(*EDITS, refused="`front.weight` was changed outside")
def an_edit_behind_torchs_back_within_a_step(secret: int) -> Tensor:
    return edited(secret, lambda net, own: net.front.weight.data.add_(own), inside=True)


@channel(*EDITS, refused="`front.weight` was changed outside")
def an_edit_through_shared_memory(secret: int) -> Tensor:
    if torch.get_default_device().type != "cpu":
        pytest.skip("numpy reaches no other memory")

    def write(net: Net, own: Tensor) -> None:
        net.front.weight.detach().numpy()[:] += own.numpy()

    return edited(secret, write, inside=True)


@channel(*EDITS, refused="`front.weight` was changed outside")
def averaged_weights_swapped_in(secret: int) -> Tensor:
    """An average that another run made of the secret."""
    other = Net()
    other.front.weight.data.add_(data(secret)[3])
    average = torch.optim.swa_utils.AveragedModel(other)
    return edited(secret, lambda net, _: net.load_state_dict(average.module.state_dict()), inside=False)


# ---- steps, parts and scales


@channel((Gate, "_drop_gradients", nothing), (Gate, "_refuse_touched", nothing), (LeakCheck, "__init__", unwatched))
def a_step_that_was_given_up(secret: int) -> Tensor:
    """Nothing of its gradients is in the next step."""
    net = Net()
    gate = opened(net, tables([[1, 1], [1, 1]]))

    def give_up() -> None:
        gate.backward(losses(net(data(secret))))
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), gate.step(NAMES):
        give_up()
    with gate.step(NAMES[:3]):
        gate.backward(losses(net(data(secret)[:3])))
    return front(net)


@channel((Gate, "_drop_gradients", nothing), (LeakCheck, "__init__", unwatched))
def gradients_that_were_there_before(secret: int) -> Tensor:
    net = Net()
    gate = opened(net)
    net.front.weight.grad = data(secret)[3].expand(4, 3).clone()
    with gate.step(NAMES):
        gate.backward(losses(net(data(secret))))
    return front(net)


@channel((Admission, "own", lambda self, squares: squares.sqrt() * self.denominator))
def a_loss_scale(secret: int) -> Tensor:
    """A norm limit is of the example's own gradient, however small its loss was scaled; here it closes but for 1e-6."""
    limits = [[None, None], [1e-6, None]]
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**-20)
    moved = trained(Net(), secret, plainly, steps=1, table=tables([[1, 1], [1, 1]], norms=limits), scaler=scaler)
    return moved.mul(1e5).round()


# ---- tied weights


class Tied(nn.Module):
    """The front's weight is used again in the back."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.front, self.back = nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False)
        self.back.weight = self.front.weight
        self.double()

    def forward(self, x: Tensor) -> Tensor:
        return self.back(torch.tanh(self.front(x)))


@pytest.fixture
def careless_ties(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a tied parameter belong to the last of its groups alone."""
    build = Strand.__post_init__

    def last(self: Strand) -> None:
        build(self)
        self.owners = {key: numbers[-1:] for key, numbers in self.owners.items()}

    monkeypatch.setattr(Strand, "__post_init__", last)


def tied_weight(secret: int) -> Tensor:
    net = Tied()
    gate = opened(net, HALF)
    with gate.step(NAMES):
        gate.backward(losses(net(data(secret))))
    return net.front.weight.detach()


def test_a_tied_weight_takes_the_least_of_its_groups_shares() -> None:
    assert torch.equal(tied_weight(1), tied_weight(2))


@pytest.mark.usefixtures("careless_ties")
def test_a_tie_that_is_overlooked_leaks() -> None:
    assert not torch.equal(tied_weight(1), tied_weight(2))


# ---- the channels, with and without their guards


@pytest.mark.parametrize("name", CHANNELS)
def test_the_channel_is_closed(name: str) -> None:
    found = CHANNELS[name]
    if found.refused:
        with pytest.raises(found.error, match=found.refused):
            found.run(1)
    else:
        assert torch.equal(found.run(1), found.run(2))


@pytest.mark.parametrize("name", CHANNELS)
def test_the_channel_leaks_without_its_guard(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = CHANNELS[name]
    for owner, guard, instead in found.without:
        monkeypatch.setattr(owner, guard, instead, raising=False)
    assert not torch.equal(found.run(1), found.run(2))


def test_a_denied_example_does_not_show() -> None:
    """The ground on which every channel stands."""
    assert torch.equal(trained(Net(), 1, plainly), trained(Net(), 2, plainly))
    half = [trained(Net(), secret, plainly, table=HALF, steps=1) for secret in (1, 2)]
    assert torch.equal(*half)
    whole = [trained(Net(), secret, plainly, table=tables([[1, 1], [1, 1]])) for secret in (1, 2)]
    assert not torch.equal(*whole)


def test_what_is_handed_over_by_value_alone_is_beyond_the_probe() -> None:
    """It looks for gradients; a detached negative leaves none. docs/gate.md says so."""

    def contrastive(net: Net, x: Tensor) -> Tensor:
        one = functional.normalize(net(x), dim=1)
        return functional.cross_entropy(one @ one.detach().t() / 0.5, torch.arange(4), reduction="none")

    assert not torch.equal(trained(Net(), 1, contrastive), trained(Net(), 2, contrastive))


# ---- the optimizer's memory

MEMORIES: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "sgd": lambda p, **how: torch.optim.SGD(p, lr=0.1, momentum=0.9, **how),
    "decay": lambda p, **how: torch.optim.SGD(p, lr=0.1, weight_decay=0.1, **how),
    "adam": lambda p, **how: torch.optim.Adam(p, lr=0.1, **how),
    "adamw": lambda p, **how: torch.optim.AdamW(p, lr=0.1, weight_decay=0.1, **how),
}
KERNELS = [{"foreach": False}, {"foreach": True}, {"fused": True}]


def movements(kind: str, how: dict[str, bool]) -> list[tuple[bool, bool]]:
    """Return whether front and back moved, in an open step and in two that are closed to the front."""
    net = Net()
    gate = opened(net, HALF, optimizer=MEMORIES[kind](net.parameters(), **how))
    moved = []
    for names in (NAMES[:3], ["2-secret"], ["2-secret"]):
        before = deepcopy(net)
        with gate.step(names):
            gate.backward(losses(net(data(1)[: len(names)])))
        pairs = [(before.front.weight, net.front.weight), (before.back.weight, net.back.weight)]
        moved.append(tuple(not torch.equal(*pair) for pair in pairs))
    return moved


@pytest.mark.parametrize("how", KERNELS, ids=["loop", "foreach", "fused"])
@pytest.mark.parametrize("kind", MEMORIES)
def test_neither_memory_nor_decay_moves_a_closed_group(kind: str, how: dict[str, bool]) -> None:
    assert movements(kind, how) == [(True, True), (False, True), (False, True)]


@pytest.mark.parametrize("how", KERNELS, ids=["loop", "foreach", "fused"])
@pytest.mark.parametrize("kind", MEMORIES)
def test_a_gradient_of_zeros_would_move_it(kind: str, how: dict[str, bool], monkeypatch: pytest.MonkeyPatch) -> None:
    build = Strand.__post_init__

    def filled(strand: Strand) -> None:
        build(strand)
        strand.fill = True

    monkeypatch.setattr(Strand, "__post_init__", filled)
    monkeypatch.setattr(
        Backward, "open", lambda self, examples, segments=None, **_: self.router.open(examples, segments)
    )
    monkeypatch.setattr(Mover, "_close", nothing)
    assert movements(kind, how) == [(True, True)] * 3


def test_an_average_of_weights_does_not_move_where_they_did_not() -> None:
    net = Net()
    gate = opened(net, tables([[0, 1], [0, 0]]))
    average = torch.optim.swa_utils.AveragedModel(net, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.5))
    for _ in range(3):
        with gate.step(NAMES):
            assert average(data(1)).requires_grad  # a plain model: the gate takes no notice of it
            gate.backward(losses(net(data(1))))
        average.update_parameters(net)
    assert torch.equal(average.module.front.weight, net.front.weight)
    assert not torch.equal(average.module.back.weight, net.back.weight)


# ---- denied is absent


def absent(scheduled: int, present: int, **options: Any) -> Net:
    net = Net()
    gate = opened(net, optimizer=sgd(net, momentum=0.9, weight_decay=0.01), **options)
    for _ in range(3):
        with gate.step(NAMES[:present], denominator=float(scheduled)):
            gate.backward(losses(net(data(1)[:present])))
    return net


@pytest.mark.parametrize("limit", [None, 0.01])
def test_a_denied_example_equals_an_absent_one_with_the_planned_denominator(limit: float | None) -> None:
    table = tables([[1, 0.5], [0, 0]], norms=[[limit, None], [None, None]])
    for one, other in zip(absent(4, 4, table=table).parameters(), absent(4, 3, table=table).parameters(), strict=True):
        assert torch.equal(one, other)


def test_to_divide_by_the_admitted_examples_would_amplify_them() -> None:
    assert not torch.equal(front(absent(4, 4)), front(absent(3, 3)))


# ---- batch normalisation


@pytest.mark.parametrize("norm", [nn.BatchNorm1d(4), nn.BatchNorm1d(4, affine=False), nn.SyncBatchNorm(4)])
def test_batch_normalisation_is_refused_in_training(norm: nn.Module) -> None:
    net = Net(lambda: norm)
    with pytest.raises(UnsupportedLayerError, match=r"`middle` .* mixes examples"):
        opened(net, groups=(("front.", "middle."), ("back.",)))
    assert all("forward" not in vars(module) for module in net.modules())


def test_batch_normalisation_without_running_statistics_is_refused_in_any_mode() -> None:
    with pytest.raises(UnsupportedLayerError, match="mixes examples"):
        opened(Net(lambda: nn.BatchNorm1d(4, affine=False, track_running_stats=False).eval()))


def test_frozen_batch_normalisation_lets_no_secret_through_and_trains_as_its_share_says() -> None:
    found = []
    for secret in (1, 2):
        net = Net(lambda: nn.BatchNorm1d(4)).eval()
        gate = opened(net, groups=(("front.", "middle."), ("back.",)))
        for _ in range(2):
            with gate.step(NAMES):
                gate.backward(losses(net(data(secret))))
        found.append(net)
    for one, other in zip(*(net.state_dict().values() for net in found), strict=True):
        assert torch.equal(one, other)
    plain = Net(lambda: nn.BatchNorm1d(4)).eval()
    optimizer = sgd(plain)
    for _ in range(2):
        optimizer.zero_grad()
        (losses(plain(data(1)))[:3].sum() / 4).backward()
        optimizer.step()
    for one, other in zip(found[0].parameters(), plain.parameters(), strict=True):
        assert torch.allclose(one, other, rtol=1e-12, atol=1e-14)


# ---- parts of a step


def test_a_budget_of_one_step_is_not_given_back_between_its_parts() -> None:
    table = tables([[1, 1], [1, 1]], budgets=[budget(groups=(0,), meters=(("surprisal", "step", 2_000_000),))])
    spent = []
    for parts in ([NAMES], [NAMES[:2], NAMES[2:]], [[name] for name in NAMES]):
        net, log = Net(), Memory()
        gate = opened(net, table, log=log)
        with gate.step(NAMES):
            at = 0
            for part in parts:
                rows, at = data(1)[at : at + len(part)], at + len(part)
                with gate.part(part):
                    gate.backward(functional.cross_entropy(net(rows), Y[at - len(part) : at], reduction="none"))
        spent.append((gate.totals.spent["b"], [row.exceptions for row in log.blocks[0].rows]))
    assert spent[0] == spent[1] == spent[2]
    assert 0 < spent[0][0] <= 2_000_000
    assert any(spent[0][1])


def test_an_example_that_comes_twice_in_a_step_is_exposed_twice() -> None:
    table = tables([[1, 1], [1, 1]], budgets=[budget(groups=(0,), exposures=1)])
    net, log = Net(), Memory()
    gate = opened(net, table, log=log)
    with gate.step(["1-a", "1-a"]):
        for number in range(2):
            with gate.part(["1-a"]):
                gate.backward(losses(net(data(1)[number : number + 1])))
    assert [bool(row.exceptions) for row in log.blocks[0].rows] == [False, True]


# ---- random states


class Random(nn.Module):
    """Draws in the forward pass, in modules with and without a rule."""

    def __init__(self, reentrant: bool | None = None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.front, self.drop, self.reentrant = nn.Linear(3, 4), nn.Dropout(0.3), reentrant
        self.mix = nn.MultiheadAttention(4, 2, dropout=0.3, batch_first=True)
        self.back = nn.Linear(4, 2)
        self.double()

    def middle(self, h: Tensor) -> Tensor:
        h = self.drop(torch.tanh(h))
        return self.mix(*[torch.stack([h, 2 * h, h * h], 1)] * 3, need_weights=False)[0].mean(1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.front(x)
        if self.reentrant is not None:
            return self.back(checkpoint(self.middle, h, use_reentrant=self.reentrant))
        return self.back(self.middle(h))


RANDOM_GROUPS = (("front.",), ("mix.",), ("back.",))
"""The checkpointed segment holds a whole group, as a reentrant one must."""


def drawn(table: Any, reentrant: bool | None = None) -> tuple[Random, list[Tensor]]:
    """Return the net and the random states after each of three steps; without a table they are plain."""
    net = Random(reentrant)
    optimizer = sgd(net)
    gate = None if table is None else opened(net, table, RANDOM_GROUPS, optimizer=optimizer)
    torch.manual_seed(7)
    states = []
    for _ in range(3):
        if gate is None:
            optimizer.zero_grad()
            losses(net(data(1))).mean().backward()
            optimizer.step()
        else:
            with gate.step(NAMES):
                gate.backward(losses(net(data(1))))
        states.append(torch.get_rng_state())
    return net, states


@pytest.mark.parametrize("reentrant", [None, False, True])
@pytest.mark.parametrize("rows", [[[1] * 3] * 2, [[1] * 3, [0] * 3], [[0.5, 0.7, 0], [0, 0, 2]], [[0] * 3] * 2])
def test_a_step_draws_what_a_plain_step_draws(rows: list[list[float]], reentrant: bool | None) -> None:
    limits = [[0.1, 0.2, None], [None] * 3] if rows[0][0] == 0.5 else None
    _, states = drawn(tables(rows, norms=limits), reentrant)
    for one, other in zip(states, drawn(None, reentrant)[1], strict=True):
        assert torch.equal(one, other)


def test_a_gate_that_drew_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    settle = Strand.settle
    monkeypatch.setattr(Strand, "settle", lambda self: [torch.rand(1), settle(self)][1])
    _, states = drawn(tables([[1] * 3, [0] * 3]))
    assert not torch.equal(states[0], drawn(None)[1][0])


@pytest.mark.parametrize("reentrant", [None, False, True])
def test_open_random_layers_train_bit_by_bit_as_plain_ones(reentrant: bool | None) -> None:
    gated, plain = drawn(tables([[1] * 3] * 2), reentrant)[0], drawn(None, reentrant)[0]
    for one, other in zip(gated.parameters(), plain.parameters(), strict=True):
        assert torch.equal(one, other)


# ---- a loss that is no example's


def test_a_system_loss_comes_as_an_example_of_its_own() -> None:
    """A part in which the whole batch is one example, with a row of its own in the tables."""

    def balance(net: Net) -> Tensor:
        return net(data(1)).softmax(1).mean(0).square().sum().reshape(1)

    net, log = Net(), Memory()
    gate = opened(net, tables([[1, 1], [0, 0], [0.5, 0]]), log=log)
    with gate.step([*NAMES, "3-system"]):
        with gate.part(NAMES):
            gate.backward(losses(net(data(1))))
        with gate.part(["3-system"]):
            gate.backward(balance(net))
    plain = Net()
    own = torch.autograd.grad(losses(plain(data(1)))[:3].sum(), list(plain.parameters()))
    system = torch.autograd.grad(balance(plain).sum(), list(plain.parameters()))
    for number, (before, after) in enumerate(zip(plain.parameters(), net.parameters(), strict=True)):
        gradient = (own[number] + (0.5 if number < 2 else 0.0) * system[number]) / 5
        assert torch.allclose(after, before - 0.1 * gradient, rtol=1e-12, atol=1e-14)
    assert [row.effect for row in log.blocks[0].rows] == ["admit"] * 3 + ["deny", "modulate"]


def test_a_loss_that_is_one_number_is_refused() -> None:
    net = Net()
    gate = opened(net)
    with pytest.raises(IllegalTrainingSetupError, match="one number per scheduled example"), gate.step(NAMES):
        gate.backward(losses(net(data(1))).mean())


# ---- checkpoints


class Recomputed(nn.Module):
    """Its middle runs again in the backward pass."""

    def __init__(self, reentrant: bool) -> None:
        super().__init__()
        self.inner, self.reentrant, self.runs = nn.Sequential(nn.Linear(4, 4), nn.Tanh()), reentrant, 0

    def again(self, h: Tensor) -> Tensor:
        self.runs += 1
        return self.inner(h)

    def forward(self, h: Tensor) -> Tensor:
        return checkpoint(self.again, h, use_reentrant=self.reentrant)


@pytest.mark.parametrize("reentrant", [False, True])
def test_a_layer_that_runs_twice_for_one_use_counts_once(reentrant: bool) -> None:
    found = []
    for secret in (1, 2):
        net, log = Net(lambda: Recomputed(reentrant)), Memory()
        table = tables([[1] * 3, [0] * 3], norms=[[0.05] * 3, [None] * 3])
        gate = opened(net, table, (("middle.",), ("front.",), ("back.",)), log=log)
        with gate.step(NAMES):
            gate.backward(losses(net(data(secret))))
        assert net.middle.runs >= 2
        found.append((front(net), net.middle.inner[0].weight.detach(), torch.tensor(log.blocks[0].norms)[:3]))
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))
    plain = Net(lambda: Recomputed(reentrant))
    held = list(plain.middle.parameters())
    for number in range(3):
        own = torch.autograd.grad(
            functional.cross_entropy(
                plain.back(plain.middle.inner(torch.tanh(plain.front(data(1)[number : number + 1])))),
                Y[number : number + 1],
            ),
            held,
        )
        norm = torch.cat([part.flatten() for part in own]).norm()
        assert torch.allclose(found[0][2][number, 0].double(), norm, rtol=1e-10)


# ---- evaluation mode


class Eval(nn.Module):
    """Layers that have a fast path of their own in evaluation mode."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.front = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True, dropout=0.1)
        self.middle, self.back = nn.LSTM(4, 4, batch_first=True), nn.Linear(4, 2)
        self.double()

    def forward(self, x: Tensor) -> Tensor:
        h = torch.nn.functional.pad(x, (0, 1)).unsqueeze(1) * torch.tensor([1.0, -0.5, 2.0]).view(1, 3, 1)
        return self.back(self.middle(self.front(h))[0].mean(1))


@pytest.mark.skipif("config.getoption('--device') != 'cpu'", reason="cuDNN differentiates no LSTM in evaluation mode")
def test_evaluation_mode_is_gated_as_training_mode_is() -> None:
    found = []
    for secret in (1, 2):
        net = Eval().eval()
        gate = opened(net, groups=(("front.", "middle."), ("back.",)))
        with torch.no_grad():
            before = net(data(secret))
        for _ in range(2):
            with gate.step(NAMES):
                with torch.no_grad():
                    net(data(secret)[:1])
                with torch.inference_mode():
                    net(data(secret)[:2])
                gate.backward(losses(net(data(secret))))
        with torch.no_grad():
            assert not torch.equal(net(data(secret)), before)
        found.append(net)
    for one, other in zip(*(net.parameters() for net in found), strict=True):
        assert torch.equal(one, other)
    plain = Eval().eval()
    optimizer = sgd(plain)
    for _ in range(2):
        optimizer.zero_grad()
        (losses(plain(data(1)))[:3].sum() / 4).backward()
        optimizer.step()
    for one, other in zip(found[0].parameters(), plain.parameters(), strict=True):
        assert torch.allclose(one, other, rtol=1e-11, atol=1e-13)


def test_a_loss_computed_without_gradients_is_refused() -> None:
    net = Net()
    gate = opened(net)
    with pytest.raises(IllegalTrainingSetupError, match="does not depend on any trained"), gate.step(NAMES):
        gate.backward(losses(net(data(1))).detach())


def test_the_loops_own_backward_inside_a_step_teaches_nothing() -> None:
    net, log = Net(), Memory()
    gate = opened(net, log=log)
    before = front(net)
    with pytest.raises(IllegalTrainingSetupError), gate.step(NAMES):
        losses(net(data(1))).sum().backward()
    assert torch.equal(front(net), before)
    assert log.blocks == []
    assert all(parameter.grad is None for parameter in net.parameters())


# ---- frozen layers


@pytest.mark.parametrize("frozen", ["front", "middle", "back"])
def test_frozen_layers_carry_the_signal_and_take_nothing(frozen: str) -> None:
    def build() -> Net:
        net = Net(lambda: nn.Linear(4, 4))
        getattr(net, frozen).requires_grad_(False)
        return net

    left = tuple((f"{name}.",) for name in ("front", "middle", "back") if name != frozen)
    found = []
    for secret in (1, 2):
        net = build()
        gate = opened(net, groups=left)
        with gate.step(NAMES):
            gate.backward(losses(net(data(secret))))
        found.append(net)
    plain = build()
    optimizer = sgd(plain)
    (losses(plain(data(1)))[:3].sum() / 4).backward()
    optimizer.step()
    for one, other, want in zip(*(net.parameters() for net in (*found, plain)), strict=True):
        assert torch.equal(one, other)
        assert torch.allclose(one, want, rtol=1e-12, atol=1e-14)
    assert all(
        torch.equal(a, b)
        for a, b in zip(getattr(found[0], frozen).parameters(), getattr(build(), frozen).parameters(), strict=True)
    )
