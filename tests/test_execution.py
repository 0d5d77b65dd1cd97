"""How a run is computed: devices, arithmetic, memory layout, compilation, and what is timed."""

from __future__ import annotations

import shutil
import tempfile

import pytest
import torch

from bench import grid, run
from bench.cli.entry import entry
from bench.experiment import preflight
from bench.experiment.execution import Execution, resolve_device
from bench.experiment.problem import make_problem
from bench.experiment.settings import nest
from bench.experiment.spec import parse_spec
from bench.launching import local_workers, machine_lock
from bench.results.store import Store
from bench.runner.execute import execute
from bench.training import checkpoints
from bench.training.checkpoints import CHECKPOINT
from bench.training.optimisers import make_optimiser
from bench.training.resume import State
from bench.training.trainer import WARM_UP_STEPS, Stopped, Trainer
from methods import ssvi
from methods.core import passes
from methods.core.errors import UserError
from methods.core.streams import NAMES, ON_DEVICE, ON_HOST, Streams
from methods.subspace.exchange import Exchange
from tests import toys  # noqa: F401  (registers the toys)

IMAGES = {"dataset": "digits", "network": "cnn", "network.channels": [8, 16], "epochs": 2, "lr": 0.05}
EVERY_EPOCH = Execution(checkpoint_seconds=0.0)


def spec(method="ssvi", **options):
    return parse_spec(nest({**IMAGES, "method": method, **options}))


def toy(method="ssvi", **options):
    chosen = {"dataset": "toy_blobs", "network": "toy_network", "method": method}
    return parse_spec(nest({**chosen, "epochs": 4, "batch_size": 16, "lr": 0.05, **options}))


def scores(run_spec, folder, execution=EVERY_EPOCH):
    """Return the metrics of a run computed in ``folder``, by predictor, split and name."""
    store = Store(folder, create=True)
    assert execute(run_spec, store, execution) == "done", store.run(run_spec.run_id).read("status")["error"]
    rows = store.run(run_spec.run_id).read("metrics")["metrics"]
    return {(r["predictor"], r["split"], r["metric"]): r["value"] for r in rows}


def new_trainer(problem, folder, stop=lambda: False):
    """Return a trainer that reports nothing."""
    run = Store(folder, create=True).run(problem.spec.run_id)
    run.path.mkdir(exist_ok=True)
    return Trainer(
        problem, run, stage_done=lambda *_: {}, stop=stop, checkpoint_seconds=0.0, report=lambda _: None,
        started=0.0,
    )  # fmt: skip


# -- devices and streams ----------------------------------------------------------------------


def test_what_decides_the_experiment_is_drawn_on_the_cpu_whatever_the_device():
    """A generator can't be made on a device that does not exist, so these are on the CPU."""
    elsewhere, here = Streams(7, "cuda"), Streams(7)
    for name in (*ON_HOST, "initialisation/second"):
        drawn = [torch.rand(3, generator=streams[name]) for streams in (elsewhere, here)]
        assert torch.equal(*drawn), name
    assert set(NAMES) == {*ON_HOST, *ON_DEVICE}


def test_a_network_is_built_the_same_for_every_device(monkeypatch):
    """Making a problem does not need the device before its data is moved there."""
    problem = make_problem(spec())
    module = problem.build(Streams(0))
    moves = []

    def to(self, *args, **kwargs):
        moves.append(args)
        return self

    elsewhere = make_problem(spec(), Execution(device="cuda")) if torch.cuda.is_available() else None
    if elsewhere is None:
        monkeypatch.setattr("bench.data.base.Splits.to", lambda self, device: self)
        elsewhere = make_problem(spec(), Execution(device="cuda"))
        monkeypatch.setattr(torch.nn.Module, "to", to)
    other = elsewhere.method.build(elsewhere.network(Streams(0, "cuda")), Streams(0, "cuda"), elsewhere.task)
    for (name, mine), theirs in zip(module.state_dict().items(), other.state_dict().values(), strict=True):
        assert torch.equal(mine, theirs.cpu()), name


