"""The tables of the paper, typed again here, against the recipes."""

import json

import pytest

from keras_free_adv import recipes

PUBLISHED = {  # natural and PGD-100 (of the natural CIFAR-10 model too), minutes
    "cifar10_wrn32_10_natural": (95.01, 0.00, 780),
    "cifar10_wrn32_10_free2": (91.45, 33.20, 816),
    "cifar10_wrn32_10_free4": (87.83, 40.35, 800),
    "cifar10_wrn32_10_free8": (85.96, 46.19, 785),
    "cifar10_wrn32_10_free10": (83.94, 45.79, 785),
    "cifar10_wrn32_10_pgd7": (87.25, 45.29, 5418),
    "cifar100_wrn32_10_natural": (78.84, 0.00, 811),
    "cifar100_wrn32_10_free4": (65.28, 20.15, 767),
    "cifar100_wrn32_10_free6": (64.87, 23.18, 791),
    "cifar100_wrn32_10_free8": (62.13, 25.58, 780),
    "cifar100_wrn32_10_free10": (59.27, 24.88, 776),
    "cifar100_wrn32_10_pgd7": (59.87, 22.52, 5157),
    "imagenet_resnet50_free4": (60.206, 31.816, 3016),
    "imagenet_resnet101_free4": (63.340, 34.328, 5122),
    "imagenet_resnet152_free4": (64.446, 35.994, 7526),
    "imagenet_resnet50_pgd2": (64.134, 36.316, 10435),
}


def test_every_row_of_the_three_tables_is_there_with_its_figures():
    in_tables = [
        r for t in ("cifar10", "cifar100", "imagenet") for r in recipes.table(t)
    ]
    assert [r.name for r in in_tables] == list(PUBLISHED)
    for recipe in in_tables:
        natural, pgd100, minutes = PUBLISHED[recipe.name]
        assert recipe.published["natural"] == natural
        assert recipe.published["pgd100"] == pgd100
        assert recipe.published_minutes == minutes


@pytest.mark.parametrize("name", [n for n in PUBLISHED if n.startswith("cifar")])
def test_cifar_recipes_have_the_authors_settings(name):
    recipe = recipes.get(name)
    assert recipe.dataset == name.split("_")[0]
    assert recipe.model == "wide_resnet"
    assert recipe.model_arguments == {"depth": 32, "width": 10}
    assert recipe.epsilon == pytest.approx(8 / 255)
    assert (recipe.batch_size, recipe.momentum) == (128, 0.9)
    assert (recipe.updates, recipe.drops) == (80_000, (40_000, 60_000))
    assert (recipe.learning_rate, recipe.weight_decay) == (0.1, 2e-4)
    assert recipe.decayed == "kernels"
    assert recipe.augment == "standard_pad2"
    if "free" in name:
        assert recipe.method_arguments == {"replays": int(name.split("free")[1])}
    if "pgd7" in name:
        assert recipe.method_arguments["steps"] == 7
        assert recipe.method_arguments["step_size"] == pytest.approx(2 / 255)


def test_imagenet_recipes_have_the_authors_settings():
    free = recipes.get("imagenet_resnet50_free4")
    minibatches = 5005  # 1,281,167 images in minibatches of 256
    assert free.updates == 23 * 4 * minibatches  # ceil(90 / 4) passes
    assert free.drops == (8 * 4 * minibatches, 16 * 4 * minibatches)  # ceil(30 / 4)
    assert free.epsilon == pytest.approx(4 / 255)
    assert (free.batch_size, free.weight_decay, free.decayed) == (256, 1e-4, "all")
    assert free.model == "keras.applications.ResNet50"
    pgd = recipes.get("imagenet_resnet50_pgd2")
    assert pgd.method_arguments["steps"] == 2
    assert pgd.drops == (30 * minibatches, 60 * minibatches)


def test_trades_drops_at_its_75th_epoch():
    recipe = recipes.get("cifar10_wrn32_10_trades")
    assert recipe.epochs == 76
    assert recipe.drops == (74 * recipe.steps_per_epoch,)


def test_the_fast_schedule_is_that_of_wong_et_al():
    recipe = recipes.get("cifar10_preactresnet18_free8")
    assert recipe.updates == 10 * 8 * 391
    assert (recipe.schedule, recipe.learning_rate) == ("cyclic", 0.04)
    assert (recipe.weight_decay, recipe.decayed) == (5e-4, "all")
    assert recipe.published == {"natural": 78.38, "pgd50x10": 46.18}


