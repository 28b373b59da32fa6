"""What a user may get wrong: a sentence that names it, and status 1."""

import json
import shutil
import sys

import keras
import numpy as np
import pytest

from tests.command_line.program import ended, fails


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Models and data to get wrong."""
    folder = tmp_path_factory.mktemp("mistakes")
    layers = [keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(10)]
    keras.Sequential(layers).save(folder / "my.keras")
    vectors = [keras.Input((9,)), keras.layers.Dense(3)]
    keras.Sequential(vectors).save(folder / "vectors.keras")
    scaled = [keras.Input((8, 8, 1)), keras.layers.Rescaling(1 / 255), *layers[1:]]
    keras.Sequential(scaled).save(folder / "scaled.keras")
    any_size = [
        keras.Input((None, None, 3)),
        keras.layers.GlobalAveragePooling2D(),
        keras.layers.Dense(2),
    ]
    keras.Sequential(any_size).save(folder / "any_size.keras")
    two = [keras.Input((8, 8, 3)), keras.layers.Flatten(), keras.layers.Dense(2)]
    keras.Sequential(two).save(folder / "two.keras")
    (folder / "cut.keras").write_bytes((folder / "my.keras").read_bytes()[:500])
    (folder / "text.txt").write_text("no data")
    (folder / "cut.npz").write_text("no arrays")
    np.savez(folder / "other.npz", a=np.zeros(3))
    images = np.zeros((4, 8, 8, 1))
    np.savez(folder / "short.npz", x=images, y=np.zeros(3))
    np.savez(folder / "wide.npz", x=images + 7.0, y=np.zeros(4))
    for name, card in (
        ("carded", "{"),
        ("told", '{"epsilon": 0}'),
        ("odd", '{"e": 1}'),
    ):
        shutil.copy(folder / "my.keras", folder / f"{name}.keras")
        (folder / f"{name}.card.json").write_text(card)
    (folder / "run").mkdir()
    (folder / "run" / "settings.json").write_text("{}")
    (folder / "unfinished").mkdir()
    from keras_free_adv import recipes

    settings = {**recipes.get("digits_free4").to_dict(), "seed": 0}
    written = json.dumps({"settings": settings})
    (folder / "unfinished" / "settings.json").write_text(written)
    (folder / "nothing").mkdir()
    for name in (
        *("one/cat", "nested/test/cat", "nested/test/dog", "empty/cat"),
        *("both/train/cat", "both/train/dog", "both/test/cat", "both/test/dog"),
    ):
        (folder / name).mkdir(parents=True)
        keras.utils.save_img(folder / name / "1.png", np.zeros((9, 9, 3)))
    (folder / "empty" / "dog").mkdir()
    for name in ("cat", "dog"):
        (folder / "broken" / name).mkdir(parents=True)
        (folder / "broken" / name / "1.jpg").write_text("no photograph")
    for number in range(11):
        (folder / "eleven" / str(number)).mkdir(parents=True)
        shutil.copy(folder / "one/cat/1.png", folder / "eleven" / str(number))
    (folder / "their_data.py").write_text("nothing = 3\ndef wrong(): return 3\n")
    return folder


MISTAKES = [
    ("evalute my.keras digits", "There is no command 'evalute'. The commands are"),
    ("evaluate", "takes MODEL [DATA]. Received: none"),
    ("evaluate my.keras digits more", "takes MODEL [DATA]. Received: my.keras digits"),
    ("evaluate my.keras --exampels=3", "Did you mean: examples"),
    ("evaluate my.keras --examples=many", "--examples must be a whole number. Rec"),
    ("evaluate my.keras --examples=0", "--examples=0"),
    ("evaluate my.keras --norm=l1", "should be one of <linf|l2>"),
    ("evaluate their.keras digits", "There is no model 'their.keras'"),
    ("evaluate cut.keras digits", "cut.keras cannot be loaded: it is damaged"),
    ("evaluate text.txt digits", "text.txt cannot be loaded"),
    ("evaluate nothing digits", "nothing is not the folder of a run"),
    ("evaluate run digits", "settings.json is damaged"),
    ("evaluate unfinished", "has no model.keras: its training has not ended"),
    ("evaluate my.keras digits", "Nothing says how far a pixel may change"),
    ("evaluate my.keras digits --epsilon=8", "Did you mean 8/255?"),
    ("probe digits my.keras digits --timeout=soon", "--timeout must be a number."),
    ("evaluate my.keras digits --epsilon=8/0", "a number above 0, such as 8/255"),
    ("evaluate my.keras digits --epsilon=-1", "a number above 0, such as 8/255"),
    ("evaluate my.keras digits --epsilon=eight", "a number above 0, such as 8/255"),
    ("evaluate my.keras --epsilon=0.1", "DATA is needed"),
    ("evaluate vectors.keras digits --epsilon=0.1", "must take images [batch, height"),
    ("evaluate my.keras digit --epsilon=0.1", "no data set 'digit'"),
    ("evaluate my.keras photos/train --epsilon=0.1", "no data set 'photos/train'"),
    ("evaluate my.keras text.txt --epsilon=0.1", "another kind of file"),
    ("evaluate my.keras nothing --epsilon=0.1", "has no subfolder with images"),
    ("evaluate my.keras one --epsilon=0.1", "one subfolder, 'cat', and a classifier"),
    (
        "evaluate my.keras nested --epsilon=0.1",
        "the classes? Pass one of them: 'nested/test'",
    ),
    ("evaluate my.keras empty --epsilon=0.1", "subfolders without an image: dog"),
    ("evaluate two.keras broken --epsilon=0.1", "no image that can be decoded"),
    ("evaluate my.keras eleven --epsilon=0.1", "has 11 classes, and the model knows"),
    ("evaluate my.keras nested/test --epsilon=0.1", "has 2 classes, and the model kno"),
    (
        "evaluate my.keras both --epsilon=0.1",
        "are these the classes? Pass one of them: 'both/test', 'both/train'",
    ),
    ("train nested/test --recipe=photos --monitor_every=2", "--monitor_every is for"),
    ("evaluate digits_free digits --norm=l2", "--norm=l2 needs an epsilon of its own"),
    ("evaluate digits_free nested/test", "has other classes than the model"),
    ("evaluate any_size.keras nested/test --epsilon=0.1", "Pass --image_size=224"),
    (
        "evaluate two.keras nested/test --epsilon=0.1 --split=x",
        "--split is for an .npz",
    ),
    ("evaluate my.keras digits --epsilon=0.1 --crop", "--crop is for a folder. Rec"),
    ("evaluate my.keras digits --epsilon=0.1 --pixels=0,1", "--pixels is for an .npz"),
    (
        "evaluate my.keras digits --epsilon=0.1 --image_size=9",
        "takes images of 8x8",
    ),
    ("train nested/test --recipe=photos --test_examples=9", "--test_examples is for"),
    ("train nested/test --recipe=photos --data_dir=x", "--data_dir is for a data set"),
    ("evaluate my.keras no.npz --epsilon=0.1", "There is no file 'no.npz'"),
    ("evaluate my.keras cut.npz --epsilon=0.1", "cut.npz cannot be read"),
    ("evaluate my.keras other.npz --epsilon=0.1", "must hold images and labels by"),
    ("evaluate my.keras short.npz --epsilon=0.1", "as many labels. Received: arrays"),
    ("evaluate my.keras wide.npz --epsilon=0.1", "from 7 to 7: say their range"),
    ("evaluate my.keras wide.npz --epsilon=0.1 --pixels=7", "two rising numbers"),
    ("evaluate my.keras no_module:f --epsilon=0.1", "'no_module' cannot be imported"),
    ("evaluate my.keras their_data:f --epsilon=0.1", "has no function 'f'"),
    ("evaluate my.keras their_data:wrong --epsilon=0.1", "Received: int"),
    ("evaluate my.keras digits --epsilon=0.1 --split=tset", "Argument `split` must be"),
    ("evaluate my.keras digits --epsilon=0.1 --attacks=pgd21", "--attacks must be of"),
    ("evaluate my.keras digits --epsilon=0.1 --output=a.txt", "end with .html"),
    ("evaluate my.keras digits --epsilon=0.1 --value_range=255,0", "two rising"),
    ("evaluate scaled.keras digits --epsilon=0.1 --value_range=0,1", "--value_range: "),
    ("evaluate carded.keras digits", "carded.card.json, the card of carded.keras, can"),
    ("evaluate told.keras digits", "told.card.json, the card of told.keras, cannot be"),
    ("evaluate odd.keras digits", "it says ['e']; expected some of ['epsilon', 'norm'"),
    ("train", "--recipe=NAME is needed"),
    ("train --recipe=digits_fre8", "Did you mean digits_free8"),
    ("train --recipe=digits_free8 --set=epoch=3", "a recipe has no such setting"),
    ("train --recipe=digits_free8 --set=epochs", "--set takes KEY=VALUE"),
    ("train --recipe=digits_free8 --set=epochs=-1", "Argument `epochs`"),
    ("train --recipe=photos", "has no data of its own: name some"),
    ("train nothing --recipe=photos", "has no subfolder with images"),
    ("train nested/test --recipe=photos --weights=no.keras", "no model 'no.keras'"),
    ("compare", "takes TRAIN [TEST]. Received: none"),
    ("compare nested/test", "TEST is needed: images that are not among those of"),
    ("compare their_data:wrong", "TEST is needed: images that are not among those of"),
    ("compare digits --minutes=none", "--minutes must be a number above 0"),
    ("compare digits --methods=fre --recipe=digits_free8", "Argument `methods` must"),
    ("compare digits --recipe=digits_fre8", "Did you mean digits_free8"),
    ("compare digits --recipe=digits_free8 --norm=l2", "--norm=l2 needs an epsilon"),
    ("compare nested/test one", "one subfolder, 'cat', and a classifier"),
    ("compare nested/test eleven", "eleven has other classes than the model"),
    ("export my.keras", "takes MODEL OUTPUT. Received: my.keras"),
    ("export no.keras served/x", "There is no model 'no.keras'"),
    ("export my.keras my.tflite --version=3", "--version: a .tflite file"),
    ("export my.keras served/x --report=no.json", "no.json cannot be read"),
    ("probe digits", "takes NAME MODEL [DATA]. Received: digits"),
    ("recipes digits_fre", "Did you mean digits_free8"),
]


@pytest.mark.parametrize(("words", "said"), MISTAKES)
def test_a_mistake_is_told_in_a_sentence(words, said, folder, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", [*sys.path])
    before = sorted(path.name for path in folder.iterdir())
    error = fails(*words.split())
    assert said in error
    after = {path.name for path in folder.iterdir()} - {"__pycache__"}
    assert after <= {*before, "__pycache__"}, "something was written"


def test_a_wrong_flag_comes_with_its_usage():
    error = fails("evaluate", "my.keras", "--examples=many")
    assert "--examples=N\n      Images to attack" in error
    assert error.endswith("More: keras-free-adv evaluate --help\n")


def test_an_error_of_the_libraries_is_a_sentence_unless_it_is_asked_for(monkeypatch):
    from keras_free_adv.command_line import recipes

    def broken(*_):
        raise RuntimeError("out of memory\nat a long list of places")

    monkeypatch.setattr(recipes, "run", broken)
    error = fails("recipes")
    assert error.startswith("Error: RuntimeError: out of memory\nThe same command")
    with pytest.raises(RuntimeError, match="places"):
        ended("recipes", "--debug")


def test_ctrl_c_says_how_to_go_on(monkeypatch):
    from keras_free_adv.command_line import train

    def stopped(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(train, "run", stopped)
    status, _, error = ended("train", "--recipe=digits_free4")
    assert status == 130
    assert "The same command goes on after the last epoch" in error
