"""What runs are made for: nights."""

import dagster as dg

from zhiyun.settings import BackupSettings, load

# Without the offset "tonight" would not exist before it is over.
nights = dg.DailyPartitionsDefinition(start_date="2026-01-01", timezone=load(BackupSettings).timezone, end_offset=1)
