"""Progress: the one mechanism behind every bar, in a terminal and in a log file."""

from fluxlight.progress.bar import INTERVAL as INTERVAL
from fluxlight.progress.bar import Bar as Bar
from fluxlight.progress.bar import clock as clock
from fluxlight.progress.bar import moving as moving
from fluxlight.progress.bar import note as note
from fluxlight.progress.bar import track as track
from fluxlight.progress.bar import within as within
