"""A model of your own: which values are far from those around them?"""

import numpy as np

import trackside as ts

WINDOW = 30


@ts.model(field="value", history=WINDOW)
def spikes(values: np.ndarray) -> np.ndarray:
    """Look at one series, its last 30 values and the new ones; true for each value that is unusual.

    The answers for the old values are left out. Each value is compared with the 29 before it, so that an answer does
    not depend on how many new ones came at once.
    """
    unusual = np.zeros(len(values), dtype=bool)
    if len(values) >= WINDOW:
        windows = np.lib.stride_tricks.sliding_window_view(values, WINDOW)
        middle = np.median(windows, axis=1)
        spread = np.median(np.abs(windows - middle[:, None]), axis=1)
        unusual[WINDOW - 1 :] = np.abs(values[WINDOW - 1 :] - middle) > 8 * np.maximum(spread, 1e-9)
    return unusual
