"""Workdirs of release 0.1 are read under their present names, and only a claim renames."""

import json

import pytest

from adapler_jax.training.workdir import CONFIG_FILE, check_workdir_config, claim_workdir

OLD = {"method": "distil", "distil": {"num_epochs": 1}}
NEW = {"method": "distill", "distill": {"num_epochs": 1}}


@pytest.fixture(name="workdir")
def _workdir(tmp_path):
    (tmp_path / CONFIG_FILE).write_text(json.dumps(OLD))
    (tmp_path / "distil").mkdir()
    return tmp_path


def test_a_rejected_config_renames_no_phase(workdir):
    with pytest.raises(ValueError, match="holds another run"):
        check_workdir_config(workdir, NEW | {"seed": 1})
    with pytest.raises(ValueError, match="holds another run"):
        claim_workdir(workdir, NEW | {"seed": 1})
    check_workdir_config(workdir, NEW)
    assert (workdir / "distil").is_dir() and not (workdir / "distill").exists()


def test_an_unfinished_phase_of_an_old_name_takes_no_more_epochs(workdir):
    with pytest.raises(ValueError, match="holds another run"):
        check_workdir_config(workdir, NEW | {"distill": {"num_epochs": 2}})


def test_a_claim_renames_the_phase_and_leaves_a_link(workdir):
    claim_workdir(workdir, NEW)
    assert (workdir / "distill").is_dir() and not (workdir / "distill").is_symlink()
    assert (workdir / "distil").resolve() == (workdir / "distill").resolve()