def test_each_cifar_row_has_a_small_version_and_later_baselines():
    for dataset in ("cifar10", "cifar100"):
        small = {
            r.name.replace("small", "wrn32_10")
            for r in recipes.table(f"{dataset}_small")
        }
        assert {r.name for r in recipes.table(dataset)} < small
        assert {f"{dataset}_wrn32_10_fgsm_rs", f"{dataset}_wrn32_10_trades"} < small
    one_step = recipes.get("cifar10_small_fgsm_rs")
    assert (one_step.method, one_step.method_arguments["steps"]) == ("pgd", 1)
    # 1.25 epsilon, as Wong et al.
    assert one_step.method_arguments["step_size"] == pytest.approx(1.25 * 8 / 255)


@pytest.mark.parametrize("name", recipes.names())
def test_a_recipe_is_plain_data(name):
    recipe = recipes.get(name)
    assert recipe.name == name
    again = recipes.from_dict(json.loads(json.dumps(recipe.to_dict())))
    assert again == recipe


def test_an_unknown_name_is_refused_with_those_near():
    with pytest.raises(ValueError, match="'cifar10_free8'.*cifar10_.*free8"):
        recipes.get("cifar10_free8")


def test_replaced_changes_what_it_is_told_and_forgets_what_was_published():
    recipe = recipes.get("cifar10_small_free8")
    mine = recipe.replaced(replays=4, width=8, epochs=3, dataset="cifar100")
    assert mine.method_arguments == {"replays": 4}
    assert mine.model_arguments == {"width": 8}
    assert (mine.epochs, mine.dataset) == (3, "cifar100")
    assert mine.published == {}
    assert recipe.method_arguments == {"replays": 8}
    assert recipe.replaced() is recipe
    natural = recipe.replaced(method="natural")
    assert natural.method_arguments == {}


def test_a_schedule_keeps_its_proportions_and_a_step_its_share_of_epsilon():
    recipe = recipes.get("cifar10_wrn32_10_pgd7")
    half = recipe.replaced(epochs=100, epsilon=4 / 255)
    assert half.drops == (20_000, 30_000)  # of 40,000, as 40 and 60 of 80
    assert half.method_arguments["step_size"] == pytest.approx(1 / 255)
    mine = recipe.replaced(epochs=100, drops=[7], epsilon=4 / 255, step_size=0.1)
    assert mine.drops == (7,)
    assert mine.method_arguments["step_size"] == 0.1
    assert recipe.replaced(schedule="cosine").drops == ()


def test_arguments_of_a_new_model_are_kept():
    recipe = recipes.get("imagenet_resnet50_free4")
    mine = recipe.replaced(
        model="keras.applications.MobileNetV3Small",
        model_arguments={"include_preprocessing": False},
    )
    assert mine.model_arguments == {"include_preprocessing": False}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"replay": 4}, "`replay`.*no such setting.*replays"),
        ({"beta": 4}, "`beta`.*no such setting"),
        ({"method": "fgsm"}, "`method`.*natural.*'fgsm'"),
        ({"model": "resnet"}, "`model`.*wide_resnet.*'resnet'"),
        ({"epochs": 0}, "`epochs`"),
        ({"epsilon": -1}, "`epsilon`"),
        ({"schedule": "linear"}, "`schedule`"),
        ({"schedule": "piecewise"}, "`drops`.*piecewise"),
        ({"schedule": "piecewise", "drops": 40}, "`drops`.*40"),
        ({"schedule": "piecewise", "drops": [20_000]}, "`drops`.*6000"),
        ({"augment": "standart"}, "`augment`.*standard"),
        ({"label_smoothing": "x"}, "`label_smoothing`"),
        ({"momentum": 1.0}, "`momentum`"),
        ({"ema_momentum": -1}, "`ema_momentum`"),
        ({"weight_decay": -1}, "`weight_decay`"),
        ({"rise": 2}, "`rise`"),
        ({"epsilon_warmup_steps": 0.5}, "`epsilon_warmup_steps`"),
        ({"attacks": "mnist"}, "`attacks`"),
        ({"replays": 0}, "`replays`"),
        ({"width": 1.5}, "`width`"),
        (
            {"method": "pgd", "method_arguments": {"stpes": 3}},
            "takes random_.*, steps.*'stpes'",
        ),
        ({"epochs": "many"}, "`epochs`"),
    ],
)
def test_a_wrong_change_is_refused(changes, message):
    with pytest.raises((TypeError, ValueError), match=message):
        recipes.get("cifar10_small_free8").replaced(**changes)
