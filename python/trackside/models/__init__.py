"""Models that come with Trackside: `Anomaly` and `Forecast`, for any number of series, learning as they go.

The work is done by the Rust library over whole columns; these classes only join it to the model API, so they run, save
and restart like any model of yours.
"""

from trackside.models.anomaly import Anomaly
from trackside.models.forecast import Forecast

__all__ = ["Anomaly", "Forecast"]
