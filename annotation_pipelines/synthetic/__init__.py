"""From what was generated to checked synthetic records: rules, near-duplicates, a judge, a round trip, diversity."""
