"""What each visit may take: rows of the tables, then what earlier steps have left. Integers; entry: `Accountant`."""
