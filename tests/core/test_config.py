from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from conftest import error_line
from featherseg.core.config import Config, LossConfig, ModelConfig
from featherseg.core.errors import ConfigError
from featherseg.core.recipes import config_from_dict, config_to_dict, config_to_toml, load_config

RECIPES = sorted((Path(__file__).resolve().parents[2] / "recipes").glob("*.toml"))


def refusal(*overrides: str) -> str:
    return error_line(ConfigError, load_config, None, overrides)


def test_defaults_without_a_recipe() -> None:
    assert load_config() == Config()


def test_a_recipe_and_its_overrides(tmp_path: Path) -> None:
    recipe = tmp_path / "r.toml"
    recipe.write_text('name = "x"\n[optim]\nlr = 0.1\n[model.options]\nwidth = 0.5\n')
    config = load_config(
        recipe,
        ["optim.lr=1e-3", "model.options.deep=true", "data.root=/some where/x", "augment.crop=[64, 96]", "seed=7"],
    )
    assert (config.name, config.optim.lr, config.seed) == ("x", 1e-3, 7)
    assert config.model.options == {"width": 0.5, "deep": True}
    assert config.data.root == "/some where/x"
    assert config.augment.crop == (64, 96)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_published_recipes_are_valid(recipe: Path) -> None:
    config = load_config(recipe)
    assert config.model.name


def test_toml_round_trip(tmp_path: Path) -> None:
    config = config_from_dict(
        {
            "name": 'quo"te\\ü',
            "optim": {"encoder_lr": 3e-4, "lr": 1.5e-3},
            "loss": {"out": [{"name": "ohem", "thresh": 0.7}, {"name": "dice"}], "class_weights": [1.0, 2.5]},
            "augment": {"crop": [65, 97], "scale": [1, 1]},
            "model": {"options": {"encoder": "resnet34", "sizes": [1, 2], "deep": {"a": False}}},
        }
    )
    file = tmp_path / "config.toml"
    file.write_text(config_to_toml(config), encoding="utf-8")
    assert load_config(file) == config
    assert config.optim.encoder_lr == 3e-4


def test_none_is_left_out_of_toml() -> None:
    assert "encoder_lr" not in config_to_dict(Config())["optim"]
    config = Config(loss=LossConfig(out=({"name": "ohem", "min_kept": None},)))
    assert config_to_dict(config)["loss"]["out"] == [{"name": "ohem"}]
    assert "min_kept" not in config_to_toml(config)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("optim.learning_rat=1", "unknown setting 'optim.learning_rat'; known:"),
        ("trian.epochs=3", "unknown setting 'trian'; did you mean \"train\"?"),
        ("train.epoch=3", "unknown setting 'train.epoch'; did you mean \"epochs\"?"),
        ("optim.lr=0", "optim.lr is 0:"),
        ("optim.lr=nan", "optim.lr is nan"),
        ("optim.lr=inf", "optim.lr is inf"),
        ("optim.lr=fast", "optim.lr is 'fast'"),
        ("optim.momentum=1.0", "optim.momentum is 1.0"),
        ("optim.name=adam", "optim.name is 'adam': choose adamw, sgd"),
        ("train.epochs=1.5", "train.epochs is 1.5"),
        ("train.epochs=0", "train.epochs is 0"),
        ("augment.flip=1.1", "augment.flip is 1.1"),
        ("augment.crop=[0, 64]", "augment.crop[0] is 0"),
        ("augment.crop=[64]", "augment.crop is [64]"),
        ("augment.scale=[2.0, 0.5]", "the smallest scale comes first"),
        ("loss.class_weights=[1.0, -1.0]", "loss.class_weights[1] is -1.0"),
        ("loss.class_weights=some", "loss.class_weights is 'some': choose none, auto"),
        ("model=3", "model is 3"),
        ("model.name.x=3", "setting model.name: expected `str`"),
        ("model.options.num_classes=3", "option 'num_classes' is not given here but by"),
        ("data.options.split=val", "option 'split' is not given here but by data.train_split"),
        ("optim.lr", "override 'optim.lr' is not key=value"),
        ("=3", "override '=3' is not key=value"),
        ("augment.cutmix=1.1", "augment.cutmix is 1.1"),
        ("distill.teacher=['a', 3]", "distill.teacher[1] is 3"),
        ("distill.teacher=['a', '']", "distill.teacher[1] is ''"),
        ('model.init=["a\\tb"]', "init is 'a\\tb', with a tab or line break"),
        ("distill.classes={Car=3}", "distill.classes"),
    ],
)
def test_wrong_settings_are_refused(override: str, words: str) -> None:
    assert words in refusal(override)


