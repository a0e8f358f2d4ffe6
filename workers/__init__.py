"""The actors of a run and the native core they drive."""

from workers import _locate as _locate
