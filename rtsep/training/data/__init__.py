"""The sound that nets are trained on: where it comes from, and the mixtures that are made of it while they learn."""
