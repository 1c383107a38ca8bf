"""What is simulated. Written, with the thresholds of the detector, before the seeds of the evaluation were drawn.

Nothing here was taken from a real service: the daily season, the traffic, the steps and the deploys are synthetic. The
noise is drawn from `traces/`. A *way* is the distance from the usual value of a signal to its limit, in logarithms.
"""

from __future__ import annotations

from typing import Final

TRAFFIC: Final = (1.0, 1000.0)
"""Requests a minute in the middle of a day, uniform in logarithms."""
TRAFFIC_SWING: Final = (0.2, 0.8)
"""By which part traffic is below and above that in the night and by day."""
WEEKEND: Final = 0.6
"""Traffic at a weekend, as a part of that of a working day."""
LIMIT: Final = (2.0, 12.0)
"""The limit, in usual values, uniform in logarithms."""
LIMIT_ABOVE_NOISE: Final = 6.0
"""Least distance of the limit from the usual value, in standard deviations of the noise of five minutes: nobody sets a
limit that noise alone passes every day."""
SEASON: Final = (0.0, 0.4)
"""By how many ways the value is higher by day than in the night."""
SEASON_VARIES: Final = 0.15
"""Standard deviation of that part from day to day, in parts of it."""
WANDER: Final = 0.05
"""Standard deviation, in ways, of a slow change without reason that is forgotten in six hours."""
STEPS: Final = 0.5
"""Changes of level a week. Each lasts until the next."""
STEP: Final = (-0.3, 0.5)
"""Their size in ways."""
LEVELS: Final = (-0.3, 0.6)
"""Between these ways the level stays without ramps, season included, but for deploys, bursts and noise."""
DEPLOYS: Final = 3.0
"""Deploys a week: the value is high for some minutes, and no response comes for one or two."""
DEPLOY_MINUTES: Final = (2, 10)
DEPLOY_HEIGHT: Final = (0.2, 1.2)
"""How many ways the value is higher meanwhile. Some are above the limit for these minutes."""
BURSTS: Final = 2.0
"""Hours a week in which traffic is three times as high and the value 0.1 to 0.4 ways higher."""
BURST_HEIGHT: Final = (0.1, 0.4)
GAPS: Final = 0.5
"""Times a week in which nothing is measured for 5 to 60 minutes."""

RAMP_HOURS: Final = (0.5, 2.0, 8.0, 20.0)
"""From the usual value to the limit. The ramp ends when it has lasted for 1.1 times as long."""
SHAPES: Final = ("linear", "exponential", "queue")
RHO: Final = 0.3
"""Load of the queue at the beginning of a ramp; its value is in proportion to 1 / (1 - load)."""
RAMPS: Final = 60
"""Ramps of each length and shape."""
WEEKS: Final = 240
"""Service-weeks without ramps, each after a week that is not counted."""
AHEAD: Final = 10
"""Minutes before the limit by which a warning is in time."""
BAR_CAUGHT: Final = 0.9
BAR_FALSE: Final = 0.5
BAR_HOURS: Final = 2.0
"""The bar: this part of the ramps of at least so many hours, at most so many false warnings a service-week."""
