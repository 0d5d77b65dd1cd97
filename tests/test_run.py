"""``bench.run``: one cell in this process."""

from __future__ import annotations

import pytest

from bench import claims, cli, run
from bench.store import Store
from tests import toys  # noqa: F401  (registers the toys)

TOY = "dataset=toy_blobs,network=toy_network,method=ssvi,epochs=1,batch_size=16"


@pytest.fixture
def call(tmp_path, capsys):
    """Call the command as its process would: exit status, standard output, standard error."""

    def call(*arguments):
        with pytest.raises(SystemExit) as caught:
            cli.entry(lambda: run.main([*arguments, "--results", str(tmp_path / "results")]))
        return caught.value.code, *capsys.readouterr()

    return call


def only_run(tmp_path):
    store = Store(tmp_path / "results")
    (folder,) = (tmp_path / "results" / "runs").iterdir()
    return store, store.run(folder.name)


def test_a_run_is_computed_once_and_again_by_force(call, tmp_path):
    assert call("--set", TOY)[0] == 0
    _, folder = only_run(tmp_path)
    before = (folder.path / "metrics.json").stat().st_mtime_ns
    status, out, _ = call("--set", TOY)
    assert status == 0 and "is done already" in out
    assert (folder.path / "metrics.json").stat().st_mtime_ns == before
    status, out, _ = call("--set", TOY, "--force")
    assert status == 0 and "is done already" not in out
    assert (folder.path / "metrics.json").stat().st_mtime_ns > before


def test_a_run_that_another_process_is_at_is_left_alone(call, tmp_path):
    call("--set", TOY)
    _, folder = only_run(tmp_path)
    claim = claims.acquire(folder)
    rows = (folder.path / "history.jsonl").read_bytes()
    status, _, err = call("--set", TOY, "--force")
    assert status == 2
    assert err.startswith(f"error: run {folder.run_id}: process ") and err.endswith(" is at it\n")
    assert (folder.path / "history.jsonl").read_bytes() == rows
    claim.release()
    assert call("--set", TOY)[0] == 0


def test_the_claim_is_given_up_in_the_end(call, tmp_path):
    call("--set", TOY)
    _, folder = only_run(tmp_path)
    assert claims.holder(folder) is None


def test_a_damaged_folder_is_set_aside_and_run_again(call, tmp_path):
    call("--set", TOY)
    _, folder = only_run(tmp_path)
    (folder.path / "metrics.json").unlink()
    status, out, _ = call("--set", TOY)
    assert status == 0
    assert f"what there was of {folder.run_id} is in " in out
    assert (folder.path / "metrics.json").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--threads", "0"], "'0' is not a positive whole number"),
        (["--set", "sparsity=1"], r"sparsity: 1.0 lies outside [0, 1)"),
        (["--set", "network=cnn", "--set", "network.channels=[]"], "needs at least one convolution"),
        (["--set", "network.hidden=[1099511627776]"], "network mlp: cannot be built: "),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(call, tmp_path, arguments, words):
    status, out, err = call(*arguments)
    assert (status, out) == (2, "")
    assert err.startswith("error: ") and words in err and err.count("\n") == 1
    assert not (tmp_path / "results").exists()
