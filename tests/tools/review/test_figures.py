"""The learning curves of a review show both models, whatever the other one does."""

from tools.repository.snapshots import Snapshot
from tools.review import figures
from tools.review.results import ModelResults


def model(*losses: float) -> ModelResults:
    history = {"epoch": [float(epoch) for epoch in range(len(losses))], "val_loss": list(losses)}
    return ModelResults(Snapshot("a", None), {}, {}, {}, {}, history, [])


def test_a_loss_in_the_ten_thousands_does_not_flatten_the_other_curve() -> None:
    (chart,) = figures.charts(model(2.3, 0.3), model(2.3, 54306.1))
    # Ten times the highest loss of the better curve.
    assert chart.title == "Validation loss (nats), truncated above 23"
    assert (chart.before, chart.after) == ([2.3, 0.3], [2.3, 23.0])
    assert chart.ends == (0.3, 23.0)
    # On 150 pixels: 0.3 at the bottom, 23 at the top, 2.3 at 150 * (1 - 2 / 22.7).
    assert chart.path(chart.after, 290, 150) == "0.0,136.8 290.0,0.0"


def test_other_curves_are_shown_as_they_are() -> None:
    (chart,) = figures.charts(model(2.3, 0.3), model(2.3, 22.9))
    assert (chart.title, chart.after) == ("Validation loss (nats)", [2.3, 22.9])
    (alone,) = figures.charts(ModelResults(Snapshot("a", None), {}, {}, {}, {}, {}, []), model(9e9))
    assert alone.after == [9e9]
