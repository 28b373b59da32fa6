import io

import numpy as np
from IPython.core.formatters import DisplayFormatter
from PIL import Image

from keras_free_adv.plotting.style import new_figure


def test_a_notebook_shows_a_figure_without_pyplot():
    figure = new_figure(4, 3)
    figure.add_subplot().plot([0, 1])
    data, _ = DisplayFormatter().format(figure)
    picture = Image.open(io.BytesIO(data["image/png"]))
    assert picture.size == (400, 300)
    assert np.asarray(picture).std() > 0
