from .comparison import MEASURES as MEASURES
from .comparison import Comparison as Comparison
from .comparison import compare as compare
from .plot import draw as draw
from .plot import require_matplotlib as require_matplotlib
