import pytest
import torch

from tsdistill.errors import TsdistillError
from tsdistill.lab.engine import (
    FiniteSamples,
    GaussianSamples,
    Networks,
    best_correlations,
    correlations,
    decaying_teachers,
    deep_teachers,
    losses,
    modulations,
    random_students,
    sgd,
    teacher_outputs,
    train,
)

DOUBLE = torch.float64


class Given:
    """Batches that are known beforehand."""

    def __init__(self, x):
        self.x, self.shared, self.at = x, x.dim() == 2, 0

    def rows(self, count):
        self.at += count
        return self.x[..., self.at - count : self.at, :]


def autograd_steps(student, teacher, x, batch, rate):
    """The same training, one network, as anyone would write it."""
    optimiser = torch.optim.SGD(student.parameters(), rate)
    for start in range(0, len(x), batch):
        some = x[start : start + batch]
        loss = (teacher(some).detach() - student(some)).square().sum(1).mean() / 2
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize(
    ("widths", "biases"), [((7,), True), ((7,), False), ((6, 5, 4), True), ((6, 4), False)]
)
def test_training_is_sgd_with_the_gradients_of_autograd(shared, widths, biases):
    seeds, batch, rate, steps = range(3), 4, 0.05, 20
    teachers = decaying_teachers(seeds, 5, 3, 2, 1.0, biases=biases, dtype=DOUBLE)
    students = random_students(seeds, 5, widths, 2, biases=biases, dtype=DOUBLE)
    x = torch.randn(
        (*(() if shared else (3,)), steps * batch, 5), generator=torch.Generator().manual_seed(0)
    ).double()
    plain = [students.module(place) for place in range(3)]
    train(students, teachers, Given(x), steps=steps, batch=batch, rate=rate)
    for place, module in enumerate(plain):
        own = x if shared else x[place]
        autograd_steps(module, teachers.module(place), own, batch, rate)
        for wanted, got in zip(module.parameters(), students.module(place).parameters(), strict=True):
            torch.testing.assert_close(got, wanted)


def test_parts_and_threads_do_not_change_what_is_learnt(monkeypatch):
    def trained(cached, threads):
        monkeypatch.setattr(sgd, "CACHE_BYTES", cached)
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            students = random_students(range(6), 8, (5,), 3, dtype=DOUBLE)
            teachers = decaying_teachers(range(6), 8, 2, 3, 0.5, dtype=DOUBLE)
            train(students, teachers, GaussianSamples(1, 8, dtype=DOUBLE), steps=130, batch=4, rate=0.02)
            assert torch.get_num_threads() == threads
        finally:
            torch.set_num_threads(before)
        return students.fan_out

    whole = trained(1 << 20, 1)
    torch.testing.assert_close(trained(1, 2), whole)
    torch.testing.assert_close(trained(1, 1), whole)


def test_record_comes_at_its_steps_and_rate_can_change():
    students = random_students(range(2), 4, (3,), 2)
    teachers = decaying_teachers(range(2), 4, 2, 2, 0.0)
    start, seen, asked = students.clone(), [], []

    def rate(step):
        asked.append(step)
        return 0.0 if step < 10 else 0.1

    train(
        students,
        teachers,
        GaussianSamples(0, 4),
        steps=15,
        batch=2,
        rate=rate,
        at=(0, 10, 15),
        record=lambda step, now: seen.append((step, bool((now.fan_in == start.fan_in).all()))),
    )
    assert seen == [(0, True), (10, True), (15, False)]
    assert asked == list(range(15))


def test_students_that_diverge_are_counted():
    students, teachers = random_students(range(4), 4, (3,), 2), decaying_teachers(range(4), 4, 2, 2, 0.0)
    with pytest.raises(TsdistillError, match="4 of 4"):
        train(students, teachers, GaussianSamples(0, 4), steps=400, batch=2, rate=50.0)


def test_students_and_teachers_have_to_fit():
    students, teachers = random_students(range(4), 4, (3,), 2), decaying_teachers(range(4), 5, 2, 2, 0.0)
    with pytest.raises(TsdistillError, match="inputs: 4 and 5"):
        train(students, teachers, GaussianSamples(0, 4), steps=1, batch=2, rate=0.1)


def test_a_stack_is_its_modules():
    networks = deep_teachers(range(3), 6, (5, 4), 3, dtype=DOUBLE)
    x = GaussianSamples(0, 6, dtype=DOUBLE).rows(11)
    own = GaussianSamples(0, 6, networks=3, dtype=DOUBLE).rows(11)
    modules = [networks.module(place) for place in range(3)]
    torch.testing.assert_close(networks(x), torch.stack([module(x) for module in modules]))
    torch.testing.assert_close(
        networks(own), torch.stack([m(each) for m, each in zip(modules, own, strict=True)])
    )
    assert networks.widths == (5, 4)
    assert (networks.inputs, networks.outputs) == (6, 3)
    torch.testing.assert_close(teacher_outputs(networks, x), networks(x).transpose(1, 2))