def test_devices_have_names_and_wrong_ones_are_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert resolve_device("auto") == resolve_device("cpu") == "cpu"
    with pytest.raises(UserError, match=r"this machine has no device 'cuda'; valid: auto, cpu$"):
        resolve_device("cuda")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert resolve_device("auto") == "cuda"
    assert resolve_device("cuda:1") == "cuda:1"
    with pytest.raises(UserError, match=r"no device 'cuda:2'; valid: auto, cpu, cuda, cuda:0, cuda:1$"):
        resolve_device("cuda:2")


@pytest.mark.parametrize(
    ("device", "visible", "expected"),
    [
        ("cpu", None, []),
        ("cuda", None, ["0", "1", "2"]),
        ("cuda", "5,GPU-7", ["5", "GPU-7"]),
        ("cuda:1", "5,GPU-7", ["GPU-7"]),
        ("cuda:2", None, ["2"]),
    ],
)
def test_each_worker_is_given_one_device(monkeypatch, tmp_path, device, visible, expected):
    """Device n of a launch is the n-th that the launcher may use; workers take turns on them."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    execution = Execution(device=device)
    orders = local_workers._Orders(tmp_path, [toy()], execution, tmp_path)
    given = []
    for _ in range(5):
        given.append(orders.next([order.cuda for order in given]))
    assert [order.cuda for order in given] == [
        expected[i % len(expected)] if expected else None for i in range(5)
    ]
    if len(expected) > 1:  # in place of a worker that died, on the device that it left
        busy = [order.cuda for order in given[: len(expected)]]
        for left in expected:
            assert orders.next([device for device in busy if device != left]).cuda == left
    assert {order.execution.device for order in given} == {device.partition(":")[0]}
    assert local_workers.places(execution) == (len(expected) or local_workers.usable_cores())
    assert local_workers.places(Execution(device="cpu", threads=10**6)) == 1


@pytest.mark.parametrize("command", [run.main, grid.main], ids=["run", "grid"])
def test_a_device_that_is_missing_is_one_line(command, capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    arguments = ["--device", "cuda:3", "--results", str(tmp_path / "none")]
    arguments += ["--suite", "criteria_ablation"] if command is grid.main else []
    with pytest.raises(SystemExit) as caught:
        entry(lambda: command(arguments))
    assert caught.value.code == 2
    assert capsys.readouterr().err == "error: this machine has no device 'cuda:3'; valid: auto, cpu\n"
    assert not (tmp_path / "none").exists()


# -- torch's own stream -----------------------------------------------------------------------


def test_dropout_is_part_of_the_run_and_leaves_no_trace(tmp_path):
    """Dropout draws from torch's own stream: of the run's seed within it, the user's own outside."""
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = scores(toy(dropout=0.4), tmp_path / "a")
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert scores(toy(dropout=0.4), tmp_path / "b") == first
    assert scores(toy(), tmp_path / "c") != first


def test_extra_passes_leave_noise_and_dropout_where_they_were(tmp_path):
    """A pass for a gradient alone must not shift the random numbers of the steps after it."""
    problem = make_problem(toy(dropout=0.4))
    trainer = new_trainer(problem, tmp_path)
    streams = Streams(problem.spec.seed)
    state = trainer.state = State(problem.build(streams), streams)
    state.optimiser = make_optimiser(problem, state.module)
    with torch.random.fork_rng(devices=[]):
        streams.take_global()
        context = trainer._context(trainer.stages[0])
        context.begin_step(next(problem.training_batches(streams)), 1)
        before = streams.state_dict()
        drawn = []

        def loss():
            with passes.local_noise(streams["noise"]):
                result = torch.nn.functional.cross_entropy(state.module(context.batch[0]), context.batch[1])
            drawn.extend(not torch.equal(before[n], streams[n].get_state()) for n in ("noise", "global"))
            return result

        given = []
        context.extra_pass(loss, lambda layer, gradient: given.append(layer), "noisy_pass")
        assert drawn == [True, True] and len(given) == 2
        after = streams.state_dict()
        assert all(torch.equal(before[name], after[name]) for name in before)


