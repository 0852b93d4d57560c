"""The assets: `daily_prices`, one partition a year, and `price_catalog` downstream of it."""
