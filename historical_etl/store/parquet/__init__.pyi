from .month_blocks import Block as Block
from .month_blocks import WriteReport as WriteReport
from .month_blocks import encode_block as encode_block
from .month_blocks import read_blocks as read_blocks
from .month_blocks import write_year as write_year
from .stored_stretch import StoredStretch as StoredStretch
