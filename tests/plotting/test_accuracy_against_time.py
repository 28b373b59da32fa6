import pytest

pytest.importorskip("matplotlib", reason="needs matplotlib, of the extra `plot`")

from keras_free_adv.plotting import plot_accuracy_against_time, plot_published_cost


def test_curves_are_drawn_in_minutes_and_told_apart_without_color(tmp_path):
    figure = plot_accuracy_against_time(
        {"Free": ([60, 120], [0.2, 0.3]), "7-PGD": ([60, 300], [0.1, 0.35])},
        ylabel="PGD-20 accuracy",
    )
    (axis,) = figure.axes
    free, pgd = axis.lines
    assert free.get_xydata().tolist() == [[1, 0.2], [2, 0.3]]
    assert pgd.get_xydata().tolist() == [[1, 0.1], [5, 0.35]]
    assert free.get_linestyle() != pgd.get_linestyle()
    assert free.get_marker() != pgd.get_marker()
    assert "minutes" in axis.get_xlabel()
    assert axis.get_ylabel() == "PGD-20 accuracy"
    assert [text.get_text() for text in axis.get_legend().get_texts()] == [
        "Free",
        "7-PGD",
    ]
    figure.savefig(tmp_path / "curves.png")


@pytest.mark.parametrize("curves", [{}, {"a": ([], [])}, {"a": ([1, 2], [0.1])}])
def test_what_cannot_be_drawn_is_refused(curves):
    with pytest.raises(ValueError, match="`curves`"):
        plot_accuracy_against_time(curves)


def test_the_imagenet_models_stand_where_the_paper_has_them(tmp_path):
    figure = plot_published_cost()
    (axis,) = figure.axes
    points = {tuple(line.get_xydata()[0]) for line in axis.lines}
    assert points == {
        (3016, 31.816),
        (5122, 34.328),
        (7526, 35.994),
        (10435, 36.316),
    }
    assert "published" in axis.get_xlabel()
    assert "published" in axis.get_ylabel()
    named = {line.get_label(): tuple(line.get_xydata()[0]) for line in axis.lines}
    assert named["ResNet-152, Free m=4"] == (7526, 35.994)
    assert named["ResNet-50, 2-PGD"] == (10435, 36.316)
    # Told apart in black and white.
    assert len({line.get_marker() for line in axis.lines}) == 4
    figure.savefig(tmp_path / "cost.png")


def test_an_unknown_column_is_refused():
    with pytest.raises(ValueError, match="`attack`.*'cw7'"):
        plot_published_cost("cifar10", "cw7")
