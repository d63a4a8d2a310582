"""Studies: teacher, plain student and every distillation term over seeds, at equal budget, with a table."""