# -- arithmetic and layout --------------------------------------------------------------------


@pytest.mark.parametrize("method", ["dense_vi", "static_vi"])
def test_bfloat16_gradients_are_those_of_float32_up_to_its_precision(method):
    """Parameters and their gradients stay float32; errors of 2^-9 a number add up to some percent."""
    found = {}
    for precision in ("float32", "bfloat16"):
        problem = make_problem(spec(method, precision=precision))
        module = problem.build(Streams(0))
        inputs, labels = next(problem.training_batches(Streams(0)))
        with problem.autocast(), passes.mean():
            loss = torch.nn.functional.cross_entropy(module(inputs), labels)
        loss.backward()
        found[precision] = {n: p.grad for n, p in module.named_parameters() if p.grad is not None}
    for name, exact in found["float32"].items():
        rough = found["bfloat16"][name]
        assert rough.dtype == torch.float32
        assert (rough - exact).norm() <= 0.1 * exact.norm(), name
    changed = sum(not torch.equal(found["bfloat16"][n], g) for n, g in found["float32"].items())
    assert changed > len(found["float32"]) / 2


@pytest.mark.parametrize(
    "addition", ["grad_sampled", "grad_mean", "grad_averaged", "grad_accumulated", "random"]
)
def test_what_is_decided_and_recorded_is_in_full_precision_under_bfloat16(addition, tmp_path, monkeypatch):
    """Only losses use less precision: an overlap of thousands of slots would lose its last digits."""
    seen = set()

    def watched(function):
        def call(*args):
            given = {a.dtype for a in args if isinstance(a, torch.Tensor)}
            seen.add((function.__name__, torch.is_autocast_enabled("cpu"), *given))
            return function(*args)

        return call

    monkeypatch.setattr(Exchange, "offer", watched(Exchange.offer))
    monkeypatch.setattr(ssvi, "record_criteria", watched(ssvi.record_criteria))
    scores(toy(precision="bfloat16", addition=addition, replace_every=4, sparsity=0.5), tmp_path)
    assert seen == {("offer", False, torch.float32), ("record_criteria", False)}


def test_bfloat16_noise_has_the_variance_of_float32():
    """Local reparameterisation under autocast: moments of pre-activations over many draws."""
    found = {}
    for precision in ("float32", "bfloat16"):
        # computed alike, so that the draws are paired
        chosen = spec("static_vi", precision=precision, initial_std=0.2)
        problem = make_problem(chosen, Execution(mode="dense"))
        module = problem.build(Streams(0)).eval()
        inputs = next(problem.training_batches(Streams(0)))[0][:8]
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad(), problem.autocast(), passes.local_noise(generator):
            found[precision] = torch.stack([module(inputs).float() for _ in range(400)])
    means, spreads = ([f.mean(0) for f in found.values()], [f.std(0) for f in found.values()])
    assert torch.allclose(*means, atol=0.25 * float(spreads[0].mean()))
    assert torch.allclose(*spreads, rtol=0.1)


@pytest.mark.parametrize("method", ["dense_vi", "ssvi"])
def test_channels_last_changes_the_layout_and_not_the_result(method, tmp_path):
    chosen = spec(method)
    plain = scores(chosen, tmp_path / "a", Execution(mode="dense"))
    execution = Execution(channels_last=True, mode="dense")
    problem = make_problem(chosen, execution)
    module = problem.build(Streams(0))
    features = module.conv1(next(problem.training_batches(Streams(0)))[0])
    assert features.is_contiguous(memory_format=torch.channels_last) and not features.is_contiguous()
    other = scores(chosen, tmp_path / "b", execution)
    assert other == pytest.approx(plain, abs=0.02)
    assert Store(tmp_path / "b").run(chosen.run_id).read("provenance")["channels_last"] is True


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on the CPU")
def test_a_compiled_network_gives_the_same_result(tmp_path):
    chosen = spec(replace_every=5, test=50, val=50)
    plain = scores(chosen, tmp_path / "a")
    counters = torch._dynamo.utils.counters["stats"]
    counters.clear()
    assert scores(chosen, tmp_path / "b", Execution(compile=True)) == pytest.approx(plain, abs=0.05)
    assert counters["unique_graphs"] > 0


