"""How parameters move, how far, and what brings them back: the optimizer, its books, its budgets, verification."""