def test_weights_that_make_no_networks_are_refused():
    with pytest.raises(TsdistillError, match=r"\(2, 4, 1\)"):
        Networks((torch.zeros(2, 3, 4), torch.zeros(2, 4, 1)))


def test_teachers_have_the_strengths_that_they_should_and_one_seed_one_teacher():
    even, steep = (decaying_teachers([3, 4], 20, 5, 9, p, dtype=DOUBLE) for p in (0.0, 2.0))
    torch.testing.assert_close(even.fan_out.norm(dim=2), torch.ones(2, 5, dtype=DOUBLE))
    torch.testing.assert_close(steep.fan_out.norm(dim=2)[0], torch.arange(1, 6).double() ** -2)
    assert torch.equal(even.fan_in, steep.fan_in)
    assert torch.equal(even.fan_in[1], decaying_teachers([4], 20, 5, 9, 1.0, dtype=DOUBLE).fan_in[0])


def test_boundaries_of_deep_teachers_are_within_the_data():
    teachers = deep_teachers([0, 1], 10, (20, 20), 5)
    for acts in teachers.hidden(GaussianSamples(9, 10).rows(4000)):
        share = (acts > 0).float().mean(2)
        assert share.min() > 0.25
        assert share.max() < 0.75


def test_correlations_are_those_of_the_activations():
    teachers, students = deep_teachers([0, 1], 6, (4, 3), 2), random_students([0, 1], 6, (7, 5), 2)
    students.weights[0][1, 2] = 0
    x = GaussianSamples(2, 6, networks=2).rows(300)
    found = correlations(teachers, students, x, 1)
    for s in range(2):
        both = torch.cat([teachers.hidden(x)[1][s], students.hidden(x)[1][s]])
        torch.testing.assert_close(found[s], torch.corrcoef(both)[:3, 3:].nan_to_num(0), atol=1e-5, rtol=1e-4)
    assert (correlations(teachers, students, x)[1, :, 2] == 0).all()
    of_teacher, of_student = best_correlations(teachers, students, x)
    assert of_teacher.shape == (2, 4)
    assert of_student.shape == (2, 7)
    same, _ = best_correlations(teachers, teachers, x)
    torch.testing.assert_close(same, torch.ones(2, 4))


def test_losses_are_halves_of_squares():
    teachers, students = deep_teachers([0, 1], 6, (4,), 2), random_students([0, 1], 6, (7,), 2)
    x = GaussianSamples(2, 6).rows(50)
    wanted = (teachers(x) - students(x)).square().sum(2).mean(1) / 2
    torch.testing.assert_close(losses(teachers, students, x), wanted)


def test_modulation_is_the_norm_of_the_jacobian_column():
    networks = deep_teachers([5], 4, (6, 5, 4), 3, dtype=DOUBLE)
    x = GaussianSamples(0, 4, dtype=DOUBLE).rows(3000)
    found = modulations(networks, x, seed=1)
    module = networks.module(0)
    for layer in range(3):
        h = module[: 2 * layer + 2](x)
        jacobian = torch.func.vmap(torch.func.jacrev(module[2 * layer + 2 :]))(h)
        wanted = jacobian.square().sum(1).mean(0).sqrt()
        torch.testing.assert_close(found[layer][0], wanted, rtol=0.05, atol=0)
    torch.testing.assert_close(found[2], networks.fan_out.norm(dim=2))


def test_finite_samples_are_those_given_and_fresh_ones_go_on():
    x = torch.arange(12.0).reshape(2, 3, 2)
    source = FiniteSamples(x, seed=0)
    drawn = source.rows(40)
    assert not source.shared
    for s in range(2):
        assert {tuple(row) for row in drawn[s].tolist()} == {tuple(row) for row in x[s].tolist()}
    shared = FiniteSamples(x[0], seed=0)
    assert shared.shared
    assert shared.rows(5).shape == (5, 2)
    fresh = GaussianSamples(0, 3)
    assert not torch.equal(fresh.rows(4), fresh.rows(4))
    assert torch.equal(GaussianSamples(0, 3).rows(4), GaussianSamples(0, 3).rows(4))
    assert GaussianSamples(0, 3).rows(20_000).std().item() == pytest.approx(1, rel=0.02)