def test_a_value_is_no_section() -> None:
    assert "'seed' is a value, not a section" in refusal("seed=3", "seed.x=4")


def test_a_missing_or_broken_recipe_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no\.toml does not exist"):
        load_config(tmp_path / "no.toml")
    broken = tmp_path / "b.toml"
    broken.write_bytes(b"a = \n[")
    with pytest.raises(ConfigError, match=r"b\.toml is not TOML"):
        load_config(broken)
    broken.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match=r"b\.toml is not TOML"):
        load_config(broken)


def test_configurations_are_frozen_and_share_nothing() -> None:
    config: Any = Config()
    with pytest.raises(AttributeError):
        config.seed = 3
    with pytest.raises(AttributeError):
        config.model.name = "x"
    config.model.options["width"] = 0.5
    config.loss.out[0]["weight"] = 3.0
    assert Config().model == ModelConfig()
    assert Config().model.options == {}
    assert Config().loss.out == ({"name": "cross_entropy"},)


@pytest.mark.parametrize("text", ["2024", "1e3", "true", "inf", "2024-05-01", "[photos]", "007", r"C:\new", "a=b"])
def test_texts_are_taken_as_they_are_typed(text: str) -> None:
    settings = ("data.root", "name", "model.init", "distill.teacher")  # the last two take a list besides
    config = load_config(None, [f"{setting}={text}" for setting in settings])
    assert {config.data.root, config.name, config.model.init, config.distill.teacher} == {text}


def test_starts_and_teachers_may_be_several(tmp_path: Path) -> None:
    config = load_config(None, ['model.init=["a", "b"]', "distill.teacher=['c']", 'distill.classes={Car = ["x", "y"]}'])
    assert (config.model.starts, config.distill.teachers) == (("a", "b"), ("c",))
    assert config.distill.classes == {"Car": ("x", "y")}
    (tmp_path / "config.toml").write_text(config_to_toml(config))
    assert load_config(tmp_path / "config.toml") == config
    assert Config().model.starts == Config().distill.teachers == ()


@pytest.mark.parametrize(
    ("text", "path"),
    [
        (r'"C:\tiles\new"', r"C:\tiles\new"),
        (r"'C:\tiles\new'", r"C:\tiles\new"),
        (r'"C:\\tiles\\new"', r"C:\tiles\new"),
        (r'"\\server\new"', r"\\server\new"),
        (r"C:\Users\ann", r"C:\Users\ann"),
        ('"some where"', "some where"),
    ],
)
def test_windows_paths_with_and_without_quotes(text: str, path: str) -> None:
    assert load_config(None, [f"data.root={text}"]).data.root == path
    assert load_config(None, [f"data.options.classes={text}"]).data.options["classes"] == path


@pytest.mark.parametrize(("text", "number"), [(".5", 0.5), ("5.", 5.0), ("1e-3", 1e-3), ("+.5e0", 0.5), ("01", 1)])
def test_numbers_as_people_write_them(text: str, number: float) -> None:
    config = load_config(None, [f"optim.lr={text}", f"model.options.width={text}"])
    assert config.optim.lr == config.model.options["width"] == number


def test_spaces_and_truth_as_people_write_them() -> None:
    config = load_config(None, ["train.epochs = 3", "data.cache=False", "train.channels_last=True"])
    assert (config.train.epochs, config.data.cache, config.train.channels_last) == (3, False, True)
    assert load_config(None, ["train.device=0"]).train.device == "0"  # refused later, by name, not as a number
    assert load_config(None, ["data.options.year=2012"]).data.options["year"] == 2012


def test_windows_paths_in_recipes(tmp_path: Path) -> None:
    recipe = tmp_path / "r.toml"
    for text, words in ((r'root = "C:\photos"', "single quotes"), (r'root = "C:\new"', "tab or line break")):
        recipe.write_text(f"[data]\n{text}\n")
        assert words in error_line(ConfigError, load_config, recipe)
    recipe.write_text("[data]\nroot = 'C:\\photos'\n")
    assert load_config(recipe).data.root == r"C:\photos"


def test_quotes_that_toml_does_not_take_are_refused() -> None:
    assert "leave the quotes out" in refusal(r'data.options.group="^\d+"')
    assert load_config(None, [r"data.options.group=^\d+"]).data.options["group"] == r"^\d+"
