"""Expert Threshold's claims, held to mixtures trained here: statements with controls, intervals over seeds and documents."""
