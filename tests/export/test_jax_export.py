"""An exported program gives the results of the ordinary one, or is ignored."""

import dataclasses
import pathlib
import warnings
import zipfile

import jax
import jax.export
import jax.numpy as jnp
import pytest

import adapler_jax
from adapler_jax.export import signing
from adapler_jax.export.jax_export import export_model
from adapler_jax.export.program_spec import PLATFORMS, SOURCES
from adapler_jax.inference.classifier import Classifier
from adapler_jax.inference.engine import Engine
from adapler_jax.weights.save import load_model, save_model
from benchmarks.compilations import compilations
from tests.inference.test_classifier import BUCKETS, CONFIG, TEXTS, assert_same, make_model
from tests.marks import mostly_long

PRUNERS = ("adapler", "keep_all")


@pytest.fixture(scope="module", name="exported_dirs")
def _exported_dirs(tmp_path_factory):
    """Return model directories with exported programs."""
    directories = {
        name: make_model(tmp_path_factory.mktemp("exported") / name, name) for name in PRUNERS
    }
    for directory in directories.values():
        export_model(directory, buckets=BUCKETS)
    return directories


def load(directory, **options):
    """Return a classifier that runs the programs in its directory."""
    return Classifier.load(directory, programs=True, **options)


def uses_export(classifier):
    """Return True if exported programs run, not the engine itself."""
    return not isinstance(classifier.run, Engine)


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "driver"),
    [("adapler", "packed"), ("keep_all", "bucketed")],
)
def test_predictions_equal_the_ordinary_programs(exported_dirs, tmp_path, name, driver):
    found = load(exported_dirs[name], buckets=BUCKETS, driver=driver)
    expected = Classifier.load(make_model(tmp_path / name, name), driver="masked")
    assert uses_export(found) and not uses_export(expected)
    for texts, batch_size in ((TEXTS, 3), (TEXTS[2:3], 4)):
        pairs = zip(
            found.predict(texts, batch_size=batch_size),
            expected.predict(texts, batch_size=batch_size),
        )
        for answer, wanted in pairs:
            assert_same(answer, wanted)


@pytest.mark.parametrize("driver", mostly_long(["bucketed", "packed"], quick=["packed"]))
def test_a_model_of_one_layer_is_exported(tmp_path, driver):
    """Its first layer is its last one."""
    saved = load_model(make_model(tmp_path / "deep", "adapler"))
    config = dataclasses.replace(CONFIG, num_layers=1)
    params = saved.params | {
        "encoder": saved.params["encoder"]
        | {"layers": jax.tree.map(lambda leaf: leaf[:1], saved.params["encoder"]["layers"])},
        "pruner": jax.tree.map(lambda leaf: leaf[:1], saved.params["pruner"]),
    }
    directory = save_model(
        tmp_path / "flat",
        params,
        config,
        pruner_name="adapler",
        class_names=saved.class_names,
        max_length=saved.max_length,
        tokenizer=tmp_path / "deep",
    )
    expected = Classifier.load(directory, driver="masked").predict(TEXTS)
    export_model(directory, buckets=BUCKETS, driver=driver)
    found = load(directory, buckets=BUCKETS, driver=driver)
    assert uses_export(found)
    for answer, wanted in zip(found.predict(TEXTS, batch_size=4), expected):
        assert_same(answer, wanted)


@pytest.mark.long
@pytest.mark.parametrize("driver", ["bucketed", "packed"])
def test_one_text_compiles_one_layer_for_all_and_a_batch_one_program(exported_dirs, driver):
    classifier = load(exported_dirs["adapler"], buckets=BUCKETS, driver=driver)
    with compilations() as compiled:
        classifier.predict(TEXTS[:1])
        assert len(compiled) == 4  # the last layer is another program than the others
        classifier.predict(TEXTS[:2])
        assert len(compiled) == 5


@pytest.mark.long
@pytest.mark.parametrize("name", PRUNERS)
def test_the_program_is_for_every_batch_size_and_platform(exported_dirs, name):
    programs = {}
    for driver in ("bucketed", "packed"):
        with zipfile.ZipFile(exported_dirs[name] / f"program-{driver}-float32.zip") as archive:
            for path in archive.namelist()[1:]:
                programs[f"{driver}/{path}"] = jax.export.deserialize(bytearray(archive.read(path)))
    for path, exported in programs.items():
        variant = path.split("/")[2]
        assert exported.platforms == (PLATFORMS if variant == "any" else (variant,))
        assert any(
            jax.export.is_symbolic_dim(size) for aval in exported.in_avals for size in aval.shape
        ) == (variant == "any")


@pytest.mark.long
def test_new_weights_keep_the_program(exported_dirs):
    directory = exported_dirs["adapler"]
    saved = load_model(directory)
    params = saved.params | {"head": jax.tree.map(lambda leaf: -leaf, saved.params["head"])}
    save_model(
        directory, params, CONFIG, pruner_name="adapler", class_names=("neg", "pos"), max_length=16
    )
    try:
        classifier = load(directory, buckets=BUCKETS)
        ordinary = Classifier.load(directory, driver="masked")
        assert uses_export(classifier)
        for found, expected in zip(classifier.predict(TEXTS), ordinary.predict(TEXTS)):
            assert_same(found, expected)
    finally:
        save_model(
            directory,
            saved.params,
            CONFIG,
            pruner_name="adapler",
            class_names=("neg", "pos"),
            max_length=16,
        )


