"""Explore: a slider over prepared pictures, which needs no kernel, and a live panel that computes what is asked."""

from mrl_lab.explore.listed import listed
from mrl_lab.explore.live import Live, live
from mrl_lab.explore.slides import MOST, Axis, Slider, slider

__all__ = ["MOST", "Axis", "Live", "Slider", "listed", "live", "slider"]
