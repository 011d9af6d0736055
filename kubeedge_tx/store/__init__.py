"""SQLite behind adbapi."""