@pytest.mark.long
def test_a_program_for_other_buckets_is_ignored(exported_dirs):
    with pytest.warns(
        UserWarning, match="not used .it was made for another buckets.; export it again"
    ):
        assert not uses_export(load(exported_dirs["adapler"], buckets=(8, 16), driver="packed"))


@pytest.mark.long
@pytest.mark.parametrize("options", [{"dtype": jnp.bfloat16}, {"driver": "masked"}])
def test_another_dtype_or_driver_has_another_file(exported_dirs, options):
    assert not uses_export(load(exported_dirs["adapler"], buckets=BUCKETS, **options))


@pytest.mark.long
def test_changed_code_is_noticed(exported_dirs, monkeypatch):
    monkeypatch.setattr("adapler_jax.export.program_spec.digest_of_code", lambda: "changed")
    with pytest.warns(UserWarning, match="another code"):
        assert not uses_export(load(exported_dirs["adapler"], buckets=BUCKETS, driver="packed"))


def flip(content):
    """Change one byte."""
    place = len(content) // 3
    return content[:place] + bytes([content[place] ^ 255]) + content[place + 1 :]


@pytest.mark.long
@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[: len(content) // 2],
        lambda content: content[: int(0.999 * len(content))],
        flip,
    ],
    ids=["empty", "half", "torn", "flipped"],
)
def test_a_damaged_program_is_ignored(exported_dirs, damage):
    path = exported_dirs["keep_all"] / "program-bucketed-float32.zip"
    content = path.read_bytes()
    path.write_bytes(damage(content))
    try:
        with pytest.warns(UserWarning, match="is not used"):
            assert not uses_export(
                load(exported_dirs["keep_all"], buckets=BUCKETS, driver="bucketed")
            )
    finally:
        path.write_bytes(content)


def warning_of(directory):
    """Return the warning of a load that ignores the bucketed program."""
    with pytest.warns(UserWarning) as caught:
        assert not uses_export(load(directory, buckets=BUCKETS, driver="bucketed"))
    (message,) = [str(warning.message) for warning in caught if "not used" in str(warning.message)]
    assert str(directory / "program-bucketed-float32.zip") in message and "\n" not in message
    return message


@pytest.mark.long
def test_programs_run_only_on_request(exported_dirs, monkeypatch):
    directory = exported_dirs["adapler"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not uses_export(Classifier.load(directory, buckets=BUCKETS))
        monkeypatch.setenv("ADAPLER_PROGRAMS", "1")
        assert uses_export(Classifier.load(directory, buckets=BUCKETS))
        assert not uses_export(Classifier.load(directory, buckets=BUCKETS, programs=False))
        monkeypatch.setenv("ADAPLER_PROGRAMS", "0")
        assert not uses_export(Classifier.load(directory, buckets=BUCKETS))


@pytest.mark.long
def test_a_program_of_another_user_is_ignored_unread(exported_dirs, monkeypatch, tmp_path):
    directory = exported_dirs["keep_all"]
    monkeypatch.setattr("jax.export.deserialize", lambda *_: pytest.fail("it was read"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "another"))
    assert "this user has exported no program" in warning_of(directory)
    signing.make_key()
    assert "it was not exported by this user, or is damaged" in warning_of(directory)


@pytest.mark.long
def test_a_program_without_a_signature_is_ignored(exported_dirs):
    path = exported_dirs["keep_all"] / "program-bucketed-float32.zip"
    content = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, entry in entries.items():
            archive.writestr(name, entry)
    try:
        assert "not exported by this user" in warning_of(exported_dirs["keep_all"])
    finally:
        path.write_bytes(content)


@pytest.mark.long
def test_a_signed_program_with_a_foreign_custom_call_is_ignored(exported_dirs, monkeypatch):
    monkeypatch.setattr(signing, "CUSTOM_CALLS", set())
    assert "it calls shape_assertion" in warning_of(exported_dirs["adapler"])
    with pytest.raises(ValueError, match="it calls shape_assertion"):
        export_model(exported_dirs["adapler"], buckets=BUCKETS, driver="bucketed")


@pytest.mark.long
def test_a_failed_export_leaves_the_file_that_was_there(exported_dirs, monkeypatch):
    directory = exported_dirs["adapler"]
    before = {path.name: path.read_bytes() for path in directory.iterdir()}
    monkeypatch.setattr(
        "adapler_jax.export.jax_export.sign", lambda *_: (_ for _ in ()).throw(OSError("disk full"))
    )
    monkeypatch.setattr("adapler_jax.export.jax_export.export_pieces", lambda *_, **__: {})
    with pytest.raises(OSError, match="disk full"):
        export_model(directory, buckets=BUCKETS, driver="bucketed")
    assert {path.name: path.read_bytes() for path in directory.iterdir()} == before


@pytest.mark.long
def test_a_driver_without_an_export_is_named(exported_dirs):
    with pytest.raises(
        ValueError, match="driver 'masked' cannot be exported; expected auto or bucketed or packed"
    ):
        export_model(exported_dirs["adapler"], driver="masked")


def test_every_source_that_decides_a_program_is_found():
    folder = pathlib.Path(adapler_jax.__file__).parent
    assert [pattern for pattern in SOURCES if not any(folder.glob(pattern))] == []
