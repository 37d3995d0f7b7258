"""What every other room stands on: errors, text for people, files, strict JSON, settings, statistics, threads."""