# -- length and time --------------------------------------------------------------------------


def test_a_run_is_cut_short_after_so_many_steps(tmp_path):
    """The stage ends within an epoch, with the schedules of a whole training, and is scored as usual."""
    short, store = toy("ssvi", max_steps=8, replace_every=3), Store(tmp_path, create=True)
    assert execute(short, store, EVERY_EPOCH) == "done"
    folder = store.run(short.run_id)
    costs, status = folder.read("costs"), folder.read("status")
    assert (costs["steps_total"], costs["epochs_total"]) == (8, 2)  # six batches of 16 are an epoch of 90
    assert (status["step"], status["steps"]) == (8, 8)
    images = 90 + 2 * 16
    assert costs["dense_vi_train_flops"] == images * 6 * 2 * (8 * 16 + 16 * 3)
    assert costs["train_flops"] < costs["dense_vi_train_flops"]
    whole = toy("ssvi", replace_every=3)
    assert execute(whole, store, EVERY_EPOCH) == "done"

    def rates(folder):
        return [r["value"] for r in folder.rows("history") if r["metric"] in ("lr", "kl_weight")]

    assert rates(folder) == rates(store.run(whole.run_id))[: len(rates(folder))]


def test_the_limit_is_left_out_of_ids_where_there_is_none():
    assert toy(max_steps=None).run_id == toy().run_id != toy(max_steps=5).run_id


def test_steps_are_timed_after_a_warm_up(tmp_path):
    """Each process does not time its first steps; timed steps add up over interruptions."""
    problem = make_problem(toy())
    whole = new_trainer(problem, tmp_path / "whole")
    whole.run()
    assert whole.state.counters.steps == 24
    assert whole.state.counters.timed_steps == 24 - WARM_UP_STEPS
    assert 0 < whole.state.counters.timed_seconds < whole.state.counters.train_seconds

    asked = iter(range(15))  # stopped in the third epoch of six steps
    with pytest.raises(Stopped):
        new_trainer(problem, tmp_path / "sliced", lambda: next(asked, None) is None).run()
    rest = new_trainer(problem, tmp_path / "sliced")
    rest.run()
    assert rest.state.counters.steps == 24
    assert rest.state.counters.timed_steps == (15 - WARM_UP_STEPS) + max(24 - 15 - WARM_UP_STEPS, 0)


def test_a_run_goes_on_elsewhere_from_its_beginning(tmp_path):
    """Random numbers of a GPU can't be continued on a CPU, so its checkpoint is ignored here."""
    store, chosen = Store(tmp_path, create=True), toy()
    asked = iter(range(15))
    stopped = execute(chosen, store, EVERY_EPOCH, stop=lambda: next(asked, None) is None)
    assert stopped == "preempted"
    path = store.run(chosen.run_id).path / CHECKPOINT
    state = checkpoints.load(path)
    state["device"] = "cuda"
    state["streams"] = {name: value[:16] for name, value in state["streams"].items()}
    checkpoints.save(path, state)
    assert execute(chosen, store, EVERY_EPOCH) == "done"
    whole = scores(chosen, tmp_path / "whole")
    rows = store.run(chosen.run_id).read("metrics")["metrics"]
    assert {(r["predictor"], r["split"], r["metric"]): r["value"] for r in rows} == whole


def test_a_cut_is_shared_among_stages_and_the_ratio_stays(tmp_path):
    """Two stages of half the budget have half of the steps; FLOPs over those of dense VI are as uncut."""
    store, ratios = Store(tmp_path, create=True), []
    for options in ({}, {"max_steps": 12}):
        chosen = toy("toy_two_stage", epochs=4, **options)
        assert execute(chosen, store, EVERY_EPOCH) == "done"
        costs = store.run(chosen.run_id).read("costs")
        ratios.append(costs["train_flops"] / costs["dense_vi_train_flops"])
    assert costs["steps_total"] == 12
    assert ratios[0] == pytest.approx(ratios[1])


