"""Does language matter? Equal trainings that differ in their terms or in their words."""