def test_a_cut_before_what_is_rewound_to_is_refused_in_one_line():
    preflight.check(toy("toy_two_stage", epochs=4, max_steps=12))
    with pytest.raises(UserError, match="max_steps: 10 ends before epoch 1 does, to which stage 'final' "):
        preflight.check(toy("toy_two_stage", epochs=4, max_steps=10))


def test_what_is_timed_is_not_watched(tmp_path):
    """Updates are recorded only in whole runs, because recording would change the seconds per step."""
    store = Store(tmp_path, create=True)
    for options, recorded in (({}, True), ({"max_steps": 20}, False)):
        chosen = toy(replace_every=3, **options)
        assert execute(chosen, store, EVERY_EPOCH) == "done"
        folder = store.run(chosen.run_id)
        assert folder.read("costs")["events"]["dense_gradient"] > 2
        assert bool(folder.rows("layers")) == bool(folder.rows("criteria_pairs")) == recorded


@pytest.fixture
def own_machine(tmp_path, monkeypatch):
    """Use a lock that no other grid holds."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def test_the_machine_is_shared_unless_time_is_measured(own_machine):
    with machine_lock.held(alone=False) as first, machine_lock.held(alone=False) as second:
        assert first and second
        with pytest.raises(machine_lock.Busy), machine_lock.held(alone=True):
            pass
    with machine_lock.held(alone=True) as alone:
        assert alone
        with machine_lock.held(alone=False) as beside:
            assert not beside
        with pytest.raises(machine_lock.Busy), machine_lock.held(alone=True):
            pass
    with machine_lock.held(alone=True) as again:
        assert again


TIMING = (
    "question: How long?\none_at_a_time: true\nscales: {demo: {seeds: 0-1, base: {dataset: toy_blobs, "
    "network: toy_network, epochs: 1}, grids: [{method: dense_vi}]}}\n"
)


def test_a_suite_that_measures_time_does_not_begin_beside_another_grid(own_machine, tmp_path):
    (suite := tmp_path / "timing.yaml").write_text(TIMING)
    arguments = ["--suite", str(suite), "--results", str(tmp_path / "results"), "--executor", "inline"]
    with (
        machine_lock.held(alone=False),
        pytest.raises(UserError, match="suite timing measures time, and another"),
    ):
        grid.main(arguments)
    assert grid.main(arguments) == 0


def test_times_that_cannot_be_compared_are_named(own_machine, tmp_path, capsys):
    (suite := tmp_path / "timing.yaml").write_text(TIMING)
    arguments = ["--suite", str(suite), "--results", str(tmp_path / "results"), "--executor", "inline"]
    assert grid.main([*arguments, "--seeds", "0"]) == 0
    assert "not comparable" not in capsys.readouterr().out
    assert grid.main([*arguments, "--channels-last"]) == 0
    shown = capsys.readouterr().out
    assert "whose times are not comparable: 1, computed with another device, threads, " in shown


def test_a_suite_that_measures_time_has_one_worker(capsys, own_machine, tmp_path):
    suite = tmp_path / "timing.yaml"
    suite.write_text(TIMING)
    arguments = ["--suite", str(suite), "--results", str(tmp_path / "results")]
    with pytest.raises(SystemExit) as caught:
        entry(lambda: grid.main([*arguments, "--workers", "2"]))
    assert caught.value.code == 2
    assert "--workers 2: suite" in (error := capsys.readouterr().err) and error.count("\n") == 1
    assert not (tmp_path / "results").exists()
    assert grid.main([*arguments, "--executor", "inline", "--threads", "1"]) == 0
    runs = Store(tmp_path / "results").read_tables("timing")["runs"]
    assert set(runs["concurrency"]) == {1} and (runs["status"] == "done").all()
